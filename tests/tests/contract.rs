//! The contract of a runtime, for builds: the same checks as for processes, over the local cloud's CodeBuild and its
//! functions, with real runners. What the jobs are to do comes from the test, and not from runs.

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use futures::future::BoxFuture;
use serde_json::Value;
use tempfile::TempDir;
use towpath_clock::Clock;
use towpath_engine::{Artifact, JobId, RunId, Simulated};
use towpath_jobs::testing::{Subject, contract};
use towpath_jobs::{
    CommandWork, JobRequest, JobSnapshot, LogPage, LogPosition, Runtime, StartError, Started,
    Unreadable, Work,
};
use towpath_local::{Cloud, Factory, Functions, Options};
use towpath_service::{App, Config, Manifests, RunnerRefused};

/// What the jobs are to do: each as it was first asked for.
#[derive(Default)]
struct Asked(Mutex<HashMap<JobId, JobRequest>>);

impl Asked {
    fn keep(&self, request: &JobRequest) {
        let mut asked = self.0.lock().unwrap();
        let of = asked.entry(request.job.clone());
        of.or_insert_with(|| request.clone());
    }
}

#[async_trait]
impl Manifests for Asked {
    async fn manifest(&self, job: &JobId) -> Result<JobRequest, RunnerRefused> {
        let asked = self.0.lock().unwrap().get(job).cloned();
        asked.ok_or(RunnerRefused::Over)
    }
}

/// The runtime, which also keeps what it is asked for.
struct Builds {
    inner: Arc<dyn Runtime>,
    asked: Arc<Asked>,
}

#[async_trait]
impl Runtime for Builds {
    fn kind(&self) -> &'static str {
        self.inner.kind()
    }

    fn asks_for_manifest(&self) -> bool {
        self.inner.asks_for_manifest()
    }

    async fn start(&self, request: &JobRequest) -> Result<Started, StartError> {
        self.asked.keep(request);
        self.inner.start(request).await
    }

    async fn status(&self, job: &JobId) -> Result<Option<JobSnapshot>, Unreadable> {
        self.inner.status(job).await
    }

    async fn stop(&self, job: &JobId, grace: Duration) -> Result<(), Unreadable> {
        self.inner.stop(job, grace).await
    }

    /// Its jobs ask nothing while they are under way.
    async fn answer(&self, _: &JobId, _: &str, _: &str) -> Result<(), Unreadable> {
        Ok(())
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

struct Bench {
    cloud: Cloud,
    asked: Arc<Asked>,
    dir: TempDir,
    next: AtomicU32,
}

const PROGRAM: &str = env!("CARGO_BIN_EXE_towpath-under-test");

/// The services of an environment of the local cloud.
fn app(environment: &BTreeMap<String, String>) -> App {
    let config = Config::from_lookup(|name| environment.get(name).cloned()).unwrap();
    App::connect(&config, Clock::system(), Vec::new(), None)
}

impl Bench {
    async fn start() -> Self {
        let asked = Arc::new(Asked::default());
        let manifests = Arc::clone(&asked);
        let runner: Factory = Arc::new(move |environment| -> BoxFuture<'static, _> {
            let app = app(&environment);
            let runners = app
                .runners
                .clone()
                .with_manifests(Arc::clone(&manifests) as Arc<dyn Manifests>);
            let router = towpath_functions::runner(App { runners, ..app });
            Box::pin(async move { Ok(towpath::functions::http(router)) })
        });
        let object = towpath_jobs::runner_object(std::env::consts::ARCH).unwrap();
        let options = Options {
            template: towpath::standing::template(),
            data: None,
            port: 0,
            clock: Clock::system(),
            functions: Functions::from([("RunnerFunction".to_owned(), runner)]),
            environment: BTreeMap::new(),
            lambda_url: None,
            supervisor: Some(PROGRAM.into()),
            objects: BTreeMap::from([(object, PathBuf::from(PROGRAM))]),
            schedules: false,
        };
        Self {
            cloud: Cloud::start(options).await.unwrap(),
            asked,
            dir: tempfile::tempdir().unwrap(),
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
            executor: None,
        })
    }
}

#[async_trait]
impl Subject for Bench {
    fn runtime(&self) -> Arc<dyn Runtime> {
        let names = [
            ("RUNS_TABLE", "RunsTable"),
            ("EXECUTORS_TABLE", "ExecutorsTable"),
            ("OUTPUTS_BUCKET", "OutputsBucket"),
            ("STATE_MACHINE_ARN", "StateMachineArn"),
            ("CODEBUILD_PROJECT", "JobsProject"),
            ("SECRETS_KEY_ARN", "SecretsKeyArn"),
        ];
        let mut environment = self.cloud.aws_environment("operator");
        for (variable, output) in names {
            environment.insert(variable.to_owned(), self.cloud.output(output).unwrap());
        }
        let mut remote = app(&environment).remote.into_iter();
        let inner = Arc::new(remote.find(|it| it.kind() == "codebuild").unwrap());
        let asked = Arc::clone(&self.asked);
        Arc::new(Builds { inner, asked })
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
async fn builds_keep_the_contract_of_a_runtime() {
    let bench = Bench::start().await;
    // Side by side: each waits for its own job, and for its runner to hear of a stop.
    let checks = contract(&bench);
    assert!(checks.len() >= 10);
    futures::future::join_all(checks.iter().map(|check| async {
        println!("{}", check.name);
        check.run(&bench).await;
    }))
    .await;
    let refused: Vec<Value> = bench.cloud.refused().into_iter().map(Value::from).collect();
    assert_eq!(refused, Vec::<Value>::new());
    bench.cloud.shutdown().await;
}
