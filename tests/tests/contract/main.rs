//! The contract of a runtime, for those whose jobs run on machines of a service: the same checks as for processes, over the
//! local cloud's functions and its CodeBuild, or a server that seems to be ECS or Fly.io, with real runners. What the jobs
//! are to do comes from the test, and not from runs.

mod commands;
mod ecs;
mod fly;
mod machines;
mod worker;

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use commands::Commands;
use ecs::Cluster;
use fly::FlyApp;
use futures::future::BoxFuture;
use machines::{Machine, Machines};
use serde_json::Value;
use tempfile::TempDir;
use towpath_clock::Clock;
use towpath_engine::{Artifact, JobId, Simulated, StepIndex};
use towpath_jobs::testing::{Subject, contract};
use towpath_jobs::{
    JobRequest, JobSnapshot, JobStatus, LogPage, LogPosition, Runtime, StartError, Started,
    Unreadable, Work, error_class,
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
struct Keeping {
    inner: Arc<dyn Runtime>,
    asked: Arc<Asked>,
    /// What is asked of the runtime in place of what the contract asks.
    prepare: fn(&JobRequest) -> JobRequest,
}

#[async_trait]
impl Runtime for Keeping {
    fn kind(&self) -> &'static str {
        self.inner.kind()
    }

    fn asks_for_manifest(&self) -> bool {
        self.inner.asks_for_manifest()
    }

    async fn start(&self, request: &JobRequest) -> Result<Started, StartError> {
        self.asked.keep(request);
        self.inner.start(&(self.prepare)(request)).await
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

/// The service whose machines the jobs run on.
enum Service {
    CodeBuild,
    Ecs(Cluster),
    Fly(FlyApp),
}

impl Service {
    fn kind(&self) -> &'static str {
        match self {
            Self::CodeBuild => "codebuild",
            Self::Ecs(_) => "ecs",
            Self::Fly(_) => "fly",
        }
    }

    fn machines(&self) -> &Machines {
        match self {
            Self::CodeBuild => panic!("builds are the local cloud's"),
            Self::Ecs(cluster) => &cluster.machines,
            Self::Fly(app) => &app.machines,
        }
    }

    fn run_again(&self, of: &Machine) -> usize {
        match self {
            Self::CodeBuild => panic!("builds are the local cloud's"),
            Self::Ecs(cluster) => cluster.run_again(of),
            Self::Fly(app) => app.run_again(of),
        }
    }

    fn lose_replies(&self) {
        match self {
            Self::CodeBuild => panic!("builds are the local cloud's"),
            Self::Ecs(cluster) => cluster.loses_replies.store(true, Ordering::SeqCst),
            Self::Fly(app) => app.loses_replies.store(true, Ordering::SeqCst),
        }
    }
}

struct Bench {
    cloud: Cloud,
    service: Service,
    asked: Arc<Asked>,
    commands: Commands,
}

const PROGRAM: &str = env!("CARGO_BIN_EXE_towpath-under-test");

/// The services of an environment of the local cloud.
fn app(environment: &BTreeMap<String, String>) -> App {
    let config = Config::from_lookup(|name| environment.get(name).cloned()).unwrap();
    App::connect(&config, Clock::system(), Vec::new(), None)
}

impl Bench {
    async fn of_builds() -> Self {
        Self::start(Service::CodeBuild, tempfile::tempdir().unwrap()).await
    }

    async fn of_tasks() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let machines = Machines::new(dir.path().to_owned());
        let cluster = Cluster::start(machines).await;
        Self::start(Service::Ecs(cluster), dir).await
    }

    async fn of_fly() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let machines = Machines::new(dir.path().to_owned());
        let app = FlyApp::start(machines).await;
        Self::start(Service::Fly(app), dir).await
    }

    async fn start(service: Service, dir: TempDir) -> Self {
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
            parameters: BTreeMap::new(),
            secrets: BTreeMap::new(),
            objects: BTreeMap::from([(object, PathBuf::from(PROGRAM))]),
            schedules: false,
        };
        Self {
            cloud: Cloud::start(options).await.unwrap(),
            service,
            asked,
            commands: Commands::new(dir, None),
        }
    }

    /// Starts a job that never ends by itself, and waits until its command runs.
    async fn begin(&self) -> JobId {
        let job = self.new_job();
        let request = JobRequest {
            job: job.clone(),
            workspace: "acme".parse().unwrap(),
            work: self.endless().unwrap(),
            step: StepIndex(0),
            attempt: 1,
            context: Value::Null,
            inputs: Vec::new(),
            artifacts: Vec::new(),
            max_run: Duration::from_secs(3600),
            grace: Duration::from_secs(1),
        };
        self.runtime().start(&request).await.unwrap();
        self.until(|| self.begun(&job) == 1).await;
        job
    }

    async fn until(&self, holds: impl Fn() -> bool) {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    async fn stop(&self, job: &JobId) {
        let grace = Duration::from_secs(1);
        self.runtime().stop(job, grace).await.unwrap();
        self.ended(job).await;
    }

    /// The first machine, with its number.
    fn only_machine(&self) -> (usize, Machine) {
        (0, self.service.machines().get(0).unwrap())
    }

    async fn end(self) {
        let refused = self.cloud.refused().into_iter().map(Value::from);
        let refused: Vec<Value> = refused.collect();
        assert_eq!(refused, Vec::<Value>::new());
        self.cloud.shutdown().await;
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
        let own = match &self.service {
            Service::CodeBuild => Vec::new(),
            Service::Ecs(cluster) => cluster.environment(),
            Service::Fly(app) => app.environment(self.cloud.output("SecretsKeyArn").unwrap()),
        };
        let shared = [
            ("JOB_IMAGE", "image@sha256:1".to_owned()),
            ("TOWPATH_API_BASE", self.cloud.url().to_owned()),
        ];
        let own = own.into_iter().chain(shared);
        environment.extend(own.map(|(name, value)| (name.to_owned(), value)));
        let mut remote = app(&environment).remote.into_iter();
        let inner = remote.find(|it| it.kind() == self.service.kind());
        let inner = Arc::new(inner.unwrap());
        let asked = Arc::clone(&self.asked);
        let prepare = JobRequest::clone;
        Arc::new(Keeping {
            inner,
            asked,
            prepare,
        })
    }

    fn new_job(&self) -> JobId {
        self.commands.new_job()
    }

    fn answering(&self, output: &str) -> Work {
        self.commands.answering(output)
    }

    fn failing(&self) -> Work {
        self.commands.failing()
    }

    fn foreign(&self) -> Work {
        Work::Simulated(Simulated::default())
    }

    fn endless(&self) -> Option<Work> {
        Some(self.commands.endless())
    }

    fn begun(&self, job: &JobId) -> usize {
        self.commands.begun(job)
    }

    async fn ended(&self, job: &JobId) {
        commands::ended(self.runtime(), job).await;
    }
}

