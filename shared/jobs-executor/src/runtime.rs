//! The runtime `executor`, as steps see it.

use std::time::Duration;

use async_trait::async_trait;
use serde_json::{Map, json};
use towpath_engine::{Artifact, CallQuestion, JobId};
use towpath_executors::{DispatchPayload, ExecutorFilter, HitlResponsePayload, MissionState};
use towpath_jobs::{
    Contract, ExecutorDemands, JobRequest, JobSnapshot, JobStatus, LogPage, LogPosition, Runtime,
    StartError, Started, Unreadable, Work, error_class,
};
use towpath_store::{Error, JobRecord, JobStop, MissionRecord};

use crate::Refused;
use crate::missions::{ForJob, Missions};
use crate::operate::Operator;

/// The time that an executor has, besides the grace of its mission, to say that the mission has ended.
const TELLING: Duration = Duration::from_secs(60);
/// The condition under which a mission is completed whose step says none.
const COMPLETION: &str = "The objective is met, and the answer says how.";

/// The runtime of kind `executor`. Cheap to clone.
#[derive(Clone)]
pub struct ExecutorRuntime {
    missions: Missions,
    operator: Operator,
}

impl ExecutorRuntime {
    pub(crate) fn new(missions: Missions, operator: Operator) -> Self {
        Self { missions, operator }
    }

    async fn record(&self, job: &JobId) -> Result<Option<JobRecord>, Unreadable> {
        self.missions.ports.jobs.get(job).await.map_err(unreadable)
    }

    async fn begin(&self, request: &JobRequest) -> Result<JobRecord, StartError> {
        let new = JobRecord::of(request);
        let jobs = &self.missions.ports.jobs;
        if jobs.begin(&new).await.map_err(unavailable)? {
            return Ok(new);
        }
        let found = jobs.get(&request.job).await.map_err(unavailable)?;
        let gone = || StartError::Unavailable(format!("the record of {} is gone", request.job));
        found.ok_or_else(gone)
    }

    /// Records the end of a job that its executor did not end, and returns the end that is on record.
    async fn conclude(
        &self,
        record: &JobRecord,
        end: &JobSnapshot,
    ) -> Result<Option<JobSnapshot>, Unreadable> {
        let jobs = &self.missions.ports.jobs;
        let now = self.missions.now().0;
        jobs.end(record, end, now).await.map_err(unreadable)?;
        match self.record(&record.job).await? {
            Some(now) => jobs.ended(&now).await.map_err(unreadable),
            None => Ok(None),
        }
    }

    /// The status of a job that is not over.
    async fn live(&self, record: &JobRecord) -> Result<Option<JobSnapshot>, Unreadable> {
        let Some(workspace) = &record.workspace else {
            // A tombstone.
            return match &record.stop {
                Some(_) => self.conclude(record, &stopped()).await,
                None => Ok(None),
            };
        };
        let mission = self.missions.of_job(workspace, &record.job).await;
        let Some(mission) = mission.map_err(unreadable)? else {
            return match &record.stop {
                Some(_) => self.conclude(record, &stopped()).await,
                None => Ok(None),
            };
        };
        if mission.state.is_terminal() {
            return self.conclude(record, &end_of(&mission)).await;
        }
        if let Some(stop) = &record.stop {
            return self.stopping(record, &mission, stop).await;
        }
        let status = match mission.state {
            MissionState::Queued => return self.queued(&mission).await.map(Some),
            MissionState::Assigned => JobStatus::Provisioning,
            _ => JobStatus::Running,
        };
        let question = mission.question.map(|asked| {
            let context = asked.context.filter(|it| !it.trim().is_empty());
            let question = match context {
                Some(context) => format!("{}\n\n{context}", asked.prompt),
                None => asked.prompt,
            };
            Box::new(CallQuestion {
                id: asked.hitl_id,
                question,
            })
        });
        Ok(Some(JobSnapshot {
            question,
            ..JobSnapshot::of(status)
        }))
    }

