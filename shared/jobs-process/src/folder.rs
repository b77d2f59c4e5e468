//! The folder of a job: its records, each written whole or not at all, and the lock that tells whether its supervisor
//! lives.

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use towpath_jobs::JobSnapshot;

use crate::error::{Error, Failure};
use crate::system::{self, Identity};

/// What a supervisor records about the job it accepted. A job is accepted if and only if this record exists.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct State {
    /// The process id of the supervisor, for people. Whether it lives is told by the lock alone.
    pub(crate) supervisor: u32,
    /// The time at which the job was accepted, in milliseconds since the Unix epoch.
    pub(crate) accepted_ms: u64,
    /// Whether the command has been started.
    pub(crate) running: bool,
    /// The process group that works for the job at the moment, if one does.
    pub(crate) group: Option<Identity>,
}

/// A request to stop. Without a [`State`] it is the tombstone of a job that must never begin.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Stop {
    pub(crate) grace: Duration,
}

/// The state of a job, as one look at its folder found it.
#[derive(Debug)]
pub(crate) enum Found {
    /// No job was accepted here.
    Nothing,
    /// A supervisor holds the lock.
    Alive(State),
    /// The job is over.
    Ended(JobSnapshot),
}

/// The directory beside the folders of jobs that holds a sign of each job that was accepted.
const SIGNS: &str = ".accepted";
/// How long the records of an accepted job may be gone before nobody is expected to write them anew.
const GONE: Duration = Duration::from_secs(3);

/// The folder of one job.
#[derive(Clone, Debug)]
pub(crate) struct Folder(PathBuf);

