//! What browsers report of the site's Content-Security-Policy, counted (`csp_reports`).
//!
//! Owns the reading of both forms of report (CSP level 3 §5.3: `application/csp-report`; the Reporting API:
//! `application/reports+json`), and one count for each directive and blocked origin, so that an operator sees when a policy that is
//! only reported can be enforced. Anybody can post here, so nothing is believed: names are checked, the table has 256 rows, the log
//! gets a few lines a minute.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::control::Violation;

/// The longest body that is read, in bytes.
pub(crate) const LONGEST: usize = 16 * 1024;
/// Rows of the table; what comes past them is counted in the last.
const ROWS: usize = 256;
/// Reports that are read of one body.
const EACH: usize = 16;
/// Lines of log a minute.
const LINES: u32 = 10;
/// What has no name of its own.
const OTHER: &str = "_other";

/// All counts.
#[derive(Default)]
pub(crate) struct Violations(Mutex<Inner>);

#[derive(Default)]
struct Inner {
    counts: HashMap<(String, String), u64>,
    /// The minute that `lines` are of.
    minute: Option<Instant>,
    lines: u32,
}

impl Violations {
    /// Counts what a body reports; false: it is no report.
    pub(crate) fn take(&self, body: &[u8], now: Instant) -> bool {
        let Ok(json) = serde_json::from_slice::<Value>(body) else { return false };
        let seen = match &json {
            Value::Array(reports) => {
                let violations = reports.iter().filter(|report| report["type"] == "csp-violation");
                violations.take(EACH).map(|report| of_reporting_api(&report["body"])).collect()
            }
            Value::Object(report) if report.contains_key("csp-report") => vec![of_csp(&json["csp-report"])],
            _ => return false,
        };
        seen.into_iter().for_each(|(directive, origin)| self.count(directive, origin, now));
        true
    }

    /// Every row, the most frequent first.
    pub(crate) fn counts(&self) -> Vec<Violation> {
        let inner = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let rows = inner.counts.iter().map(|((directive, blocked), count)| Violation {
            directive: directive.clone(),
            blocked: blocked.clone(),
            count: *count,
        });
        let mut rows: Vec<_> = rows.collect();
        rows.sort_by(|a, b| {
            b.count.cmp(&a.count).then_with(|| (&a.directive, &a.blocked).cmp(&(&b.directive, &b.blocked)))
        });
        rows
    }

    fn count(&self, directive: String, blocked: String, now: Instant) {
        let mut inner = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Inner { counts, minute, lines } = &mut *inner;
        if minute.is_none_or(|since| now.saturating_duration_since(since) >= Duration::from_secs(60)) {
            (*minute, *lines) = (Some(now), 0);
        }
        *lines = lines.saturating_add(1);
        if *lines <= LINES {
            tracing::info!(
                directive,
                blocked,
                "a browser reports a violation of the Content-Security-Policy"
            );
        }
        let mut row = (directive, blocked);
        // One row is kept for what does not fit.
        if counts.len() >= ROWS - 1 && !counts.contains_key(&row) {
            row = (OTHER.to_owned(), OTHER.to_owned());
        }
        *counts.entry(row).or_default() += 1;
    }
}

fn of_csp(report: &Value) -> (String, String) {
    let effective = report["effective-directive"].as_str().filter(|text| !text.is_empty());
    let directive = effective.or(report["violated-directive"].as_str());
    (directive_of(directive), origin_of(report["blocked-uri"].as_str()))
}

fn of_reporting_api(body: &Value) -> (String, String) {
    (directive_of(body["effectiveDirective"].as_str()), origin_of(body["blockedURL"].as_str()))
}

/// The name of a directive: small letters and `-`.
fn directive_of(text: Option<&str>) -> String {
    let name = text.and_then(|text| text.split_ascii_whitespace().next()).unwrap_or("");
    let fits = !name.is_empty()
        && name.len() <= 32
        && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'-');
    if fits { name } else { OTHER }.to_owned()
}

