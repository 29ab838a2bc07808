//! Is this the address to ask at?
//!
//! Owns the way from plain HTTP to HTTPS and from the other names of a site to its first one. A client is sent to names that are
//! ours and to nothing else: whoever asks for another name learns that it is not served here (`CHECKLIST.md` part 2 row 60).
//! Health pages and ACME's challenges never come here, `route` has answered them. What a trusted proxy brings is redirected only
//! when it says that its client spoke plain HTTP: with a proxy that says nothing, a redirect would never end.
//! Invariant: path and query leave as they came, byte for byte, after an authority that is never theirs to say.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::exchange::{Answer, Exchange, SchemeFrom};
use crate::hosts;
use crate::pipeline::Step;
use crate::refusal::Refusal;
use crate::shared::{Shared, State};
use crate::stages::admit;

const HTTPS: u16 = 443;

pub(crate) async fn run(shared: &Shared, state: &State, exchange: &Exchange) -> Step {
    let port = shared.https_port.load(Ordering::Relaxed);
    if let Some(port) = upgraded_port(state, exchange, port) {
        return Box::pin(to_https(shared, state, exchange, port)).await;
    }
    match other_name(state, exchange.host.name()) {
        Some(first) => Step::Answer(redirect(exchange, exchange.https, first, exchange.host.port)),
        None => Step::Next,
    }
}

/// The port to go on at, if this request is to go on over TLS. `port` is that of our own TLS, 0 without one.
fn upgraded_port(state: &State, exchange: &Exchange, port: u16) -> Option<u16> {
    if exchange.https || !state.settings.redirect_https || port == 0 {
        return None;
    }
    match exchange.scheme_from {
        // Where the proxy listens for TLS we cannot know; everybody has it at the port that needs no number.
        SchemeFrom::Proxy => Some(HTTPS),
        SchemeFrom::SilentProxy => None,
        SchemeFrom::Connection => {
            // Unix sockets stay plain: who can reach one is no browser.
            let local = exchange.ends.local?;
            // The client saw port 80 where we have another one: somebody maps them, and 443 likewise.
            let mapped = exchange.host.port.is_none() && local.port() != 80;
            Some(if mapped { HTTPS } else { port })
        }
    }
}

async fn to_https(shared: &Shared, state: &State, exchange: &Exchange, port: u16) -> Step {
    let booted: Arc<State>;
    let mut state = state;
    let name = exchange.host.name();
    // A certificate for a name says that it is ours as well as a setting does.
    let is_certified = state.settings.domains.is_empty() && shared.tls.store.answers(Some(name));
    // Which names the project has is known once it has booted.
    if !is_certified && state.settings.domains.is_empty() && state.project.is_none() {
        booted = match admit::wait(shared, state).await {
            Ok(state) => state,
            Err(refusal) => return Step::Refuse(refusal),
        };
        state = &booted;
    }
    if !is_certified && !hosts::is_known(state, name) {
        return Step::Refuse(Refusal::HostNotServed);
    }
    let name = other_name(state, name).unwrap_or(name);
    Step::Answer(redirect(exchange, true, name, (port != HTTPS).then_some(port)))
}

/// The first of our names, if `name` is another of them and the first is wanted.
fn other_name<'a>(state: &'a State, name: &str) -> Option<&'a str> {
    let first = state.settings.domains.first().filter(|_| state.settings.canonical_host)?;
    let is_first = first.eq_ignore_ascii_case(name.strip_suffix('.').unwrap_or(name));
    // A wildcard is no name to be sent to.
    (!is_first && !first.starts_with('*') && hosts::is_known(state, name)).then_some(first)
}

