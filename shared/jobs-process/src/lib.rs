//! The process runtime: a job is a local process group under a small supervisor.
//!
//! Each job has a folder, named by its id. A start runs a supervisor (the same program, `towpath supervise --dir DIR`),
//! which takes the folder's lock, writes down that it accepted the job, and only then runs the command, in a session
//! apart from the caller's. The supervisor holds the lock for as long as it lives, so any process can tell at any time
//! whether it does: there is no process id that could be mistaken for another's. Everything else is decided under that
//! lock:
//!
//! | in the folder                     | lock | the job                                                                |
//! | --------------------------------- | ---- | ---------------------------------------------------------------------- |
//! | nothing, or only a lock           | free | was never accepted: a later start runs it                              |
//! | `state.json`                      | held | is being prepared, runs or stops                                       |
//! | `state.json`                      | free | lost its supervisor: it counts as evicted, and what is left is killed  |
//! | `stop` and no `state.json`        | free | was stopped before it began, and never will begin                      |
//! | `exit.json`                       | any  | ended, and this is how                                                 |
//!
//! The file `stop` is the tombstone of a job that was not accepted, and the request to stop of one that was. A
//! supervisor looks for it under the lock before it accepts a job, and again before each process it starts.
//!
//! Beside the folders, `.accepted/` has a sign for each job that was accepted, which outlives a command that deletes its own
//! folder: such a job has failed, and is never run again. A root that belongs to one process (a cloud in memory) is
//! marked by [`Ownership`]: when that process is gone, the supervisors end their jobs and leave.
//!
//! The request, which may carry secrets, goes from the caller to the supervisor through a pipe, and from there into the
//! command's environment. It is never written to disk, so it cannot stay there, and the values of secrets are masked in
//! the logs and the answer before those are.
//!
//! A command works in a clone that has no credentials; what it changes is fetched from there into a bare repository of
//! the supervisor's own, `transfer.git`, and pushed from that, so that nothing the command leaves in `.git` takes part.

mod answer;
mod artifacts;
mod checkout;
mod error;
mod folder;
mod git;
mod group;
mod job;
mod mask;
mod order;
mod output;
mod owner;
mod root;
mod runtime;
mod supervise;
mod system;
mod watch;

pub use error::Error;
pub use owner::Ownership;
pub use runtime::ProcessRuntime;
pub use supervise::supervise;
pub use watch::Watcher;
