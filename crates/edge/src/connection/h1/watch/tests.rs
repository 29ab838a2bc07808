//! Clients that shut their side, close or stay silent, over TCP, where both look alike; and streams when the server stops.

use std::time::Duration;

use bandstand_wire::{Flags, Kind, board};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::super::super::registry;
use super::super::super::websocket::tests::{Got, Site, head, site, soon};
use super::super::{Connection, Stream};
use crate::exchange::{AddressText, Ends};
use crate::shared::Phase;

const SIGN: &str = "HTTP/1.1 102 Processing\r\n\r\n";

struct Client(TcpStream);

impl Client {
    async fn connect(site: &Site) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (ours, _) = listener.accept().await.unwrap();
        let ends = Ends { peer: None, local: None, peer_text: AddressText::new(None) };
        let place = registry::enter(&site.shared, None).unwrap();
        tokio::spawn(Connection::new(site.shared.clone(), Stream::Tcp(ours), ends, None, place).run());
        Self(client)
    }

    /// Asks, and gives what the worker got, begun.
    async fn ask(site: &mut Site, text: &str) -> (Self, Got) {
        let mut client = Self::connect(site).await;
        client.0.write_all(text.as_bytes()).await.unwrap();
        let got = site.worker.frame().await;
        assert_eq!(got.header.kind, Kind::Request);
        assert!(board::take(site.worker.board.word(got.header.place), got.header.id));
        (client, got)
    }

    async fn until(&mut self, end: &str) -> String {
        let mut bytes = Vec::new();
        soon(end, async {
            while !bytes.ends_with(end.as_bytes()) {
                bytes.push(self.0.read_u8().await.unwrap());
            }
        })
        .await;
        String::from_utf8(bytes).unwrap()
    }

    async fn rest(&mut self) -> String {
        let mut bytes = Vec::new();
        soon("the end", self.0.read_to_end(&mut bytes)).await.unwrap();
        String::from_utf8(bytes).unwrap()
    }
}

fn get(version: &str) -> String {
    format!("GET / HTTP/{version}\r\nHost: a.example\r\n\r\n")
}

/// The next frame is a `Cancel` of this request, with these flags.
async fn cancelled(site: &mut Site, got: &Got, flags: Flags) {
    let told = site.worker.frame().await.header;
    assert_eq!((told.kind, told.id, told.flags), (Kind::Cancel, got.header.id, flags));
}

async fn begin_stream(site: &mut Site, client: &mut Client, got: &Got, kind: &str) {
    let mut bytes = head(200, &[("Content-Type", kind)]);
    bytes.extend_from_slice(b"first");
    site.worker.say(Kind::Response, Flags::NONE, got, &bytes).await;
    client.until("first\r\n").await;
    assert_eq!(site.worker.frame().await.header.kind, Kind::Grant);
}

#[tokio::test]
async fn a_client_that_has_only_shut_its_side_is_asked_and_gets_its_answer() {
    let mut site = site(|_| {}).await;
    for behind in ["", "GET /"] {
        let (mut client, got) = Client::ask(&mut site, &(get("1.1") + behind)).await;
        client.0.shutdown().await.unwrap();
        assert_eq!(client.until("\r\n\r\n").await, SIGN);
        site.worker.say(Kind::Response, Flags::WHOLE, &got, &head(200, &[])).await;
        assert!(client.rest().await.starts_with("HTTP/1.1 200 OK\r\n"), "asked once");
    }
}

#[tokio::test]
async fn a_client_that_has_closed_is_noticed_while_the_app_works() {
    let mut site = site(|_| {}).await;
    for text in [get("1.1"), get("1.0"), get("1.1") + &get("1.1"), get("1.1") + "GE"] {
        let (client, got) = Client::ask(&mut site, &text).await;
        drop(client);
        cancelled(&mut site, &got, Flags::NONE).await;
    }
}

#[tokio::test]
async fn a_client_that_has_left_behind_bytes_that_nobody_reads_yet_is_noticed() {
    let mut site = site(|_| {}).await;
    let (client, got) = Client::ask(&mut site, &get("1.1").repeat(2)).await;
    client.0.set_zero_linger().unwrap();
    drop(client);
    cancelled(&mut site, &got, Flags::NONE).await;
}

#[tokio::test]
async fn a_stream_with_nothing_to_say_ends_when_its_client_has_sent_fin() {
    let mut site = site(|_| {}).await;
    let (mut client, got) = Client::ask(&mut site, &get("1.1")).await;
    begin_stream(&mut site, &mut client, &got, "text/event-stream").await;
    client.0.shutdown().await.unwrap();
    cancelled(&mut site, &got, Flags::NONE).await;
}

#[tokio::test]
async fn streams_that_know_no_end_do_not_hold_up_the_stop() {
    for (kind, end) in [("text/event-stream; charset=utf-8", "0\r\n\r\n"), ("text/csv", "")] {
        let mut site = site(|settings| settings.graceful_timeout = Duration::from_millis(40)).await;
        let (mut client, got) = Client::ask(&mut site, &get("1.1")).await;
        begin_stream(&mut site, &mut client, &got, kind).await;
        site.shared.phase.send_replace(Phase::Draining);
        site.shared.connections.wake_all();
        cancelled(&mut site, &got, Flags::BROKEN).await;
        assert_eq!(client.rest().await, end, "{kind}");
    }
}

#[tokio::test]
async fn what_is_known_to_end_is_waited_for_at_the_stop() {
    let mut site = site(|settings| settings.graceful_timeout = Duration::from_millis(40)).await;
    let (mut client, got) = Client::ask(&mut site, &get("1.1")).await;
    let mut bytes = head(200, &[("Content-Length", "7")]);
    bytes.extend_from_slice(b"abc");
    site.worker.say(Kind::Response, Flags::NONE, &got, &bytes).await;
    client.until("abc").await;
    assert_eq!(site.worker.frame().await.header.kind, Kind::Grant);
    // One that is cut tells the time: it was begun later.
    let (mut other, cut) = Client::ask(&mut site, &get("1.1")).await;
    begin_stream(&mut site, &mut other, &cut, "text/csv").await;
    site.shared.phase.send_replace(Phase::Draining);
    site.shared.connections.wake_all();
    cancelled(&mut site, &cut, Flags::BROKEN).await;
    site.worker.say(Kind::Chunk, Flags::NONE, &got, b"defg").await;
    site.worker.say(Kind::End, Flags::NONE, &got, &1_u32.to_le_bytes()).await;
    assert_eq!(client.until("g").await, "defg");
}
