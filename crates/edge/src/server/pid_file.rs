//! The file with the number of our process, for scripts.
//!
//! Owns its life: written at the start, removed at the end. Invariant: what another program has written there since (the
//! one that took over) stays.

use std::path::{Path, PathBuf};

use super::ServeError;

/// The file with our process id, removed at the end.
pub(super) struct PidFile(Option<PathBuf>);

impl PidFile {
    /// Writes it.
    ///
    /// # Errors
    /// It cannot be written.
    pub(super) fn write(path: Option<&Path>) -> Result<Self, ServeError> {
        let Some(path) = path else { return Ok(Self(None)) };
        std::fs::write(path, content()).map_err(|error| {
            ServeError::new(format!("cannot write the pid file {}: {error}", path.display()))
        })?;
        Ok(Self(Some(path.to_owned())))
    }
}

fn content() -> String {
    format!("{}\n", std::process::id())
}

impl Drop for PidFile {
    fn drop(&mut self) {
        if let Some(path) = &self.0
            && std::fs::read_to_string(path).is_ok_and(|found| found == content())
        {
            // Without it the next start overwrites the file.
            let _ = std::fs::remove_file(path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_our_own_is_removed() {
        let path = std::env::temp_dir().join(format!("bandstand-pid-{}", std::process::id()));
        drop(PidFile::write(Some(&path)).unwrap());
        assert!(!path.exists());
        let file = PidFile::write(Some(&path)).unwrap();
        std::fs::write(&path, "1\n").unwrap();
        drop(file);
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "1\n");
        std::fs::remove_file(&path).unwrap();
    }
}
