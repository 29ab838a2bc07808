//! Precedence, places and messages, through the crate's doors: real files in a fresh folder, everything else as values.

#![allow(clippy::unwrap_used)] // a test fails by panicking

mod site;

use std::time::Duration;

use bandstand_config::{
    Bind, Destination, EventLoop, Interface, Level, Lifespan, MemoryMeasure, Mount, PathInterface,
    ProjectSettings, ReadyCheck, WatchMethod,
};
use site::Site;

#[test]
fn defaults_alone_fill_every_field() {
    let loaded = Site::new("defaults").load().unwrap();
    let s = &loaded.settings;
    assert_eq!(s.bind, [Bind::Tcp { host: "127.0.0.1".into(), port: 8000 }]);
    assert_eq!((s.workers.get(), s.threads.get(), s.edge_threads), (3, 2, None));
    assert_eq!((s.timeout, s.boot_timeout), (Some(Duration::from_secs(30)), None));
    assert_eq!((s.max_body, s.max_header_bytes, s.max_headers), (20_000_000, 16_384, 100));
    assert_eq!((s.body_min_rate, s.static_files.clone(), s.umask), (Some(500), None, None));
    assert_eq!(
        (s.access_log.clone(), s.log, s.interface),
        (Destination::Stdout, Level::Info, Interface::Auto)
    );
    assert_eq!((s.threads_max.get(), s.tasks.get(), s.bridge), (16, 1000, true));
    assert_eq!((s.event_loop, s.lifespan, s.root_path.as_str()), (EventLoop::Auto, Lifespan::Auto, ""));
    let twenty = Duration::from_secs(20);
    assert_eq!(
        (s.websocket_ping, s.websocket_timeout, s.websocket_max_size),
        (Some(twenty), twenty, 16 << 20)
    );
    assert!(s.websocket_compress && s.websocket_origins.is_empty());
    assert_eq!(s.interface_for(b"/"), None);
    assert_eq!(s.spool_dir.to_str(), Some("/tmp"));
    assert!(s.trusted_proxies.networks.is_empty() && !s.trusted_proxies.unix);
}

