//! Which fields an answer has whose body became a file.
//!
//! Owns the choice between what the app says and what the file says, and the meaning of the companions of X-Accel-Redirect.
//! The app is believed about everything but the body it did not send: its length, coding and ranges. Tag and date are the
//! file's unless the app gives its own. Without a word from the app no shared cache may keep the file.
//! Source: nginx `ngx_http_upstream.c` (the fields it keeps), `ngx_http_headers_filter_module` (`expires`).

use std::num::NonZeroU64;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bandstand_semantics::Fields;
use bandstand_semantics::text::parse_digits;

use crate::assets::Said;
use crate::exchange::Answer;

/// The MD5 of nothing, as `ConditionalGetMiddleware` tags the empty body that the app sends beside the name of a file: all
/// files would have that tag.
const TAG_OF_NOTHING: &[u8] = b"d41d8cd98f00b204e9800998ecf8427e";
/// Digits of the tags that it makes. Beside a body that is not sent such a tag is that body's.
const DIGITS_OF_MD5: usize = 32;

/// The longest time to keep something that is worth saying (RFC 9111 §1.2.2), in seconds.
const LONGEST_SECONDS: u64 = 1 << 31;

/// Fields of the app's answer that tell of the body it did not send, or that `Said` has carried over already.
const OF_THE_BODY: [&str; 8] = [
    "content-length",
    "content-encoding",
    "content-range",
    "accept-ranges",
    "transfer-encoding",
    "content-type",
    "etag",
    "last-modified",
];

/// Of those that stay, the ones that describe content; a 304, 412 or 416 has none.
const OF_THE_CONTENT: [&str; 3] = ["content-disposition", "content-language", "content-security-policy"];

/// What the companions say that hold for any answer.
pub(super) fn companions(answer: &mut Answer) {
    let rate = answer.fields.first("x-accel-limit-rate").and_then(parse_digits);
    answer.limit_rate = rate.and_then(NonZeroU64::new);
    answer.unbuffered =
        answer.fields.first("x-accel-buffering").is_some_and(|word| word.eq_ignore_ascii_case(b"no"));
    let Some(charset) = charset(&answer.fields) else { return };
    if let Some(kind) = answer.fields.first("content-type").filter(|kind| takes_charset(kind)) {
        let kind = [kind, b"; charset=", &charset].concat();
        answer.fields.set("Content-Type", &kind);
    }
}

/// What the app says about the file itself.
pub(super) fn said(answer: &Answer) -> Said {
    let word = |name: &str| answer.fields.first(name).filter(|value| !value.is_empty()).map(<[u8]>::to_vec);
    Said {
        media_type: word("content-type"),
        charset: charset(&answer.fields),
        etag: word("etag").filter(|etag| is_tag(etag, answer.length != Some(0))),
        modified: word("last-modified"),
    }
}

/// Whether the app means the file by this tag.
fn is_tag(etag: &[u8], has_body: bool) -> bool {
    let quoted = etag.strip_prefix(b"W/").unwrap_or(etag);
    let Some(opaque) = quoted.strip_prefix(b"\"").and_then(|rest| rest.strip_suffix(b"\"")) else {
        return false;
    };
    let is_of_body = opaque.len() == DIGITS_OF_MD5 && opaque.iter().all(u8::is_ascii_hexdigit);
    opaque != TAG_OF_NOTHING && !(has_body && is_of_body)
}

/// The fields of the file's answer and, of the app's, those that hold for it.
pub(super) fn merged(answer: &Answer, of_file: &Fields) -> Fields {
    let has_content = matches!(of_file_status(answer), Content::There);
    let mut fields = Fields::with_capacity(answer.fields.len() + of_file.len() + 2, 512);
    for (name, value) in of_file.iter() {
        fields.push(name, value);
    }
    let is_one_of =
        |names: &[&str], name: &[u8]| names.iter().any(|known| name.eq_ignore_ascii_case(known.as_bytes()));
    for (name, value) in answer.fields.iter() {
        if !is_one_of(&OF_THE_BODY, name) && (has_content || !is_one_of(&OF_THE_CONTENT, name)) {
            fields.push(name, value);
        }
    }
    keep_until(&mut fields, SystemTime::now());
    fields
}

