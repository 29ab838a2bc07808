//! A look at this machine: which trust stores it has, and with which tools they are changed.
//!
//! Owns the places where browsers keep their databases. Everything is looked for below a root and a home folder, so that tests can
//! draw a machine. Nothing is changed.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};

use super::{Database, System, system};

/// What there is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Machine {
    /// The system's own store.
    pub system: System,
    /// Files in its folder.
    pub anchors: Vec<PathBuf>,
    /// The home folder of who runs this.
    pub home: PathBuf,
    /// Whether who runs this is root.
    pub root: bool,
    /// Databases of browsers.
    pub databases: Vec<Database>,
    /// Whether `certutil` is there.
    pub certutil: bool,
    /// How `certutil` is installed here.
    pub packages: &'static str,
}

/// Below the home folder: the database that Chromium, Chrome, Edge and Brave share, and the one of a snap.
const CHROMIUM: &[&str] = &[".pki/nssdb", "snap/chromium/current/.pki/nssdb"];
/// Below the home folder: folders of Firefox with a folder a profile.
const FIREFOX: &[&str] = &[
    ".mozilla/firefox",
    ".config/mozilla/firefox",
    "snap/firefox/common/.mozilla/firefox",
    ".var/app/org.mozilla.firefox/.mozilla/firefox",
    "Library/Application Support/Firefox/Profiles",
];
/// Programs that read the shared database.
const CHROMIUM_PROGRAMS: &[&str] = &[
    "chromium",
    "chromium-browser",
    "google-chrome",
    "google-chrome-stable",
    "microsoft-edge",
    "brave-browser",
];
/// Tools that install packages, and how they install `certutil`.
const PACKAGES: &[(&str, &str)] = &[
    ("apt-get", "apt-get install libnss3-tools"),
    ("dnf", "dnf install nss-tools"),
    ("pacman", "pacman -S nss"),
    ("zypper", "zypper install mozilla-nss-tools"),
    ("apk", "apk add nss-tools"),
    ("brew", "brew install nss"),
];

impl Machine {
    /// This machine, as the user of this process sees it. `path`: the variable `PATH`.
    pub fn look(home: &Path, path: &OsStr) -> Self {
        Self::below(Path::new("/"), home, path, rustix::process::geteuid().is_root())
    }

    pub(super) fn below(root: &Path, home: &Path, path: &OsStr, is_root: bool) -> Self {
        let has = |program: &str| std::env::split_paths(path).any(|folder| folder.join(program).is_file());
        let packages = PACKAGES.iter().find(|(tool, _)| has(tool));
        let system = system_of(root);
        Self {
            system,
            anchors: anchors(root, system),
            home: home.to_owned(),
            root: is_root,
            databases: databases(home, CHROMIUM_PROGRAMS.iter().any(|program| has(program))),
            certutil: has("certutil"),
            packages: packages.map_or("the package nss-tools or libnss3-tools", |(_, install)| install),
        }
    }
}

fn below(root: &Path, path: &str) -> PathBuf {
    root.join(path.trim_start_matches('/'))
}

fn system_of(root: &Path) -> System {
    if cfg!(target_os = "macos") {
        return System::MacOs;
    }
    let row = system::TABLE.iter().find(|row| below(root, row.folder).is_dir());
    row.map_or(System::Unknown, System::Folder)
}

/// As the machine itself names them.
fn anchors(root: &Path, system: System) -> Vec<PathBuf> {
    let System::Folder(row) = system else { return Vec::new() };
    let entries = fs::read_dir(below(root, row.folder)).into_iter().flatten().flatten();
    entries.map(|entry| Path::new(row.folder).join(entry.file_name())).collect()
}

fn databases(home: &Path, has_chromium: bool) -> Vec<Database> {
    let made = |folder: &Path| folder.join("cert9.db").is_file();
    let shared = CHROMIUM.iter().enumerate().filter_map(|(at, folder)| {
        let folder = home.join(folder);
        let made = made(&folder);
        // Chromium makes its own at its first start, where it finds none.
        let wanted = made || (at == 0 && has_chromium);
        wanted.then_some(Database { folder, browser: "Chromium", made })
    });
    let profiles = FIREFOX.iter().flat_map(|folder| folders(&home.join(folder)));
    let firefox = profiles.filter(|folder| made(folder));
    let firefox = firefox.map(|folder| Database { folder, browser: "Firefox", made: true });
    shared.chain(firefox).collect()
}

fn folders(of: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(of).into_iter().flatten().flatten();
    let mut folders: Vec<PathBuf> = entries.map(|entry| entry.path()).filter(|path| path.is_dir()).collect();
    folders.sort();
    folders
}
