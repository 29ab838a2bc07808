//! What a reload needs before anything is started: settings read again, addresses bound, the log opened.
//!
//! Owns the first half of "all or nothing": whatever can fail without a process fails here, and leaves nothing behind. It
//! blocks (files, names of hosts), and so runs beside the runtime.

use std::sync::Arc;

use bandstand_config::{Bind, Settings};

use super::Run;
use super::doors::Bound;
use crate::handed_down::HandedDown;
use crate::listener::BindError;
use crate::observe::record::AccessLog;
use crate::tls::{Setup, Tls};

/// Ready to begin a generation.
pub(super) struct Prepared {
    pub(super) run: Run,
    /// The addresses that are new.
    pub(super) bound: Bound,
    pub(super) access_log: Option<Arc<AccessLog>>,
    /// Certificates and what is spoken with them.
    pub(super) tls: Setup,
    /// What has changed in vain, in sentences.
    pub(super) notes: Vec<String>,
}

/// What is there now.
pub(super) struct Present {
    pub(super) settings: Settings,
    pub(super) access_log: Option<Arc<AccessLog>>,
    /// Addresses, and their TCP ports.
    pub(super) served: Vec<(Bind, u16)>,
    /// All addresses that are served.
    pub(super) open: Vec<Bind>,
    pub(super) tls: Arc<Tls>,
}

/// Opens what `run` has and `present` has not.
///
/// # Errors
/// A sentence for people; nothing has changed.
pub(super) fn prepare(run: Run, present: Present) -> Result<Prepared, String> {
    let settings = &run.loaded.settings;
    let notes = lasting(&present.settings, settings);
    let tls = present.tls.prepare(settings)?;
    let missing = present.missing(&settings.bind)?;
    let bound = Bound::all(&missing, &mut HandedDown::default()).map_err(|error| present.account(&error))?;
    bound.let_in(settings.umask, None);
    let log = |settings: &Settings| (settings.access_log.clone(), settings.log_format);
    let access_log = if log(settings) == log(&present.settings) {
        present.access_log
    } else {
        AccessLog::open(&settings.access_log, settings.log_format, None)
            .map_err(|error| format!("cannot open the access log: {error}"))?
            .map(Arc::new)
    };
    Ok(Prepared { run, bound, access_log, tls, notes })
}

impl Present {
    /// Those of `binds` that are not served yet. A number means a descriptor only to who starts a program: in a running one it
    /// is any of its own.
    fn missing(&self, binds: &[Bind]) -> Result<Vec<Bind>, String> {
        let missing: Vec<Bind> = binds.iter().filter(|bind| !self.open.contains(bind)).cloned().collect();
        match missing.iter().find(|bind| matches!(bind, Bind::Fd(_) | Bind::Systemd)) {
            Some(bind) => Err(format!("cannot listen on {bind}: it can be had at a start only")),
            None => Ok(missing),
        }
    }

    /// Why an address cannot be had. An address in use may be in use by this very server: `:8000` has all of port 8000.
    fn account(&self, error: &BindError) -> String {
        let ours = self.served.iter().find(|(_, port)| error.taken_port() == Some(*port));
        match ours {
            Some((bind, _)) => format!(
                "cannot listen on {}: this server itself has that port, as {bind}; to change one into the other, \
                 stop and start it",
                error.address()
            ),
            None => error.to_string(),
        }
    }
}

/// Settings that a running process cannot change; each is a sentence.
fn lasting(old: &Settings, new: &Settings) -> Vec<String> {
    let changed = [
        ("edge_threads", old.edge_threads != new.edge_threads),
        ("user", old.user != new.user),
        ("group", old.group != new.group),
        ("control", old.control != new.control),
        ("pid", old.pid != new.pid),
    ];
    let names = changed.into_iter().filter(|(_, changed)| *changed);
    names.map(|(name, _)| format!("{name} has changed, which takes effect at the next start only")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::connection::h1::tests::shared;

    #[test]
    fn what_needs_a_start_is_said() {
        let old = shared(|_| {}).state().settings.clone();
        assert!(lasting(&old, &old).is_empty());
        let new = Settings {
            user: Some("www".into()),
            edge_threads: std::num::NonZeroUsize::new(3),
            queue_timeout: old.queue_timeout * 2,
            ..old.clone()
        };
        let said = lasting(&old, &new);
        assert_eq!(said.len(), 2, "{said:?}");
        assert!(said[0].starts_with("edge_threads ") && said[1].starts_with("user "));
    }

    #[test]
    fn descriptors_are_passed_at_a_start_only() {
        let tcp = |port| Bind::Tcp { host: "127.0.0.1".into(), port, scheme: None };
        let settings = shared(|_| {}).state().settings.clone();
        let open = vec![tcp(8000), Bind::Fd(3)];
        let present =
            Present { settings, access_log: None, served: Vec::new(), open, tls: Arc::new(Tls::new()) };
        assert_eq!(present.missing(&[tcp(8000), tcp(8001), Bind::Fd(3)]), Ok(vec![tcp(8001)]));
        for bind in [Bind::Fd(4), Bind::Systemd] {
            let refused = present.missing(&[tcp(8001), bind]).unwrap_err();
            assert!(refused.ends_with("at a start only"), "{refused}");
        }
    }
}
