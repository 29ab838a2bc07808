//! A value that passed its row: inside the range, ready to be shown.
//!
//! Owns where relative paths count from and the way a value is shown again. How it is read is `syntax.rs`. Invariant: what `shown`
//! gives, `syntax::read` takes.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value as Json;

use crate::access::{Passwords, Rate};
use crate::bind::Bind;
use crate::knobs::Kind;
use crate::networks::Networks;
use crate::paths::{PathRule, PathRules};
use crate::ready::ReadyCheck;
use crate::settings::Protected;
use crate::units;

/// A value that passed its row.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Value {
    Unset,
    Off,
    Auto,
    Switch(bool),
    Word(&'static str),
    Count(u64),
    Duration(Duration),
    Size(u64),
    Rate(u64),
    Octal(u32),
    Text(String),
    Path(PathBuf),
    Paths(Vec<PathBuf>),
    Binds(Vec<Bind>),
    Networks(Networks),
    Mount { url: Option<String>, root: PathBuf },
    Texts(Vec<String>),
    PathRules(PathRules),
    RequestRate(Rate),
    Passwords(Passwords),
    Headers(Vec<(String, String)>),
    Protected(Vec<Protected>),
    ReadyCheck(ReadyCheck),
}

impl Value {
    /// The value with its relative paths counted from `base`.
    pub(crate) fn anchored(self, kind: Kind, base: &Path) -> Value {
        let bare_name = |path: &Path| path.components().count() == 1 && !path.to_string_lossy().contains('/');
        match self {
            Value::Path(path) if kind == Kind::Program && bare_name(&path) => Value::Path(path),
            Value::Path(path) if kind == Kind::Destination && path == Path::new("-") => Value::Path(path),
            Value::Path(path) => Value::Path(join(base, &path)),
            Value::Paths(paths) => Value::Paths(paths.iter().map(|path| join(base, path)).collect()),
            Value::Mount { url, root } => Value::Mount { url, root: join(base, &root) },
            Value::Protected(mut all) => {
                all.iter_mut().for_each(|one| one.root = join(base, &one.root));
                Value::Protected(all)
            }
            Value::Passwords(Passwords { pairs, file }) => {
                Value::Passwords(Passwords { pairs, file: file.map(|file| join(base, &file)) })
            }
            Value::PathRules(mut rules) => {
                let values = rules.rules_mut().flat_map(|rule| &mut rule.values);
                // Of the keys a prefix can have, only passwords name a path, and their kind is told by the value.
                values.for_each(|(_, value)| {
                    *value = std::mem::replace(value, Value::Unset).anchored(kind, base);
                });
                Value::PathRules(rules)
            }
            Value::Binds(binds) => Value::Binds(
                binds
                    .into_iter()
                    .map(|bind| match bind {
                        Bind::Unix(path) => Bind::Unix(join(base, &path)),
                        other => other,
                    })
                    .collect(),
            ),
            other => other,
        }
    }

    /// The value as JSON; a user may write the same in a file.
    pub(crate) fn shown(&self) -> Json {
        let path = |path: &Path| path.display().to_string();
        match self {
            Value::Unset => Json::Null,
            Value::Off => "off".into(),
            Value::Auto => "auto".into(),
            Value::Switch(on) => (*on).into(),
            Value::Word(word) => (*word).into(),
            Value::Count(number) => (*number).into(),
            Value::Duration(duration) => units::show_duration(*duration).into(),
            Value::Size(bytes) => units::show_size(*bytes).into(),
            Value::Rate(bytes) => units::show_rate(*bytes).into(),
            Value::Octal(bits) => format!("{bits:03o}").into(),
            Value::Text(text) => text.as_str().into(),
            Value::Path(one) => path(one).into(),
            Value::Paths(all) => all.iter().map(|one| path(one)).collect(),
            Value::Binds(all) => all.iter().map(Bind::to_string).collect(),
            Value::Networks(all) => all.written.iter().map(String::as_str).collect(),
            Value::Mount { url, root } => match url {
                Some(url) => serde_json::json!({ "url": url, "root": path(root) }),
                None => path(root).into(),
            },
            Value::Texts(all) => all.iter().map(String::as_str).collect(),
            Value::ReadyCheck(check) => check.written().into(),
            Value::PathRules(rules) => {
                rules.rules().map(|(prefix, rule)| (prefix.to_owned(), shown_rule(rule))).collect()
            }
            Value::RequestRate(rate) => units::show_request_rate(*rate).into(),
            // With hashes written in place, the names alone: reading that back is an error, as for every secret.
            Value::Passwords(Passwords { file: Some(file), .. }) => path(file).into(),
            Value::Passwords(all) => all.pairs().map(|(name, _)| format!("{name}:(hidden)")).collect(),
            Value::Headers(all) => {
                all.iter().map(|(name, value)| (name.clone(), Json::from(value.as_str()))).collect()
            }
            Value::Protected(all) => {
                all.iter().map(|one| (one.url.clone(), Json::from(path(&one.root)))).collect()
            }
        }
    }
}

/// The table of one prefix.
fn shown_rule(rule: &PathRule) -> Json {
    let interface = rule.interface.map(|interface| ("interface".to_owned(), interface.as_str().into()));
    let values = rule.values.iter().map(|(key, value)| ((*key).to_owned(), value.shown()));
    interface.into_iter().chain(values).collect()
}

/// `path` counted from `base`, without `.` segments.
fn join(base: &Path, path: &Path) -> PathBuf {
    base.join(path).components().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::raw::Raw;
    use crate::{knobs, syntax};

    #[test]
    fn relative_paths_count_from_the_project() {
        let anchored = |key: &str, written: &str| {
            let kind = knobs::find(key).unwrap().kind;
            syntax::read(kind, &Raw::text(written)).unwrap().anchored(kind, Path::new("/shop")).shown()
        };
        for (key, written, wanted) in [
            ("pid", "run/pid", "/shop/run/pid"),
            ("pid", "./pid", "/shop/pid"),
            ("pid", "/run/pid", "/run/pid"),
            ("python", "python3.12", "python3.12"),
            ("python", "./python", "/shop/python"),
            ("access_log", "-", "-"),
            ("static", "out", "/shop/out"),
        ] {
            assert_eq!(anchored(key, written), wanted, "{key} {written}");
        }
        assert_eq!(anchored("bind", "unix:s.sock")[0], "unix:/shop/s.sock");
    }
}
