//! Lines to a file or a standard stream, from a thread of their own.
//!
//! Owns the bounded way between whoever logs and a disk or pipe that may stall. A full way drops the line and counts
//! it: a log that cannot be written must not stop requests. The count is written as soon as there is room again.
//! Invariant: a file that cannot be opened anew leaves the former open, and whoever asked is told.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;

use rustix::fs::Uid;
use tokio::sync::oneshot;

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
    Reopen(oneshot::Sender<io::Result<()>>),
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
    /// Opens the target and starts its thread, which ends with the last handle. A file that this makes is given to
    /// `owner`, for a program that is root now and will open it anew as this user.
    ///
    /// # Errors
    /// The file cannot be opened for appending, or not be given away.
    pub(crate) fn open(target: &Target, owner: Option<Uid>) -> io::Result<(Self, JoinHandle<()>)> {
        let output = Output::open(target, owner)?;
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

    /// Opens the file again under its name: the old one was moved away. Never waits; the answer comes when what was handed
    /// over before is written, and not at all when the thread has ended.
    ///
    /// # Errors
    /// The way is full, or, as the answer, the file cannot be opened: lines still go to the former.
    pub(crate) fn reopen(&self) -> io::Result<oneshot::Receiver<io::Result<()>>> {
        let (done, answer) = oneshot::channel();
        match self.orders.try_send(Order::Reopen(done)) {
            Ok(()) => Ok(answer),
            Err(_) => Err(io::Error::new(io::ErrorKind::WouldBlock, "the log cannot keep up")),
        }
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
    fn open(target: &Target, owner: Option<Uid>) -> io::Result<Self> {
        Ok(match target {
            Target::Stdout => Self::Stdout(io::stdout()),
            Target::Stderr => Self::Stderr(io::stderr()),
            Target::File(path) => Self::File(append(path, owner)?, path.clone()),
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

    fn reopen(&mut self) -> io::Result<()> {
        if let Self::File(file, path) = self {
            *file = append(path, None)?;
        }
        Ok(())
    }
}

/// The error names the file.
fn append(path: &Path, owner: Option<Uid>) -> io::Result<File> {
    make_or_open(path, owner)
        .map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", path.display())))
}

fn make_or_open(path: &Path, owner: Option<Uid>) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.append(true);
    if owner.is_some() {
        // One that is there has the owner that somebody gave it.
        match options.clone().create_new(true).open(path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
            Ok(file) => {
                rustix::fs::fchown(&file, owner, None)?;
                return Ok(file);
            }
        }
    }
    options.create(true).open(path)
}

fn write(mut output: Output, orders: &Receiver<Order>, dropped: &AtomicU64) {
    let mut batch = Vec::with_capacity(BATCH_BYTES);
    while let Ok(order) = orders.recv() {
        let mut next = Some(order);
        let mut done = Vec::new();
        while let Some(order) = next {
            match order {
                Order::Line(line) => batch.extend_from_slice(&line),
                Order::Reopen(answer) => {
                    output.write(&batch);
                    batch.clear();
                    drop(answer.send(output.reopen())); // who asked may have left
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::MetadataExt;

    fn folder(name: &str) -> PathBuf {
        let folder = std::env::temp_dir().join(format!("bandstand-sink-{name}-{}", std::process::id()));
        std::fs::create_dir(&folder).unwrap();
        folder
    }

    #[test]
    fn who_asks_for_the_file_anew_is_told_whether_it_was_had() {
        let folder = folder("reopen");
        let (path, moved) = (folder.join("a/access.log"), folder.join("b"));
        std::fs::create_dir(folder.join("a")).unwrap();
        let (sink, thread) = Sink::open(&Target::File(path.clone()), None).unwrap();
        sink.line(b"one\n".to_vec());
        std::fs::rename(folder.join("a"), &moved).unwrap();
        let error = sink.reopen().unwrap().blocking_recv().unwrap().unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
        assert!(error.to_string().starts_with(&format!("{}: ", path.display())), "{error}");
        sink.line(b"two\n".to_vec());
        std::fs::create_dir(folder.join("a")).unwrap();
        sink.reopen().unwrap().blocking_recv().unwrap().unwrap();
        sink.line(b"three\n".to_vec());
        drop(sink);
        thread.join().unwrap();
        assert_eq!(std::fs::read(moved.join("access.log")).unwrap(), b"one\ntwo\n");
        assert_eq!(std::fs::read(&path).unwrap(), b"three\n");
        std::fs::remove_dir_all(folder).unwrap();
    }

    /// Only root may give a file away.
    #[test]
    fn a_file_that_root_makes_is_the_users() {
        if !rustix::process::geteuid().is_root() {
            return;
        }
        let folder = folder("owner");
        let owner_of = |path: &Path| std::fs::metadata(path).unwrap().uid();
        let (made, found) = (folder.join("made"), folder.join("found"));
        std::fs::write(&found, "").unwrap();
        for (path, owner) in [(&made, 12_345), (&found, 0)] {
            append(path, Some(Uid::from_raw(12_345))).unwrap();
            assert_eq!(owner_of(path), owner, "{}", path.display());
        }
        std::fs::remove_dir_all(folder).unwrap();
    }
}
