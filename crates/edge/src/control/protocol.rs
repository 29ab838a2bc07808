//! What is said over the control socket: one line of JSON a request, lines of JSON as its answer.
//!
//! Owns the words: the version, the commands and what they take, the form of an answer. Pure: bytes in, bytes out. Moving them is
//! `serve.rs`'s and `client.rs`'s, doing what is asked `obey.rs`'s. Invariant: every answer ends with exactly one line that
//! has `"done":true`. `docs/reference/control.md` describes it for those who write a client.

use serde_json::{Map, Value, json};

/// Version of the protocol: the value of `bandstand` in a request. New fields and commands do not change it.
pub const VERSION: u64 = 1;
/// Longest request, its newline included, in bytes.
pub(crate) const REQUEST_MOST: usize = 64 * 1024;

/// What is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// The state of everything.
    Status {
        /// With the proportional memory of each process, which takes the kernel milliseconds a process.
        pss: bool,
    },
    /// What runs now.
    Requests,
    /// Python stacks.
    Stacks(Whose),
    /// Another number of workers.
    Scale(Scale),
    /// Settings, project and code again.
    Reload,
    /// The end.
    Stop {
        /// What runs is cut.
        now: bool,
    },
    /// Log files anew.
    Reopen,
    /// All workers finish and leave.
    Drain,
    /// What there is of certificates.
    Certificates,
    /// Certificates of the authority on the network, anew where that is due.
    Renew {
        /// Where it is not due too.
        force: bool,
    },
    /// The authorities' test twins asked whether they would issue.
    Rehearse,
}

/// Whose stacks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Whose {
    /// Of all workers.
    All,
    /// Of the worker with this number.
    Worker(u32),
    /// Of the thread or task that works on the request with this id.
    Request(String),
}

/// How many workers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scale {
    /// So many, at least 1.
    To(usize),
    /// So many more, or fewer.
    By(i32),
}

/// The words of the commands; documents, messages and the parser read them here.
const COMMANDS: &[&str] = &[
    "status",
    "requests",
    "stacks",
    "scale",
    "reload",
    "stop",
    "reopen",
    "drain",
    "certificates",
    "renew",
    "rehearse",
];

impl Command {
    /// Reads a request; unknown fields are passed over.
    ///
    /// # Errors
    /// A sentence for the one who asked.
    pub(crate) fn read(line: &[u8]) -> Result<Self, String> {
        let request: Map<String, Value> = serde_json::from_slice(line)
            .map_err(|error| format!("the request is no JSON object: {error}"))?;
        match request.get("bandstand") {
            Some(version) if version.as_u64() == Some(VERSION) => {}
            Some(version) => {
                return Err(format!(
                    "version {version} of the protocol is not spoken here, version {VERSION} is"
                ));
            }
            None => {
                return Err(format!(
                    "the request does not say its version: begin with {{\"bandstand\":{VERSION}"
                ));
            }
        }
        let name = request.get("command").and_then(Value::as_str);
        match name {
            Some("status") => Ok(Self::Status { pss: switch(&request, "pss")? }),
            Some("requests") => Ok(Self::Requests),
            Some("stacks") => whose(&request).map(Self::Stacks),
            Some("scale") => scale(&request).map(Self::Scale),
            Some("reload") => Ok(Self::Reload),
            Some("stop") => Ok(Self::Stop { now: switch(&request, "now")? }),
            Some("reopen") => Ok(Self::Reopen),
            Some("drain") => Ok(Self::Drain),
            Some("certificates") => Ok(Self::Certificates),
            Some("renew") => Ok(Self::Renew { force: switch(&request, "force")? }),
            Some("rehearse") => Ok(Self::Rehearse),
            Some(name) => Err(format!("there is no command `{name}`; there are {}", COMMANDS.join(", "))),
            None => Err(format!("the request has no `command`; there are {}", COMMANDS.join(", "))),
        }
    }

