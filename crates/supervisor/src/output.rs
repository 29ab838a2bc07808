//! What workers and templates print, carried into the log line by line and named by process.
//!
//! Owns the cutting into lines; leaves to `watch` when to stop reading. Invariants: at most `LINE_MAX` bytes are held
//! for one stream, longer lines are split; the last line is carried even without a newline; bytes that are not UTF-8
//! become U+FFFD. Applications print what clients send: escaping is the log's, which formats the message.

use std::borrow::Cow;
use std::collections::VecDeque;

use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe;

use crate::plan::GenerationNumber;
use crate::worker::WorkerNumber;

/// Longest line in bytes; a longer one is split. Tracebacks have short lines, JSON logs with a body may have long ones.
const LINE_MAX: usize = 64 * 1024;
/// Bytes of one read: what a pipe holds by default.
const READ: usize = 64 * 1024;
/// How much of the end of standard error is kept to tell why a worker died: a long Django traceback is 6 KiB.
const TAIL_MAX: usize = 16 * 1024;

/// Whose output it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Source {
    Worker(WorkerNumber),
    Template(GenerationNumber),
}

/// One stream of one process.
pub(crate) struct Output {
    source: Source,
    stream: &'static str,
    lines: Lines,
    tail: Tail,
}

impl Output {
    pub(crate) fn new(source: Source, stream: &'static str) -> Output {
        Output { source, stream, lines: Lines::default(), tail: Tail::default() }
    }

    /// Carries the pipe's lines until its end. Dropped before that, a partial line stays for [`Output::finish`].
    pub(crate) async fn carry(&mut self, mut pipe: pipe::Receiver) {
        let mut buffer = vec![0; READ];
        // An error of a pipe's read cannot be mended: it counts as the end.
        while let Ok(count @ 1..) = pipe.read(&mut buffer).await {
            let (source, stream, tail) = (self.source, self.stream, &mut self.tail);
            self.lines.push(&buffer[..count], |line| log(source, stream, line, tail));
        }
    }

    /// Carries what is left of the last line; returns the last lines of this stream.
    pub(crate) fn finish(mut self) -> String {
        let (source, stream, tail) = (self.source, self.stream, &mut self.tail);
        self.lines.finish(|line| log(source, stream, line, tail));
        self.tail.into_text()
    }
}

fn log(source: Source, stream: &'static str, line: &[u8], tail: &mut Tail) {
    let line = String::from_utf8_lossy(line);
    match source {
        Source::Worker(number) => tracing::info!(target: "app", worker = number.0, stream, "{line}"),
        Source::Template(generation) => {
            tracing::info!(target: "app", worker = "template", generation = generation.0, stream, "{line}");
        }
    }
    tail.push(line);
}

/// Bytes into lines.
#[derive(Default)]
struct Lines {
    partial: Vec<u8>,
}

impl Lines {
    fn push(&mut self, mut bytes: &[u8], mut line: impl FnMut(&[u8])) {
        while let Some(end) = bytes.iter().position(|&byte| byte == b'\n') {
            self.add(&bytes[..end], &mut line);
            line(self.partial.strip_suffix(b"\r").unwrap_or(&self.partial));
            self.partial.clear();
            bytes = &bytes[end + 1..];
        }
        self.add(bytes, &mut line);
    }

    /// Appends bytes without a newline, and lets go of full pieces.
    fn add(&mut self, mut bytes: &[u8], line: &mut impl FnMut(&[u8])) {
        while self.partial.len() + bytes.len() > LINE_MAX {
            let (now, later) = bytes.split_at(LINE_MAX - self.partial.len());
            self.partial.extend_from_slice(now);
            let cut = character_boundary(&self.partial);
            line(&self.partial[..cut]);
            self.partial.drain(..cut);
            bytes = later;
        }
        self.partial.extend_from_slice(bytes);
    }

