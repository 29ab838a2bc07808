//! Which files matter, and what a change of each asks for.
//!
//! Owns the rules from a path to a `Kind`, and the table of names that no rule sees: what version control, editors, Python
//! and databases write beside the files that people edit. Touches no disk. Invariant: a path that is not below something
//! that was told (`Watched`) asks for nothing, but while the project does not start: then any source file may mend it.
//! Source: `django.utils.autoreload`; the temporary names of vim, emacs, JetBrains, GNOME and Kate.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

/// What a change asks for, the most first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    /// A new generation, and pages load again.
    Code,
    /// Pages load again.
    Page,
    /// Pages load their style sheets again.
    Style,
}

/// What was told: by the settings, the worker's hello, and the notes on its answers. Paths are absolute.
#[derive(Debug, Default)]
pub(crate) struct Watched {
    /// The project's folder.
    pub(crate) project: PathBuf,
    /// Files that matter by their name: modules, `.env`, settings.
    pub(crate) files: HashSet<PathBuf>,
    /// Folders of templates.
    pub(crate) templates: Vec<PathBuf>,
    /// Folders of translations.
    pub(crate) locale: Vec<PathBuf>,
    /// Folders of static files.
    pub(crate) statics: Vec<PathBuf>,
    /// Folders that a person named: everything in them is code.
    pub(crate) more: Vec<PathBuf>,
    /// The project does not start, or has not yet.
    pub(crate) any_source: bool,
}

impl Watched {
    /// What a change of `path` asks for; `None`: nothing.
    pub(crate) fn kind(&self, path: &Path) -> Option<Kind> {
        if self.files.contains(path) {
            return Some(Kind::Code);
        }
        let inside = |folders: &[PathBuf]| {
            folders.iter().any(|folder| path.strip_prefix(folder).is_ok_and(|rest| !is_ignored(rest)))
        };
        if inside(&self.templates) || inside(&self.more) {
            return Some(Kind::Code);
        }
        if inside(&self.statics) {
            return Some(if has_extension(path, &["css"]) { Kind::Style } else { Kind::Page });
        }
        if inside(&self.locale) && has_extension(path, &["mo"]) {
            return Some(Kind::Code);
        }
        let project = std::slice::from_ref(&self.project);
        (self.any_source && inside(project) && has_extension(path, SOURCES)).then_some(Kind::Code)
    }

    /// Folders whose whole trees are watched.
    pub(crate) fn trees(&self) -> impl Iterator<Item = &Path> {
        let project = self.any_source.then_some(&self.project);
        let told = [&self.templates, &self.locale, &self.statics, &self.more];
        told.into_iter().flatten().chain(project).map(PathBuf::as_path)
    }
}

/// What may mend a project that does not start.
const SOURCES: &[&str] = &["py", "toml", "ini", "cfg", "json", "yaml", "yml", "env", "txt"];

fn has_extension(path: &Path, extensions: &[&str]) -> bool {
    path.extension().is_some_and(|found| extensions.iter().any(|wanted| found.eq_ignore_ascii_case(wanted)))
}

/// Whether a path below a watched folder is one that nobody edits.
pub(crate) fn is_ignored(below: &Path) -> bool {
    below.components().any(|part| is_ignored_name(&part.as_os_str().to_string_lossy()))
}

/// Folders and files by name: exact, beginning, end.
pub(crate) fn is_ignored_name(name: &str) -> bool {
    const EXACT: &[&str] = &[
        ".git",
        ".hg",
        ".svn",
        ".jj",
        "__pycache__",
        "node_modules",
        ".venv",
        ".tox",
        ".nox",
        ".mypy_cache",
        ".ruff_cache",
        ".pytest_cache",
        ".idea",
        ".vscode",
        ".DS_Store",
        "media",
        "4913", // vim tries with this name whether it may write
    ];
    const BEGIN: &[&str] = &[".#", "#", ".goutputstream-", "db.sqlite3"];
    const END: &[&str] = &[
        "~",
        ".swp",
        ".swo",
        ".swx",
        ".swpx",
        ".kate-swp",
        ".tmp",
        ".pyc",
        ".pyo",
        ".sqlite3",
        ".sqlite3-wal",
        ".sqlite3-shm",
        ".sqlite3-journal",
        "___jb_tmp___",
        "___jb_old___",
        ".log",
    ];
    EXACT.contains(&name)
        || BEGIN.iter().any(|begin| name.starts_with(begin))
        || END.iter().any(|end| name.ends_with(end))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn watched() -> Watched {
        Watched {
            project: "/p".into(),
            files: ["/p/shop/views.py", "/p/.env", "/p/bandstand.toml", "/lib/editable/x.py"]
                .map(PathBuf::from)
                .into(),
            templates: vec!["/p/shop/templates".into()],
            locale: vec!["/p/locale".into()],
            statics: vec!["/p/shop/static".into()],
            more: vec!["/p/data".into()],
            any_source: false,
        }
    }

    #[test]
    fn what_a_change_asks_for() {
        for (path, wanted) in [
            ("/p/shop/views.py", Some(Kind::Code)),
            ("/p/.env", Some(Kind::Code)),
            ("/p/bandstand.toml", Some(Kind::Code)),
            ("/lib/editable/x.py", Some(Kind::Code)),
            ("/p/shop/tests.py", None),
            ("/p/shop/templates/shop/home.html", Some(Kind::Code)),
            ("/p/shop/templates/mail.txt", Some(Kind::Code)),
            ("/p/shop/templates/.home.html.swp", None),
            ("/p/shop/templates/home.html~", None),
            ("/p/shop/templates/4913", None),
            ("/p/shop/templates/.git/index", None),
            ("/p/shop/static/shop/shop.css", Some(Kind::Style)),
            ("/p/shop/static/shop/SHOP.CSS", Some(Kind::Style)),
            ("/p/shop/static/shop/shop.js", Some(Kind::Page)),
            ("/p/shop/static/node_modules/x/x.js", None),
            ("/p/locale/de/LC_MESSAGES/django.mo", Some(Kind::Code)),
            ("/p/locale/de/LC_MESSAGES/django.po", None),
            ("/p/data/rates.csv", Some(Kind::Code)),
            ("/p/data/db.sqlite3-wal", None),
            ("/p/db.sqlite3", None),
            ("/p/staticfiles/shop.css", None),
            ("/p/shop/__pycache__/views.cpython-311.pyc", None),
            ("/elsewhere/views.py", None),
        ] {
            assert_eq!(watched().kind(Path::new(path)), wanted, "{path}");
        }
    }

    #[test]
    fn while_nothing_starts_any_source_may_mend_it() {
        let broken = Watched { any_source: true, ..watched() };
        for (path, wanted) in [
            ("/p/shop/new.py", Some(Kind::Code)),
            ("/p/config/local.toml", Some(Kind::Code)),
            ("/p/README.md", None),
            ("/p/media/upload.py", None),
            ("/p/.venv/lib/x.py", None),
            ("/elsewhere/x.py", None),
        ] {
            assert_eq!(broken.kind(Path::new(path)), wanted, "{path}");
        }
        assert!(broken.trees().any(|tree| tree == Path::new("/p")));
        assert!(!watched().trees().any(|tree| tree == Path::new("/p")));
    }

    #[test]
    fn a_folder_told_below_an_ignored_name_counts() {
        let inside = Watched { templates: vec!["/src/media/templates".into()], ..Watched::default() };
        assert_eq!(inside.kind(Path::new("/src/media/templates/a.html")), Some(Kind::Code));
    }
}
