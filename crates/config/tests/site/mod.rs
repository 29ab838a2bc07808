//! A project folder of its own for each test, and the sources that go with it.
#![allow(dead_code)] // each test file uses a part

use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use bandstand_config::gunicorn::Configuration;
use bandstand_config::{Errors, Loaded, Sources, load, load_with};

/// A fresh folder, and what is around it. A clone shares the folder, and writes its files anew at each load.
#[derive(Clone)]
pub(crate) struct Site {
    root: PathBuf,
    files: Vec<(String, String)>,
    sources: Sources,
}

impl Site {
    /// `name` must be used by one test only.
    pub(crate) fn new(name: &str) -> Site {
        let root = Path::new(env!("CARGO_TARGET_TMPDIR")).join("config-sites").join(name);
        let cpus = NonZeroUsize::new(3).unwrap();
        let sources = Sources {
            flags: vec![],
            app_env: vec![],
            env: vec![],
            cwd: root.clone(),
            cpus,
            pid: 42,
            root: true,
        };
        Site { root, files: vec![], sources }
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    pub(crate) fn env_vars(&self) -> &[(std::ffi::OsString, std::ffi::OsString)] {
        &self.sources.env
    }

    pub(crate) fn file(mut self, path: &str, text: &str) -> Site {
        self.files.push((path.to_owned(), text.to_owned()));
        self
    }

    pub(crate) fn without(mut self, path: &str) -> Site {
        self.files.retain(|(other, _)| other != path);
        self
    }

    pub(crate) fn flag(mut self, key: &str, values: &[&str]) -> Site {
        self.sources.flags.push((key.to_owned(), values.iter().map(|value| value.to_string()).collect()));
        self
    }

    pub(crate) fn no_flags(mut self) -> Site {
        self.sources.flags.clear();
        self
    }

    pub(crate) fn env(mut self, name: &str, value: &str) -> Site {
        self.sources.env.retain(|(other, _)| other != name);
        self.sources.env.push((name.into(), value.into()));
        self
    }

    pub(crate) fn root_user(mut self, root: bool) -> Site {
        self.sources.root = root;
        self
    }

    pub(crate) fn app_env(mut self, name: &str, value: &str) -> Site {
        self.sources.app_env.push((name.to_owned(), value.to_owned()));
        self
    }

    pub(crate) fn load(&self) -> Result<Loaded, Errors> {
        self.write();
        load(self.sources.clone())
    }

    /// With what the Python file of `--config` says.
    pub(crate) fn load_with(&self, said: &Configuration) -> Result<Loaded, Errors> {
        self.write();
        load_with(self.sources.clone(), Some(said))
    }

    /// Makes the folder hold exactly the files of this site.
    pub(crate) fn write(&self) {
        let _ = std::fs::remove_dir_all(&self.root);
        std::fs::create_dir_all(&self.root).unwrap();
        for (path, text) in &self.files {
            let path = self.root.join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
    }

    /// `text` with the folder's path replaced, so that it is the same on every machine.
    pub(crate) fn plain(&self, text: &str) -> String {
        text.replace(self.root.to_str().unwrap(), "/project")
    }
}
