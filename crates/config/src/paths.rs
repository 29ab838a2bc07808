//! Rules of `[paths]`: which way requests below a prefix take.
//!
//! Owns the match: the longest prefix that ends at a segment boundary of the path. Prefixes are compared as bytes with the path as the
//! client wrote it; both handlers of an application can answer any path, so an odd spelling costs a detour and opens nothing.
//! Invariant: no two rules have the same prefix, and the longer ones come first.

/// The interface a prefix is pinned to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PathInterface {
    /// On a thread.
    Wsgi,
    /// On the event loop, from the first middleware to the last byte.
    Asgi,
}

/// The rules of `[paths]`, usually none.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PathRules(Vec<(String, PathInterface)>);

impl PathRules {
    /// The interface `path` is pinned to; `path` without its query.
    pub fn interface_for(&self, path: &[u8]) -> Option<PathInterface> {
        let found = self.0.iter().find(|(prefix, _)| covers(prefix.as_bytes(), path));
        found.map(|(_, interface)| *interface)
    }

    /// Each prefix with its interface, the longest first.
    pub fn all(&self) -> impl Iterator<Item = (&str, PathInterface)> {
        self.0.iter().map(|(prefix, interface)| (shown(prefix), *interface))
    }

    /// Adds a rule; false when the prefix has one. A closing `/` makes no difference.
    pub(crate) fn add(&mut self, prefix: &str, interface: PathInterface) -> bool {
        let prefix = prefix.strip_suffix('/').unwrap_or(prefix);
        if self.0.iter().any(|(other, _)| other == prefix) {
            return false;
        }
        let at = self.0.partition_point(|(other, _)| other.len() >= prefix.len());
        self.0.insert(at, (prefix.to_owned(), interface));
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

/// The rule of `/` is kept as the empty prefix, which every path begins with.
fn shown(prefix: &str) -> &str {
    if prefix.is_empty() { "/" } else { prefix }
}

fn covers(prefix: &[u8], path: &[u8]) -> bool {
    path.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest[0] == b'/')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_prefix_on_a_segment_boundary_wins() {
        let mut rules = PathRules::default();
        assert_eq!(rules.interface_for(b"/"), None);
        assert!(rules.add("/api", PathInterface::Asgi));
        assert!(rules.add("/api/v1/", PathInterface::Wsgi));
        assert!(!rules.add("/api/", PathInterface::Wsgi));
        for (path, wanted) in [
            ("/api", Some(PathInterface::Asgi)),
            ("/api/", Some(PathInterface::Asgi)),
            ("/api/v10", Some(PathInterface::Asgi)),
            ("/api/v1", Some(PathInterface::Wsgi)),
            ("/api/v1/x", Some(PathInterface::Wsgi)),
            ("/apix", None),
            ("/ap", None),
            ("/", None),
            ("", None),
            ("*", None),
        ] {
            assert_eq!(rules.interface_for(path.as_bytes()), wanted, "{path}");
        }
        assert!(rules.add("/", PathInterface::Wsgi));
        assert_eq!(rules.interface_for(b"/apix"), Some(PathInterface::Wsgi));
        assert_eq!(rules.interface_for(b"*"), None);
        let shown: Vec<&str> = rules.all().map(|(prefix, _)| prefix).collect();
        assert_eq!(shown, ["/api/v1", "/api", "/"]);
    }
}