/// Side by side: each waits for its own job, and for its runner to hear of a stop.
async fn every_check(subject: &dyn Subject) {
    let checks = contract(subject);
    assert!(checks.len() >= 10);
    futures::future::join_all(checks.iter().map(|check| async {
        println!("{}", check.name);
        check.run(subject).await;
    }))
    .await;
}

async fn keeps_the_contract(bench: Bench) {
    every_check(&bench).await;
    if !matches!(bench.service, Service::CodeBuild) {
        let jobs = bench.service.machines().jobs();
        let each_once = jobs.windows(2).all(|two| two[0] != two[1]);
        assert!(each_once, "a job has two machines: {jobs:?}");
    }
    bench.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn builds_keep_the_contract_of_a_runtime() {
    keeps_the_contract(Bench::of_builds().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tasks_keep_the_contract_of_a_runtime() {
    keeps_the_contract(Bench::of_tasks().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn machines_of_fly_keep_the_contract_of_a_runtime() {
    keeps_the_contract(Bench::of_fly().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tasks_and_machines_keep_it_while_replies_are_lost() {
    for bench in [Bench::of_tasks().await, Bench::of_fly().await] {
        bench.service.lose_replies();
        keeps_the_contract(bench).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_machines_of_one_job_one_works_and_the_other_ends_at_once() {
    for bench in [Bench::of_tasks().await, Bench::of_fly().await] {
        let job = bench.begin().await;
        let first = bench.only_machine();
        let second = bench.service.run_again(&first.1);
        let machines = bench.service.machines();
        bench
            .until(|| machines.get(second).unwrap().ended.is_some())
            .await;
        assert_eq!(bench.begun(&job), 1);
        let status = bench.runtime().status(&job).await.unwrap().unwrap();
        assert_eq!(status.status, JobStatus::Running);
        bench.stop(&job).await;
        bench.end().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_that_is_killed_or_forgotten_is_an_eviction() {
    for forgotten in [false, true] {
        for bench in [Bench::of_tasks().await, Bench::of_fly().await] {
            let job = bench.begin().await;
            let (number, _) = bench.only_machine();
            match forgotten {
                true => bench.service.machines().lose(number),
                false => bench.service.machines().kill(number),
            }
            bench.ended(&job).await;
            let end = bench.runtime().status(&job).await.unwrap().unwrap();
            let class = end.terminal_error_class.as_deref();
            assert_eq!(class, Some(error_class::EVICTED), "{end:?}");
            bench.end().await;
        }
    }
}
