//! The journal of a job: what is kept of its telling, so that whoever goes on with it after a restart tells nothing twice
//! and leaves nothing out.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use towpath_engine::EventFormat;
use towpath_jobs::LogPosition;

use crate::print::note;
use crate::tell::{KeptTelling, Telling};

/// The pause before a journal that could not be written is written again: the disk may have room by then.
const AGAIN: Duration = Duration::from_secs(5);

/// The journal of a job, or none.
pub(crate) struct Journal {
    path: Option<PathBuf>,
    kept: Kept,
}

/// What a journal holds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Kept {
    telling: Option<KeptTelling>,
    format: Option<EventFormat>,
    /// The place up to which the log was read. `None`: to its end.
    read: Option<LogPosition>,
    ended: bool,
}

impl Default for Kept {
    fn default() -> Self {
        Self {
            telling: None,
            format: None,
            read: Some(LogPosition::default()),
            ended: false,
        }
    }
}

impl Journal {
    /// The journal of a job that ends with its runner.
    pub(crate) fn none() -> Self {
        Self {
            path: None,
            kept: Kept::default(),
        }
    }

    /// The journal in this file, as far as it goes.
    ///
    /// # Errors
    /// If the file is there and cannot be read.
    pub(crate) fn open(path: PathBuf) -> io::Result<Self> {
        let kept = match fs::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes).map_err(io::Error::other)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Kept::default(),
            Err(error) => return Err(error),
        };
        Ok(Self {
            path: Some(path),
            kept,
        })
    }

    /// What was told before, and the form of what the command prints.
    pub(crate) fn kept(&self) -> Option<(KeptTelling, Option<EventFormat>)> {
        let telling = self.kept.telling.clone()?;
        Some((telling, self.kept.format))
    }

    /// The place up to which the log was read. `None`: to its end.
    pub(crate) fn read(&self) -> Option<LogPosition> {
        self.kept.read
    }

    /// Whether the end was told, or is about to be.
    pub(crate) fn has_ended(&self) -> bool {
        self.kept.ended
    }

    pub(crate) async fn begun(&mut self, format: Option<EventFormat>, telling: &Telling) {
        self.kept.format = format;
        self.told(telling, Some(LogPosition::default())).await;
    }

    /// Keeps what is to be told, and the place in the log behind it. `None`: its end.
    pub(crate) async fn told(&mut self, telling: &Telling, read: Option<LogPosition>) {
        self.kept.telling = self.path.is_some().then(|| telling.kept());
        self.kept.read = read;
        self.save().await;
    }

    /// Keeps the end, before it is told.
    pub(crate) async fn ended(&mut self, telling: &Telling) {
        self.kept.ended = true;
        let read = self.kept.read;
        self.told(telling, read).await;
    }

    /// Writes the journal, again and again until it is written: what is told without it might be told twice.
    async fn save(&self) {
        let Some(path) = &self.path else { return };
        loop {
            let bytes = serde_json::to_vec(&self.kept).map_err(io::Error::other);
            match bytes.and_then(|bytes| write_durably(path, &bytes)) {
                Ok(()) => return,
                Err(error) => note(&format!("{}: {error}; it is tried again", path.display())),
            }
            tokio::time::sleep(AGAIN).await;
        }
    }
}

/// Writes a file that only its owner may read, so that it is there whole, or as it was.
///
/// # Errors
/// If it cannot be written.
pub fn write_durably(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let unfinished = path.with_extension("unfinished");
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(0o600);
    let mut file = options.open(&unfinished)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    drop(file);
    fs::rename(&unfinished, path)?;
    match path.parent() {
        Some(folder) => File::open(folder)?.sync_all(),
        None => Ok(()),
    }
}
