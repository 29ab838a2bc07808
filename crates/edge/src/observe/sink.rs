//! Lines to a file or a standard stream, from a thread of their own.
//!
//! Owns the bounded way between whoever logs and a disk or pipe that may stall. A full way drops the line and counts
//! it: a log that cannot be written must not stop requests. The count is written as soon as there is room again.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;

/// Lines under way.
const LINES: usize = 16 * 1024;
/// Bytes collected into one write.
const BATCH_BYTES: usize = 64 * 1024;

/// Where lines go.
#[derive(Debug, Clone)]
pub(crate) enum Target {
    Stdout,
    Stderr,
    File(PathBuf),
}

enum Order {
    Line(Vec<u8>),
    Reopen,
    /// Everything before this is written when the sender is dropped.
    Flush(SyncSender<()>),
}

/// A handle that is cheap to clone.
#[derive(Clone)]
pub(crate) struct Sink {
    orders: SyncSender<Order>,
    dropped: Arc<AtomicU64>,
}

impl Sink {
    /// Opens the target and starts its thread, which ends with the last handle.
    ///
    /// # Errors
    /// The file cannot be opened for appending.
    pub(crate) fn open(target: &Target) -> io::Result<(Self, JoinHandle<()>)> {
        let output = Output::open(target)?;
        let (orders, received) = sync_channel(LINES);
        let dropped = Arc::new(AtomicU64::new(0));
        let count = dropped.clone();
        let thread = std::thread::Builder::new()
            .name("bandstand-log".into())
            .spawn(move || write(output, &received, &count))?;
        Ok((Self { orders, dropped }, thread))
    }

    /// Hands over one line, its newline included. Never waits.
    pub(crate) fn line(&self, line: Vec<u8>) {
        if self.orders.try_send(Order::Line(line)).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Opens the file again under its name: the old one was moved away.
    pub(crate) fn reopen(&self) {
        let _ = self.orders.try_send(Order::Reopen);
    }

    /// Waits until everything handed over before is written.
    pub(crate) fn flush(&self) {
        let (done, wait) = sync_channel(0);
        if self.orders.send(Order::Flush(done)).is_ok() {
            let _ = wait.recv();
        }
    }
}

enum Output {
    Stdout(io::Stdout),
    Stderr(io::Stderr),
    File(File, PathBuf),
}

impl Output {
    fn open(target: &Target) -> io::Result<Self> {
        Ok(match target {
            Target::Stdout => Self::Stdout(io::stdout()),
            Target::Stderr => Self::Stderr(io::stderr()),
            Target::File(path) => Self::File(append(path)?, path.clone()),
        })
    }

    fn write(&mut self, bytes: &[u8]) {
        // There is nobody left to tell when the log itself cannot be written.
        let _ = match self {
            Self::Stdout(out) => out.write_all(bytes).and_then(|()| out.flush()),
            Self::Stderr(out) => out.write_all(bytes),
            Self::File(out, _) => out.write_all(bytes),
        };
    }

    fn reopen(&mut self) {
        if let Self::File(file, path) = self
            && let Ok(new) = append(path)
        {
            *file = new;
        }
    }
}

fn append(path: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).append(true).open(path)
}

fn write(mut output: Output, orders: &Receiver<Order>, dropped: &AtomicU64) {
    let mut batch = Vec::with_capacity(BATCH_BYTES);
    while let Ok(order) = orders.recv() {
        let mut next = Some(order);
        let mut done = Vec::new();
        while let Some(order) = next {
            match order {
                Order::Line(line) => batch.extend_from_slice(&line),
                Order::Reopen => {
                    output.write(&batch);
                    batch.clear();
                    output.reopen();
                }
                Order::Flush(sender) => done.push(sender),
            }
            next = if batch.len() < BATCH_BYTES { orders.try_recv().ok() } else { None };
        }
        let lost = dropped.swap(0, Ordering::Relaxed);
        if lost > 0 {
            batch.extend_from_slice(
                format!(
                    "{{\"level\":\"warn\",\"message\":\"the log could not keep up\",\"lines_lost\":{lost}}}\n"
                )
                .as_bytes(),
            );
        }
        output.write(&batch);
        batch.clear();
        drop(done);
    }
}
