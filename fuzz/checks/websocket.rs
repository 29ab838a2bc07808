//! A client's frames: never panic, never hold more than a piece, and mean the same wherever they are cut.
//!
//! The first byte says how long the pieces of input are, its lowest bit whether compression was negotiated; the rest is
//! what a client sends.

use bandstand_semantics::websocket::message::{Event, Fault, Limits, Reader};

const LIMITS: Limits = Limits { message: 100_000, piece: 1_000 };

pub(crate) fn check(data: &[u8]) {
    let Some((&step, bytes)) = data.split_first() else { return };
    let deflate = step & 1 == 1;
    let whole = said(bytes, bytes.len().max(1), deflate);
    let pieces = said(bytes, usize::from(step) + 1, deflate);
    assert_eq!(whole, pieces);
}

/// Finished messages and control frames by themselves, and the fault that ended it. What was handed on of a message that
/// was never finished depends on the cuts: a piece goes when it is full.
#[derive(Debug, PartialEq, Eq, Default)]
struct Said {
    messages: Vec<(bool, Vec<u8>)>,
    controls: Vec<Event>,
    fault: Option<Fault>,
}

fn said(bytes: &[u8], step: usize, deflate: bool) -> Said {
    let mut reader = Reader::new(LIMITS, deflate);
    let mut said = Said::default();
    let mut message = Vec::new();
    for piece in bytes.chunks(step) {
        let mut piece = piece.to_vec();
        let mut at = 0;
        loop {
            let (used, event) = match reader.read(&mut piece[at..]) {
                Ok(read) => read,
                Err(fault) => {
                    said.fault = Some(fault);
                    return said;
                }
            };
            at += used;
            assert!(at <= piece.len());
            match event {
                None => {
                    assert_eq!(at, piece.len());
                    break;
                }
                Some(Event::Message { text, whole, bytes }) => {
                    assert!(bytes.len() <= LIMITS.piece);
                    message.extend_from_slice(&bytes);
                    assert!(message.len() as u64 <= LIMITS.message);
                    if whole {
                        let message = std::mem::take(&mut message);
                        assert!(!text || std::str::from_utf8(&message).is_ok());
                        said.messages.push((text, message));
                    }
                }
                Some(Event::Close { code, reason }) => {
                    said.controls.push(Event::Close { code, reason });
                    return said;
                }
                Some(control) => said.controls.push(control),
            }
        }
    }
    said
}
