//! The runtime `executor`, with a real `towpath worker` that has dialled in.

use std::collections::BTreeMap;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use axum::Router;
use futures::future::BoxFuture;
use serde_json::json;
use towpath_clock::Clock;
use towpath_engine::{JobId, Simulated, WorkspaceId};
use towpath_jobs::testing::Subject;
use towpath_jobs::{ExecutorDemands, JobRequest, Runtime, Work};
use towpath_local::{Cloud, Factory, Functions, Options};
use towpath_service::{App, Manifests};
use towpath_store::Scope;

use super::commands::{self, Commands};
use super::{Asked, Keeping, PROGRAM, app, every_check};

const CAPABILITY: &str = "x-contract";

/// A deployment with one worker, which takes as many missions as there are.
struct Worker {
    cloud: Cloud,
    child: Child,
    asked: Arc<Asked>,
    commands: Commands,
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
        let workspace: WorkspaceId = "acme".parse().unwrap();
        let made = access.make_key(&workspace, "enrols", Scope::Enrol);
        let key = made.await.unwrap().0;
        let mut command = Command::new(PROGRAM);
        command.args(["worker", "--poll", "--run-step-commands", "--slots", "1000"]);
        command.args(["--capability", CAPABILITY, "--server", cloud.url(), "--dir"]);
        command.arg(dir.path().join("worker"));
        command.env("TOWPATH_ENROLMENT_KEY", key.reveal());
        let child = command.stdin(Stdio::null()).stderr(Stdio::null()).spawn();
        let demands = ExecutorDemands {
            capabilities: vec![CAPABILITY.to_owned()],
            completion: None,
            long_running: false,
        };
        let worker = Self {
            cloud,
            child: child.unwrap(),
            asked,
            commands: Commands::new(dir, Some(demands)),
        };
        worker.dialled_in(&workspace).await;
        worker
    }
}

impl Worker {
    /// Waits until the worker has dialled in.
    async fn dialled_in(&self, workspace: &WorkspaceId) {
        let registrar = operator(&self.cloud).executors.registrar;
        loop {
            let list = registrar.list(workspace).await.unwrap();
            if list.executors.iter().any(|it| it.connected) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
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

/// The request as a run makes it for an executor, which is told what the work contract says.
fn as_of_a_run(request: &JobRequest) -> JobRequest {
    let mut request = request.clone();
    request.context = json!({
        "job": request.job, "run": request.job.run(), "workspace": request.workspace, "step": 0, "attempt": 1,
        "role": "main", "agentKind": "coder", "pipeline": "contract", "isFinal": true,
        "objective": { "block": "b", "title": "t", "description": "" }, "branch": "main",
        "decisions": [], "outputs": [],
    });
    request
}

#[async_trait]
impl Subject for Worker {
    fn runtime(&self) -> Arc<dyn Runtime> {
        let inner = Arc::new(operator(&self.cloud).executors.runtime());
        let asked = Arc::clone(&self.asked);
        let prepare = as_of_a_run;
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

#[tokio::test(flavor = "multi_thread")]
async fn missions_of_a_worker_keep_the_contract_of_a_runtime() {
    every_check(&Worker::start().await).await;
}
