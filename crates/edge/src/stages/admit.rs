//! May this be asked here and now?
//!
//! Owns what can be refused before a byte of the body is read: a host that the project does not answer for, a body that is
//! announced as too large. Django's own check of the host stays in place behind this; here it costs no worker.

use std::sync::Arc;

use bandstand_semantics::framing::Framing;

use crate::exchange::Exchange;
use crate::pipeline::Step;
use crate::refusal::Refusal;
use crate::shared::{Shared, State};

/// The app boots for the first time: a place in the line, and no longer a wait than in any other.
pub(crate) async fn wait(shared: &Shared, state: &State) -> Result<Arc<State>, Refusal> {
    let booted = tokio::time::timeout(state.settings.queue_timeout, shared.booted()).await;
    booted.map_err(|_| Refusal::QueueTimeout)
}

pub(crate) fn run(state: &State, exchange: &Exchange) -> Step {
    if let Framing::Length(length) = exchange.framing
        && length > state.settings.max_body
    {
        return Step::Refuse(Refusal::BodyTooLarge);
    }
    if let Some(hosts) = state.project.as_ref().and_then(|project| project.hosts.as_ref())
        && !is_served(exchange.host.name(), hosts)
    {
        return Step::Refuse(Refusal::HostNotServed);
    }
    Step::Next
}

/// Django's rules (`django.http.request.validate_host`): `*`, `.example.com` with all below it, or the name itself.
fn is_served(name: &str, hosts: &[String]) -> bool {
    let name = name.strip_suffix('.').unwrap_or(name);
    hosts.iter().any(|pattern| match pattern.strip_prefix('.') {
        _ if pattern == "*" => true,
        Some(parent) => {
            let below = name.len() > parent.len()
                && name.as_bytes()[name.len() - parent.len() - 1] == b'.'
                && name.as_bytes()[name.len() - parent.len()..].eq_ignore_ascii_case(parent.as_bytes());
            below || name.eq_ignore_ascii_case(parent)
        }
        None => name.eq_ignore_ascii_case(pattern),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_as_django_reads_them() {
        for (pattern, host, served) in [
            ("*", "anything.example", true),
            ("example.com", "example.com", true),
            ("example.com", "EXAMPLE.com", true),
            ("example.com", "example.com.", true),
            ("example.com", "www.example.com", false),
            (".example.com", "example.com", true),
            (".example.com", "a.b.example.com", true),
            (".example.com", "badexample.com", false),
            ("[::1]", "[::1]", true),
            ("127.0.0.1", "127.0.0.1", true),
            ("example.com", "", false),
        ] {
            assert_eq!(is_served(host, &[pattern.to_owned()]), served, "{pattern} {host}");
        }
    }
}
