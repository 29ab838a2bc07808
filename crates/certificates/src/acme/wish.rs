//! What the operator wants of authorities, as one value.
//!
//! Owns nothing but the value: two that are equal want the same, so a reload that changes nothing here changes nothing.

use std::fmt;
use std::path::PathBuf;

use super::authority::Authority;
use super::challenge::{Choice, Ways};

/// What is wanted.
#[derive(Clone, PartialEq, Eq)]
pub struct Wish {
    /// Names to have certificates for, in lower case; the first is the canonical one.
    pub names: Vec<String>,
    /// Who is asked, in this order.
    pub authorities: Vec<Authority>,
    /// Roots (PEM) to trust for the authorities' own servers instead of the system's.
    pub ca: Option<PathBuf>,
    /// For messages about the account.
    pub email: Option<String>,
    /// External account: its id, and its key in bytes.
    pub binding: Option<(String, Vec<u8>)>,
    /// Kind of certificate, where the authority has several.
    pub profile: Option<String>,
    /// How names are proved.
    pub choice: Choice,
    /// How they can be.
    pub can: Ways,
    /// The program for dns-01.
    pub hook: Option<PathBuf>,
}

/// Without the key of the external account.
impl fmt::Debug for Wish {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let authorities: Vec<&str> = self.authorities.iter().map(|one| one.name.as_str()).collect();
        f.debug_struct("Wish")
            .field("names", &self.names)
            .field("authorities", &authorities)
            .field("choice", &self.choice)
            .finish_non_exhaustive()
    }
}
