//! The eyes: a thread that watches folders and says which changes matter.
//!
//! Owns the file events (`notify`: inotify, FSEvents), the polling where there are none, the set of watched folders, and a
//! stamp of each file, so that what was only read or written again as it was is no change. Folders are watched, not files:
//! editors save by renaming a new file over the old one, and the old one would be watched for ever. Trees are walked
//! here, because a recursive watch would take in `node_modules`. Polling is our own, because that of `notify` compares
//! whole seconds, and two saves are often closer. What a path means is `rules`'.

use std::collections::hash_map::Entry;
use std::collections::{BTreeSet, HashMap, HashSet};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self as std_mpsc, RecvTimeoutError};
use std::time::{Duration, SystemTime};

use bandstand_config::WatchMethod;
use notify::event::{AccessKind, AccessMode, EventKind};
use notify::{Config, RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::mpsc;

use super::Told;
use super::rules::{Kind, Watched, is_ignored_name};

/// Between two looks at all files, where there are no events.
const POLL: Duration = Duration::from_millis(300);

/// Folders below one tree: past it something was taken for a source folder that is none.
const TREE_MOST: usize = 5000;

/// Changes that wait to be taken; when it is full, the reader of events waits.
const WAITING: usize = 1024;

/// A change that asks for something.
#[derive(Debug)]
pub(crate) struct Change {
    pub(crate) path: PathBuf,
    pub(crate) kind: Kind,
}

/// What the thread is told.
pub(crate) enum Message {
    /// Something happened to these paths.
    Touched(Vec<PathBuf>),
    /// Something happened that no event tells: there were too many (inotify(7), `IN_Q_OVERFLOW`), or reading them failed.
    Missed,
    /// More that matters.
    Told(Told),
    /// Whether any source file may matter.
    AnySource(bool),
    /// The end.
    Stop,
}

/// The way to the thread; it ends with this.
pub(crate) struct Eyes(std_mpsc::Sender<Message>);

impl Eyes {
    /// Tells it more.
    pub(crate) fn tell(&self, message: Message) {
        // It ends with us; before that it listens.
        let _ = self.0.send(message);
    }
}

impl Drop for Eyes {
    fn drop(&mut self) {
        self.tell(Message::Stop);
    }
}

/// Opens them. The changes come in order; the receiver's end ends nothing but the sending.
///
/// # Errors
/// The thread cannot be started.
pub(crate) fn open(watched: Watched, method: WatchMethod) -> std::io::Result<(Eyes, mpsc::Receiver<Change>)> {
    let (tell, told) = std_mpsc::channel();
    let (changes, changed) = mpsc::channel(WAITING);
    let mut watch = Watch {
        eyes: None,
        tell: tell.clone(),
        missed: Arc::default(),
        polls: method == WatchMethod::Poll
            || (method == WatchMethod::Auto && has_no_events(&watched.project)),
        may_poll: method != WatchMethod::Native,
        folders: HashSet::new(),
        stamps: HashMap::new(),
        fresh: Vec::new(),
        watched,
    };
    std::thread::Builder::new().name("bandstand-watch".into()).spawn(move || {
        watch.look();
        watch.stamp_all();
        watch.run(&told, &changes);
    })?;
    Ok((Eyes(tell), changed))
}

struct Watch {
    eyes: Option<RecommendedWatcher>,
    tell: std_mpsc::Sender<Message>,
    /// `Message::Missed` is on its way: one is enough, however often reading fails.
    missed: Arc<AtomicBool>,
    polls: bool,
    may_poll: bool,
    folders: HashSet<PathBuf>,
    stamps: HashMap<PathBuf, Option<Stamp>>,
    /// Files that were stamped for the first time and not judged yet.
    fresh: Vec<PathBuf>,
    watched: Watched,
}

/// What changes when a file does: time of change in seconds and nanoseconds, size, file number.
type Stamp = (i64, i64, u64, u64);

fn stamp(path: &Path) -> Option<Stamp> {
    let found = fs::metadata(path).ok()?;
    Some((found.mtime(), found.mtime_nsec(), found.size(), found.ino()))
}

fn saved_after(path: &Path, moment: SystemTime) -> bool {
    fs::metadata(path).and_then(|found| found.modified()).is_ok_and(|saved| saved > moment)
}

impl Watch {
    fn run(&mut self, told: &std_mpsc::Receiver<Message>, changes: &mpsc::Sender<Change>) {
        loop {
            let message = match self.polls {
                true => told.recv_timeout(POLL),
                false => told.recv().map_err(|_| RecvTimeoutError::Disconnected),
            };
            let found = match message {
                Ok(Message::Touched(paths)) => {
                    paths.into_iter().filter_map(|path| self.judge(path)).collect()
                }
                Ok(Message::Missed) => self.catch_up(),
                Ok(Message::Told(more)) => {
                    let since = more.since;
                    self.grow(since, |watch| watch.add(more))
                }
                Ok(Message::AnySource(any)) => self.grow(None, |watch| watch.watched.any_source = any),
                Err(RecvTimeoutError::Timeout) => self.poll(),
                Ok(Message::Stop) | Err(RecvTimeoutError::Disconnected) => return,
            };
            for change in found {
                if changes.blocking_send(change).is_err() {
                    return;
                }
            }
        }
    }

    /// More is watched from now on. As it is now it is no change, unless it was saved after `since`: whoever told us may
    /// have read it before that.
    fn grow(&mut self, since: Option<SystemTime>, by: impl FnOnce(&mut Self)) -> Vec<Change> {
        self.fresh.clear();
        by(self);
        self.look();
        self.stamp_all();
        let fresh = std::mem::take(&mut self.fresh);
        let Some(since) = since else { return Vec::new() };
        fresh
            .into_iter()
            .filter(|path| saved_after(path, since))
            .filter_map(|path| self.change(path))
            .collect()
    }

    fn change(&self, path: PathBuf) -> Option<Change> {
        let kind = self.watched.kind(&path)?;
        Some(Change { path, kind })
    }

    /// Compares everything with how it was, after events were missed. They may have been about folders that are others now
    /// of the same name, so all are watched anew.
    fn catch_up(&mut self) -> Vec<Change> {
        self.missed.store(false, Ordering::Relaxed);
        if !self.polls {
            self.eyes = None;
            self.folders.clear();
        }
        self.poll()
    }

    fn poll(&mut self) -> Vec<Change> {
        self.look();
        let mut paths = self.files();
        paths.extend(self.stamps.keys().cloned());
        paths.into_iter().filter_map(|path| self.judge(path)).collect()
    }

    /// Files that matter, in the watched folders.
    fn files(&self) -> BTreeSet<PathBuf> {
        let entries =
            self.folders.iter().flat_map(|folder| fs::read_dir(folder).into_iter().flatten().flatten());
        entries
            .map(|entry| entry.path())
            .filter(|path| self.watched.kind(path).is_some() && path.is_file())
            .collect()
    }

    fn stamp_all(&mut self) {
        for path in self.files() {
            self.stamp_first(path);
        }
    }

    fn stamp_first(&mut self, path: PathBuf) {
        if let Entry::Vacant(place) = self.stamps.entry(path.clone()) {
            place.insert(stamp(&path));
            self.fresh.push(path);
        }
    }

    fn judge(&mut self, path: PathBuf) -> Option<Change> {
        if self.folders.contains(&path) || path.is_dir() {
            return self.judge_folder(&path);
        }
        let change = self.change(path)?;
        let now = stamp(&change.path);
        let before = self.stamps.insert(change.path.clone(), now);
        (before != Some(now)).then_some(change)
    }

    /// A folder that came or went: what is in it is watched, and was put there at once (a checkout, a move).
    fn judge_folder(&mut self, path: &Path) -> Option<Change> {
        if !path.is_dir() {
            self.folders.remove(path);
            return None;
        }
        if self.watched.trees().any(|tree| path.starts_with(tree)) || !self.missing().is_empty() {
            let before = self.folders.len();
            self.look();
            let inside = fs::read_dir(path).ok()?.flatten().map(|entry| entry.path());
            let kind = inside.filter_map(|file| self.watched.kind(&file)).min();
            if self.folders.len() > before {
                return kind.map(|kind| Change { path: path.to_owned(), kind });
            }
        }
        None
    }

    fn missing(&self) -> Vec<&Path> {
        let parents = self.watched.files.iter().filter_map(|file| file.parent());
        parents.filter(|parent| !self.folders.contains(*parent)).collect()
    }

    fn add(&mut self, more: Told) {
        for file in more.files {
            // A link's target is what an editor opens.
            if let Ok(target) = file.canonicalize()
                && target != file
            {
                self.keep(target);
            }
            self.keep(file);
        }
        let watched = &mut self.watched;
        for (known, new) in [
            (&mut watched.templates, more.templates),
            (&mut watched.locale, more.locale),
            (&mut watched.statics, more.statics),
        ] {
            for folder in new {
                if !known.contains(&folder) {
                    known.push(folder);
                }
            }
        }
    }

    fn keep(&mut self, file: PathBuf) {
        self.stamp_first(file.clone());
        self.watched.files.insert(file);
    }

    /// Watches every folder that is to be watched and is not yet.
    fn look(&mut self) {
        let mut wanted: BTreeSet<PathBuf> = BTreeSet::new();
        wanted.insert(self.watched.project.clone());
        wanted.extend(self.watched.files.iter().filter_map(|file| file.parent()).map(Path::to_owned));
        for tree in self.watched.trees() {
            walk(tree, &mut wanted);
        }
        for folder in wanted {
            if !self.folders.contains(&folder) && folder.is_dir() {
                self.watch(folder);
            }
        }
    }

    fn watch(&mut self, folder: PathBuf) {
        if self.polls {
            self.folders.insert(folder);
            return;
        }
        let outcome = match self.eyes() {
            Ok(eyes) => eyes.watch(&folder, RecursiveMode::NonRecursive),
            Err(error) => Err(error),
        };
        match outcome {
            Ok(()) => {
                self.folders.insert(folder);
            }
            Err(error) if is_gone(&error) => {}
            Err(error) if self.may_poll => {
                tracing::warn!(%error, "there are no file events here: files are looked at again and again instead");
                self.polls = true;
                self.eyes = None;
                self.folders.insert(folder);
            }
            Err(error) => {
                tracing::warn!(%error, folder = %folder.display(), "this folder is not watched");
                self.folders.insert(folder);
            }
        }
    }

    fn eyes(&mut self) -> notify::Result<&mut RecommendedWatcher> {
        let eyes = match self.eyes.take() {
            Some(eyes) => eyes,
            None => {
                let (tell, missed) = (self.tell.clone(), self.missed.clone());
                let handle = move |event| {
                    if let Some(message) = read(event, &missed) {
                        // The thread has ended: nobody wants to know.
                        let _ = tell.send(message);
                    }
                };
                RecommendedWatcher::new(handle, Config::default())?
            }
        };
        Ok(self.eyes.insert(eyes))
    }
}

/// What an event says; nothing if it says what was said.
fn read(event: notify::Result<notify::Event>, missed: &AtomicBool) -> Option<Message> {
    match event {
        Ok(event) if !event.need_rescan() => {
            changes_something(&event.kind).then_some(Message::Touched(event.paths))
        }
        _ => (!missed.swap(true, Ordering::Relaxed)).then_some(Message::Missed),
    }
}

/// Imports open files by the thousand; only the end of writing is of interest.
fn changes_something(kind: &EventKind) -> bool {
    match kind {
        EventKind::Access(AccessKind::Close(mode)) => *mode == AccessMode::Write,
        EventKind::Access(_) => false,
        _ => true,
    }
}

fn is_gone(error: &notify::Error) -> bool {
    match &error.kind {
        notify::ErrorKind::PathNotFound => true,
        notify::ErrorKind::Io(error) => error.kind() == std::io::ErrorKind::NotFound,
        _ => false,
    }
}

/// `folder` and the folders below it that people edit in; links are not followed, they may lead in circles.
fn walk(folder: &Path, found: &mut BTreeSet<PathBuf>) {
    let mut ahead = vec![folder.to_owned()];
    let most = found.len() + TREE_MOST;
    while let Some(folder) = ahead.pop() {
        if found.len() >= most {
            return;
        }
        for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
            let is_folder = entry.file_type().is_ok_and(|kind| kind.is_dir());
            if is_folder
                && !is_ignored_name(&entry.file_name().to_string_lossy())
                && !is_environment(&entry.path())
            {
                ahead.push(entry.path());
            }
        }
        found.insert(folder);
    }
}

