//! What people read, compared with committed files: `bandstand config`, the messages, the reference page.
//!
//! `BLESS=1 cargo test -p bandstand-config --test golden` writes the files anew; read the difference before committing it.

#![allow(clippy::unwrap_used)] // a test fails by panicking

mod site;

use std::path::Path;

use bandstand_config::{Project, ProjectSettings, explain, reference};
use site::Site;

fn compare(path: &str, text: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    if std::env::var_os("BLESS").is_some() {
        std::fs::write(&path, text).unwrap();
    }
    let golden = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(golden == text, "{} is stale; BLESS=1 writes it. It should be:\n{text}", path.display());
}

fn shop(name: &str) -> Site {
    Site::new(name)
        .file(
            "bandstand.toml",
            "# the shop\nbind = [\":8080\", \"unix:run/shop.sock\"]\ntimeout = \"1m\"\nworkers = 2\nwebsocket_origins = [\"same\"]\n\n[paths.\"/api/\"]\ninterface = \"asgi\"\nrate = \"10/s burst 20\"\n\n[headers]\nX-Shop = \"yes\"\n\n[protected]\n\"/bills/\" = \"bills\"\n",
        )
        .file("pyproject.toml", "[project]\nname = \"shop\"\n\n[tool.bandstand]\nlog_format = \"json\"\n")
        .file("prod.env", "SECRET_KEY=x\nBANDSTAND_UMASK=027\n")
        .env("BANDSTAND_MAX_BODY", "64MiB")
        .env("BANDSTAND_ENV_FILE", "prod.env")
        .env("FORWARDED_ALLOW_IPS", "10.0.0.0/8,loopback")
        .flag("max_connections_per_ip", &["off"])
}

fn django() -> ProjectSettings {
    let json = br#"{"django": {"static_url": "/static/", "static_root": "/srv/static", "media_url": "https://cdn.example/m/"}}"#;
    ProjectSettings::from_json(json).unwrap()
}

#[test]
fn config_as_toml_and_json() {
    let site = shop("golden-config");
    let loaded = site.load().unwrap().with_django(&django());
    compare("tests/golden/config.toml", &site.plain(&explain::to_toml(&loaded)));
    compare("tests/golden/config.json", &site.plain(&explain::to_json(&loaded)));
}

#[test]
fn what_config_prints_can_be_read_back() {
    let before = shop("golden-round").load().unwrap().with_django(&django());
    // Paths are absolute by now, so the first folder still counts.
    let after = Site::new("golden-round-again").file("bandstand.toml", &explain::to_toml(&before)).load();
    assert_eq!(after.unwrap().settings, before.settings);
}

#[test]
fn the_reference_page_is_fresh() {
    compare("../../docs/reference/settings.md", &reference::markdown());
}

