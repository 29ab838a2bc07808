//! `bandstand dev [APP]`: `serve` for the person who writes the project.
//!
//! Owns what is different by default, a table: one worker, a log for people, `.env`. Whatever somebody wrote wins over it,
//! wherever they wrote it, but for what a file says of the machine on the internet: this is another one. Following files,
//! and everything else of `dev`, is the edge's. Invariant: `domains` in a file make `dev` neither listen for others nor ask an
//! authority.

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

/// Keys that are for the server in production where a file says them: a person runs `dev` as themselves.
const ELSEWHERE: &[&str] = &["user", "group", "worker_user"];
/// The same, in a file that has `domains`.
const WITH_DOMAINS: &[&str] = &["domains", "bind", "canonical_host", "tls_cert", "tls_key"];

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
    let loaded = here(loaded)?;
    let unset = DEFAULTS.iter().filter(|(key, _)| is_default(&loaded, key));
    let ours: Vec<_> = unset.map(|(key, value)| flag(key, Path::new(value))).collect();
    if ours.is_empty() {
        return Ok(loaded);
    }
    sources.flags.extend(ours);
    here(gunicorn::load(sources)?)
}

/// What is meant for another machine left out.
fn here(loaded: Loaded) -> Result<Loaded, Failure> {
    let is_there = matches!(loaded.origins.get("domains"), Some(Origin::File { .. }));
    let keys = [ELSEWHERE, if is_there { WITH_DOMAINS } else { &[] }].concat();
    loaded.without_in_files(&keys).map_err(Failure::Configuration)
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

    use bandstand_config::Bind;

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
    /// A file of the production's neither binds its ports here, nor asks an authority, nor changes the user.
    #[test]
    fn domains_of_a_file_are_for_serve() {
        const FILE: &str =
            "domains = ['shop.test', 'www.shop.test']\nuser = 'shop'\ncanonical_host = true\nthreads = 3\n";
        for (name, more, flags, env, binds, tls, domains) in [
            ("plain", "", &[][..], &[][..], "127.0.0.1:8000", false, 0),
            ("bound", "bind = [':443', ':80']\n", &[], &[], "127.0.0.1:8000", false, 0),
            ("files", "tls_cert = 'a.pem'\ntls_key = 'a.key'\n", &[], &[], "127.0.0.1:8000", false, 0),
            ("https", "", &[("local_https", "on")], &[], "127.0.0.1:8000", true, 0),
            ("flag", "", &[("bind", "127.0.0.1:9000")], &[], "127.0.0.1:9000", false, 0),
            ("port", "", &[], &[("PORT", "9001")], "0.0.0.0:9001", false, 0),
            ("told", "", &[("domains", "shop.test"), ("local_https", "on")], &[], "127.0.0.1:8000", true, 1),
        ] {
            let cwd = folder(name, &[("bandstand.toml", &format!("{FILE}{more}"))]);
            let sources = Sources {
                flags: flags.iter().map(|(key, value): &(&str, &str)| flag(key, Path::new(value))).collect(),
                app_env: Vec::new(),
                env: env.iter().map(|(key, value): &(&str, &str)| (key.into(), value.into())).collect(),
                cwd: cwd.clone(),
                cpus: NonZeroUsize::MIN,
                pid: 1,
                root: false,
            };
            let loaded = load(sources).unwrap_or_else(|failure| panic!("{name}: {}", failure.sentence()));
            std::fs::remove_dir_all(cwd).unwrap();
            let settings = &loaded.settings;
            let shown: Vec<String> = settings.bind.iter().map(Bind::to_string).collect();
            assert_eq!(shown, [binds], "{name}");
            assert_eq!(settings.speaks_tls(&settings.bind[0]), tls, "{name}");
            assert_eq!(settings.domains.len(), domains, "{name}");
            assert!(!settings.uses_acme() && settings.user.is_none(), "{name}");
            assert_eq!(settings.canonical_host, domains > 0, "{name}");
            assert_eq!(settings.threads.get(), 3, "{name}: the rest of the file stands");
        }
    }
}
