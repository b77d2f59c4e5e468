//! Runtimes whose jobs run on machines of a service: each machine carries one job out, by `towpath runner`.
//!
//! What is known of a job is its record ([`JobRecord`]), which any process reads; the service is asked what only it knows.
//! A service is a [`Substrate`]; everything else is here.
//!
//! | the record has | and the machine is | the job |
//! | --- | --- | --- |
//! | nothing | | was never started |
//! | what was asked for, no `handle` | perhaps there | was never started: a start asks for the same again, and is given the same machine |
//! | a `handle`, no claim | waiting or being prepared | is queued or provisioning |
//! | a claim | in progress | runs, or stops |
//! | no end | over | is lost: that is recorded, behind the last of its events |
//! | an `end` | any | is over, and this is how |
//!
//! The work begins with a claim: a machine exchanges the job's start code for a token of its own, and of several machines
//! that a job may have got (a service remembers a start for a while only) one gets it, the others end at once. So a stop
//! needs no machine to be found: where nothing has claimed the job, its record's end keeps everything from beginning.

mod bootstrap;
mod spec;
mod substrate;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use serde_json::Value;
use sha2::{Digest, Sha256};
use towpath_auth::Secret;
use towpath_clock::Clock;
use towpath_engine::{Artifact, JobId, Timestamp};
use towpath_jobs::{
    JobRequest, JobSnapshot, JobStatus, LogPage, LogPosition, Runtime, StartError, Started,
    Unreadable, Work, error_class,
};
use towpath_store::{JobRecord, JobRecords, JobStop};

pub use bootstrap::*;
pub use spec::*;
pub use substrate::*;

/// The time for which a start code is good after its machine was last seen waiting.
const CODE_VALID: Duration = Duration::from_secs(600);
/// The time of a code's life that has to be left for it not to be renewed.
const CODE_LEFT: Duration = Duration::from_secs(300);
/// The time that a runner has, besides the grace of its command, to tell how the job ended after it was asked to stop.
const TELLING: Duration = Duration::from_secs(60);

/// The variable that names the job to its runner.
pub const JOB: &str = "TOWPATH_RUN_ID";
/// The variable that holds the code which the runner exchanges for its token.
pub const CODE: &str = "TOWPATH_START_CODE";

/// The codes by which runners prove themselves, once: made of the job's id and a key of the deployment, so that a
/// repeated start has the same.
#[async_trait]
pub trait StartCodes: Send + Sync {
    /// The code of a job.
    ///
    /// # Errors
    /// If the key cannot be read.
    async fn code(&self, job: &JobId) -> Result<Secret, Unreadable>;
}

/// The runtime of a substrate. Cheap to clone.
#[derive(Clone)]
pub struct RemoteRuntime {
    records: JobRecords,
    substrate: Arc<dyn Substrate>,
    codes: Arc<dyn StartCodes>,
    clock: Clock,
}

/// The hash under which a start code or a runner's token is kept.
pub fn hash(secret: &str) -> String {
    format!("{:x}", Sha256::digest(secret.as_bytes()))
}

impl RemoteRuntime {
    /// The runtime whose jobs run on machines of this substrate.
    pub fn new(
        records: JobRecords,
        substrate: Arc<dyn Substrate>,
        codes: Arc<dyn StartCodes>,
        clock: Clock,
    ) -> Self {
        Self {
            records,
            substrate,
            codes,
            clock,
        }
    }

    fn now(&self) -> Timestamp {
        Timestamp(self.clock.now_ms())
    }

    async fn record(&self, job: &JobId) -> Result<Option<JobRecord>, Unreadable> {
        self.records.get(job).await.map_err(unwritable)
    }

    /// Begins the record of a job, or finds the one that it has.
    async fn begin(
        &self,
        request: &JobRequest,
        spec: &Value,
        code: &Secret,
    ) -> Result<JobRecord, StartError> {
        let new = JobRecord {
            spec: Some(spec.clone()),
            code_hash: Some(hash(code.expose())),
            code_until: Some(self.now().plus(CODE_VALID)),
            ..JobRecord::of(request)
        };
        if self.records.begin(&new).await.map_err(unavailable)? {
            return Ok(new);
        }
        let found = self.records.get(&request.job).await.map_err(unavailable)?;
        let gone = || StartError::Unavailable(format!("the record of {} is gone", request.job));
        found.ok_or_else(gone)
    }

