//! `h3load URL [--connections N] [--streams M] [--seconds S] [--warm-up W]`: a load for servers of HTTP/3.
//!
//! Owns nothing but the asking and the count. One thread, closed loop: each of `N × M` askers sends its next GET when it has
//! read the last answer to its end. Certificates are not checked. The first `W` seconds are not counted. Answers that are no
//! 2xx, and connections that end, are errors. Prints one line, `requests R errors E seconds S …`, which `bench/secure.py`
//! reads; without any good answer the exit is 1.

use std::cell::Cell;
use std::net::{SocketAddr, ToSocketAddrs};
use std::process::ExitCode;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Buf;
use http::{Request, Uri};
use quinn::crypto::rustls::QuicClientConfig;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{DigitallySignedStruct, SignatureScheme};

type Failure = Box<dyn std::error::Error>;

const USAGE: &str = "h3load URL [--connections N] [--streams M] [--seconds S] [--warm-up W]";

/// What was asked for on the command line.
struct Plan {
    uri: Uri,
    connections: usize,
    streams: usize,
    seconds: f64,
    warm_up: f64,
}

/// What has happened since the warm-up.
#[derive(Default)]
struct Count {
    counts: Cell<bool>,
    over: Cell<bool>,
    answers: Cell<u64>,
    bytes: Cell<u64>,
    errors: Cell<u64>,
}

fn main() -> ExitCode {
    let outcome = Plan::read().and_then(|plan| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let local = tokio::task::LocalSet::new();
        local.block_on(&runtime, run(plan))
    });
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("h3load: {error}");
            ExitCode::from(2)
        }
    }
}

impl Plan {
    fn read() -> Result<Self, Failure> {
        let mut plan = Self { uri: Uri::default(), connections: 4, streams: 32, seconds: 10.0, warm_up: 1.0 };
        let mut words = std::env::args().skip(1);
        while let Some(word) = words.next() {
            let mut value = || words.next().ok_or(format!("{word} wants a number"));
            match word.as_str() {
                "--connections" | "-c" => plan.connections = value()?.parse()?,
                "--streams" | "-m" => plan.streams = value()?.parse()?,
                "--seconds" | "-s" => plan.seconds = value()?.parse()?,
                "--warm-up" | "-w" => plan.warm_up = value()?.parse()?,
                flag if flag.starts_with('-') => return Err(format!("what is {flag}? {USAGE}").into()),
                url => plan.uri = url.parse()?,
            }
        }
        if plan.uri.host().is_none() {
            return Err(USAGE.into());
        }
        Ok(plan)
    }

    fn address(&self) -> Result<SocketAddr, Failure> {
        let host = self.uri.host().unwrap_or_default().trim_matches(['[', ']']);
        let port = self.uri.port_u16().unwrap_or(443);
        let mut addresses: Vec<_> = (host, port).to_socket_addrs()?.collect();
        addresses.sort(); // IPv4 first: servers under test often have no other
        addresses.first().copied().ok_or_else(|| "the name has no address".into())
    }
}

async fn run(plan: Plan) -> Result<bool, Failure> {
    let (plan, count) = (Rc::new(plan), Rc::new(Count::default()));
    let address = plan.address()?;
    let any: SocketAddr = if address.is_ipv4() { ([0; 4], 0).into() } else { ([0; 16], 0).into() };
    let endpoint = quinn::Endpoint::client(any)?;
    let config = client_config()?;
    let name = plan.uri.host().unwrap_or_default().to_owned();
    let mut askers = Vec::new();
    for _ in 0..plan.connections {
        let quic = endpoint.connect_with(config.clone(), address, &name)?.await?;
        let (mut driver, requests) = h3::client::new(h3_quinn::Connection::new(quic)).await?;
        tokio::task::spawn_local(async move { driver.wait_idle().await });
        for _ in 0..plan.streams {
            askers.push(tokio::task::spawn_local(ask(requests.clone(), plan.clone(), count.clone())));
        }
    }
    tokio::time::sleep(Duration::from_secs_f64(plan.warm_up)).await;
    count.counts.set(true);
    let begun = Instant::now();
    tokio::time::sleep(Duration::from_secs_f64(plan.seconds)).await;
    count.over.set(true);
    let took = begun.elapsed().as_secs_f64();
    askers.iter().for_each(|asker| asker.abort());
    let (answers, errors) = (count.answers.get(), count.errors.get());
    println!(
        "requests {answers} errors {errors} seconds {took:.3} ({:.0} requests/s, {:.1} MB/s, {} connections, {} streams)",
        answers as f64 / took,
        count.bytes.get() as f64 / took / 1e6,
        plan.connections,
        plan.streams,
    );
    endpoint.close(0x100u32.into(), b"");
    let _ = tokio::time::timeout(Duration::from_secs(1), endpoint.wait_idle()).await;
    Ok(answers > 0)
}

type Requests = h3::client::SendRequest<h3_quinn::OpenStreams, bytes::Bytes>;

/// One asker, until it is stopped.
async fn ask(mut requests: Requests, plan: Rc<Plan>, count: Rc<Count>) {
    while !count.over.get() {
        match one(&mut requests, &plan.uri).await {
            Ok((status, _)) if !(200..300).contains(&status) => count.error(&format!("status {status}")),
            Ok((_, bytes)) => {
                if count.counts.get() {
                    count.answers.set(count.answers.get() + 1);
                    count.bytes.set(count.bytes.get() + bytes);
                }
            }
            Err(error) => return count.error(&*error),
        }
    }
}

impl Count {
    /// The first is said.
    fn error(&self, error: &(impl std::fmt::Display + ?Sized)) {
        if self.errors.get() == 0 {
            eprintln!("h3load: {error}");
        }
        self.errors.set(self.errors.get() + 1);
    }
}

async fn one(requests: &mut Requests, uri: &Uri) -> Result<(u16, u64), Failure> {
    let mut request = Request::new(());
    *request.uri_mut() = uri.clone();
    let mut stream = requests.send_request(request).await?;
    stream.finish().await?;
    let answer = stream.recv_response().await?;
    let mut bytes = 0;
    while let Some(piece) = stream.recv_data().await? {
        bytes += piece.remaining() as u64;
    }
    Ok((answer.status().as_u16(), bytes))
}

fn client_config() -> Result<quinn::ClientConfig, Failure> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut tls = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anybody))
        .with_no_client_auth();
    tls.alpn_protocols = vec![b"h3".to_vec()];
    Ok(quinn::ClientConfig::new(Arc::new(QuicClientConfig::try_from(tls)?)))
}

/// Takes any certificate: what is measured is on this machine.
#[derive(Debug)]
struct Anybody;

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        rustls::crypto::aws_lc_rs::default_provider().signature_verification_algorithms.supported_schemes()
    }
}