/// 301, as everybody knows it, where the method is repeated as it was; 308 where a browser would make a GET of it.
fn redirect(exchange: &Exchange, https: bool, name: &str, port: Option<u16>) -> Answer {
    let mut answer = Answer::new(if matches!(exchange.method(), b"GET" | b"HEAD") { 301 } else { 308 });
    let mut location = Vec::with_capacity(64 + exchange.raw_path().len() + exchange.query().len());
    location.extend_from_slice(if https { b"https://" } else { b"http://" });
    location.extend_from_slice(name.strip_suffix('.').unwrap_or(name).as_bytes());
    if let Some(port) = port {
        location.push(b':');
        location.extend_from_slice(itoa::Buffer::new().format(port).as_bytes());
    }
    location.extend_from_slice(exchange.raw_path_told());
    if !exchange.query().is_empty() {
        location.push(b'?');
        location.extend_from_slice(exchange.query());
    }
    answer.fields.push(b"Location", &location);
    answer
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::connection::h1::tests::{request, shared};
    use crate::server::state_of;
    use crate::shared::Project;

    fn location(answer: &Answer) -> String {
        String::from_utf8(answer.fields.first("location").unwrap().to_vec()).unwrap()
    }

    fn state(domains: &[&str], hosts: Option<&[&str]>, canonical: bool) -> (Arc<Shared>, Arc<State>) {
        let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        let shared = shared(|settings| {
            settings.domains = owned(domains);
            settings.canonical_host = canonical;
        });
        shared.https_port.store(443, Ordering::Relaxed);
        let project = hosts.map(|hosts| Project {
            said: bandstand_config::ProjectSettings::default(),
            assets: crate::assets::Manifest::new(Vec::new()).unwrap(),
            hosts: Some(owned(hosts)),
        });
        let state = state_of(&shared.state().settings, project, None, 1);
        (shared, Arc::new(state))
    }

    #[tokio::test]
    async fn row_60_where_a_plain_request_goes() {
        let domains = &["shop.example", "www.shop.example", "*.eu.shop.example"][..];
        let hosts = Some(&["old.example", ".many.example", "*"][..]);
        let none: &[&str] = &[];
        for (domains, hosts, line, host, status, location_) in [
            (domains, None, "GET /a?b=c", "shop.example", 301, "https://shop.example/a?b=c"),
            (domains, None, "HEAD /", "SHOP.example.", 301, "https://SHOP.example/"),
            (domains, None, "POST /a", "www.shop.example:80", 308, "https://www.shop.example/a"),
            (domains, None, "GET /", "de.eu.shop.example", 301, "https://de.eu.shop.example/"),
            (
                domains,
                None,
                "GET //evil.example/x",
                "shop.example",
                301,
                "https://shop.example//evil.example/x",
            ),
            (
                domains,
                None,
                "GET /\\evil.example",
                "shop.example",
                301,
                "https://shop.example/\\evil.example",
            ),
            (
                domains,
                None,
                "GET /%0d%0aSet-Cookie:x?%0d",
                "shop.example",
                301,
                "https://shop.example/%0d%0aSet-Cookie:x?%0d",
            ),
            (domains, None, "GET /?", "shop.example", 301, "https://shop.example/?"),
            (domains, None, "GET /", "evil.example", 421, ""),
            (domains, None, "GET /", "10.0.0.1", 421, ""),
            (domains, hosts, "GET /", "old.example", 421, ""),
            (none, hosts, "GET /", "old.example", 301, "https://old.example/"),
            (none, hosts, "GET /", "a.many.example", 301, "https://a.many.example/"),
            (none, hosts, "GET /", "evil.example", 421, ""),
        ] {
            let (shared, state) = state(domains, hosts, false);
            let exchange = request(line, host, 80);
            match run(&shared, &state, &exchange).await {
                Step::Answer(answer) => {
                    assert_eq!(
                        (answer.status, location(&answer).as_str()),
                        (status, location_),
                        "{line} {host}"
                    );
                }
                Step::Refuse(refusal) => assert_eq!(refusal.row().status, status, "{line} {host}"),
                Step::Next => panic!("{line} {host}"),
            }
        }
    }

    #[tokio::test]
    async fn at_which_port() {
        let (shared, state) = state(&["shop.example"], None, false);
        for (ours, local, host, wanted) in [
            (443, 80, "shop.example", "https://shop.example/"),
            (8443, 80, "shop.example", "https://shop.example:8443/"),
            (8443, 8080, "shop.example:8080", "https://shop.example:8443/"),
            (8443, 8080, "shop.example", "https://shop.example/"),
        ] {
            shared.https_port.store(ours, Ordering::Relaxed);
            let Step::Answer(answer) = run(&shared, &state, &request("GET /", host, local)).await else {
                panic!("{host}")
            };
            assert_eq!(location(&answer), wanted);
        }
    }

    #[tokio::test]
    async fn who_is_left_alone() {
        let plain = |change: fn(&mut Exchange)| {
            let mut exchange = request("GET /", "shop.example", 80);
            change(&mut exchange);
            exchange
        };
        for (exchange, port, on) in [
            (plain(|exchange| exchange.https = true), 443, true),
            (plain(|exchange| exchange.scheme_from = SchemeFrom::SilentProxy), 443, true),
            (plain(|exchange| exchange.ends.local = None), 443, true),
            (plain(|_| {}), 0, true),
            (plain(|_| {}), 443, false),
        ] {
            let (shared, _) = state(&["shop.example"], None, false);
            shared.https_port.store(port, Ordering::Relaxed);
            let mut settings = shared.state().settings.clone();
            settings.redirect_https = on;
            let state = state_of(&settings, None, None, 1);
            assert!(matches!(run(&shared, &state, &exchange).await, Step::Next));
        }
        let (shared, state) = state(&["shop.example"], None, false);
        let told = plain(|exchange| exchange.scheme_from = SchemeFrom::Proxy);
        let Step::Answer(answer) = run(&shared, &state, &told).await else { panic!("told") };
        assert_eq!(location(&answer), "https://shop.example/");
    }

    #[tokio::test]
    async fn the_first_name_is_the_one() {
        let (shared, state) = state(&["shop.example", "www.shop.example"], None, true);
        for (https, line, host, wanted) in [
            (true, "GET /a?b", "www.shop.example", Some("https://shop.example/a?b")),
            (true, "POST /a", "WWW.shop.example:8443", Some("https://shop.example:8443/a")),
            (true, "GET /", "shop.example", None),
            (true, "GET /", "SHOP.example.", None),
            (true, "GET /", "evil.example", None),
            (false, "GET /", "www.shop.example", Some("https://shop.example/")),
        ] {
            let mut exchange = request(line, host, 80);
            exchange.https = https;
            match run(&shared, &state, &exchange).await {
                Step::Answer(answer) => assert_eq!(Some(location(&answer).as_str()), wanted, "{host}"),
                Step::Next => assert_eq!(wanted, None, "{host}"),
                Step::Refuse(_) => panic!("{host}"),
            }
        }
    }
}
