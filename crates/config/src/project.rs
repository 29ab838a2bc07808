//! Which application is meant: the one that was named, else the Django project of the folder.
//!
//! Owns the search for `manage.py` and the name of the settings module in it. It imports nothing: the worker resolves
//! `WSGI_APPLICATION` itself. Invariant: a `Project` has an application, a settings module, or both.
//! Source: `django-admin startproject`'s manage.py; Django's rule that DJANGO_SETTINGS_MODULE in the environment wins.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use crate::load::Loaded;
use crate::problem::Problem;

/// What the workers are told to import.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Project {
    /// The folder the workers run in, first on `sys.path`.
    pub chdir: PathBuf,
    /// APP as written.
    pub app: Option<String>,
    /// `DJANGO_SETTINGS_MODULE`, from the environment or `manage.py`.
    pub settings_module: Option<String>,
    /// Folders put before the others on `sys.path`, after `chdir`.
    pub pythonpath: Vec<PathBuf>,
}

impl Project {
    /// Finds it; `env` is the environment of this process.
    ///
    /// # Errors
    /// A sentence that says what was looked for and how to name an application.
    pub fn find(loaded: &Loaded, env: &[(OsString, OsString)]) -> Result<Project, Problem> {
        let settings = &loaded.settings;
        let folder = &settings.chdir;
        if !folder.is_dir() {
            return Err(Problem::general(
                format!("there is no folder {}", folder.display()),
                "look at chdir",
            ));
        }
        let named = loaded.app_variable("DJANGO_SETTINGS_MODULE", env).filter(|name| !name.is_empty());
        let manage = read_manage(&folder.join("manage.py"))?;
        let settings_module = named.or_else(|| manage.as_deref().and_then(settings_module));
        if settings.app.is_none() && settings_module.is_none() {
            return Err(nothing_found(folder, manage.is_some()));
        }
        Ok(Project {
            chdir: folder.clone(),
            app: settings.app.clone(),
            settings_module,
            pythonpath: settings.pythonpath.clone(),
        })
    }
}

/// Largest manage.py looked at; a generated one has 700 bytes.
const MAX_MANAGE_BYTES: u64 = 1 << 20;

fn read_manage(path: &Path) -> Result<Option<String>, Problem> {
    match std::fs::metadata(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Ok(found) if !found.is_file() || found.len() > MAX_MANAGE_BYTES => return Ok(None),
        _ => {}
    }
    match std::fs::read(path) {
        Ok(bytes) => Ok(Some(String::from_utf8_lossy(&bytes).into_owned())),
        Err(error) => Err(Problem::general(format!("{} cannot be read: {error}", path.display()), "")),
    }
}

fn nothing_found(folder: &Path, manage: bool) -> Problem {
    let shown = folder.display();
    if manage {
        return Problem::general(
            format!("{shown}/manage.py does not say which settings module it uses"),
            "set DJANGO_SETTINGS_MODULE, or name the application: bandstand serve package.module:attribute",
        );
    }
    // A project one folder down is the usual reason.
    let below =
        std::fs::read_dir(folder).into_iter().flatten().flatten().take(1000).map(|entry| entry.path());
    let hint = match below.filter(|path| path.join("manage.py").is_file()).min() {
        Some(path) => format!("there is one in {0}: try --chdir {0}", path.strip_prefix(folder).unwrap_or(&path).display()),
        None => "go to the project's folder, use --chdir, or name the application: bandstand serve package.module:attribute"
            .to_owned(),
    };
    Problem::general(
        format!(
            "no application: {shown} has no manage.py, DJANGO_SETTINGS_MODULE is not set, and no APP was named"
        ),
        hint,
    )
}

/// The text that follows the name in `setdefault("DJANGO_SETTINGS_MODULE", "x.y")` or `environ["…"] = "x.y"`.
fn settings_module(manage: &str) -> Option<String> {
    const NAME: &str = "DJANGO_SETTINGS_MODULE";
    manage.match_indices(NAME).find_map(|(at, _)| {
        let line = &manage[manage[..at].rfind('\n').map_or(0, |newline| newline + 1)..at];
        if line.trim_start().starts_with('#') {
            return None;
        }
        let after = manage[at + NAME.len()..].strip_prefix(['"', '\''])?;
        let value = after.trim_start_matches([' ', '\t', '\r', '\n', ']', ',', '=']);
        let quote = value.chars().next().filter(|c| ['"', '\''].contains(c))?;
        let (module, _) = value[1..].split_once(quote)?;
        let plain = |c: char| c.is_alphanumeric() || c == '_' || c == '.';
        (!module.is_empty() && module.chars().all(plain)).then(|| module.to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn manage_files() {
        for (text, module) in [
            (
                "os.environ.setdefault(\"DJANGO_SETTINGS_MODULE\", \"config.settings\")",
                Some("config.settings"),
            ),
            (
                "os.environ.setdefault('DJANGO_SETTINGS_MODULE','shop.settings.prod')",
                Some("shop.settings.prod"),
            ),
            ("os.environ.setdefault(\n    \"DJANGO_SETTINGS_MODULE\",\n    \"a.b\",\n)", Some("a.b")),
            ("os.environ[\"DJANGO_SETTINGS_MODULE\"] = \"a.b\"", Some("a.b")),
            ("# DJANGO_SETTINGS_MODULE\", \"old\"\nx(\"DJANGO_SETTINGS_MODULE\", 'new')", Some("new")),
            ("setdefault(\"DJANGO_SETTINGS_MODULE\", get())", None),
            ("setdefault(\"DJANGO_SETTINGS_MODULE\", \"a b\")", None),
            ("setdefault(\"DJANGO_SETTINGS_MODULE\", \"", None),
            ("DJANGO_SETTINGS_MODULE", None),
            ("", None),
        ] {
            assert_eq!(settings_module(text).as_deref(), module, "{text}");
        }
    }
}
