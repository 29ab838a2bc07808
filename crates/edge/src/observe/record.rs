//! One access record an exchange, written when it is over, whatever became of it.
//!
//! Owns the record's keys (`SURFACE.md`) and both of its forms. A `Record` writes itself on drop, so an exchange that
//! ends early (the client left, the server stops) is recorded with what is known. `counters.rs` is fed in the same place,
//! also where there is no log.

use std::fmt::Write as _;
use std::io::IsTerminal;
use std::net::IpAddr;
use std::time::{Duration, Instant, SystemTime};

use bandstand_config::{Destination, LogFormat};
use bandstand_semantics::Version;
use rustix::fs::Uid;

use super::counters::{Counters, Outcome};
use super::logging::{is_json, json_string, rfc3339};
use super::pretty::{self, Seen};
use super::sink::{Sink, Target};
use crate::dev::note::Note;
use crate::dispatch::reply::Trace;
use crate::exchange::Exchange;
use crate::tls::TlsFacts;

/// Where access records go.
pub(crate) struct AccessLog {
    sink: Sink,
    json: bool,
    colour: bool,
}

impl AccessLog {
    /// Opens it; `None` when it is off. `owner`: see `Sink::open`.
    ///
    /// # Errors
    /// The file cannot be opened for appending, or not be given away; the error names it.
    pub(crate) fn open(
        destination: &Destination,
        format: LogFormat,
        owner: Option<Uid>,
    ) -> std::io::Result<Option<Self>> {
        let (target, terminal) = match destination {
            Destination::Off => return Ok(None),
            Destination::Stdout => (Target::Stdout, std::io::stdout().is_terminal()),
            Destination::File(path) => (Target::File(path.clone()), false),
        };
        let (sink, _thread) = Sink::open(&target, owner)?;
        let json = is_json(format, terminal);
        Ok(Some(Self { sink, json, colour: terminal && std::env::var_os("NO_COLOR").is_none() }))
    }

    /// See `Sink::reopen`; returns when it is done.
    ///
    /// # Errors
    /// A sentence; lines go to the former file.
    pub(crate) async fn reopen(&self) -> Result<(), String> {
        let outcome = match self.sink.reopen() {
            Ok(answer) => answer.await.unwrap_or_else(|_| Err(std::io::ErrorKind::BrokenPipe.into())),
            Err(error) => Err(error),
        };
        outcome.map_err(|error| format!("the access log cannot be opened anew: {error}"))
    }

    /// See `Sink::flush`.
    pub(crate) fn flush(&self) {
        self.sink.flush();
    }
}

/// What is known of an exchange while it runs.
pub(crate) struct Record<'a> {
    log: Option<&'a AccessLog>,
    counters: Option<&'a Counters>,
    started: Instant,
    request_id: String,
    client: Option<IpAddr>,
    scheme: &'static str,
    host: String,
    method: String,
    path: String,
    protocol: &'static str,
    /// Version of TLS on our own connection.
    tls: Option<&'static str>,
    pub(crate) status: u16,
    pub(crate) bytes_in: u64,
    pub(crate) bytes_out: u64,
    pub(crate) refusal: Option<&'static str>,
    pub(crate) trace: Trace,
    submitted: Option<Instant>,
    note: Option<Box<Note>>,
    is_noise: bool,
}

impl<'a> Record<'a> {
    /// Begins a record; costs nothing when the log is off.
    pub(crate) fn of(exchange: &Exchange, log: Option<&'a AccessLog>) -> Self {
        let text = |bytes: &[u8]| {
            if log.is_some() { String::from_utf8_lossy(bytes).into_owned() } else { String::new() }
        };
        Self {
            log,
            counters: None,
            started: exchange.started,
            request_id: text(exchange.request_id.as_bytes()),
            client: exchange.client.or(exchange.ends.peer.map(|peer| peer.ip().to_canonical())),
            scheme: if exchange.https { "https" } else { "http" },
            host: text(exchange.host.as_bytes()),
            method: text(exchange.method()),
            path: text(exchange.raw_path()),
            protocol: exchange.version.as_protocol(),
            tls: exchange.tls.as_ref().map(|tls| tls.version),
            status: 0,
            bytes_in: exchange.bytes_in,
            bytes_out: 0,
            refusal: None,
            trace: exchange.trace,
            submitted: exchange.submitted,
            note: exchange.note.clone(),
            is_noise: exchange.is_noise,
        }
    }

