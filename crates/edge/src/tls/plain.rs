//! Plain HTTP where TLS is spoken.
//!
//! Owns the answer to a client that typed `http://host:port` for a TLS address: the same over `https://` when it asks for a
//! known name, else 400. Nothing of such a request reaches the pipeline, whatever the settings say of redirects: what is meant
//! for TLS is never served in plain. Invariant: the head is bounded, and one that makes no sense is a 400.

use std::io;

use bandstand_semantics::host::parse_host;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::hosts;
use crate::shared::State;

/// A longer head is not read to its end.
const HEAD_MOST: usize = 16 * 1024;
/// Bytes that are read and thrown away behind it.
const BODY_MOST: usize = 512 * 1024;
/// Fields of a head that are looked at.
const FIELDS_MOST: usize = 64;
const REFUSED: &str = "This address speaks HTTPS.\n";

/// Whether these first bytes of a connection could be a request and not a handshake.
pub(super) fn is_http(first: &[u8]) -> bool {
    first.first().is_some_and(u8::is_ascii_uppercase)
}

/// Answers, and ends our side. `read` has come already.
///
/// # Errors
/// The client is gone.
pub(super) async fn answer(socket: &mut TcpStream, mut read: Vec<u8>, state: &State) -> io::Result<()> {
    let (end, mut looked_to) = (b"\r\n\r\n", 0_usize);
    // What comes in drops is not looked through anew for each of them.
    while !read[looked_to.saturating_sub(end.len())..].windows(end.len()).any(|window| window == end) {
        looked_to = read.len();
        if looked_to >= HEAD_MOST || socket.read_buf(&mut read).await? == 0 {
            break;
        }
    }
    let answer = redirect(&read, state).unwrap_or_else(|| {
        let length = REFUSED.len();
        format!(
            "HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: {length}\r\n\
             Connection: close\r\n\r\n{REFUSED}"
        )
    });
    socket.write_all(answer.as_bytes()).await?;
    socket.shutdown().await?;
    // Its body, for which a closed socket would take the answer away from it (RFC 9112 §9.6).
    let mut thrown = 0;
    while thrown < BODY_MOST {
        read.clear();
        match socket.read_buf(&mut read).await? {
            0 => break,
            count => thrown += count,
        }
    }
    Ok(())
}

/// The way to the same over HTTPS. The client knows how it came here: the authority is the one it asked for.
fn redirect(head: &[u8], state: &State) -> Option<String> {
    let mut fields = [httparse::EMPTY_HEADER; FIELDS_MOST];
    let mut request = httparse::Request::new(&mut fields);
    if !request.parse(head).ok()?.is_complete() {
        return None;
    }
    let target = request.path.filter(|target| target.starts_with('/') && target.is_ascii())?;
    let mut hosts = request.headers.iter().filter(|field| field.name.eq_ignore_ascii_case("host"));
    let (host, None) = (hosts.next()?.value, hosts.next()) else { return None };
    let name = parse_host(host).ok()?.name;
    if !hosts::is_known(state, name) {
        return None;
    }
    let status = match request.method? {
        "GET" | "HEAD" => "301 Moved Permanently",
        _ => "308 Permanent Redirect",
    };
    let authority = std::str::from_utf8(host).ok()?;
    Some(format!(
        "HTTP/1.1 {status}\r\nLocation: https://{authority}{target}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::connection::h1::tests::shared;

    #[test]
    fn what_plain_requests_are_told() {
        let state = shared(|settings| settings.domains = vec!["shop.example".into()]).state();
        let get = "GET /a//b?c=%20 HTTP/1.1\r\nHost: Shop.example:8443\r\n\r\n";
        let told = redirect(get.as_bytes(), &state).unwrap();
        assert!(
            told.starts_with("HTTP/1.1 301 ")
                && told.contains("Location: https://Shop.example:8443/a//b?c=%20\r\n")
        );
        let told = redirect(get.replace("GET", "POST").as_bytes(), &state).unwrap();
        assert!(told.starts_with("HTTP/1.1 308 "), "{told}");
        for head in [
            "",
            "GET / HTTP/1.1\r\n",
            "GET / HTTP/1.1\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: evil.example\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: shop.example\r\nHost: shop.example\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a@shop.example\r\n\r\n",
            "GET http://evil.example/ HTTP/1.1\r\nHost: shop.example\r\n\r\n",
            "OPTIONS * HTTP/1.1\r\nHost: shop.example\r\n\r\n",
            "nonsense",
        ] {
            assert_eq!(redirect(head.as_bytes(), &state), None, "{head}");
        }
    }
}
