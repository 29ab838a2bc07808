//! What every answer wears: the security fields that the project's settings stand for, and `[headers]`.
//!
//! Owns the list, made once for each state, and the one look at an answer that finds what it lacks. Whoever made the answer has the
//! first word: a field that is there stays as it is, and nothing is sent twice. `Strict-Transport-Security` is said over HTTPS only
//! (RFC 6797 §7.2). `X-Frame-Options` is Django's own on Django's pages, because a view may be exempt from it
//! (`xframe_options_exempt`); from here it is only on files and on bandstand's answers.
//! Source: `django.middleware.security`, `django.middleware.clickjacking`.

use std::sync::Arc;

use bandstand_config::{DjangoSettings, Settings};
use bandstand_semantics::Fields;
use bandstand_semantics::text::{valid_field_name, valid_field_value};

use crate::exchange::Answer;

/// Fields at most; more do not fit the mask, and no site has them.
const MOST: usize = 64;
const HSTS: &str = "Strict-Transport-Security";
const FRAMES: &str = "X-Frame-Options";

/// The fields of a state, ready for each kind of answer.
#[derive(Debug, Default)]
pub(crate) struct Security {
    /// Index: over HTTPS, plus two if the app made it.
    sets: [Set; 4],
}

/// The fields for one kind of answer.
#[derive(Debug, Default)]
struct Set {
    fields: Arc<Fields>,
    /// Bit n: a name of n bytes is among them; most fields of an answer are told apart by that.
    lengths: u64,
}

struct Row {
    name: String,
    value: String,
    /// Not over plain HTTP.
    https: bool,
    /// Not on what the app answers.
    own: bool,
}

impl Security {
    /// From what was written and what the project says; the former wins, and an empty value takes a field out.
    pub(crate) fn new(settings: &Settings, django: Option<&DjangoSettings>) -> Self {
        let mut rows = django.map(derived).unwrap_or_default();
        for (name, value) in &settings.headers {
            rows.retain(|row| !row.name.eq_ignore_ascii_case(name));
            if valid_field_name(name.as_bytes()) && !value.is_empty() && valid_field_value(value.as_bytes()) {
                let https = name.eq_ignore_ascii_case(HSTS);
                rows.push(Row { name: name.clone(), value: value.clone(), https, own: false });
            }
        }
        // A browser that was told once keeps to it for a year, for a name that other projects use tomorrow.
        rows.retain(|row| !(row.https && settings.local_https));
        rows.truncate(MOST);
        let set = |https: bool, app: bool| {
            Set::new(rows.iter().filter(|row| (https || !row.https) && !(app && row.own)))
        };
        Self { sets: [set(false, false), set(true, false), set(false, true), set(true, true)] }
    }

    /// Adds what the answer lacks.
    pub(crate) fn apply(&self, https: bool, is_of_app: bool, answer: &mut Answer) {
        let set = &self.sets[usize::from(https) + 2 * usize::from(is_of_app)];
        // A 1xx is not the answer yet, and a 101 is the last of HTTP on its connection.
        if set.fields.is_empty() || answer.status < 200 {
            return;
        }
        let all = u64::MAX >> (MOST - set.fields.len());
        let missing = all & !set.present(answer);
        if missing == all && answer.common_fields.is_none() {
            answer.common_fields = Some(set.fields.clone());
        } else if missing != 0 {
            let rows = set.fields.iter().enumerate().filter(|(at, _)| missing >> at & 1 == 1);
            rows.for_each(|(_, (name, value))| answer.fields.push(name, value));
        }
    }
}

impl Set {
    fn new<'a>(rows: impl Iterator<Item = &'a Row>) -> Self {
        let fields: Fields = rows.map(|row| (&row.name, &row.value)).collect();
        let lengths = fields.iter().fold(0, |lengths, (name, _)| lengths | bit(name));
        Self { fields: Arc::new(fields), lengths }
    }

    /// Bit n: the answer has the nth field.
    fn present(&self, answer: &Answer) -> u64 {
        let mut present = 0;
        for (name, _) in answer.all_fields() {
            if self.lengths & bit(name) != 0
                && let Some(at) = self.fields.iter().position(|(own, _)| own.eq_ignore_ascii_case(name))
            {
                present |= 1 << at;
            }
        }
        present
    }
}

fn bit(name: &[u8]) -> u64 {
    1 << (name.len() % 64)
}

