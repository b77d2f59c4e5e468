//! Why a local cloud cannot be stood up, or cannot stay up.

use std::path::PathBuf;

/// A reason for which a local cloud cannot be stood up, or cannot stay up.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file or port could not be used.
    #[error("{what}: {source}")]
    Io {
        /// The operation that failed, for people.
        what: String,
        /// The error of the operating system.
        source: std::io::Error,
    },
    /// A file is not the YAML or JSON it should be.
    #[error("{} cannot be read: {message}", path.display())]
    Syntax {
        /// The file.
        path: PathBuf,
        /// The error, with its line.
        message: String,
    },
    /// The template asks for something the local cloud does not have, or contradicts itself.
    #[error("the template, at {place}: {message}")]
    Template {
        /// The place in the template, as a path of its keys.
        place: String,
        /// The error, for people.
        message: String,
    },
    /// The data directory has things in it that are not a local cloud's.
    #[error("{} is not empty, and no local cloud has used it before; choose a folder that is empty or does not exist yet", .0.display())]
    Foreign(PathBuf),
    /// Another local cloud uses the data directory.
    #[error("{} is in use by another local cloud; stop that one, or give this one a directory of its own", .0.display())]
    Locked(PathBuf),
    /// The database refused what the template asks for.
    #[error("the database: {0}")]
    Database(String),
    /// The folders of the buckets could not be opened.
    #[error("the buckets: {0}")]
    Objects(String),
    /// The state machine could not be loaded.
    #[error("the state machine {name}: {message}")]
    StateMachine {
        /// The name of the resource.
        name: String,
        /// The error, for people.
        message: String,
    },
    /// The local cloud is up and cannot drive executions any more.
    #[error("the local cloud drives nothing any more: {0}")]
    Executions(String),
    /// A function could not be started.
    #[error("the function {name}: {message}")]
    Function {
        /// The logical id of the function.
        name: String,
        /// The error, for people.
        message: String,
    },
}

impl Error {
    pub(crate) fn io(what: impl Into<String>, source: std::io::Error) -> Self {
        Self::Io {
            what: what.into(),
            source,
        }
    }

    pub(crate) fn template(place: impl Into<String>, message: impl Into<String>) -> Self {
        Self::Template {
            place: place.into(),
            message: message.into(),
        }
    }
}
