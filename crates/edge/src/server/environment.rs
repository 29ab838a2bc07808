//! What a worker is given: the plan of a fleet, and the environment of its processes.
//!
//! Owns the names of the variables that `python/bandstand/worker.py` reads. Descriptors are added by the supervisor.
//! Invariant: the verbs that only look (`check`, `explain`) ask a process with the same environment.

use std::ffi::OsString;

use bandstand_supervisor::{Plan, Preload};

use super::{Mode, Run};
use crate::handed_down::ESTATE_ENV;

/// What the service manager and a program before this one say to this process alone.
const OURS: [&str; 9] = [
    "LISTEN_FDS",
    "LISTEN_PID",
    "LISTEN_FDNAMES",
    "NOTIFY_SOCKET",
    "FDSTORE",
    "WATCHDOG_USEC",
    "WATCHDOG_PID",
    "MAINPID",
    ESTATE_ENV,
];

/// How a generation of `run` is started, with so many workers.
pub(super) fn plan(run: &Run, workers: usize) -> Plan {
    let settings = &run.loaded.settings;
    let hooks = settings.hooks.is_some();
    Plan {
        python: run.python.clone(),
        arguments: ["-m", "bandstand.worker"].map(OsString::from).to_vec(),
        directory: run.project.chdir.clone(),
        environment: worker_environment(run),
        workers: u16::try_from(workers).unwrap_or(u16::MAX),
        boot_timeout: settings.boot_timeout,
        graceful_timeout: settings.graceful_timeout,
        umask: settings.umask,
        // Hooks of the server itself are called in a template, also where it imports nothing.
        preload: if settings.preload || hooks { Preload::Template } else { Preload::Direct },
        hooks,
    }
}

/// The whole environment of a worker, but the descriptors, which the supervisor adds.
pub fn worker_environment(run: &Run) -> Vec<(OsString, OsString)> {
    let Run { project, app_env, loaded, .. } = run;
    let settings = &loaded.settings;
    let mut environment: Vec<(OsString, OsString)> = std::env::vars_os()
        .filter(|(name, _)| !name.to_str().is_some_and(|name| OURS.contains(&name)))
        .collect();
    let mut set = |name: &str, value: OsString| {
        environment.retain(|(known, _)| known != name);
        environment.push((name.into(), value));
    };
    for (name, value) in app_env {
        set(name, value.into());
    }
    if let Some(module) = &project.settings_module {
        set("DJANGO_SETTINGS_MODULE", module.into());
    }
    let paths = std::env::join_paths(&project.pythonpath).unwrap_or_default();
    set("BANDSTAND_APP", project.app.clone().unwrap_or_default().into());
    set("BANDSTAND_THREADS", settings.threads.to_string().into());
    set("BANDSTAND_THREADS_MAX", settings.threads_max.to_string().into());
    set("BANDSTAND_TASKS", settings.tasks.to_string().into());
    set("BANDSTAND_INTERFACE", settings.interface.as_str().into());
    set("BANDSTAND_BRIDGE", u8::from(settings.bridge).to_string().into());
    set("BANDSTAND_LOOP", settings.event_loop.as_str().into());
    set("BANDSTAND_LIFESPAN", settings.lifespan.as_str().into());
    set("BANDSTAND_MULTIPROCESS", u8::from(settings.workers.get() > 1).to_string().into());
    set("BANDSTAND_PYTHONPATH", paths);
    set("BANDSTAND_PRELOAD", u8::from(settings.preload).to_string().into());
    set("BANDSTAND_HOOKS", settings.hooks.clone().unwrap_or_default().into());
    if settings.hooks.is_some() {
        set("BANDSTAND_HOOKS_CFG", bandstand_config::gunicorn::cfg::of(settings).into());
    }
    set("BANDSTAND_READY_CHECK", settings.ready_check.words().into());
    let timeout = settings.timeout.map(|timeout| timeout.as_secs_f64().to_string());
    set("BANDSTAND_TIMEOUT", timeout.unwrap_or_default().into());
    // For `bandstand.downloads`: which folders the edge sends files of.
    let protected = settings.protected.iter().map(|folder| {
        let root = std::path::absolute(&folder.root).unwrap_or_else(|_| folder.root.clone());
        serde_json::json!([folder.url, root.to_string_lossy()])
    });
    set("BANDSTAND_PROTECTED", serde_json::Value::from_iter(protected).to_string().into());
    if run.mode == Mode::Dev {
        set("BANDSTAND_DEV", "1".into());
        set("BANDSTAND_BROWSER_RELOAD", u8::from(settings.browser_reload).to_string().into());
    }
    // Lines of the app reach the log as they are written, not when 8 KiB have come together.
    set("PYTHONUNBUFFERED", "1".into());
    environment
}