    /// The request as a line.
    pub(crate) fn write(&self) -> Vec<u8> {
        let (name, fields) = match self {
            Self::Status { pss } => ("status", json!({ "pss": pss })),
            Self::Requests => ("requests", json!({})),
            Self::Stacks(Whose::All) => ("stacks", json!({})),
            Self::Stacks(Whose::Worker(number)) => ("stacks", json!({ "worker": number })),
            Self::Stacks(Whose::Request(id)) => ("stacks", json!({ "request": id })),
            Self::Scale(Scale::To(workers)) => ("scale", json!({ "to": workers })),
            Self::Scale(Scale::By(workers)) => ("scale", json!({ "by": workers })),
            Self::Reload => ("reload", json!({})),
            Self::Stop { now } => ("stop", json!({ "now": now })),
            Self::Reopen => ("reopen", json!({})),
            Self::Drain => ("drain", json!({})),
            Self::Certificates => ("certificates", json!({})),
            Self::Renew { force } => ("renew", json!({ "force": force })),
            Self::Rehearse => ("rehearse", json!({})),
        };
        let mut request = json!({ "bandstand": VERSION, "command": name });
        if let (Some(request), Value::Object(fields)) = (request.as_object_mut(), fields) {
            request.extend(fields);
        }
        line(&request)
    }
}

fn switch(request: &Map<String, Value>, name: &str) -> Result<bool, String> {
    match request.get(name) {
        None | Some(Value::Null) => Ok(false),
        Some(Value::Bool(on)) => Ok(*on),
        Some(other) => Err(format!("`{name}` is true or false, not {other}")),
    }
}

fn whose(request: &Map<String, Value>) -> Result<Whose, String> {
    match (request.get("worker"), request.get("request")) {
        (None, None) => Ok(Whose::All),
        (Some(worker), None) => {
            let number = worker.as_u64().and_then(|number| u32::try_from(number).ok());
            number
                .map(Whose::Worker)
                .ok_or_else(|| format!("`worker` is the number of a worker, not {worker}"))
        }
        (None, Some(Value::String(id))) => Ok(Whose::Request(id.clone())),
        (None, Some(other)) => Err(format!("`request` is the id of a request, a text, not {other}")),
        (Some(_), Some(_)) => Err("stacks are of a `worker` or of a `request`, not of both".to_owned()),
    }
}

fn scale(request: &Map<String, Value>) -> Result<Scale, String> {
    match (request.get("to"), request.get("by")) {
        (Some(to), None) => {
            let workers = to.as_u64().and_then(|workers| usize::try_from(workers).ok()).filter(|n| *n > 0);
            workers.map(Scale::To).ok_or_else(|| format!("`to` is a number of workers from 1, not {to}"))
        }
        (None, Some(by)) => {
            let workers = by.as_i64().and_then(|workers| i32::try_from(workers).ok());
            workers.map(Scale::By).ok_or_else(|| format!("`by` is a number of workers such as -1, not {by}"))
        }
        _ => Err("scale takes either `to` or `by`".to_owned()),
    }
}

/// A line that says how far it is.
pub(crate) fn progress(sentence: &str) -> Vec<u8> {
    line(&json!({ "progress": sentence }))
}

/// The last line of an answer: what was asked for, or why not.
pub(crate) fn done(outcome: Result<Map<String, Value>, String>) -> Vec<u8> {
    let mut last = Map::new();
    last.insert("done".to_owned(), true.into());
    last.insert("ok".to_owned(), outcome.is_ok().into());
    match outcome {
        Ok(fields) => last.extend(fields),
        Err(why) => {
            last.insert("error".to_owned(), why.into());
        }
    }
    line(&Value::Object(last))
}

