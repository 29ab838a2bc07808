//! What a new generation must show before it is given clients (`ready_check`).
//!
//! Owns the type alone: its spelling is `syntax/ready.rs`, the requests are made by the edge, and the connections tried by the
//! template. Invariant: every path begins with `/` and is visible ASCII, so that it can stand in a request line.

/// The checks; empty by default, which is always passed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ReadyCheck {
    /// Paths, with a query perhaps, that must answer 200 to GET.
    pub paths: Vec<String>,
    /// A connection to every database of Django's settings.
    pub databases: bool,
    /// A word with every cache of Django's settings.
    pub caches: bool,
}

impl ReadyCheck {
    /// What the template is asked to try, as a list with commas: `databases,caches`, or nothing.
    pub fn words(&self) -> String {
        let words = [(self.databases, DATABASES), (self.caches, CACHES)];
        words.iter().filter(|(asked, _)| *asked).map(|(_, word)| *word).collect::<Vec<_>>().join(",")
    }

    /// As a user would write it.
    pub(crate) fn written(&self) -> Vec<String> {
        let words = self.words();
        let words = words.split(',').filter(|word| !word.is_empty()).map(str::to_owned);
        self.paths.iter().cloned().chain(words).collect()
    }
}

/// The word for databases.
pub(crate) const DATABASES: &str = "databases";

/// The word for caches.
pub(crate) const CACHES: &str = "caches";
