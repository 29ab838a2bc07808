//! The test of a new generation: requests made by the edge itself to one of its workers.
//!
//! Owns what is asked (`GET` of each path of `ready_check`) and what counts as well: 200, within the time that the app has
//! for any request. The request is one as a client of the project would make it: a host it answers for, and the scheme it
//! insists on. Invariant: no other worker is ever given it (`Pool::probe`).

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bandstand_semantics::framing::Framing;
use bandstand_semantics::{Fields, Version};

use crate::dispatch::Event;
use crate::exchange::{AddressText, Authority, Ends, Exchange, TargetParts};
use crate::shared::{Shared, State};
use crate::stages::queue;

/// Without `timeout` a probe still ends.
const LONGEST: Duration = Duration::from_secs(60);

/// Asks for every path of `ready_check`, one after the other.
///
/// # Errors
/// The first that was not answered with 200: a sentence.
pub(super) async fn probe(shared: Arc<Shared>, state: Arc<State>, worker: u32) -> Result<(), String> {
    let limit = state.settings.timeout.unwrap_or(LONGEST);
    for path in &state.settings.ready_check.paths {
        let answer = tokio::time::timeout(limit, status(&shared, &state, worker, path)).await;
        match answer {
            Ok(Ok(200)) => {}
            Ok(Ok(status)) => return Err(format!("{path} was answered with {status}, not 200")),
            Ok(Err(why)) => return Err(format!("{path} was not answered: {why}")),
            Err(_) => return Err(format!("{path} was not answered within {} s", limit.as_secs_f64())),
        }
    }
    Ok(())
}

async fn status(shared: &Arc<Shared>, state: &State, worker: u32, path: &str) -> Result<u16, String> {
    let mut exchange = request(state, path).ok_or("the path cannot be asked for")?;
    let request = queue::frame(state, &mut exchange).map_err(|_| "it is outside root_path")?;
    let ticket = shared.pool.probe(worker, request).ok_or("the worker is gone")?;
    loop {
        match std::future::poll_fn(|context| ticket.reply().poll_next(context)).await {
            Event::Head(head) => {
                let (head, ..) = bandstand_wire::ResponseHead::decode(&head.payload)
                    .map_err(|_| "the answer cannot be read")?;
                return Ok(head.status);
            }
            Event::Interim(_) => {}
            Event::Failed(failure) => return Err(format!("{failure:?}")),
            _ => return Err("the answer cannot be read".to_owned()),
        }
    }
}

/// `None`: the path is none.
fn request(state: &State, path: &str) -> Option<Exchange> {
    let project = state.project.as_ref();
    let https = project
        .and_then(|project| project.said.django.as_ref())
        .is_some_and(|django| django.secure_ssl_redirect);
    let host = host(project.and_then(|project| project.hosts.as_deref()));
    let (raw_path, query) = path.split_once('?').unwrap_or((path, ""));
    let parts = TargetParts {
        raw_path: (0, raw_path.len()),
        query: (path.len() - query.len(), path.len()),
        empty_query: path.ends_with('?') && query.is_empty(),
    };
    let here = IpAddr::V4(Ipv4Addr::LOCALHOST);
    let ends =
        Ends { peer: Some(SocketAddr::new(here, 0)), local: None, peer_text: AddressText::new(Some(here)) };
    let mut fields = Fields::with_capacity(1, 64);
    fields.push(b"User-Agent", b"bandstand (ready_check)");
    let mut exchange = Exchange::new(
        ends,
        Version::Http11,
        b"GET",
        path.as_bytes(),
        parts,
        Authority::parse(host.as_bytes()).ok()?,
        fields,
        Framing::None,
        Instant::now(),
    );
    exchange.path = bandstand_semantics::path::decode_path(raw_path.as_bytes()).ok()?.into_owned();
    exchange.client = Some(here);
    exchange.https = https;
    exchange.server_port = if https { 443 } else { 80 };
    Some(exchange)
}

/// A name that the project answers for: the first of its hosts that is one, else one below the first pattern.
fn host(hosts: Option<&[String]>) -> String {
    let hosts = hosts.unwrap_or_default();
    let name = hosts.iter().find(|host| *host != "*" && !host.starts_with('.'));
    let parent = || hosts.iter().find_map(|host| host.strip_prefix('.').filter(|parent| !parent.is_empty()));
    name.map(String::as_str).or_else(parent).unwrap_or("localhost").to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_to_ask_for() {
        for (hosts, wanted) in [
            (None, "localhost"),
            (Some(&[][..]), "localhost"),
            (Some(&["*"][..]), "localhost"),
            (Some(&["*", "a.example"][..]), "a.example"),
            (Some(&[".example.com"][..]), "example.com"),
            (Some(&[".localhost", "127.0.0.1", "[::1]"][..]), "127.0.0.1"),
            (Some(&[".", "[::1]"][..]), "[::1]"),
        ] {
            let hosts: Option<Vec<String>> =
                hosts.map(|hosts| hosts.iter().map(ToString::to_string).collect());
            assert_eq!(host(hosts.as_deref()), wanted, "{hosts:?}");
            assert!(Authority::parse(wanted.as_bytes()).is_ok());
        }
    }
}