    /// A record of something that never became a request.
    pub(crate) fn of_refused(peer: Option<IpAddr>, log: Option<&'a AccessLog>, started: Instant) -> Self {
        Self {
            log,
            counters: None,
            started,
            request_id: String::new(),
            client: peer,
            scheme: "http",
            host: String::new(),
            method: String::new(),
            path: String::new(),
            protocol: "HTTP/1.1",
            tls: None,
            status: 0,
            bytes_in: 0,
            bytes_out: 0,
            refusal: None,
            trace: Trace::default(),
            submitted: None,
            note: None,
            is_noise: false,
        }
    }

    /// It came in this version of HTTP.
    pub(crate) fn over(mut self, version: Version) -> Self {
        self.protocol = version.as_protocol();
        self
    }

    /// It came over TLS.
    pub(crate) fn secured(mut self, tls: Option<&TlsFacts>) -> Self {
        self.tls = tls.map(|tls| tls.version);
        self.scheme = if tls.is_some() { "https" } else { self.scheme };
        self
    }

    /// It counts, whether or not there is a log.
    pub(crate) fn counted(mut self, counters: &'a Counters) -> Self {
        self.counters = Some(counters);
        self
    }

    fn count(&self, counters: &Counters) {
        counters.record(&Outcome {
            status: self.status,
            bytes_in: self.bytes_in,
            bytes_out: self.bytes_out,
            total: self.started.elapsed(),
            queue: self.queue_time(),
            app_us: self.trace.service_us,
        });
    }

    fn queue_time(&self) -> Option<Duration> {
        let (from, to) = (self.submitted?, self.trace.assigned?);
        Some(to.saturating_duration_since(from))
    }

    fn json(&self) -> String {
        let mut line = String::with_capacity(512);
        let _ = write!(line, "{{\"time\":\"{}\"", rfc3339(SystemTime::now()));
        let mut text = |name: &str, value: &str| {
            let _ = write!(line, ",\"{name}\":");
            json_string(&mut line, value);
        };
        text("request_id", &self.request_id);
        text("client", &self.client.map(|client| client.to_string()).unwrap_or_default());
        text("scheme", self.scheme);
        text("host", &self.host);
        text("method", &self.method);
        text("path", &self.path);
        text("protocol", self.protocol);
        let _ = write!(
            line,
            ",\"status\":{},\"bytes_in\":{},\"bytes_out\":{},\"duration_ms\":{:.3}",
            self.status,
            self.bytes_in,
            self.bytes_out,
            self.started.elapsed().as_secs_f64() * 1e3
        );
        optional(
            &mut line,
            "queue_ms",
            self.queue_time().map(|time| format!("{:.3}", time.as_secs_f64() * 1e3)),
        );
        optional(&mut line, "app_ms", self.trace.service_us.map(|us| format!("{:.3}", f64::from(us) / 1e3)));
        optional(&mut line, "worker", self.trace.worker.map(|number| number.to_string()));
        optional(&mut line, "generation", self.trace.generation.map(|number| number.to_string()));
        // No cache yet: the key is there for those who read the log. Routes are known in `dev`.
        optional(&mut line, "route", self.note.as_ref().and_then(|note| note.route.as_deref()).map(quoted));
        optional(&mut line, "cache", None);
        optional(&mut line, "tls", self.tls.map(|version| format!("\"{version}\"")));
        if let Some(note) = &self.note {
            optional(&mut line, "db_queries", Some(note.sql.to_string()));
            optional(&mut line, "db_ms", Some(format!("{:.2}", note.sql_ms)));
        }
        optional(&mut line, "refusal", self.refusal.map(|name| format!("\"{name}\"")));
        line.push_str("}\n");
        line
    }

    fn pretty(&self, colour: bool) -> String {
        let time = rfc3339(SystemTime::now());
        let seen = Seen {
            clock: time.get(11..19).unwrap_or(&time),
            method: &self.method,
            path: &self.path,
            status: self.status,
            bytes: self.bytes_out,
            took: self.started.elapsed(),
            worker: self.trace.worker,
            refusal: self.refusal,
            note: self.note.as_deref(),
        };
        pretty::line(&seen, colour)
    }
}

fn quoted(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    json_string(&mut quoted, text);
    quoted
}

/// Absent values are null, so that every record has the same keys.
fn optional(line: &mut String, name: &str, value: Option<String>) {
    let _ = write!(line, ",\"{name}\":{}", value.as_deref().unwrap_or("null"));
}

impl Drop for Record<'_> {
    fn drop(&mut self) {
        if let Some(counters) = self.counters {
            self.count(counters);
        }
        if let Some(log) = self.log
            && !self.is_noise
        {
            let line = if log.json { self.json() } else { self.pretty(log.colour) };
            log.sink.line(line.into_bytes());
        }
    }
}
