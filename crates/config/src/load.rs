//! Who wrote what, and who wins: flag, environment, `bandstand.toml`, `[tool.bandstand]`, Django, default.
//!
//! Owns precedence and the order in which the places are read (a flag may move the project folder, a file may name the env file).
//! Files are read and nothing else of the world: arguments, environment and machine come in `Sources`. Invariant: every
//! written value is checked, even one that another hides, so that no mistake waits for the day the other goes away.
//! How each place is found and read is `places.rs`.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use crate::access::Passwords;
use crate::between::between_keys;
use crate::bind::Bind;
use crate::django::{ProjectSettings, Said};
use crate::knobs::{self, Knob, TABLE};
use crate::paths::PathInterface;
use crate::places::{
    ConfigFile, config_file, env_file, environment, flags, folder, platform, pyproject, read_env_file,
    sockets, state, temporary, variable,
};
use crate::problem::{Errors, Place, Problem};
use crate::raw::{Origin, Raw, Written};
use crate::settings::{Interface, Settings};
use crate::value::Value;
use crate::values::Values;
use crate::{file, gunicorn, syntax};

/// Everything the settings depend on, but the files.
#[derive(Debug, Clone)]
pub struct Sources {
    /// Key and the values given to its flag, in order.
    pub flags: Vec<(String, Vec<String>)>,
    /// Variables for the application from the command line (`-e NAME=value`); never settings.
    pub app_env: Vec<(String, String)>,
    /// The environment.
    pub env: Vec<(OsString, OsString)>,
    /// The current folder, absolute.
    pub cwd: PathBuf,
    /// CPUs this process may use.
    pub cpus: NonZeroUsize,
    /// This process, to be compared with `LISTEN_PID`.
    pub pid: u32,
    /// It runs as root, whose state has a place of its own.
    pub root: bool,
}

/// The settings, where each comes from, and what was read on the way.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// What is meant.
    pub settings: Settings,
    /// Where each key was set; a row for every key.
    pub origins: BTreeMap<&'static str, Origin>,
    /// Sentences an operator should read, such as why static files are not served.
    pub notes: Vec<String>,
    /// Variables to add to the workers' environment: of the env file (none that the environment has), then of `-e`.
    pub app_env: Vec<(String, String)>,
    /// The Python file that `--config` names while nobody has told what it says: `load_with` takes that.
    pub unread: Option<PathBuf>,
    /// The worker's hello, once `with_django` has been told.
    pub django: Option<ProjectSettings>,
    pub(crate) values: Values,
    layers: Layers,
}

/// Reads everything.
///
/// # Errors
/// All that is wrong, in the order of the places; the program ends with status 2.
pub fn load(sources: Sources) -> Result<Loaded, Errors> {
    load_with(sources, None)
}

/// Reads everything, with what the Python file of `--config` says: `Loaded::unread` names the file that is to be run for it.
///
/// # Errors
/// As `load`.
pub fn load_with(sources: Sources, python: Option<&gunicorn::Configuration>) -> Result<Loaded, Errors> {
    let mut problems = Vec::new();
    let flags = flags(&sources, &mut problems);
    let environment = environment(&sources, &mut problems);
    let start = folder(&[&flags, &environment], &sources.cwd);
    let ConfigFile { written: config, notes, variables, unread } =
        config_file(&flags, &start, &sources.cwd, python, &mut problems);
    let pyproject = pyproject(&start, &sources.cwd, &mut problems);
    let project = folder(&[&flags, &environment, &config, &pyproject], &sources.cwd);
    let env_file =
        env_file(&[&flags, &environment, &config, &pyproject], &project, &sources.cwd, &mut problems);
    let mut app_env = variables;
    let mut from_env_file = Vec::new();
    if let Some(file) = env_file {
        read_env_file(&file, &sources, &mut app_env, &mut from_env_file, &mut problems);
    }
    app_env.extend(sources.app_env.clone());
    let platform = platform(&sources, &app_env);
    let written = vec![flags, environment, from_env_file, platform, config, pyproject, sockets(&sources)];
    let layers = Layers {
        written,
        project,
        notes,
        temporary: temporary(&sources),
        state: state(&sources),
        cwd: sources.cwd,
        cpus: sources.cpus,
    };
    match layers.settle(&Said::default(), &mut problems) {
        Some((values, origins)) if problems.is_empty() => {
            let settings = Settings::from_values(&values);
            let notes = layers.notes(&settings);
            Ok(Loaded { settings, origins, notes, app_env, unread, django: None, values, layers })
        }
        _ => Err(Errors(problems)),
    }
}

