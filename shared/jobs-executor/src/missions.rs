//! Missions: given to executors, looked at, and ended from our side.

use std::time::Duration;

use serde_json::json;
use towpath_engine::{JobId, Timestamp, WorkspaceId};
use towpath_executors::{
    DispatchPayload, DispatchResponse, MissionId, MissionState, MissionStatusResponse, NobodyFits,
};
use towpath_jobs::{JobSnapshot, error_class};
use towpath_store::{Change, Error, ExecutorRecord, JobRecord, MissionRecord};

use crate::delivery::{Delivery, event_message};
use crate::place::{Placed, Places};
use crate::view::{holder, mission_status};
use crate::{Ports, RACES, Refused, why};

/// The most events that a mission is shown with.
const RECENT: i32 = 50;

/// Gives missions to executors.
#[derive(Clone)]
pub struct Missions {
    pub(crate) ports: Ports,
    delivery: Delivery,
    places: Places,
}

/// The outcome of asking for a mission for a job.
pub(crate) enum ForJob {
    /// An executor has the mission, or it is over.
    Given,
    /// The mission waits: no executor fits, for this reason.
    Waits(String),
    /// The job is to stop, or over: it gets no mission.
    Closed,
}

impl Missions {
    pub(crate) fn new(ports: Ports, delivery: Delivery) -> Self {
        Self {
            places: Places::new(ports.clone(), delivery.clone()),
            delivery,
            ports,
        }
    }

    /// Dispatches a caller's own mission. The same again is answered as before.
    ///
    /// # Errors
    /// [`Refused::MissionMismatch`] if the id was used for another dispatch; [`Refused::NobodyFits`].
    pub async fn dispatch(
        &self,
        workspace: &WorkspaceId,
        session: &str,
        dispatch: DispatchPayload,
    ) -> Result<DispatchResponse, Refused> {
        if dispatch.mission_id.as_str().starts_with("job_") {
            let message = "mission_id: ids that begin with job_ are those of runs; choose another";
            return Err(Refused::Invalid(message.to_owned()));
        }
        for _ in 0..RACES {
            let found = self.ports.missions.get(workspace, &dispatch.mission_id);
            if let Some(found) = found.await? {
                return match found.dispatch == dispatch && found.session == session {
                    true => Ok(dispatched(&found)),
                    false => Err(Refused::MissionMismatch(found.mission.to_string())),
                };
            }
            let new = self.new_mission(workspace, session, dispatch.clone(), None);
            match self.places.place(&new, true).await? {
                Placed::Given(mission) => return Ok(dispatched(&mission)),
                Placed::Lost => {}
                Placed::Nobody(NobodyFits {
                    only_resumable_missing,
                    rejected,
                }) => {
                    return Err(Refused::NobodyFits {
                        only_resumable_missing,
                        message: why(&rejected),
                    });
                }
            }
        }
        Err(Refused::Busy)
    }

    fn new_mission(
        &self,
        workspace: &WorkspaceId,
        session: &str,
        dispatch: DispatchPayload,
        job: Option<JobId>,
    ) -> MissionRecord {
        let now = self.ports.now();
        MissionRecord {
            mission: dispatch.mission_id.clone(),
            workspace: workspace.clone(),
            rev: 0,
            state: MissionState::Queued,
            session: session.to_owned(),
            dispatch,
            job,
            executor: None,
            selection: None,
            dispatched_as: None,
            created_at: now,
            updated_at: now,
            completed_at: None,
            told_at: None,
            checkpoint: None,
            pty: None,
            exit_code: None,
            error: None,
            percent: None,
            question: None,
        }
    }

