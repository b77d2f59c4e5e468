//! A process group that works for a job: it is on record before it does anything, and is ended with every process in
//! it.
//!
//! The process that becomes the command begins as this program again (the launcher), which waits at a socket to
//! be told what to run. The supervisor records the process group first and only then tells it. If the supervisor
//! dies in between, the socket closes and the launcher ends without having run anything; so no
//! command ever runs that is not on record.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, ExitStatus, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, waitid};
use serde::{Deserialize, Serialize};

use crate::error::Error;
use crate::mask::Masks;
use crate::output::Stream;
use crate::system::{self, DYING, Identity, LOOK};

/// The environment variable that makes this program a launcher. A command never inherits it: its environment is made
/// from scratch.
pub(crate) const LAUNCHER: &str = "TOWPATH_LAUNCHER";

/// A program to run.
#[derive(Serialize, Deserialize)]
pub(crate) struct Launch {
    pub(crate) program: String,
    pub(crate) args: Vec<String>,
    pub(crate) env: BTreeMap<String, String>,
    pub(crate) dir: PathBuf,
}

/// A reason for which a process group was not started.
#[derive(Debug)]
pub(crate) enum LaunchError {
    /// The program could not be executed, for this reason.
    Program(String),
    /// The launcher could not be run or recorded.
    Other(Error),
}

/// A started group.
pub(crate) struct Group {
    child: Child,
    identity: Identity,
    exited: mpsc::Receiver<()>,
    stdout: Stream,
    stderr: Stream,
}

impl Group {
    /// Starts a group. Its output goes to the logs, if there are any, without what is masked. `record` is called with the identity of the group
    /// before the program runs; if it fails, the program does not run.
    pub(crate) fn start(
        launch: &Launch,
        logs: Option<(&Path, &Path)>,
        masks: &Masks,
        record: impl FnOnce(&Identity) -> Result<(), Error>,
    ) -> Result<Self, LaunchError> {
        let program =
            own_program().map_err(LaunchError::system("find", Path::new("this program")))?;
        let failed = |what| LaunchError::system(what, &program);
        let (mut ours, theirs) = UnixStream::pair().map_err(failed("connect to"))?;
        let mut command = Command::new(&program);
        command
            .args(["supervise", "--dir"])
            .arg(&launch.dir)
            .env_clear()
            .env(LAUNCHER, "1")
            .process_group(0);
        command
            .stdin(OwnedFd::from(theirs))
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command.spawn().map_err(failed("run"))?;
        // The command holds the launcher's end of the socket.
        drop(command);
        let identity = Identity::of(Pid::from_child(&child));
        let prepared = record(&identity).and_then(|()| {
            let stdout = Stream::read(child.stdout.take(), logs.map(|logs| logs.0), masks.clone())?;
            let stderr = Stream::read(child.stderr.take(), logs.map(|logs| logs.1), masks.clone())?;
            Ok((stdout, stderr))
        });
        let (stdout, stderr) = match prepared {
            Ok(streams) => streams,
            Err(error) => {
                // The launcher was told nothing, so it ends by itself.
                drop(ours);
                let _ = child.wait();
                return Err(LaunchError::Other(error));
            }
        };
        // If this fails the launcher is gone, as its exit will tell.
        let _ = serde_json::to_vec(launch).map(|word| ours.write_all(&word));
        let _ = ours.shutdown(Shutdown::Write);
        // The launcher's end closes without a message when it becomes the program.
        let mut complaint = String::new();
        let _ = ours.read_to_string(&mut complaint);
        if !complaint.is_empty() {
            let _ = child.wait();
            return Err(LaunchError::Program(complaint));
        }
        let exited = watch(Pid::from_child(&child));
        Ok(Self {
            child,
            identity,
            exited,
            stdout,
            stderr,
        })
    }

    /// Waits for the leader to exit, for `longest` at most. The leader stays a zombie, so that the number of the group is
    /// not used again.
    pub(crate) fn exited_within(&self, longest: Duration) -> bool {
        !matches!(
            self.exited.recv_timeout(longest),
            Err(RecvTimeoutError::Timeout)
        )
    }