enum Content {
    There,
    Absent,
}

fn of_file_status(answer: &Answer) -> Content {
    match answer.status {
        304 | 412 | 416 => Content::Absent,
        _ => Content::There,
    }
}

/// `X-Accel-Expires`: so many seconds, or until `@` a time in seconds since 1970; 0 is never, `off` says nothing. The app's
/// own `Cache-Control` or `Expires` goes before it.
fn keep_until(fields: &mut Fields, now: SystemTime) {
    if fields.contains("cache-control") || fields.contains("expires") {
        return;
    }
    let now_s = now.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let seconds = fields.first("x-accel-expires").and_then(|value| match value {
        [b'@', time @ ..] => Some(parse_digits(time)?.saturating_sub(now_s)),
        seconds => parse_digits(seconds),
    });
    match seconds.map(|seconds| seconds.min(LONGEST_SECONDS)) {
        None => fields.push(b"Cache-Control", b"private"),
        Some(0) => {
            fields.push(b"Expires", b"Thu, 01 Jan 1970 00:00:01 GMT");
            fields.push(b"Cache-Control", b"no-cache");
        }
        Some(seconds) => {
            let until = httpdate::fmt_http_date(UNIX_EPOCH + Duration::from_secs(now_s + seconds));
            fields.push(b"Expires", until.as_bytes());
            fields.push(b"Cache-Control", format!("private, max-age={seconds}").as_bytes());
        }
    }
}

/// `X-Accel-Charset`, if it is a name; `off` and nothing else are none.
fn charset(fields: &Fields) -> Option<Vec<u8>> {
    let name = fields.first("x-accel-charset")?;
    let is_name = !name.is_empty()
        && !name.eq_ignore_ascii_case(b"off")
        && name.iter().all(|byte| byte.is_ascii_alphanumeric() || b"-_.:+".contains(byte));
    is_name.then(|| name.to_vec())
}

