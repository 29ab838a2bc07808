//! A `gunicorn.conf.py`: every setting answered, each value with its line, and who wins.
//!
//! What Python would tell of the files stands here as JSON; that it tells so is `tests/unit_worker/test_43_gunicorn.py`'s.

#![allow(clippy::unwrap_used)] // a test fails by panicking

mod site;

use std::path::Path;

use bandstand_config::gunicorn::{Configuration, classes, table};
use bandstand_config::{Bind, CertificateFiles, ClientCert, Destination, Level, Loaded, explain};
use serde_json::json;
use site::Site;

const FILE: &str = "gunicorn.conf.py";

/// The file whose line N sets the Nth of `entries`, and what Python says of it.
fn site(name: &str, entries: serde_json::Value, hooks: &[&str]) -> (Site, Configuration) {
    let entries = entries.as_array().unwrap();
    let (mut text, mut settings, mut lines) = (String::new(), serde_json::Map::new(), serde_json::Map::new());
    for (index, entry) in entries.iter().enumerate() {
        let key = entry[0].as_str().unwrap();
        text += &format!("{key} = {}\n", entry[1]);
        settings.insert(key.to_owned(), entry[1].clone());
        lines.insert(key.to_owned(), (index + 1).into());
    }
    for hook in hooks {
        text += &format!("def {hook}(server): pass\n");
        lines.insert((*hook).to_owned(), text.lines().count().into());
    }
    let said = json!({ "settings": settings, "lines": lines, "hooks": hooks, "objects": {} });
    let said = Configuration::from_json(said.to_string().as_bytes()).unwrap();
    (Site::new(name).file(FILE, &text).flag("config", &[FILE]), said)
}

fn loaded(name: &str, entries: serde_json::Value) -> Loaded {
    let (site, said) = site(name, entries, &[]);
    site.load_with(&said).unwrap()
}

#[test]
fn many_settings() {
    let (site, said) = site(
        "gunicorn-many",
        json!([
            ["bind", ["0.0.0.0:8000", "unix:///run/shop.sock"]],
            ["workers", 5],
            ["worker_class", "gthread"],
            ["threads", 4],
            ["timeout", 120],
            ["graceful_timeout", 20],
            ["keepalive", 5],
            ["max_requests", 1000],
            ["max_requests_jitter", 50],
            ["preload_app", true],
            ["accesslog", "-"],
            ["errorlog", "/var/log/error.log"],
            ["loglevel", "warning"],
            ["access_log_format", "%(h)s"],
            ["worker_tmp_dir", "/dev/shm"],
            ["forwarded_allow_ips", "10.0.0.0/8"],
            ["limit_request_line", 8190],
            ["limit_request_fields", 32768],
            ["limit_request_field_size", 65536],
            ["pidfile", "run/shop.pid"],
            ["umask", 18],
            ["user", 1000],
            ["wsgi_app", "shop.wsgi:application"],
            ["raw_env", ["DJANGO_SETTINGS_MODULE=shop.prod", "KEY=a=b"]],
            ["reload", true],
            ["daemon", false],
            ["proc_name", "shop"],
            ["sendfile", null],
            ["protocol", "http"],
            ["statsd_host", "localhost:8125"],
            ["cpu_count", 8],
            ["max_request", 3]
        ]),
        &["post_fork", "when_ready"],
    );
    let loaded = site.load_with(&said).unwrap();
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/gunicorn.toml");
    let text = site.plain(&explain::to_toml(&loaded));
    if std::env::var_os("BLESS").is_some() {
        std::fs::write(&golden, &text).unwrap();
    }
    assert!(std::fs::read_to_string(&golden).unwrap_or_default() == text, "BLESS=1 writes it:\n{text}");
    let variable = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    assert_eq!(loaded.app_env, [variable("DJANGO_SETTINGS_MODULE", "shop.prod"), variable("KEY", "a=b")]);
    assert_eq!(loaded.settings.hooks.as_deref().map(Path::new), Some(site.root().join(FILE).as_path()));
    assert_eq!(loaded.unread, None);
}

