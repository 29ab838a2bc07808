//! The places a setting can be written in, each read into a list of written values.
//!
//! Owns how a place is found (which file, which variable) and the errors only a place can have: an unknown variable, a missing file.
//! Which place wins is `load.rs`; what a value means is `syntax.rs`. Invariant: every value leaves with its origin.
//! Source: gunicorn for `PORT`, `WEB_CONCURRENCY` and `FORWARDED_ALLOW_IPS`; sd_listen_fds(3) for `LISTEN_PID`, `LISTEN_FDS`.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::knobs::{self, Knob, PREFIX, Place as Where, TABLE};
use crate::load::Sources;
use crate::problem::{Place, Problem, nearest};
use crate::raw::{Origin, Raw, SourceFile, What, Written};
use crate::value::Value;
use crate::{dotenv, file, gunicorn, syntax};

/// Values of flags.
pub(crate) fn flags(sources: &Sources, problems: &mut Vec<Problem>) -> Vec<Written> {
    let mut found = Vec::new();
    for (key, texts) in &sources.flags {
        match knobs::find(key) {
            Some(knob) => {
                // The positional APP has no dashes.
                let name = if knob.key == "app" { "APP".to_owned() } else { format!("--{}", knob.flag()) };
                found.push(Written { knob, raw: Raw::texts(texts), origin: Origin::Flag(name) });
            }
            None => problems.push(Problem::general(format!("unknown flag --{key}"), "")),
        }
    }
    found
}

/// Values of `BANDSTAND_*` variables.
pub(crate) fn environment(sources: &Sources, problems: &mut Vec<Problem>) -> Vec<Written> {
    let mut found = Vec::new();
    let mut mine: Vec<_> =
        sources.env.iter().filter(|(name, _)| name.to_string_lossy().starts_with(PREFIX)).collect();
    mine.sort();
    for (name, value) in mine {
        let name = name.to_string_lossy().into_owned();
        let place = Place::Name(name.clone());
        match (variable_knob(&name), value.to_str()) {
            (Err((sentence, hint)), _) => problems.push(Problem::new(place, sentence, hint)),
            (_, None) => problems.push(Problem::new(place, "is not UTF-8 text", "")),
            // Compose files and unit files often set a variable to nothing: that is not set.
            (_, Some("")) => {}
            (Ok(knob), Some(text)) => {
                found.push(Written { knob, raw: Raw::text(text), origin: Origin::Variable(name) })
            }
        }
    }
    found
}

/// The row that a `BANDSTAND_*` variable sets, or why it sets none.
fn variable_knob(name: &str) -> Result<&'static Knob, (String, String)> {
    let key = name.trim_start_matches(PREFIX).to_ascii_lowercase();
    match knobs::find(&key).filter(|knob| knob.variable() == name) {
        Some(knob) if knob.place == Where::Flag => {
            Err(("can only be set by a flag".to_owned(), format!("use --{}", knob.flag())))
        }
        Some(knob) if knob.place == Where::File => {
            Err(("can only be set in a file".to_owned(), format!("write [{}] in bandstand.toml", knob.key)))
        }
        Some(knob) => Ok(knob),
        None if knobs::PLANNED.contains(&key.as_str()) => {
            Err((format!("`{key}` is not in this version yet"), String::new()))
        }
        None => {
            let names = TABLE.iter().filter(|knob| knob.place == Where::Anywhere).map(|knob| knob.key);
            let hint = nearest(&key, names).map_or_else(
                || "`bandstand config` lists every key".to_owned(),
                |key| format!("did you mean {PREFIX}{}?", key.to_ascii_uppercase()),
            );
            Err(("no setting has this name".to_owned(), hint))
        }
    }
}

/// The first usable path of `key` in `layers`, with its origin. A wrong one is reported when all values are checked.
fn first_path<'a>(layers: &[&'a Vec<Written>], key: &str) -> Option<(PathBuf, &'a Written)> {
    let written = layers.iter().flat_map(|layer| layer.iter()).find(|written| written.knob.key == key)?;
    match syntax::read(written.knob.kind, &written.raw) {
        Ok(Value::Path(path)) => Some((path, written)),
        _ => None,
    }
}

/// The project folder as far as `layers` know. One named in a file counts from the file.
pub(crate) fn folder(layers: &[&Vec<Written>], cwd: &Path) -> PathBuf {
    match first_path(layers, "chdir") {
        Some((path, Written { origin: Origin::File { file, .. }, .. })) => {
            let parent = file.path.parent().unwrap_or(cwd);
            parent.join(path).components().collect()
        }
        Some((path, _)) => cwd.join(path).components().collect(),
        None => cwd.to_owned(),
    }
}

