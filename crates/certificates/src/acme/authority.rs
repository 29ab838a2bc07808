//! Authorities: their short names, their test twins, what their name is in CAA records.
//!
//! Owns the table of those that are known; any other is its directory's address. Source: the authorities' own documents;
//! RFC 8659 for CAA.

/// What is known of an authority.
struct Row {
    name: &'static str,
    directory: &'static str,
    /// Where orders cost nothing and rate limits are wide.
    staging: Option<&'static str>,
    /// Values of `issue` that allow it; none: not known.
    caa: &'static [&'static str],
    /// It opens accounts only for those who have one already (`acme_eab`).
    needs_binding: bool,
}

const LETSENCRYPT_STAGING: &str = "https://acme-staging-v02.api.letsencrypt.org/directory";

const TABLE: &[Row] = &[
    Row {
        name: "letsencrypt",
        directory: "https://acme-v02.api.letsencrypt.org/directory",
        staging: Some(LETSENCRYPT_STAGING),
        caa: &["letsencrypt.org"],
        needs_binding: false,
    },
    Row {
        name: "letsencrypt-staging",
        directory: LETSENCRYPT_STAGING,
        staging: None,
        caa: &["letsencrypt.org"],
        needs_binding: false,
    },
    Row {
        name: "zerossl",
        directory: "https://acme.zerossl.com/v2/DV90",
        staging: None,
        caa: &["sectigo.com", "zerossl.com"],
        needs_binding: true,
    },
    Row {
        name: "google",
        directory: "https://dv.acme-v02.api.pki.goog/directory",
        staging: Some("https://dv.acme-v02.test-api.pki.goog/directory"),
        caa: &["pki.goog"],
        needs_binding: true,
    },
    Row {
        name: "buypass",
        directory: "https://api.buypass.com/acme/directory",
        staging: Some("https://api.test4.buypass.no/acme/directory"),
        caa: &["buypass.com", "buypass.no"],
        needs_binding: false,
    },
];

/// Somebody who issues certificates.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Authority {
    /// For people: a short name, or the host of the directory.
    pub name: String,
    /// Address of the directory.
    pub directory: String,
    /// Address of its twin for tests.
    pub staging: Option<String>,
    /// Values of `issue` in CAA records that allow it; empty: not known.
    pub caa: Vec<String>,
    /// Without `acme_eab` it opens no account.
    pub needs_binding: bool,
}

impl Authority {
    /// By a short name of the table, or the address of a directory.
    pub fn of(text: &str) -> Self {
        match TABLE.iter().find(|row| row.name == text || row.directory == text) {
            Some(row) => Self {
                name: row.name.to_owned(),
                directory: row.directory.to_owned(),
                staging: row.staging.map(str::to_owned),
                caa: row.caa.iter().map(|caa| (*caa).to_owned()).collect(),
                needs_binding: row.needs_binding,
            },
            None => Self {
                name: host(text).to_owned(),
                directory: text.to_owned(),
                staging: None,
                caa: Vec::new(),
                needs_binding: false,
            },
        }
    }

    /// The twin, as an authority of its own.
    pub fn rehearsal(&self) -> Option<Self> {
        self.staging.as_deref().map(Self::of)
    }
}

fn host(address: &str) -> &str {
    let rest = address.split_once("://").map_or(address, |(_, rest)| rest);
    rest.split('/').next().unwrap_or(rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_addresses() {
        for (text, name, has_twin) in [
            ("letsencrypt", "letsencrypt", true),
            ("https://acme-v02.api.letsencrypt.org/directory", "letsencrypt", true),
            ("letsencrypt-staging", "letsencrypt-staging", false),
            ("zerossl", "zerossl", false),
            ("google", "google", true),
            ("buypass", "buypass", true),
            ("https://ca.internal:9000/acme/acme/directory", "ca.internal:9000", false),
        ] {
            let authority = Authority::of(text);
            assert_eq!(
                (authority.name.as_str(), authority.rehearsal().is_some()),
                (name, has_twin),
                "{text}"
            );
            assert!(authority.directory.starts_with("https://"), "{text}");
        }
    }

    /// A twin of a twin would never be left again.
    #[test]
    fn a_twin_has_no_twin() {
        for row in TABLE {
            if let Some(twin) = Authority::of(row.name).rehearsal() {
                assert_eq!(twin.rehearsal(), None, "{}", row.name);
            }
        }
    }
}
