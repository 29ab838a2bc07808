//! The chunked decoder: never panics, and gives the same body, end or error wherever its input is cut.
//!
//! The first byte says how long the pieces are; the rest is a body as a client sends it.

use bandstand_semantics::chunked::{ChunkError, ChunkedDecoder, Step};

pub(crate) fn check(data: &[u8]) {
    let Some((&step, bytes)) = data.split_first() else { return };
    let whole = body(bytes, bytes.len().max(1));
    let pieces = body(bytes, usize::from(step) + 1);
    assert_eq!(whole, pieces);
    assert!(whole.0.len() <= bytes.len());
}

/// The data; then how many bytes belonged to the body, `None` when more must come, or the error.
fn body(bytes: &[u8], step: usize) -> (Vec<u8>, Result<Option<usize>, ChunkError>) {
    let mut decoder = ChunkedDecoder::new();
    let mut data = Vec::new();
    let mut before = 0;
    for piece in bytes.chunks(step) {
        let mut at = 0;
        while at < piece.len() {
            match decoder.decode(&piece[at..]) {
                Ok(Step::More) => at = piece.len(),
                Ok(Step::Data(range)) => {
                    assert!(!range.is_empty() && at + range.end <= piece.len());
                    data.extend_from_slice(&piece[at + range.start..at + range.end]);
                    at += range.end;
                }
                Ok(Step::End(used)) => {
                    assert!(decoder.is_done());
                    assert_eq!(decoder.decode(b"next"), Ok(Step::End(0)), "the end stays the end");
                    return (data, Ok(Some(before + at + used)));
                }
                Err(error) => {
                    assert_eq!(decoder.decode(b"0\r\n\r\n"), Err(error), "an error stays that error");
                    return (data, Err(error));
                }
            }
        }
        before += piece.len();
    }
    (data, Ok(None))
}