    fn finish(&mut self, mut line: impl FnMut(&[u8])) {
        if !self.partial.is_empty() {
            line(&self.partial);
            self.partial.clear();
        }
    }
}

/// Where to cut so that a UTF-8 character at the end stays whole: at most three bytes before the end.
fn character_boundary(bytes: &[u8]) -> usize {
    let last = bytes.len().saturating_sub(4)..bytes.len();
    match last.rev().find(|&at| bytes[at] & 0xc0 != 0x80) {
        Some(at) if at > 0 && at + character_bytes(bytes[at]) > bytes.len() => at,
        _ => bytes.len(),
    }
}

fn character_bytes(lead: u8) -> usize {
    match lead {
        0xf0.. => 4,
        0xe0.. => 3,
        0xc0.. => 2,
        _ => 1,
    }
}

/// The last lines, within `TAIL_MAX` bytes.
#[derive(Default)]
struct Tail {
    lines: VecDeque<String>,
    bytes: usize,
}

impl Tail {
    fn push(&mut self, line: Cow<'_, str>) {
        self.bytes += line.len() + 1;
        self.lines.push_back(line.into_owned());
        while self.bytes > TAIL_MAX {
            match self.lines.pop_front() {
                Some(first) => self.bytes -= first.len() + 1,
                None => break,
            }
        }
    }

    fn into_text(self) -> String {
        Vec::from(self.lines).join("\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cut(pieces: &[&[u8]]) -> Vec<Vec<u8>> {
        let (mut lines, mut seen) = (Lines::default(), Vec::new());
        for piece in pieces {
            lines.push(piece, |line| seen.push(line.to_vec()));
            assert!(lines.partial.len() <= LINE_MAX);
        }
        lines.finish(|line| seen.push(line.to_vec()));
        seen
    }

    #[test]
    fn lines_do_not_depend_on_the_reads() {
        let text = b"one\n\ntwo\r\nthr\xc3\xa9e\nlast";
        let expected: Vec<&[u8]> = vec![b"one", b"", b"two", b"thr\xc3\xa9e", b"last"];
        for at in 0..=text.len() {
            let (left, right) = text.split_at(at);
            assert_eq!(cut(&[left, right]), expected, "cut at {at}");
        }
        assert!(cut(&[b""]).is_empty());
        assert_eq!(cut(&[b"x\n"]), [b"x"]);
    }

    #[test]
    fn long_lines_are_split_between_characters() {
        let rows: [(&str, &[usize]); 4] = [
            ("a", &[LINE_MAX, LINE_MAX, 10]),
            ("é", &[LINE_MAX, LINE_MAX, 10]),
            ("€", &[LINE_MAX - 1, LINE_MAX - 1, 12]),
            ("𝄞", &[LINE_MAX, LINE_MAX, 12]),
        ];
        for (character, lengths) in rows {
            let text = character.repeat((2 * LINE_MAX + 10).div_ceil(character.len()));
            for size in [READ, 4097] {
                let pieces: Vec<&[u8]> = text.as_bytes().chunks(size).collect();
                let lines = cut(&pieces);
                assert_eq!(lines.iter().map(Vec::len).collect::<Vec<_>>(), lengths, "{character} by {size}");
                assert!(lines.iter().all(|line| std::str::from_utf8(line).is_ok()));
            }
        }
        let garbage = vec![0x80; LINE_MAX + 1];
        assert_eq!(cut(&[&garbage]).concat(), garbage, "nothing is lost");
        let leads = vec![0xff; LINE_MAX * 2 + 1];
        assert_eq!(cut(&[&leads]).concat(), leads);
    }

    #[test]
    fn the_tail_is_bounded() {
        let mut tail = Tail::default();
        for number in 0..10_000 {
            tail.push(Cow::Owned(format!("line {number}")));
        }
        let text = tail.into_text();
        assert!(text.len() <= TAIL_MAX && text.len() > TAIL_MAX - 20);
        assert!(text.ends_with("line 9998\nline 9999"));
    }
}
