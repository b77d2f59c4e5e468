//! The files of a store, for their owner only, and the lock beside them: two processes that drive the same executions
//! would do everything twice.

use std::ffi::OsString;
use std::fs::{File, OpenOptions, TryLockError};
use std::path::Path;
use std::time::Duration;

use crate::error::Error;

/// How often, and how far apart, to ask: whoever has the file may be just about to close it.
const TRIES: u32 = 20;
const PAUSE: Duration = Duration::from_millis(10);

/// Takes the lock beside the file. It goes with the handle, however the process ends.
pub(super) fn take(file: &Path) -> Result<File, Error> {
    let mut path = OsString::from(file);
    path.push(".lock");
    let lock = make(Path::new(&path))?;
    let mut tries = TRIES;
    loop {
        match lock.try_lock() {
            Ok(()) => return Ok(lock),
            Err(TryLockError::WouldBlock) if tries == 0 => return Err(Error::InUse),
            Err(TryLockError::WouldBlock) => std::thread::sleep(PAUSE),
            Err(TryLockError::Error(error)) => return Err(Error::File(error)),
        }
        tries -= 1;
    }
}

/// Makes an empty file that only its owner can read, and opens it. A file that is there keeps its mode and its contents.
pub(super) fn make(path: &Path) -> Result<File, Error> {
    let mut options = OpenOptions::new();
    options.create(true).truncate(false).write(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt as _;
        options.mode(0o600);
    }
    options.open(path).map_err(Error::File)
}
