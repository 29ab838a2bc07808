//! Who may ask, and how often: the rules that `[paths]` can say for a prefix, resolved.
//!
//! Owns the types the edge reads and the inheritance between prefixes. How they are written is `syntax/`, which prefix covers a path
//! `paths.rs`; counting, comparing and checking passwords are the edge's. Invariant: each `PathSettings` is complete, so that
//! one lookup answers every question about a request.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::networks::Networks;
use crate::paths::{PathInterface, PathRules, covers};
use crate::units;
use crate::value::Value;

/// All that is set for the requests of one prefix, what it inherits included.
#[derive(Debug, Clone, PartialEq)]
pub struct PathSettings {
    /// The way through the application; `None`: its own.
    pub interface: Option<PathInterface>,
    /// Who may ask; `None`: everyone.
    pub allow: Option<Networks>,
    /// Who may not, whatever `allow` says.
    pub deny: Networks,
    /// How often one address may ask; `None`: no limit.
    pub rate: Option<Rate>,
    /// Who may ask with which password; `None`: nobody is asked for one.
    pub basic_auth: Option<Arc<Passwords>>,
    /// Compress what the application answers.
    pub compress: bool,
    /// Largest request body, in bytes.
    pub max_body: u64,
}

/// A limit of requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Rate {
    /// Requests in each `per`, 1 to 1,000,000.
    pub requests: u32,
    /// A second, a minute, an hour or a day.
    pub per: Duration,
    /// Requests that may come at once after a pause, 1 to 1,000,000; `requests` unless written.
    pub burst: u32,
    /// Tells rules apart: prefixes that inherit a rate count together. 0 is the rate of all paths.
    pub id: u32,
}

/// Names with the hashes of their passwords. `Debug` shows no hash.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Passwords {
    /// Names, each once, with bcrypt or argon2id hashes of the right form.
    pub(crate) pairs: Vec<(String, String)>,
    /// The htpasswd file they are from.
    pub(crate) file: Option<PathBuf>,
}

/// Text that is never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(pub(crate) String);

/// The settings of every prefix; ask `Settings::at`.
#[derive(Debug, Clone, PartialEq)]
pub struct PathTable {
    /// What holds where no prefix does.
    pub base: PathSettings,
    /// Prefixes without their closing `/`, the longest first.
    pub prefixes: Vec<(String, PathSettings)>,
}

impl PathTable {
    /// Fills each prefix of `rules` with what the next shorter one around it says; `base` is around all of them.
    pub(crate) fn resolve(base: PathSettings, rules: &PathRules) -> PathTable {
        let mut table = PathTable { base, prefixes: Vec::new() };
        let mut rates = 0;
        for (prefix, rule) in rules.shortest_first() {
            let mut settings = table.at(prefix.as_bytes()).clone();
            settings.interface = rule.interface.or(settings.interface);
            for (key, value) in &rule.values {
                settings.set(key, value, &mut rates);
            }
            match prefix {
                // `/` covers everything, and what has no path at all (`OPTIONS *`).
                "" => table.base = settings,
                _ => table.prefixes.insert(0, (prefix.to_owned(), settings)),
            }
        }
        table
    }

    /// The settings of the longest prefix that covers `path`.
    pub(crate) fn at(&self, path: &[u8]) -> &PathSettings {
        let found = self.prefixes.iter().find(|(prefix, _)| covers(prefix.as_bytes(), path));
        found.map_or(&self.base, |(_, settings)| settings)
    }
}

impl PathSettings {
    /// One line per key that a prefix can say.
    fn set(&mut self, key: &str, value: &Value, rates: &mut u32) {
        match (key, value) {
            ("allow", Value::Networks(networks)) => self.allow = Some(networks.clone()),
            ("deny", Value::Networks(networks)) => self.deny = networks.clone(),
            ("rate", Value::RequestRate(rate)) => {
                *rates += 1;
                self.rate = Some(Rate { id: *rates, ..*rate });
            }
            ("rate", Value::Off) => self.rate = None,
            ("basic_auth", Value::Passwords(passwords)) => {
                self.basic_auth = Some(Arc::new(passwords.clone()));
            }
            ("basic_auth", Value::Off) => self.basic_auth = None,
            ("compress", Value::Switch(on)) => self.compress = *on,
            ("max_body", Value::Size(bytes)) => self.max_body = *bytes,
            _ => unreachable!("a prefix gives `{key}` a value of another kind"),
        }
    }

