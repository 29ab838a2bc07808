//! The line to a template: messages and descriptors over a `SOCK_SEQPACKET` pair, one JSON object a packet.
//!
//! Owns the words and their bounds; the rules are in `roster::templates`. Until the template has said how its import
//! went the runtime listens (`watch`); afterwards nothing but answers to forks comes, and the spawning thread, which
//! asks, reads them: so an answer is never taken for anything else. Invariants: at most `PACKET_MAX` bytes are taken, a
//! wait has a deadline, what cannot be understood ends the template. Source: unix(7), decision 0006.

use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, Shutdown, SocketFlags,
    SocketType, recv, sendmsg, shutdown, socketpair, sockopt,
};
use serde_json::{Map, Value};

use crate::worker::WorkerNumber;

/// Environment variable that makes a worker's program a template, with the descriptor of its line.
pub(crate) const TEMPLATE_ENV: &str = "BANDSTAND_TEMPLATE_FD";
/// Environment variable with the process id that forked workers wait to become children of.
pub(crate) const PARENT_ENV: &str = "BANDSTAND_PARENT";
/// Environment variable that tells the first template of a fleet from all later ones.
pub(crate) const FIRST_ENV: &str = "BANDSTAND_FIRST";
/// Longest packet in bytes: a traceback with long source lines fits many times.
const PACKET_MAX: usize = 256 * 1024;
/// How long a fork may take: copying the page tables of 10 GB takes a tenth of a second.
const FORK_TIMEOUT: Duration = Duration::from_secs(10);
/// Descriptors that go with the order to fork.
pub(crate) const DESCRIPTORS: usize = 6;

/// What a template says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Message {
    Ready { warnings: Vec<String> },
    Failed { traceback: String },
    Threads { names: Vec<String> },
    Forked { worker: u32, pid: i32 },
    ForkFailed { worker: u32, error: String },
}

impl Message {
    /// `None`: not a message.
    pub(crate) fn parse(packet: &[u8]) -> Option<Message> {
        let value: Value = serde_json::from_slice(packet).ok()?;
        let text = |name: &str| value.get(name)?.as_str().map(str::to_owned);
        let texts = |name: &str| {
            let texts = value.get(name)?.as_array()?.iter();
            texts.map(|text| text.as_str().map(str::to_owned)).collect::<Option<Vec<_>>>()
        };
        let worker = || u32::try_from(value.get("worker")?.as_u64()?).ok();
        Some(match value.get("event")?.as_str()? {
            "ready" => Message::Ready { warnings: texts("warnings").unwrap_or_default() },
            "failed" => Message::Failed { traceback: text("traceback")? },
            "threads" => Message::Threads { names: texts("names")? },
            "forked" => {
                Message::Forked { worker: worker()?, pid: i32::try_from(value.get("pid")?.as_i64()?).ok()? }
            }
            "fork_failed" => Message::ForkFailed { worker: worker()?, error: text("error")? },
            _ => return None,
        })
    }
}

/// Why there is no worker.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Trouble {
    /// The template said why; it can be asked again.
    Refused(String),
    /// The template has ended, does not answer in time, or not by the protocol.
    Lost(String),
}

/// This program's end of the line, which never blocks.
#[derive(Debug, Clone)]
pub(crate) struct Line(pub(crate) Arc<OwnedFd>);

impl Line {
    /// The line, and the template's end of it.
    pub(crate) fn pair() -> io::Result<(Line, OwnedFd)> {
        let (ours, theirs) =
            socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
        rustix::io::ioctl_fionbio(&ours, true)?;
        for end in [&ours, &theirs] {
            // Half of it holds a packet; where the system's limit is lower, packets are.
            let _ = sockopt::set_socket_send_buffer_size(end, PACKET_MAX);
        }
        Ok((Line(Arc::new(ours)), theirs))
    }