/// A virtual environment of any name.
fn is_environment(folder: &Path) -> bool {
    folder.join("pyvenv.cfg").exists()
}

/// File systems that another machine, or the host of a virtual one, changes without an event: 9P (WSL), NFS, SMB, FUSE
/// (Docker on a Mac), VirtualBox. Numbers: `statfs(2)`.
#[cfg(target_os = "linux")]
fn has_no_events(folder: &Path) -> bool {
    const WITHOUT: &[i64] =
        &[0x0102_1997, 0x6969, 0xff53_4d42, 0xfe53_4d42, 0x517b, 0x6573_5546, 0x786f_4256];
    #[allow(clippy::unnecessary_cast, reason = "the type differs between architectures")]
    rustix::fs::statfs(folder).is_ok_and(|found| WITHOUT.contains(&(found.f_type as i64)))
}

#[cfg(not(target_os = "linux"))]
fn has_no_events(_: &Path) -> bool {
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    fn next(changes: &mut mpsc::Receiver<Change>) -> (PathBuf, Kind) {
        let change = changes.blocking_recv().unwrap();
        (change.path, change.kind)
    }

    struct Folder(PathBuf);

    impl Folder {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("bandstand-watch-{}-{name}", std::process::id()));
            let _ = fs::remove_dir_all(&path);
            fs::create_dir_all(path.join("templates")).unwrap();
            fs::write(path.join("views.py"), "1").unwrap();
            fs::write(path.join("other.py"), "1").unwrap();
            Self(path.canonicalize().unwrap())
        }

        fn watched(&self) -> Watched {
            let mut watched = Watched { project: self.0.clone(), ..Watched::default() };
            watched.files.extend(["views.py", "flag.py"].map(|name| self.0.join(name)));
            watched.templates.push(self.0.join("templates"));
            watched
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    /// The thread looks at all folders before it hears the first message: a file that it never saw, and that is not there.
    fn wait_until_open(folder: &Folder, eyes: &Eyes, changes: &mut mpsc::Receiver<Change>) {
        eyes.tell(Message::Touched(vec![folder.0.join("flag.py")]));
        assert_eq!(next(changes).0, folder.0.join("flag.py"));
    }

    fn story(name: &str, method: WatchMethod) {
        let folder = Folder::new(name);
        let (eyes, mut changes) = open(folder.watched(), method).unwrap();
        wait_until_open(&folder, &eyes, &mut changes);
        let mut sees = |path: &Path, kind| {
            // One save may be several events.
            loop {
                let (seen, what) = next(&mut changes);
                if seen == path {
                    assert_eq!(what, kind);
                    return;
                }
                assert!(!seen.ends_with("other.py"), "other.py is not imported");
            }
        };
        // Another file first: it must not be told.
        fs::write(folder.0.join("other.py"), "22").unwrap();
        fs::write(folder.0.join("views.py"), "22").unwrap();
        sees(&folder.0.join("views.py"), Kind::Code);
        // As editors save: a new file takes the name of the old one.
        fs::write(folder.0.join("views.py~"), "333").unwrap();
        fs::rename(folder.0.join("views.py~"), folder.0.join("views.py")).unwrap();
        sees(&folder.0.join("views.py"), Kind::Code);
        // And once more: the name is still watched.
        fs::write(folder.0.join("views.py"), "4444").unwrap();
        sees(&folder.0.join("views.py"), Kind::Code);
        let deep = folder.0.join("templates/shop");
        fs::create_dir(&deep).unwrap();
        fs::write(deep.join("a.html"), "1").unwrap();
        loop {
            let (seen, kind) = next(&mut changes);
            if seen.starts_with(&deep) {
                assert_eq!(kind, Kind::Code);
                break;
            }
        }
        drop(eyes);
    }

    #[test]
    fn native_events_follow_editors() {
        story("native", WatchMethod::Native);
    }

    #[test]
    fn polling_sees_the_same() {
        story("poll", WatchMethod::Poll);
    }

    /// One whose events nobody hears.
    fn deaf(folder: &Folder) -> Watch {
        Watch {
            eyes: None,
            tell: std_mpsc::channel().0,
            missed: Arc::default(),
            polls: false,
            may_poll: false,
            folders: HashSet::new(),
            stamps: HashMap::new(),
            fresh: Vec::new(),
            watched: Watched { project: folder.0.clone(), ..Watched::default() },
        }
    }

    #[test]
    fn what_events_missed_is_found_and_nothing_else() {
        let folder = Folder::new("missed");
        fs::write(folder.0.join("templates/a.html"), "1").unwrap();
        fs::write(folder.0.join("templates/b.html"), "1").unwrap();
        let mut watch = deaf(&folder);
        let files = vec![folder.0.join("views.py")];
        let templates = vec![folder.0.join("templates")];
        watch.grow(None, |watch| watch.add(Told { files, templates, ..Told::default() }));
        let caught = |watch: &mut Watch| -> BTreeSet<PathBuf> {
            watch.catch_up().into_iter().map(|change| change.path).collect()
        };
        assert_eq!(caught(&mut watch), BTreeSet::new(), "as it was when it was told");
        let changed =
            ["views.py", "templates/a.html", "templates/deep/c.html"].map(|name| folder.0.join(name));
        fs::create_dir(folder.0.join("templates/deep")).unwrap();
        for path in &changed {
            fs::write(path, "longer").unwrap();
        }
        assert_eq!(caught(&mut watch), changed.into());
        assert!(watch.folders.contains(&folder.0.join("templates/deep")));
        assert_eq!(caught(&mut watch), BTreeSet::new());
    }

    #[test]
    fn what_was_saved_during_a_start_is_a_change() {
        let folder = Folder::new("start");
        fs::write(folder.0.join("templates/a.html"), "1").unwrap();
        let saved = fs::metadata(folder.0.join("templates/a.html")).unwrap().modified().unwrap();
        let told = |since| Told { templates: vec![folder.0.join("templates")], since, ..Told::default() };
        for (since, changes) in [
            (None, 0),
            (Some(saved), 0),
            (Some(saved - Duration::from_secs(1)), 1),
            (Some(saved + Duration::from_secs(1)), 0),
        ] {
            let mut watch = deaf(&folder);
            let grown = watch.grow(since, |watch| watch.add(told(since)));
            assert_eq!(grown.len(), changes, "{since:?}");
            assert!(watch.grow(since, |watch| watch.add(told(since))).is_empty(), "told once");
        }
    }

    #[test]
    fn what_events_say() {
        use notify::Event;
        use notify::event::{Flag, ModifyKind};
        let missed = AtomicBool::new(false);
        let say = |event| match read(event, &missed) {
            None => "nothing",
            Some(Message::Touched(_)) => "touched",
            Some(Message::Missed) => "missed",
            Some(_) => "what nobody said",
        };
        let overflow = || Ok(Event::new(EventKind::Other).set_flag(Flag::Rescan));
        assert_eq!(say(Ok(Event::new(EventKind::Modify(ModifyKind::Any)))), "touched");
        assert_eq!(say(Ok(Event::new(EventKind::Access(AccessKind::Read)))), "nothing");
        assert_eq!(say(overflow()), "missed");
        assert_eq!(say(Err(notify::Error::generic("no more"))), "nothing", "it is on its way");
        missed.store(false, Ordering::Relaxed);
        assert_eq!(say(Err(notify::Error::generic("no more"))), "missed");
    }

    #[test]
    fn what_was_only_read_or_is_as_it_was_is_no_change() {
        let folder = Folder::new("stamp");
        let mut watch = deaf(&folder);
        let views = folder.0.join("views.py");
        watch.add(Told { files: vec![views.clone()], ..Told::default() });
        assert!(watch.judge(views.clone()).is_none(), "as it was when it was told");
        fs::write(&views, "longer").unwrap();
        assert!(watch.judge(views.clone()).is_some());
        assert!(watch.judge(views.clone()).is_none());
        fs::remove_file(&views).unwrap();
        assert!(watch.judge(views.clone()).is_some());
        assert!(watch.judge(folder.0.join("other.py")).is_none());
    }

    #[test]
    fn trees_leave_out_what_nobody_edits() {
        let folder = Folder::new("tree");
        for inside in ["a/b", "node_modules/x", ".git/objects", "a/__pycache__", "env/lib"] {
            fs::create_dir_all(folder.0.join(inside)).unwrap();
        }
        fs::write(folder.0.join("env/pyvenv.cfg"), "").unwrap();
        let mut found = BTreeSet::new();
        walk(&folder.0, &mut found);
        let names: Vec<_> =
            found.iter().map(|path| path.strip_prefix(&folder.0).unwrap().to_str().unwrap()).collect();
        assert_eq!(names, ["", "a", "a/b", "templates"]);
    }
}
