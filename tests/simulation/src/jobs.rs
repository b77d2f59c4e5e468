//! Jobs in memory: they end well or badly, lose their place, find no room, and are watched for what must never happen.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use towpath_clock::Clock;
use towpath_engine::{Artifact, JobId};
use towpath_jobs::{
    Answer, JobRequest, JobSnapshot, JobStatus, LogPage, LogPosition, Runtime, StartError, Started,
    Unreadable, error_class,
};
use towpath_service::App;

use crate::chance::{Chance, mortal};
use crate::trace::Trace;
use crate::work::Work;

/// The runtime `process`, in memory. Cheap to clone.
#[derive(Clone)]
pub(crate) struct MemoryJobs(Arc<Inner>);

struct Inner {
    chance: Chance,
    trace: Trace,
    clock: Clock,
    work: Work,
    app: OnceLock<App>,
    jobs: Mutex<BTreeMap<JobId, Job>>,
}

struct Job {
    /// The block that the job writes to, if it writes.
    writes: Option<String>,
    context: serde_json::Value,
    ends_at: Option<u64>,
    snapshot: JobSnapshot,
}

impl Job {
    fn is_live(&self) -> bool {
        !self.snapshot.status.is_final()
    }
}

impl MemoryJobs {
    /// No jobs.
    pub(crate) fn new(chance: Chance, trace: Trace, clock: Clock, work: Work) -> Self {
        Self(Arc::new(Inner {
            chance,
            trace,
            clock,
            work,
            app: OnceLock::new(),
            jobs: Mutex::default(),
        }))
    }

    /// Says who hears of the ends of jobs.
    pub(crate) fn tells(&self, app: App) {
        let _ = self.0.app.set(app);
    }

