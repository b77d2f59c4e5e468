//! The work that the jobs of these tests do: shell commands that leave a trace when they begin.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use tempfile::TempDir;
use towpath_engine::{JobId, RunId};
use towpath_jobs::{CommandWork, ExecutorDemands, Runtime, Work};

/// Shell commands, and the ids of the jobs that run them.
pub(crate) struct Commands {
    pub(crate) dir: TempDir,
    next: AtomicU32,
    /// What the commands ask of an executor, if they run on one.
    executor: Option<ExecutorDemands>,
}

impl Commands {
    pub(crate) fn new(dir: TempDir, executor: Option<ExecutorDemands>) -> Self {
        Self {
            dir,
            next: AtomicU32::new(1),
            executor,
        }
    }

    /// A job id that was not used before.
    pub(crate) fn new_job(&self) -> JobId {
        let run = RunId::from_ulid("01ARZ3NDEKTSV4RRFFQ69G5FAV").unwrap();
        JobId::derive(&run, self.next.fetch_add(1, Ordering::SeqCst))
    }

    fn trace(&self) -> PathBuf {
        self.dir.path().join("trace")
    }

    fn command(&self, script: &str) -> Work {
        let script = format!(
            "echo \"$TOWPATH_JOB_ID\" >> {}; {script}",
            self.trace().display()
        );
        Work::Command(CommandWork {
            command: ["sh", "-c", &script].map(str::to_owned).into(),
            env: BTreeMap::new(),
            secrets: Vec::new(),
            checkout: None,
            events: None,
            image: None,
            resources: None,
            executor: self.executor.clone(),
        })
    }

    pub(crate) fn answering(&self, output: &str) -> Work {
        self.command(&format!("echo {output}"))
    }

    pub(crate) fn failing(&self) -> Work {
        self.command("echo 'it went wrong' >&2; exit 3")
    }

    pub(crate) fn endless(&self) -> Work {
        self.command("sleep 1000")
    }

    /// How often the command of this job has begun.
    pub(crate) fn begun(&self, job: &JobId) -> usize {
        let trace = std::fs::read_to_string(self.trace()).unwrap_or_default();
        trace.lines().filter(|line| *line == job.as_str()).count()
    }
}

/// Returns when the job has ended.
pub(crate) async fn ended(runtime: Arc<dyn Runtime>, job: &JobId) {
    loop {
        let status = runtime.status(job).await.unwrap();
        if status.is_some_and(|it| it.status.is_final()) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}