    /// Asks for the machine of a job. Everything in the order follows from the job's record and id.
    async fn ask(
        &self,
        record: &JobRecord,
        spec: &Value,
        code: &Secret,
    ) -> Result<String, StartError> {
        let variables = BTreeMap::from([
            (JOB.to_owned(), record.job.to_string()),
            (CODE.to_owned(), code.expose().to_owned()),
        ]);
        let order = Order {
            job: &record.job,
            spec,
            variables,
        };
        self.substrate.start(&order).await
    }

    /// Records the end of a job whose runner did not, and returns the end that is on record.
    async fn conclude(
        &self,
        record: &JobRecord,
        end: &JobSnapshot,
    ) -> Result<JobSnapshot, Unreadable> {
        let ended = self.records.end(record, end, self.clock.now_ms()).await;
        ended.map_err(unwritable)?;
        let now = self.record(&record.job).await?;
        let ended = match &now {
            Some(now) => self.records.ended(now).await.map_err(unwritable)?,
            None => None,
        };
        let open = || Unreadable(format!("the end of {} is not recorded yet", record.job));
        ended.ok_or_else(open)
    }

    /// The status of a job that is not over, as its record and its machine tell.
    async fn live(&self, record: &JobRecord) -> Result<Option<JobSnapshot>, Unreadable> {
        let Some(handle) = record.worker() else {
            // Nothing has claimed it: asked to stop, it never will be.
            return match &record.stop {
                Some(_) => self.conclude(record, &stopped()).await.map(Some),
                None => Ok(None),
            };
        };
        let status = match (self.substrate.look(handle).await?, &record.stop) {
            (None, _) => {
                let end = self.lost(record, None);
                return self.conclude(record, &end).await.map(Some);
            }
            (Some(Seen::Over(over)), _) => {
                let end = self.lost(record, Some(&over));
                return self.conclude(record, &end).await.map(Some);
            }
            (Some(_), Some(_)) => JobStatus::Stopping,
            (Some(_), None) if record.claimed_by.is_some() => JobStatus::Running,
            (Some(Seen::Waiting), None) => JobStatus::Queued,
            (Some(Seen::Preparing | Seen::InProgress), None) => JobStatus::Provisioning,
        };
        let soon = self.now().plus(CODE_LEFT);
        let unclaimed = record.claimed_by.is_none() && record.stop.is_none();
        if unclaimed && record.code_until.is_none_or(|until| until < soon) {
            let until = self.now().plus(CODE_VALID);
            let renewed = self.records.renew_code(&record.job, until).await;
            renewed.map_err(unwritable)?;
        }
        Ok(Some(JobSnapshot::of(status)))
    }

    /// The end of a job whose machine is over, or gone, without a word of its runner.
    fn lost(&self, record: &JobRecord, over: Option<&Over>) -> JobSnapshot {
        if record.stop.is_some() {
            return stopped();
        }
        let Words { service, machine } = self.substrate.words();
        let Some(Over { cause, why }) = over else {
            let message = format!("{service} does not know the job's {machine} any more");
            return JobSnapshot::ended_badly(error_class::EVICTED, message);
        };
        let begun = record.claimed_by.is_some();
        let (class, what) = match cause {
            Cause::TimedOut if begun => {
                let what = "ran longer than it may".to_owned();
                (error_class::TIMED_OUT, what)
            }
            // Its turn did not come while it waited.
            Cause::TimedOut => (error_class::TIMED_OUT, "got no machine in time".to_owned()),
            Cause::Reclaimed => (error_class::RECLAIMED, format!("was ended by {service}")),
            Cause::Stopped => (error_class::EVICTED, format!("was stopped in {service}")),
            Cause::Failed if !begun => {
                let needs =
                    "failed before the job began; its image needs sh, curl, and git for a checkout";
                (error_class::START_FAILED, needs.to_owned())
            }
            Cause::Failed | Cause::Done => {
                let what = "ended without telling how the job did".to_owned();
                (error_class::EVICTED, what)
            }
        };
        let name = record.worker().unwrap_or_default();
        JobSnapshot::ended_badly(class, format!("the {machine} {name} {what}{why}"))
    }

    /// Ends the machine of a job that is asked to stop, where its runner cannot, or does not in time.
    async fn end_machine(&self, record: &JobRecord) -> Result<(), Unreadable> {
        let Some(handle) = record.worker() else {
            return Ok(());
        };
        let late = record.stop.as_ref().is_none_or(|stop| {
            let grace = Duration::from_millis(stop.grace_ms).saturating_add(TELLING);
            stop.at.plus(grace) <= self.now()
        });
        if record.claimed_by.is_none() || late {
            self.substrate.stop(handle).await?;
        }
        Ok(())
    }
}

