//! An authority that does what a test says: it answers over HTTPS on a free port, signs what it is told to, and remembers what it
//! was asked for. No signature of a client is verified. Source: RFC 8555 §7, RFC 9773 §4.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, SystemTime};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rcgen::{CertificateParams, CertificateSigningRequestParams, CertifiedIssuer, KeyPair, SerialNumber};
use rustls::ServerConfig;
use rustls_pki_types::PrivateKeyDer;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio_rustls::TlsAcceptor;

/// What it does, and what it has seen.
#[derive(Default)]
pub(super) struct Script {
    /// Names that are refused, each with the kind of problem.
    pub(super) refuses: BTreeMap<String, &'static str>,
    /// Names that are never judged.
    pub(super) forgets: BTreeSet<String>,
    /// Start and end of the window that it suggests, in RFC 3339.
    pub(super) window: Option<(String, String)>,
    pub(super) profiles: Vec<&'static str>,
    /// What new orders are answered with instead: status, kind, seconds to wait.
    pub(super) busy: Option<(u16, &'static str, u32)>,
    /// Called when a certificate is fetched.
    pub(super) before_handing_out: Option<Box<dyn Fn() + Send>>,
    /// Payloads of all orders.
    pub(super) orders: Vec<Value>,
    /// Names that it was told to look for.
    pub(super) validated: Vec<String>,
    /// Paths of all requests.
    pub(super) asked: Vec<String>,
    pub(super) issued: usize,
    states: Vec<State>,
}

#[derive(Default, Clone)]
struct State {
    names: Vec<String>,
    /// By name: `pending`, `valid`, `invalid`.
    judged: Vec<&'static str>,
    chain: Option<String>,
    replaces: Option<Value>,
}

/// The authority. It ends with the runtime of the test.
pub(super) struct Scripted {
    pub(super) directory: String,
    /// PEM, to be trusted.
    pub(super) root: String,
    script: Arc<Mutex<Script>>,
    /// Told whenever a name is to be looked for.
    pub(super) looks: Arc<Notify>,
}

struct Signer(CertifiedIssuer<'static, KeyPair>);

impl Scripted {
    pub(super) async fn start() -> Self {
        let key = KeyPair::generate().unwrap();
        let own = CertificateParams::new(["127.0.0.1".to_owned()]).unwrap().self_signed(&key).unwrap();
        let config =
            ServerConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
                .with_safe_default_protocol_versions()
                .unwrap()
                .with_no_client_auth()
                .with_single_cert(vec![own.der().clone()], PrivateKeyDer::Pkcs8(key.serialize_der().into()))
                .unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("https://{}", listener.local_addr().unwrap());
        let mut parameters = CertificateParams::default();
        parameters.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let signer = CertifiedIssuer::self_signed(parameters, KeyPair::generate().unwrap()).unwrap();
        let scripted = Self {
            directory: format!("{base}/dir"),
            root: own.pem(),
            script: Arc::default(),
            looks: Arc::default(),
        };
        let (script, looks) = (scripted.script.clone(), scripted.looks.clone());
        tokio::spawn(accept(
            listener,
            TlsAcceptor::from(Arc::new(config)),
            base,
            script,
            Arc::new(Signer(signer)),
            looks,
        ));
        scripted
    }

    pub(super) fn script(&self) -> MutexGuard<'_, Script> {
        self.script.lock().unwrap()
    }
}

async fn accept(
    listener: TcpListener,
    tls: TlsAcceptor,
    base: String,
    script: Arc<Mutex<Script>>,
    signer: Arc<Signer>,
    looks: Arc<Notify>,
) {
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        let (tls, base, script, signer, looks) =
            (tls.clone(), base.clone(), script.clone(), signer.clone(), looks.clone());
        tokio::spawn(async move { serve(stream, tls, &base, &script, &signer, &looks).await });
    }
}

/// One connection, to its end.
async fn serve(
    stream: TcpStream,
    tls: TlsAcceptor,
    base: &str,
    script: &Mutex<Script>,
    signer: &Signer,
    looks: &Notify,
) -> Option<()> {
    let mut stream = tls.accept(stream).await.ok()?;
    let mut read = Vec::new();
    loop {
        let head = loop {
            if let Some(end) = read.windows(4).position(|end| end == b"\r\n\r\n") {
                break String::from_utf8(read.drain(..end + 4).collect()).ok()?;
            }
            (stream.read_buf(&mut read).await.ok()? > 0).then_some(())?;
        };
        let length = head
            .lines()
            .find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length: ").map(str::to_owned));
        let length: usize = length.map_or(0, |length| length.trim().parse().unwrap());
        while read.len() < length {
            (stream.read_buf(&mut read).await.ok()? > 0).then_some(())?;
        }
        let body: Vec<u8> = read.drain(..length).collect();
        let path = head.split(' ').nth(1)?.to_owned();
        let answer = answer(base, &path, &payload(&body), &mut script.lock().unwrap(), signer, looks);
        stream.write_all(answer.as_bytes()).await.ok()?;
    }
}

/// What a JWS says.
fn payload(body: &[u8]) -> Value {
    let jws: Value = serde_json::from_slice(body).unwrap_or_default();
    let bytes = URL_SAFE_NO_PAD.decode(jws["payload"].as_str().unwrap_or_default()).unwrap_or_default();
    serde_json::from_slice(&bytes).unwrap_or_default()
}