/// What Django's middleware would add, in its words.
fn derived(django: &DjangoSettings) -> Vec<Row> {
    let hsts = django.secure_hsts_seconds.filter(|seconds| *seconds > 0).map(|seconds| {
        let below =
            if django.secure_hsts_include_subdomains == Some(true) { "; includeSubDomains" } else { "" };
        let preload = if django.secure_hsts_preload == Some(true) { "; preload" } else { "" };
        format!("max-age={seconds}{below}{preload}")
    });
    let nosniff = django.secure_content_type_nosniff.filter(|on| *on).map(|_| "nosniff".to_owned());
    let rows = [
        (HSTS, hsts),
        ("X-Content-Type-Options", nosniff),
        ("Referrer-Policy", django.secure_referrer_policy.clone()),
        ("Cross-Origin-Opener-Policy", django.secure_cross_origin_opener_policy.clone()),
        (FRAMES, django.x_frame_options.clone()),
    ];
    rows.into_iter()
        .filter_map(|(name, value)| {
            let value = value.filter(|value| !value.is_empty() && valid_field_value(value.as_bytes()))?;
            Some(Row { name: name.to_owned(), value, https: name == HSTS, own: name == FRAMES })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::connection::h1::tests::shared;

    fn django() -> DjangoSettings {
        DjangoSettings {
            secure_hsts_seconds: Some(60),
            secure_hsts_include_subdomains: Some(true),
            secure_content_type_nosniff: Some(true),
            secure_referrer_policy: Some("same-origin".into()),
            secure_cross_origin_opener_policy: Some("same-origin".into()),
            x_frame_options: Some("DENY".into()),
            ..DjangoSettings::default()
        }
    }

    fn security(headers: &[(&str, &str)], django: Option<&DjangoSettings>) -> Security {
        let headers: Vec<_> =
            headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let shared = shared(|settings| settings.headers = headers);
        Security::new(&shared.state().settings, django)
    }

    fn dressed(security: &Security, https: bool, app: bool, fields: &[(&str, &str)]) -> Vec<String> {
        let mut answer = Answer::new(200);
        answer.fields = fields.iter().copied().collect();
        security.apply(https, app, &mut answer);
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        let mut lines: Vec<_> =
            answer.all_fields().map(|(name, value)| format!("{}: {}", text(name), text(value))).collect();
        lines.sort();
        lines
    }

    #[test]
    fn each_field_once_where_it_is_missing() {
        let security = security(&[], Some(&django()));
        let plain = [
            "Cross-Origin-Opener-Policy: same-origin",
            "Referrer-Policy: same-origin",
            "X-Content-Type-Options: nosniff",
        ];
        let hsts = "Strict-Transport-Security: max-age=60; includeSubDomains";
        assert_eq!(dressed(&security, false, true, &[]), plain);
        let own = [plain[0], plain[1], plain[2], "X-Frame-Options: DENY"];
        assert_eq!(dressed(&security, false, false, &[]), own);
        assert_eq!(dressed(&security, true, false, &[]), [own[0], own[1], hsts, own[2], own[3]]);
        assert_eq!(dressed(&security, true, true, &[]), [plain[0], plain[1], hsts, plain[2]]);
        let said = [("referrer-policy", "origin"), ("X-FRAME-OPTIONS", "SAMEORIGIN"), ("Server", "x")];
        assert_eq!(
            dressed(&security, false, false, &said),
            [
                "Cross-Origin-Opener-Policy: same-origin",
                "Server: x",
                "X-Content-Type-Options: nosniff",
                "X-FRAME-OPTIONS: SAMEORIGIN",
                "referrer-policy: origin"
            ]
        );
    }

    #[test]
    fn what_a_file_has_already_is_seen() {
        let security = security(&[], Some(&django()));
        let mut answer = Answer::new(304);
        answer.shared_fields = Some(Arc::new([("X-Content-Type-Options", "nosniff")].into_iter().collect()));
        security.apply(false, false, &mut answer);
        let names = answer.all_fields().filter(|(name, _)| *name == b"X-Content-Type-Options");
        assert_eq!(names.count(), 1);
        assert_eq!(answer.all_fields().count(), 4);
    }

    #[test]
    fn what_was_written_wins_and_nothing_takes_a_field_out() {
        let written = [
            ("referrer-policy", "no-referrer"),
            ("X-Frame-Options", ""),
            ("Permissions-Policy", "camera=()"),
            ("Bad Name", "x"),
            ("X-Bad", "a\r\nb"),
            ("Strict-Transport-Security", "max-age=1"),
        ];
        let security = security(&written, Some(&django()));
        let base = ["Cross-Origin-Opener-Policy: same-origin", "Permissions-Policy: camera=()"];
        let rest = ["X-Content-Type-Options: nosniff", "referrer-policy: no-referrer"];
        assert_eq!(dressed(&security, false, false, &[]), [base[0], base[1], rest[0], rest[1]]);
        let hsts = "Strict-Transport-Security: max-age=1";
        assert_eq!(dressed(&security, true, true, &[]), [base[0], base[1], hsts, rest[0], rest[1]]);
    }

    #[test]
    fn nothing_said_nothing_added() {
        for django in [None, Some(DjangoSettings { secure_hsts_preload: Some(true), ..Default::default() })] {
            assert!(dressed(&security(&[], django.as_ref()), true, false, &[]).is_empty());
        }
        let mut answer = Answer::new(101);
        security(&[], Some(&django())).apply(true, false, &mut answer);
        assert_eq!(answer.all_fields().count(), 0);
    }
}