    /// Sees to it that a job of a run has a mission: at an executor, or waiting for one. The same again changes nothing.
    pub(crate) async fn for_job(
        &self,
        record: &JobRecord,
        workspace: &WorkspaceId,
        dispatch: DispatchPayload,
    ) -> Result<ForJob, Error> {
        let session = record.job.run().to_string();
        for _ in 0..RACES {
            let known = self.of_job(workspace, &record.job).await?;
            let (mission, is_new) = match known {
                Some(known) if known.state != MissionState::Queued => {
                    return Ok(ForJob::Given);
                }
                Some(known) => (known, false),
                None => {
                    let (dispatch, job) = (dispatch.clone(), Some(record.job.clone()));
                    (self.new_mission(workspace, &session, dispatch, job), true)
                }
            };
            let nobody = match self.places.place(&mission, is_new).await? {
                Placed::Given(_) => return Ok(ForJob::Given),
                Placed::Nobody(nobody) => nobody,
                Placed::Lost => match self.is_closed(&record.job).await? {
                    true => return Ok(ForJob::Closed),
                    false => continue,
                },
            };
            let reason = why(&nobody.rejected);
            if !is_new {
                return Ok(ForJob::Waits(reason));
            }
            let alone = Change::default();
            let queued = self.ports.missions.commit(None, &mission, &alone);
            if queued.await? {
                // An executor that came meanwhile has not seen it in the queue.
                return Ok(match self.places.place(&mission, false).await? {
                    Placed::Given(_) => ForJob::Given,
                    Placed::Nobody(_) | Placed::Lost => ForJob::Waits(reason),
                });
            }
            if self.is_closed(&record.job).await? {
                return Ok(ForJob::Closed);
            }
        }
        Err(Error::Conflict)
    }

    async fn is_closed(&self, job: &JobId) -> Result<bool, Error> {
        let record = self.ports.jobs.get(job).await?;
        Ok(record.is_none_or(|it| it.stop.is_some() || it.end.is_some()))
    }

    /// The mission of a job.
    pub(crate) async fn of_job(
        &self,
        workspace: &WorkspaceId,
        job: &JobId,
    ) -> Result<Option<MissionRecord>, Error> {
        match job.as_str().parse::<MissionId>() {
            Ok(mission) => self.ports.missions.get(workspace, &mission).await,
            Err(_) => Ok(None),
        }
    }

    /// Tries again to give a mission that waits to an executor. Returns it if it was given, else why it was not.
    pub(crate) async fn retry(
        &self,
        mission: &MissionRecord,
    ) -> Result<Result<MissionRecord, String>, Error> {
        Ok(match self.places.place(mission, false).await? {
            Placed::Given(mission) => Ok(*mission),
            Placed::Nobody(nobody) => Err(why(&nobody.rejected)),
            Placed::Lost => Err("its executor is being chosen".to_owned()),
        })
    }

    /// Gives missions that wait to executors, after something has changed with this one.
    ///
    /// # Errors
    /// If the records cannot be reached.
    pub async fn serve_queue(&self, of: &ExecutorRecord) -> Result<(), Error> {
        self.places.serve_queue(of).await.map(|_| ())
    }

    /// A mission, as the contract shows it.
    ///
    /// # Errors
    /// If the workspace has no such mission.
    pub async fn status(
        &self,
        workspace: &WorkspaceId,
        id: &str,
    ) -> Result<MissionStatusResponse, Refused> {
        let mission = self.get(workspace, id).await?;
        let events = self.ports.missions.events(&mission, RECENT).await?;
        Ok(mission_status(&mission, events))
    }

    pub(crate) async fn get(
        &self,
        workspace: &WorkspaceId,
        id: &str,
    ) -> Result<MissionRecord, Refused> {
        let unknown = || Refused::NotFound(format!("there is no mission {id}"));
        let mission: MissionId = id.parse().map_err(|_| unknown())?;
        let found = self.ports.missions.get(workspace, &mission).await?;
        found.ok_or_else(unknown)
    }

    /// Asks the executor of a mission to end it. One that no executor has is ended at once. Returns the mission as it then is.
    pub(crate) async fn ask_end(
        &self,
        mission: MissionRecord,
        by: &'static str,
        reason: &str,
        grace: Duration,
    ) -> Result<MissionRecord, Error> {
        let mut mission = mission;
        for _ in 0..RACES {
            if mission.state.is_terminal() {
                return Ok(mission);
            }
            let Some(executor) = mission.executor.clone() else {
                match self.end(&mission, MissionState::Aborted, reason).await? {
                    Some(ended) => return Ok(ended),
                    None => {
                        mission = self.again(&mission).await?;
                        continue;
                    }
                }
            };
            let now = self.ports.now();
            let data = json!({ "state": "aborted", "aborted_by": by, "reason": reason });
            let name = format!("abort.{}", grace.as_millis());
            let message = event_message(&mission, &executor, "mission.aborted", &name, data, now);
            let after = MissionRecord {
                rev: mission.rev + 1,
                updated_at: now,
                ..mission.clone()
            };
            let change = Change {
                messages: vec![message.clone()],
                ..Change::default()
            };
            let committed = self.ports.missions.commit(Some(&mission), &after, &change);
            if committed.await? {
                let executor = self
                    .ports
                    .executors
                    .get(&after.workspace, &executor)
                    .await?;
                if let Some(executor) = executor {
                    self.delivery.push(&executor, &message).await;
                }
                return Ok(after);
            }
            mission = self.again(&mission).await?;
        }
        Err(Error::Conflict)
    }