    fn with<T>(&self, f: impl FnOnce(&mut BTreeMap<JobId, Job>) -> T) -> T {
        f(&mut self.0.jobs.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The jobs that are at work.
    pub(crate) fn live(&self) -> Vec<JobId> {
        self.with(|jobs| {
            let live = jobs.iter().filter(|(_, job)| job.is_live());
            live.map(|(id, _)| id.clone()).collect()
        })
    }

    /// The time at which the next job ends.
    pub(crate) fn next(&self) -> Option<u64> {
        self.with(|jobs| {
            let live = jobs.values().filter(|job| job.is_live());
            live.filter_map(|job| job.ends_at).min()
        })
    }

    /// Every job at work ends well, soon.
    pub(crate) fn hurry(&self) {
        let now = self.0.clock.now_ms();
        self.with(|jobs| {
            for job in jobs.values_mut().filter(|job| job.is_live()) {
                job.ends_at = Some(job.ends_at.unwrap_or(now).min(now + 1000));
            }
        });
    }

    /// Ends the jobs whose time has come.
    pub(crate) fn tick(&self) {
        let now = self.0.clock.now_ms();
        let due: Vec<JobId> = self.with(|jobs| {
            let due = jobs
                .iter()
                .filter(|(_, job)| job.is_live() && job.ends_at.is_some_and(|at| at <= now));
            due.map(|(id, _)| id.clone()).collect()
        });
        for id in due {
            let end = self.end_of(&id);
            self.0.trace.note(format!(
                "{id} ends: {:?} {:?}",
                end.status, end.terminal_error_class
            ));
            self.with(|jobs| jobs.get_mut(&id).expect("the job").snapshot = end);
            self.tell(&id);
        }
    }

    /// The end that chance gives a job.
    fn end_of(&self, id: &JobId) -> JobSnapshot {
        let chance = &self.0.chance;
        let (stopping, probe) = self.with(|jobs| {
            let job = &jobs[id];
            (
                job.snapshot.status == JobStatus::Stopping,
                job.context["role"] == "probe",
            )
        });
        if stopping {
            return JobSnapshot::ended_badly(error_class::STOPPED, "stopped on request");
        }
        let lost = [
            error_class::EVICTED,
            error_class::RECLAIMED,
            error_class::SIGNAL,
            error_class::CHECKOUT_FAILED,
        ];
        if chance.fault(6) {
            return JobSnapshot::ended_badly(chance.pick(&lost), "it lost its place");
        }
        let code = match probe {
            true => chance.pick(&[0, 0, 1, 75]),
            false if chance.fault(8) => 1,
            false => 0,
        };
        match code {
            0 => JobSnapshot {
                exit_code: Some(0),
                answer: Some(Answer::Stdout(format!("made by {id}"))),
                ..JobSnapshot::of(JobStatus::Terminated)
            },
            code => JobSnapshot {
                exit_code: Some(code),
                ..JobSnapshot::ended_badly(error_class::EXIT_CODE, "it failed")
            },
        }
    }

    /// Tells of a job's end: perhaps twice, perhaps not at all.
    fn tell(&self, id: &JobId) {
        let copies = match self.0.chance.fault(6) {
            true => self.0.chance.pick(&[0, 2]),
            false => 1,
        };
        for _ in 0..copies {
            let (jobs, id) = (self.clone(), id.clone());
            self.0.work.spawn(async move {
                for _ in 0..jobs.0.chance.below(4) {
                    jobs.0.chance.turn().await;
                }
                let app = jobs.0.app.get().expect("the jobs have their app").clone();
                let _ = mortal(async { app.poll.look(&id.run(), Some(&id)).await }).await;
            });
        }
    }

    /// Puts a job to work, unless it ever was.
    fn begin(&self, request: &JobRequest) {
        let (now, chance) = (self.0.clock.now_ms(), &self.0.chance);
        let writes = (request.context["role"] != "probe")
            .then(|| request.context["objective"]["block"].as_str())
            .flatten()
            .map(str::to_owned);
        let ends_at = match chance.fault(12) {
            true => None,
            false => Some(now + 1000 * chance.below(600)),
        };
        self.with(|jobs| {
            if let Some(known) = jobs.get(&request.job) {
                if known.context["role"] != request.context["role"] && !known.context.is_null() {
                    let what = format!("{} names two jobs", request.job);
                    self.0.trace.violated(what);
                }
                return;
            }
            let other = jobs
                .iter()
                .find(|(_, job)| job.is_live() && job.writes.is_some() && job.writes == writes);
            if let Some((other, _)) = other {
                let what = format!("{other} and {} write to one block", request.job);
                self.0.trace.violated(what);
            }
            self.0.trace.note(format!("{} begins", request.job));
            jobs.insert(
                request.job.clone(),
                Job {
                    writes,
                    context: request.context.clone(),
                    ends_at,
                    snapshot: JobSnapshot::of(JobStatus::Running),
                },
            );
        });
    }
}

#[async_trait]
impl Runtime for MemoryJobs {
    fn kind(&self) -> &'static str {
        "process"
    }

    async fn start(&self, request: &JobRequest) -> Result<Started, StartError> {
        let chance = &self.0.chance;
        chance.turn().await;
        if chance.fault(15) {
            return Err(StartError::NoRoom("every place is taken".to_owned()));
        }
        if chance.fault(40) {
            return Err(StartError::Unavailable("no answer".to_owned()));
        }
        self.begin(request);
        chance.turn().await;
        match chance.fault(40) {
            true => Err(StartError::Unavailable("the answer was lost".to_owned())),
            false => Ok(Started::Accepted),
        }
    }

    async fn status(&self, job: &JobId) -> Result<Option<JobSnapshot>, Unreadable> {
        self.0.chance.turn().await;
        if self.0.chance.fault(30) {
            return Err(Unreadable("no answer".to_owned()));
        }
        Ok(self.with(|jobs| jobs.get(job).map(|job| job.snapshot.clone())))
    }

    async fn stop(&self, job: &JobId, grace: Duration) -> Result<(), Unreadable> {
        self.0.chance.turn().await;
        if self.0.chance.fault(30) {
            return Err(Unreadable("no answer".to_owned()));
        }
        let now = self.0.clock.now_ms();
        let slow = self.0.chance.one_in(2);
        let grace = u64::try_from(grace.as_millis()).unwrap_or(0);
        let ended = self.with(|jobs| {
            let stopped = || JobSnapshot::ended_badly(error_class::STOPPED, "stopped on request");
            let Some(known) = jobs.get_mut(job) else {
                // A tombstone: a job of this id never begins.
                jobs.insert(
                    job.clone(),
                    Job {
                        writes: None,
                        context: serde_json::Value::Null,
                        ends_at: None,
                        snapshot: stopped(),
                    },
                );
                return false;
            };
            if !known.is_live() || known.snapshot.status == JobStatus::Stopping {
                return false;
            }
            if slow {
                known.snapshot = JobSnapshot::of(JobStatus::Stopping);
                known.ends_at = Some(now + grace);
                return false;
            }
            known.snapshot = stopped();
            true
        });
        self.0.trace.note(format!("{job} is told to end"));
        if ended {
            self.tell(job);
        }
        Ok(())
    }

    /// Its jobs ask nothing while they are under way.
    async fn answer(&self, _: &JobId, _: &str, _: &str) -> Result<(), Unreadable> {
        Ok(())
    }

    async fn tail_logs(&self, _: &JobId, _: usize) -> Result<Option<String>, Unreadable> {
        Ok(None)
    }

    async fn read_log(&self, _: &JobId, _: LogPosition) -> Result<Option<LogPage>, Unreadable> {
        Ok(None)
    }

    async fn read_artifact(&self, _: &Artifact) -> Result<Option<Vec<u8>>, Unreadable> {
        Ok(None)
    }
}
