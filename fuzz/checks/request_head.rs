//! Request heads and hellos: never panic; what was read, written again and read again, is the same.

use bandstand_wire::{Hello, RequestHead};

pub(crate) fn check(payload: &[u8]) {
    if let Ok(hello) = Hello::decode(payload) {
        let mut again = Vec::new();
        hello.encode(&mut again);
        assert_eq!(Hello::decode(&again).as_ref(), Ok(&hello));
    }
    let Ok((head, fields, body)) = RequestHead::decode(payload) else { return };
    assert!(body.len() <= payload.len());
    assert_eq!(fields.iter().count(), fields.len());
    let mut again = Vec::new();
    head.encode(fields.iter(), &mut again);
    again.extend_from_slice(body);
    let (head_again, fields_again, body_again) =
        RequestHead::decode(&again).expect("it was written by encode");
    assert_eq!((head_again, body_again), (head, body));
    assert!(fields_again.iter().eq(fields.iter()));
}
