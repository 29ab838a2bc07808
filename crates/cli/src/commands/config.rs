//! `bandstand config`: each effective value with its origin.
//!
//! Owns the choice of form. What the Django project says is asked of the project's own Python when the folder has one; when it
//! cannot answer, a note says so and the rest is printed.

use std::process::Command;

use bandstand_config::{Loaded, Project, ProjectSettings, explain, load, python, reference};
use clap::ArgMatches;

use crate::args;
use crate::report::{self, Failure};

/// Prints the settings, or with `--reference` the page that describes them.
pub(crate) fn run(matches: &ArgMatches) -> Result<(), Failure> {
    if matches.get_flag("reference") {
        return report::print(&reference::markdown());
    }
    let mut loaded = load(args::sources(matches)?).map_err(Failure::Configuration)?;
    match ask_project(&loaded) {
        Ok(said) => loaded = loaded.with_django(&said),
        Err(why) => loaded.notes.push(format!("Django's settings are not in here: {why}")),
    }
    match matches.get_one::<String>("format").map(String::as_str) {
        Some("json") => report::print(&explain::to_json(&loaded)),
        _ => report::print(&explain::to_toml(&loaded)),
    }
}

/// Reads the settings module in the project's Python, without importing the application. The names are those of the worker's hello.
const PROBE: &str = r#"
import json, os, platform, sys
sys.path[:0] = sys.argv[1:]
import django
from django.conf import settings as s
storages = getattr(s, "STORAGES", {})
text = lambda value: None if value is None else str(value)
print("\n" + json.dumps({
    "interpreter": platform.python_version(),
    "implementation": platform.python_implementation(),
    "django": {
        "version": django.get_version(), "settings_module": os.environ["DJANGO_SETTINGS_MODULE"], "debug": bool(s.DEBUG),
        "static_url": text(s.STATIC_URL), "static_root": text(s.STATIC_ROOT),
        "media_url": text(s.MEDIA_URL), "media_root": text(s.MEDIA_ROOT),
        "data_upload_max_memory_size": s.DATA_UPLOAD_MAX_MEMORY_SIZE,
        "storage": storages.get("staticfiles", {}).get("BACKEND"),
        "default_storage": storages.get("default", {}).get("BACKEND"),
        "force_script_name": s.FORCE_SCRIPT_NAME,
    },
}))
"#;

/// The project's word, or why there is none.
fn ask_project(loaded: &Loaded) -> Result<ProjectSettings, String> {
    let env = args::environment();
    let project = Project::find(loaded, &env).map_err(|problem| problem.sentence)?;
    let module = project.settings_module.ok_or("no settings module is named")?;
    let asked = loaded.settings.python.as_deref();
    let python = python::find(asked, args::program().as_deref(), &env, &project.chdir)
        .map_err(|problem| problem.sentence)?;
    // The same order as in the workers: the project folder, then `pythonpath`.
    let folders = [&project.chdir].into_iter().chain(&project.pythonpath);
    let output = Command::new(&python.path)
        .args(["-c", PROBE])
        .args(folders)
        .current_dir(&project.chdir)
        .envs(loaded.app_env.iter().map(|(name, value)| (name, value)))
        .env("DJANGO_SETTINGS_MODULE", module)
        .stdin(std::process::Stdio::null())
        .output()
        .map_err(|error| format!("{} cannot be run: {error}", python.path.display()))?;
    if !output.status.success() {
        let trace = String::from_utf8_lossy(&output.stderr);
        let last = trace.trim_end().lines().next_back().unwrap_or("no reason given").to_owned();
        return Err(format!("{}: {last}", python.path.display()));
    }
    // Settings modules may print: the answer is the last line.
    let last = output.stdout.trim_ascii_end().rsplit(|byte| *byte == b'\n').next().unwrap_or_default();
    ProjectSettings::from_json(last)
}