    /// Ends the processes that are left: SIGTERM, then SIGKILL after `grace`. Returns when all are gone, with what the
    /// program printed last and the status of the leader, unless the leader is stuck in the kernel.
    pub(crate) fn end(mut self, grace: Duration) -> Ended {
        if self.has_living() {
            system::signal(&self.identity, Signal::TERM);
            let since = Instant::now();
            let mut gone = self.gone_within(grace);
            // Again and again: a process that begins another meanwhile may do so between a look and a signal.
            while !gone && since.elapsed() < grace + DYING {
                system::signal(&self.identity, Signal::KILL);
                gone = self.gone_within(LOOK);
            }
        }
        let status = if self.exited_within(Duration::ZERO) {
            self.child.wait().ok()
        } else {
            None
        };
        let (stdout, stderr) = (self.stdout.finish(), self.stderr.finish());
        Ended {
            status,
            stdout: stdout.end,
            stderr: stderr.end,
            lost: stdout.lost.or(stderr.lost),
        }
    }

    /// Whether a process of the group is alive. A leader whose first thread ended looks dead and is not, hence the two
    /// questions.
    fn has_living(&self) -> bool {
        !self.exited_within(Duration::ZERO) || system::has_living(&self.identity)
    }

    fn gone_within(&self, longest: Duration) -> bool {
        let since = Instant::now();
        while self.has_living() {
            let Some(left) = longest
                .checked_sub(since.elapsed())
                .filter(|left| !left.is_zero())
            else {
                return false;
            };
            std::thread::sleep(LOOK.min(left));
        }
        true
    }
}

/// The exit status and the output of a group that ended.
pub(crate) struct Ended {
    pub(crate) status: Option<ExitStatus>,
    pub(crate) stdout: Vec<u8>,
    pub(crate) stderr: Vec<u8>,
    /// The reason its logs do not hold all that it printed.
    pub(crate) lost: Option<String>,
}

impl LaunchError {
    fn system(what: &'static str, program: &Path) -> impl FnOnce(io::Error) -> Self {
        let named = Error::file(what, program);
        move |error| Self::Other(named(error))
    }
}

/// Reports when the leader has exited, without collecting its status.
fn watch(leader: Pid) -> mpsc::Receiver<()> {
    let (tell, exited) = mpsc::channel();
    std::thread::spawn(move || {
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
        while let Err(rustix::io::Errno::INTR) = waitid(WaitId::Pid(leader), options) {}
        let _ = tell.send(());
    });
    exited
}

/// The path of this very program, even if its file was replaced: an upgrade must not end jobs that run.
fn own_program() -> io::Result<PathBuf> {
    if cfg!(target_os = "linux") {
        Ok(PathBuf::from("/proc/self/exe"))
    } else {
        std::env::current_exe()
    }
}

/// Whether this process was started to become a command.
pub(crate) fn is_launcher() -> bool {
    std::env::var_os(LAUNCHER).is_some()
}

/// Waits to be told what to run, and becomes that program.
pub(crate) fn launcher() -> ExitCode {
    system::shelter();
    // A duplicate that closes when the program takes over. The program's own standard input is empty.
    let Ok(socket) = io::stdin().as_fd().try_clone_to_owned() else {
        return ExitCode::FAILURE;
    };
    let mut socket = UnixStream::from(socket);
    let mut word = Vec::new();
    if socket.read_to_end(&mut word).is_err() {
        return ExitCode::FAILURE;
    }
    // The message is incomplete: the supervisor is gone.
    let Ok(launch) = serde_json::from_slice::<Launch>(&word) else {
        return ExitCode::FAILURE;
    };
    drop(word);
    let complaint = if launch.dir.is_dir() {
        let mut command = Command::new(&launch.program);
        command
            .args(&launch.args)
            .env_clear()
            .envs(&launch.env)
            .current_dir(&launch.dir)
            .stdin(Stdio::null());
        command.exec().to_string()
    } else {
        format!("its directory {} does not exist", launch.dir.display())
    };
    let _ = socket.write_all(complaint.as_bytes());
    ExitCode::FAILURE
}
