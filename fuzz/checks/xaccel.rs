//! Names of files that an application gives: whatever it writes, what comes out is below the folder it names.
//!
//! The input is the value of the field. A slow reference walks the path as a file system would.

use bandstand_semantics::sendfile::{NameError, absolute, below};

const PREFIXES: [&str; 3] = ["/protected/invoices/", "/protected/", "/x/"];

pub(crate) fn check(value: &[u8]) {
    match below(value, PREFIXES) {
        Ok((at, relative)) => {
            plain(&relative);
            let whole = [PREFIXES[at].as_bytes(), &relative].concat();
            assert!(PREFIXES[..at].iter().all(|prefix| !whole.starts_with(prefix.as_bytes())), "the longest");
            // Written the long way it is the same name, and a query changes nothing.
            let written: Vec<u8> =
                whole.iter().flat_map(|byte| format!("%{byte:02X}").into_bytes()).collect();
            assert_eq!(below(&written, PREFIXES), Ok((at, relative.clone())));
            assert_eq!(below(&[&written[..], b"?/../x"].concat(), PREFIXES), Ok((at, relative)));
            assert_eq!(absolute(&written).as_deref(), Ok(&whole[..]));
        }
        Err(error) => assert_ne!(error, NameError::Relative),
    }
    match absolute(value) {
        Ok(path) => {
            plain(path.strip_prefix(b"/").expect("it is absolute"));
            assert!(path.len() <= value.len());
        }
        Err(error) => assert_ne!(error, NameError::Outside),
    }
}

/// Each step goes one level down, and the text can be handed to the system and to a log.
fn plain(relative: &[u8]) {
    assert!(std::str::from_utf8(relative).is_ok());
    assert!(!relative.is_empty() && !relative.contains(&0));
    let mut depth = 0;
    for name in std::path::Path::new(std::str::from_utf8(relative).expect("looked at above")).components() {
        assert!(matches!(name, std::path::Component::Normal(_)), "{name:?}");
        depth += 1;
    }
    assert_eq!(depth, relative.iter().filter(|byte| **byte == b'/').count() + 1);
}
