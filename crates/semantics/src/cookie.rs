//! The crumbs of a cookie, put together again.
//!
//! Owns the one rule HTTP/2 and HTTP/3 have of their own for a field: a client may send `cookie` in pieces, because pieces compress
//! better, and who hands the request on to something that knows no HTTP/2 joins them. What is in a cookie is the application's
//! business. Invariant: afterwards there is at most one such field, longer than the crumbs by at most two bytes a crumb.
//! Source: RFC 9113 section 8.2.3, RFC 9114 section 4.2.1, RFC 6265 section 5.4 (one field of HTTP/1.1).

use crate::fields::Fields;

/// Joins the `cookie` fields with `; `, in the place of the first one. Empty crumbs are left out where there are others; a single
/// field stays as it is.
pub fn join(fields: &mut Fields) {
    let crumbs = fields.all(NAME);
    if crumbs.clone().nth(1).is_none() {
        return;
    }
    let bytes: usize = crumbs.clone().map(|crumb| crumb.len() + 2).sum();
    let mut whole = Vec::with_capacity(bytes);
    for crumb in crumbs.filter(|crumb| !crumb.is_empty()) {
        if !whole.is_empty() {
            whole.extend_from_slice(b"; ");
        }
        whole.extend_from_slice(crumb);
    }
    fields.set(NAME, &whole);
}

const NAME: &str = "cookie";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn crumbs_become_one_field_in_the_first_place() {
        for (before, after) in [
            (&[("a", "1")][..], &[("a", "1")][..]),
            (&[("cookie", "x=1")], &[("cookie", "x=1")]),
            (&[("cookie", "")], &[("cookie", "")]),
            (
                &[
                    ("a", "1"),
                    ("cookie", "x=1"),
                    ("b", "2"),
                    ("cookie", "y=2"),
                    ("cookie", "z=3; q"),
                    ("c", "3"),
                ],
                &[("a", "1"), ("cookie", "x=1; y=2; z=3; q"), ("b", "2"), ("c", "3")],
            ),
            (&[("Cookie", "x=1"), ("COOKIE", "y=2")], &[("cookie", "x=1; y=2")]),
            (&[("cookie", ""), ("cookie", "y=2"), ("cookie", "")], &[("cookie", "y=2")]),
            (&[("cookie", ""), ("cookie", "")], &[("cookie", "")]),
            // Joined by `;` and a blank, whatever a crumb ends with: nothing is repaired.
            (&[("cookie", "x=1;"), ("cookie", " y")], &[("cookie", "x=1;;  y")]),
        ] {
            let mut fields: Fields = before.iter().copied().collect();
            join(&mut fields);
            let wanted: Fields = after.iter().copied().collect();
            assert_eq!(fields, wanted, "{before:?}");
            join(&mut fields);
            assert_eq!(fields, wanted, "once is enough: {before:?}");
        }
    }
}
