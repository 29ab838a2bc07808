//! Names to certificates.
//!
//! Owns the choice: the exact name, else a wildcard for its first label (RFC 6125 §6.4.3), and of several pairs for a name
//! the first that the client can check, ECDSA before RSA because it costs a tenth. Without SNI the first pair answers.
//! Invariant: a source replaces its own pairs whole, and a handshake sees one state of the table.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::{ArcSwap, ArcSwapOption};
use bandstand_certificates::pem::{Facts, Pair};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{SignatureAlgorithm, SignatureScheme};

/// Where pairs come from, the ones that count first for the same name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Source {
    /// The user's own files.
    Files,
    /// An authority on the network.
    Acme,
    /// This machine's authority.
    Local,
}

/// Makes a certificate for a host that has none, if it may have one: all pairs of `Source::Local` as they are then.
pub(super) type OnDemand = Box<dyn Fn(&str) -> Option<Vec<Pair>> + Send + Sync>;

/// All certificates.
#[derive(Default)]
pub(crate) struct Store {
    table: ArcSwap<Table>,
    on_demand: ArcSwapOption<OnDemand>,
    sources: Mutex<Vec<(Source, Vec<Arc<Entry>>)>>,
}

struct Entry {
    key: Arc<CertifiedKey>,
    facts: Arc<Facts>,
}

#[derive(Default)]
struct Table {
    /// The pairs of the name of the very first: what a client gets that names nothing.
    first: Vec<Arc<Entry>>,
    exact: HashMap<String, Vec<Arc<Entry>>>,
    /// By what follows `*.`.
    wildcards: HashMap<String, Vec<Arc<Entry>>>,
}

impl Store {
    /// The pairs of `source` are these from now on.
    pub(crate) fn replace(&self, source: Source, pairs: Vec<Pair>) {
        let entries = pairs.iter().filter_map(|pair| match pair.certified() {
            Ok(key) => Some(Arc::new(Entry { key: Arc::new(key), facts: Arc::new(pair.facts.clone()) })),
            // It was good when the pair was made.
            Err(error) => {
                tracing::error!(%error, names = ?pair.facts.names, "a certificate cannot be used");
                None
            }
        });
        let entries = entries.collect();
        let mut sources = self.sources.lock().unwrap_or_else(PoisonError::into_inner);
        sources.retain(|(of, _)| *of != source);
        sources.push((source, entries));
        sources.sort_by_key(|(of, _)| *of);
        self.table.store(Arc::new(Table::of(sources.iter().flat_map(|(_, entries)| entries))));
    }

    /// Whether there is a certificate for a client that asks for `name`, now if not before.
    pub(crate) fn answers(&self, name: Option<&str>) -> bool {
        !self.table.load().find(name).is_empty() || self.make(name)
    }

    /// How certificates are made for names that have none.
    pub(super) fn make_on_demand(&self, make: Option<OnDemand>) {
        self.on_demand.store(make.map(Arc::new));
    }

    fn make(&self, name: Option<&str>) -> bool {
        let (Some(make), Some(name)) = (self.on_demand.load_full(), name) else { return false };
        let pairs = make(name);
        pairs.map(|pairs| self.replace(Source::Local, pairs)).is_some()
    }

    /// What a client that asks for `name` is shown.
    pub(crate) fn shown(&self, name: Option<&str>) -> Option<Arc<Facts>> {
        self.table.load().find(name).first().map(|entry| entry.facts.clone())
    }

    /// What all certificates say, for people.
    pub(crate) fn all(&self) -> Vec<(Source, Arc<Facts>)> {
        let sources = self.sources.lock().unwrap_or_else(PoisonError::into_inner);
        let all = sources
            .iter()
            .flat_map(|(source, entries)| entries.iter().map(move |entry| (*source, entry.facts.clone())));
        all.collect()
    }
}

