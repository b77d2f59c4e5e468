//! A process that dies at a chosen write.

use crate::error::Error;

/// Dies at the write of a number, before or after it is done: from then on every write fails.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fuse {
    pub(crate) writes_left: u64,
    pub(crate) write_is_done: bool,
    pub(crate) blown: bool,
}

impl Fuse {
    pub(super) fn before(fuse: &mut Option<Self>) -> Result<(), Error> {
        let Some(fuse) = fuse else { return Ok(()) };
        fuse.blown |= fuse.writes_left == 0 && !fuse.write_is_done;
        if fuse.blown {
            Err(Error::Closed)
        } else {
            Ok(())
        }
    }

    pub(super) fn after(fuse: &mut Option<Self>) -> Result<(), Error> {
        let Some(fuse) = fuse else { return Ok(()) };
        fuse.blown |= fuse.writes_left == 0;
        fuse.writes_left = fuse.writes_left.saturating_sub(1);
        if fuse.blown {
            Err(Error::Closed)
        } else {
            Ok(())
        }
    }
}