    /// A mission that waits may find an executor now.
    async fn queued(&self, mission: &MissionRecord) -> Result<JobSnapshot, Unreadable> {
        let retried = self.missions.retry(mission).await.map_err(unreadable)?;
        Ok(match retried {
            Ok(_) => JobSnapshot::of(JobStatus::Provisioning),
            Err(why) => JobSnapshot {
                waits_for: Some(why.into()),
                ..JobSnapshot::of(JobStatus::Queued)
            },
        })
    }

    /// A job that was asked to stop is over when its executor says so, or has had the time to. Its token died with it, so
    /// nothing that the executor still does counts.
    async fn stopping(
        &self,
        record: &JobRecord,
        mission: &MissionRecord,
        stop: &JobStop,
    ) -> Result<Option<JobSnapshot>, Unreadable> {
        let grace = Duration::from_millis(stop.grace_ms).saturating_add(TELLING);
        if self.missions.now() < stop.at.plus(grace) {
            return Ok(Some(JobSnapshot::of(JobStatus::Stopping)));
        }
        let ended = self.conclude(record, &stopped()).await?;
        let why = "its executor did not say that it ended";
        let state = MissionState::Aborted;
        self.missions
            .end(mission, state, why)
            .await
            .map_err(unreadable)?;
        Ok(ended)
    }
}

#[async_trait]
impl Runtime for ExecutorRuntime {
    fn kind(&self) -> &'static str {
        "executor"
    }

    fn asks_for_manifest(&self) -> bool {
        true
    }

    async fn start(&self, request: &JobRequest) -> Result<Started, StartError> {
        let Work::Command(work) = &request.work else {
            let why =
                "the runtime `executor` runs commands, and cannot answer for a simulated agent";
            return Err(StartError::Refused(why.to_owned()));
        };
        let Some(demands) = &work.executor else {
            let why = "say which executors fit: `on: { executor: [CAPABILITY] }`";
            return Err(StartError::Refused(why.to_owned()));
        };
        if request.job.number().is_none() {
            let why = format!("the job {} is of release 0.1.0; retry its run", request.job);
            return Err(StartError::Refused(why));
        }
        let dispatch = dispatch(request, demands).map_err(StartError::Refused)?;
        let record = self.begin(request).await?;
        if record.stop.is_some() || record.end.is_some() {
            return Ok(Started::Accepted);
        }
        let asked = self
            .missions
            .for_job(&record, &request.workspace, dispatch)
            .await;
        match asked.map_err(unavailable)? {
            ForJob::Given | ForJob::Closed => Ok(Started::Accepted),
            ForJob::Waits(why) => Err(StartError::NoRoom(why)),
        }
    }

    async fn status(&self, job: &JobId) -> Result<Option<JobSnapshot>, Unreadable> {
        if job.number().is_none() {
            return Ok(None);
        }
        let Some(record) = self.record(job).await? else {
            return Ok(None);
        };
        let ended = self.missions.ports.jobs.ended(&record).await;
        match ended.map_err(unreadable)? {
            Some(end) => Ok(Some(end)),
            None => self.live(&record).await,
        }
    }

    async fn stop(&self, job: &JobId, grace: Duration) -> Result<(), Unreadable> {
        if job.number().is_none() {
            return Ok(());
        }
        let stop = JobStop {
            at: self.missions.now(),
            grace_ms: u64::try_from(grace.as_millis()).unwrap_or(u64::MAX),
        };
        let asked = self.missions.ports.jobs.ask_stop(job, &stop).await;
        let record = asked.map_err(unreadable)?;
        if record.end.is_some() {
            return Ok(());
        }
        let mission = match &record.workspace {
            Some(workspace) => self.missions.of_job(workspace, job).await,
            None => Ok(None),
        };
        let Some(mission) = mission.map_err(unreadable)? else {
            // No executor has it, and none will: a mission is not made for a job that is to stop.
            return self.conclude(&record, &stopped()).await.map(|_| ());
        };
        let reason = "the run does not need it any more";
        let asked = self.missions.ask_end(mission, "system", reason, grace);
        let mission = asked.await.map_err(unreadable)?;
        if mission.state.is_terminal() {
            self.conclude(&record, &stopped()).await?;
        }
        Ok(())
    }

    async fn answer(&self, job: &JobId, question: &str, answer: &str) -> Result<(), Unreadable> {
        let Some(record) = self.record(job).await? else {
            return Ok(());
        };
        let Some(workspace) = &record.workspace else {
            return Ok(());
        };
        let said = HitlResponsePayload {
            hitl_id: question.to_owned(),
            response: answer.to_owned(),
        };
        let told = self
            .operator
            .store_answer(workspace, job.as_str(), &said)
            .await;
        match told {
            // It does not ask this any more, or somebody else has answered.
            Ok(_) | Err(Refused::WrongState(_) | Refused::NotFound(_)) => Ok(()),
            Err(other) => Err(Unreadable(other.to_string())),
        }
    }

    async fn tail_logs(&self, job: &JobId, lines: usize) -> Result<Option<String>, Unreadable> {
        let jobs = &self.missions.ports.jobs;
        jobs.log_tail(job, lines).await.map_err(unreadable)
    }

    async fn read_log(
        &self,
        job: &JobId,
        after: LogPosition,
    ) -> Result<Option<LogPage>, Unreadable> {
        let log = self.missions.ports.jobs.log(job, after).await;
        Ok(log.map_err(unreadable)?.map(|(page, _)| page))
    }

    /// The executor has put it into the bucket.
    async fn read_artifact(&self, _: &Artifact) -> Result<Option<Vec<u8>>, Unreadable> {
        Ok(None)
    }
}