/// JSON has no newline but in texts, and there it is escaped.
fn line(value: &Value) -> Vec<u8> {
    let mut line = value.to_string().into_bytes();
    line.push(b'\n');
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests() {
        for (fields, wanted) in [
            (r#""command":"status""#, Command::Status { pss: false }),
            (r#""command":"status","pss":true,"of":["later"]"#, Command::Status { pss: true }),
            (r#""command":"requests""#, Command::Requests),
            (r#""command":"stacks""#, Command::Stacks(Whose::All)),
            (r#""command":"stacks","worker":3"#, Command::Stacks(Whose::Worker(3))),
            (r#""command":"stacks","request":"01J""#, Command::Stacks(Whose::Request("01J".into()))),
            (r#""command":"scale","to":4"#, Command::Scale(Scale::To(4))),
            (r#""command":"scale","by":-2"#, Command::Scale(Scale::By(-2))),
            (r#""command":"reload""#, Command::Reload),
            (r#""command":"stop""#, Command::Stop { now: false }),
            (r#""command":"stop","now":true"#, Command::Stop { now: true }),
            (r#""command":"reopen""#, Command::Reopen),
            (r#""command":"drain""#, Command::Drain),
            (r#""command":"certificates""#, Command::Certificates),
            (r#""command":"renew""#, Command::Renew { force: false }),
            (r#""command":"renew","force":true"#, Command::Renew { force: true }),
            (r#""command":"rehearse""#, Command::Rehearse),
        ] {
            let line = format!("{{\"bandstand\":1,{fields}}}");
            assert_eq!(Command::read(line.as_bytes()).as_ref(), Ok(&wanted), "{line}");
            assert_eq!(
                Command::read(&wanted.write()),
                Ok(wanted),
                "what a client writes is what a server reads"
            );
        }
    }

    #[test]
    fn requests_that_are_refused() {
        for (line, why) in [
            ("", "no JSON object"),
            ("status", "no JSON object"),
            ("[1]", "no JSON object"),
            ("{\"bandstand\":1,\"command\":\"status\"", "no JSON object"),
            (r#"{"command":"status"}"#, "does not say its version"),
            (
                r#"{"bandstand":2,"command":"status"}"#,
                "version 2 of the protocol is not spoken here, version 1 is",
            ),
            (r#"{"bandstand":"1","command":"status"}"#, "version \"1\""),
            (r#"{"bandstand":1}"#, "has no `command`; there are status, requests"),
            (r#"{"bandstand":1,"command":7}"#, "has no `command`"),
            (r#"{"bandstand":1,"command":"explode"}"#, "no command `explode`; there are status"),
            (r#"{"bandstand":1,"command":"scale"}"#, "either `to` or `by`"),
            (r#"{"bandstand":1,"command":"scale","to":1,"by":1}"#, "either `to` or `by`"),
            (r#"{"bandstand":1,"command":"scale","to":0}"#, "from 1, not 0"),
            (r#"{"bandstand":1,"command":"scale","to":-1}"#, "from 1, not -1"),
            (r#"{"bandstand":1,"command":"scale","by":1.5}"#, "not 1.5"),
            (r#"{"bandstand":1,"command":"scale","by":9999999999}"#, "not 9999999999"),
            (r#"{"bandstand":1,"command":"stacks","worker":-1}"#, "number of a worker"),
            (r#"{"bandstand":1,"command":"stacks","request":7}"#, "id of a request"),
            (r#"{"bandstand":1,"command":"stacks","worker":1,"request":"x"}"#, "not of both"),
            (r#"{"bandstand":1,"command":"stop","now":1}"#, "`now` is true or false, not 1"),
        ] {
            let error = Command::read(line.as_bytes()).unwrap_err();
            assert!(error.contains(why), "{line}: {error}");
        }
    }

    #[test]
    fn every_command_is_named() {
        for name in COMMANDS {
            let line = format!("{{\"bandstand\":1,\"command\":\"{name}\",\"to\":1}}");
            assert!(Command::read(line.as_bytes()).is_ok(), "{name}");
        }
    }

    #[test]
    fn answers_are_one_line_each() {
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        assert_eq!(text(progress("a\nb")), "{\"progress\":\"a\\nb\"}\n");
        let fields = Map::from_iter([("workers".to_owned(), json!(3))]);
        assert_eq!(text(done(Ok(fields))), "{\"done\":true,\"ok\":true,\"workers\":3}\n");
        let failed = done(Err("Traceback:\n  x".to_owned()));
        assert_eq!(text(failed), "{\"done\":true,\"ok\":false,\"error\":\"Traceback:\\n  x\"}\n");
    }
}