#[test]
fn each_value_in_our_terms() {
    type Check = fn(&bandstand_config::Settings) -> bool;
    let rows: Vec<(serde_json::Value, Check)> = vec![
        (json!([["bind", "127.0.0.1"]]), |s| s.bind == [Bind::parse("127.0.0.1:8000").unwrap()]),
        (json!([["bind", ":80,[::1]:81"]]), |s| {
            s.bind == [Bind::parse("0.0.0.0:80").unwrap(), Bind::parse("[::1]:81").unwrap()]
        }),
        (json!([["bind", []]]), |s| s.bind == [Bind::parse("127.0.0.1:8000").unwrap()]),
        (json!([["timeout", 0]]), |s| s.timeout.is_none()),
        (json!([["max_requests", 0]]), |s| s.max_requests.is_none()),
        (json!([["keepalive", 0]]), |s| s.idle_timeout.as_secs() == 1),
        (json!([["preload_app", false]]), |s| !s.preload),
        (json!([["accesslog", null]]), |s| s.access_log == Destination::Off),
        (json!([["loglevel", "CRITICAL"]]), |s| s.log == Level::Error),
        (json!([["umask", "0o27"]]), |s| s.umask == Some(0o27)),
        // The larger of the two limits, whichever comes first.
        (json!([["limit_request_line", 20000], ["limit_request_field_size", 0]]), |s| {
            s.max_header_bytes == 256 << 10
        }),
        (json!([["limit_request_field_size", 40000], ["limit_request_line", 20000]]), |s| {
            s.max_header_bytes == 40000
        }),
        (json!([["limit_request_line", 4094]]), |s| s.max_header_bytes == 16 << 10),
        // A setting wins over what a class asks for, wherever it stands.
        (json!([["worker_class", "sync"], ["threads", 3]]), |s| s.threads.get() == 3),
        (json!([["threads", 3], ["worker_class", "sync"]]), |s| s.threads.get() == 3),
        (json!([["worker_class", "sync"]]), |s| s.threads.get() == 1),
        (json!([["pythonpath", "/a,/b"]]), |s| s.pythonpath.len() == 2),
        (json!([["certfile", "/c.pem"], ["keyfile", "/k.pem"]]), |s| {
            let (cert, key) = ("/c.pem".into(), "/k.pem".into());
            s.certificate_files() == [CertificateFiles::Pair { cert, key }] && s.client_ca.is_none()
        }),
        (json!([["ca_certs", "/ca.pem"]]), |s| s.client_ca.is_none()),
        (json!([["ca_certs", "/ca.pem"], ["cert_reqs", 0]]), |s| s.client_ca.is_none()),
        (json!([["ca_certs", "/ca.pem"], ["cert_reqs", 1]]), |s| {
            s.client_ca.is_some() && s.client_cert == ClientCert::Optional
        }),
        (json!([["cert_reqs", 2], ["ca_certs", "/ca.pem"]]), |s| s.client_cert == ClientCert::Required),
        (json!([["http_protocols", "h3,h2,h1"], ["http2_cleartext", true]]), |s| s.http3 && s.http2 && s.h2c),
        (json!([["proxy_protocol", "auto"], ["forwarded_allow_ips", "10.0.0.1"]]), |s| s.proxy_protocol),
        (json!([["forwarded_allow_ips", "*"]]), |s| !s.trusted_proxies.networks.is_empty()),
        (json!([["worker_class", "uvicorn.workers.UvicornH11Worker"]]), |s| {
            s.event_loop == bandstand_config::EventLoop::Asyncio
        }),
    ];
    for (entries, fits) in rows {
        let loaded = loaded("gunicorn-each", entries.clone());
        assert!(fits(&loaded.settings), "{entries}");
    }
}

#[test]
fn flags_and_environment_win_over_the_file_and_the_file_over_pyproject() {
    let (site, said) = site("gunicorn-order", json!([["threads", 3]]), &[]);
    let site = site.file("pyproject.toml", "[tool.bandstand]\nthreads = 4\ntasks = 7");
    for (site, threads, origin) in [
        (site.clone().flag("threads", &["1"]), 1, "--threads"),
        (site.clone().env("BANDSTAND_THREADS", "2"), 2, "environment: BANDSTAND_THREADS"),
        (site, 3, "gunicorn.conf.py:1"),
    ] {
        let loaded = site.load_with(&said).unwrap();
        assert_eq!(loaded.settings.threads.get(), threads);
        assert_eq!(loaded.origins["threads"].to_string(), origin);
        assert_eq!(loaded.settings.tasks.get(), 7);
    }
}

