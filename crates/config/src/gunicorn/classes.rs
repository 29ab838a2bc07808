//! What each worker class of gunicorn means in settings of this server, and the sentence that says so.
//!
//! Invariant: a class never stops a start; what is not known is said and passed over.
//! Source: gunicorn's documentation of `worker_class`; uvicorn's and uvicorn-worker's of their classes.

/// What a worker class means here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClassMeaning {
    /// Settings, by key.
    pub settings: &'static [(&'static str, &'static str)],
    /// What is read into it, to follow the name of the class.
    pub sentence: String,
}

/// The meaning of `class`.
pub fn worker_class(class: &str) -> ClassMeaning {
    let row = CLASSES.iter().find(|row| row.names.contains(&class));
    let Some(Row { settings, why, .. }) = row else {
        let sentence = "is not used: workers are this server's own, and --interface wsgi, asgi or both says how they call the application".to_owned();
        return ClassMeaning { settings: &[], sentence };
    };
    let flags: Vec<String> = settings.iter().map(|(key, value)| format!("--{key} {value}")).collect();
    ClassMeaning { settings, sentence: format!("is read as {}: {why}", flags.join(" ")) }
}

struct Row {
    names: &'static [&'static str],
    settings: &'static [(&'static str, &'static str)],
    why: &'static str,
}

const CLASSES: &[Row] = &[
    Row {
        names: &["sync", "gunicorn.workers.sync.SyncWorker"],
        settings: &[("interface", "wsgi"), ("threads", "1")],
        why: "one request at once in each worker; slow clients never hold one here, so more threads are safe where the application is",
    },
    Row {
        names: &["gthread", "gunicorn.workers.gthread.ThreadWorker"],
        settings: &[("interface", "wsgi")],
        why: "each worker has --threads threads",
    },
    Row {
        names: &["gevent", "gevent_wsgi", "gevent_pywsgi", "eventlet", "tornado"],
        settings: &[("interface", "wsgi")],
        why: "there are no green threads here; idle and slow clients cost no thread, and --threads says how many requests wait for databases at once",
    },
    Row {
        names: &[
            "asgi",
            "gunicorn.workers.gasgi.ASGIWorker",
            "uvicorn.workers.UvicornWorker",
            "uvicorn_worker.UvicornWorker",
        ],
        settings: &[("interface", "asgi")],
        why: "one event loop in each worker; without -k a Django project gets both interfaces, and each view the cheaper one",
    },
    Row {
        names: &["uvicorn.workers.UvicornH11Worker", "uvicorn_worker.UvicornH11Worker"],
        settings: &[("interface", "asgi"), ("loop", "asyncio")],
        why: "HTTP is never parsed in Python here, so only the loop differs",
    },
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::knobs;

    #[test]
    fn classes() {
        for (class, settings, said) in [
            (
                "sync",
                &[("interface", "wsgi"), ("threads", "1")][..],
                "is read as --interface wsgi --threads 1: ",
            ),
            ("gthread", &[("interface", "wsgi")], "--interface wsgi"),
            ("gevent", &[("interface", "wsgi")], "green threads"),
            ("uvicorn.workers.UvicornWorker", &[("interface", "asgi")], "--interface asgi: "),
            (
                "uvicorn_worker.UvicornH11Worker",
                &[("interface", "asgi"), ("loop", "asyncio")],
                "--loop asyncio",
            ),
            ("shop.workers.Own", &[], "is not used"),
        ] {
            let meaning = worker_class(class);
            assert_eq!(meaning.settings, settings, "{class}");
            assert!(meaning.sentence.contains(said), "{}", meaning.sentence);
        }
    }

    #[test]
    fn every_class_sets_keys_that_exist() {
        for (key, _) in CLASSES.iter().flat_map(|row| row.settings) {
            assert!(knobs::find(key).is_some(), "{key}");
        }
    }
}
