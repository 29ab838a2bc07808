//! Values that say how often one may ask, and with which password.
//!
//! Owns the spelling of rates of requests and the form of hashes; whether a password fits one is the edge's. Invariant: a hash has the
//! form of bcrypt or argon2id with bounded cost, so that no request can be made to take minutes; no complaint repeats a password.
//! Source: crypt(5) for `$2…$`, the PHC string format for `$argon2id$`, htpasswd(1) for files.

use super::{Complaint, complain, text};
use crate::access::{Passwords, Rate};
use crate::raw::{Raw, What};
use crate::units;
use crate::value::Value;

/// Shown wherever a hash does not fit.
const MAKE_ONE: &str =
    "`htpasswd -nB NAME` prints a line with a bcrypt hash; argon2id ($argon2id$…) is taken too";

/// `10/s`, `100/m burst 20`, or `off`.
pub(super) fn rate(raw: &Raw) -> Result<Value, Complaint> {
    let written = match &raw.what {
        What::Switch(false) | What::Integer { value: 0, .. } => return Ok(Value::Off),
        What::Integer { value, .. } => {
            return complain(raw, format!("{value} has no time"), "write 10/s, 100/m, 1000/h, or off");
        }
        _ => text(raw)?.trim(),
    };
    if ["off", "0"].contains(&written) {
        return Ok(Value::Off);
    }
    match units::read_request_rate(written) {
        Some((requests, per, burst)) => Ok(Value::RequestRate(Rate { requests, per, burst, id: 0 })),
        None => complain(
            raw,
            format!("{written:?} is no rate of requests"),
            "write 10/s, 100/m, 1000/h or \"10/s burst 20\", from 1 to 1000000 of each, or off",
        ),
    }
}

/// `name:hash` texts, or the path of one htpasswd file. Nothing is split at commas: argon2's hashes have some.
pub(super) fn passwords(raw: &Raw) -> Result<Value, Complaint> {
    let items = match &raw.what {
        What::Switch(false) => return Ok(Value::Off),
        What::Text(text) if text.trim() == "off" => return Ok(Value::Off),
        What::Text(text) if !text.contains(':') => {
            let file = super::path(raw)?;
            return Ok(Value::Passwords(Passwords { pairs: Vec::new(), file: Some(file) }));
        }
        What::List(items) => &items[..],
        _ => std::slice::from_ref(raw),
    };
    let mut pairs = Vec::new();
    for item in items {
        if let Err(why) = add(&mut pairs, text(item)?.trim()) {
            return complain(item, why, MAKE_ONE);
        }
    }
    match pairs.is_empty() {
        true => complain(raw, "names nobody", "write off, or give somebody a password"),
        false => Ok(Value::Passwords(Passwords { pairs, file: None })),
    }
}

/// The lines of an htpasswd file.
///
/// # Errors
/// The line, from 1, and what is wrong with it; line 0 for the whole.
pub(crate) fn htpasswd(file: &str) -> Result<Vec<(String, String)>, (usize, String)> {
    let mut pairs = Vec::new();
    for (index, line) in file.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        add(&mut pairs, line).map_err(|why| (index + 1, format!("{why}; {MAKE_ONE}")))?;
    }
    match pairs.is_empty() {
        true => Err((0, "names nobody".to_owned())),
        false => Ok(pairs),
    }
}

/// Adds `name:hash`; what follows another colon is a comment, as for nginx.
fn add(pairs: &mut Vec<(String, String)>, written: &str) -> Result<(), String> {
    let Some((name, rest)) = written.split_once(':') else {
        return Err("is not name:hash".to_owned());
    };
    let hash = rest.split(':').next().unwrap_or(rest);
    if name.is_empty() || name.chars().any(char::is_control) {
        return Err("has no proper name before the colon".to_owned());
    }
    if pairs.iter().any(|(other, _)| other == name) {
        return Err(format!("{name:?} is there twice"));
    }
    check_hash(hash).map_err(|why| format!("the hash of {name:?} {why}"))?;
    pairs.push((name.to_owned(), hash.to_owned()));
    Ok(())
}

fn check_hash(hash: &str) -> Result<(), &'static str> {
    if let Some(rest) = ["$2y$", "$2b$", "$2a$"].iter().find_map(|start| hash.strip_prefix(start)) {
        return bcrypt(rest);
    }
    if let Some(rest) = hash.strip_prefix("$argon2id$") {
        return argon2id(rest);
    }
    Err(match hash {
        _ if hash.starts_with("$apr1$") || hash.starts_with("$1$") => "is MD5, which is guessed quickly",
        _ if hash.starts_with("{SHA}") => "is SHA-1, which is guessed quickly",
        _ if hash.starts_with('$') => "is of a kind that is not taken",
        _ => "is none: is it the password itself?",
    })
}

/// Two digits of cost, `$`, 22 characters of salt and 31 of hash.
fn bcrypt(rest: &str) -> Result<(), &'static str> {
    let Some((cost, tail)) = rest.split_once('$') else { return Err("is cut off") };
    let plain = |b: u8| b.is_ascii_alphanumeric() || b == b'.' || b == b'/';
    if cost.len() != 2 || tail.len() != 53 || !tail.bytes().all(plain) {
        return Err("has not the form of bcrypt's");
    }
    match cost.parse::<u8>() {
        Ok(4..=16) => Ok(()),
        Ok(_) => Err("has a cost outside 4 to 16, which no request should take"),
        Err(_) => Err("has not the form of bcrypt's"),
    }
}

/// `v=19$m=65536,t=3,p=4$salt$hash`, both in base64 without padding.
fn argon2id(rest: &str) -> Result<(), &'static str> {
    const FORM: &str = "has not the form of argon2id's";
    let parts: Vec<&str> = rest.split('$').collect();
    let &["v=19", costs, salt, hash] = &parts[..] else { return Err(FORM) };
    let base64 = |text: &str| text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'+' || b == b'/');
    if salt.len() < 11 || hash.len() < 16 || !base64(salt) || !base64(hash) || salt.len() + hash.len() > 256 {
        return Err(FORM);
    }
    let mut numbers = [0; 3];
    let mut costs = costs.split(',');
    for (number, name) in numbers.iter_mut().zip(["m=", "t=", "p="]) {
        let digits = costs.next().and_then(|cost| cost.strip_prefix(name)).ok_or(FORM)?;
        *number = digits.parse::<u32>().map_err(|_| FORM)?;
    }
    let [kibibytes, rounds, lanes] = numbers;
    match costs.next() {
        Some(_) => Err(FORM),
        None if kibibytes > 1 << 20 || !(1..=64).contains(&rounds) || !(1..=64).contains(&lanes) => {
            Err("costs more memory or time than a request should take")
        }
        None if kibibytes < 8 * lanes => Err(FORM),
        None => Ok(()),
    }
}
