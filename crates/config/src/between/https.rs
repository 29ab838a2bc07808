//! The rules between keys of certificates and of proxies.
//!
//! Owns what would otherwise be found out by the first client: keys without certificates, TLS without a source of them, a
//! challenge without its program. Invariant: what passes here can be acted on without a guess.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;

use crate::bind::{Bind, Scheme};
use crate::problem::{Place, Problem};
use crate::raw::Origin;
use crate::value::Value;

/// Adds a problem for each rule that is broken.
pub(super) fn between_keys(
    values: &BTreeMap<&'static str, Value>,
    origins: &BTreeMap<&'static str, Origin>,
    problems: &mut Vec<Problem>,
) {
    let on = |key: &str| values.get(key) == Some(&Value::Switch(true));
    let word =
        |key: &str, wanted: &str| matches!(values.get(key), Some(Value::Word(word)) if *word == wanted);
    let is_set = |key: &str| !matches!(values.get(key), None | Some(Value::Unset | Value::Off));
    let texts = |key: &str| match values.get(key) {
        Some(Value::Texts(texts)) => &texts[..],
        _ => &[],
    };
    let paths = |key: &str| match values.get(key) {
        Some(Value::Paths(paths)) => &paths[..],
        _ => &[],
    };
    let mut refuse = |key: &str, sentence: String, hint: &str| {
        let place = origins.get(key).map_or(Place::Nowhere, |origin| Place::of(origin, &(0..0)));
        problems.push(Problem::new(place, sentence, hint));
    };
    if let Some(sentence) = unpaired(paths("tls_cert"), paths("tls_key")) {
        let hint =
            "the first key is that of the first certificate, and so on; a folder of certbot's needs none";
        refuse("tls_key", sentence, hint);
    }
    let (domains, local) = (texts("domains"), on("local_https"));
    if !local && let Some(address) = domains.iter().find(|name| name.parse::<IpAddr>().is_ok()) {
        let hint = "write names; addresses are for local_https";
        refuse("domains", format!("`domains` has the address {address}"), hint);
    }
    let wildcard = domains.iter().find(|name| name.starts_with("*."));
    if !local
        && !word("acme_challenge", "dns-01")
        && paths("tls_cert").is_empty()
        && let Some(name) = wildcard
    {
        let hint = "set acme_challenge to dns-01, with acme_dns_hook";
        refuse("domains", format!("`domains` has {name}, which only dns-01 can prove"), hint);
    }
    if word("acme_challenge", "dns-01") && !is_set("acme_dns_hook") {
        let hint = "name the program that sets a DNS record";
        refuse("acme_challenge", "`acme_challenge` dns-01 needs `acme_dns_hook`".into(), hint);
    }
    if let Some(Value::Binds(binds)) = values.get("bind")
        && domains.is_empty()
        && paths("tls_cert").is_empty()
        && !local
        && let Some(bind) = binds.iter().find(|bind| is_https(bind))
    {
        let hint = "set domains, tls_cert or local_https";
        refuse("bind", format!("`bind` has {bind}, and there is no source of certificates"), hint);
    }
    let trusts_nobody = match values.get("trusted_proxies") {
        Some(Value::Networks(networks)) => networks.networks.is_empty() && !networks.unix,
        _ => true,
    };
    if on("proxy_protocol") && trusts_nobody {
        let hint = "name the proxies that send it, such as 10.0.0.0/8 or private";
        refuse("proxy_protocol", "`proxy_protocol` needs `trusted_proxies`".into(), hint);
    }
}

fn is_https(bind: &Bind) -> bool {
    matches!(bind, Bind::Tcp { scheme: Some(Scheme::Https), .. })
}

/// As many keys as files of certificates, or none at all.
fn unpaired(certificates: &[PathBuf], keys: &[PathBuf]) -> Option<String> {
    let files = certificates.iter().filter(|path| !path.is_dir()).count();
    (!keys.is_empty() && keys.len() != files).then(|| {
        format!("`tls_key` has {}, and `tls_cert` {}", counted(keys.len(), "key"), counted(files, "file"))
    })
}

fn counted(number: usize, noun: &str) -> String {
    if number == 1 { format!("1 {noun}") } else { format!("{number} {noun}s") }
}