impl Folder {
    pub(crate) fn new(path: PathBuf) -> Self {
        Self(path)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    /// The job's id, which names the folder.
    fn job(&self) -> String {
        let name = self.0.file_name().unwrap_or_default();
        name.to_string_lossy().into_owned()
    }

    /// The directory the command runs in.
    pub(crate) fn work(&self) -> PathBuf {
        self.0.join("work")
    }

    /// The file in which the command may leave its answer.
    pub(crate) fn output(&self) -> PathBuf {
        self.0.join("output")
    }

    /// The folder of what the command is given to read.
    pub(crate) fn inputs(&self) -> PathBuf {
        self.0.join("inputs")
    }

    /// The directory of the files that the answer names, each under its hash.
    pub(crate) fn artifacts(&self) -> PathBuf {
        self.0.join("artifacts")
    }

    pub(crate) fn artifact(&self, sha256: &str) -> PathBuf {
        self.artifacts().join(sha256)
    }

    pub(crate) fn context(&self) -> PathBuf {
        self.inputs().join("context.json")
    }

    pub(crate) fn checkout(&self) -> PathBuf {
        self.0.join("checkout.json")
    }

    pub(crate) fn stdout(&self) -> PathBuf {
        self.0.join("stdout.log")
    }

    pub(crate) fn stderr(&self) -> PathBuf {
        self.0.join("stderr.log")
    }

    /// The log of the supervisor itself.
    pub(crate) fn log(&self) -> PathBuf {
        self.0.join("supervisor.log")
    }

    fn state_file(&self) -> PathBuf {
        self.0.join("state.json")
    }

    fn exit_file(&self) -> PathBuf {
        self.0.join("exit.json")
    }

    fn stop_file(&self) -> PathBuf {
        self.0.join("stop")
    }

    fn lock_file(&self) -> PathBuf {
        self.0.join("lock")
    }

    /// A sign, outside of the folder, that the job was accepted: a command may delete what is in its own folder.
    pub(crate) fn sign(&self) -> PathBuf {
        let root = self.0.parent().unwrap_or(&self.0);
        root.join(SIGNS)
            .join(self.0.file_name().unwrap_or_default())
    }

    /// The bare repository through which changes are pushed.
    pub(crate) fn transfer(&self) -> PathBuf {
        self.0.join("transfer.git")
    }

    /// Makes the folder, closed to other users, if it is not there.
    pub(crate) fn create(&self) -> Result<(), Error> {
        make_dir(&self.0)
    }

    pub(crate) fn exists(&self) -> bool {
        self.0.is_dir()
    }

    /// Whether a supervisor ever accepted this job, or it ended before one could.
    pub(crate) fn accepted(&self) -> bool {
        self.has_records() || self.sign().exists()
    }

    /// Whether the folder has a record of an accepted job.
    pub(crate) fn has_records(&self) -> bool {
        self.state_file().exists() || self.exit_file().exists()
    }

    pub(crate) fn state(&self) -> Result<Option<State>, Error> {
        read_json(&self.state_file())
    }

    /// Records that the job is accepted so that it survives a power cut, with the name of the folder.
    pub(crate) fn accept(&self, state: &State) -> Result<(), Error> {
        write_json(&self.state_file(), state, Durable::Yes)?;
        let sign = self.sign();
        sign.parent().map_or(Ok(()), make_dir)?;
        create_private(&sign).map_err(Error::file("make", &sign))?;
        sign.parent().map_or(Ok(()), sync_dir)?;
        self.0.parent().map_or(Ok(()), sync_dir)
    }

    /// Records a change that need not survive a power cut, as no process does either.
    pub(crate) fn note(&self, state: &State) -> Result<(), Error> {
        write_json(&self.state_file(), state, Durable::No)
    }

    /// The time at which the job ended, if it has. Cheaper than reading how.
    pub(crate) fn ended_at(&self) -> Option<SystemTime> {
        fs::metadata(self.exit_file())
            .and_then(|meta| meta.modified())
            .ok()
    }

    pub(crate) fn ended(&self) -> Result<Option<JobSnapshot>, Error> {
        read_json(&self.exit_file())
    }

    /// Records the end of the job, in a new folder if the command has deleted this one. Only to be called by the holder
    /// of the lock.
    pub(crate) fn end(&self, snapshot: &JobSnapshot) -> Result<(), Error> {
        if !self.exists() {
            // Without the directory of all jobs nobody would look here.
            let made = DirBuilder::new().mode(0o700).create(&self.0);
            made.map_err(Error::file("make", &self.0))?;
        }
        write_json(&self.exit_file(), snapshot, Durable::Yes)
    }

    /// Whether anybody could find a record here: false if the directory of all jobs is gone.
    pub(crate) fn has_root(&self) -> bool {
        self.0.parent().is_some_and(Path::is_dir)
    }

    pub(crate) fn stop_asked(&self) -> Result<Option<Stop>, Error> {
        read_json(&self.stop_file())
    }

    /// Writes the request to stop so that it survives a power cut. The first one counts.
    pub(crate) fn ask_stop(&self, stop: &Stop) -> Result<(), Error> {
        if self.stop_file().exists() {
            return Ok(());
        }
        write_json(&self.stop_file(), stop, Durable::Yes)?;
        self.0.parent().map_or(Ok(()), sync_dir)
    }

    /// Takes the lock, if no process has it.
    pub(crate) fn try_lock(&self) -> Result<Option<Lock>, Error> {
        let path = self.lock_file();
        loop {
            let file = self.open_lock()?;
            match file.try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => return Ok(None),
                Err(TryLockError::Error(source)) => return Err(Error::file("lock", &path)(source)),
            }
            let lock = Lock(file);
            if lock.is_at(&path)? {
                return Ok(Some(lock));
            }
        }
    }

    /// Returns when no process holds the lock, which may take as long as a job does.
    pub(crate) fn await_lock(&self) -> Result<(), Error> {
        let file = self.open_lock()?;
        file.lock_shared()
            .map_err(Error::file("lock", &self.lock_file()))?;
        drop(Lock(file));
        Ok(())
    }

