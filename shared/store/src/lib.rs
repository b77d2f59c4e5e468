//! The records: keys, transactions and queries of DynamoDB, and the bucket for outputs too large for it.
//!
//! Two tables. **runs** holds everything about runs, and the definitions they start from; **executors** holds what
//! proves who somebody is. Every write of a run is one transaction under the head's `rev` and, where the mailbox
//! changes, under its `seq`; a lost race is [`Error::Conflict`], and the caller loads and decides again.
//!
//! | what                  | partition key           | sort key                | written                                 |
//! | --------------------- | ----------------------- | ----------------------- | --------------------------------------- |
//! | head                  | run                     | `HEAD`                  | by every commit                         |
//! | mailbox               | run                     | `WAIT`                  | when a wait begins or ends              |
//! | inputs                | run                     | `INPUT`                 | once                                    |
//! | step                  | run                     | `STEP#0003`             | when first touched, then by its actions |
//! | output                | run                     | `OUT#0003#00002`        | once per attempt                        |
//! | audit                 | run                     | `AUDIT#apr-3-2`         | once per answer                         |
//! | job to be stopped     | run                     | `REAP#job_…`            | with the commit that ends it            |
//! | block                 | `{ws}#block#{id}`       | `BLOCK`                 | by its owner and at both ends of a run  |
//! | subject lock          | `{ws}#block#{id}`       | `LOCK`                  | at both ends of a run                   |
//! | pipeline, each version| `{ws}#pipeline#{id}`    | `V#0000000001`, `LATEST`| when it is put                          |
//! | idempotency key       | `{ws}#idempotency#{key}`| `KEY`                   | with the start                          |
//! | API key (executors)   | `apikey#{hash}`         | `KEY`                   | when it is made                         |
//!
//! An output of more than [`IN_ROW`] bytes is an object of the bucket, under a key of its run; its row says which.
//!
//! The index `due` holds mailboxes and jobs to be stopped by when somebody must look; `listing` holds heads, blocks and
//! pipelines by workspace. Both are sparse and hold keys only, and the listing's keys never change.

mod access;
mod commit;
mod create;
mod definitions;
mod due;
mod error;
mod keys;
mod load;
mod outputs;
mod read;
mod rows;
mod survey;

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use aws_sdk_dynamodb::Client;
use towpath_aws::Bucket;
use towpath_engine::{PipelineId, Plan, WorkspaceId};

pub use access::{ApiKey, Scope};
pub use commit::Commit;
pub use create::{Created, Creation, Idempotency, Takeover};
pub use definitions::StoredPipeline;
pub use due::{DUE_SHARDS, Due, DueRow};
pub use error::Error;
pub use keys::Key;
pub use load::Loaded;
pub use outputs::{IN_ROW, Kept, OutputUrl};
pub use read::{Kind, Page};
pub use rows::Input;
pub use survey::Survey;

/// The indexes of the runs table, for whoever counts units.
pub mod index {
    /// What must be looked at, by when.
    pub const DUE: &str = "due";
    /// The heads, blocks and pipelines of a workspace.
    pub const LISTING: &str = "listing";
    /// The key attributes of each.
    pub const KEYS: [[&str; 2]; 2] = [["dueShard", "dueAt"], ["listing", "listedAt"]];
}

type Plans = HashMap<(WorkspaceId, PipelineId, u32), Arc<Plan>>;

/// The records of Towpath, in DynamoDB and S3.
#[derive(Clone)]
pub struct Store {
    db: Client,
    bucket: Bucket,
    runs: String,
    executors: String,
    /// Pinned plans never change, so a warm function reads each once.
    plans: Arc<Mutex<Plans>>,
}

impl Store {
    /// The records in these two tables and this bucket.
    pub fn new(
        db: Client,
        bucket: Bucket,
        runs: impl Into<String>,
        executors: impl Into<String>,
    ) -> Self {
        Self {
            db,
            bucket,
            runs: runs.into(),
            executors: executors.into(),
            plans: Arc::default(),
        }
    }
}
