//! Precedence, places and messages, through the crate's doors: real files in a fresh folder, everything else as values.

#![allow(clippy::unwrap_used)] // a test fails by panicking

mod site;

use std::time::Duration;

use bandstand_config::{
    AcmeChallenge, Bind, Destination, EventLoop, Interface, Level, Lifespan, MemoryMeasure, Mount,
    PathInterface, ProjectSettings, Protected, ReadyCheck, WatchMethod,
};
use site::Site;

#[test]
fn defaults_alone_fill_every_field() {
    let loaded = Site::new("defaults").load().unwrap();
    let s = &loaded.settings;
    assert_eq!(s.bind, [Bind::Tcp { host: "127.0.0.1".into(), port: 8000, scheme: None }]);
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

/// Of the top level, of a prefix, of a longer one; and on segment boundaries alone.
#[test]
fn each_path_has_settings_that_inherit() {
    let hash = format!("$2y$10${}", "a".repeat(53));
    let text = format!(
        "max_body = '1MB'\nrate = '100/m'\ndeny = ['192.0.2.0/24']\n\
         [paths.'/admin']\nallow = ['10.0.0.0/8', 'unix']\nbasic_auth = ['ada:{hash}']\nrate = '5/s burst 7'\n\
         [paths.'/admin/open/']\nallow = '*'\nbasic_auth = 'off'\ninterface = 'asgi'\n\
         [paths.'/admin/open/big']\nmax_body = '2GB'\ncompress = 'off'\nrate = 'off'\n[paths.'/none']\n"
    );
    let settings = Site::new("path-settings").file("bandstand.toml", &text).load().unwrap().settings;
    let row = |path: &str| {
        let at = settings.at(path.as_bytes());
        let rate = at.rate.map(|rate| (rate.requests, rate.per.as_secs(), rate.burst, rate.id));
        let open = at.allow.as_ref().map(|allow| allow.networks.len());
        (at.max_body, rate, open, at.basic_auth.is_some(), at.compress)
    };
    let (mega, giga) = (1_000_000, 2_000_000_000);
    let (base, admin) = (Some((100, 60, 100, 0)), Some((5, 1, 7, 1)));
    for (path, wanted) in [
        ("/", (mega, base, None, false, true)),
        ("*", (mega, base, None, false, true)),
        ("/none/x", (mega, base, None, false, true)),
        ("/administrator", (mega, base, None, false, true)),
        ("/admin", (mega, admin, Some(1), true, true)),
        ("/admin/", (mega, admin, Some(1), true, true)),
        ("/admin/opening", (mega, admin, Some(1), true, true)),
        ("/admin/open", (mega, admin, Some(2), false, true)),
        ("/admin/open/x", (mega, admin, Some(2), false, true)),
        ("/admin/open/big/x", (giga, None, Some(2), false, false)),
    ] {
        assert_eq!(row(path), wanted, "{path}");
        assert_eq!(settings.at(path.as_bytes()).deny.networks.len(), 1, "{path}");
    }
    assert_eq!(settings.at(b"/admin/open/big").interface, Some(PathInterface::Asgi));
    let passwords = settings.at(b"/admin").basic_auth.clone().unwrap();
    assert_eq!((passwords.hash_of("ada"), passwords.hash_of("eve")), (Some(&hash[..]), None));
    for (path, protected, second) in [
        ("/admin", true, false),
        ("/x/../admin", false, true),
        ("//admin", false, true),
        ("/admin/../x", true, true),
        ("/admin/./x", true, false),
        ("/.well-known/x", false, false),
    ] {
        let (at, flat) = settings.at_strictest(path.as_bytes());
        assert_eq!((at.basic_auth.is_some(), flat.is_some()), (protected, second), "{path}");
    }
    let (_, flat) = settings.at_strictest(b"/x//../admin/y");
    assert!(flat.unwrap().basic_auth.is_some());
}

#[test]
fn the_rule_of_the_root_is_around_all_others() {
    let text = "[paths.'/']\nrate = '1/s'\n[paths.'/a']\nmax_body = 5\n[paths.'/b']\nrate = '1/s'\n";
    let settings = Site::new("path-root").file("bandstand.toml", text).load().unwrap().settings;
    let id = |path: &str| settings.at(path.as_bytes()).rate.map(|rate| rate.id);
    assert_eq!((id("/"), id("/a"), id("*"), id("/b")), (Some(1), Some(1), Some(1), Some(2)));
}

#[test]
fn which_addresses_speak_tls() {
    for (written, wanted) in [
        ("", &[("127.0.0.1:8000", false)][..]),
        ("domains = ['example.com']", &[(":443", true), (":80", false)]),
        (
            "domains = 'example.com'\nbind = [':8443', 'http://:8080', 'unix:/s', 'fd://3']",
            &[(":8443", true), ("http://:8080", false), ("unix:/s", false), ("fd://3", true)],
        ),
        ("local_https = true\ndomains = ['shop.test', '192.0.2.1']", &[("127.0.0.1:8000", true)]),
        ("tls_cert = 'a.pem'\nbind = ['https://:80', ':80', 'https://b']", &[]),
        (
            "tls_cert = 'a.pem'\nbind = ['https://a:80', ':80', 'https://b']",
            &[("https://a:80", true), (":80", false), ("https://b:443", true)],
        ),
    ] {
        let loaded = Site::new("speaks-tls").file("bandstand.toml", written).load();
        let Ok(loaded) = loaded else {
            assert!(wanted.is_empty(), "{written}");
            continue;
        };
        let s = loaded.settings;
        let shown: Vec<(String, bool)> = s.bind.iter().map(|b| (b.to_string(), s.speaks_tls(b))).collect();
        let wanted: Vec<(String, bool)> = wanted.iter().map(|(text, tls)| (text.to_string(), *tls)).collect();
        assert_eq!(shown, wanted, "{written}");
    }
}

#[test]
fn the_front_door_as_written() {
    let text = "domains = ['Example.com', '*.example.com.']\nacme_challenge = 'dns-01'\nacme_dns_hook = 'hook'\n\
         acme_eab = 'kid-1:YWJj='\nacme_email = 'mailto:ops@example.com'\nacme_directory = ['ZeroSSL', 'https://ca.test/dir']\n\
         protected = { '/invoices/' = 'private/invoices', '/invoices/old' = '/old' }\ncompress_types = ['TEXT/*', 'a/b']\n\
         [headers]\nReferrer-Policy = 'no-referrer'\nX-Frame-Options = ''\n";
    let site = Site::new("front-door").file("bandstand.toml", text);
    let s = site.load().unwrap().settings;
    assert_eq!(s.domains, ["example.com", "*.example.com"]);
    assert_eq!(s.acme_challenge, AcmeChallenge::Dns01);
    assert_eq!(s.acme_eab.as_ref().map(|eab| eab.reveal()), Some("kid-1:YWJj"));
    assert_eq!(format!("{:?}", s.acme_eab), "Some((hidden))");
    assert_eq!(s.acme_email.as_deref(), Some("ops@example.com"));
    assert_eq!(s.acme_directory, ["zerossl", "https://ca.test/dir"]);
    let folder = |url: &str, root: std::path::PathBuf| Protected { url: url.to_owned(), root };
    let private = site.root().join("private/invoices");
    assert_eq!(s.protected, [folder("/invoices/old/", "/old".into()), folder("/invoices/", private)]);
    let header = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    assert_eq!(s.headers, [header("Referrer-Policy", "no-referrer"), header("X-Frame-Options", "")]);
    for (kind, wanted) in
        [("text/html", true), ("Text/x", true), ("A/b", true), ("text", false), ("a/bc", false)]
    {
        assert_eq!(s.compresses(kind), wanted, "{kind}");
    }
    assert!(s.uses_acme() && s.has_certificates() && s.http2 && !s.http3 && s.redirect_https);
    let shown = bandstand_config::explain::to_toml(&site.load().unwrap());
    assert!(shown.contains("# acme_eab = \"(hidden)\"") && !shown.contains("YWJj"), "{shown}");
}

#[test]
fn state_has_a_place_that_outlives_a_restart() {
    let site = || Site::new("state-dir").env("HOME", "/home/ada");
    for (site, root, wanted) in [
        (site(), true, "/var/lib/bandstand"),
        (site(), false, "/home/ada/.local/state/bandstand"),
        (site().env("XDG_STATE_HOME", "/x"), false, "/x/bandstand"),
        (site().env("XDG_STATE_HOME", "x"), false, "/home/ada/.local/state/bandstand"),
        (site().env("XDG_STATE_HOME", "/x"), true, "/var/lib/bandstand"),
        (site().env("STATE_DIRECTORY", "/var/lib/shop:/y"), false, "/var/lib/shop"),
        (site().env("STATE_DIRECTORY", "/var/lib/shop"), true, "/var/lib/shop"),
        (Site::new("state-dir"), false, "/var/lib/bandstand"),
        (site().flag("state_dir", &["/s"]), true, "/s"),
    ] {
        assert_eq!(site.root_user(root).load().unwrap().settings.state_dir.to_str(), Some(wanted));
    }
}

#[test]
fn passwords_from_a_file() {
    let bcrypt = format!("$2b$05${}", "/".repeat(53));
    let argon = "$argon2id$v=19$m=65536,t=3,p=4$c29tZXNhbHRzb21l$RdescudvJCsgt3ub+b5dWRWJTmaaJObG";
    let file = format!("# people\nada:{bcrypt}\n\nbob:{argon}:a comment\n");
    let toml = "basic_auth = 'people'\n[paths.'/api']\nbasic_auth = 'people'";
    let site = Site::new("htpasswd").file("bandstand.toml", toml);
    let s = site.clone().file("people", &file).load().unwrap().settings;
    for path in ["/", "/api"] {
        let passwords = s.at(path.as_bytes()).basic_auth.clone().unwrap();
        assert_eq!(passwords.pairs().collect::<Vec<_>>(), [("ada", &bcrypt[..]), ("bob", argon)]);
    }
    for (file, wanted) in [
        ("ada:secret\n", "people:1: the hash of \"ada\" is none: is it the password itself?"),
        ("\nada:$apr1$x$y\n", "people:2: the hash of \"ada\" is MD5"),
        ("ada:{SHA}x", "people:1: the hash of \"ada\" is SHA-1"),
        ("ada", "people:1: is not name:hash"),
        ("# nobody\n", "people names nobody"),
    ] {
        let error = site.clone().file("people", file).load().unwrap_err().to_string();
        assert!(error.contains(wanted), "{file:?}: {error}");
        assert!(!error.contains("secret"), "{error}");
    }
    assert!(site.load().unwrap_err().to_string().contains("there is no file"));
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
