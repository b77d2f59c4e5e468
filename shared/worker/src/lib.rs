//! `towpath worker`: a machine that takes missions, and carries each out with a command.
//!
//! It registers under an identity of its own, opens a socket, or polls where it gets none, and carries out as many missions
//! at once as it has slots for. A
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
mod inbox;
mod link;
mod mission;
mod missions;
mod socket;

use std::collections::BTreeSet;
use std::fs::{self, File, TryLockError};
use std::io::Write;
use std::path::{Path, PathBuf};

use towpath_auth::Secret;

use crate::identity::Identity;
use crate::inbox::Inbox;
use crate::link::Link;
use crate::missions::Missions;
use crate::socket::Address;

/// What a worker is started with.
#[derive(Clone, Debug)]
pub struct Options {
    /// The address of the deployment.
    pub server: String,
    /// The URL of the deployment's sockets, to whose end the worker's identity is added. `None`: they are at the
    /// deployment's address.
    pub sockets: Option<String>,
    /// Whether the worker only polls, and opens no socket.
    pub poll: bool,
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
    tokio::pin!(ended);
    let link = tokio::select! {
        () = &mut ended => return Ok(()),
        link = Link::register(&options, identity) => link?,
    };
    note(&format!(
        "{} is registered at {} as {}, and takes {} missions at once",
        options.name,
        options.server,
        link.executor(),
        options.slots
    ));
    let mut missions = Missions::open(&options, link.clone())?;
    let address = (!options.poll).then(|| Address::of(&options.server, options.sockets.as_deref()));
    let mut inbox = Inbox::new(link, address);
    loop {
        let came = tokio::select! {
            () = &mut ended => break,
            came = inbox.next() => came.map_err(Error::Refused)?,
        };
        if came.returned {
            missions.reconnect().await;
        }
        for message in came.messages {
            inbox.keep(missions.take(&message).await?);
        }
    }
    missions.lay_down().await;
    Ok(())
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
