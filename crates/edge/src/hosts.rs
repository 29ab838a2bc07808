//! Which hosts are ours.
//!
//! Owns the rules of names: `ALLOWED_HOSTS` as Django reads it, `domains` as a certificate covers them. Names come as the front door
//! checked them: a name, or an address, IPv6 in its brackets. Case and one dot at the end make no difference.

use bandstand_config::{ProjectSettings, Settings};

use crate::shared::State;

/// The hosts that a project answers for: Django's `ALLOWED_HOSTS`, and `domains`; with `DEBUG` and none given, Django answers for this
/// machine only (its documentation of the setting). `None` for other apps without `domains`: they answer for any host.
pub(crate) fn of_project(settings: &Settings, said: &ProjectSettings) -> Option<Vec<String>> {
    let mut hosts = match &said.django {
        Some(django) if django.debug && django.allowed_hosts.is_empty() => {
            [".localhost", "127.0.0.1", "[::1]"].map(str::to_owned).to_vec()
        }
        Some(django) => django.allowed_hosts.clone(),
        None if settings.domains.is_empty() => return None,
        None => Vec::new(),
    };
    hosts.extend(settings.domains.iter().cloned());
    Some(hosts)
}

/// Whether the project answers for `name`, as far as it is known.
pub(crate) fn is_served(state: &State, name: &str) -> bool {
    let hosts = state.project.as_ref().and_then(|project| project.hosts.as_ref());
    hosts.is_none_or(|hosts| hosts.iter().any(|pattern| matches(pattern, name)))
}

/// Whether `name` is one that we may send a client to: `domains`, else what the project allows by name. A `*` names nobody.
pub(crate) fn is_known(state: &State, name: &str) -> bool {
    let domains = &state.settings.domains;
    if !domains.is_empty() {
        return domains.iter().any(|domain| matches(domain, name));
    }
    let hosts = state.project.as_ref().and_then(|project| project.hosts.as_ref());
    hosts.is_some_and(|hosts| hosts.iter().any(|pattern| pattern != "*" && matches(pattern, name)))
}

/// Django's rules (`django.http.request.validate_host`): `*`, `.example.com` with all below it, or the name itself; and
/// `*.example.com` for one label below it, as in certificates (RFC 6125 §6.4.3).
fn matches(pattern: &str, name: &str) -> bool {
    let name = name.strip_suffix('.').unwrap_or(name);
    if pattern == "*" {
        return true;
    }
    if let Some(parent) = pattern.strip_prefix("*.") {
        return name
            .split_once('.')
            .is_some_and(|(label, rest)| !label.is_empty() && rest.eq_ignore_ascii_case(parent));
    }
    match pattern.strip_prefix('.') {
        Some(parent) => {
            let below = name.len() > parent.len()
                && name.as_bytes()[name.len() - parent.len() - 1] == b'.'
                && name.as_bytes()[name.len() - parent.len()..].eq_ignore_ascii_case(parent.as_bytes());
            below || name.eq_ignore_ascii_case(parent)
        }
        None => name.eq_ignore_ascii_case(pattern),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_as_django_reads_them() {
        for (pattern, host, served) in [
            ("*", "anything.example", true),
            ("*", "", true),
            ("example.com", "example.com", true),
            ("example.com", "EXAMPLE.com", true),
            ("example.com", "example.com.", true),
            ("example.com", "www.example.com", false),
            (".example.com", "example.com", true),
            (".example.com", "a.b.example.com", true),
            (".example.com", "badexample.com", false),
            ("*.example.com", "a.example.com", true),
            ("*.example.com", "A.Example.com.", true),
            ("*.example.com", "a.b.example.com", false),
            ("*.example.com", "example.com", false),
            ("*.example.com", ".example.com", false),
            ("[::1]", "[::1]", true),
            ("127.0.0.1", "127.0.0.1", true),
            ("example.com", "", false),
        ] {
            assert_eq!(matches(pattern, host), served, "{pattern} {host}");
        }
    }
}