    /// Ends a mission from our side. `None`: it is not any more as it was.
    pub(crate) async fn end(
        &self,
        mission: &MissionRecord,
        state: MissionState,
        reason: &str,
    ) -> Result<Option<MissionRecord>, Error> {
        let now = self.ports.now();
        let after = MissionRecord {
            state,
            error: Some(reason.to_owned()),
            question: None,
            completed_at: Some(now),
            updated_at: now,
            rev: mission.rev + 1,
            ..mission.clone()
        };
        let change = Change::default();
        let ended = self.ports.missions.commit(Some(mission), &after, &change);
        Ok(ended.await?.then_some(after))
    }

    /// Ends a mission that its executor will not end, and its job before it: as lost, so that the run calls again.
    pub(crate) async fn lose(&self, mission: &MissionRecord, reason: &str) -> Result<(), Error> {
        let lost = JobSnapshot::ended_badly(error_class::EVICTED, reason);
        self.end_job(mission, &lost).await?;
        let mut mission = mission.clone();
        for _ in 0..RACES {
            if mission.state.is_terminal() {
                return Ok(());
            }
            match self.end(&mission, MissionState::Failed, reason).await? {
                Some(_) => return Ok(()),
                None => mission = self.again(&mission).await?,
            }
        }
        Err(Error::Conflict)
    }

    /// Fails a mission whose question was not answered in time, and tells its executor.
    pub(crate) async fn expire(&self, mission: MissionRecord) -> Result<(), Error> {
        let why = "its question was not answered in time";
        let failed = JobSnapshot::ended_badly(error_class::TIMED_OUT, why);
        self.end_job(&mission, &failed).await?;
        let ended = self.end(&mission, MissionState::Failed, why).await?;
        let ended = ended.ok_or(Error::Conflict)?;
        let Some(to) = &ended.executor else {
            return Ok(());
        };
        let executor = self.ports.executors.get(&ended.workspace, to).await?;
        if let Some(executor) = executor {
            let data = json!({ "state": "aborted", "aborted_by": "system", "reason": why });
            let now = self.ports.now();
            let message = event_message(&ended, to, "mission.aborted", "over", data, now);
            self.delivery.push(&executor, &message).await;
        }
        Ok(())
    }

    /// Records the end of a mission's job, unless it has one, and tells it.
    pub(crate) async fn end_job(
        &self,
        mission: &MissionRecord,
        end: &JobSnapshot,
    ) -> Result<(), Error> {
        self.record_end(mission, end).await?;
        self.tell_run(mission).await;
        Ok(())
    }

    /// Records the end of a mission's job, unless it has one.
    pub(crate) async fn record_end(
        &self,
        mission: &MissionRecord,
        end: &JobSnapshot,
    ) -> Result<(), Error> {
        let Some(job) = &mission.job else {
            return Ok(());
        };
        match self.ports.jobs.get(job).await? {
            Some(record) if record.end.is_none() => {
                let ended = self.ports.jobs.end(&record, end, self.ports.now().0);
                ended.await.map(|_| ())
            }
            _ => Ok(()),
        }
    }

    /// Tells the run of a mission that there is news of its job. What is not told is found by the tick.
    pub(crate) async fn tell_run(&self, mission: &MissionRecord) {
        if let Some(job) = &mission.job {
            self.ports.news.tell(job).await;
        }
    }

    pub(crate) async fn again(&self, mission: &MissionRecord) -> Result<MissionRecord, Error> {
        let found = self
            .ports
            .missions
            .get(&mission.workspace, &mission.mission);
        let gone = || Error::Broken(format!("the mission {} is gone", mission.mission));
        found.await?.ok_or_else(gone)
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.ports.now()
    }
}

fn dispatched(mission: &MissionRecord) -> DispatchResponse {
    DispatchResponse {
        mission_id: mission.mission.clone(),
        executor_id: holder(mission),
        status: mission.state,
        estimated_start: None,
        selection: mission.selection.clone(),
    }
}
