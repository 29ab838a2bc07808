//! What a client may cost us beside its requests.
//!
//! Owns the counting of frames as they pass, below the h2 crate, which bounds some floods and not others: frames that carry
//! nothing (`CHECKLIST.md` part 2 row 38), and streams that are reset, by the client (row 34) or by us for its mistakes
//! (row 35). Each has a purse that fills slowly by itself and faster with honest work; whoever empties one is sent
//! `ENHANCE_YOUR_CALM`. Reads no clock. Source: RFC 9113 §4.1, §10.5.

use std::time::{Duration, Instant};

/// A frame's head, and as much of its payload as is looked at: the code of `RST_STREAM`.
const HEAD: usize = 9;
const HEAD_AND_CODE: usize = HEAD + 4;
/// What a client says first (RFC 9113 §3.4).
const PREFACE_BYTES: usize = 24;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const END_STREAM: u8 = 1;

/// Frames without content that a client may send at once, and each second. A browser sends a few for each request, and two
/// for every piece of a long answer, which the answer pays for.
const FRAMES: Purse = Purse::new(1000, 50);
/// Earned by a request, and by a `DATA` frame of an answer.
const FRAMES_EARNED: (u32, u32) = (10, 3);
/// Streams that may end in a reset at once, and each second. A browser that leaves a page resets all that it had asked for:
/// rarely more than a hundred.
const RESETS: Purse = Purse::new(200, 10);

/// Counts the frames of one connection.
pub(super) struct Budget {
    frames: Purse,
    resets: Purse,
    received: Scanner,
    sent: Scanner,
    looked: Instant,
    /// A purse was found empty.
    pub(super) is_over: bool,
}

#[derive(Debug, Clone, Copy)]
struct Purse {
    left: u32,
    most: u32,
    each_second: u32,
}

impl Purse {
    const fn new(most: u32, each_second: u32) -> Self {
        Self { left: most, most, each_second }
    }

    fn earn(&mut self, more: u32) {
        self.left = self.left.saturating_add(more).min(self.most);
    }

    /// False when it is empty.
    fn pay(&mut self) -> bool {
        match self.left.checked_sub(1) {
            Some(left) => {
                self.left = left;
                true
            }
            None => false,
        }
    }
}

impl Budget {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            frames: FRAMES,
            resets: RESETS,
            received: Scanner::behind(PREFACE_BYTES),
            sent: Scanner::behind(0),
            looked: now,
            is_over: false,
        }
    }

    /// Time has passed.
    pub(super) fn look(&mut self, now: Instant) {
        let seconds = now.saturating_duration_since(self.looked).as_secs();
        if seconds > 0 {
            self.looked += Duration::from_secs(seconds);
            let seconds = u32::try_from(seconds).unwrap_or(u32::MAX);
            for purse in [&mut self.frames, &mut self.resets] {
                purse.earn(purse.each_second.saturating_mul(seconds));
            }
        }
    }

    /// Bytes that came from the client.
    pub(super) fn received(&mut self, bytes: &[u8]) {
        let Self { frames, resets, received, is_over, .. } = self;
        received.scan(bytes, |frame| {
            let pays = match frame.kind {
                HEADERS => {
                    frames.earn(FRAMES_EARNED.0);
                    true
                }
                DATA if frame.length > 0 || frame.flags & END_STREAM != 0 => true,
                RST_STREAM => resets.pay(),
                _ => frames.pay(),
            };
            *is_over |= !pays;
        });
    }

    /// Bytes that go to the client.
    pub(super) fn sent(&mut self, bytes: &[u8]) {
        let Self { frames, resets, sent, is_over, .. } = self;
        sent.scan(bytes, |frame| match frame.kind {
            DATA => frames.earn(FRAMES_EARNED.1),
            // Without an error it says that the rest of a body is not wanted: our doing, not the client's.
            RST_STREAM if frame.code != 0 => *is_over |= !resets.pay(),
            _ => {}
        });
    }
}

/// Finds heads of frames in a stream of bytes, however it is cut.
struct Scanner {
    head: [u8; HEAD_AND_CODE],
    have: usize,
    /// Bytes that are no head.
    skip: usize,
}

struct Frame {
    length: usize,
    kind: u8,
    flags: u8,
    /// Of `RST_STREAM`.
    code: u32,
}

impl Scanner {
    fn behind(skip: usize) -> Self {
        Self { head: [0; HEAD_AND_CODE], have: 0, skip }
    }

