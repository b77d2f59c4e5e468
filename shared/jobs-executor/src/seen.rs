//! Executors as a doctor sees them.

use towpath_engine::{JobId, WorkspaceId};
use towpath_executors::ExecutorId;
use towpath_store::Error;

use crate::Executors;

/// What a doctor has to know of an executor.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// The socket that is on record as open, and is closed.
    pub closed_socket: Option<String>,
    /// The jobs of its missions that are not over, and were not asked to stop.
    pub jobs: Vec<JobId>,
}

impl Executors {
    /// Looks at an executor. `None`: it has been removed.
    ///
    /// # Errors
    /// If the records cannot be read.
    pub async fn seen(
        &self,
        workspace: &WorkspaceId,
        id: &ExecutorId,
    ) -> Result<Option<Seen>, Error> {
        let ports = &self.missions.ports;
        let Some(record) = ports.executors.get(workspace, id).await? else {
            return Ok(None);
        };
        let mut seen = Seen::default();
        if let Some(connection) = record.connection {
            // Whatever holds the sockets may not answer; then nothing is known.
            if let Ok(false) = ports.sockets.is_open(&connection).await {
                seen.closed_socket = Some(connection);
            }
        }
        for mission in &record.missions {
            let Ok(job) = mission.parse::<JobId>() else {
                continue;
            };
            let known = ports.jobs.get(&job).await?;
            if known.is_some_and(|it| it.end.is_none() && it.stop.is_none()) {
                seen.jobs.push(job);
            }
        }
        Ok(Some(seen))
    }
}
