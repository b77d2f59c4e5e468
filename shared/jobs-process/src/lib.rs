//! The process substrate: a job is a local process group under a small supervisor.
//!
//! Each job has a folder, named by its id. `start` runs a supervisor (the same program, `towpath supervise --dir DIR`),
//! which takes the folder's lock, writes down that it accepted the job, and only then runs the command, in a session
//! apart from whoever asked for it. The lock is held for as long as the supervisor lives, so any process can tell at
//! any time whether it does: there is no process id to mistake for another's. Everything else is decided under that
//! lock:
//!
//! | in the folder                     | lock | the job                                                            |
//! | --------------------------------- | ---- | ------------------------------------------------------------------ |
//! | nothing, or only a lock           | free | was never accepted: a later `start` runs it                        |
//! | `state.json`                      | held | is being prepared, runs or stops                                   |
//! | `state.json`                      | free | lost its supervisor: what is left of it is killed, it was evicted  |
//! | `stop` and nothing else           | free | was stopped before it began, and never will                        |
//! | `exit.json`                       | any  | ended, and this is how                                             |
//!
//! The specification, which may carry secrets, goes from the caller to the supervisor through a pipe and from there
//! into the command's environment. It is never on disk, so it cannot stay there.

mod checkout;
mod error;
mod folder;
mod git;
mod group;
mod job;
mod output;
mod substrate;
mod supervise;
mod system;
mod watch;

pub use error::{ANSWER_REFUSED, Error};
pub use substrate::ProcessSubstrate;
pub use supervise::supervise;
pub use watch::Watcher;
