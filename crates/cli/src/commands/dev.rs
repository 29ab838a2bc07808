//! `bandstand dev [APP]`: `serve` for the person who writes the project.
//!
//! Owns what is different by default, a table: one worker, a log for people, `.env`. Whatever somebody wrote wins over it,
//! wherever they wrote it. Following files, and everything else of `dev`, is the edge's.

use std::path::Path;

use bandstand_config::{Loaded, Origin, Sources};
use bandstand_edge::{Mode, Run};
use clap::ArgMatches;

use super::serve;
use crate::report::Failure;
use crate::{args, gunicorn, project};

/// Serves until stopped, and follows the files of the project.
pub(crate) fn run(matches: &ArgMatches) -> Result<(), Failure> {
    serve::until_stopped(matches, read)
}

/// Keys whose default is another one here.
const DEFAULTS: &[(&str, &str)] = &[
    ("workers", "1"),
    ("log_format", "pretty"),
    // One worker has nobody to share with, and starts sooner by itself: no fork, nothing warmed ahead of its use.
    ("preload", "off"),
];

/// Read before the app where it is there.
const ENV_FILE: &str = ".env";

fn read(matches: &ArgMatches) -> Result<Run, Failure> {
    let mut run = project::find(load(args::sources(matches)?)?)?;
    run.mode = Mode::Dev;
    Ok(run)
}

/// Three readings: the first tells the folder, the second what `.env` says of settings, and what is still at its default
/// is set in the third.
fn load(mut sources: Sources) -> Result<Loaded, Failure> {
    let mut loaded = gunicorn::load(sources.clone())?;
    let env_file = loaded.settings.chdir.join(ENV_FILE);
    if is_default(&loaded, "env_file") && env_file.is_file() {
        sources.flags.push(flag("env_file", &env_file));
        loaded = gunicorn::load(sources.clone())?;
    }
    let unset = DEFAULTS.iter().filter(|(key, _)| is_default(&loaded, key));
    let ours: Vec<_> = unset.map(|(key, value)| flag(key, Path::new(value))).collect();
    if ours.is_empty() {
        return Ok(loaded);
    }
    sources.flags.extend(ours);
    gunicorn::load(sources)
}

fn is_default(loaded: &Loaded, key: &str) -> bool {
    matches!(loaded.origins.get(key), None | Some(Origin::Default))
}

fn flag(key: &str, value: &Path) -> (String, Vec<String>) {
    (key.to_owned(), vec![value.to_string_lossy().into_owned()])
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::num::NonZeroUsize;

    fn folder(name: &str, files: &[(&str, &str)]) -> std::path::PathBuf {
        let folder = std::env::temp_dir().join(format!("bandstand-dev-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        for (name, text) in files {
            std::fs::write(folder.join(name), text).unwrap();
        }
        folder
    }

    #[test]
    fn what_somebody_wrote_wins() {
        for (name, files, flags, workers, preload) in [
            ("none", &[][..], &[][..], 1, false),
            ("flag", &[], &[("workers", "3")], 3, false),
            ("file", &[("bandstand.toml", "workers = 4\npreload = true\n")], &[], 4, true),
            ("env", &[(".env", "BANDSTAND_WORKERS=5\nOWN=1\n")], &[], 5, false),
        ] {
            let cwd = folder(name, files);
            let flags = flags.iter().map(|(key, value): &(&str, &str)| flag(key, Path::new(value))).collect();
            let sources = Sources {
                flags,
                app_env: Vec::new(),
                env: Vec::new(),
                cwd: cwd.clone(),
                cpus: NonZeroUsize::MIN,
                pid: 1,
                root: false,
            };
            let loaded = load(sources).unwrap_or_else(|failure| panic!("{name}: {}", failure.sentence()));
            std::fs::remove_dir_all(cwd).unwrap();
            assert_eq!(
                (loaded.settings.workers.get(), loaded.settings.preload),
                (workers, preload),
                "{name}"
            );
            assert_eq!(loaded.app_env.iter().any(|(key, _)| key == "OWN"), name == "env", "{name}");
        }
    }
}
