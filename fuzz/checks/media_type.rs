//! Media types of paths: always one that may stand in a field, the same in capitals, decided by the last name alone.

use bandstand_semantics::media_type::{is_active, of_extension, of_path};

pub(crate) fn check(data: &[u8]) {
    let media_type = of_path(data);
    assert!(media_type.contains('/') && media_type.bytes().all(|byte| (0x20..0x7f).contains(&byte)));
    assert_eq!(of_path(&data.to_ascii_uppercase()), media_type);
    assert_eq!(of_path(&[b"/some.html/folder.js/", data].concat()), media_type);
    assert_eq!(is_active(media_type), is_active(&format!("{}; charset=x", media_type.to_ascii_uppercase())));
    if !data.contains(&b'/') && !data.contains(&b'.') {
        let by_name = of_path(&[b"x.", data].concat());
        assert_eq!(of_extension(data).unwrap_or(by_name), by_name);
    }
    if let Ok(text) = std::str::from_utf8(data) {
        let _ = is_active(text);
    }
}