impl Loaded {
    /// The settings with the project's own word, as its worker reports it, in the place above the defaults.
    pub fn with_django(&self, project: &ProjectSettings) -> Loaded {
        let default =
            knobs::find("max_body").and_then(|knob| syntax::read(knob.kind, &Raw::text(knob.default)).ok());
        let said = project.said(match default {
            Some(Value::Size(bytes)) => bytes,
            _ => 0,
        });
        let mut problems = Vec::new();
        let settled = self.layers.settle(&said, &mut problems);
        let mut next = Loaded { notes: said.notes, django: Some(project.clone()), ..self.clone() };
        match settled {
            Some((values, origins)) if problems.is_empty() => {
                next.settings = Settings::from_values(&values);
                (next.values, next.origins) = (values, origins);
            }
            // What a project says cannot stop the server: its word is dropped, and the operator told.
            _ => next.notes.extend(problems.iter().map(Problem::to_string)),
        }
        next.notes.splice(0..0, self.layers.notes(&next.settings));
        // A folder that a person named stands, whatever the project would have done.
        let written = |key: &str| !matches!(next.origins.get(key), Some(Origin::Default | Origin::Django(_)));
        next.notes.retain(|note| !(note.starts_with("STATIC") && written("static")));
        next.notes.retain(|note| !(note.starts_with("MEDIA") && written("media")));
        next.notes.extend(unreachable_paths(&next.settings, project));
        next
    }

    /// The same as if files of settings said nothing of these keys; flags and variables stand.
    ///
    /// # Errors
    /// What is left does not go together.
    pub fn without_in_files(&self, keys: &[&str]) -> Result<Loaded, Errors> {
        let mut layers = self.layers.clone();
        for layer in &mut layers.written {
            layer.retain(|one| !matches!(one.origin, Origin::File { .. }) || !keys.contains(&one.knob.key));
        }
        let mut problems = Vec::new();
        match layers.settle(&Said::default(), &mut problems) {
            Some((values, origins)) if problems.is_empty() => {
                let settings = Settings::from_values(&values);
                Ok(Loaded { settings, origins, values, layers, ..self.clone() })
            }
            _ => Err(Errors(problems)),
        }
    }

    /// The file that `--config` named; `None`: the one of the project folder, if there is one.
    pub fn config_file(&self) -> Option<PathBuf> {
        self.values.path("config")
    }

    /// A variable as the application will see it; `env` is the environment of this process.
    pub fn app_variable(&self, name: &str, env: &[(OsString, OsString)]) -> Option<String> {
        let added =
            self.app_env.iter().rev().find(|(other, _)| other == name).map(|(_, value)| value.clone());
        added.or_else(|| variable(env, name))
    }
}

/// A prefix pinned to an interface that this application turned out not to have.
fn unreachable_paths(settings: &Settings, project: &ProjectSettings) -> Option<String> {
    let missing = match project.interface? {
        Interface::Wsgi => PathInterface::Asgi,
        Interface::Asgi => PathInterface::Wsgi,
        Interface::Auto | Interface::Both => return None,
    };
    let (prefix, interface) = settings.paths.all().find(|(_, interface)| *interface == missing)?;
    let word = interface.as_str();
    Some(format!(
        "[paths] sends {prefix} over {word}, which this application does not have: it goes the other way"
    ))
}

/// Values by place, the strongest first.
#[derive(Debug, Clone)]
struct Layers {
    written: Vec<Vec<Written>>,
    project: PathBuf,
    /// What reading the places gave rise to.
    notes: Vec<String>,
    temporary: PathBuf,
    /// Where `state_dir` is when nobody says so.
    state: PathBuf,
    cwd: PathBuf,
    cpus: NonZeroUsize,
}

impl Layers {
    /// A value and an origin for every row; `None` when something was wrong.
    fn settle(
        &self,
        said: &Said,
        problems: &mut Vec<Problem>,
    ) -> Option<(Values, BTreeMap<&'static str, Origin>)> {
        let (mut values, mut origins) = (BTreeMap::new(), BTreeMap::new());
        let django = said.values.iter().filter_map(|(key, raw, setting)| {
            let origin = Origin::Django((*setting).to_owned());
            knobs::find(key).map(|knob| Written { knob, raw: raw.clone(), origin })
        });
        let django: Vec<Written> = django.collect();
        let before = problems.len();
        for written in self.written.iter().flatten().chain(&django) {
            let Some(value) = checked(written, problems) else { continue };
            if !values.contains_key(written.knob.key) {
                values.insert(written.knob.key, value.anchored(written.knob.kind, &self.base(written.knob)));
                origins.insert(written.knob.key, written.origin.clone());
            }
        }
        for knob in TABLE {
            values.entry(knob.key).or_insert_with(|| default(knob).anchored(knob.kind, &self.base(knob)));
            origins.entry(knob.key).or_insert(Origin::Default);
        }
        self.complete(&mut values, &origins, said);
        read_passwords(&mut values, &origins, &self.cwd, problems);
        between_keys(&values, &origins, problems);
        (problems.len() == before).then_some((Values(values), origins))
    }