    /// Has a worker forked, which gets the descriptors; its process id. Blocks the thread, for `FORK_TIMEOUT` at most.
    pub(crate) fn fork(
        &self,
        number: WorkerNumber,
        descriptors: &[BorrowedFd<'_>; DESCRIPTORS],
    ) -> Result<i32, Trouble> {
        let deadline = Instant::now() + FORK_TIMEOUT;
        let order = serde_json::json!({"order": "fork", "worker": number.0}).to_string();
        self.send(order.as_bytes(), descriptors, deadline)?;
        match self.answer(deadline)? {
            Message::Forked { worker, pid } if worker == number.0 && pid > 1 => Ok(pid),
            Message::ForkFailed { worker, error } if worker == number.0 => Err(Trouble::Refused(error)),
            other => Err(Trouble::Lost(format!("the template answered out of turn: {other:?}"))),
        }
    }

    /// Has the user's hook called. `details`: a JSON object.
    pub(crate) fn hook(&self, name: &str, details: &str) -> Result<(), Trouble> {
        let mut order = Map::from_iter([
            ("order".to_owned(), Value::from("hook")),
            ("name".to_owned(), Value::from(name)),
        ]);
        let details: Map<String, Value> = serde_json::from_str(details).unwrap_or_default();
        order.extend(details.into_iter().filter(|(member, _)| member != "order" && member != "name"));
        let order = Value::Object(order).to_string();
        if order.len() > PACKET_MAX {
            return Err(Trouble::Refused("the details of the hook are too long".to_owned()));
        }
        self.send(order.as_bytes(), &[], Instant::now()) // a template that is that busy misses a hook
    }

    /// Ends the stream: a template that reads it leaves.
    pub(crate) fn close(&self) {
        let _ = shutdown(self.0.as_fd(), Shutdown::Write); // has it left already, then there is nothing to end
    }

    /// The next packet, `None` at the end of the stream; `WouldBlock` if there is none yet.
    pub(crate) fn receive(&self) -> io::Result<Option<Vec<u8>>> {
        let mut packet = vec![0; PACKET_MAX];
        let flags = RecvFlags::TRUNC | RecvFlags::DONTWAIT;
        let length = loop {
            match recv(self.0.as_fd(), &mut packet[..], flags) {
                Ok((_, length)) => break length,
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        };
        match length {
            0 => Ok(None),
            1..=PACKET_MAX => {
                packet.truncate(length);
                Ok(Some(packet))
            }
            _ => Err(io::Error::new(io::ErrorKind::InvalidData, "a packet is too long")),
        }
    }

    fn send(&self, bytes: &[u8], with: &[BorrowedFd<'_>], deadline: Instant) -> Result<(), Trouble> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS))];
        loop {
            let mut control = SendAncillaryBuffer::new(&mut space);
            if !with.is_empty() && !control.push(SendAncillaryMessage::ScmRights(with)) {
                return Err(Trouble::Refused("too many descriptors".to_owned()));
            }
            let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
            match sendmsg(self.0.as_fd(), &[IoSlice::new(bytes)], &mut control, flags) {
                Ok(_) => return Ok(()),
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => self.wait(PollFlags::OUT, deadline)?,
                Err(error) => return Err(Trouble::Lost(format!("the template takes no orders: {error}"))),
            }
        }
    }

    fn answer(&self, deadline: Instant) -> Result<Message, Trouble> {
        loop {
            match self.receive() {
                Ok(Some(packet)) => {
                    let message = Message::parse(&packet);
                    return message
                        .ok_or_else(|| Trouble::Lost("the template answered gibberish".to_owned()));
                }
                Ok(None) => return Err(Trouble::Lost("the template has closed its line".to_owned())),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.wait(PollFlags::IN, deadline)?;
                }
                Err(error) => return Err(Trouble::Lost(format!("the template cannot be heard: {error}"))),
            }
        }
    }

    fn wait(&self, what: PollFlags, deadline: Instant) -> Result<(), Trouble> {
        let late = || Trouble::Lost("the template did not answer in time".to_owned());
        let left = deadline.checked_duration_since(Instant::now()).ok_or_else(late)?;
        let timeout = Timespec::try_from(left).map_err(|_| late())?;
        match poll(&mut [PollFd::new(&self.0, what)], Some(&timeout)) {
            Ok(0) => Err(late()),
            Ok(_) | Err(Errno::INTR) => Ok(()),
            Err(error) => Err(Trouble::Lost(format!("the template cannot be waited for: {error}"))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_a_message() {
        let text = |text: &str| text.to_owned();
        let rows: [(&str, Option<Message>); 16] = [
            (
                r#"{"event":"ready","warnings":["a","b"]}"#,
                Some(Message::Ready { warnings: vec![text("a"), text("b")] }),
            ),
            (r#"{"event":"ready"}"#, Some(Message::Ready { warnings: Vec::new() })),
            (r#"{"event":"failed","traceback":"T"}"#, Some(Message::Failed { traceback: text("T") })),
            (r#"{"event":"threads","names":["x"]}"#, Some(Message::Threads { names: vec![text("x")] })),
            (r#"{"event":"forked","worker":7,"pid":123}"#, Some(Message::Forked { worker: 7, pid: 123 })),
            (
                r#"{"event":"fork_failed","worker":7,"error":"E"}"#,
                Some(Message::ForkFailed { worker: 7, error: text("E") }),
            ),
            (r#"{"event":"failed"}"#, None),
            (r#"{"event":"threads","names":[1]}"#, None),
            (r#"{"event":"forked","worker":7}"#, None),
            (r#"{"event":"forked","worker":-7,"pid":5}"#, None),
            (r#"{"event":"forked","worker":7,"pid":99999999999}"#, None),
            (r#"{"event":"else"}"#, None),
            (r#"{"event":7}"#, None),
            ("[]", None),
            ("", None),
            ("\u{0}\u{1}", None),
        ];
        for (packet, expected) in rows {
            assert_eq!(Message::parse(packet.as_bytes()), expected, "{packet}");
        }
    }

    fn hear(theirs: &OwnedFd) -> Value {
        let mut packet = vec![0; PACKET_MAX];
        let (_, length) = recv(theirs, &mut packet[..], RecvFlags::empty()).unwrap();
        serde_json::from_slice(&packet[..length]).unwrap()
    }

    fn say(theirs: &OwnedFd, packet: &[u8]) {
        rustix::net::send(theirs, packet, SendFlags::empty()).unwrap();
    }

    #[test]
    fn a_hooks_details_go_with_it_and_name_nothing_else() {
        let (line, theirs) = Line::pair().unwrap();
        line.hook("when_ready", r#"{"order":"fork","name":"x","workers":3}"#).unwrap();
        assert_eq!(hear(&theirs), serde_json::json!({"order": "hook", "name": "when_ready", "workers": 3}));
        line.hook("on_exit", "no object").unwrap();
        assert_eq!(hear(&theirs), serde_json::json!({"order": "hook", "name": "on_exit"}));
        let long = format!(r#"{{"text":"{}"}}"#, "x".repeat(PACKET_MAX));
        assert!(matches!(line.hook("on_exit", &long), Err(Trouble::Refused(_))));
    }

    #[test]
    fn only_the_answer_is_an_answer() {
        let lost = |part: &'static str| move |answer: &Result<i32, Trouble>| matches!(answer, Err(Trouble::Lost(said)) if said.contains(part));
        type Check = Box<dyn Fn(&Result<i32, Trouble>) -> bool>;
        let rows: [(&str, Check); 6] = [
            (r#"{"event":"forked","worker":7,"pid":123}"#, Box::new(|answer| *answer == Ok(123))),
            (
                r#"{"event":"fork_failed","worker":7,"error":"E"}"#,
                Box::new(|answer| *answer == Err(Trouble::Refused("E".into()))),
            ),
            (r#"{"event":"forked","worker":8,"pid":123}"#, Box::new(lost("out of turn"))),
            (r#"{"event":"forked","worker":7,"pid":1}"#, Box::new(lost("out of turn"))),
            (r#"{"event":"ready","warnings":[]}"#, Box::new(lost("out of turn"))),
            ("gibberish", Box::new(lost("gibberish"))),
        ];
        for (said, check) in rows {
            let (line, theirs) = Line::pair().unwrap();
            let null = std::fs::File::open("/dev/null").unwrap();
            say(&theirs, said.as_bytes());
            let answer = line.fork(WorkerNumber(7), &[null.as_fd(); DESCRIPTORS]);
            assert!(check(&answer), "{said}: {answer:?}");
        }
        let (line, theirs) = Line::pair().unwrap();
        let null = std::fs::File::open("/dev/null").unwrap();
        drop(theirs);
        let answer = line.fork(WorkerNumber(7), &[null.as_fd(); DESCRIPTORS]);
        assert!(matches!(answer, Err(Trouble::Lost(_))), "{answer:?}");
    }

    #[test]
    fn the_end_is_read_after_what_was_sent() {
        let (line, theirs) = Line::pair().unwrap();
        assert_eq!(line.receive().unwrap_err().kind(), io::ErrorKind::WouldBlock);
        line.hook("on_exit", "{}").unwrap();
        line.close();
        assert_eq!(hear(&theirs)["name"], "on_exit");
        assert_eq!(recv(&theirs, &mut [0; 9][..], RecvFlags::empty()).unwrap().1, 0);
        say(&theirs, b"late");
        drop(theirs);
        assert_eq!(line.receive().unwrap().unwrap(), b"late");
        assert_eq!(line.receive().unwrap(), None);
    }
}
