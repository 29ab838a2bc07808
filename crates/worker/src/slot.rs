//! What comes for one exchange beside its request: credit for the answer, pieces of a streamed body.
//!
//! Owns both counts; who waits for them is `channel`'s. Invariant: a body never holds more than was asked for with
//! `Want`, so the edge cannot make a worker buffer without bound.

use bandstand_wire::sequence::Body;
use bandstand_wire::{Flags, WireError};

/// Counters and bytes of one exchange.
pub(crate) struct Slot {
    credit: u64,
    asked: u64,
    bytes: Vec<u8>,
    body: Body,
    broken: bool,
    /// What comes for it comes over the loop's lane (`Moved`): who waits for it does not read the channel.
    moved: bool,
}

/// The state of a streamed body after what was taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Tail {
    /// More comes when asked for.
    Open,
    /// That was all.
    Ended,
    /// The client broke it off.
    Broken,
}

impl Default for Slot {
    fn default() -> Self {
        Self { credit: 0, asked: 0, bytes: Vec::new(), body: Body::Open, broken: false, moved: false }
    }
}

impl Slot {
    /// From now on the loop forwards what comes.
    pub(crate) fn set_moved(&mut self) {
        self.moved = true;
    }

    /// Whether the loop forwards what comes.
    pub(crate) fn is_moved(&self) -> bool {
        self.moved
    }

    /// The edge takes `more` bytes of the answer. Zero is allowed: it only wakes the thread that waits.
    pub(crate) fn grant(&mut self, more: u32) {
        self.credit = self.credit.saturating_add(u64::from(more));
    }

    /// All credit that has come.
    pub(crate) fn take_credit(&mut self) -> u64 {
        std::mem::take(&mut self.credit)
    }

    /// `more` bytes of the body were asked for.
    pub(crate) fn ask(&mut self, more: u32) {
        self.asked += u64::from(more);
    }

    /// Bytes asked for that have not come yet.
    pub(crate) fn outstanding(&self) -> u64 {
        self.asked
    }

    /// A piece of the body.
    ///
    /// # Errors
    /// `OutOfSequence` after its end, or when more came than was asked for.
    pub(crate) fn receive(&mut self, flags: Flags, piece: &[u8]) -> Result<(), WireError> {
        self.body = self.body.on(flags)?;
        self.asked = self
            .asked
            .checked_sub(piece.len() as u64)
            .ok_or(WireError::OutOfSequence("more of a body than was asked for"))?;
        self.bytes.extend_from_slice(piece);
        self.broken |= flags.has(Flags::BROKEN);
        Ok(())
    }

    /// What has come of the body, or that it has ended. `None` when there is neither.
    pub(crate) fn take_body(&mut self) -> Option<(Vec<u8>, Tail)> {
        let tail = match self.body {
            Body::Open => Tail::Open,
            Body::Closed if self.broken => Tail::Broken,
            Body::Closed => Tail::Ended,
        };
        (tail != Tail::Open || !self.bytes.is_empty()).then(|| (std::mem::take(&mut self.bytes), tail))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credit_adds_up_and_is_taken_once() {
        let mut slot = Slot::default();
        slot.grant(0);
        assert_eq!(slot.take_credit(), 0);
        slot.grant(5);
        slot.grant(u32::MAX);
        assert_eq!(slot.take_credit(), 5 + u64::from(u32::MAX));
        assert_eq!(slot.take_credit(), 0);
    }

    #[test]
    fn a_body_comes_only_when_asked_for() {
        let mut slot = Slot::default();
        assert!(slot.receive(Flags::NONE, b"x").is_err());
        let mut slot = Slot::default();
        slot.ask(5);
        assert_eq!(slot.receive(Flags::NONE, b"abc"), Ok(()));
        assert_eq!(slot.outstanding(), 2);
        assert_eq!(slot.take_body(), Some((b"abc".to_vec(), Tail::Open)));
        assert_eq!(slot.take_body(), None);
        assert!(slot.receive(Flags::NONE, b"abc").is_err());
    }

    #[test]
    fn a_body_ends_or_breaks_once() {
        for (flags, tail) in [(Flags::WHOLE, Tail::Ended), (Flags::BROKEN, Tail::Broken)] {
            let mut slot = Slot::default();
            assert_eq!(slot.receive(flags, b""), Ok(()));
            assert_eq!(slot.take_body(), Some((vec![], tail)));
            assert_eq!(slot.take_body(), Some((vec![], tail)), "every later read finds the end too");
            assert!(slot.receive(Flags::WHOLE, b"").is_err());
        }
    }
}
