//! The way to an authority: HTTPS with bounds.
//!
//! Owns whom to trust, how long an answer may take and how large it may be, and what Retry-After says. The protocol is
//! instant-acme's. Invariant: an authority that is silent, slow or endless costs one timeout and one MiB.

use std::future::Future;
use std::path::Path;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::header::{HeaderValue, RETRY_AFTER, USER_AGENT};
use http::{Request, Response};
use http_body_util::{BodyExt, Full, Limited};
use hyper_rustls::HttpsConnector;
use hyper_util::client::legacy::Client as Pool;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use instant_acme::{BodyWrapper, BytesResponse, Error, HttpClient};
use rustls::{ClientConfig, RootCertStore};

use crate::pem;

/// For one request, its connection included.
const PATIENCE: Duration = Duration::from_secs(30);
/// Of one answer, in bytes; a long chain has 20 KiB.
const ANSWER_MOST: usize = 1 << 20;
/// Who is asking (RFC 8555 §6.1 wants to know).
const AGENT: &str = concat!("bandstand/", env!("CARGO_PKG_VERSION"));

/// A client for one attempt.
#[derive(Clone)]
pub(crate) struct Client {
    pool: Pool<HttpsConnector<HttpConnector>, BodyWrapper<Bytes>>,
    busy_until: Arc<Mutex<Option<SystemTime>>>,
}

impl Client {
    /// Trusts the roots of `ca`, else the system's.
    ///
    /// # Errors
    /// No root is there at all, or `ca` cannot be read: a sentence.
    pub(crate) fn new(ca: Option<&Path>) -> Result<Self, String> {
        let mut roots = RootCertStore::empty();
        match ca {
            None => roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs),
            Some(path) => {
                let certificates = pem::read(path).and_then(|text| pem::certificates(&text));
                let wrong = |error| format!("acme_ca = {}: {error}", path.display());
                roots.add_parsable_certificates(certificates.map_err(wrong)?)
            }
        };
        if roots.is_empty() {
            return Err(
                "this machine trusts no authority at all; install its roots (Debian: ca-certificates) \
                        or name them with acme_ca"
                    .to_owned(),
            );
        }
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| error.to_string())?
            .with_root_certificates(roots)
            .with_no_client_auth();
        let connector = hyper_rustls::HttpsConnectorBuilder::new()
            .with_tls_config(config)
            .https_only()
            .enable_http1()
            .enable_http2()
            .build();
        Ok(Self {
            pool: Pool::builder(TokioExecutor::new()).build(connector),
            busy_until: Arc::new(Mutex::new(None)),
        })
    }

    /// Until when the authority asked not to be asked again, if it refused and said so.
    pub(crate) fn busy_until(&self) -> Option<SystemTime> {
        *self.busy_until.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl HttpClient for Client {
    fn request(
        &self,
        mut request: Request<BodyWrapper<Bytes>>,
    ) -> Pin<Box<dyn Future<Output = Result<BytesResponse, Error>> + Send>> {
        let (pool, busy_until) = (self.pool.clone(), self.busy_until.clone());
        request.headers_mut().insert(USER_AGENT, HeaderValue::from_static(AGENT));
        Box::pin(async move {
            let host = request.uri().host().unwrap_or_default().to_owned();
            let exchange = async {
                let answer = pool.request(request).await.map_err(|error| unreachable_host(&host, &error))?;
                let (parts, body) = answer.into_parts();
                let body = Limited::new(body, ANSWER_MOST).collect().await.map_err(Error::Other)?;
                if matches!(parts.status.as_u16(), 429 | 503) {
                    let advice = parts.headers.get(RETRY_AFTER).and_then(retry_after);
                    *busy_until.lock().unwrap_or_else(PoisonError::into_inner) = advice;
                }
                Ok(BytesResponse::from(Response::from_parts(parts, Full::new(body.to_bytes()))))
            };
            match tokio::time::timeout(PATIENCE, exchange).await {
                Ok(outcome) => outcome,
                Err(_) => Err(Error::Other(
                    format!("{host} has not answered within {} s", PATIENCE.as_secs()).into(),
                )),
            }
        })
    }
}

/// The whole chain of causes: the outermost says no more than "client error".
fn unreachable_host(host: &str, error: &hyper_util::client::legacy::Error) -> Error {
    let mut sentence = format!("{host} cannot be reached");
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        sentence = format!("{sentence}: {error}");
        cause = error.source();
    }
    Error::Other(sentence.into())
}

/// Seconds; authorities send no dates.
fn retry_after(value: &HeaderValue) -> Option<SystemTime> {
    let seconds: u64 = value.to_str().ok()?.trim().parse().ok()?;
    Some(SystemTime::now() + Duration::from_secs(seconds.min(7 * 24 * 3600)))
}