/// What a settings file gives.
#[derive(Default)]
pub(crate) struct ConfigFile {
    pub(crate) written: Vec<Written>,
    /// Sentences about settings of gunicorn's.
    pub(crate) notes: Vec<String>,
    /// Variables for the application, of gunicorn's `raw_env`.
    pub(crate) variables: Vec<(String, String)>,
    /// A Python file, while nobody has told what it says.
    pub(crate) unread: Option<PathBuf>,
}

/// `--config FILE`, else `bandstand.toml` in the folder if it is there. A Python file is gunicorn's: `python` is what it says.
pub(crate) fn config_file(
    flags: &Vec<Written>,
    start: &Path,
    cwd: &Path,
    python: Option<&gunicorn::Configuration>,
    problems: &mut Vec<Problem>,
) -> ConfigFile {
    let asked =
        first_path(&[flags], "config").map(|(path, _)| cwd.join(path).components().collect::<PathBuf>());
    let path = asked.clone().unwrap_or_else(|| start.join("bandstand.toml"));
    let is_python = asked.is_some() && path.extension().is_some_and(|extension| extension == "py");
    match file::read(&path, cwd) {
        Ok(Some(source)) if is_python => match python {
            Some(said) => gunicorn_file(said, &source, cwd, problems),
            None => ConfigFile { unread: Some(path), ..ConfigFile::default() },
        },
        Ok(Some(source)) => {
            ConfigFile { written: file::parse(&source, &[], problems), ..ConfigFile::default() }
        }
        Ok(None) if asked.is_some() => {
            let sentence = format!("there is no file {}", path.display());
            problems.push(Problem::new(Place::Name("--config".into()), sentence, ""));
            ConfigFile::default()
        }
        Ok(None) => ConfigFile { notes: passed_over(start).into_iter().collect(), ..ConfigFile::default() },
        Err(problem) => {
            problems.push(problem);
            ConfigFile::default()
        }
    }
}

fn gunicorn_file(
    said: &gunicorn::Configuration,
    source: &Arc<SourceFile>,
    cwd: &Path,
    problems: &mut Vec<Problem>,
) -> ConfigFile {
    if let Some(traceback) = &said.failed {
        let sentence = format!("{} cannot be run:\n{}", source.shown, traceback.trim_end());
        problems.push(Problem::general(sentence, ""));
        return ConfigFile::default();
    }
    let gunicorn::Understood { written, notes, variables } =
        gunicorn::understand(said, source, cwd, problems);
    ConfigFile { written, notes, variables, unread: None }
}

/// Gunicorn reads this file unasked; here a person says so.
fn passed_over(start: &Path) -> Option<String> {
    let name = "gunicorn.conf.py";
    start.join(name).is_file().then(|| format!("{name} is not read unless asked for: -c {name}"))
}

/// `[tool.bandstand]`. A pyproject.toml that does not parse matters only when it speaks of bandstand.
pub(crate) fn pyproject(start: &Path, cwd: &Path, problems: &mut Vec<Problem>) -> Vec<Written> {
    match file::read(&start.join("pyproject.toml"), cwd) {
        Ok(Some(source)) if source.text.contains("bandstand") => {
            file::parse(&source, &["tool", "bandstand"], problems)
        }
        Ok(_) => Vec::new(),
        Err(problem) => {
            problems.push(problem);
            Vec::new()
        }
    }
}

/// The env file that a setting names; one that is missing is a problem.
pub(crate) fn env_file(
    layers: &[&Vec<Written>],
    project: &Path,
    cwd: &Path,
    problems: &mut Vec<Problem>,
) -> Option<Arc<SourceFile>> {
    let (path, written) = first_path(layers, "env_file")?;
    let path = project.join(path);
    match file::read(&path, cwd) {
        Ok(Some(source)) => Some(source),
        Ok(None) => {
            let place = Place::of(&written.origin, &written.raw.span);
            problems.push(Problem::new(place, format!("there is no file {}", path.display()), ""));
            None
        }
        Err(problem) => {
            problems.push(problem);
            None
        }
    }
}

