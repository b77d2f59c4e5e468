//! The records of Towpath: their keys and forms, and the transactions that change them.
//!
//! Two tables. **runs** holds everything about runs, and the definitions they start from; **executors** holds what
//! proves who somebody is. Every write of a run is one transaction under the head's `rev` and, where the mailbox
//! changes, under its `seq`; a lost race is [`Error::Conflict`], and the caller loads and decides again.
//!
//! | what                  | partition key           | sort key                | written                                 |
//! | --------------------- | ----------------------- | ----------------------- | --------------------------------------- |
//! | head                  | run                     | `NOW#HEAD`              | by every commit                         |
//! | present step          | run                     | `NOW#STEP`              | by every action on it                   |
//! | mailbox               | run                     | `NOW#WAIT`              | by every commit and every wait          |
//! | step that was left    | run                     | `STEP#0003`             | when the run leaves it                  |
//! | inputs                | run                     | `INPUT`                 | once                                    |
//! | output                | run                     | `OUT#0003#00002`        | once                                    |
//! | audit                 | run                     | `AUDIT#apr-3`           | once per answer                         |
//! | job to be stopped     | run                     | `REAP#job_…`            | with the commit that ends it            |
//! | stop not yet marked   | run                     | `STOP`                  | if the run is too busy for its mark     |
//! | block                 | `{ws}#block#{id}`       | `BLOCK`                 | by its owner and at both ends of a run  |
//! | lock of a block       | `{ws}#block#{id}`       | `LOCK`                  | at both ends of a run                   |
//! | pipeline version      | `{ws}#pipeline#{id}`    | `V#0000000001`          | when it is put                          |
//! | pipeline              | `{ws}#pipeline#{id}`    | `LATEST`                | with each version: names the newest     |
//! | idempotency key       | `{ws}#idempotency#{key}`| `KEY`                   | with the start; expires                 |
//! | secret for agents     | `{ws}#secrets`          | the secret's name       | when it is put, encrypted               |
//! | API key (executors)   | `apikey#{hash}`         | `KEY`                   | when it is made, and revoked            |
//! | key in the list       | `{ws}#keys`             | the key's id            | with the key                            |
//! | job elsewhere (executors) | run                 | `JOB#0000000007`        | from its start to its end               |
//! | events of a job (executors) | run               | `EV#0000000007#0000000012` | once per batch                       |
//! | executor (executors)  | `{ws}#executors`        | the executor's id       | when it registers, connects, is heard   |
//! | its token (executors) | `xtoken#{hash}`         | `TOKEN`                 | when it is made, and rotated            |
//! | its socket (executors)| `connection#{id}`       | `CONNECTION`            | when it opens and closes                |
//! | message for it (executors) | `{ws}#executor#{id}` | `MSG#{time}#{id}`      | with what it tells, until acknowledged  |
//! | mission (executors)   | `{ws}#mission#{id}`     | `MISSION`               | by every event that changes it          |
//! | its events (executors)| `{ws}#mission#{id}`     | `EVENT#{time}#{hash}`   | once each                               |
//! | missions that wait (executors) | `{ws}#queue`   | `{time}#{mission}`      | while no executor fits                  |
//!
//! What a driver loads lies together, in one query. An output of more than [`IN_ROW`] bytes is an object of the bucket,
//! under a key of its run; its row says which.
//!
//! **Forms.** Each item says in `v` which form it has. One of a newer form is [`Error::Newer`], and is never written
//! back. Live items are written attribute by attribute, so what this release does not know survives. `status`, `stop`,
//! `rev`, `calls`, `generation`, the lock and the due keys stay the same in all forms, so that a stop can end any run:
//! see [`Store::end_by_force`]. Records of 0.1.0 are turned into this form when they are first read.
//!
//! The index `due` holds mailboxes and jobs to be stopped by when somebody must look; `listing` holds heads, blocks and
//! pipelines by workspace; `live` holds the heads of the runs that are not over. All are sparse and hold keys only, and
//! the keys of a listing never change.

mod access;
mod commit;
mod create;
mod definitions;
mod due;
mod error;
mod executor_records;
mod force;
mod form;
mod input;
mod job_events;
mod job_log;
mod job_records;
mod keys;
mod load;
#[cfg(feature = "memory")]
mod memory;
mod mission_records;
mod objects;
mod old_form;
mod outputs;
mod read;
mod secrets;
mod stop;
mod survey;

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use towpath_engine::{PipelineId, Plan, WorkspaceId};
use towpath_table::Table;

pub use access::{ApiKey, ListedKey, Scope};
pub use commit::Commit;
pub use create::{Created, Creation, Idempotency, Takeover};
pub use definitions::{PipelineSummary, StoredPipeline};
pub use due::{DUE_SHARDS, Due, DueRow};
pub use error::Error;
pub use executor_records::{Connection, ExecutorRecord, ExecutorRecords, Message, TokenRecord};
pub use input::Input;
pub use job_events::{Appended, EventCursor, EventPage, JobEvent};
pub use job_records::{Claimed, JobRecord, JobRecords, JobStop, StoredAnswer};
pub use load::Loaded;
#[cfg(feature = "memory")]
pub use memory::MemoryObjects;
pub use mission_records::{Change, MissionRecord, MissionRecords, OpenQuestion};
pub use objects::{Objects, OutputUrl, UploadUrl};
pub use outputs::{IN_ROW, OutputRow, StoredOutput};
pub use read::Page;
pub use secrets::SealedSecret;
pub use survey::Survey;
pub use towpath_table::Key;

/// The indexes of the tables, for whoever counts units.
pub mod index {
    /// The index of what must be looked at, by its time.
    pub const DUE: &str = "due";
    /// The heads, blocks and pipelines of a workspace.
    pub const LISTING: &str = "listing";
    /// The heads of a workspace's live runs.
    pub const LIVE: &str = "live";
    /// The key attributes of the one of the executors table.
    pub const EXECUTORS: [[&str; 2]; 1] = [["dueShard", "dueAt"]];
    /// The key attributes of each of the runs table.
    pub const KEYS: [[&str; 2]; 3] = [
        ["dueShard", "dueAt"],
        ["listing", "listedAt"],
        ["live", "listedAt"],
    ];
}

type Plans = HashMap<(WorkspaceId, PipelineId, u32), Arc<Plan>>;

/// The records of Towpath. Cheap to clone.
#[derive(Clone)]
pub struct Store {
    runs: Arc<dyn Table>,
    executors: Arc<dyn Table>,
    objects: Arc<dyn Objects>,
    /// Pinned plans never change, so a warm function reads each once.
    plans: Arc<Mutex<Plans>>,
}

impl Store {
    /// The records in these two tables, with large outputs among these objects.
    pub fn new(runs: Arc<dyn Table>, executors: Arc<dyn Table>, objects: Arc<dyn Objects>) -> Self {
        Self {
            runs,
            executors,
            objects,
            plans: Arc::default(),
        }
    }

    /// Reads the head of a run that cannot be: the cheapest call there is, to open the connection before it is needed.
    pub async fn warm(&self) {
        let _ = self.runs.get(&Key::new("warm", "NOW#HEAD")).await;
    }
}
