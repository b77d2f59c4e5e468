//! The error of this crate.

use crate::definition::DefinitionError;

/// An error of the local Step Functions itself. The mistakes of its API's callers are answered to them there.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The definition was refused.
    #[error(transparent)]
    Definition(#[from] DefinitionError),
    /// The name of the machine would be refused by AWS.
    #[error(
        "the state machine's name {0:?} is refused: it must be 1 to 80 of a-z, A-Z, 0-9, - and _"
    )]
    Name(String),
    /// The file cannot be used, or could not be written.
    #[error("the state machine store failed: {0}")]
    Store(#[from] rusqlite::Error),
    /// Another process has the file open.
    #[error("the state machine store is in use by another process; stop that process first")]
    InUse,
    /// The file or the lock beside it cannot be made.
    #[error("the state machine store cannot be made or locked: {0}")]
    File(std::io::Error),
    /// The contents of the file cannot be read.
    #[error("the state machine store cannot be read: {0}")]
    Corrupt(String),
    /// The store has been unusable for a minute, though it was opened again and again. Holds the last reason.
    #[error(
        "the state machine store has been unusable for a minute: {0}; make sure that its disk has room and can be written, then start again"
    )]
    Unusable(String),
    /// The service was shut down, or its store failed and is not open again yet.
    #[error("the local Step Functions was shut down, or its store failed")]
    Closed,
    /// There is no tokio runtime to drive executions on.
    #[error("the local Step Functions must be opened within a tokio runtime")]
    NoRuntime,
}
