//! The file with the number of our process, for scripts.
//!
//! Owns its life: written at the start, removed at the end. Invariants: nobody reads half of it; what another program has
//! written there since (the one that took over) stays.

use std::io;
use std::path::{Path, PathBuf};

/// The file with our process id, removed at the end.
pub(super) struct PidFile(Option<PathBuf>);

impl PidFile {
    /// One that is not written yet.
    pub(super) fn at(path: Option<&Path>) -> Self {
        Self(path.map(Path::to_owned))
    }

    /// Writes it. To be done at the start, or, by a program that takes over, when it has: until then the file is the other's.
    ///
    /// # Errors
    /// It cannot be written: a sentence.
    pub(super) fn write(&self) -> Result<(), String> {
        let Some(path) = &self.0 else { return Ok(()) };
        replace(path)
            // In a folder that is not ours a file that is may lie ready.
            .or_else(|_| std::fs::write(path, content()))
            .map_err(|error| format!("cannot write the pid file {}: {error}", path.display()))
    }
}

/// Written beside and renamed.
fn replace(path: &Path) -> io::Result<()> {
    let mut beside = path.as_os_str().to_owned();
    beside.push(format!(".{}", std::process::id()));
    let written = std::fs::write(&beside, content()).and_then(|()| std::fs::rename(&beside, path));
    if written.is_err() {
        // It may not be there.
        let _ = std::fs::remove_file(&beside);
    }
    written
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

    /// A reader that has it open keeps a whole one: nothing was written into that.
    #[test]
    fn nobody_reads_half_of_it() {
        let path = std::env::temp_dir().join(format!("bandstand-pid-whole-{}", std::process::id()));
        std::fs::write(&path, "1\n").unwrap();
        let mut before = std::fs::File::open(&path).unwrap();
        let file = PidFile::at(Some(&path));
        file.write().unwrap();
        let mut read = String::new();
        io::Read::read_to_string(&mut before, &mut read).unwrap();
        assert_eq!(read, "1\n");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), content());
    }

    #[test]
    fn only_our_own_is_removed() {
        let path = std::env::temp_dir().join(format!("bandstand-pid-{}", std::process::id()));
        let file = PidFile::at(Some(&path));
        file.write().unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), content());
        drop(file);
        assert!(!path.exists());
        let file = PidFile::at(Some(&path));
        std::fs::write(&path, "1\n").unwrap();
        drop(file);
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "1\n");
        std::fs::remove_file(&path).unwrap();
    }
}
