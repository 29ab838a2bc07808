//! The frame decoder: never panics, and finds the same frames wherever its input is cut.
//!
//! The first byte says how long the pieces are; the rest is what a broken peer sends.

use bandstand_wire::{Decoder, Header, WireError, limits};

pub(crate) fn check(data: &[u8]) {
    let Some((&step, bytes)) = data.split_first() else { return };
    let whole = frames(bytes, bytes.len().max(1));
    let pieces = frames(bytes, usize::from(step) + 1);
    assert_eq!(whole, pieces);
}

type Seen = (Vec<(Header, Vec<u8>)>, Result<bool, WireError>);

/// The frames, then the error that ended the channel, or whether a part of a frame is left.
fn frames(bytes: &[u8], step: usize) -> Seen {
    let mut decoder = Decoder::default();
    let mut seen = Vec::new();
    for mut piece in bytes.chunks(step) {
        while !piece.is_empty() {
            let space = decoder.space();
            let taken = space.len().min(piece.len());
            assert!(taken > 0, "there is always room to read into");
            space[..taken].copy_from_slice(&piece[..taken]);
            decoder.advance(taken);
            piece = &piece[taken..];
            loop {
                match decoder.next() {
                    Ok(Some(frame)) => {
                        assert!(frame.payload.len() <= limits::FRAME_MAX);
                        let _ = frame.number();
                        seen.push((frame.header, frame.payload.to_vec()));
                    }
                    Ok(None) => break,
                    Err(error) => return (seen, Err(error)),
                }
            }
        }
    }
    let partial = decoder.is_partial();
    (seen, Ok(partial))
}
