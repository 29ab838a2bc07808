//! Which project and which Python are found, with real folders.

#![allow(clippy::unwrap_used)] // a test fails by panicking

mod site;

use std::ffi::OsString;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use bandstand_config::{Project, python};
use site::Site;

const MANAGE: &str = "os.environ.setdefault(\"DJANGO_SETTINGS_MODULE\", \"config.settings\")\n";

#[test]
fn the_settings_module() {
    let site = || Site::new("project-module").file("manage.py", MANAGE);
    for (site, app, module) in [
        (site(), None, Some("config.settings")),
        (site().env("DJANGO_SETTINGS_MODULE", "from.env"), None, Some("from.env")),
        (site().env("DJANGO_SETTINGS_MODULE", ""), None, Some("config.settings")),
        (
            site().env("DJANGO_SETTINGS_MODULE", "from.env").app_env("DJANGO_SETTINGS_MODULE", "e"),
            None,
            Some("e"),
        ),
        (site().without("manage.py").env("DJANGO_SETTINGS_MODULE", "from.env"), None, Some("from.env")),
        (site().file("v", "DJANGO_SETTINGS_MODULE=file").flag("env_file", &["v"]), None, Some("file")),
        (site().without("manage.py").flag("app", &["shop:app"]), Some("shop:app"), None),
        (site().flag("app", &["shop:app"]), Some("shop:app"), Some("config.settings")),
    ] {
        let loaded = site.load().unwrap();
        let project = Project::find(&loaded, site.env_vars()).unwrap();
        assert_eq!((project.app.as_deref(), project.settings_module.as_deref()), (app, module));
        assert_eq!(project.chdir, site.root());
    }
}

/// Each row takes the strongest place away; the next one must win.
#[test]
fn the_interpreter() {
    let places = ["own/python3", "venv/bin/python", ".venv/bin/python3", "path/python3"];
    let site = places.iter().fold(Site::new("project-python"), |site, place| site.file(place, ""));
    let find = |site: &Site, asked: Option<&str>| {
        let root = site.root();
        let env: Vec<(OsString, OsString)> =
            vec![("PATH".into(), root.join("path").into()), ("VIRTUAL_ENV".into(), root.join("venv").into())];
        let program = root.join("own/bandstand");
        let found = python::find(asked.map(Path::new), Some(&program), &env, root)?;
        Ok::<_, bandstand_config::Problem>(found.path.strip_prefix(root).unwrap().display().to_string())
    };
    let ready = |site: &Site| {
        site.write();
        for place in places.iter().map(|place| site.root().join(place)).filter(|path| path.exists()) {
            std::fs::set_permissions(place, std::fs::Permissions::from_mode(0o755)).unwrap();
        }
    };
    ready(&site);
    let absolute = site.root().join("venv");
    for (asked, wanted) in [("python3", "path/python3"), (absolute.to_str().unwrap(), "venv/bin/python")] {
        assert_eq!(find(&site, Some(asked)).unwrap(), wanted);
    }
    let error = find(&site, Some("python9")).unwrap_err().to_string();
    assert!(error.starts_with("python: python9 is no program"), "{error}");
    let mut site = site;
    for place in places {
        ready(&site);
        assert_eq!(find(&site, None).unwrap(), place);
        // A file that cannot be executed does not count.
        std::fs::set_permissions(site.root().join(place), std::fs::Permissions::from_mode(0o644)).unwrap();
        assert_ne!(find(&site, None).ok().as_deref(), Some(place));
        site = site.without(place);
    }
    ready(&site);
    assert!(find(&site, None).unwrap_err().to_string().contains("--python"));
}
