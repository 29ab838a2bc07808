//! The authority on the disk: one certificate, one key, and the certificates of those before it.
//!
//! Owns names and modes of the files, and that two processes never make two authorities. An authority that is replaced leaves
//! its certificate behind, so that it can be taken out of the trust stores, and its key nowhere.
//! Invariants: whatever is read was written whole (beside, then renamed); the key is written before the certificate that needs it.

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use super::Error;
use crate::pem;

/// How the common name of every authority begins; what follows tells them apart.
pub(super) const TITLE: &str = "Bandstand local authority ";
const CERTIFICATE: &str = "authority.crt";
const KEY: &str = "authority.key";
/// How the certificate of a former authority is called: `former-1a2b3c4d.crt`.
const FORMER: &str = "former-";
/// Holds the label of the authority that was last put into the trust stores.
const TRUSTED: &str = "trusted";

/// A certificate of an authority that a trust store may have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    /// Its file.
    pub file: PathBuf,
    /// Its common name, by which stores name it.
    pub name: String,
    /// What tells it from others: eight hexadecimal digits.
    pub label: String,
}

/// The certificates of the authority in `folder` and of those before it.
pub fn kept(folder: &Path) -> (Option<Kept>, Vec<Kept>) {
    let mut former = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.file_name().to_string_lossy().starts_with(FORMER) {
            former.extend(describe(&entry.path()));
        }
    }
    former.sort_by(|one, other| one.label.cmp(&other.label));
    (describe(&certificate(folder)), former)
}

fn describe(file: &Path) -> Option<Kept> {
    let certificates = pem::certificates(&pem::read(file).ok()?).ok()?;
    let subject = pem::Facts::of(&certificates[0]).ok()?.subject;
    let start = subject.find(TITLE)?;
    let label: String = subject[start + TITLE.len()..].chars().take_while(char::is_ascii_hexdigit).collect();
    Some(Kept { file: file.to_owned(), name: format!("{TITLE}{label}"), label })
}

/// Which authority of `folder` the trust stores have, by the last word of who put it there.
pub mod trusted {
    use super::*;

    /// Whether it is the present one.
    pub fn is_present(folder: &Path) -> bool {
        let said = fs::read_to_string(folder.join(TRUSTED)).unwrap_or_default();
        kept(folder).0.is_some_and(|present| present.label == said.trim())
    }

    /// Keeps the word; `None`: none is trusted any more.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn remember(folder: &Path, label: Option<&str>) -> Result<(), Error> {
        let path = folder.join(TRUSTED);
        match label {
            Some(label) => write(&path, label, 0o644),
            None => match fs::remove_file(&path) {
                Err(error) if error.kind() != ErrorKind::NotFound => Err(Error::File(path, error)),
                _ => Ok(()),
            },
        }
    }
}

/// The file with the authority's certificate.
pub(super) fn certificate(folder: &Path) -> PathBuf {
    folder.join(CERTIFICATE)
}

/// Makes the folder if there is none; until the lock is dropped no other process reads or writes in it.
pub(super) fn lock(folder: &Path) -> Result<File, Error> {
    let failed = |error| Error::File(folder.to_owned(), error);
    DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(failed)?;
    let path = folder.join("lock");
    let file = OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(&path);
    let file = file.map_err(|error| Error::File(path, error))?;
    file.lock().map_err(failed)?;
    Ok(file)
}

/// Certificate and key as they were written, `None` when either is missing.
pub(super) fn load(folder: &Path) -> Result<Option<(Vec<u8>, String)>, Error> {
    let (certificate, key) = (certificate(folder), folder.join(KEY));
    let chain = match fs::read(&certificate) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        read => read.map_err(|error| Error::File(certificate, error))?,
    };
    let mode = match fs::metadata(&key) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        found => found.map_err(|error| Error::File(key.clone(), error))?.permissions().mode(),
    };
    if mode & 0o077 != 0 {
        return Err(Error::Exposed(key));
    }
    let secret = fs::read_to_string(&key).map_err(|error| Error::File(key, error))?;
    Ok(Some((chain, secret)))
}

/// Writes a new authority; the certificate of the one before it is kept under its label.
pub(super) fn store(folder: &Path, chain: &str, key: &str) -> Result<(), Error> {
    let certificate = certificate(folder);
    if let Some(before) = describe(&certificate) {
        let kept = folder.join(format!("{FORMER}{}.crt", before.label));
        fs::rename(&certificate, &kept).map_err(|error| Error::File(kept, error))?;
    }
    write(&folder.join(KEY), key, 0o600)?;
    write(&certificate, chain, 0o644)
}

/// Forgets the certificate of a former authority.
///
/// # Errors
/// The file cannot be removed.
pub(crate) fn forget_former(former: &Kept) -> io::Result<()> {
    fs::remove_file(&former.file)
}

fn write(path: &Path, text: &str, mode: u32) -> Result<(), Error> {
    let beside = path.with_extension("new");
    let written = || -> io::Result<()> {
        let _ = fs::remove_file(&beside); // left over by a power cut, maybe with another mode
        let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&beside)?;
        file.set_permissions(Permissions::from_mode(mode))?; // whatever the umask says
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&beside, path)
    };
    written().map_err(|error| Error::File(path.to_owned(), error))
}
