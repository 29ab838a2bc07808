//! Heads of answers: never panic; what was read, written again and read again, is the same.

use bandstand_wire::ResponseHead;

pub(crate) fn check(payload: &[u8]) {
    let Ok((head, fields, body)) = ResponseHead::decode(payload) else { return };
    assert!(body.len() <= payload.len());
    assert_eq!(fields.iter().count(), fields.len());
    let mut again = Vec::new();
    head.encode(fields.iter(), &mut again);
    again.extend_from_slice(body);
    let (head_again, fields_again, body_again) =
        ResponseHead::decode(&again).expect("it was written by encode");
    assert_eq!((head_again, body_again), (head, body));
    assert!(fields_again.iter().eq(fields.iter()));
}
