//! May this be asked here and now?
//!
//! Owns what can be refused before a byte of the body is read: a host that the project does not answer for, a body that is
//! announced as too large. Django's own check of the host stays in place behind this; here it costs no worker.

use bandstand_semantics::framing::Framing;

use crate::exchange::Exchange;
use crate::pipeline::Step;
use crate::refusal::Refusal;
use crate::shared::Shared;

pub(crate) async fn run(shared: &Shared, exchange: &Exchange) -> Step {
    if let Framing::Length(length) = exchange.framing
        && length > shared.settings.max_body
    {
        return Step::Refuse(Refusal::BodyTooLarge);
    }
    let project = match shared.project.get() {
        Some(project) => project,
        // The app is still booting: a place in the line, and no longer a wait than in any other.
        None => match tokio::time::timeout(shared.settings.queue_timeout, shared.project()).await {
            Ok(project) => project,
            Err(_) => return Step::Refuse(Refusal::QueueTimeout),
        },
    };
    if let Some(hosts) = &project.hosts
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