/// Splits the env file: variables the environment lacks go to the application, and `BANDSTAND_*` among them to the settings.
pub(crate) fn read_env_file(
    source: &Arc<SourceFile>,
    sources: &Sources,
    app_env: &mut Vec<(String, String)>,
    settings: &mut Vec<Written>,
    problems: &mut Vec<Problem>,
) {
    let variables = match dotenv::parse(&source.text) {
        Ok(variables) => variables,
        Err(fault) => {
            let place = Place::Span { file: source.clone(), span: fault.span };
            problems.push(Problem::new(place, fault.sentence, "write NAME=value, one a line"));
            return;
        }
    };
    for dotenv::Variable { name, value, line } in variables {
        if sources.env.iter().any(|(other, _)| *other == *name) {
            continue;
        }
        if name.starts_with(PREFIX) && !value.is_empty() {
            let origin = Origin::EnvFile { file: source.clone(), line, name: name.clone() };
            let place = Place::of(&origin, &(0..0));
            match variable_knob(&name) {
                Ok(knob) if ["chdir", "env_file"].contains(&knob.key) => {
                    let sentence = "cannot be set here: it is needed to find this file";
                    problems.push(Problem::new(
                        place,
                        sentence,
                        "set it by flag, environment or bandstand.toml",
                    ));
                }
                Ok(knob) => settings.push(Written { knob, raw: Raw::text(&value), origin }),
                Err((sentence, hint)) => problems.push(Problem::new(place, sentence, hint)),
            }
        }
        app_env.push((name, value));
    }
}

/// Variables that platforms set. They are part of the environment, so they win over files, and `BANDSTAND_*` wins over them.
pub(crate) fn platform(sources: &Sources, app_env: &[(String, String)]) -> Vec<Written> {
    let value = |name: &str| {
        let from_file = || app_env.iter().find(|(other, _)| other == name).map(|(_, value)| value.clone());
        variable(&sources.env, name).or_else(from_file).filter(|value| !value.is_empty())
    };
    let rows = TABLE.iter().filter_map(|knob| knob.platform.map(|name| (knob, name)));
    rows.filter_map(|(knob, name)| {
        let value = value(name)?;
        // Gunicorn binds PORT on every IPv4 address.
        let text = if name == "PORT" { format!("0.0.0.0:{value}") } else { value };
        Some(Written { knob, raw: Raw::text(&text), origin: Origin::Variable(name.to_owned()) })
    })
    .collect()
}

/// How bandstand names the sockets that it gives to systemd's store (`FDSTORE` of sd_notify(3)).
const KEPT: &str = "bandstand-";

/// Sockets that systemd passed to this very process, used when nobody wrote `bind`.
pub(crate) fn sockets(sources: &Sources) -> Vec<Written> {
    let number = |name: &str| variable(&sources.env, name).and_then(|text| text.parse::<u32>().ok());
    // What systemd only kept over a restart belongs to addresses that are written elsewhere.
    let names = variable(&sources.env, "LISTEN_FDNAMES").unwrap_or_default();
    let kept = names.split(':').filter(|name| name.starts_with(KEPT)).count();
    let count = number("LISTEN_FDS").map_or(0, |count| count as usize);
    let passed = number("LISTEN_PID") == Some(sources.pid) && count > kept;
    let knob = knobs::find("bind").filter(|_| passed);
    let raw = Raw { what: What::List(vec![Raw::text("systemd")]), span: 0..0 };
    knob.map(|knob| Written { knob, raw, origin: Origin::Variable("LISTEN_FDS".to_owned()) })
        .into_iter()
        .collect()
}

/// A variable by name, when it is text.
pub(crate) fn variable(env: &[(OsString, OsString)], name: &str) -> Option<String> {
    env.iter().find(|(other, _)| other == name).and_then(|(_, value)| value.to_str()).map(str::to_owned)
}

/// The system's temporary folder.
pub(crate) fn temporary(sources: &Sources) -> PathBuf {
    let named = variable(&sources.env, "TMPDIR").map(PathBuf::from).filter(|path| path.is_absolute());
    named.unwrap_or_else(|| PathBuf::from("/tmp"))
}

/// Where state is kept that must outlive a restart: systemd's `StateDirectory=`, else the place of this user.
/// Source: systemd.exec(5), the XDG base directory specification, the Filesystem Hierarchy Standard 5.8.
pub(crate) fn state(sources: &Sources) -> PathBuf {
    let folder = |name: &str| {
        let text = variable(&sources.env, name)?;
        let first = text.split(':').next().map(PathBuf::from)?;
        Some(first).filter(|path| path.is_absolute())
    };
    let own = || match sources.root {
        true => None,
        false => folder("XDG_STATE_HOME").or_else(|| folder("HOME").map(|home| home.join(".local/state"))),
    };
    folder("STATE_DIRECTORY")
        .or_else(|| own().map(|state| state.join("bandstand")))
        .unwrap_or_else(|| PathBuf::from("/var/lib/bandstand"))
}
