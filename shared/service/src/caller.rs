//! The caller of a request, and what every caller may be told.

use towpath_api_types::{Code, Problem};
use towpath_engine::{RunId, WorkspaceId};

/// The caller of a request.
#[derive(Clone, Debug)]
pub struct Caller {
    /// The workspace whose runs the caller reaches.
    pub workspace: WorkspaceId,
    /// The name that stands in the records for who did it.
    pub name: String,
}

/// The problem that there is no such run, or that it is another workspace's.
pub(crate) fn no_run(id: &RunId) -> Problem {
    Problem::new(Code::NotFound, format!("there is no run {id}"))
}

/// The problem that too many others wrote the same records.
pub(crate) fn busy() -> Problem {
    Problem::new(
        Code::Busy,
        "others were faster again and again; try again in a moment",
    )
}