    /// What a person should know of settings that are right and do nothing.
    fn notes(&self, settings: &Settings) -> Vec<String> {
        let mut notes = self.notes.clone();
        if settings.max_requests_jitter > 0 && settings.max_requests.is_none() {
            notes.push("max_requests_jitter does nothing without max_requests".to_owned());
        }
        notes
    }

    /// What relative paths of this key count from.
    fn base(&self, knob: &Knob) -> PathBuf {
        if knob.key == "config" { self.cwd.clone() } else { self.project.clone() }
    }

    /// Values that depend on the machine, or on each other.
    fn complete(
        &self,
        values: &mut BTreeMap<&'static str, Value>,
        origins: &BTreeMap<&'static str, Origin>,
        said: &Said,
    ) {
        values.insert("chdir", Value::Path(self.project.clone()));
        if values.get("workers") == Some(&Value::Auto) {
            let mut workers = self.cpus.get() as u64;
            if let Some(Value::Count(least)) = values.get("workers_min") {
                workers = workers.max(*least);
            }
            if let Some(Value::Count(most)) = values.get("workers_max") {
                workers = workers.min(*most);
            }
            values.insert("workers", Value::Count(workers));
        }
        // Who asks for many threads need not know of the other number.
        if let (Some(Value::Count(threads)), Some(Value::Count(most)), Some(Origin::Default)) =
            (values.get("threads").cloned(), values.get_mut("threads_max"), origins.get("threads_max"))
        {
            *most = threads.max(*most);
        }
        if values.get("spool_dir") == Some(&Value::Unset) {
            values.insert("spool_dir", Value::Path(self.temporary.clone()));
        }
        if values.get("state_dir") == Some(&Value::Unset) {
            values.insert("state_dir", Value::Path(self.state.clone()));
        }
        // Names on the network are served on its ports; those of a local authority where development is.
        let named = matches!(values.get("domains"), Some(Value::Texts(_)));
        let local = values.get("local_https") == Some(&Value::Switch(true));
        if named && !local && origins.get("bind") == Some(&Origin::Default) {
            let any = |port| Bind::Tcp { host: String::new(), port, scheme: None };
            values.insert("bind", Value::Binds(vec![any(443), any(80)]));
        }
        let prefixes = [("static", &said.static_url, "/static/"), ("media", &said.media_url, "/media/")];
        for (key, from_django, otherwise) in prefixes {
            if let Some(Value::Mount { url: url @ None, .. }) = values.get_mut(key) {
                *url = Some(
                    from_django.clone().filter(|url| url.len() > 1).unwrap_or_else(|| otherwise.to_owned()),
                );
            }
        }
    }
}

/// The value of `written`, or its problem.
fn checked(written: &Written, problems: &mut Vec<Problem>) -> Option<Value> {
    match syntax::read(written.knob.kind, &written.raw) {
        Ok(value) => Some(value),
        Err(complaint) => {
            let sentence = match written.knob.secret {
                true => format!("`{}` does not fit", written.knob.key),
                false if matches!(written.origin, Origin::File { .. }) => {
                    format!("{}: {}", written.knob.key, complaint.sentence)
                }
                false => complaint.sentence,
            };
            problems.push(Problem::new(
                Place::of(&written.origin, &complaint.span),
                sentence,
                complaint.hint,
            ));
            None
        }
    }
}

/// Reads the htpasswd files that the values name.
fn read_passwords(
    values: &mut BTreeMap<&'static str, Value>,
    origins: &BTreeMap<&'static str, Origin>,
    cwd: &Path,
    problems: &mut Vec<Problem>,
) {
    for (key, value) in values {
        let all: Vec<&mut Passwords> = match value {
            Value::Passwords(one) => vec![one],
            Value::PathRules(rules) => rules.passwords_mut().collect(),
            _ => continue,
        };
        for Passwords { pairs, file } in all {
            let Some(path) = file else { continue };
            match passwords_of(path, cwd) {
                Ok(read) => *pairs = read,
                Err(sentence) => {
                    let place = origins.get(key).map_or(Place::Nowhere, |origin| Place::of(origin, &(0..0)));
                    problems.push(Problem::new(place, sentence, ""));
                }
            }
        }
    }
}

fn passwords_of(path: &Path, cwd: &Path) -> Result<Vec<(String, String)>, String> {
    let source = match file::read(path, cwd) {
        Ok(Some(source)) => source,
        Ok(None) => return Err(format!("there is no file {}", path.display())),
        Err(problem) => return Err(problem.sentence),
    };
    syntax::htpasswd(&source.text).map_err(|(line, why)| match line {
        0 => format!("{} {why}", source.shown),
        line => format!("{}:{line}: {why}", source.shown),
    })
}

fn default(knob: &Knob) -> Value {
    match knob.default {
        "" => Value::Unset,
        text => syntax::read(knob.kind, &Raw::text(text)).expect("a test reads every default of the table"),
    }
}