    fn scan(&mut self, mut bytes: &[u8], mut seen: impl FnMut(Frame)) {
        while !bytes.is_empty() {
            if self.skip > 0 {
                let skipped = self.skip.min(bytes.len());
                self.skip -= skipped;
                bytes = &bytes[skipped..];
                continue;
            }
            let wanted = self.wanted();
            let taken = (wanted - self.have).min(bytes.len());
            self.head[self.have..self.have + taken].copy_from_slice(&bytes[..taken]);
            self.have += taken;
            bytes = &bytes[taken..];
            if self.have == self.wanted() {
                self.have = 0;
                let length = self.length();
                self.skip = (HEAD + length).saturating_sub(wanted.max(HEAD));
                let [.., a, b, c, d] = self.head;
                let code = u32::from_be_bytes([a, b, c, d]);
                seen(Frame { length, kind: self.head[3], flags: self.head[4], code });
            }
        }
    }

    fn length(&self) -> usize {
        let [a, b, c, ..] = self.head;
        usize::from(a) << 16 | usize::from(b) << 8 | usize::from(c)
    }

    /// Bytes of this frame that are looked at.
    fn wanted(&self) -> usize {
        let has_code = self.have >= HEAD && self.head[3] == RST_STREAM && self.length() >= 4;
        if has_code { HEAD_AND_CODE } else { HEAD }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, flags: u8, payload: &[u8]) -> Vec<u8> {
        let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
        [&length[1..], &[kind, flags, 0, 0, 0, 1], payload].concat()
    }

    const PING: u8 = 6;
    const WINDOW_UPDATE: u8 = 8;

    fn budget() -> Budget {
        let mut budget = Budget::new(Instant::now());
        budget.received(&[b'x'; PREFACE_BYTES]);
        budget
    }

    /// How many of these a client may send before it is over.
    fn endured(budget: &mut Budget, bytes: &[u8]) -> usize {
        (0..100_000)
            .take_while(|_| {
                budget.received(bytes);
                !budget.is_over
            })
            .count()
    }

    /// Rows 34, 38: each flood ends, however its frames are cut into reads.
    #[test]
    fn floods_end() {
        for (row, kind, flags, payload, endures) in [
            (38, PING, 0, &[0; 8][..], 1000),
            (38, 4, 0, &[], 1000),
            (38, 2, 0, &[0; 5], 1000),
            (38, WINDOW_UPDATE, 0, &[0; 4], 1000),
            (38, DATA, 0, &[], 1000),
            (38, 77, 0, &[], 1000),
            (36, 9, 0, &[0; 3], 1000),
            (34, RST_STREAM, 0, &[0, 0, 0, 8], 200),
            (34, RST_STREAM, 0, &[0, 0, 0, 0], 200),
            (0, DATA, 0, &[1], 100_000),
            (0, DATA, END_STREAM, &[], 100_000),
            (0, HEADERS, 4, &[1, 2], 100_000),
        ] {
            let bytes = frame(kind, flags, payload);
            assert_eq!(endured(&mut budget(), &bytes), endures, "row {row}: frame {kind}");
            let mut cut = budget();
            for _ in 0..endures {
                bytes.iter().for_each(|&byte| cut.received(&[byte]));
            }
            assert!(!cut.is_over, "row {row}: frame {kind} in pieces");
            if endures < 100_000 {
                bytes.iter().for_each(|&byte| cut.received(&[byte]));
                assert!(cut.is_over, "row {row}: frame {kind} in pieces");
            }
        }
    }

    /// Row 35: what we reset because of the client is the client's.
    #[test]
    fn our_own_resets_count_unless_nothing_was_wrong() {
        let mut resetting = budget();
        (0..200).for_each(|_| resetting.sent(&frame(RST_STREAM, 0, &[0, 0, 0, 1])));
        assert!(!resetting.is_over);
        (0..1000).for_each(|_| resetting.sent(&frame(RST_STREAM, 0, &[0, 0, 0, 0])));
        assert!(!resetting.is_over);
        resetting.sent(&frame(RST_STREAM, 0, &[0, 0, 0, 1]));
        assert!(resetting.is_over);
    }

    #[test]
    fn work_and_time_earn_more() {
        let mut budget = budget();
        assert_eq!(endured(&mut budget, &frame(PING, 0, &[0; 8])), 1000);
        budget.is_over = false;
        budget.received(&frame(HEADERS, 4, &[0; 30]));
        assert_eq!(endured(&mut budget, &frame(PING, 0, &[0; 8])), 10);
        budget.is_over = false;
        budget.sent(&[frame(DATA, 0, &[0; 900]), frame(DATA, 0, &[0; 900])].concat());
        assert_eq!(endured(&mut budget, &frame(WINDOW_UPDATE, 0, &[0; 4])), 6);
        budget.is_over = false;
        budget.look(Instant::now() + Duration::from_secs(2));
        assert_eq!(endured(&mut budget, &frame(PING, 0, &[0; 8])), 100);
    }
}
