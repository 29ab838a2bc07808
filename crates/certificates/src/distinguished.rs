//! Distinguished names as one line of text.
//!
//! Owns the form of RFC 4514, which ASGI's TLS extension asks for and nginx and Apache give in `SSL_CLIENT_S_DN`: the most
//! specific part first, and everything escaped that could pass for another part. Leaves to others what the name is of.

use std::fmt::Write as _;

use x509_parser::der_parser::asn1_rs::Oid;
use x509_parser::der_parser::oid;
use x509_parser::x509::{AttributeTypeAndValue, X509Name};

/// Kinds that have a short name (RFC 4514 §3), and the one of old that OpenSSL writes too.
fn short_name(kind: &Oid<'_>) -> Option<&'static str> {
    let table = [
        (oid!(2.5.4.3), "CN"),
        (oid!(2.5.4.7), "L"),
        (oid!(2.5.4.8), "ST"),
        (oid!(2.5.4.10), "O"),
        (oid!(2.5.4.11), "OU"),
        (oid!(2.5.4.6), "C"),
        (oid!(2.5.4.9), "STREET"),
        (oid!(0.9.2342.19200300.100.1.25), "DC"),
        (oid!(0.9.2342.19200300.100.1.1), "UID"),
        (oid!(1.2.840.113549.1.9.1), "emailAddress"),
    ];
    table.into_iter().find(|(known, _)| known == kind).map(|(_, name)| name)
}

/// `CN=alice,O=Shop\, Ltd`.
pub(crate) fn text(name: &X509Name<'_>) -> String {
    let sets: Vec<_> = name.iter_rdn().collect();
    let parts = sets.iter().rev().map(|set| set.iter().map(part).collect::<Vec<_>>().join("+"));
    parts.collect::<Vec<_>>().join(",")
}

fn part(attribute: &AttributeTypeAndValue<'_>) -> String {
    match (short_name(attribute.attr_type()), attribute.as_str()) {
        (Some(name), Ok(value)) => format!("{name}={}", escaped(value)),
        // Text that has no short name still is text; what is none is told byte by byte (RFC 4514 §2.4).
        (_, Ok(value)) => format!("{}={}", attribute.attr_type(), escaped(value)),
        (name, Err(_)) => {
            let kind = name.map_or_else(|| attribute.attr_type().to_string(), str::to_owned);
            let bytes = attribute.attr_value().data;
            let digits = bytes.iter().fold(String::new(), |mut digits, byte| {
                let _ = write!(digits, "{byte:02x}");
                digits
            });
            format!("{kind}=#{digits}")
        }
    }
}

/// RFC 4514 §2.4. Controls too, so that no name ever breaks a line.
fn escaped(value: &str) -> String {
    let last = value.chars().count().saturating_sub(1);
    let mut text = String::with_capacity(value.len());
    for (at, character) in value.chars().enumerate() {
        let at_edge = (character == ' ' && (at == 0 || at == last)) || (character == '#' && at == 0);
        match character {
            '"' | '+' | ',' | ';' | '<' | '>' | '\\' => text.extend(['\\', character]),
            _ if at_edge => text.extend(['\\', character]),
            _ if character.is_control() => {
                let mut bytes = [0; 4];
                for byte in character.encode_utf8(&mut bytes).bytes() {
                    let _ = write!(text, "\\{byte:02X}");
                }
            }
            _ => text.push(character),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_escaped() {
        for (value, wanted) in [
            ("plain", "plain"),
            ("Müller", "Müller"),
            ("Shop, Ltd", r"Shop\, Ltd"),
            (r#"a"b+c;d<e>f\g"#, r#"a\"b\+c\;d\<e\>f\\g"#),
            (" both ", r"\ both\ "),
            ("#1", r"\#1"),
            ("a#1", "a#1"),
            ("a\nb\0", r"a\0Ab\00"),
            ("", ""),
        ] {
            assert_eq!(escaped(value), wanted, "{value:?}");
        }
    }
}
