//! The owner of jobs that are to end with it: a cloud that keeps nothing. It holds a lock as long as it lives, so that each
//! supervisor can tell, however the owner ended.

use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};

use crate::error::Error;
use crate::folder::{create_private, make_dir};

/// The name of the lock, in the directory of all jobs.
const OWNER: &str = ".owner";

/// The lock of an owner, held until it is dropped.
#[derive(Debug)]
pub struct Ownership(#[expect(dead_code, reason = "held, not read")] File);

impl Ownership {
    /// Takes possession of the jobs under `root` that are started from now on: each ends soon after this is dropped, or
    /// the process that holds it is gone.
    ///
    /// # Errors
    /// If the lock cannot be made, or another process has it.
    pub fn take(root: &Path) -> Result<Self, Error> {
        make_dir(root)?;
        let path = root.join(OWNER);
        let file = create_private(&path).map_err(Error::file("make", &path))?;
        match file.try_lock() {
            Ok(()) => Ok(Self(file)),
            Err(TryLockError::Error(source)) => Err(Error::file("lock", &path)(source)),
            Err(TryLockError::WouldBlock) => {
                let taken = std::io::Error::other("another process has it");
                Err(Error::file("lock", &path)(taken))
            }
        }
    }
}

/// The owner of a job, as its supervisor sees it.
pub(crate) struct Owner {
    root: PathBuf,
    lock: File,
}

impl Owner {
    /// The owner of the jobs beside this folder, if they have one.
    pub(crate) fn of(folder: &Path) -> Option<Self> {
        let root = folder.parent()?;
        let lock = File::open(root.join(OWNER)).ok()?;
        Some(Self {
            root: root.to_owned(),
            lock,
        })
    }

    /// Whether the owner has ended.
    pub(crate) fn is_gone(&self) -> bool {
        // Shared, so that two supervisors that ask at once do not take each other for the owner.
        let gone = self.lock.try_lock_shared().is_ok();
        if gone {
            let _ = self.lock.unlock();
        }
        gone
    }

    /// Removes the directory of all jobs, and the one around it, when nothing else is left in them.
    pub(crate) fn clear(&self) {
        let _ = fs::remove_dir(self.root.join(".accepted"));
        let left = fs::read_dir(&self.root).map(|entries| entries.flatten().count());
        if left.is_ok_and(|left| left <= 1) {
            let _ = fs::remove_file(self.root.join(OWNER));
            let _ = fs::remove_dir(&self.root);
            let _ = self.root.parent().map(fs::remove_dir);
        }
    }
}
