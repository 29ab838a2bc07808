//! What a reload needs before anything is started: settings read again, addresses bound, the log opened.
//!
//! Owns the first half of "all or nothing": whatever can fail without a process fails here, and leaves nothing behind. It
//! blocks (files, names of hosts), and so runs beside the runtime.

use std::sync::Arc;

use bandstand_config::{Bind, Settings};

use super::Run;
use super::doors::Bound;
use crate::handed_down::HandedDown;
use crate::observe::record::AccessLog;

/// Ready to begin a generation.
pub(super) struct Prepared {
    pub(super) run: Run,
    /// The addresses that are new.
    pub(super) bound: Bound,
    pub(super) access_log: Option<Arc<AccessLog>>,
}

/// What is there now.
pub(super) struct Present {
    pub(super) settings: Settings,
    pub(super) access_log: Option<Arc<AccessLog>>,
}

/// Opens what `run` has and `present` has not. `missing`: addresses that are not served yet.
///
/// # Errors
/// A sentence for people; nothing has changed.
pub(super) fn prepare(run: Run, present: Present, missing: &[Bind]) -> Result<Prepared, String> {
    let settings = &run.loaded.settings;
    let bound = Bound::all(missing, &mut HandedDown::default()).map_err(|error| error.to_string())?;
    let log = |settings: &Settings| (settings.access_log.clone(), settings.log_format);
    let access_log = if log(settings) == log(&present.settings) {
        present.access_log
    } else {
        AccessLog::open(&settings.access_log, settings.log_format)
            .map_err(|error| format!("cannot open the access log: {error}"))?
            .map(Arc::new)
    };
    Ok(Prepared { run, bound, access_log })
}

/// Settings that a running process cannot change; each is a sentence.
pub(super) fn lasting(old: &Settings, new: &Settings) -> Vec<String> {
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
}
