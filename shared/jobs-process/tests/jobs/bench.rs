//! What every test needs: a root for jobs, jobs that are shell scripts, and pipes to hear from them through.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::Duration;

use towpath_engine::JobId;
use towpath_jobs::{CommandWork, JobRequest, JobSnapshot, JobStatus, Runtime, Work};
use towpath_jobs_process::ProcessRuntime;

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
    pub(crate) runtime: ProcessRuntime,
}

impl Bench {
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let runtime = ProcessRuntime::new(dir.path().join("jobs"), program());
        Self { dir, runtime }
    }

    /// The same root as another process, or this one after a restart, would see it.
    pub(crate) fn restarted(&self) -> ProcessRuntime {
        ProcessRuntime::new(self.root(), program())
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

    pub(crate) async fn start(&self, request: &JobRequest) {
        self.runtime.start(request).await.unwrap();
    }

    /// Starts the job and waits for its end.
    pub(crate) async fn run(&self, request: &JobRequest) -> JobSnapshot {
        self.start(request).await;
        self.end_of(&request.job).await
    }

    pub(crate) async fn end_of(&self, job: &JobId) -> JobSnapshot {
        let end = tokio::time::timeout(HANG, self.runtime.ended(job))
            .await
            .expect("the job hangs");
        end.unwrap().expect("the job was never started")
    }

    pub(crate) async fn status(&self, job: &JobId) -> Option<JobStatus> {
        self.runtime
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

    /// Takes the lock of a job as a supervisor does, until the file is closed.
    pub(crate) fn hold_lock(&self, job: &JobId) -> File {
        std::fs::create_dir_all(self.folder(job)).unwrap();
        let lock = File::create(self.folder(job).join("lock")).unwrap();
        lock.lock().unwrap();
        lock
    }

    pub(crate) fn record(&self, job: &JobId, name: &str) -> serde_json::Value {
        serde_json::from_slice(&std::fs::read(self.folder(job).join(name)).unwrap()).unwrap()
    }
}

fn program() -> PathBuf {
    std::env::current_exe().unwrap()
}

pub(crate) fn job() -> JobId {
    format!("job_{}-2-1-main", ulid::Ulid::new())
        .parse()
        .unwrap()
}

/// A job that runs a shell script.
pub(crate) fn script(script: &str) -> JobRequest {
    command(&["sh", "-c", script])
}

pub(crate) fn command(words: &[&str]) -> JobRequest {
    JobRequest {
        job: job(),
        workspace: "acme".parse().unwrap(),
        work: Work::Command(CommandWork {
            command: words.iter().map(|word| (*word).to_owned()).collect(),
            env: BTreeMap::new(),
            secrets: Vec::new(),
            checkout: None,
            events: None,
            image: None,
            resources: None,
            executor: None,
        }),
        step: towpath_engine::StepIndex(0),
        attempt: 1,
        context: serde_json::json!({"objective": "mend it"}),
        inputs: Vec::new(),
        artifacts: Vec::new(),
        max_run: Duration::from_secs(3600),
        grace: Duration::from_secs(60),
    }
}

/// The command of a job, to be changed.
pub(crate) fn work(request: &mut JobRequest) -> &mut CommandWork {
    match &mut request.work {
        Work::Command(work) => work,
        other => panic!("{other:?}"),
    }
}

/// Starts a job from a process that has nothing else to do.
pub(crate) fn start_here(root: &str, job: &str, text: &str) -> ExitCode {
    let request = JobRequest {
        job: job.parse().unwrap(),
        ..script(text)
    };
    run(async move {
        let runtime = ProcessRuntime::new(root.into(), program());
        runtime.start(&request).await.unwrap();
    });
    ExitCode::SUCCESS
}

/// The command that makes another process start this job.
pub(crate) fn elsewhere(root: &Path, request: &JobRequest) -> Command {
    let Work::Command(work) = &request.work else {
        panic!("{request:?}")
    };
    let mut command = Command::new(program());
    command
        .arg("start")
        .arg(root)
        .args([request.job.as_str(), &work.command[2]]);
    command
}

/// Stops a job from a process that has nothing else to do.
pub(crate) fn stop_here(root: &str, job: &str) -> ExitCode {
    let job: JobId = job.parse().unwrap();
    run(async move {
        let runtime = ProcessRuntime::new(root.into(), program());
        runtime.stop(&job, Duration::from_secs(60)).await.unwrap();
    });
    ExitCode::SUCCESS
}

/// The command that makes another process stop this job.
pub(crate) fn stop_elsewhere(root: &Path, job: &JobId) -> Command {
    let mut command = Command::new(program());
    command.arg("stop").arg(root).arg(job.as_str());
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
