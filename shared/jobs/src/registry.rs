//! The runtimes of a deployment.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use towpath_engine::{ANY_RUNTIME, Artifact, EXECUTOR, JobId};

use crate::request::GRACE;
use crate::{
    JobRequest, JobSnapshot, LogPage, LogPosition, Runtime, StartError, Started, Unreadable,
};

/// The runtimes of a deployment, by kind. Cheap to clone.
#[derive(Clone, Default)]
pub struct Registry(Arc<Runtimes>);

#[derive(Default)]
struct Runtimes {
    by_kind: BTreeMap<&'static str, Arc<dyn Runtime>>,
    /// The kind of the runtime for commands that do not say where they run.
    commands: Option<String>,
}

/// The state of a job, as far as it is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fate {
    /// No job of this id was ever started. An inline runtime says so of every job.
    NeverStarted,
    /// The runtime knows the job, and says this of it.
    Known(Box<JobSnapshot>),
    /// The runtime could not say, or this deployment does not have it; in words for people.
    Unreadable(String),
}

/// The outcome of asking a job to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reaped {
    /// The job is over, and can never begin again.
    Gone,
    /// The job was asked to end, and has not ended yet.
    Ending,
}

impl Registry {
    /// A registry of these runtimes. Of two with the same kind, the later one counts.
    pub fn new(runtimes: impl IntoIterator<Item = Arc<dyn Runtime>>) -> Self {
        let runtimes = runtimes.into_iter();
        let by_kind: BTreeMap<_, _> = runtimes.map(|it| (it.kind(), it)).collect();
        // An executor takes only what says which executors fit.
        let anything = |it: &&Arc<dyn Runtime>| !it.is_inline() && it.kind() != EXECUTOR;
        let mut commands = by_kind.values().filter(anything);
        let commands = match (commands.next(), commands.next()) {
            (Some(only), None) => Some(only.kind().to_owned()),
            _ => None,
        };
        Self(Arc::new(Runtimes { by_kind, commands }))
    }

    /// The same runtimes, with the one that runs the commands which do not say where they run. Where none is named, it
    /// is the only one that is not inline.
    #[must_use]
    pub fn with_commands_on(self, kind: Option<&str>) -> Self {
        match kind {
            None => self,
            Some(kind) => Self(Arc::new(Runtimes {
                by_kind: self.0.by_kind.clone(),
                commands: Some(kind.to_owned()),
            })),
        }
    }

    /// The kinds of runtime that this deployment has, in alphabetical order. What names another one cannot be run here.
    pub fn kinds(&self) -> Vec<&'static str> {
        self.0.by_kind.keys().copied().collect()
    }

    /// The kind of the runtime for commands that do not say where they run. A deployment without one refuses them.
    pub fn commands(&self) -> &str {
        self.0.commands.as_deref().unwrap_or(ANY_RUNTIME)
    }

    /// The names of runtimes that a pipeline may use here: the kinds, and the one for any that runs commands.
    pub fn usable(&self) -> Vec<&str> {
        let any = self.0.by_kind.contains_key(self.commands());
        let any = any.then_some(ANY_RUNTIME);
        self.kinds().into_iter().chain(any).collect()
    }

    /// Whether the runner of a job fetches what it is to do by itself: see [`Runtime::asks_for_manifest`].
    pub fn asks_for_manifest(&self, kind: &str) -> bool {
        let runtime = self.0.by_kind.get(kind);
        runtime.is_some_and(|runtime| runtime.asks_for_manifest())
    }

    /// Whether the runtime of this kind answers a job by the very start of it.
    pub fn is_inline(&self, kind: &str) -> bool {
        let runtime = self.0.by_kind.get(kind);
        runtime.is_some_and(|runtime| runtime.is_inline())
    }

    /// Starts a job in the runtime of this kind, or does nothing if it was started before.
    ///
    /// # Errors
    /// [`StartError::Refused`] if the deployment has no runtime of this kind; else what the runtime says.
    pub async fn start(&self, kind: &str, request: &JobRequest) -> Result<Started, StartError> {
        let runtime = self.runtime(kind).map_err(StartError::Refused)?;
        runtime.start(request).await
    }

    /// Asks the runtime of this kind what became of a job.
    pub async fn status(&self, kind: &str, job: &JobId) -> Fate {
        let runtime = match self.runtime(kind) {
            Ok(runtime) => runtime,
            Err(missing) => return Fate::Unreadable(missing),
        };
        match runtime.status(job).await {
            Ok(None) => Fate::NeverStarted,
            Ok(Some(snapshot)) => Fate::Known(Box::new(snapshot)),
            Err(Unreadable(why)) => Fate::Unreadable(why),
        }
    }

    /// Stops a job for good, then looks whether it is gone. To be repeated until it is.
    ///
    /// # Errors
    /// [`Unreadable`] if the runtime does not answer, or the deployment has no runtime of this kind: the job may then
    /// still be at work somewhere, and is not to be taken for gone.
    pub async fn reap(&self, kind: &str, job: &JobId) -> Result<Reaped, Unreadable> {
        let runtime = self.runtime(kind).map_err(Unreadable)?;
        runtime.stop(job, GRACE).await?;
        let over = match runtime.status(job).await? {
            None => true,
            Some(snapshot) => snapshot.status.is_final(),
        };
        Ok(if over { Reaped::Gone } else { Reaped::Ending })
    }

    /// Reads a page of a job's log from the runtime that has it. `None`: none of them has.
    ///
    /// # Errors
    /// [`Unreadable`] if a runtime does not answer.
    pub async fn read_log(
        &self,
        job: &JobId,
        after: LogPosition,
    ) -> Result<Option<LogPage>, Unreadable> {
        for runtime in self.0.by_kind.values() {
            if let Some(page) = runtime.read_log(job, after).await? {
                return Ok(Some(page));
            }
        }
        Ok(None)
    }

    /// Reads an artifact of a job that has ended, from the runtime of this kind. `None`: its bytes are in the bucket
    /// already, or gone.
    ///
    /// # Errors
    /// [`Unreadable`] if the runtime does not answer, or the deployment has no runtime of this kind.
    pub async fn read_artifact(
        &self,
        kind: &str,
        artifact: &Artifact,
    ) -> Result<Option<Vec<u8>>, Unreadable> {
        let runtime = self.runtime(kind).map_err(Unreadable)?;
        runtime.read_artifact(artifact).await
    }

    /// Brings a job the answer to a question that it has asked.
    ///
    /// # Errors
    /// If the runtime is not there or does not answer.
    pub async fn answer(
        &self,
        kind: &str,
        job: &JobId,
        question: &str,
        answer: &str,
    ) -> Result<(), Unreadable> {
        let runtime = self.runtime(kind).map_err(Unreadable)?;
        runtime.answer(job, question, answer).await
    }

    fn runtime(&self, kind: &str) -> Result<&Arc<dyn Runtime>, String> {
        self.0.by_kind.get(kind).ok_or_else(|| {
            let kinds = self.kinds();
            let present = if kinds.is_empty() {
                "it has none".to_owned()
            } else {
                format!("it has {}", kinds.join(", "))
            };
            format!("this deployment has no runtime `{kind}` ({present})")
        })
    }
}

