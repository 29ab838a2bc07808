//! The PROXY header: the same wherever it is cut and whatever follows, within its bound, and readable again when it is written anew.

use std::net::SocketAddr;

use bandstand_semantics::proxy_protocol::{Found, LONGEST, read};

pub(crate) fn check(data: &[u8]) {
    match read(data) {
        Found::Partial => {
            assert!(data.len() < LONGEST);
            for cut in cuts(data.len()) {
                assert_eq!(read(&data[..cut]), Found::Partial);
            }
        }
        Found::Malformed(fault) => {
            // More bytes never make it better.
            assert_eq!(read(&[data, b"\r\nGET"].concat()), Found::Malformed(fault));
        }
        Found::Header(header) => {
            assert!((15..=LONGEST.min(data.len())).contains(&header.length));
            assert_eq!(read(&data[..header.length]), Found::Header(header), "what follows decides nothing");
            for cut in cuts(header.length) {
                assert_eq!(read(&data[..cut]), Found::Partial);
            }
            if let Some(ends) = header.addresses {
                let line = line(ends.source, ends.destination);
                let Found::Header(again) = read(line.as_bytes()) else { panic!("{line:?} is not read") };
                assert_eq!(again.addresses, header.addresses);
                assert_eq!(again.length, line.len());
            }
        }
    }
}

/// Every cut of what is short, a few of what is long.
fn cuts(length: usize) -> impl Iterator<Item = usize> {
    (0..length).step_by(length / 300 + 1)
}

fn line(source: SocketAddr, destination: SocketAddr) -> String {
    let (from, to) = (source.ip(), destination.ip());
    let ports = format!("{} {}", source.port(), destination.port());
    match (from.is_ipv4(), to.is_ipv4()) {
        (true, true) => format!("PROXY TCP4 {from} {to} {ports}\r\n"),
        (true, false) => format!("PROXY TCP6 ::ffff:{from} {to} {ports}\r\n"),
        (false, true) => format!("PROXY TCP6 {from} ::ffff:{to} {ports}\r\n"),
        (false, false) => format!("PROXY TCP6 {from} {to} {ports}\r\n"),
    }
}
