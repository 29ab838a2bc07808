//! Where the control socket of a project is, for the server that makes it and the commands that look for it.
//!
//! Owns the rule, which both follow without a word between them: the setting `control`, else a file whose name follows from the
//! project folder and the settings file, in a folder that only its owner can write. Leaves to `socket.rs` what is done
//! with the path. Invariant: a folder that somebody else could have put there is never used.
//! Source: XDG Base Directory Specification (`XDG_RUNTIME_DIR`), FHS 3.0 §3.15 (`/run`), unix(7).

use std::ffi::OsStr;
use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use bandstand_config::Loaded;

/// Instances of one project at one place.
const INSTANCES: usize = 16;
/// Longest part of a name that comes from the project folder, in bytes.
const NAME_MOST: usize = 32;
/// Longest path of a socket on every system we know, in bytes: 104 with the final zero on macOS, 108 on Linux.
const PATH_MOST: usize = 103;
/// Folders of users below `/run/bandstand` that a command looks into.
const USERS_MOST: usize = 64;

/// What the place of a control socket follows from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The setting `control`.
    path: Option<PathBuf>,
    /// Of the project: `NAME-HASH`.
    stem: String,
    /// The user that root becomes.
    user: Option<String>,
    surroundings: Surroundings,
}

/// What it follows from beside the settings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Surroundings {
    pub(crate) uid: u32,
    /// `/run`, but in tests.
    pub(crate) run: PathBuf,
    /// `XDG_RUNTIME_DIR`.
    pub(crate) xdg: Option<PathBuf>,
    /// `/tmp`, but in tests. Never `TMPDIR`, which a command may have and a service not.
    pub(crate) tmp: PathBuf,
}

impl Surroundings {
    fn here() -> Self {
        let xdg = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from).filter(|path| path.is_absolute());
        Self { uid: rustix::process::geteuid().as_raw(), run: "/run".into(), xdg, tmp: "/tmp".into() }
    }
}

impl Place {
    /// The place of the project that these settings are of.
    pub fn of(loaded: &Loaded) -> Self {
        let settings = &loaded.settings;
        let stem = stem(&settings.chdir, loaded.config_file().as_deref());
        Self {
            path: settings.control.clone(),
            stem,
            user: settings.user.clone(),
            surroundings: Surroundings::here(),
        }
    }

    /// A socket that somebody named.
    pub fn at(path: PathBuf) -> Self {
        Self { path: Some(path), stem: String::new(), user: None, surroundings: Surroundings::here() }
    }

    /// A place in a world of a test.
    #[cfg(test)]
    pub(crate) fn within(surroundings: Surroundings, user: Option<&str>) -> Self {
        let stem = stem(Path::new("/srv/shop"), None);
        Self { path: None, stem, user: user.map(str::to_owned), surroundings }
    }

    /// The path that the operator chose.
    pub(crate) fn chosen(&self) -> Option<&Path> {
        self.path.as_deref()
    }

    /// Who the socket is to belong to, when the server gives root away.
    ///
    /// # Errors
    /// There is no such user.
    pub(crate) fn owner(&self) -> io::Result<Option<(u32, u32)>> {
        let user = self.user.as_deref().filter(|_| self.surroundings.uid == 0);
        user.map(bandstand_supervisor::account_of).transpose().map_err(io::Error::other)
    }

    /// The paths a server tries, in this order, below `folder`.
    pub(crate) fn candidates(&self, folder: &Path) -> impl Iterator<Item = PathBuf> {
        (1..=INSTANCES).map(move |instance| folder.join(self.file_name(instance)))
    }