/// What an executor is asked for.
fn dispatch(request: &JobRequest, demands: &ExecutorDemands) -> Result<DispatchPayload, String> {
    let contract: Contract = serde_json::from_value(request.context.clone())
        .map_err(|error| format!("the work contract cannot be read: {error}"))?;
    let mission_id = request.job.as_str().parse();
    let capabilities = demands.capabilities.iter().map(|it| it.parse());
    let capabilities: Result<_, _> = capabilities.collect();
    let told = &contract.objective;
    let objective = match told.description.trim() {
        "" => told.title.clone(),
        description => format!("{}\n\n{description}", told.title),
    };
    let towpath = json!({
        "job": contract.job,
        "run": contract.run,
        "step": contract.step,
        "attempt": contract.attempt,
        "role": contract.role,
        "agent_kind": contract.agent_kind,
        "block": told.block,
        "branch": contract.branch,
    });
    let metadata = Map::from_iter([("towpath".to_owned(), towpath)]);
    Ok(DispatchPayload {
        mission_id: mission_id.map_err(|error| format!("{error}"))?,
        objective: bounded(&objective),
        completion: demands
            .completion
            .clone()
            .unwrap_or_else(|| COMPLETION.to_owned()),
        long_running: demands.long_running,
        executor_filter: Some(ExecutorFilter {
            executor_id: None,
            capabilities: capabilities.map_err(|error| format!("{error}"))?,
        }),
        metadata,
    })
}

/// A text that is not empty and fits into a message.
fn bounded(text: &str) -> String {
    /// The most characters.
    const MOST: usize = 200 * 1024;
    match text.is_empty() {
        true => "(no objective)".to_owned(),
        false => text.chars().take(MOST).collect(),
    }
}

/// The end of a job whose mission is over.
fn end_of(mission: &MissionRecord) -> JobSnapshot {
    let why = mission.error.clone();
    let why = why.unwrap_or_else(|| format!("the mission is {}", mission.state));
    match mission.state {
        MissionState::Done => JobSnapshot::of(JobStatus::Terminated),
        MissionState::Aborted => JobSnapshot::ended_badly(error_class::STOPPED, why),
        _ => JobSnapshot::ended_badly(error_class::EVICTED, why),
    }
}

fn stopped() -> JobSnapshot {
    JobSnapshot::ended_badly(
        error_class::STOPPED,
        "the job was stopped before it began, or while it ran",
    )
}

fn unreadable(error: Error) -> Unreadable {
    Unreadable(error.to_string())
}

fn unavailable(error: Error) -> StartError {
    StartError::Unavailable(error.to_string())
}
