//! Rules of `[paths]`, as written: what a prefix says of the requests below it.
//!
//! Owns the match: the longest prefix that ends at a segment boundary of the path. What a prefix inherits is `access.rs`. For
//! `interface`, prefixes are compared with the path as the client wrote it: both handlers of an application can answer any path,
//! so an odd spelling costs a detour and opens nothing. Invariant: no two rules have the same prefix, and the longer ones come first.

use crate::access::Passwords;
use crate::value::Value;

/// The interface a prefix is pinned to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PathInterface {
    /// On a thread.
    Wsgi,
    /// On the event loop, from the first middleware to the last byte.
    Asgi,
}

/// The rules of `[paths]`, usually none.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct PathRules(Vec<(String, PathRule)>);

/// What one prefix says by itself.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct PathRule {
    pub(crate) interface: Option<PathInterface>,
    /// Of the other keys, each with a value of the row of its name.
    pub(crate) values: Vec<(&'static str, Value)>,
}

impl PathRules {
    /// The interface `path` is pinned to; `path` without its query.
    pub fn interface_for(&self, path: &[u8]) -> Option<PathInterface> {
        let pinned = self.0.iter().filter_map(|(prefix, rule)| Some((prefix, rule.interface?)));
        let mut covering = pinned.filter(|(prefix, _)| covers(prefix.as_bytes(), path));
        covering.next().map(|(_, interface)| interface)
    }

    /// Each prefix that is pinned to an interface, with it, the longest first.
    pub fn all(&self) -> impl Iterator<Item = (&str, PathInterface)> {
        self.0.iter().filter_map(|(prefix, rule)| Some((shown(prefix), rule.interface?)))
    }

    /// Each prefix that says something of its own about `key` (`allow`, `rate`, …), the longest first.
    pub fn that_say<'a>(&'a self, key: &'a str) -> impl Iterator<Item = &'a str> {
        let says = move |rule: &PathRule| rule.values.iter().any(|(name, _)| *name == key);
        self.0.iter().filter(move |(_, rule)| says(rule)).map(|(prefix, _)| shown(prefix))
    }

    /// Each prefix as a user may write it, with its rule, the longest first.
    pub(crate) fn rules(&self) -> impl Iterator<Item = (&str, &PathRule)> {
        self.0.iter().map(|(prefix, rule)| (shown(prefix), rule))
    }

    /// The same, to be changed.
    pub(crate) fn rules_mut(&mut self) -> impl Iterator<Item = &mut PathRule> {
        self.0.iter_mut().map(|(_, rule)| rule)
    }

    /// The passwords of all prefixes.
    pub(crate) fn passwords_mut(&mut self) -> impl Iterator<Item = &mut Passwords> {
        self.rules_mut().flat_map(|rule| &mut rule.values).filter_map(|(_, value)| match value {
            Value::Passwords(passwords) => Some(passwords),
            _ => None,
        })
    }

    /// Each prefix without its closing `/`, so that what is inherited comes before who inherits it.
    pub(crate) fn shortest_first(&self) -> impl Iterator<Item = (&str, &PathRule)> {
        self.0.iter().rev().map(|(prefix, rule)| (prefix.as_str(), rule))
    }

    /// Adds a rule; false when the prefix has one. A closing `/` makes no difference.
    pub(crate) fn add(&mut self, prefix: &str, rule: PathRule) -> bool {
        let prefix = prefix.strip_suffix('/').unwrap_or(prefix);
        if self.0.iter().any(|(other, _)| other == prefix) {
            return false;
        }
        let at = self.0.partition_point(|(other, _)| other.len() >= prefix.len());
        self.0.insert(at, (prefix.to_owned(), rule));
        true
    }
}

impl PathInterface {
    /// The word a user writes.
    pub fn as_str(self) -> &'static str {
        match self {
            PathInterface::Wsgi => "wsgi",
            PathInterface::Asgi => "asgi",
        }
    }
}

/// Whether `path` is `prefix` (without a closing `/`) or below it.
pub(crate) fn covers(prefix: &[u8], path: &[u8]) -> bool {
    path.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest[0] == b'/')
}

/// The rule of `/` is kept as the empty prefix, which every path begins with.
fn shown(prefix: &str) -> &str {
    if prefix.is_empty() { "/" } else { prefix }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pinned(interface: PathInterface) -> PathRule {
        PathRule { interface: Some(interface), values: Vec::new() }
    }

    #[test]
    fn the_longest_prefix_on_a_segment_boundary_wins() {
        let mut rules = PathRules::default();
        assert_eq!(rules.interface_for(b"/"), None);
        assert!(rules.add("/api", pinned(PathInterface::Asgi)));
        assert!(rules.add("/api/v1/", pinned(PathInterface::Wsgi)));
        assert!(rules.add("/api/v1/free", PathRule::default()));
        assert!(!rules.add("/api/", pinned(PathInterface::Wsgi)));
        for (path, wanted) in [
            ("/api", Some(PathInterface::Asgi)),
            ("/api/", Some(PathInterface::Asgi)),
            ("/api/v10", Some(PathInterface::Asgi)),
            ("/api/v1", Some(PathInterface::Wsgi)),
            ("/api/v1/x", Some(PathInterface::Wsgi)),
            ("/api/v1/free", Some(PathInterface::Wsgi)),
            ("/apix", None),
            ("/ap", None),
            ("/", None),
            ("", None),
            ("*", None),
        ] {
            assert_eq!(rules.interface_for(path.as_bytes()), wanted, "{path}");
        }
        assert!(rules.add("/", pinned(PathInterface::Wsgi)));
        assert_eq!(rules.interface_for(b"/apix"), Some(PathInterface::Wsgi));
        assert_eq!(rules.interface_for(b"*"), None);
        let shown: Vec<&str> = rules.all().map(|(prefix, _)| prefix).collect();
        assert_eq!(shown, ["/api/v1", "/api", "/"]);
    }
}
