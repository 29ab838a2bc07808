//! A value for every row of the table, taken out with the type its row has.
//!
//! Owns the step from `Value`, which is any kind, to the type of a field of `Settings`. It decides nothing: the kinds are the table's
//! (`knobs.rs`). Invariant: a row always holds a value of its own kind, because `syntax.rs` reads by the row.

use std::collections::BTreeMap;
use std::num::{NonZeroU64, NonZeroUsize};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::access::{Passwords, Rate};
use crate::bind::Bind;
use crate::networks::Networks;
use crate::paths::PathRules;
use crate::ready::ReadyCheck;
use crate::settings::{Destination, Mount, Protected};
use crate::value::Value;

/// A value for every row of the table.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Values(pub(crate) BTreeMap<&'static str, Value>);

/// Each of these fits one kind of row. A mismatch is a mistake in this file, and loading the defaults alone finds it: the
/// tests of `load.rs` do.
macro_rules! take {
    ($values:expr, $key:expr, $($pattern:pat $(if $guard:expr)? => $result:expr),+ $(,)?) => {
        match $values.0.get($key) {
            $(Some($pattern) $(if $guard)? => $result,)+
            other => unreachable!("the table gives `{}` another kind: {other:?}", $key),
        }
    };
}

impl Values {
    pub(crate) fn text(&self, key: &str) -> Option<String> {
        take!(self, key, Value::Text(text) => Some(text.clone()), Value::Unset | Value::Off => None)
    }

    pub(crate) fn texts(&self, key: &str) -> Vec<String> {
        take!(self, key, Value::Texts(texts) => texts.clone(), Value::Unset => Vec::new())
    }

    pub(crate) fn path_rules(&self, key: &str) -> PathRules {
        take!(self, key, Value::PathRules(rules) => rules.clone(), Value::Unset => PathRules::default())
    }

    pub(crate) fn word<T: Copy>(&self, key: &str, words: &[(&str, T)]) -> T {
        let written = take!(self, key, Value::Word(word) => *word);
        let found = words.iter().find(|(word, _)| *word == written);
        found.expect("the words here are the choices of the row").1
    }

    pub(crate) fn path(&self, key: &str) -> Option<PathBuf> {
        take!(self, key, Value::Path(path) => Some(path.clone()), Value::Unset => None)
    }

    pub(crate) fn required_path(&self, key: &str) -> PathBuf {
        take!(self, key, Value::Path(path) => path.clone())
    }

    pub(crate) fn paths(&self, key: &str) -> Vec<PathBuf> {
        take!(self, key, Value::Paths(paths) => paths.clone(), Value::Unset => Vec::new())
    }

    pub(crate) fn binds(&self, key: &str) -> Vec<Bind> {
        take!(self, key, Value::Binds(binds) => binds.clone())
    }

    pub(crate) fn networks(&self, key: &str) -> Option<Networks> {
        take!(self, key, Value::Networks(networks) => Some(networks.clone()), Value::Unset => None)
    }

    /// Of all paths: its id is 0.
    pub(crate) fn request_rate(&self, key: &str) -> Option<Rate> {
        take!(self, key, Value::RequestRate(rate) => Some(*rate), Value::Off => None)
    }

    pub(crate) fn passwords(&self, key: &str) -> Option<Arc<Passwords>> {
        take!(self, key, Value::Passwords(passwords) => Some(Arc::new(passwords.clone())), Value::Off => None)
    }

    pub(crate) fn headers(&self, key: &str) -> Vec<(String, String)> {
        take!(self, key, Value::Headers(fields) => fields.clone(), Value::Unset => Vec::new())
    }

    pub(crate) fn protected(&self, key: &str) -> Vec<Protected> {
        take!(self, key, Value::Protected(all) => all.clone(), Value::Unset | Value::Off => Vec::new())
    }

    pub(crate) fn switch(&self, key: &str) -> bool {
        take!(self, key, Value::Switch(on) => *on)
    }

    pub(crate) fn count(&self, key: &str) -> Option<NonZeroUsize> {
        take!(self, key, Value::Count(number) => NonZeroUsize::new(*number as usize), Value::Auto | Value::Off => None)
    }

    pub(crate) fn required_count(&self, key: &str) -> NonZeroUsize {
        self.count(key).expect("the row's range begins at 1")
    }

    pub(crate) fn duration(&self, key: &str) -> Option<Duration> {
        take!(self, key, Value::Duration(duration) => Some(*duration), Value::Off => None)
    }

    pub(crate) fn required_duration(&self, key: &str) -> Duration {
        self.duration(key).expect("the row has no word off")
    }

    pub(crate) fn size(&self, key: &str) -> u64 {
        take!(self, key, Value::Size(bytes) => *bytes)
    }

    pub(crate) fn limit_bytes(&self, key: &str) -> Option<u64> {
        take!(self, key, Value::Size(bytes) => Some(*bytes), Value::Off => None)
    }

    /// A whole number that may be 0.
    pub(crate) fn whole(&self, key: &str) -> u64 {
        take!(self, key, Value::Count(number) => *number)
    }

    pub(crate) fn limit(&self, key: &str) -> Option<NonZeroU64> {
        take!(self, key, Value::Count(number) => NonZeroU64::new(*number), Value::Off => None)
    }

    /// A module as it is, a file as its path.
    pub(crate) fn module(&self, key: &str) -> Option<String> {
        take!(self, key,
            Value::Text(module) => Some(module.clone()),
            Value::Path(file) => Some(file.display().to_string()),
            Value::Unset => None)
    }

    pub(crate) fn ready_check(&self, key: &str) -> ReadyCheck {
        take!(self, key, Value::ReadyCheck(check) => check.clone(), Value::Unset => ReadyCheck::default())
    }

    pub(crate) fn rate(&self, key: &str) -> Option<u64> {
        take!(self, key, Value::Rate(bytes) => Some(*bytes), Value::Off => None)
    }

    pub(crate) fn octal(&self, key: &str) -> Option<u32> {
        take!(self, key, Value::Octal(bits) => Some(*bits), Value::Unset => None)
    }

    pub(crate) fn mount(&self, key: &str) -> Option<Mount> {
        take!(self, key,
            Value::Mount { url: Some(url), root } => Some(Mount { url: url.clone(), root: root.clone() }),
            Value::Unset | Value::Off => None)
    }

    pub(crate) fn destination(&self, key: &str) -> Destination {
        take!(self, key,
            Value::Off => Destination::Off,
            Value::Path(path) if path.as_os_str() == "-" => Destination::Stdout,
            Value::Path(path) => Destination::File(path.clone()))
    }
}
