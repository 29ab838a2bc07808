//! Joined crumbs: one field at most, in the place of the first, the other fields untouched, and as a slow reference joins them.
//!
//! Every line is a field; one that begins with `c` is a crumb.

use bandstand_semantics::{Fields, cookie};

pub(crate) fn check(data: &[u8]) {
    let lines: Vec<(&str, &[u8])> = data
        .split(|&byte| byte == b'\n')
        .map(|line| match line.strip_prefix(b"c") {
            Some(crumb) => ("Cookie", crumb),
            None => ("other", line),
        })
        .collect();
    let mut fields: Fields = lines.iter().copied().collect();
    let before = fields.byte_len();
    cookie::join(&mut fields);
    let crumbs: Vec<&[u8]> =
        lines.iter().filter(|(name, _)| *name == "Cookie").map(|(_, value)| *value).collect();
    assert_eq!(fields.all("cookie").count(), crumbs.len().min(1));
    assert!(fields.byte_len() <= before + 2 * crumbs.len());
    let others = |(name, _): &(&[u8], &[u8])| *name == b"other";
    assert!(
        fields
            .iter()
            .filter(others)
            .map(|(_, value)| value)
            .eq(lines.iter().filter(|(name, _)| *name == "other").map(|(_, value)| *value))
    );
    if let Some(whole) = fields.first("cookie") {
        let kept: Vec<&[u8]> = crumbs.iter().copied().filter(|crumb| !crumb.is_empty()).collect();
        assert_eq!(whole, kept.join(&b"; "[..]));
        let place = lines.iter().position(|(name, _)| *name == "Cookie");
        assert_eq!(fields.iter().position(|(name, _)| name.eq_ignore_ascii_case(b"cookie")), place);
    }
    let once = fields.clone();
    cookie::join(&mut fields);
    assert_eq!(fields, once);
}
