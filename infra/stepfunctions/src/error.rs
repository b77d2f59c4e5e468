//! How this crate fails.

use crate::definition::DefinitionError;

/// An error of the local Step Functions itself. What callers of its API do wrong is answered to them there.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The definition was refused.
    #[error(transparent)]
    Definition(#[from] DefinitionError),
    /// The name is none that AWS takes.
    #[error("{0:?} is no name for a state machine: 1 to 80 of a-z, A-Z, 0-9, - and _")]
    Name(String),
    /// The file cannot be used, or could not be written. Nothing goes on until it is opened again.
    #[error("the state machine store failed: {0}")]
    Store(#[from] rusqlite::Error),
    /// Someone else has the file open.
    #[error("the state machine store is in use by another process; stop that first")]
    InUse,
    /// The lock beside the file cannot be made.
    #[error("the state machine store cannot be locked: {0}")]
    File(std::io::Error),
    /// What is in the file cannot be read.
    #[error("the state machine store holds what cannot be read: {0}")]
    Corrupt(String),
    /// It was shut down, or its store failed.
    #[error("this Step Functions was shut down or its store failed")]
    Closed,
    /// There is no tokio runtime to drive executions on.
    #[error("Step Functions must be opened within a tokio runtime")]
    NoRuntime,
}