    /// What is different here from a server that lets everybody ask, for people; `base` is what holds elsewhere.
    pub fn phrases(&self, base: &PathSettings) -> Vec<String> {
        let all = |networks: &Networks| networks.written.join(", ");
        let only = self.allow.as_ref().map(|allow| format!("only for {}", all(allow)));
        let not = (!self.deny.written.is_empty()).then(|| format!("not for {}", all(&self.deny)));
        let rate = self.rate.map(|rate| format!("{} for each address", units::show_request_rate(rate)));
        let password = self.basic_auth.as_ref().map(|_| "with a password".to_owned());
        let plain = (self.compress != base.compress)
            .then(|| if self.compress { "compressed" } else { "not compressed" }.to_owned());
        let body = (self.max_body != base.max_body)
            .then(|| format!("bodies up to {}", units::show_size(self.max_body)));
        [only, not, rate, password, plain, body].into_iter().flatten().collect()
    }
}

impl Passwords {
    /// The hash of `name`, in the form of crypt(5) (`$2y$…`) or PHC (`$argon2id$…`).
    pub fn hash_of(&self, name: &str) -> Option<&str> {
        self.pairs.iter().find(|(other, _)| other == name).map(|(_, hash)| hash.as_str())
    }

    /// Each name with its hash, in the order they are written; at least one.
    pub fn pairs(&self) -> impl Iterator<Item = (&str, &str)> {
        self.pairs.iter().map(|(name, hash)| (name.as_str(), hash.as_str()))
    }
}

impl fmt::Debug for Passwords {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.pairs.iter().map(|(name, _)| name)).finish()
    }
}

impl Secret {
    /// The text itself, for whoever needs it.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(hidden)")
    }
}

/// `path` as a file system or a careless router might read it: without `.` and `..` segments, slashes merged. `None` when that is
/// the path itself. What is not an absolute path stays.
pub(crate) fn flattened(path: &[u8]) -> Option<Vec<u8>> {
    let suspicious = |pair: &[u8]| pair[0] == b'/' && (pair[1] == b'/' || pair[1] == b'.');
    if path.first() != Some(&b'/') || !path.windows(2).any(suspicious) {
        return None;
    }
    let mut segments: Vec<&[u8]> = Vec::new();
    for segment in path.split(|byte| *byte == b'/') {
        match segment {
            b"" | b"." => {}
            b".." => drop(segments.pop()),
            _ => segments.push(segment),
        }
    }
    let mut flat = Vec::with_capacity(path.len());
    for segment in segments {
        flat.push(b'/');
        flat.extend_from_slice(segment);
    }
    let open = [&b"/"[..], b"/.", b"/.."].iter().any(|end| path.ends_with(end));
    if open || flat.is_empty() {
        flat.push(b'/');
    }
    (flat != path).then_some(flat)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_flattened() {
        for (path, wanted) in [
            ("/", None),
            ("/admin/x", None),
            ("/.well-known/x", None),
            ("/a/..b", None),
            ("*", None),
            ("", None),
            ("a//b", None),
            ("//admin", Some("/admin")),
            ("/x//admin/", Some("/x/admin/")),
            ("/x/../admin", Some("/admin")),
            ("/x/..", Some("/")),
            ("/../../admin/.", Some("/admin/")),
            ("/./admin", Some("/admin")),
            ("/...//admin", Some("/.../admin")),
            ("///", Some("/")),
        ] {
            let flat = flattened(path.as_bytes());
            assert_eq!(flat.as_deref(), wanted.map(str::as_bytes), "{path}");
            assert_eq!(flat.and_then(|flat| flattened(&flat)), None, "{path}: once is enough");
        }
    }

    #[test]
    fn secrets_are_not_shown() {
        let passwords = Passwords { pairs: vec![("ada".into(), "$2y$x".into())], file: None };
        assert_eq!(format!("{passwords:?} {:?}", Secret("x".into())), "[\"ada\"] (hidden)");
    }
}
