//! The runtime `executor`, with a real `towpath worker` that has dialled in.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use axum::Router;
use futures::future::BoxFuture;
use serde_json::json;
use tempfile::TempDir;
use towpath_clock::Clock;
use towpath_engine::{Artifact, JobId, RunId, Simulated};
use towpath_jobs::testing::{Subject, contract};
use towpath_jobs::{
    CommandWork, ExecutorDemands, JobRequest, JobSnapshot, LogPage, LogPosition, Runtime,
    StartError, Started, Unreadable, Work,
};
use towpath_local::{Cloud, Factory, Functions, Options};
use towpath_service::{App, Manifests};
use towpath_store::Scope;

use super::{Asked, PROGRAM, app};

const CAPABILITY: &str = "x-contract";

/// A deployment with one worker, which takes as many missions as there are.
struct Worker {
    cloud: Cloud,
    child: Child,
    asked: Arc<Asked>,
    dir: TempDir,
    next: AtomicU32,
}

/// The runtime, which also keeps what it is asked for, and says which executors fit.
struct OnWorker {
    inner: Arc<dyn Runtime>,
    asked: Arc<Asked>,
}

impl Worker {
    async fn start() -> Self {
        let asked = Arc::new(Asked::default());
        let manifests = Arc::clone(&asked);
        let runner = factory(move |app| {
            let manifests = Arc::clone(&manifests) as Arc<dyn Manifests>;
            let runners = app.runners.clone().with_manifests(manifests);
            towpath_functions::runner(App { runners, ..app })
        });
        let functions = [
            ("RunnerFunction", runner),
            ("ExecutorsFunction", factory(towpath_functions::executors)),
            ("PollFunction", factory(towpath_functions::poll)),
        ];
        let options = Options {
            template: towpath::standing::template(),
            data: None,
            port: 0,
            clock: Clock::system(),
            functions: functions
                .map(|(name, function)| (name.to_owned(), function))
                .into_iter()
                .collect::<Functions>(),
            environment: BTreeMap::new(),
            lambda_url: None,
            supervisor: Some(PROGRAM.into()),
            parameters: BTreeMap::new(),
            secrets: BTreeMap::new(),
            objects: BTreeMap::new(),
            schedules: false,
        };
        let cloud = Cloud::start(options).await.unwrap();
        let dir = tempfile::tempdir().unwrap();
        let access = operator(&cloud).access;
        let workspace = "acme".parse().unwrap();
        let made = access.make_key(&workspace, "enrols", Scope::Enrol);
        let key = made.await.unwrap().0;
        let mut command = Command::new(PROGRAM);
        command.args(["worker", "--poll", "--run-step-commands", "--slots", "1000"]);
        command.args(["--capability", CAPABILITY, "--server", cloud.url(), "--dir"]);
        command.arg(dir.path().join("worker"));
        command.env("TOWPATH_ENROLMENT_KEY", key.reveal());
        let child = command.stdin(Stdio::null()).stderr(Stdio::null()).spawn();
        Self {
            cloud,
            child: child.unwrap(),
            asked,
            dir,
            next: AtomicU32::new(1),
        }
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
            executor: Some(ExecutorDemands {
                capabilities: vec![CAPABILITY.to_owned()],
                completion: None,
                long_running: false,
            }),
        })
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn factory(router: impl Fn(App) -> Router + Send + Sync + 'static) -> Factory {
    Arc::new(move |environment| -> BoxFuture<'static, _> {
        let router = router(app(&environment));
        Box::pin(async move { Ok(towpath::functions::http(router)) })
    })
}

fn operator(cloud: &Cloud) -> App {
    let names = [
        ("RUNS_TABLE", "RunsTable"),
        ("EXECUTORS_TABLE", "ExecutorsTable"),
        ("OUTPUTS_BUCKET", "OutputsBucket"),
        ("STATE_MACHINE_ARN", "StateMachineArn"),
    ];
    let mut environment = cloud.aws_environment("operator");
    for (variable, output) in names {
        environment.insert(variable.to_owned(), cloud.output(output).unwrap());
    }
    app(&environment)
}