    /// Makes the folder for a server's socket, or finds it.
    ///
    /// # Errors
    /// No place will do; the reason is that of the last one.
    pub(crate) fn folder(&self) -> io::Result<PathBuf> {
        let mut last = io::Error::other("no folder will do");
        for (folder, mode) in self.homes() {
            let made = match self.user_folder(&folder) {
                Ok(true) => own_folder(&folder, 0o755, self.surroundings.uid)
                    .and_then(|()| self.give(&folder.join(self.user_name()))),
                Ok(false) => own_folder(&folder, mode, self.surroundings.uid).map(|()| folder),
                Err(error) => Err(error),
            };
            match made {
                Ok(folder) if fits(&folder.join(self.file_name(INSTANCES))) => return Ok(folder),
                Ok(folder) => last = io::Error::other(format!("{} is too long a path", folder.display())),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    /// Sockets of this project that exist, whether or not a server is behind them.
    pub fn sockets(&self) -> Vec<PathBuf> {
        if let Some(path) = &self.path {
            return if is_socket(path) { vec![path.clone()] } else { Vec::new() };
        }
        let trusted =
            self.homes().into_iter().filter(|(folder, _)| owned(folder, &[0, self.surroundings.uid]));
        let mut folders: Vec<PathBuf> = trusted.map(|(folder, _)| folder).collect();
        // Only root can have made the folders in there, each for a user that a server became.
        if owned(&self.run(), &[0]) {
            let below = fs::read_dir(self.run()).into_iter().flatten().flatten().take(USERS_MOST);
            folders.extend(below.map(|entry| entry.path()).filter(|path| path.is_dir()));
        }
        let paths = folders.iter().flat_map(|folder| self.candidates(folder));
        paths.filter(|path| is_socket(path)).collect()
    }

    /// Where somebody who wants to name it would look.
    pub fn shown(&self) -> String {
        let folder = self.homes().into_iter().find(|(folder, _)| owned(folder, &[self.surroundings.uid]));
        let path = self.path.clone().or_else(|| Some(folder?.0.join(self.file_name(1))));
        path.unwrap_or_else(|| PathBuf::from(self.file_name(1))).display().to_string()
    }

    /// Folders by preference, with the mode in which they are made.
    fn homes(&self) -> Vec<(PathBuf, u32)> {
        let Surroundings { uid, xdg, tmp, .. } = &self.surroundings;
        let mut homes = vec![(self.run(), 0o755)];
        homes.extend(xdg.iter().map(|xdg| (xdg.join("bandstand"), 0o700)));
        homes.push((tmp.join(format!("bandstand-{uid}")), 0o700));
        homes
    }

    fn run(&self) -> PathBuf {
        self.surroundings.run.join("bandstand")
    }

    fn file_name(&self, instance: usize) -> String {
        match instance {
            1 => format!("{}.sock", self.stem),
            _ => format!("{}-{instance}.sock", self.stem),
        }
    }

    /// Whether the socket goes into a folder of the user that root becomes, so that this user can take it away at the end.
    fn user_folder(&self, folder: &Path) -> io::Result<bool> {
        match self.owner()? {
            Some((uid, _)) if uid != self.surroundings.uid && folder == self.run() => Ok(true),
            Some((uid, _)) if uid != self.surroundings.uid => {
                Err(io::Error::other("only /run has room for the socket of a server that gives root away"))
            }
            _ => Ok(false),
        }
    }

    fn user_name(&self) -> String {
        plain(self.user.as_deref().unwrap_or_default().as_bytes())
    }

    fn give(&self, folder: &Path) -> io::Result<PathBuf> {
        let owner = self.owner()?;
        let uid = owner.map_or(self.surroundings.uid, |(uid, _)| uid);
        match DirBuilder::new().mode(0o700).create(folder) {
            Ok(()) => std::os::unix::fs::lchown(folder, Some(uid), owner.map(|(_, gid)| gid))?,
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
        match owned(folder, &[uid]) {
            true => Ok(folder.to_owned()),
            false => Err(not_ours(folder)),
        }
    }
}

/// `NAME-HASH`: the folder's name for people, the hash for what the name leaves out.
fn stem(project: &Path, config: Option<&Path>) -> String {
    let project = fs::canonicalize(project).unwrap_or_else(|_| project.to_owned());
    let config = config.map(|path| fs::canonicalize(path).unwrap_or_else(|_| path.to_owned()));
    let mut hash = fnv(FNV_START, project.as_os_str().as_bytes());
    if let Some(config) = config {
        hash = fnv(fnv(hash, b"\0"), config.as_os_str().as_bytes());
    }
    let name = plain(project.file_name().unwrap_or(OsStr::new("root")).as_bytes());
    format!("{name}-{:08x}", (hash ^ (hash >> 32)) as u32)
}

/// Letters, digits and the few signs that need no quotes in a shell; the rest becomes `_`.
fn plain(name: &[u8]) -> String {
    let keep = |byte: &u8| match *byte {
        byte if byte.is_ascii_alphanumeric() || b"-_".contains(&byte) => char::from(byte),
        _ => '_',
    };
    name.iter().take(NAME_MOST).map(keep).collect()
}

const FNV_START: u64 = 0xcbf2_9ce4_8422_2325;

/// FNV-1a: the same in every version of the program, which the standard library's hash does not promise.
fn fnv(start: u64, bytes: &[u8]) -> u64 {
    bytes.iter().fold(start, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

/// Whether a socket can be bound there.
pub(crate) fn fits(path: &Path) -> bool {
    path.as_os_str().len() <= PATH_MOST
}

/// A folder that is ours and that nobody else writes, made where it is missing.
fn own_folder(folder: &Path, mode: u32, uid: u32) -> io::Result<()> {
    match DirBuilder::new().mode(mode).create(folder) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        _ if owned(folder, &[uid]) => Ok(()),
        _ => Err(not_ours(folder)),
    }
}

/// A real folder, no link, that belongs to one of `uids` and that no other can write.
fn owned(folder: &Path, uids: &[u32]) -> bool {
    fs::symlink_metadata(folder)
        .is_ok_and(|found| found.is_dir() && uids.contains(&found.uid()) && found.mode() & 0o022 == 0)
}

fn not_ours(folder: &Path) -> io::Error {
    io::Error::other(format!("{} is not a folder that only this user can write", folder.display()))
}

fn is_socket(path: &Path) -> bool {
    use std::os::unix::fs::FileTypeExt;
    fs::symlink_metadata(path).is_ok_and(|found| found.file_type().is_socket())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::tests::Folder;
    use std::os::unix::fs::PermissionsExt;
    use std::os::unix::net::UnixListener;

    fn world(folder: &Folder) -> Surroundings {
        let uid = rustix::process::geteuid().as_raw();
        for name in ["run", "xdg", "tmp"] {
            fs::create_dir(folder.path().join(name)).unwrap();
        }
        let at = |name| folder.path().join(name);
        Surroundings { uid, run: at("run"), xdg: Some(at("xdg")), tmp: at("tmp") }
    }

    #[test]
    fn names_follow_from_the_project() {
        let name = |project: &str, config: Option<&str>| stem(Path::new(project), config.map(Path::new));
        assert_eq!(name("/srv/shop", None), name("/srv/shop", None));
        for (project, config) in [("/srv/b/shop", None), ("/srv/shop", Some("/etc/shop.toml"))] {
            let other = name(project, config);
            assert!(other.starts_with("shop-") && other != name("/srv/shop", None), "{other}");
        }
        for (project, begins) in [
            ("/", "root-"),
            ("/srv/my shop", "my_shop-"),
            ("/srv/../..", "root-"),
            ("/srv/лавка", "__________-"),
            ("/x/aaaaaaaaaabbbbbbbbbbccccccccccdddddddddd", "aaaaaaaaaabbbbbbbbbbccccccccccdd-"),
        ] {
            let name = name(project, None);
            let (_, hash) = name.rsplit_once('-').unwrap();
            assert!(name.starts_with(begins) && name.len() == begins.len() + 8, "{name}");
            assert!(hash.bytes().all(|byte| byte.is_ascii_hexdigit()), "{name}");
        }
    }

    #[test]
    fn the_first_home_that_can_be_ours_is_taken() {
        let folder = Folder::new();
        let world = world(&folder);
        let place = Place::within(world.clone(), None);
        assert_eq!(place.folder().unwrap(), world.run.join("bandstand"));
        // Somebody else could write into it: it is passed over, by the server and by the commands.
        fs::set_permissions(world.run.join("bandstand"), fs::Permissions::from_mode(0o777)).unwrap();
        let next = folder.path().join("xdg/bandstand");
        assert_eq!(place.folder().unwrap(), next);
        assert_eq!(fs::metadata(&next).unwrap().mode() & 0o777, 0o700);
        let last = Place::within(Surroundings { xdg: None, ..world.clone() }, None).folder().unwrap();
        assert_eq!(last, world.tmp.join(format!("bandstand-{}", world.uid)));
    }

    #[test]
    fn a_link_is_not_a_home() {
        let folder = Folder::new();
        let world = world(&folder);
        fs::create_dir(folder.path().join("elsewhere")).unwrap();
        for at in [world.run.join("bandstand"), folder.path().join("xdg/bandstand")] {
            std::os::unix::fs::symlink(folder.path().join("elsewhere"), at).unwrap();
        }
        let place = Place::within(world.clone(), None);
        assert_eq!(place.folder().unwrap(), world.tmp.join(format!("bandstand-{}", world.uid)));
    }

    #[test]
    fn commands_find_what_a_server_made() {
        let folder = Folder::new();
        let world = world(&folder);
        let place = Place::within(world, None);
        assert!(place.sockets().is_empty());
        let paths: Vec<PathBuf> = place.candidates(&place.folder().unwrap()).take(2).collect();
        assert!(paths[1].to_str().unwrap().ends_with("-2.sock"), "{paths:?}");
        let _listeners = [0, 1].map(|at| UnixListener::bind(&paths[at]).unwrap());
        fs::write(place.candidates(&place.folder().unwrap()).nth(2).unwrap(), "no socket").unwrap();
        assert_eq!(place.sockets(), paths);
        assert_eq!(place.shown(), paths[0].display().to_string());
    }

    #[test]
    fn a_home_that_is_too_deep_is_passed_over() {
        let folder = Folder::new();
        let mut world = world(&folder);
        fs::set_permissions(&world.run, fs::Permissions::from_mode(0o555)).unwrap();
        world.run = folder.path().join("gone");
        let deep = folder.path().join("x".repeat(90));
        fs::create_dir(&deep).unwrap();
        world.xdg = Some(deep);
        let place = Place::within(world.clone(), None);
        assert!(place.folder().unwrap().starts_with(&world.tmp));
    }
}
