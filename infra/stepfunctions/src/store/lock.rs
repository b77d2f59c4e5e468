//! One process at a time: two that drive the same executions would do everything twice.

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
    let lock = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(path)
        .map_err(Error::File)?;
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
