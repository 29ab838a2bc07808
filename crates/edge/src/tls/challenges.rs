//! Answers to an authority that asks whether a name is served here.
//!
//! Owns what is published while a certificate is being obtained: http-01 answers by token (RFC 8555 §8.3) and tls-alpn-01
//! certificates by name (RFC 8737). Who obtains puts them here and takes them away; connections only look.
//! Invariant: what nobody has put here is not answered (`CHECKLIST.md` part 2 row 66).

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bandstand_certificates::pem::Pair;
use rustls::ServerConfig;

use super::config;

/// What authorities may be told.
#[derive(Default)]
pub(crate) struct Challenges {
    published: Mutex<Published>,
}

#[derive(Default)]
struct Published {
    http: HashMap<String, String>,
    alpn: HashMap<String, Arc<ServerConfig>>,
}

impl Challenges {
    /// `/.well-known/acme-challenge/TOKEN` answers this.
    pub(crate) fn put_http(&self, token: &str, key_authorization: &str) {
        self.lock().http.insert(token.to_owned(), key_authorization.to_owned());
    }

    /// What is answered there.
    pub(crate) fn http(&self, token: &str) -> Option<String> {
        self.lock().http.get(token).cloned()
    }

    /// A handshake with `acme-tls/1` for `name` is shown this pair. One that cannot be used is not published.
    pub(crate) fn put_alpn(&self, name: &str, pair: &Pair) {
        match config::for_challenge(pair) {
            Ok(config) => {
                self.lock().alpn.insert(name.to_ascii_lowercase(), Arc::new(config));
            }
            Err(error) => tracing::error!(error, name, "a challenge cannot be answered"),
        }
    }

    /// How such a handshake goes on.
    pub(crate) fn alpn(&self, name: &str) -> Option<Arc<ServerConfig>> {
        self.lock().alpn.get(&name.to_ascii_lowercase()).cloned()
    }

    /// Whoever asks from now on gets no answer: `what` is a token, or a name.
    pub(crate) fn remove(&self, what: &str) {
        let mut published = self.lock();
        published.http.remove(what);
        published.alpn.remove(&what.to_ascii_lowercase());
    }

    fn lock(&self) -> MutexGuard<'_, Published> {
        self.published.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::super::store::tests::pair;
    use super::*;

    /// Row 66.
    #[test]
    fn only_what_was_published_is_answered() {
        let challenges = Challenges::default();
        challenges.put_http("token", "token.thumbprint");
        challenges.put_alpn("Shop.example", &pair(&["shop.example"]));
        assert_eq!(challenges.http("token").as_deref(), Some("token.thumbprint"));
        assert!(challenges.alpn("shop.EXAMPLE").is_some());
        assert!(challenges.http("other").is_none() && challenges.alpn("other.example").is_none());
        challenges.remove("token");
        challenges.remove("shop.example");
        assert!(challenges.http("token").is_none() && challenges.alpn("shop.example").is_none());
    }
}