/// Each row takes the strongest place away; the next one must win.
#[test]
fn the_first_place_that_has_the_key_wins() {
    let site = Site::new("precedence")
        .file("bandstand.toml", "max_body = 3")
        .file("pyproject.toml", "[tool.bandstand]\nmax_body = 4")
        .file("vars.env", "BANDSTAND_MAX_BODY=2\nAPP_KEY=x")
        .flag("env_file", &["vars.env"]);
    let django = django(r#"{"data_upload_max_memory_size": 50000000}"#);
    let all = site.clone().flag("max_body", &["0"]).env("BANDSTAND_MAX_BODY", "1");
    for (site, bytes, origin) in [
        (all.clone(), 0, "--max-body"),
        (site.clone().env("BANDSTAND_MAX_BODY", "1"), 1, "environment: BANDSTAND_MAX_BODY"),
        (site.clone(), 2, "vars.env:1: BANDSTAND_MAX_BODY"),
        (site.clone().no_flags(), 3, "bandstand.toml:1"),
        (site.clone().no_flags().without("bandstand.toml"), 4, "pyproject.toml:2"),
        (
            site.no_flags().without("bandstand.toml").without("pyproject.toml"),
            50_000_000,
            "Django: DATA_UPLOAD_MAX_MEMORY_SIZE",
        ),
    ] {
        let loaded = site.load().unwrap().with_django(&django);
        assert_eq!(
            (loaded.settings.max_body, loaded.origins["max_body"].to_string().as_str()),
            (bytes, origin)
        );
    }
    let loaded = Site::new("precedence-default").load().unwrap();
    assert_eq!(
        (loaded.settings.max_body, loaded.origins["max_body"].to_string().as_str()),
        (20_000_000, "default")
    );
}

#[test]
fn variables_of_platforms() {
    let heroku = Site::new("platform").env("PORT", "5000").env("WEB_CONCURRENCY", "7");
    let heroku = heroku.env("FORWARDED_ALLOW_IPS", "10.0.0.1, 10.0.0.2");
    for (site, bind, workers) in [
        (heroku.clone(), "0.0.0.0:5000", 7),
        (heroku.clone().file("bandstand.toml", "bind = ':80'\nworkers = 2"), "0.0.0.0:5000", 7),
        (heroku.clone().env("BANDSTAND_BIND", ":81").env("BANDSTAND_WORKERS", "1"), ":81", 1),
        (heroku.clone().flag("bind", &["unix:s.sock"]), "unix:ROOT/s.sock", 7),
    ] {
        let settings = site.load().unwrap().settings;
        let shown = settings.bind[0].to_string().replace(site.root().to_str().unwrap(), "ROOT");
        assert_eq!((shown.as_str(), settings.workers.get()), (bind, workers));
        assert_eq!(settings.trusted_proxies.networks.len(), 2);
    }
    let error = Site::new("platform-wrong").env("PORT", "http").load().unwrap_err().to_string();
    assert!(error.starts_with("PORT: \"0.0.0.0:http\" has no port"), "{error}");
}

#[test]
fn systemd_sockets_are_used_when_nothing_is_written() {
    let passed = Site::new("systemd").env("LISTEN_FDS", "2").env("LISTEN_PID", "42");
    for (site, bind) in [
        (passed.clone(), Bind::Systemd),
        (passed.clone().env("LISTEN_PID", "41"), Bind::parse("127.0.0.1:8000").unwrap()),
        (
            passed.clone().env("LISTEN_FDNAMES", "bandstand-|80:bandstand-|443"),
            Bind::parse("127.0.0.1:8000").unwrap(),
        ),
        (passed.clone().env("LISTEN_FDNAMES", "bandstand-|80:web"), Bind::Systemd),
        (passed.clone().env("LISTEN_FDS", "0"), Bind::parse("127.0.0.1:8000").unwrap()),
        (passed.clone().file("bandstand.toml", "bind = ':80'"), Bind::parse(":80").unwrap()),
    ] {
        assert_eq!(site.load().unwrap().settings.bind, [bind]);
    }
}

#[test]
fn the_env_file_feeds_the_application_and_the_settings() {
    let site = Site::new("env-file")
        .file("bandstand.toml", "env_file = 'prod.env'")
        .file("prod.env", "SECRET_KEY='a$b'\nHOME=/x\nBANDSTAND_TIMEOUT=9\n")
        .env("HOME", "/home/me")
        .app_env("SECRET_KEY", "from -e");
    let loaded = site.load().unwrap();
    assert_eq!(loaded.settings.timeout, Some(Duration::from_secs(9)));
    let names: Vec<&str> = loaded.app_env.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["SECRET_KEY", "BANDSTAND_TIMEOUT", "SECRET_KEY"]);
    assert_eq!(loaded.app_variable("SECRET_KEY", &[]).as_deref(), Some("from -e"));
    assert_eq!(
        loaded.app_variable("HOME", &[("HOME".into(), "/home/me".into())]).as_deref(),
        Some("/home/me")
    );
}

#[test]
fn the_project_folder_moves_with_chdir() {
    for (name, site) in [
        ("flag", Site::new("chdir-flag").file("app/bandstand.toml", "threads = 9").flag("chdir", &["app"])),
        (
            "env",
            Site::new("chdir-env").file("app/bandstand.toml", "threads = 9").env("BANDSTAND_CHDIR", "app"),
        ),
        (
            "file",
            Site::new("chdir-file").file("bandstand.toml", "threads = 9\nchdir = './app'").file("app/x", ""),
        ),
    ] {
        let site = site.flag("pid", &["run.pid"]);
        let settings = site.load().unwrap().settings;
        assert_eq!((settings.threads.get(), settings.chdir), (9, site.root().join("app")), "{name}");
        assert_eq!(settings.pid, Some(site.root().join("app/run.pid")), "{name}");
    }
}

