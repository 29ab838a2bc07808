//! Turns without a server: `bandstand cert renew` and `cert check` while none runs.
//!
//! Owns a listener for http-01 on the server's own plain addresses, as long as the turn takes. It answers tokens and nothing
//! else. Blocks. Invariant: what a client sends is read up to a bound and to a deadline.

use std::collections::HashMap;
use std::future::Future;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::challenge::Stage;
use super::due::Zeal;
use super::keeper::{self, Rehearsal, Turn};
use super::wish::Wish;
use crate::pem::Pair;
use crate::storage::Storage;

/// For one client.
const PATIENCE: Duration = Duration::from_secs(10);
/// Of what it asks, in bytes.
const HEAD_MOST: usize = 8 * 1024;
/// Clients at once.
const CLIENTS_MOST: usize = 64;

/// One turn, with a listener of its own at `plain`.
///
/// # Errors
/// An address cannot be listened on: a sentence.
pub fn turn(wish: &Wish, storage: &Storage, plain: &[SocketAddr], zeal: Zeal) -> Result<Turn, String> {
    storage.prepare()?;
    listening(wish, plain, |wish, stage| async move { keeper::turn(&wish, storage, &stage, zeal).await })
}

/// One rehearsal, with a listener of its own at `plain`.
///
/// # Errors
/// As [`turn`].
pub fn rehearse(wish: &Wish, storage: &Storage, plain: &[SocketAddr]) -> Result<Vec<Rehearsal>, String> {
    storage.prepare()?;
    listening(wish, plain, |wish, stage| async move { keeper::rehearse(&wish, storage, &stage).await })
}

fn listening<T, F: Future<Output = T>>(
    wish: &Wish,
    plain: &[SocketAddr],
    work: impl FnOnce(Wish, Arc<dyn Stage>) -> F,
) -> Result<T, String> {
    let mut wish = wish.clone();
    wish.can.alpn = false;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| format!("no runtime: {error}"))?;
    runtime.block_on(async {
        let tokens = Arc::new(Tokens::default());
        let mut listeners = JoinSet::new();
        for address in plain.iter().filter(|_| wish.can.http && !wish.can.dns) {
            let listener = TcpListener::bind(address).await.map_err(|error| {
                format!("{address} cannot be listened on for the authority's look (http-01): {error}")
            })?;
            listeners.spawn(accept(listener, tokens.clone()));
        }
        Ok(work(wish, tokens).await)
    })
}

async fn accept(listener: TcpListener, tokens: Arc<Tokens>) {
    let mut clients = JoinSet::new();
    loop {
        tokio::select! {
            client = listener.accept(), if clients.len() < CLIENTS_MOST => match client {
                Ok((stream, _)) => {
                    let tokens = tokens.clone();
                    clients.spawn(async move { timeout(PATIENCE, answer(stream, &tokens)).await });
                }
                Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
            },
            Some(_) = clients.join_next() => {}
        }
    }
}

async fn answer(mut stream: TcpStream, tokens: &Tokens) -> std::io::Result<()> {
    let mut head = Vec::new();
    while !head.windows(4).any(|end| end == b"\r\n\r\n") && head.len() < HEAD_MOST {
        if stream.read_buf(&mut head).await? == 0 {
            return Ok(());
        }
    }
    let answer = match token(&head).and_then(|token| tokens.lock().get(token).cloned()) {
        Some(proof) => format!(
            "HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{proof}",
            proof.len()
        ),
        None => "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".to_owned(),
    };
    stream.write_all(answer.as_bytes()).await?;
    stream.shutdown().await
}

/// The token that is asked for.
fn token(head: &[u8]) -> Option<&str> {
    let line = std::str::from_utf8(head.split(|byte| *byte == b'\r').next()?).ok()?;
    line.strip_prefix("GET /.well-known/acme-challenge/")?.strip_suffix(" HTTP/1.1")
}

#[derive(Default)]
struct Tokens(Mutex<HashMap<String, String>>);

impl Tokens {
    fn lock(&self) -> MutexGuard<'_, HashMap<String, String>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Stage for Tokens {
    fn put_http(&self, token: &str, answer: &str) {
        self.lock().insert(token.to_owned(), answer.to_owned());
    }

    fn remove_http(&self, token: &str) {
        self.lock().remove(token);
    }

    // Without TLS here that way is never taken: `listening` says so.
    fn put_alpn(&self, _: &str, _: Pair) {}

    fn remove_alpn(&self, _: &str) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Row 66.
    #[tokio::test]
    async fn row_66_only_known_tokens_are_answered() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let tokens = Arc::new(Tokens::default());
        tokens.put_http("known", "known.proof");
        let _accepting = tokio::spawn(accept(listener, tokens.clone()));
        for (path, wanted) in [
            ("/.well-known/acme-challenge/known", "200 OK"),
            ("/.well-known/acme-challenge/other", "404 Not Found"),
            ("/.well-known/acme-challenge/known/", "404 Not Found"),
            ("/.well-known/acme-challenge/", "404 Not Found"),
            ("/", "404 Not Found"),
        ] {
            let mut stream = TcpStream::connect(address).await.unwrap();
            stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n").as_bytes()).await.unwrap();
            let mut said = String::new();
            stream.read_to_string(&mut said).await.unwrap();
            assert!(said.starts_with(&format!("HTTP/1.1 {wanted}\r\n")), "{path}: {said}");
            assert_eq!(said.ends_with("\r\n\r\nknown.proof"), wanted == "200 OK", "{path}");
        }
    }
}
