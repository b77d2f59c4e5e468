//! What every test needs: a root for jobs, jobs that are shell scripts, and pipes to hear from them through.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::Duration;

use towpath_engine::{JobId, Role, RunId, StepIndex};
use towpath_process::ProcessSubstrate;
use towpath_runtime::{JobSnapshot, JobSpec, JobStatus, Substrate};

/// Only so that a broken test ends: nothing passes or fails by it.
const HANG: Duration = Duration::from_secs(120);

/// Makes a list of trials from test functions.
macro_rules! trials {
    ($($test:ident),* $(,)?) => {
        pub(crate) fn tests() -> Vec<libtest_mimic::Trial> {
            vec![$(libtest_mimic::Trial::test(stringify!($test), || { crate::bench::run($test()); Ok(()) })),*]
        }
    };
}
pub(crate) use trials;

pub(crate) fn run(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(test);
}

/// A root of its own, gone with the test.
pub(crate) struct Bench {
    dir: tempfile::TempDir,
    pub(crate) substrate: ProcessSubstrate,
}

impl Bench {
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let substrate = ProcessSubstrate::new(dir.path().join("jobs"), program());
        Self { dir, substrate }
    }

    /// The same root as another process, or this one after a restart, would see it.
    pub(crate) fn restarted(&self) -> ProcessSubstrate {
        ProcessSubstrate::new(self.root(), program())
    }

    pub(crate) fn root(&self) -> PathBuf {
        self.dir.path().join("jobs")
    }

    pub(crate) fn folder(&self, job: &JobId) -> PathBuf {
        self.root().join(job.as_str())
    }

    /// A place outside the job's folder.
    pub(crate) fn path(&self, name: &str) -> String {
        self.dir.path().join(name).to_str().unwrap().to_owned()
    }

    /// A named pipe that tells the test what scripts write into it.
    pub(crate) fn pipe(&self, name: &str) -> (String, Pipe) {
        let path = self.path(name);
        assert!(
            Command::new("mkfifo")
                .arg(&path)
                .status()
                .unwrap()
                .success()
        );
        (path.clone(), Pipe::open(path))
    }

    pub(crate) async fn start(&self, spec: &JobSpec) {
        self.substrate.start(spec).await.unwrap();
    }

    /// Starts the job and waits for its end.
    pub(crate) async fn run(&self, spec: &JobSpec) -> JobSnapshot {
        self.start(spec).await;
        self.end_of(&spec.job).await
    }

    pub(crate) async fn end_of(&self, job: &JobId) -> JobSnapshot {
        let end = tokio::time::timeout(HANG, self.substrate.ended(job))
            .await
            .expect("the job hangs");
        end.unwrap().expect("the job was never started")
    }

    pub(crate) async fn status(&self, job: &JobId) -> Option<JobStatus> {
        self.substrate
            .status(job)
            .await
            .unwrap()
            .map(|snapshot| snapshot.status)
    }

    /// The supervisor's process, from its own record.
    pub(crate) fn supervisor(&self, job: &JobId) -> rustix::process::Pid {
        let state: serde_json::Value = self.record(job, "state.json");
        rustix::process::Pid::from_raw(
            i32::try_from(state["supervisor"].as_i64().unwrap()).unwrap(),
        )
        .unwrap()
    }

    pub(crate) fn record(&self, job: &JobId, name: &str) -> serde_json::Value {
        serde_json::from_slice(&std::fs::read(self.folder(job).join(name)).unwrap()).unwrap()
    }
}

fn program() -> PathBuf {
    std::env::current_exe().unwrap()
}

pub(crate) fn job() -> JobId {
    let run: RunId = format!("run_{}", ulid::Ulid::new()).parse().unwrap();
    JobId::derive(&run, StepIndex(2), 1, Role::Main)
}

/// A job that runs a shell script.
pub(crate) fn script(script: &str) -> JobSpec {
    command(&["sh", "-c", script])
}

pub(crate) fn command(words: &[&str]) -> JobSpec {
    JobSpec {
        job: job(),
        workspace: "acme".to_owned(),
        command: words.iter().map(|word| (*word).to_owned()).collect(),
        env: BTreeMap::new(),
        context: serde_json::json!({"objective": "mend it"}),
        checkout: None,
        max_run: Duration::from_secs(3600),
        grace: Duration::from_secs(60),
    }
}

/// Starts a job from a process that has nothing else to do.
pub(crate) fn start_here(root: &str, job: &str, text: &str) -> ExitCode {
    let spec = JobSpec {
        job: job.parse().unwrap(),
        ..script(text)
    };
    run(async move {
        ProcessSubstrate::new(root.into(), program())
            .start(&spec)
            .await
            .unwrap()
    });
    ExitCode::SUCCESS
}

/// The command that makes another process start this job.
pub(crate) fn elsewhere(root: &Path, spec: &JobSpec) -> Command {
    let mut command = Command::new(program());
    command
        .arg("start")
        .arg(root)
        .args([spec.job.as_str(), &spec.command[2]]);
    command
}

/// The reading end of a named pipe.
pub(crate) struct Pipe(mpsc::Receiver<String>);

impl Pipe {
    fn open(path: String) -> Self {
        let (tell, told) = mpsc::channel();
        std::thread::spawn(move || {
            for line in BufReader::new(File::open(path).unwrap()).lines() {
                let _ = tell.send(line.unwrap());
            }
        });
        Self(told)
    }

    /// The next line somebody writes.
    pub(crate) fn next(&self) -> String {
        self.0.recv_timeout(HANG).expect("nobody writes")
    }

    /// Everybody who had the pipe open is gone, whether they were asked or killed.
    pub(crate) fn is_abandoned(&self) {
        assert_eq!(
            self.0.recv_timeout(HANG),
            Err(RecvTimeoutError::Disconnected),
            "somebody is still there"
        );
    }
}

pub(crate) fn class(end: &JobSnapshot) -> Option<&str> {
    end.terminal_error_class.as_deref()
}

pub(crate) fn message(end: &JobSnapshot) -> &str {
    end.terminal_error_message.as_deref().unwrap_or_default()
}