fn answer(
    base: &str,
    path: &str,
    payload: &Value,
    script: &mut Script,
    signer: &Signer,
    looks: &Notify,
) -> String {
    script.asked.push(path.to_owned());
    let parts: Vec<&str> = path.trim_start_matches('/').split('/').collect();
    let number = |at: usize| parts.get(at).and_then(|text| text.parse::<usize>().ok()).unwrap_or(0);
    match parts[0] {
        "dir" => {
            let profiles: BTreeMap<&str, &str> = script.profiles.iter().map(|name| (*name, "")).collect();
            let mut directory = json!({"newNonce": format!("{base}/nonce"), "newAccount": format!("{base}/account"),
                "newOrder": format!("{base}/order"), "meta": {"profiles": profiles}});
            if script.window.is_some() {
                directory["renewalInfo"] = json!(format!("{base}/renewal"));
            }
            said(200, "", &directory)
        }
        "account" => said(201, &format!("Location: {base}/account/1\r\n"), &json!({"status": "valid"})),
        "order" if parts.len() == 1 => new_order(base, payload, script),
        "order" => said(200, "", &order(base, number(1), &script.states[number(1)])),
        "authorization" => said(200, "", &authorization(base, number(1), number(2), script)),
        "challenge" => {
            judge(number(1), number(2), script);
            looks.notify_one();
            said(200, "", &challenge(base, number(1), number(2), script))
        }
        "finalize" => {
            let csr = URL_SAFE_NO_PAD.decode(payload["csr"].as_str().unwrap()).unwrap();
            script.issued += 1;
            let chain = sign(signer, &csr, script.issued);
            script.states[number(1)].chain = Some(chain);
            said(200, "", &order(base, number(1), &script.states[number(1)]))
        }
        "certificate" => {
            if let Some(before) = &script.before_handing_out {
                before();
            }
            written(200, "", &script.states[number(1)].chain.clone().unwrap())
        }
        "renewal" => {
            let (start, end) = script.window.clone().unwrap();
            said(200, "Retry-After: 21600\r\n", &json!({"suggestedWindow": {"start": start, "end": end}}))
        }
        _ => said(200, "", &Value::Null),
    }
}

fn new_order(base: &str, payload: &Value, script: &mut Script) -> String {
    script.orders.push(payload.clone());
    if let Some((status, kind, wait)) = script.busy {
        let problem = json!({"type": format!("urn:ietf:params:acme:error:{kind}"), "detail": "too many"});
        return said(status, &format!("Retry-After: {wait}\r\n"), &problem);
    }
    let identifiers = payload["identifiers"].as_array().unwrap();
    let names: Vec<String> =
        identifiers.iter().map(|one| one["value"].as_str().unwrap().to_owned()).collect();
    let judged = vec!["pending"; names.len()];
    script.states.push(State { names, judged, chain: None, replaces: payload.get("replaces").cloned() });
    let number = script.states.len() - 1;
    said(201, &format!("Location: {base}/order/{number}\r\n"), &order(base, number, &script.states[number]))
}

fn order(base: &str, number: usize, state: &State) -> Value {
    let all = |wanted: &str| state.judged.iter().all(|judged| *judged == wanted);
    let status = match () {
        () if state.chain.is_some() => "valid",
        () if state.judged.contains(&"invalid") => "invalid",
        () if all("valid") => "ready",
        () => "pending",
    };
    let authorizations: Vec<String> =
        (0..state.names.len()).map(|name| format!("{base}/authorization/{number}/{name}")).collect();
    json!({"status": status, "authorizations": authorizations, "finalize": format!("{base}/finalize/{number}"),
        "replaces": state.replaces, "certificate": state.chain.as_ref().map(|_| format!("{base}/certificate/{number}"))})
}

fn authorization(base: &str, number: usize, name: usize, script: &Script) -> Value {
    let state = &script.states[number];
    json!({"identifier": {"type": "dns", "value": state.names[name]}, "status": state.judged[name],
        "challenges": [challenge(base, number, name, script)]})
}

fn challenge(base: &str, number: usize, name: usize, script: &Script) -> Value {
    let state = &script.states[number];
    let error = script.refuses.get(&state.names[name]).filter(|_| state.judged[name] == "invalid");
    let error = error.map(
        |kind| json!({"type": format!("urn:ietf:params:acme:error:{kind}"), "detail": "looked in vain"}),
    );
    json!({"type": "http-01", "url": format!("{base}/challenge/{number}/{name}"), "status": state.judged[name],
        "token": "a-token-of-twenty-two-characters", "error": error})
}

fn judge(number: usize, name: usize, script: &mut Script) {
    let text = script.states[number].names[name].clone();
    script.validated.push(text.clone());
    script.states[number].judged[name] = match () {
        () if script.forgets.contains(&text) => "pending",
        () if script.refuses.contains_key(&text) => "invalid",
        () => "valid",
    };
}

/// For ninety days from now on.
fn sign(signer: &Signer, csr: &[u8], serial: usize) -> String {
    let mut request = CertificateSigningRequestParams::from_der(&csr.to_vec().into()).unwrap();
    request.params.use_authority_key_identifier_extension = true;
    request.params.serial_number = Some(SerialNumber::from(serial as u64));
    let now = SystemTime::now();
    request.params.not_before = (now - Duration::from_secs(3600)).into();
    request.params.not_after = (now + Duration::from_secs(90 * 24 * 3600)).into();
    let leaf = request.signed_by(&signer.0).unwrap();
    leaf.pem() + &signer.0.pem()
}

fn said(status: u16, fields: &str, body: &Value) -> String {
    written(status, fields, &body.to_string())
}

fn written(status: u16, fields: &str, body: &str) -> String {
    format!(
        "HTTP/1.1 {status} OK\r\nReplay-Nonce: again\r\nContent-Length: {}\r\n{fields}\r\n{body}",
        body.len()
    )
}
