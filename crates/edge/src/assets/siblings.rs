//! Compressed siblings of static files, made in the background where the project has made none.
//!
//! Owns a folder below `state_dir`, the thread that fills it, and its bounds. A file is known there by device, inode, length
//! and times: another content is another name, so what is found is never of an earlier one. Leaves to `entry.rs` what a
//! sibling is for, and to `body::encode` the compressing.
//! Invariant: a sibling is there whole or not at all, and at least a twentieth smaller than its original. Without a folder that
//! can be written to everything goes on without siblings.

use super::open::{Opened, RootDir, Stamp};
use crate::body::encode;
use bandstand_semantics::media_type;
use bandstand_semantics::negotiate::Coding;
use std::collections::HashSet;
use std::fs::{DirBuilder, File, FileTimes, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

/// Files that wait for their turn; what does not fit is asked for again when it is looked at again.
const WAITING: usize = 256;
/// Below it a sibling saves less than one packet; above it the smallest form takes seconds and the memory of a worker.
const SOURCE_BYTES: std::ops::RangeInclusive<u64> = 1024..=4 * 1024 * 1024;
/// What the folder may hold, all generations together.
const MOST_BYTES: u64 = 256 * 1024 * 1024;
const MOST_FILES: usize = 20_000;
/// Names remembered of files that were asked for.
const MOST_ASKED: usize = 20_000;
/// Beside a file of which no form is enough smaller.
const IN_VAIN: &str = "none";
/// What a write that was cut short leaves behind.
const UNFINISHED: &str = "tmp";
/// After so long nobody is at it any more.
const LEFT_BEHIND: Duration = Duration::from_secs(60);
/// A file is left alone until it has been as it is for so long: clocks of file systems tick in milliseconds, and two states of a
/// file within one tick have one name.
const REST: Duration = Duration::from_secs(1);
/// When the disk is full, the next try.
const PAUSE: Duration = Duration::from_secs(60);

/// The folder of siblings, and who fills it. Dropped, it makes no more.
#[derive(Debug)]
pub(crate) struct Siblings {
    dir: RootDir,
    orders: SyncSender<Order>,
    asked: Asked,
}

/// Names that were asked for, and need not be again.
#[derive(Debug, Clone, Default)]
struct Asked(Arc<Mutex<HashSet<String>>>);

impl Asked {
    fn names(&self) -> MutexGuard<'_, HashSet<String>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A file to make siblings of.
#[derive(Debug)]
struct Order {
    file: File,
    stamp: Stamp,
    name: String,
}

impl Siblings {
    /// Opens or makes the folder `static` below `state_dir`. `None`: it cannot be used, and the log says why.
    pub(crate) fn start(state_dir: &Path) -> Option<Siblings> {
        let folder = state_dir.join("static");
        let opened = own_folder(&folder).and_then(|()| Ok(RootDir::open(folder.clone())?)).and_then(|dir| {
            let (orders, received) = sync_channel(WAITING);
            let (thread, asked) = (std::thread::Builder::new(), Asked::default());
            let siblings = Siblings { dir, orders, asked: asked.clone() };
            thread.name("bandstand-static".into()).spawn(move || work(&folder, &received, &asked))?;
            Ok(siblings)
        });
        opened
            .inspect_err(|error| {
                let folder = state_dir.display();
                tracing::warn!(
                    "static files are sent uncompressed where the project has compressed none: nothing can be kept in \
                     {folder}/static ({error}); `state_dir` names another folder"
                );
            })
            .ok()
    }

    /// The siblings of a file in the order of `codings`; what there is none of is asked for.
    pub(super) fn find<const N: usize>(
        &self,
        relative: &[u8],
        original: &Opened,
        codings: [Coding; N],
    ) -> [Option<Opened>; N] {
        self.find_at(relative, original, codings, SystemTime::now())
    }

    fn find_at<const N: usize>(
        &self,
        relative: &[u8],
        original: &Opened,
        codings: [Coding; N],
        now: SystemTime,
    ) -> [Option<Opened>; N] {
        if !SOURCE_BYTES.contains(&original.stamp.size) || !is_text(media_type::of_path(relative)) {
            return [const { None }; N];
        }
        let name = original.stamp.name();
        let found = codings.map(|coding| {
            let sibling = self.dir.open_file(format!("{name}.{}", coding.as_str()).as_bytes()).ok()?;
            (sibling.stamp.size > 0).then_some(sibling)
        });
        if found.iter().all(Option::is_none) && original.stamp.rests(now, REST) {
            self.ask(original, name);
        }
        found
    }

    fn ask(&self, original: &Opened, name: String) {
        let mut asked = self.asked.names();
        if asked.contains(&name) {
            return;
        }
        let Ok(file) = original.file.try_clone() else { return };
        let order = Order { file, stamp: original.stamp, name: name.clone() };
        if self.orders.try_send(order).is_ok() {
            if asked.len() >= MOST_ASKED {
                asked.clear();
            }
            asked.insert(name);
        }
    }
}

/// Text in the wide sense; the rest is compressed already.
fn is_text(media_type: &str) -> bool {
    let bare = media_type.split(';').next().unwrap_or_default();
    bare.starts_with("text/")
        || bare.ends_with("+json")
        || bare.ends_with("+xml")
        || matches!(
            bare,
            "application/json"
                | "application/xml"
                | "application/javascript"
                | "application/wasm"
                | "image/x-icon"
                | "image/vnd.microsoft.icon"
                | "image/bmp"
                | "font/ttf"
                | "font/otf"
        )
}

/// A folder that is ours alone: what lies in it is sent to clients.
fn own_folder(folder: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    let found = folder.symlink_metadata()?;
    let is_ours =
        found.is_dir() && found.uid() == rustix::process::geteuid().as_raw() && found.mode() & 0o022 == 0;
    if !is_ours {
        return Err(io::Error::other("it belongs to somebody else, or others may write to it"));
    }
    // With our effective rights: the real ones may be those of the workers' user.
    let (here, write) = (rustix::fs::CWD, rustix::fs::Access::WRITE_OK);
    rustix::fs::accessat(here, folder, write, rustix::fs::AtFlags::EACCESS)?;
    Ok(())
}

/// The thread: one file after the other, whenever nobody else wants the processor.
fn work(folder: &Path, orders: &Receiver<Order>, asked: &Asked) {
    // On Linux this is the thread's alone. What does not work only makes it less polite.
    let _ = rustix::process::nice(19);
    let mut kept = Kept::read(folder);
    let mut paused: Option<Instant> = None;
    while let Ok(order) = orders.recv() {
        // A file takes seconds of the processor; nothing is made for a disk that was full just now.
        if paused.is_some_and(|since| since.elapsed() < PAUSE) {
            asked.names().remove(&order.name);
            continue;
        }
        paused = make(folder, &order, &mut kept).err().map(|error| {
            tracing::warn!(folder = %folder.display(), %error, "static files cannot be compressed; tried again in a minute");
            asked.names().remove(&order.name);
            Instant::now()
        });
        if kept.make_room(folder) {
            asked.names().clear();
        }
    }
}

fn make(folder: &Path, order: &Order, kept: &mut Kept) -> io::Result<()> {
    let mut bytes = vec![0; order.stamp.size as usize]; // at most SOURCE_BYTES
    order.file.read_exact_at(&mut bytes, 0)?;
    // Written to meanwhile: it will be asked for under its new name.
    if Stamp::again(&order.file) != Some(order.stamp)
        || folder.join(format!("{}.{IN_VAIN}", order.name)).exists()
    {
        return Ok(());
    }
    let mut in_vain = true;
    for coding in [Coding::Br, Coding::Gzip, Coding::Zstd] {
        let made = encode::smallest(coding, &bytes).filter(|made| made.len() <= bytes.len() / 100 * 95);
        if let Some(made) = made {
            in_vain = false;
            write(folder, &order.name, coding.as_str(), &made, order.stamp.modified())?;
            kept.add(made.len() as u64);
        }
    }
    if in_vain {
        write(folder, &order.name, IN_VAIN, b"", order.stamp.modified())?;
        kept.add(0);
    }
    Ok(())
}

/// Beside, and renamed: nobody sees half of it. It has the time of its original, so that its tag is the same everywhere.
fn write(folder: &Path, name: &str, end: &str, bytes: &[u8], modified: Option<SystemTime>) -> io::Result<()> {
    /// Two generations may be at the same file.
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let beside = folder.join(format!("{name}.{end}.{}-{number}.{UNFINISHED}", std::process::id()));
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&beside)?;
    let written = file.write_all(bytes).and_then(|()| match modified {
        Some(modified) => file.set_times(FileTimes::new().set_modified(modified)),
        None => Ok(()),
    });
    let done = written.and_then(|()| std::fs::rename(&beside, folder.join(format!("{name}.{end}"))));
    if done.is_err() {
        let _ = std::fs::remove_file(&beside);
    }
    done
}

/// What the folder holds.
#[derive(Debug, Default)]
struct Kept {
    bytes: u64,
    files: usize,
}

impl Kept {
    /// Counts, and takes away what was left unfinished.
    fn read(folder: &Path) -> Kept {
        let (mut kept, now) = (Kept::default(), SystemTime::now());
        for (path, metadata) in listed(folder) {
            if path.extension().is_some_and(|end| end == UNFINISHED) {
                let age = metadata.modified().ok().and_then(|then| now.duration_since(then).ok());
                if age.is_some_and(|age| age > LEFT_BEHIND) {
                    let _ = std::fs::remove_file(path);
                }
            } else {
                kept.add(metadata.len());
            }
        }
        kept
    }

    fn add(&mut self, bytes: u64) {
        self.bytes += bytes;
        self.files += 1;
    }

    /// Past its bounds the folder loses the older half of what it holds, and this is true: what is wanted is to be made again.
    fn make_room(&mut self, folder: &Path) -> bool {
        if self.bytes <= MOST_BYTES && self.files <= MOST_FILES {
            return false;
        }
        let mut all: Vec<_> = listed(folder).collect();
        all.sort_by_key(|(_, metadata)| (metadata.ctime(), metadata.ctime_nsec()));
        for (path, _) in &all[..all.len() / 2] {
            let _ = std::fs::remove_file(path);
        }
        *self = Kept::read(folder);
        true
    }
}

fn listed(folder: &Path) -> impl Iterator<Item = (PathBuf, std::fs::Metadata)> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries.filter_map(|entry| Some((entry.path(), entry.metadata().ok()?)))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::super::tests::Folder;
    use super::*;
    use crate::body::encode::tests::decoded;

    const CODINGS: [Coding; 3] = [Coding::Br, Coding::Zstd, Coding::Gzip];

    fn style() -> String {
        (0..200).map(|row| format!(".row-{row} {{ width: {}px }}\n", row * 37 % 401)).collect()
    }

    fn opened(folder: &Folder, name: &str) -> Opened {
        RootDir::open(folder.path().join("root")).unwrap().open_file(name.as_bytes()).unwrap()
    }

    /// Waits for the thread: it ends when nobody can give it orders any more.
    fn made(folder: &Folder, name: &str) -> Vec<String> {
        let (orders, received) = sync_channel(1);
        let original = opened(folder, name);
        let stamp = original.stamp;
        orders.send(Order { file: original.file, stamp, name: stamp.name() }).unwrap();
        drop(orders);
        let into = folder.path().join("made");
        own_folder(&into).unwrap();
        work(&into, &received, &Asked::default());
        let mut names: Vec<_> =
            listed(&into).map(|(path, _)| path.file_name().unwrap().to_str().unwrap().to_owned()).collect();
        names.sort();
        names
    }

    #[test]
    fn row_76_what_is_made_can_be_read_and_is_of_this_very_file() {
        let folder = Folder::new();
        folder.write("root/style.css", style());
        let name = opened(&folder, "style.css").stamp.name();
        let expected = ["br", "gzip", "zstd"].map(|end| format!("{name}.{end}"));
        assert_eq!(made(&folder, "style.css"), expected);
        let siblings = Siblings::start(folder.path()).unwrap();
        let dir = RootDir::open(folder.path().join("made")).unwrap();
        let siblings = Siblings { dir, ..siblings };
        let original = opened(&folder, "style.css");
        for (found, coding) in siblings.find(b"style.css", &original, CODINGS).into_iter().zip(CODINGS) {
            let found = found.expect("all three were made");
            let mut bytes = vec![0; found.stamp.size as usize];
            found.file.read_exact_at(&mut bytes, 0).unwrap();
            assert_eq!(decoded(coding, &bytes), style().as_bytes());
            assert_eq!(found.stamp.modified_s, original.stamp.modified_s, "one tag on every machine");
        }
        // Same length, other content: the old ones are not found.
        folder.write("root/style.css", style().replace("width", "niche"));
        let newer = opened(&folder, "style.css");
        assert!(siblings.find(b"style.css", &newer, CODINGS).iter().all(Option::is_none));
    }

    #[test]
    fn what_does_not_get_smaller_is_tried_once() {
        let folder = Folder::new();
        let mut noise = vec![0; 3000];
        getrandom::fill(&mut noise).unwrap();
        std::fs::create_dir_all(folder.path().join("root")).unwrap();
        std::fs::write(folder.path().join("root/noise.css"), noise).unwrap();
        let name = opened(&folder, "noise.css").stamp.name();
        assert_eq!(made(&folder, "noise.css"), [format!("{name}.{IN_VAIN}")]);
    }

    #[test]
    fn only_what_is_worth_it_is_asked_for() {
        let folder = Folder::new();
        folder.write("root/small.css", "a{}");
        folder.write("root/film.mp4", style());
        folder.write("root/large.css", style());
        let siblings = Siblings::start(folder.path()).unwrap();
        for (name, asked) in [("small.css", 0), ("film.mp4", 0), ("large.css", 1), ("large.css", 1)] {
            let later = SystemTime::now() + 2 * REST;
            siblings.find_at(name.as_bytes(), &opened(&folder, name), CODINGS, SystemTime::UNIX_EPOCH);
            siblings.find_at(name.as_bytes(), &opened(&folder, name), CODINGS, later);
            assert_eq!(siblings.asked.names().len(), asked, "{name}");
        }
    }

    /// Row 57, for what is kept today: a herd of clients at a file that has no sibling yet costs one making of it.
    #[test]
    fn row_57_a_herd_costs_one() {
        let folder = Folder::new();
        folder.write("root/style.css", style());
        let dir = RootDir::open(folder.path().join("root")).unwrap();
        let (orders, received) = sync_channel(WAITING);
        let siblings = Siblings { dir, orders, asked: Asked::default() };
        let original = opened(&folder, "style.css");
        let later = SystemTime::now() + 2 * REST;
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for _ in 0..20 {
                        siblings.find_at(b"style.css", &original, CODINGS, later);
                    }
                });
            }
        });
        assert_eq!(received.try_iter().count(), 1);
    }

    /// Row 50: what two states of a file within one tick of the clock would share is made of neither.
    #[test]
    fn row_50_a_file_that_was_just_written_is_left_alone() {
        let folder = Folder::new();
        folder.write("root/style.css", style());
        let siblings = Siblings::start(folder.path()).unwrap();
        let original = opened(&folder, "style.css");
        let written = original.stamp.modified().unwrap();
        let before = Duration::from_millis(1);
        for (now, asked) in
            [(written, 0), (written + REST - before, 0), (written - REST, 0), (written + 2 * REST, 1)]
        {
            siblings.find_at(b"style.css", &original, CODINGS, now);
            assert_eq!(siblings.asked.names().len(), asked, "{now:?}");
        }
    }

    /// Row 67: a disk that takes nothing costs one try a minute, and nobody waits for it in vain for ever.
    #[test]
    fn row_67_a_disk_that_is_full_is_left_alone_for_a_while() {
        let folder = Folder::new();
        folder.write("root/style.css", style());
        let (orders, received) = sync_channel(2);
        let (original, asked) = (opened(&folder, "style.css"), Asked::default());
        for _ in 0..2 {
            let (file, stamp) = (original.file.try_clone().unwrap(), original.stamp);
            asked.names().insert(stamp.name());
            orders.send(Order { file, stamp, name: stamp.name() }).unwrap();
        }
        drop(orders);
        work(&folder.path().join("nowhere"), &received, &asked);
        assert!(asked.names().is_empty());
    }

    #[test]
    fn a_folder_that_is_not_ours_is_not_used() {
        let folder = Folder::new();
        folder.write("elsewhere/x", "");
        symlink(folder.path().join("elsewhere"), folder.path().join("static")).unwrap();
        assert!(Siblings::start(folder.path()).is_none());
        folder.write("file", "");
        assert!(Siblings::start(&folder.path().join("file")).is_none());
    }

    #[test]
    fn past_its_bounds_the_older_half_goes() {
        let folder = Folder::new();
        for name in ["made/1.br", "made/2.br", "made/3.br", "made/4.br", "made/5.br.1.tmp", "made/6.br.1.tmp"]
        {
            folder.write(name, "x");
        }
        let into = folder.path().join("made");
        let long_ago = FileTimes::new().set_modified(SystemTime::now() - 2 * LEFT_BEHIND);
        File::options().write(true).open(into.join("5.br.1.tmp")).unwrap().set_times(long_ago).unwrap();
        let mut kept = Kept::read(&into);
        assert_eq!((kept.files, kept.bytes), (4, 4));
        assert!(!into.join("5.br.1.tmp").exists(), "nobody is at it any more");
        assert!(into.join("6.br.1.tmp").exists(), "somebody may be");
        std::fs::remove_file(into.join("6.br.1.tmp")).unwrap();
        assert!(!kept.make_room(&into));
        kept.bytes = MOST_BYTES + 1;
        assert!(kept.make_room(&into));
        assert_eq!((kept.files, kept.bytes), (2, 2));
    }
}
