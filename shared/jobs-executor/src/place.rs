//! The choice of an executor for a mission, and the handing over.

use towpath_executors::{ExecutorFilter, MissionState, NobodyFits, RejectedExecutor, select};
use towpath_store::{Change, Error, ExecutorRecord, MissionRecord};

use crate::delivery::{Delivery, dispatch_message};
use crate::view::{candidate, most};
use crate::{Ports, RACES};

/// The outcome of a try to give a mission to an executor.
pub(crate) enum Placed {
    /// An executor has it.
    Given(Box<MissionRecord>),
    /// No executor fits; nothing is written.
    Nobody(NobodyFits),
    /// The mission, its job or the executor changed meanwhile: look again.
    Lost,
}

/// Gives missions to executors.
#[derive(Clone)]
pub(crate) struct Places {
    ports: Ports,
    delivery: Delivery,
}

impl Places {
    pub(crate) fn new(ports: Ports, delivery: Delivery) -> Self {
        Self { ports, delivery }
    }

    /// Gives a mission to the executor that fits best: one that waits, or, with `is_new`, one that has no record yet.
    pub(crate) async fn place(
        &self,
        mission: &MissionRecord,
        is_new: bool,
    ) -> Result<Placed, Error> {
        let mut full: Vec<RejectedExecutor> = Vec::new();
        for _ in 0..RACES {
            let now = self.ports.now();
            let executors = self.ports.executors.list(&mission.workspace).await?;
            let any = ExecutorFilter::default();
            let filter = mission.dispatch.executor_filter.as_ref().unwrap_or(&any);
            let candidates: Vec<_> = executors.iter().map(|it| candidate(it, now)).collect();
            let selected = match select(&candidates, filter, mission.dispatch.long_running) {
                Ok(selected) => selected,
                Err(mut nobody) => {
                    nobody.rejected.append(&mut full);
                    return Ok(Placed::Nobody(nobody));
                }
            };
            let Some(executor) = executors.iter().find(|it| it.executor == selected.id) else {
                continue;
            };
            let mut after = MissionRecord {
                state: MissionState::Assigned,
                executor: Some(selected.id.clone()),
                selection: Some(selected.selection),
                updated_at: now,
                rev: mission.rev + 1,
                ..mission.clone()
            };
            let message = dispatch_message(&after, &selected.id, None, now);
            after.dispatched_as = Some(message.key());
            let change = Change {
                messages: vec![message.clone()],
                most: most(executor),
                ..Change::default()
            };
            let before = (!is_new).then_some(mission);
            if self.ports.missions.commit(before, &after, &change).await? {
                self.delivery.push(executor, &message).await;
                return Ok(Placed::Given(Box::new(after)));
            }
            if self.has_changed(mission, is_new).await? {
                return Ok(Placed::Lost);
            }
        }
        Err(Error::Conflict)
    }

    /// Whether a mission is not any more as it was, or its job takes none.
    async fn has_changed(&self, mission: &MissionRecord, is_new: bool) -> Result<bool, Error> {
        let found = self
            .ports
            .missions
            .get(&mission.workspace, &mission.mission);
        let found = found.await?;
        let job = match (&mission.job, is_new) {
            (Some(job), true) => self.ports.jobs.get(job).await?,
            _ => None,
        };
        let closed = job.is_some_and(|it| it.stop.is_some() || it.end.is_some());
        Ok(closed
            || match found {
                None => !is_new,
                Some(found) => is_new || found.rev != mission.rev,
            })
    }

    /// Gives the missions of a workspace that wait to executors that fit, the oldest first. Returns those that were given.
    pub(crate) async fn serve_queue(
        &self,
        of: &ExecutorRecord,
    ) -> Result<Vec<MissionRecord>, Error> {
        /// The most missions that are looked at, at once.
        const LOOKED_AT: i32 = 50;
        let mut given = Vec::new();
        let queued = self.ports.missions.queued(&of.workspace, LOOKED_AT);
        for id in queued.await? {
            let found = self.ports.missions.get(&of.workspace, &id).await?;
            let Some(mission) = found.filter(|it| it.state == MissionState::Queued) else {
                continue;
            };
            if let Placed::Given(mission) = self.place(&mission, false).await? {
                given.push(*mission);
            }
        }
        for mission in &given {
            if let Some(job) = &mission.job {
                self.ports.news.tell(job).await;
            }
        }
        Ok(given)
    }
}
