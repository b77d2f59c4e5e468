//! The data directory of a cloud, and the files in it: for their owner only, and each written whole or not at all.

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Write};
use std::path::Path;

use tempfile::NamedTempFile;

use crate::error::Error;

/// The file that marks a directory as that of a local cloud.
const MARKER: &str = "local-cloud";
/// The files that mark the directory of a release that had no marker.
const OLDER_MARKERS: [&str; 2] = ["access-key-secret", "executions.db"];

/// Takes a directory for one cloud alone. One that is not there yet is made for its user only; one that is there keeps its
/// mode. The directory stays taken as long as the file that is returned is open.
///
/// # Errors
/// If the directory cannot be used, has other things in it, or is in use by another cloud.
pub(crate) fn claim(directory: &Path) -> Result<File, Error> {
    let failed = |error| Error::io(format!("cannot use {}", directory.display()), error);
    make_folder(directory).map_err(failed)?;
    let is_empty = fs::read_dir(directory).map_err(failed)?.next().is_none();
    if !is_empty && !is_marked(directory) {
        return Err(Error::Foreign(directory.to_owned()));
    }
    make_file(&directory.join(MARKER)).map_err(failed)?;
    let lock = make_file(&directory.join("lock")).map_err(failed)?;
    // The system lets go of it when the process ends, however it ends.
    match lock.try_lock() {
        Ok(()) => Ok(lock),
        Err(TryLockError::WouldBlock) => Err(Error::Locked(directory.to_owned())),
        Err(TryLockError::Error(error)) => Err(failed(error)),
    }
}

fn is_marked(directory: &Path) -> bool {
    let mut markers = OLDER_MARKERS.into_iter().chain([MARKER]);
    markers.any(|marker| directory.join(marker).exists())
}

/// Makes a folder and its missing parents, each for its owner only. A folder that is there keeps its mode.
pub(crate) fn make_folder(path: &Path) -> io::Result<()> {
    let mut folder = DirBuilder::new();
    folder.recursive(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::DirBuilderExt;
        folder.mode(0o700);
    }
    folder.create(path)
}

/// Makes an empty file that only its owner can read, and opens it. A file that is there keeps its mode and its contents.
pub(crate) fn make_file(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.create(true).truncate(false).write(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt;
        options.mode(0o600);
    }
    options.open(path)
}

/// Reads a file; `None` if there is none.
///
/// # Errors
/// If the file is there and cannot be read, or is not UTF-8.
pub(crate) fn read(path: &Path) -> Result<Option<String>, Error> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Error::io(format!("cannot read {}", path.display()), error)),
    }
}

/// Writes a file that only its owner can read. Until this returns, the file is what it was before.
///
/// # Errors
/// If the disk is full, or the file cannot be written for another reason.
pub(crate) fn write(path: &Path, text: &str) -> Result<(), Error> {
    let replace = || {
        let folder = path.parent().unwrap_or(Path::new("."));
        // A temporary file is made with mode 0600.
        let mut file = NamedTempFile::new_in(folder)?;
        file.write_all(text.as_bytes())?;
        file.as_file().sync_all()?;
        file.persist(path)?;
        Ok(())
    };
    replace().map_err(|error| Error::io(format!("cannot write {}", path.display()), error))
}
