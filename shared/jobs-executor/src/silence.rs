//! Executors of which nothing is heard.
//!
//! | nothing was heard for | an executor that is `resumable` | any other |
//! | --- | --- | --- |
//! | 90 s | its missions are suspended | its missions are lost, and their runs call again |
//! | 24 h | it is removed, and its missions are lost | it is removed |

use std::time::Duration;

use towpath_engine::WorkspaceId;
use towpath_executors::{DeregisterReason, ExecutorId, MissionState};
use towpath_store::{Change, Error, ExecutorRecord, MissionRecord};

use crate::delivery::Delivery;
use crate::missions::Missions;
use crate::registrar::Registrar;
use crate::view::{SILENT, is_heard, is_resumable};
use crate::{Ports, RACES, Refused};

/// The time after which a silent executor is removed.
const GONE: Duration = Duration::from_secs(24 * 3600);
/// The time between two looks at an executor that is silent and has nothing to lose.
const SELDOM: Duration = Duration::from_secs(3600);

/// Sees to executors of which nothing is heard.
#[derive(Clone)]
pub struct Silence {
    ports: Ports,
    missions: Missions,
    delivery: Delivery,
    registrar: Registrar,
}

impl Silence {
    pub(crate) fn new(ports: Ports, missions: Missions, delivery: Delivery) -> Self {
        Self {
            registrar: Registrar::new(ports.clone(), missions.clone(), delivery.clone()),
            ports,
            missions,
            delivery,
        }
    }

    /// Looks at an executor when it is time.
    ///
    /// # Errors
    /// If the records cannot be reached; the tick looks again.
    pub async fn look(&self, workspace: &WorkspaceId, id: &ExecutorId) -> Result<(), Error> {
        let Some(mut executor) = self.ports.executors.get(workspace, id).await? else {
            return Ok(());
        };
        let now = self.ports.now();
        if !is_heard(&executor, now) && self.is_open(&executor).await {
            // An executor without the extension has nothing to say for as long as its missions are quiet.
            self.ports
                .executors
                .heard(workspace, id, false, now)
                .await?;
            executor.heard_at = now;
        }
        if is_heard(&executor, now) {
            let overdue = Delivery::overdue(now);
            self.delivery.push_all(&executor, overdue).await?;
            let due = executor.heard_at.plus(SILENT).max(now.plus(SILENT / 3));
            return self.ports.executors.look_at(&executor, due).await;
        }
        if now.since(executor.heard_at) >= GONE {
            let timeout = DeregisterReason::Timeout;
            return match self
                .registrar
                .deregister(workspace, id.as_str(), timeout)
                .await
            {
                Ok(()) | Err(Refused::NotFound(_)) => Ok(()),
                Err(Refused::Failed(error)) => Err(error),
                Err(_) => Err(Error::Conflict),
            };
        }
        for mission in executor.missions.clone() {
            match self.missions.get(workspace, &mission).await {
                Ok(mission) => self.see_to(&executor, mission).await?,
                Err(Refused::Failed(error)) => return Err(error),
                Err(_) => {}
            }
        }
        let due = now.plus(SELDOM).min(executor.heard_at.plus(GONE));
        self.ports.executors.look_at(&executor, due).await
    }

    async fn is_open(&self, executor: &ExecutorRecord) -> bool {
        let Some(connection) = &executor.connection else {
            return false;
        };
        // Whoever takes dispatches pings.
        !executor.takes_dispatches
            && self
                .ports
                .sockets
                .is_open(connection)
                .await
                .unwrap_or(false)
    }

    /// Sees to a mission of a silent executor.
    async fn see_to(&self, of: &ExecutorRecord, mission: MissionRecord) -> Result<(), Error> {
        if !is_resumable(of) {
            let name = &of.registration.name;
            let why = format!("nothing was heard of its executor {name} for 90 s");
            return self.missions.lose(&mission, &why).await;
        }
        let mut mission = mission;
        for _ in 0..RACES {
            if mission.state.is_terminal() || mission.state == MissionState::Suspended {
                return Ok(());
            }
            let after = MissionRecord {
                state: MissionState::Suspended,
                rev: mission.rev + 1,
                updated_at: self.ports.now(),
                ..mission.clone()
            };
            let change = Change::default();
            let committed = self.ports.missions.commit(Some(&mission), &after, &change);
            if committed.await? {
                return Ok(());
            }
            mission = self.missions.again(&mission).await?;
        }
        Err(Error::Conflict)
    }

    /// Ends a mission whose question was not answered in time.
    ///
    /// # Errors
    /// If the records cannot be reached; the tick looks again.
    pub async fn expire(&self, workspace: &WorkspaceId, id: &str) -> Result<(), Error> {
        let mission = match self.missions.get(workspace, id).await {
            Ok(mission) => mission,
            Err(Refused::Failed(error)) => return Err(error),
            Err(_) => return Ok(()),
        };
        let until = mission.question.as_ref().and_then(|it| it.until);
        if mission.state.is_terminal() || until.is_none_or(|until| self.ports.now() < until) {
            return Ok(());
        }
        self.missions.expire(mission).await
    }
}
