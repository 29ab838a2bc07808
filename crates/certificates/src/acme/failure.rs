//! Why there is no certificate, and whose fault it is: that decides what is tried next.
//!
//! Owns the reading of an authority's problems (RFC 8555 §6.7). Invariant: a name is blamed only where the authority has
//! judged it; everything else costs nobody a failed validation.

use instant_acme::{Error, Identifier, Problem};

use super::authority::Authority;

/// Bad nonces in a row for one step, each after the three tries of instant-acme: beyond that the authority is broken.
pub(crate) const NONCES: u32 = 20;

/// Repeats a step whose nonce was refused, which RFC 8555 §6.5 allows an authority at any time.
macro_rules! patiently {
    ($step:expr) => {{
        let mut left = $crate::acme::failure::NONCES;
        loop {
            match $step.await {
                Err(error) if left > 0 && is_bad_nonce(&error) => left -= 1,
                outcome => break outcome,
            }
        }
    }};
}
pub(crate) use patiently;

/// Why there is no certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Failure {
    /// The authority has refused these names; none: one of those that were asked for, it does not say which.
    Names(Vec<Refused>),
    /// The authority is not there, or does nothing for us now.
    Authority(String),
    /// It does not know our account.
    NoAccount(String),
    /// Here: a disk, a hook, a setting.
    Ours(String),
}

/// A name that was refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refused {
    pub(crate) name: String,
    /// For people.
    pub(crate) why: String,
    /// Another authority may be allowed what this one is not (CAA, policy).
    pub(crate) elsewhere: bool,
}

impl Failure {
    pub(crate) fn ours(why: impl Into<String>) -> Self {
        Self::Ours(why.into())
    }

    pub(crate) fn authority(authority: &Authority, why: &str) -> Self {
        Self::Authority(format!("{}: {why}", authority.name))
    }

    /// What an error of a step means; `names` are those that were asked for.
    pub(crate) fn of(authority: &Authority, error: Error, names: &[String]) -> Self {
        let Error::Api(problem) = error else { return Self::authority(authority, &error.to_string()) };
        let sentence = sentence(&problem);
        match kind(&problem) {
            "accountDoesNotExist" => Self::NoAccount(format!("{}: {sentence}", authority.name)),
            "rejectedIdentifier" | "unsupportedIdentifier" | "caa" | "malformed" if !names.is_empty() => {
                Self::Names(blamed(authority, &problem, names))
            }
            _ => Self::authority(authority, &sentence),
        }
    }
}

/// A name that was judged and refused.
pub(crate) fn refused(authority: &Authority, name: &str, way: &str, problem: Option<&Problem>) -> Refused {
    let why = problem.map_or_else(|| "no reason was given".to_owned(), sentence);
    Refused {
        name: name.to_owned(),
        why: format!("{} could not verify it by {way}: {why}", authority.name),
        elsewhere: problem.is_some_and(|problem| kind(problem) == "caa"),
    }
}

fn blamed(authority: &Authority, problem: &Problem, names: &[String]) -> Vec<Refused> {
    let of = |name: &str, why: &str| Refused {
        name: name.to_owned(),
        why: format!("{} refused it: {why}", authority.name),
        elsewhere: true,
    };
    if let [name] = names {
        return vec![of(name, &sentence(problem))];
    }
    let parts = problem.subproblems.iter().filter_map(|part| {
        let Some(Identifier::Dns(name)) = &part.identifier else { return None };
        let asked = names.iter().find(|asked| asked.strip_prefix("*.").unwrap_or(asked) == name)?;
        Some(of(asked, part.detail.as_deref().unwrap_or("no reason was given")))
    });
    parts.collect()
}

pub(crate) fn is_bad_nonce(error: &Error) -> bool {
    matches!(error, Error::Api(problem) if kind(problem) == "badNonce")
}

fn kind(problem: &Problem) -> &str {
    let kind = problem.r#type.as_deref().unwrap_or_default();
    kind.strip_prefix("urn:ietf:params:acme:error:").unwrap_or(kind)
}

/// What the authority says, on one line, with its word for it. Bounded: it goes into logs and onto the disk.
fn sentence(problem: &Problem) -> String {
    const MOST: usize = 500;
    let detail = problem.detail.as_deref().unwrap_or("no reason was given");
    let detail: String = detail.chars().map(|c| if c.is_control() { ' ' } else { c }).take(MOST).collect();
    match kind(problem) {
        "" => detail,
        kind => format!("{detail} ({kind})"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(problem: &str, names: &[&str]) -> Failure {
        let problem = Error::Api(serde_json::from_str(problem).unwrap());
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        Failure::of(&Authority::of("https://ca.test/dir"), problem, &names)
    }

    fn names(failure: &Failure) -> Vec<&str> {
        let Failure::Names(refused) = failure else { panic!("{failure:?}") };
        refused.iter().map(|refused| refused.name.as_str()).collect()
    }

    #[test]
    fn whose_fault() {
        let urn = |kind: &str| format!(r#"{{"type":"urn:ietf:params:acme:error:{kind}","detail":"d\ne"}}"#);
        for kind in ["rateLimited", "serverInternal", "badNonce", "unauthorized", "userActionRequired"] {
            let wanted = Failure::Authority(format!("ca.test: d e ({kind})"));
            assert_eq!(of(&urn(kind), &["a.test"]), wanted);
        }
        assert!(matches!(of(&urn("accountDoesNotExist"), &["a.test"]), Failure::NoAccount(_)));
        assert_eq!(names(&of(&urn("rejectedIdentifier"), &["a.test"])), ["a.test"]);
        assert!(
            names(&of(&urn("rejectedIdentifier"), &["a.test", "b.test"])).is_empty(),
            "which one is not said"
        );
        assert!(matches!(of(&urn("malformed"), &[]), Failure::Authority(_)), "no name was asked for");
        let parts = r#"{"type":"urn:ietf:params:acme:error:rejectedIdentifier","subproblems":[
            {"identifier":{"type":"dns","value":"b.test"},"detail":"no"},
            {"identifier":{"type":"dns","value":"other.test"},"detail":"no"}]}"#;
        assert_eq!(names(&of(parts, &["a.test", "*.b.test"])), ["*.b.test"]);
    }

    #[test]
    fn what_is_said_is_bounded() {
        let long = format!(r#"{{"detail":"{}"}}"#, "x".repeat(10_000));
        let Failure::Authority(said) = of(&long, &["a.test"]) else { panic!() };
        assert!(said.len() < 600);
    }
}
