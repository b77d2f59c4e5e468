//! `towpath worker`: a machine that takes missions, and carries each out with a command.
//!
//! It registers under an identity of its own, asks for missions, and carries out as many at once as it has slots for. A
//! mission of a run is carried out as a build's runner would: the job's manifest is fetched, the command runs under a
//! supervisor, what it prints is told as events, and its answer and files are handed in. A caller's own mission has no job:
//! the command's answer is the mission's summary.
//!
//! All that a restart needs is in the worker's folder, which only its owner may read:
//!
//! | file | holds |
//! | --- | --- |
//! | `identity.json` | the identity and the token |
//! | `missions/ID/mission.json` | what the executor was asked for |
//! | `missions/ID/journal.json` | what was told of the job, and what is to be told |
//! | `jobs/` | the folders of the commands, each with a supervisor that outlives the worker |

mod identity;
mod link;
mod mission;
mod missions;

use std::collections::BTreeSet;
use std::fs::{self, File, TryLockError};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::Value;
use towpath_auth::Secret;

use crate::identity::Identity;
use crate::link::{Link, Lost};
use crate::missions::Missions;

/// The time without an answer after which the deployment may have taken the worker for silent.
const SILENT: Duration = Duration::from_secs(60);
/// The pause before a poll that failed is made again; it doubles up to the longest.
const PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// What a worker is started with.
#[derive(Clone, Debug)]
pub struct Options {
    /// The address of the deployment.
    pub server: String,
    /// The key that enrols executors, for the first start.
    pub enrolment: Option<Secret>,
    /// The name of the worker, for people.
    pub name: String,
    /// The capabilities of the worker, besides `resumable` and its slots.
    pub capabilities: BTreeSet<String>,
    /// The most missions at once.
    pub slots: u32,
    /// The folder of all that the worker keeps.
    pub folder: PathBuf,
    /// The command that carries out missions. `None`: the command that a run's step names.
    pub command: Option<Vec<String>>,
    /// The program that supervises commands: this one.
    pub supervisor: PathBuf,
}

/// The reason a worker cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The folder cannot be used.
    #[error("{path}: {why}")]
    Folder {
        /// The path of the file or folder.
        path: PathBuf,
        /// The reason.
        why: String,
    },
    /// The deployment does not admit the worker.
    #[error("{0}")]
    Refused(String),
}

impl Error {
    fn folder(path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_owned();
        move |error| Self::Folder {
            path,
            why: error.to_string(),
        }
    }
}

/// Writes a line for whoever watches the worker. Nobody may be there to read it.
fn note(what: &str) {
    let _ = writeln!(std::io::stderr(), "towpath worker: {what}");
}

/// Takes missions until `ended` is ready. Commands that run then go on, and the next start of the worker goes on with them.
///
/// # Errors
/// If the folder cannot be used, or the deployment does not admit the worker.
pub async fn run(options: Options, ended: impl Future<Output = ()>) -> Result<(), Error> {
    let _alone = alone(&options.folder)?;
    let identity = Identity::of(&options.folder)?;
    let link = Link::register(&options, identity).await?;
    note(&format!(
        "{} is registered at {} as {}, and takes {} missions at once",
        options.name,
        options.server,
        link.executor(),
        options.slots
    ));
    let mut missions = Missions::open(&options, link.clone())?;
    missions.reconnect().await;
    tokio::pin!(ended);
    let mut polling = Polling::default();
    loop {
        tokio::select! {
            () = &mut ended => break,
            polled = polling.poll(&link) => match polled {
                Ok(messages) => {
                    if std::mem::take(&mut polling.was_silent) {
                        missions.reconnect().await;
                    }
                    polling.acknowledged.clear();
                    for message in messages {
                        polling.acknowledged.extend(missions.take(&message).await?);
                    }
                }
                Err(Lost::Refused(why)) => return Err(Error::Refused(why)),
                Err(Lost::NoAnswer(why)) => polling.wait(&why).await,
            },
        }
    }
    missions.lay_down().await;
    Ok(())
}

/// The state of the polls.
struct Polling {
    acknowledged: Vec<String>,
    answered: Instant,
    was_silent: bool,
    pause: Duration,
}

impl Default for Polling {
    fn default() -> Self {
        Self {
            acknowledged: Vec::new(),
            answered: Instant::now(),
            was_silent: false,
            pause: PAUSE,
        }
    }
}

impl Polling {
    async fn poll(&mut self, link: &Link) -> Result<Vec<Value>, Lost> {
        let polled = link.claim(&self.acknowledged).await?;
        self.was_silent |= self.answered.elapsed() > SILENT;
        self.answered = Instant::now();
        self.pause = PAUSE;
        Ok(polled)
    }

    async fn wait(&mut self, why: &str) {
        note(&format!("{why}; it is tried again"));
        // Not all workers at once, after a deployment was away.
        let mut bits = [0_u8; 1];
        let share = getrandom::fill(&mut bits).map_or(255, |()| u32::from(bits[0]));
        tokio::time::sleep(self.pause / 2 + self.pause / 512 * share).await;
        self.pause = (self.pause * 2).min(LONGEST_PAUSE);
    }
}

/// Makes sure that no other worker uses the folder.
fn alone(folder: &Path) -> Result<File, Error> {
    use std::os::unix::fs::DirBuilderExt;
    let mut builder = fs::DirBuilder::new();
    let made = builder.recursive(true).mode(0o700).create(folder);
    made.map_err(Error::folder(folder))?;
    let path = folder.join("lock");
    let lock = File::create(&path).map_err(Error::folder(&path))?;
    match lock.try_lock() {
        Ok(()) => Ok(lock),
        Err(TryLockError::Error(error)) => Err(Error::folder(&path)(error)),
        Err(TryLockError::WouldBlock) => Err(Error::Folder {
            path: folder.to_owned(),
            why: "another worker uses this folder; give each its own with --dir".to_owned(),
        }),
    }
}