impl Table {
    fn of<'e>(entries: impl Iterator<Item = &'e Arc<Entry>> + Clone) -> Self {
        let mut table = Self::default();
        for entry in entries.clone() {
            for name in &entry.facts.names {
                let (names, name) = match name.strip_prefix("*.") {
                    Some(domain) => (&mut table.wildcards, domain),
                    None => (&mut table.exact, name.as_str()),
                };
                names.entry(name.to_owned()).or_default().push(entry.clone());
            }
        }
        let mut entries = entries;
        if let Some(first) = entries.next() {
            let same = entries.filter(|other| other.facts.names == first.facts.names);
            table.first = std::iter::once(first).chain(same).cloned().collect();
        }
        let lists = table.exact.values_mut().chain(table.wildcards.values_mut());
        // Stable: the order of sources stays among equals.
        lists.chain([&mut table.first]).for_each(|list| list.sort_by_key(|entry| !entry.is_ecdsa()));
        table
    }

    fn find(&self, name: Option<&str>) -> &[Arc<Entry>] {
        let Some(name) = name else { return &self.first };
        let name = name.to_ascii_lowercase();
        let parent = || name.split_once('.').map(|(_, parent)| parent);
        let found = self.exact.get(&name).or_else(|| self.wildcards.get(parent()?));
        found.map(Vec::as_slice).unwrap_or_default()
    }
}

impl Entry {
    fn is_ecdsa(&self) -> bool {
        self.key.key.algorithm() == SignatureAlgorithm::ECDSA
    }

    fn suits(&self, schemes: &[SignatureScheme]) -> bool {
        self.key.key.choose_scheme(schemes).is_some()
    }
}

impl ResolvesServerCert for Store {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let table = self.table.load();
        let found = table.find(hello.server_name());
        // Whom none suits is shown any: the handshake goes on to find that there is no way, and says so (`handshake_failure`,
        // where no certificate at all would mean `access_denied`).
        let chosen = found.iter().find(|entry| entry.suits(hello.signature_schemes()));
        chosen.or(found.first()).map(|entry| entry.key.clone())
    }
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store").finish_non_exhaustive()
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A pair for these names, made by itself.
    pub(crate) fn pair(names: &[&str]) -> Pair {
        let key = rcgen::KeyPair::generate().unwrap();
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let certificate = rcgen::CertificateParams::new(names).unwrap().self_signed(&key).unwrap();
        Pair::from_pem(certificate.pem().as_bytes(), key.serialize_pem().as_bytes()).unwrap()
    }

    fn shown(store: &Store, name: Option<&str>) -> Option<String> {
        store.shown(name).map(|facts| facts.serial.clone())
    }

    #[test]
    fn the_exact_name_then_a_wildcard_then_nothing() {
        let store = Store::default();
        assert!(!store.answers(None) && !store.answers(Some("shop.example")));
        let (wild, exact) = (pair(&["*.shop.example"]), pair(&["www.shop.example", "shop.example"]));
        store.replace(Source::Files, vec![wild.clone(), exact.clone()]);
        let rows = [
            (Some("www.shop.example"), Some(&exact)),
            (Some("WWW.Shop.Example"), Some(&exact)),
            (Some("shop.example"), Some(&exact)),
            (Some("api.shop.example"), Some(&wild)),
            (Some("a.b.shop.example"), None),
            (Some("example"), None),
            (Some("other.example"), None),
            (Some(""), None),
            (None, Some(&wild)),
        ];
        for (name, wanted) in rows {
            assert_eq!(shown(&store, name), wanted.map(|pair| pair.facts.serial.clone()), "{name:?}");
            assert_eq!(store.answers(name), wanted.is_some());
        }
    }

    #[test]
    fn a_source_replaces_its_own_pairs_and_files_come_first() {
        let store = Store::default();
        let [local, acme, own] = [(); 3].map(|()| pair(&["shop.example"]));
        let other = pair(&["other.example"]);
        let name = Some("shop.example");
        for (source, pairs, wanted) in [
            (Source::Local, vec![local.clone()], Some(&local)),
            (Source::Acme, vec![acme.clone(), other], Some(&acme)),
            (Source::Files, vec![own.clone()], Some(&own)),
            (Source::Files, vec![], Some(&acme)),
            (Source::Acme, vec![], Some(&local)),
            (Source::Local, vec![], None),
        ] {
            store.replace(source, pairs);
            assert_eq!(shown(&store, name), wanted.map(|pair| pair.facts.serial.clone()));
        }
        assert!(store.all().is_empty() && !store.answers(Some("other.example")));
    }
}