#[test]
fn chdir_counts_from_the_current_folder() {
    let (site, said) = site("gunicorn-chdir", json!([["chdir", "app"], ["pidfile", "x"]]), &[]);
    let settings = site.load_with(&said).unwrap().settings;
    assert_eq!(settings.chdir, site.root().join("app"));
    assert_eq!(settings.pid, Some(site.root().join("app/x")));
}

#[test]
fn a_file_that_nobody_has_run_is_named() {
    let (site, _) = site("gunicorn-unread", json!([["threads", 3]]), &[]);
    let loaded = site.load().unwrap();
    assert_eq!((loaded.unread, loaded.settings.threads.get()), (Some(site.root().join(FILE)), 2));
}

#[test]
fn a_file_that_is_only_there_is_mentioned() {
    let bare = Site::new("gunicorn-there").file(FILE, "threads = 3");
    let notes = bare.load().unwrap().notes;
    assert_eq!(notes, ["gunicorn.conf.py is not read unless asked for: -c gunicorn.conf.py"]);
    assert!(bare.file("bandstand.toml", "").load().unwrap().notes.is_empty());
}

#[test]
fn notes_outlive_the_projects_own_word() {
    let loaded = loaded("gunicorn-notes", json!([["worker_tmp_dir", "/dev/shm"]]));
    let told = loaded.with_django(&Default::default()).with_django(&Default::default());
    let note = "gunicorn.conf.py:1: worker_tmp_dir means nothing here: heartbeats need no files";
    assert_eq!((loaded.notes, told.notes), (vec![note.to_owned()], vec![note.to_owned()]));
}

#[test]
fn problems() {
    let mut page = String::new();
    for entries in [
        json!([
            ["workers", "many"],
            ["certfile", "/etc/x.pem"],
            ["keyfile", "/etc/x.key"],
            ["ssl_context", "x"]
        ]),
        json!([["proxy_protocol", "v1"], ["protocol", "uwsgi"]]),
        json!([["paste", "config.ini"]]),
        json!([["threads", 4], ["umask", "ü"], ["bind", 80], ["raw_env", ["X"]], ["chdir", 1]]),
        json!([["timeout", -1], ["limit_request_line", "x"]]),
    ] {
        let (site, said) = site("gunicorn-problems", entries, &[]);
        page += &format!("{}\n\n", site.plain(&site.load_with(&said).unwrap_err().to_string()));
    }
    let (site, mut said) = site("gunicorn-failed", json!([["threads", 1]]), &[]);
    said.failed = Some("Traceback (most recent call last):\n  File \"x\"\nNameError: x\n".to_owned());
    page += &format!("{}\n\n", site.load_with(&said).unwrap_err());
    said.failed = None;
    said.objects.insert("timeout".to_owned(), "an instance of shop.Limit".to_owned());
    said.objects.insert("worker_class".to_owned(), "shop.workers.Own".to_owned());
    page += &format!("{}\n", site.load_with(&said).unwrap_err());
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/gunicorn.txt");
    if std::env::var_os("BLESS").is_some() {
        std::fs::write(&golden, &page).unwrap();
    }
    assert!(std::fs::read_to_string(&golden).unwrap_or_default() == page, "BLESS=1 writes it:\n{page}");
}

/// Gunicorn's own names are in `golden/gunicorn-names.txt`; where gunicorn is installed, a test in Python compares that file with it.
#[test]
fn every_setting_of_gunicorn_has_a_row_or_is_a_hook() {
    const HOOKS: [&str; 15] = [
        "child_exit",
        "nworkers_changed",
        "on_exit",
        "on_reload",
        "on_starting",
        "post_fork",
        "post_request",
        "post_worker_init",
        "pre_exec",
        "pre_fork",
        "pre_request",
        "when_ready",
        "worker_abort",
        "worker_exit",
        "worker_int",
    ];
    let mut ours: Vec<&str> = table::TABLE.iter().map(|row| row.name).chain(HOOKS).collect();
    ours.sort_unstable();
    let theirs: Vec<&str> = include_str!("golden/gunicorn-names.txt").lines().collect();
    assert_eq!(ours, theirs);
}

#[test]
fn a_class_is_named_in_its_note() {
    let loaded = loaded("gunicorn-class", json!([["worker_class", "shop.Own"]]));
    let meaning = classes::worker_class("shop.Own").sentence;
    assert_eq!(loaded.notes, [format!("gunicorn.conf.py:1: worker_class shop.Own {meaning}")]);
}