#[async_trait]
impl Runtime for OnWorker {
    fn kind(&self) -> &'static str {
        self.inner.kind()
    }

    fn asks_for_manifest(&self) -> bool {
        self.inner.asks_for_manifest()
    }

    async fn start(&self, request: &JobRequest) -> Result<Started, StartError> {
        self.asked.keep(request);
        let mut request = request.clone();
        request.context = json!({
            "job": request.job, "run": request.job.run(), "workspace": request.workspace, "step": 0, "attempt": 1,
            "role": "main", "agentKind": "coder", "pipeline": "contract", "isFinal": true,
            "objective": { "block": "b", "title": "t", "description": "" }, "branch": "main",
            "decisions": [], "outputs": [],
        });
        // The worker may not have dialled in yet: then the job waits for it, as a run's would.
        loop {
            match self.inner.start(&request).await {
                Err(StartError::NoRoom(_)) => tokio::time::sleep(Duration::from_millis(50)).await,
                started => return started,
            }
        }
    }

    async fn status(&self, job: &JobId) -> Result<Option<JobSnapshot>, Unreadable> {
        self.inner.status(job).await
    }

    async fn stop(&self, job: &JobId, grace: Duration) -> Result<(), Unreadable> {
        self.inner.stop(job, grace).await
    }

    async fn answer(&self, job: &JobId, question: &str, answer: &str) -> Result<(), Unreadable> {
        self.inner.answer(job, question, answer).await
    }

    async fn tail_logs(&self, job: &JobId, lines: usize) -> Result<Option<String>, Unreadable> {
        self.inner.tail_logs(job, lines).await
    }

    async fn read_log(
        &self,
        job: &JobId,
        after: LogPosition,
    ) -> Result<Option<LogPage>, Unreadable> {
        self.inner.read_log(job, after).await
    }

    async fn read_artifact(&self, artifact: &Artifact) -> Result<Option<Vec<u8>>, Unreadable> {
        self.inner.read_artifact(artifact).await
    }
}

#[async_trait]
impl Subject for Worker {
    fn runtime(&self) -> Arc<dyn Runtime> {
        let inner = Arc::new(operator(&self.cloud).executors.runtime());
        let asked = Arc::clone(&self.asked);
        Arc::new(OnWorker { inner, asked })
    }

    fn new_job(&self) -> JobId {
        let run = RunId::from_ulid("01ARZ3NDEKTSV4RRFFQ69G5FAV").unwrap();
        JobId::derive(&run, self.next.fetch_add(1, Ordering::SeqCst))
    }

    fn answering(&self, output: &str) -> Work {
        self.command(&format!("echo {output}"))
    }

    fn failing(&self) -> Work {
        self.command("echo 'it went wrong' >&2; exit 3")
    }

    fn foreign(&self) -> Work {
        Work::Simulated(Simulated::default())
    }

    fn endless(&self) -> Option<Work> {
        Some(self.command("sleep 1000"))
    }

    fn begun(&self, job: &JobId) -> usize {
        let trace = std::fs::read_to_string(self.trace()).unwrap_or_default();
        trace.lines().filter(|line| *line == job.as_str()).count()
    }

    async fn ended(&self, job: &JobId) {
        let runtime = self.runtime();
        loop {
            let status = runtime.status(job).await.unwrap();
            if status.is_some_and(|it| it.status.is_final()) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn missions_of_a_worker_keep_the_contract_of_a_runtime() {
    let worker = Worker::start().await;
    let checks = contract(&worker);
    assert!(checks.len() >= 10);
    futures::future::join_all(checks.iter().map(|check| async {
        println!("{}", check.name);
        check.run(&worker).await;
    }))
    .await;
}
