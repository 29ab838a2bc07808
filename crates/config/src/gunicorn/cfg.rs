//! Settings by gunicorn's names, for hooks that look at `server.cfg` or `worker.cfg`.
//!
//! Owns the way back: what is in force, wherever it was written. Only what hooks are known to read; the rest a hook finds in its own
//! file. Invariant: nothing secret is among them, because the environment of a process can be read by its user.

use serde_json::json;

use crate::settings::{Destination, Level, Settings};

/// One JSON object.
pub fn of(settings: &Settings) -> String {
    let seconds = |time: Option<std::time::Duration>| time.map_or(0, |time| time.as_secs());
    let binds: Vec<String> = settings.bind.iter().map(ToString::to_string).collect();
    let level = match settings.log {
        Level::Debug => "debug",
        Level::Info => "info",
        Level::Warning => "warning",
        Level::Error => "error",
    };
    let access_log = match &settings.access_log {
        Destination::Off => None,
        Destination::Stdout => Some("-".to_owned()),
        Destination::File(path) => Some(path.display().to_string()),
    };
    json!({
        "bind": binds,
        "workers": settings.workers.get(),
        "threads": settings.threads.get(),
        "timeout": seconds(settings.timeout),
        "graceful_timeout": settings.graceful_timeout.as_secs(),
        "keepalive": settings.idle_timeout.as_secs(),
        "max_requests": settings.max_requests.map_or(0, std::num::NonZeroU64::get),
        "max_requests_jitter": settings.max_requests_jitter,
        "preload_app": settings.preload,
        "accesslog": access_log,
        "loglevel": level,
        "pidfile": settings.pid,
        "chdir": settings.chdir,
        "umask": settings.umask,
        "user": settings.user,
        "group": settings.group,
        "wsgi_app": settings.app,
        "reload": false,
        "daemon": false,
    })
    .to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gunicorn::table;

    #[test]
    fn every_name_is_gunicorns() {
        let sources = crate::load::Sources {
            flags: vec![("timeout".to_owned(), vec!["off".to_owned()])],
            app_env: vec![],
            env: vec![],
            cwd: "/nowhere".into(),
            cpus: std::num::NonZeroUsize::MIN,
            pid: 1,
            root: false,
        };
        let cfg: serde_json::Value =
            serde_json::from_str(&of(&crate::load::load(sources).unwrap().settings)).unwrap();
        for name in cfg.as_object().unwrap().keys() {
            assert!(table::find(name).is_some(), "{name}");
        }
        assert_eq!((&cfg["timeout"], &cfg["keepalive"]), (&0.into(), &75.into()));
        assert_eq!((&cfg["bind"], &cfg["chdir"]), (&json!(["127.0.0.1:8000"]), &json!("/nowhere")));
    }
}