#[test]
fn static_and_media_join_what_people_and_django_say() {
    let both = r#"{"static_url": "/assets/", "static_root": "/dj/static", "media_url": "/m/", "media_root": "/dj/media"}"#;
    let mount = |url: &str, root: &str| Some(Mount { url: url.into(), root: root.into() });
    for (written, said, statics, media, notes) in [
        ("", "{}", None, None, 0),
        ("", both, mount("/assets/", "/dj/static"), mount("/m/", "/dj/media"), 0),
        ("static = '/srv/s'", "{}", mount("/static/", "/srv/s"), None, 0),
        ("static = '/srv/s'", both, mount("/assets/", "/srv/s"), mount("/m/", "/dj/media"), 0),
        ("static = '/s=/srv/s'\nmedia = 'off'", both, mount("/s/", "/srv/s"), None, 0),
        (
            "media = { url = '/up', root = '/srv/u' }",
            both,
            mount("/assets/", "/dj/static"),
            mount("/up/", "/srv/u"),
            0,
        ),
        ("static = false", r#"{"static_url": "https://cdn/"}"#, None, None, 0),
        ("", r#"{"static_url": "https://cdn/", "static_root": "/x"}"#, None, None, 1),
        (
            "",
            r#"{"static_url": "/a/", "static_root": "/x", "media_url": "/a/", "media_root": "/y"}"#,
            None,
            None,
            1,
        ),
        ("", r#"{"static_url": "/a b/", "static_root": "/x"}"#, None, None, 1),
    ] {
        let site = Site::new("mounts").file("bandstand.toml", written);
        let loaded = site.load().unwrap().with_django(&django(said));
        assert_eq!(
            (loaded.settings.static_files.clone(), loaded.settings.media.clone()),
            (statics, media),
            "{written}"
        );
        assert_eq!(loaded.notes.len(), notes, "{written} {said}: {:?}", loaded.notes);
    }
}

#[test]
fn empty_variables_are_not_set() {
    let settings = Site::new("empty").env("BANDSTAND_BIND", "").env("PORT", "").load().unwrap().settings;
    assert_eq!(settings.bind, [Bind::parse("127.0.0.1:8000").unwrap()]);
}

#[test]
fn paths_come_from_the_stronger_file_as_a_whole() {
    let site = Site::new("paths")
        .file(
            "bandstand.toml",
            "[paths.'/api']\ninterface = 'asgi'\n[paths.'/api/old']\ninterface = 'wsgi'\n[paths.'/x']\n",
        )
        .file("pyproject.toml", "[tool.bandstand.paths.\"/other\"]\ninterface = \"asgi\"\n");
    let both = site.load().unwrap().settings;
    let project = site.without("bandstand.toml").load().unwrap().settings;
    for (settings, path, wanted) in [
        (&both, "/api/new", Some(PathInterface::Asgi)),
        (&both, "/api/old/1", Some(PathInterface::Wsgi)),
        (&both, "/x", None),
        (&both, "/other", None),
        (&project, "/other", Some(PathInterface::Asgi)),
        (&project, "/api", None),
    ] {
        assert_eq!(settings.interface_for(path.as_bytes()), wanted, "{path}");
    }
}

#[test]
fn threads_max_follows_threads_unless_written() {
    for (written, wanted) in [
        ("threads = 4", Some(16)),
        ("threads = 40", Some(40)),
        ("threads = 40\nthreads_max = 41", Some(41)),
        ("threads = 40\nthreads_max = 39", None),
        ("threads_max = 1", None),
    ] {
        let loaded = Site::new("threads-max").file("bandstand.toml", written).load();
        assert_eq!(loaded.ok().map(|loaded| loaded.settings.threads_max.get()), wanted, "{written}");
    }
}

#[test]
fn workers_stay_between_their_bounds_unless_written() {
    let bounds = |least, most| format!("workers_min = {least}\nworkers_max = {most}\n");
    for (written, wanted) in [
        (bounds(1, 8), Some(3)),
        (bounds(4, 8), Some(4)),
        (bounds(1, 2), Some(2)),
        (bounds(2, 2) + "workers = 2", Some(2)),
        (bounds(2, 4) + "workers = 5", None),
        (bounds(4, 2), None),
        ("workers_min = 2".to_owned(), None),
        ("workers_max = 2".to_owned(), None),
        ("workers_min = 0\nworkers_max = 'off'".to_owned(), Some(3)),
    ] {
        let loaded = Site::new("workers-range").file("bandstand.toml", &written).load();
        assert_eq!(loaded.ok().map(|loaded| loaded.settings.workers.get()), wanted, "{written}");
    }
}

#[test]
fn recycling_and_the_rest_of_a_generation() {
    let written = "max_requests = 1000\nmax_requests_jitter = 50\nmax_age = '1d'\nmax_idle = '10m'\nmax_memory = '512MiB'\n\
         memory_measure = 'pss'\nready_check = ['/health/', 'databases']\nhooks = 'shop.hooks'\ncontrol = 'run/x.sock'\n\
         watch = ['../lib']\nwatch_method = 'poll'\nbrowser_reload = 'off'\nworkers_memory = '2GiB'\n";
    let site = Site::new("recycling").file("bandstand.toml", written);
    let s = site.load().unwrap().settings;
    assert_eq!((s.max_requests.map(|count| count.get()), s.max_requests_jitter), (Some(1000), 50));
    let seconds = |time: Option<Duration>| time.map(|time| time.as_secs());
    assert_eq!((seconds(s.max_age), seconds(s.max_idle)), (Some(86_400), Some(600)));
    assert_eq!((s.max_memory, s.workers_memory), (Some(512 << 20), Some(2 << 30)));
    assert_eq!((s.memory_measure, s.watch_method), (MemoryMeasure::Pss, WatchMethod::Poll));
    assert_eq!((s.ready_check.paths, s.ready_check.databases), (vec!["/health/".to_owned()], true));
    assert_eq!((s.hooks.as_deref(), s.control), (Some("shop.hooks"), Some(site.root().join("run/x.sock"))));
    assert!(!s.browser_reload && s.preload && s.watch.len() == 1);
    let off = Site::new("recycling-off").load().unwrap().settings;
    assert_eq!((off.max_requests, off.max_requests_jitter, off.max_age), (None, 0, None));
    assert_eq!((off.max_idle, off.max_memory, off.workers_memory), (None, None, None));
    assert_eq!((off.hooks, off.control, off.ready_check), (None, None, ReadyCheck::default()));
}

#[test]
fn settings_that_do_nothing_are_noted() {
    for (written, note) in [
        ("max_requests_jitter = 5", Some("max_requests_jitter does nothing without max_requests")),
        ("max_requests_jitter = 5\nmax_requests = 9", None),
        ("preload = false\nhooks = 'x'", None),
        ("preload = false", None),
        ("hooks = 'x'", None),
    ] {
        let loaded = Site::new("noted").file("bandstand.toml", written).load().unwrap();
        assert_eq!(loaded.notes.len(), usize::from(note.is_some()), "{written}: {:?}", loaded.notes);
        assert!(note.is_none_or(|note| loaded.notes[0].starts_with(note)), "{:?}", loaded.notes);
    }
}

#[test]
fn a_path_the_application_has_no_interface_for_is_noted() {
    let site = Site::new("paths-note").file("bandstand.toml", "[paths.'/api']\ninterface = 'asgi'");
    for (interface, notes) in [("wsgi", 1), ("asgi", 0), ("both", 0)] {
        let said =
            ProjectSettings::from_json(format!("{{\"interface\": \"{interface}\"}}").as_bytes()).unwrap();
        let loaded = site.load().unwrap().with_django(&said);
        assert_eq!(loaded.notes.len(), notes, "{interface}: {:?}", loaded.notes);
    }
}

fn django(json: &str) -> ProjectSettings {
    ProjectSettings::from_json(format!("{{\"django\": {json}}}").as_bytes()).unwrap()
}
