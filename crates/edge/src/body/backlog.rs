//! What an app has said and its client has not taken yet.
//!
//! Owns the order: memory up to a bound, then an unlinked file, so that the worker is free while a slow client takes its time.
//! Leaves to the senders what they wait for. Invariant: first in, first out; nothing is added to memory while the file holds
//! something. The answers of a connection with many streams share a bound (`Together`): one client has one, however it asks.

use std::collections::VecDeque;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;

use super::spool::{READ_BYTES, Spool};

/// A body on its way.
pub(crate) struct Backlog {
    memory: VecDeque<Bytes>,
    /// Bytes in `memory`.
    held: usize,
    spool: Option<Spool>,
    most_in_memory: usize,
    most_in_file: u64,
    together: Together,
}

/// What the answers of one connection hold in memory, in bytes.
#[derive(Clone, Default)]
pub(crate) struct Together(Arc<AtomicUsize>);

impl Together {
    /// Answers that may fill their part of memory; what more there are go to their files sooner.
    const ANSWERS: usize = 4;
    /// Bytes that come back from a file at once where others fill the memory.
    const LITTLE: u64 = 16 * 1024;
}

impl Backlog {
    /// An empty one. Bounds in bytes; a file of 0 bytes is none.
    pub(crate) fn new(most_in_memory: u64, most_in_file: u64) -> Self {
        Self {
            memory: VecDeque::new(),
            held: 0,
            spool: None,
            most_in_memory: usize::try_from(most_in_memory).unwrap_or(usize::MAX),
            most_in_file,
            together: Together::default(),
        }
    }

    /// The same, one of several.
    pub(crate) fn of(mut self, together: &Together) -> Self {
        self.together = together.clone();
        self
    }

    fn has_room(&self) -> bool {
        let held = self.together.0.load(Ordering::Relaxed);
        self.held < self.most_in_memory && held < self.most_in_memory.saturating_mul(Together::ANSWERS)
    }

    fn hold(&mut self, bytes: Bytes) {
        self.held += bytes.len();
        self.together.0.fetch_add(bytes.len(), Ordering::Relaxed);
        self.memory.push_back(bytes);
    }

    /// Nothing waits.
    pub(crate) fn is_empty(&self) -> bool {
        self.memory.is_empty() && self.spool.is_none()
    }

    /// Nothing more may be added before something has left.
    pub(crate) fn is_full(&self) -> bool {
        match &self.spool {
            Some(spool) => spool.file_bytes() >= self.most_in_file,
            None => self.most_in_file == 0 && self.held > 0 && !self.has_room(),
        }
    }

    /// Adds at the end. `directory` is where a file is made, when one is needed.
    ///
    /// # Errors
    /// The disk is full or failed.
    pub(crate) async fn push(&mut self, bytes: Bytes, directory: &Path) -> io::Result<()> {
        if bytes.is_empty() {
            return Ok(());
        }
        if self.spool.is_none() && (self.has_room() || self.most_in_file == 0) {
            self.hold(bytes);
            return Ok(());
        }
        let into = match self.spool.take() {
            Some(spool) => spool,
            None => Spool::create(directory).await?,
        };
        self.spool = Some(into.append(bytes.into()).await?);
        Ok(())
    }

    /// Brings what is in the file into memory, once that is empty.
    ///
    /// # Errors
    /// The disk failed.
    pub(crate) async fn refill(&mut self) -> io::Result<()> {
        let most = if self.has_room() { READ_BYTES } else { Together::LITTLE };
        if self.memory.is_empty()
            && let Some(from) = &mut self.spool
        {
            match from.read_some(most).await? {
                Some(bytes) => self.hold(bytes.into()),
                None => self.spool = None,
            }
        }
        Ok(())
    }

    /// Bytes that can be taken at once: those of the first piece in memory.
    pub(crate) fn at_hand(&self) -> usize {
        self.memory.front().map_or(0, Bytes::len)
    }

    /// Takes up to `most` bytes of the first piece.
    pub(crate) fn take(&mut self, most: usize) -> Bytes {
        let Some(front) = self.memory.front_mut() else { return Bytes::new() };
        let piece = front.split_to(most.min(front.len()));
        if front.is_empty() {
            self.memory.pop_front();
        }
        self.held -= piece.len();
        self.together.0.fetch_sub(piece.len(), Ordering::Relaxed);
        piece
    }
}

impl Drop for Backlog {
    fn drop(&mut self) {
        self.together.0.fetch_sub(self.held, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_comes_in_goes_out_in_order_whatever_the_bounds() {
        for (memory, file) in [(1 << 20, 0), (1, 1 << 20), (0, 1 << 20), (5000, 1 << 20), (5000, 0)] {
            let mut backlog = Backlog::new(memory, file);
            let (mut whole, mut got) = (Vec::new(), Vec::new());
            for n in 0..50u8 {
                let piece = vec![n; 700];
                whole.extend_from_slice(&piece);
                backlog.push(piece.into(), &std::env::temp_dir()).await.unwrap();
                if n % 7 == 0 {
                    backlog.refill().await.unwrap();
                    got.extend_from_slice(&backlog.take(500));
                }
            }
            assert_eq!(backlog.is_full(), memory == 5000 && file == 0);
            while !backlog.is_empty() {
                backlog.refill().await.unwrap();
                let most = backlog.at_hand().div_ceil(2);
                got.extend_from_slice(&backlog.take(most));
            }
            assert!(got == whole, "{memory} {file}");
            assert_eq!((backlog.held, backlog.together.0.load(Ordering::Relaxed)), (0, 0));
        }
    }

    /// One client that asks for many answers and takes none has no more memory than one that asks for a few.
    #[tokio::test]
    async fn answers_of_one_connection_share_a_bound() {
        let together = Together::default();
        let directory = std::env::temp_dir();
        let held = |backlogs: &[Backlog]| backlogs.iter().map(|backlog| backlog.held).sum::<usize>();
        let mut backlogs: Vec<_> = (0..20).map(|_| Backlog::new(1000, 1 << 20).of(&together)).collect();
        for _ in 0..4 {
            for backlog in &mut backlogs {
                backlog.push(vec![1; 500].into(), &directory).await.unwrap();
            }
        }
        assert_eq!(held(&backlogs), 4000);
        assert!(backlogs.iter().all(|backlog| !backlog.is_full() && !backlog.is_empty()));
        backlogs[19].push(vec![1; 20_000].into(), &directory).await.unwrap();
        backlogs[19].refill().await.unwrap();
        assert_eq!(backlogs[19].at_hand() as u64, Together::LITTLE);
        // What cannot go to a file waits in the app, but for one piece.
        let mut unbuffered = Backlog::new(1000, 0).of(&together);
        assert!(!unbuffered.is_full());
        unbuffered.push(vec![1; 500].into(), &directory).await.unwrap();
        assert!(unbuffered.is_full());
        drop((backlogs, unbuffered));
        assert_eq!(together.0.load(Ordering::Relaxed), 0, "given back");
    }
}
