//! Habits of gunicorn users that have no setting here: `-k CLASS`, `--reload`.
//!
//! Owns the words for them; what each worker class means is the `config` crate's, which reads it in a `gunicorn.conf.py` too. A
//! setting that is given by its own flag wins over the habit. Invariant: a habit never stops a start.

use bandstand_config::gunicorn::classes;

/// What `--reload` means here. A start goes on, as it does with gunicorn: only the watching is missing.
pub(crate) const RELOAD: &str =
    "--reload does nothing here: serve does not watch files; use `bandstand dev`, which does";

/// What a worker class means here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Habit {
    /// Settings, by key.
    pub(crate) settings: &'static [(&'static str, &'static str)],
    /// What is read into it, for standard error.
    pub(crate) sentence: String,
}

/// The meaning of `-k class`.
pub(crate) fn worker_class(class: &str) -> Habit {
    let meaning = classes::worker_class(class);
    Habit { settings: meaning.settings, sentence: format!("-k {class} {}", meaning.sentence) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_class_is_named_with_its_flag() {
        let habit = worker_class("gthread");
        assert!(habit.sentence.starts_with("-k gthread is read as --interface wsgi: "), "{}", habit.sentence);
        assert_eq!(habit.settings, [("interface", "wsgi")]);
        assert!(worker_class("shop.Own").sentence.starts_with("-k shop.Own is not used"));
    }
}