#[test]
fn messages() {
    let file = |text: &str| Site::new("golden-messages").file("bandstand.toml", text);
    let site = || Site::new("golden-messages");
    let cases = [
        (
            "several problems of one file",
            file(
                "max_boddy = 1\n  timeout = \"20 apples\" # hm\nworkers = 9999\nbind = [\":80\", \"::1:80\"]\ndomains = [\"a\"]\n",
            ),
        ),
        ("syntax", file("timeout = 30\nlog = debug\n")),
        ("a table", file("static = { url = \"/static/\", rot = \"x\" }\n")),
        ("no table", file("[timeout]\nx = 1\n")),
        ("flag only", file("config = \"x.toml\"\n")),
        ("decimal umask", file("umask = 22\n")),
        ("unknown interface", file("interface = \"uwsgi\"\n")),
        ("threads_max below threads", file("threads = 8\nthreads_max = 4\n")),
        ("threads_max below threads by flag", file("threads_max = 4\n").flag("threads", &["8"])),
        ("a misspelled key of a path", file("[paths.\"/api\"]\n  interfase = \"asgi\"\n")),
        ("a key of a path that means nothing", file("[paths.\"/api\"]\nmethod = \"GET\"\n")),
        ("a path with a wrong interface", file("[paths]\n\"/api\" = { interface = \"both\" }\n")),
        ("a path that is none", file("[paths.api]\ninterface = \"asgi\"\n")),
        (
            "a path named twice",
            file("[paths.\"/a\"]\ninterface = \"asgi\"\n[paths.\"/a/\"]\ninterface = \"wsgi\"\n"),
        ),
        ("a path without a table", file("[paths]\n\"/api\" = \"asgi\"\n")),
        ("paths that are no table", file("paths = \"/api\"\n")),
        ("paths as a variable", site().env("BANDSTAND_PATHS", "/api")),
        ("an asgi path without asgi", file("interface = \"wsgi\"\n[paths.\"/api\"]\ninterface = \"asgi\"\n")),
        ("an origin with a path", file("websocket_origins = [\"same\", \"https://example.com/\"]\n")),
        ("any origin", site().flag("websocket_origins", &["*"])),
        ("same prefix twice", file("static = \"/a/=x\"\nmedia = \"/a/=y\"\n")),
        ("same health paths", file("health_path = \"/-/ready\"\n")),
        ("pyproject", site().file("pyproject.toml", "[tool.bandstand]\nmax-body = 1\n")),
        ("flag", site().flag("max_body", &["20 apples"])),
        ("flag of a list", site().flag("bind", &[":80", "fd://1"])),
        ("variable", site().env("BANDSTAND_TIMEOUT", "soon")),
        ("unknown variable", site().env("BANDSTAND_MAX_BODDY", "1").env("BANDSTAND_XYZZY", "1")),
        ("env file", site().file("e", "A=1\nB='x\n").flag("env_file", &["e"])),
        (
            "setting in the env file",
            site().file("e", "\nBANDSTAND_THREADS=none\nBANDSTAND_CHDIR=x\n").flag("env_file", &["e"]),
        ),
        ("missing files", site().flag("env_file", &["gone.env"]).flag("config", &["gone.toml"])),
        ("gunicorn's file that is not there", site().flag("config", &["gunicorn.conf.py"])),
        ("workers outside their range", file("workers = 9\nworkers_min = 2\nworkers_max = 4\n")),
        ("a range upside down", file("workers_min = 4\n").flag("workers_max", &["2"])),
        ("half a range", file("workers_max = 4\n")),
        ("a check that is none", file("ready_check = [\"/health/\", \"database\"]\n")),
        ("hooks that are no module", file("hooks = \"shop/hooks\"\n")),
        ("APP as a path", site().flag("app", &["config/wsgi.py"])),
        ("https without certificates", file("bind = 'https://:443'\n")),
        ("an address twice", file("bind = [':80', 'http://:80']\n")),
        ("names that are none", file("domains = ['example.com', 'https://x.example']\n")),
        ("a name outside ASCII", file("domains = 'bücher.example'\n")),
        ("a wildcard first", file("domains = '*.example.com'\n")),
        ("a wildcard without dns-01", file("domains = ['example.com', '*.example.com']\n")),
        ("an address among the names", file("domains = ['192.0.2.1']\n")),
        ("dns-01 without a hook", file("acme_challenge = 'dns-01'\n")),
        ("an authority nobody knows", file("acme_directory = 'letsencypt'\n")),
        ("a secret of another form", site().flag("acme_eab", &["hunter2"])),
        ("a key too many", file("tls_cert = 'a.pem'\ntls_key = ['a.key', 'b.key']\n")),
        ("the PROXY protocol of nobody", file("proxy_protocol = true\n")),
        ("a rate without a time", file("[paths.'/api']\nrate = 10\n")),
        ("a rate of nothing", file("rate = '0/s'\n")),
        ("a plain password", file("basic_auth = ['ada:geheim']\n")),
        ("a weak hash", site().flag("basic_auth", &["ada:$apr1$abc$def"])),
        ("nobody's password", file("basic_auth = []\n")),
        ("a field of the server", file("[headers]\nContent-Length = '3'\n")),
        ("a field that ends the line", file("[headers]\nX-A = \"a\\r\\nb\"\n")),
        ("a field twice", file("[headers]\nx-a = '1'\nX-A = '2'\n")),
        ("a network that is none", file("deny = ['10.0.0.0/8', 'office']\n")),
        ("a protected folder twice", file("protected = ['a', 'b']\n")),
        ("a media type that is none", file("compress_types = ['html']\n")),
        ("hidden by a flag, still wrong", file("threads = \"many\"\n").flag("threads", &["2"])),
    ];
    let mut page = String::new();
    for (name, site) in cases {
        let errors = site.load().expect_err(name);
        page += &format!("== {name}\n{}\n\n", site.plain(&errors.to_string()));
    }
    let no_project = [
        ("nothing here", site()),
        ("one folder down", site().file("src/manage.py", "")),
        ("manage.py says nothing", site().file("manage.py", "import x\n")),
        ("no such folder", site().flag("chdir", &["gone"])),
    ];
    for (name, site) in no_project {
        let problem = Project::find(&site.load().unwrap(), site.env_vars()).expect_err(name);
        page += &format!("== {name}\n{}\n\n", site.plain(&problem.to_string()));
    }
    compare("tests/golden/messages.txt", &page);
}