    fn open_lock(&self) -> Result<File, Error> {
        let path = self.lock_file();
        let mut options = OpenOptions::new();
        options
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600);
        options.open(&path).map_err(Error::file("open", &path))
    }

    /// Finds out what became of the job, and records its end if its supervisor no longer can.
    pub(crate) fn look(&self) -> Result<Found, Error> {
        if let Some(end) = self.ended()? {
            return Ok(Found::Ended(end));
        }
        let is_robbed = || !self.has_records() && self.sign().exists();
        let since = Instant::now();
        while is_robbed() && since.elapsed() < GONE {
            // Its supervisor, if there is one, ends the command and records that.
            std::thread::sleep(Duration::from_millis(50));
        }
        if !self.exists() {
            return Ok(match self.sign().exists() {
                true => Found::Ended(Failure::evicted().snapshot()),
                false => Found::Nothing,
            });
        }
        match self.try_lock() {
            Ok(Some(lock)) => self.settle(&lock),
            Ok(None) => Ok(match (self.ended()?, self.state()?) {
                (Some(end), _) => Found::Ended(end),
                (None, Some(state)) => Found::Alive(state),
                (None, None) => Found::Nothing,
            }),
            // The folder was removed in the meantime.
            Err(_) if !self.exists() => Ok(Found::Nothing),
            Err(error) => Err(error),
        }
    }

    /// Does what a supervisor can no longer do: whoever holds the lock knows that none lives. Kills what a supervisor
    /// left behind and records the end that it did not live to record.
    pub(crate) fn settle(&self, _lock: &Lock) -> Result<Found, Error> {
        if let Some(end) = self.ended()? {
            return Ok(Found::Ended(end));
        }
        let state = self.state()?;
        let failure = if state.is_some() || self.sign().exists() {
            if let Some(group) = state.and_then(|state| state.group) {
                system::kill_leftover(&group)?;
            }
            system::kill_strays_of(&self.job())?;
            Failure::evicted()
        } else if self.stop_asked()?.is_some() {
            Failure::stopped()
        } else {
            return Ok(Found::Nothing);
        };
        let end = failure.snapshot();
        self.end(&end)?;
        Ok(Found::Ended(end))
    }
}

/// The lock of a folder, held until it is dropped.
#[derive(Debug)]
pub(crate) struct Lock(File);

impl Lock {
    /// Whether the locked file is still the one at `path`. A folder that was removed and made again has another one.
    fn is_at(&self, path: &Path) -> Result<bool, Error> {
        let ours = self.0.metadata().map_err(Error::file("read", path))?;
        match fs::metadata(path) {
            Ok(there) => Ok((ours.dev(), ours.ino()) == (there.dev(), there.ino())),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
            Err(error) => Err(Error::file("read", path)(error)),
        }
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // Unlocked explicitly: a process that is being forked at this moment has a copy of the descriptor for an instant
        // longer, and closing this one alone would leave the lock with it.
        let _ = self.0.unlock();
    }
}

/// Whether a write has to survive a power cut.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Durable {
    Yes,
    No,
}

/// Makes a directory and its missing parents, each closed to other users.
pub(crate) fn make_dir(path: &Path) -> Result<(), Error> {
    let made = DirBuilder::new().recursive(true).mode(0o700).create(path);
    made.map_err(Error::file("make", path))
}

/// Opens a file to append to it. A new one can be read by its owner only.
pub(crate) fn create_private(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .append(true)
        .create(true)
        .mode(0o600)
        .open(path)
}

pub(crate) fn write_json<T: Serialize>(
    path: &Path,
    value: &T,
    durable: Durable,
) -> Result<(), Error> {
    let bytes = serde_json::to_vec(value).map_err(|source| Error::Record {
        path: path.to_owned(),
        source,
    })?;
    write_atomic(path, &bytes, durable).map_err(Error::file("write", path))
}

/// Replaces a file in one step: a reader sees it as it was or as it will be.
pub(crate) fn write_atomic(path: &Path, bytes: &[u8], durable: Durable) -> io::Result<()> {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let unique = format!(
        "tmp-{}-{}",
        std::process::id(),
        COUNT.fetch_add(1, Ordering::Relaxed)
    );
    let aside = path.with_extension(unique);
    let written = (|| {
        let mut file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&aside)?;
        file.write_all(bytes)?;
        if durable == Durable::Yes {
            file.sync_all()?;
        }
        fs::rename(&aside, path)
    })();
    if written.is_err() {
        let _ = fs::remove_file(&aside);
    }
    written?;
    match path.parent() {
        Some(dir) if durable == Durable::Yes => File::open(dir)?.sync_all(),
        _ => Ok(()),
    }
}

fn sync_dir(dir: &Path) -> Result<(), Error> {
    File::open(dir)
        .and_then(|dir| dir.sync_all())
        .map_err(Error::file("sync", dir))
}

fn read_json<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, Error> {
    match fs::read(path) {
        Ok(bytes) => {
            let value = serde_json::from_slice(&bytes);
            value.map(Some).map_err(|source| Error::Record {
                path: path.to_owned(),
                source,
            })
        }
        // A folder that is not one has no records either.
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
            Ok(None)
        }
        Err(source) => Err(Error::file("read", path)(source)),
    }
}
