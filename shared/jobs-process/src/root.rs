//! The folder that holds the folders of all jobs.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use towpath_engine::JobId;

use crate::error::Error;
use crate::folder::{Folder, make_dir};

/// The beginning of a folder's name while it is being deleted. No folder of a job begins with a full stop.
const REMOVED: &str = ".removed-";
/// The longest name of a job's folder: what a file system takes (255 bytes), less what [`REMOVED`] adds.
const NAME_MAX: usize = 200;

/// The folder that holds the folders of all jobs.
#[derive(Clone, Debug)]
pub(crate) struct Root(PathBuf);

impl Root {
    pub(crate) fn new(path: PathBuf) -> Self {
        Self(path)
    }

    /// Makes the root, if it is not there.
    pub(crate) fn create(&self) -> Result<(), Error> {
        make_dir(&self.0)
    }

    /// The folder of a job, which need not exist.
    ///
    /// # Errors
    /// [`Error::JobId`] if the id could lead out of the root.
    pub(crate) fn folder(&self, job: &JobId) -> Result<Folder, Error> {
        if is_name(job.as_str()) {
            Ok(Folder::new(self.0.join(job.as_str())))
        } else {
            Err(Error::JobId {
                job: job.to_string(),
            })
        }
    }

    /// The jobs that have a folder, in no order.
    pub(crate) fn jobs(&self) -> Result<Vec<JobId>, Error> {
        let names = names(&self.0)?.into_iter();
        Ok(names.filter_map(|name| name.parse().ok()).collect())
    }

    /// Deletes the folder of a job that has ended.
    pub(crate) fn remove(&self, job: &JobId) -> Result<(), Error> {
        let folder = self.folder(job)?;
        if !folder.exists() {
            return Ok(());
        }
        let not_ended = || Error::NotEnded {
            job: job.to_string(),
        };
        // A supervisor may still be there, but if the end is written it has nothing left to do.
        let _lock = folder.try_lock()?.ok_or_else(not_ended)?;
        folder.ended()?.ok_or_else(not_ended)?;
        // Out of sight in one step: half a folder would look like a job that was never accepted.
        let aside = self
            .0
            .join(format!("{REMOVED}{job}-{}", std::process::id()));
        fs::rename(folder.path(), &aside).map_err(Error::file("rename", folder.path()))?;
        let sign = folder.sign();
        match fs::remove_file(&sign) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                return Err(Error::file("delete", &sign)(error));
            }
            _ => {}
        }
        delete(&aside)
    }

    /// Deletes the folders of all jobs that ended longer than `keep` ago, and returns how many.
    pub(crate) fn sweep(&self, keep: Duration) -> Result<usize, Error> {
        let Some(before) = SystemTime::now().checked_sub(keep) else {
            return Ok(0);
        };
        for name in names(&self.0)? {
            if name.starts_with(REMOVED) {
                delete(&self.0.join(&name))?;
            }
        }
        let mut removed = 0;
        for job in self.jobs()? {
            let ended = self.folder(&job)?.ended_at();
            if ended.is_none_or(|at| at > before) {
                continue;
            }
            match self.remove(&job) {
                Ok(()) => removed += 1,
                // The supervisor has written the end and is about to go.
                Err(Error::NotEnded { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(removed)
    }
}

/// Whether a text is a plain name, which as a path leads nowhere but to an entry of its directory.
fn is_name(text: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte);
    (1..=NAME_MAX).contains(&text.len()) && !text.starts_with('.') && text.bytes().all(plain)
}

fn delete(path: &Path) -> Result<(), Error> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(Error::file("delete", path)(error))
        }
        _ => Ok(()),
    }
}

/// The names in a directory; none if there is no directory.
fn names(dir: &Path) -> Result<Vec<String>, Error> {
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(Error::file("read", dir)(error)),
    };
    Ok(entries
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_id_of_any_form_is_a_folders_name_unless_it_could_lead_elsewhere() {
        for name in [
            "job_01ARZ3NDEKTSV4RRFFQ69G5FAV-2-1-main",
            "job_01ARZ3NDEKTSV4RRFFQ69G5FAV-17",
            "anything.else",
        ] {
            assert!(is_name(name), "{name}");
        }
        let long = "j".repeat(NAME_MAX + 1);
        for name in ["", ".", "..", ".removed-x", "a/b", "/", "a\0", "ü", &long] {
            assert!(!is_name(name), "{name:?}");
        }
    }
}