impl fmt::Debug for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Registry").field(&self.kinds()).finish()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;
    use std::time::Duration;

    use async_trait::async_trait;

    use super::*;
    use crate::{JobStatus, Work, error_class};

    /// A runtime with one job, in memory.
    #[derive(Default)]
    struct Memory(Mutex<Option<JobSnapshot>>);

    #[async_trait]
    impl Runtime for Memory {
        fn kind(&self) -> &'static str {
            "memory"
        }

        async fn start(&self, _request: &JobRequest) -> Result<Started, StartError> {
            *self.0.lock().unwrap() = Some(JobSnapshot::of(JobStatus::Running));
            Ok(Started::Accepted)
        }

        async fn status(&self, _job: &JobId) -> Result<Option<JobSnapshot>, Unreadable> {
            Ok(self.0.lock().unwrap().clone())
        }

        async fn stop(&self, _job: &JobId, _grace: Duration) -> Result<(), Unreadable> {
            let mut job = self.0.lock().unwrap();
            *job = Some(match job.take().map(|job| job.status) {
                Some(JobStatus::Running) => JobSnapshot::of(JobStatus::Stopping),
                _ => JobSnapshot::ended_badly(error_class::STOPPED, "stopped on request"),
            });
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

    fn job() -> JobId {
        "job_01ARZ3NDEKTSV4RRFFQ69G5FAV-0-1-main".parse().unwrap()
    }

    fn request() -> JobRequest {
        JobRequest {
            job: job(),
            workspace: "acme".parse().unwrap(),
            work: Work::Simulated(towpath_engine::Simulated::default()),
            step: towpath_engine::StepIndex(0),
            attempt: 1,
            context: serde_json::Value::Null,
            inputs: Vec::new(),
            artifacts: Vec::new(),
            max_run: GRACE,
            grace: GRACE,
        }
    }

    fn registry() -> Registry {
        Registry::new([Arc::new(Memory::default()) as Arc<dyn Runtime>])
    }

    #[tokio::test]
    async fn a_job_is_reaped_once_it_has_ended_and_not_before() {
        let registry = registry();
        registry.start("memory", &request()).await.unwrap();
        assert_eq!(registry.reap("memory", &job()).await, Ok(Reaped::Ending));
        assert_eq!(registry.reap("memory", &job()).await, Ok(Reaped::Gone));
        let never = self::registry();
        assert_eq!(never.status("memory", &job()).await, Fate::NeverStarted);
        assert_eq!(never.reap("memory", &job()).await, Ok(Reaped::Gone));
    }

    #[tokio::test]
    async fn a_job_of_a_runtime_that_is_not_deployed_is_never_taken_for_gone() {
        let registry = registry();
        let refused = registry.start("ecs", &request()).await;
        let missing = "this deployment has no runtime `ecs` (it has memory)".to_owned();
        assert_eq!(refused, Err(StartError::Refused(missing.clone())));
        assert_eq!(
            registry.status("ecs", &job()).await,
            Fate::Unreadable(missing.clone())
        );
        assert_eq!(registry.reap("ecs", &job()).await, Err(Unreadable(missing)));
        assert_eq!(registry.kinds(), ["memory"]);
    }
}
