//! Targets and paths: slices of what was sent, and a decoding that a slow reference and an encoder agree with.
//!
//! The first byte picks the method; the rest is the target, and a path too.

use std::borrow::Cow;

use bandstand_semantics::path::{EncodedSlash, PathError, Target, decode_path, decode_path_as, parse_target};

pub(crate) fn check(data: &[u8]) {
    let Some((&choice, target)) = data.split_first() else { return };
    let method: &[u8] = [&b"GET"[..], b"OPTIONS", b"CONNECT", b"POST"][usize::from(choice) % 4];
    match parse_target(method, target) {
        Ok(Target::Resource(resource)) => {
            assert!(resource.raw_path.starts_with(b"/"));
            assert!(!resource.raw_path.contains(&b'?') && !resource.raw_path.contains(&b'#'));
            assert!(resource.authority.is_none_or(|authority| !authority.is_empty()));
            assert_eq!(resource.authority.is_some(), resource.scheme.is_some());
            assert!(resource.raw_path.len() + resource.query.len() <= target.len() + 1);
            decoded(resource.raw_path);
        }
        Ok(Target::Asterisk) => assert!(method == b"OPTIONS" && target == b"*"),
        Ok(Target::Authority(authority)) => assert!(method == b"CONNECT" && authority == target),
        Err(_) => {}
    }
    decoded(target);
}

fn decoded(raw: &[u8]) {
    let plain = decode_path_as(raw, EncodedSlash::Decoded);
    let Ok(bytes) = &plain else {
        assert!(decode_path(raw).is_err(), "a kept slash saves nothing");
        return;
    };
    assert_eq!(Some(&bytes[..]), slowly(raw).as_deref());
    assert!(bytes.len() <= raw.len() && !bytes.contains(&0));
    let encoded: Vec<u8> = bytes.iter().flat_map(|byte| format!("%{byte:02x}").into_bytes()).collect();
    assert_eq!(decode_path_as(&encoded, EncodedSlash::Decoded), plain, "what is encoded is decoded again");
    match decode_path(raw) {
        Ok(kept) => {
            assert!(
                kept.iter().filter(|byte| **byte == b'/').count()
                    == raw.iter().filter(|byte| **byte == b'/').count()
            );
            assert!(matches!(kept, Cow::Owned(_)) == raw.contains(&b'%'));
        }
        Err(error) => assert_eq!(error, PathError::Overlong),
    }
}

/// One byte after the other, without a thought for speed.
fn slowly(raw: &[u8]) -> Option<Vec<u8>> {
    let mut bytes = raw.iter().copied();
    let mut decoded = Vec::new();
    while let Some(byte) = bytes.next() {
        decoded.push(match byte {
            b'%' => {
                let digits = [bytes.next()?, bytes.next()?];
                let text = std::str::from_utf8(&digits).ok()?;
                if text.starts_with('+') { return None } else { u8::from_str_radix(text, 16).ok()? }
            }
            byte => byte,
        });
    }
    Some(decoded)
}