/// `scheme://host:port` of a URL, or one of the words that stand for none (CSP3 §5.3: `inline`, `eval`, `data`, …).
fn origin_of(text: Option<&str>) -> String {
    let text = text.unwrap_or("");
    let is_word = |word: &str| {
        (1..=24).contains(&word.len()) && word.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'-')
    };
    let origin = match text.split_once("://") {
        Some((scheme, rest)) => {
            let host = rest.split(['/', '?', '#']).next().unwrap_or("");
            let fits = host.len() <= 100 && bandstand_semantics::host::parse_host(host.as_bytes()).is_ok();
            (is_word(scheme) && fits && !host.is_empty())
                .then(|| format!("{scheme}://{}", host.to_ascii_lowercase()))
        }
        None => Some(text.split(':').next().unwrap_or("")).filter(|word| is_word(word)).map(str::to_owned),
    };
    origin.unwrap_or_else(|| OTHER.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(bodies: &[&str]) -> Vec<(String, String, u64)> {
        let violations = Violations::default();
        for body in bodies {
            assert!(violations.take(body.as_bytes(), Instant::now()), "{body}");
        }
        violations.counts().into_iter().map(|row| (row.directive, row.blocked, row.count)).collect()
    }

    #[test]
    fn both_forms_of_report() {
        for (body, directive, blocked) in [
            (
                r#"{"csp-report": {"effective-directive": "script-src-elem", "blocked-uri": "https://Evil.example/a.js?x"}}"#,
                "script-src-elem",
                "https://evil.example",
            ),
            (
                r#"{"csp-report": {"violated-directive": "img-src 'self'", "blocked-uri": "data"}}"#,
                "img-src",
                "data",
            ),
            (
                r#"[{"type": "csp-violation", "body": {"effectiveDirective": "style-src", "blockedURL": "inline"}}]"#,
                "style-src",
                "inline",
            ),
            (
                r#"[{"type": "csp-violation", "body": {"effectiveDirective": "font-src", "blockedURL": "http://a:81/x"}}]"#,
                "font-src",
                "http://a:81",
            ),
            (r#"{"csp-report": {}}"#, OTHER, OTHER),
            (r#"{"csp-report": 5}"#, OTHER, OTHER),
            (
                "{\"csp-report\": {\"effective-directive\": \"a\\nb\", \"blocked-uri\": \"x\\u001b[1m://\"}}",
                "a",
                OTHER,
            ),
            (
                r#"{"csp-report": {"effective-directive": "SCRIPT", "blocked-uri": "https://u:p@h/"}}"#,
                OTHER,
                OTHER,
            ),
        ] {
            assert_eq!(rows(&[body]), [(directive.to_owned(), blocked.to_owned(), 1)], "{body}");
        }
        assert!(rows(&[r#"[{"type": "deprecation", "body": {}}]"#]).is_empty());
    }

    #[test]
    fn what_is_no_report() {
        let violations = Violations::default();
        for body in ["", "{", "3", "{}", "\"csp-report\"", "null", "\u{0}"] {
            assert!(!violations.take(body.as_bytes(), Instant::now()), "{body:?}");
        }
        assert!(violations.counts().is_empty());
    }

    #[test]
    fn the_table_is_bounded_and_so_is_one_body() {
        let one = |n: usize| {
            format!(
                r#"{{"csp-report": {{"effective-directive": "img-src", "blocked-uri": "https://h{n}/"}}}}"#
            )
        };
        let bodies: Vec<_> = (0..2 * ROWS).map(one).collect();
        let rows = rows(&bodies.iter().map(String::as_str).collect::<Vec<_>>());
        assert_eq!(rows.len(), ROWS);
        assert_eq!(rows.iter().map(|(_, _, count)| count).sum::<u64>(), 2 * ROWS as u64);
        assert_eq!(rows[0], (OTHER.to_owned(), OTHER.to_owned(), ROWS as u64 + 1));
        let many = format!("[{}]", vec![r#"{"type": "csp-violation", "body": {}}"#; 100].join(","));
        let violations = Violations::default();
        assert!(violations.take(many.as_bytes(), Instant::now()));
        assert_eq!(violations.counts()[0].count, EACH as u64);
    }
}
