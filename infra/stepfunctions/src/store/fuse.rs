//! A process that dies, or a disk that is full, at a chosen write.

use super::database::Store;
use crate::error::Error;

/// Dies at the write of a number, before or after it is done: from then on every write fails. Or finds the disk full at
/// that write, and not at the next.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fuse {
    pub(crate) writes_left: u64,
    pub(crate) write_is_done: bool,
    /// The disk is full at that write, and the process lives on.
    pub(crate) full: bool,
    pub(crate) blown: bool,
}

impl Fuse {
    pub(super) fn before(fuse: &mut Option<Self>) -> Result<(), Error> {
        let Some(fuse) = fuse else { return Ok(()) };
        if fuse.full {
            return fuse.before_on_full_disk();
        }
        fuse.blown |= fuse.writes_left == 0 && !fuse.write_is_done;
        if fuse.blown {
            Err(Error::Closed)
        } else {
            Ok(())
        }
    }

    fn before_on_full_disk(&mut self) -> Result<(), Error> {
        if self.blown || self.writes_left > 0 {
            return Ok(());
        }
        self.blown = true;
        let code = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_FULL);
        Err(rusqlite::Error::SqliteFailure(code, None).into())
    }

    pub(super) fn after(fuse: &mut Option<Self>) -> Result<(), Error> {
        let Some(fuse) = fuse else { return Ok(()) };
        fuse.blown |= fuse.writes_left == 0 && !fuse.full;
        fuse.writes_left = fuse.writes_left.saturating_sub(1);
        if fuse.blown && !fuse.full {
            Err(Error::Closed)
        } else {
            Ok(())
        }
    }
}

impl Store {
    /// Lets the disk have no room for a page more, or all the room there is once the store is opened again. SQLite itself
    /// refuses then, as it does on a full disk.
    pub(crate) fn fill_disk(&mut self, full: bool) {
        self.disk_is_full = full;
        self.limit_pages().expect("the limit is set");
    }

    pub(super) fn limit_pages(&self) -> Result<(), Error> {
        if self.disk_is_full {
            // SQLite raises the limit to the pages that there are.
            let sql = "PRAGMA max_page_count = 1";
            self.connection.query_row(sql, [], |_| Ok(()))?;
        }
        Ok(())
    }
}
