//! Clients of the control socket: let in, read one request, answered, closed.
//!
//! Owns the bounds: who may ask, how many at once, how long a request may be and take, how long a client may leave its answer
//! unread. What is asked is `protocol.rs`'s, what is done `obey.rs`'s. Invariant: no client makes the server hold more than one
//! request and one answer for it, and none holds its place without end. Source: unix(7), SO_PEERCRED.

use std::future::Future;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Map, Value};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Semaphore, mpsc};
use tokio::time::timeout;

use super::obey::Desk;
use super::protocol::{self, Command, REQUEST_MOST};
use super::socket::Control;
use crate::server::orders::Orders;
use crate::shared::Shared;

/// Clients at once.
const CLIENTS_MOST: usize = 32;
/// For the whole request.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
/// For one line of the answer.
const SEND_TIMEOUT: Duration = Duration::from_secs(10);
/// After a failed accept, which means that descriptors have run out.
const PAUSE: Duration = Duration::from_millis(200);

/// What an answer ends with: its fields, or why there are none.
pub(super) type Outcome = Result<Map<String, Value>, String>;
/// Takes sentences that say how far it is.
pub(super) type Steps = mpsc::UnboundedSender<String>;

impl Control {
    /// Answers clients, once the socket is ours, until it is dropped, which cuts what is under way, or until the socket is handed over, which does not.
    pub(crate) async fn serve(&self, shared: Arc<Shared>, orders: Orders) {
        self.ours().await;
        let listener = match self.listener() {
            Ok(listener) => listener,
            Err(error) => {
                tracing::error!(%error, "the control socket cannot be used");
                return;
            }
        };
        let desk = Desk { shared, orders };
        let answer = move |command, steps| desk.clone().answer(command, steps);
        accept(listener, answer, self.handed_over()).await;
    }
}

/// Lets clients in and gives what they ask to `answer`, until `end`; then those that are in are answered.
pub(super) async fn accept<A, F>(listener: UnixListener, answer: A, end: impl Future<Output = ()>)
where
    A: Fn(Command, Steps) -> F + Clone + Send + 'static,
    F: Future<Output = Outcome> + Send + 'static,
{
    let places = Arc::new(Semaphore::new(CLIENTS_MOST));
    let mut clients = tokio::task::JoinSet::new();
    tokio::pin!(end);
    loop {
        while clients.try_join_next().is_some() {}
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = &mut end => break,
        };
        let mut stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(%error, "the control socket cannot accept a client");
                tokio::time::sleep(PAUSE).await;
                continue;
            }
        };
        if !may_ask(&stream) {
            continue;
        }
        let Ok(place) = places.clone().try_acquire_owned() else {
            // What fits into the socket's buffer is there at once; more is not tried for one too many.
            let _ =
                stream.try_write(&protocol::done(Err(format!("{CLIENTS_MOST} clients are being served"))));
            continue;
        };
        let answer = answer.clone();
        clients.spawn(async move {
            // A client that leaves has its reason.
            let _ = attend(&mut stream, answer).await;
            drop(place);
        });
    }
    drop(listener);
    while clients.join_next().await.is_some() {}
}

/// The file's mode says the same; a descriptor that was passed on does not.
fn may_ask(stream: &UnixStream) -> bool {
    let ours = rustix::process::geteuid().as_raw();
    match stream.peer_cred() {
        Ok(peer) if peer.uid() == 0 || peer.uid() == ours => true,
        Ok(peer) => {
            tracing::warn!(uid = peer.uid(), "the control socket does not listen to this user");
            false
        }
        Err(_) => false,
    }
}

async fn attend<A, F>(stream: &mut UnixStream, answer: A) -> io::Result<()>
where
    A: Fn(Command, Steps) -> F,
    F: Future<Output = Outcome>,
{
    let request = match timeout(REQUEST_TIMEOUT, request(stream)).await {
        Ok(request) => request?,
        Err(_) => Err(format!("no request within {} s", REQUEST_TIMEOUT.as_secs())),
    };
    let command = match request.and_then(|line| Command::read(&line)) {
        Ok(command) => command,
        Err(why) => return send(stream, &protocol::done(Err(why))).await,
    };
    let (steps, mut taken) = mpsc::unbounded_channel();
    let outcome = answer(command, steps);
    tokio::pin!(outcome);
    let outcome = loop {
        tokio::select! {
            biased;
            Some(step) = taken.recv() => send(stream, &protocol::progress(&step)).await?,
            outcome = &mut outcome => break outcome,
        }
    };
    while let Ok(step) = taken.try_recv() {
        send(stream, &protocol::progress(&step)).await?;
    }
    send(stream, &protocol::done(outcome)).await
}

/// One line. The inner error is the client's, to be told.
async fn request(stream: &mut UnixStream) -> io::Result<Result<Vec<u8>, String>> {
    let mut line = Vec::new();
    loop {
        let read = stream.read_buf(&mut line).await?;
        if let Some(end) = line[line.len() - read..].iter().position(|byte| *byte == b'\n') {
            line.truncate(line.len() - read + end);
            return Ok(Ok(line));
        }
        if read == 0 {
            return Ok(Err("the request is cut: a line ends with a newline".to_owned()));
        }
        if line.len() >= REQUEST_MOST {
            return Ok(Err(format!("the request is longer than {REQUEST_MOST} bytes")));
        }
    }
}

async fn send(stream: &mut UnixStream, line: &[u8]) -> io::Result<()> {
    match timeout(SEND_TIMEOUT, stream.write_all(line)).await {
        Ok(written) => written,
        Err(_) => Err(io::ErrorKind::TimedOut.into()),
    }
}