#[async_trait]
impl Runtime for RemoteRuntime {
    fn kind(&self) -> &'static str {
        self.substrate.kind()
    }

    fn asks_for_manifest(&self) -> bool {
        true
    }

    async fn start(&self, request: &JobRequest) -> Result<Started, StartError> {
        let Work::Command(work) = &request.work else {
            let why = format!(
                "the runtime `{}` runs commands, and cannot answer for a simulated agent",
                self.kind()
            );
            return Err(StartError::Refused(why));
        };
        if request.job.number().is_none() {
            let why = format!("the job {} is of release 0.1.0; retry its run", request.job);
            return Err(StartError::Refused(why));
        }
        let spec = self.substrate.spec(request, work)?;
        let code = self.codes.code(&request.job).await;
        let code = code.map_err(|Unreadable(why)| StartError::Unavailable(why))?;
        let record = self.begin(request, &spec, &code).await?;
        if record.handle.is_some() || record.stop.is_some() || record.end.is_some() {
            return Ok(Started::Accepted);
        }
        // What was asked for first counts: services refuse the same token with other parameters.
        let spec = record.spec.as_ref().unwrap_or(&spec);
        let handle = self.ask(&record, spec, &code).await?;
        self.records
            .started(&request.job, &handle)
            .await
            .map_err(unavailable)?;
        // A stop that came in between did not know of the machine.
        let now = self.records.get(&request.job).await.map_err(unavailable)?;
        if now.is_some_and(|now| now.stop.is_some() && now.claimed_by.is_none())
            && let Err(error) = self.substrate.stop(&handle).await
        {
            tracing::warn!(job = %request.job, "a machine that has nothing to do runs until it learns so: {error}");
        }
        Ok(Started::Accepted)
    }

    async fn status(&self, job: &JobId) -> Result<Option<JobSnapshot>, Unreadable> {
        if job.number().is_none() {
            return Ok(None);
        }
        let Some(record) = self.record(job).await? else {
            return Ok(None);
        };
        match self.records.ended(&record).await.map_err(unwritable)? {
            Some(end) => Ok(Some(end)),
            None => self.live(&record).await,
        }
    }

    async fn stop(&self, job: &JobId, grace: Duration) -> Result<(), Unreadable> {
        if job.number().is_none() {
            return Ok(());
        }
        let stop = JobStop {
            at: self.now(),
            grace_ms: u64::try_from(grace.as_millis()).unwrap_or(u64::MAX),
        };
        let record = self.records.ask_stop(job, &stop).await;
        let record = record.map_err(unwritable)?;
        if record.end.is_some() {
            return Ok(());
        }
        self.end_machine(&record).await?;
        if record.claimed_by.is_none() {
            // Nothing can claim it any more, so it is over, whatever becomes of its machine.
            self.conclude(&record, &stopped()).await?;
        }
        Ok(())
    }

    /// Its jobs ask nothing while they are under way.
    async fn answer(&self, _: &JobId, _: &str, _: &str) -> Result<(), Unreadable> {
        Ok(())
    }

    async fn tail_logs(&self, job: &JobId, lines: usize) -> Result<Option<String>, Unreadable> {
        self.records.log_tail(job, lines).await.map_err(unwritable)
    }

    /// The runner has put it into the bucket.
    async fn read_artifact(&self, _: &Artifact) -> Result<Option<Vec<u8>>, Unreadable> {
        Ok(None)
    }

    async fn read_log(
        &self,
        job: &JobId,
        after: LogPosition,
    ) -> Result<Option<LogPage>, Unreadable> {
        let found = self.records.log(job, after).await.map_err(unwritable)?;
        Ok(found.map(|(page, record)| LogPage {
            console: record.worker().and_then(|it| self.substrate.console(it)),
            ..page
        }))
    }
}

fn stopped() -> JobSnapshot {
    JobSnapshot::ended_badly(error_class::STOPPED, "the job was stopped")
}

fn unavailable(error: towpath_store::Error) -> StartError {
    StartError::Unavailable(error.to_string())
}

fn unwritable(error: towpath_store::Error) -> Unreadable {
    Unreadable(error.to_string())
}

#[cfg(test)]
mod tests;