/// Text that does not say its charset.
fn takes_charset(media_type: &[u8]) -> bool {
    let lower = media_type.to_ascii_lowercase();
    let bare = lower.split(|&byte| byte == b';').next().unwrap_or_default().trim_ascii();
    let is_text = bare.starts_with(b"text/")
        || bare.ends_with(b"+xml")
        || matches!(bare, b"application/xml" | b"application/javascript");
    is_text && memchr::memmem::find(&lower, b"charset=").is_none()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(fields: &[(&str, &str)]) -> Answer {
        let mut answer = Answer::new(200);
        answer.fields = fields.iter().copied().collect();
        answer
    }

    #[test]
    fn row_75_companions() {
        for (fields, rate, unbuffered, kind) in [
            (&[("X-Accel-Limit-Rate", "5000")][..], NonZeroU64::new(5000), false, None),
            (&[("X-Accel-Limit-Rate", "0")], None, false, None),
            (&[("X-Accel-Limit-Rate", "off")], None, false, None),
            (&[("X-Accel-Limit-Rate", "-1")], None, false, None),
            (&[("X-Accel-Buffering", "no")], None, true, None),
            (&[("X-Accel-Buffering", "yes")], None, false, None),
            (
                &[("X-Accel-Charset", "koi8-r"), ("Content-Type", "text/plain")],
                None,
                false,
                Some("text/plain; charset=koi8-r"),
            ),
            (
                &[("X-Accel-Charset", "koi8-r"), ("Content-Type", "text/plain; charset=utf-8")],
                None,
                false,
                Some("text/plain; charset=utf-8"),
            ),
            (&[("X-Accel-Charset", "koi8-r"), ("Content-Type", "image/png")], None, false, Some("image/png")),
            (&[("X-Accel-Charset", "a b"), ("Content-Type", "text/plain")], None, false, Some("text/plain")),
            (&[("X-Accel-Charset", "off"), ("Content-Type", "text/plain")], None, false, Some("text/plain")),
        ] {
            let mut answer = answer(fields);
            companions(&mut answer);
            let found = (answer.limit_rate, answer.unbuffered, answer.fields.first("content-type"));
            assert_eq!(found, (rate, unbuffered, kind.map(str::as_bytes)), "{fields:?}");
        }
    }

    #[test]
    fn how_long_it_may_be_kept() {
        let now = UNIX_EPOCH + Duration::from_secs(784_111_777);
        for (fields, control, expires) in [
            (&[][..], "private", None),
            (&[("X-Accel-Expires", "off")], "private", None),
            (&[("X-Accel-Expires", "soon")], "private", None),
            (&[("X-Accel-Expires", "60")], "private, max-age=60", Some("Sun, 06 Nov 1994 08:50:37 GMT")),
            (
                &[("X-Accel-Expires", "@784111787")],
                "private, max-age=10",
                Some("Sun, 06 Nov 1994 08:49:47 GMT"),
            ),
            (&[("X-Accel-Expires", "@5")], "no-cache", Some("Thu, 01 Jan 1970 00:00:01 GMT")),
            (&[("X-Accel-Expires", "0")], "no-cache", Some("Thu, 01 Jan 1970 00:00:01 GMT")),
            (&[("X-Accel-Expires", "60"), ("Cache-Control", "no-store")], "no-store", None),
        ] {
            let mut fields: Fields = fields.iter().copied().collect();
            keep_until(&mut fields, now);
            assert_eq!(fields.first("cache-control"), Some(control.as_bytes()));
            assert_eq!(fields.first("expires"), expires.map(str::as_bytes), "{control}");
        }
    }

    #[test]
    fn whose_fields_stay() {
        let of_file: Fields = [("content-type", "text/csv"), ("etag", "\"f\""), ("accept-ranges", "bytes")]
            .into_iter()
            .collect();
        let app = [
            ("Content-Type", "text/html"),
            ("ETag", "\"a\""),
            ("Content-Length", "0"),
            ("Content-Encoding", "gzip"),
            ("Set-Cookie", "a=1"),
            ("Set-Cookie", "b=2"),
            ("Content-Disposition", "attachment"),
            ("Vary", "Cookie"),
            ("Cache-Control", "no-store"),
        ];
        let mut of_app = answer(&app);
        let kept: Vec<_> = merged(&of_app, &of_file)
            .iter()
            .map(|(name, _)| String::from_utf8_lossy(name).into_owned())
            .collect();
        assert_eq!(
            kept,
            [
                "content-type",
                "etag",
                "accept-ranges",
                "Set-Cookie",
                "Set-Cookie",
                "Content-Disposition",
                "Vary",
                "Cache-Control"
            ]
        );
        of_app.status = 304;
        assert!(!merged(&of_app, &of_file).contains("content-disposition"));
    }

    #[test]
    fn the_tag_of_a_body_that_is_not_sent_is_none_of_the_files() {
        for (etag, length, taken) in [
            ("\"a\"", Some(0), true),
            ("\"a\"", Some(5), true),
            ("W/\"a\"", None, true),
            ("\"\"", Some(0), true),
            ("\"d41d8cd98f00b204e9800998ecf8427e\"", Some(0), false),
            ("W/\"d41d8cd98f00b204e9800998ecf8427e\"", Some(0), false),
            ("\"0cc175b9c0f1b6a831c399e269772661\"", Some(0), true),
            ("\"0cc175b9c0f1b6a831c399e269772661\"", Some(1), false),
            ("\"0cc175b9c0f1b6a831c399e269772661\"", None, false),
            ("\"0cc175b9c0f1b6a831c399e26977266-\"", Some(1), true),
            ("bare", Some(0), false),
            ("\"", Some(0), false),
            ("W/", Some(0), false),
            ("\"a", Some(0), false),
        ] {
            let mut answer = answer(&[("ETag", etag)]);
            answer.length = length;
            assert_eq!(said(&answer).etag.is_some(), taken, "{etag} {length:?}");
        }
    }
}
