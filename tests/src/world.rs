//! A world to test in.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use towpath::standing::{Plan, Standing};
use towpath_api_types::{PipelineView, RunView};
use towpath_client::Client;
use towpath_clock::Clock;
use towpath_engine::{Block, Pipeline, RunId};
use towpath_instruments::Deaths;

use crate::gateway::Gateway;
use crate::watch::{self, Watch};

/// A pipeline from YAML.
///
/// # Panics
/// If it is not valid.
pub fn pipeline(yaml: &str) -> Pipeline {
    towpath::pipeline_file::parse(yaml, "a test's pipeline").unwrap()
}

/// The recipe of a world.
pub struct Worlds {
    program: PathBuf,
    data: Option<PathBuf>,
    environment: BTreeMap<String, String>,
    clock: Option<Clock>,
    deaths: Option<Deaths>,
    builds: bool,
    gateway: Option<Arc<Gateway>>,
    port: u16,
}

impl Worlds {
    /// Worlds in memory, whose jobs `program` supervises: `env!("CARGO_BIN_EXE_towpath-under-test")`.
    pub fn new(program: &str) -> Self {
        Self {
            program: program.into(),
            data: None,
            environment: BTreeMap::new(),
            clock: None,
            deaths: None,
            builds: false,
            gateway: None,
            port: 0,
        }
    }

    /// Keeps everything in a directory.
    #[must_use]
    pub fn on(self, data: &Path) -> Self {
        Self {
            data: Some(data.to_owned()),
            ..self
        }
    }

    /// Sets a variable for every function.
    #[must_use]
    pub fn with(mut self, name: &str, value: &str) -> Self {
        self.environment.insert(name.to_owned(), value.to_owned());
        self
    }

    /// Breaks calls to AWS: see `towpath_instruments::Faults`.
    #[must_use]
    pub fn with_faults(self, faults: &str) -> Self {
        self.with("TOWPATH_FAULTS", faults)
    }

    /// Begins at the time that this clock shows.
    #[must_use]
    pub fn since(self, clock: Clock) -> Self {
        Self {
            clock: Some(clock),
            ..self
        }
    }

    /// Runs commands in builds.
    #[must_use]
    pub fn on_builds(self) -> Self {
        Self {
            builds: true,
            ..self
        }
    }

    /// Calls models at this gateway.
    #[must_use]
    pub fn calling(self, gateway: &Arc<Gateway>) -> Self {
        Self {
            gateway: Some(Arc::clone(gateway)),
            ..self
        }
    }

    /// Serves at this port.
    #[must_use]
    pub fn at(self, port: u16) -> Self {
        Self { port, ..self }
    }

    /// Lets invocations die.
    #[must_use]
    pub fn mortal(self, deaths: Deaths) -> Self {
        Self {
            deaths: Some(deaths),
            ..self
        }
    }

    /// The program that supervises jobs, which is the whole `towpath` command.
    pub fn program(&self) -> &Path {
        &self.program
    }

    /// Makes the world.
    pub async fn start(&self) -> World {
        // 2026-01-01T00:00:00Z
        let new_year = || Clock::manual(1_767_225_600_000);
        let clock = self.clock.clone().unwrap_or_else(new_year);
        // Functions that are processes of their own go by the system's clock.
        let port = watch::wanted().then(watch::free_port);
        let clock = port.map_or(clock, |_| Clock::system());
        let plan = Plan {
            data: self.data.clone(),
            port: self.port,
            clock: clock.clone(),
            schedules: port.is_some(),
            environment: self.environment.clone(),
            models: self.gateway.as_ref().map(|gateway| gateway.models()),
            lambda_url: port.map(|port| format!("http://127.0.0.1:{port}")),
            supervisor: self.program.clone(),
            runner: None,
            commands: match self.builds {
                true => "codebuild",
                false => "process",
            },
        };
        let standing = Standing::start_mortal(plan, self.deaths.clone()).await;
        let standing = standing.unwrap();
        let client = Client::new(standing.cloud.url(), Some(standing.key.clone()));
        let watch = match (port, &standing.watch_file) {
            (Some(port), Some(file)) => Some(Watch::start(port, file).await),
            _ => None,
        };
        World {
            standing,
            client,
            clock,
            watch,
            _gateway: self.gateway.clone(),
        }
    }
}

/// Towpath, standing, with a clock of the test's.
pub struct World {
    /// Towpath.
    pub standing: Standing,
    /// A client with the world's own key.
    pub client: Client,
    /// The time. It moves while the world waits.
    pub clock: Clock,
    watch: Option<Watch>,
    /// It stands as long as the world does.
    _gateway: Option<Arc<Gateway>>,
}

/// How long a test waits for something, in real time, before it is said to hang. No test measures anything by it.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);

impl World {
    /// Puts a block of this name.
    pub async fn block(&self, name: &str) -> Block {
        self.client
            .put(&format!("/blocks/{name}"), &json!({ "title": name }))
            .await
            .unwrap()
    }

    /// Puts a block whose work is kept in this repository.
    pub async fn block_in(&self, name: &str, repository: &Path) -> Block {
        let body = json!({ "title": name, "repository": { "url": repository } });
        self.client
            .put(&format!("/blocks/{name}"), &body)
            .await
            .unwrap()
    }

    /// Puts a pipeline.
    pub async fn put(&self, yaml: &str) -> Pipeline {
        let pipeline = pipeline(yaml);
        let path = format!("/pipelines/{}", pipeline.id);
        let view: PipelineView = self.client.put(&path, &pipeline).await.unwrap();
        view.pipeline
    }

    /// Puts a pipeline and a block of the same name, and starts a run.
    pub async fn run(&self, yaml: &str) -> RunId {
        let pipeline = self.put(yaml).await;
        self.block(pipeline.id.as_str()).await;
        self.start(pipeline.id.as_str(), pipeline.id.as_str()).await
    }

    /// Starts a run.
    pub async fn start(&self, block: &str, pipeline: &str) -> RunId {
        let ask = json!({ "blockId": block, "pipelineId": pipeline });
        let view: RunView = self.client.post("/runs", &ask).await.unwrap();
        view.summary.id
    }

    /// The run as it now is.
    pub async fn view(&self, run: &RunId) -> RunView {
        self.standing
            .operator
            .views
            .run(&self.standing.caller, run)
            .await
            .unwrap()
    }

    /// Waits, while time goes by, until the run is as `seen` wants it. Seconds pass as milliseconds do, and once a
    /// minute of the world's time the tick comes by.
    pub async fn until(&self, run: &RunId, seen: impl Fn(&RunView) -> bool) -> RunView {
        self.watch(run, Duration::from_secs(1), seen).await
    }

    /// Waits, while time goes by in steps of this length, until the run is as `seen` wants it.
    pub(crate) async fn watch(
        &self,
        run: &RunId,
        step: Duration,
        seen: impl Fn(&RunView) -> bool,
    ) -> RunView {
        let patience = tokio::time::Instant::now() + PATIENCE;
        loop {
            let view = self.view(run).await;
            if seen(&view) {
                return view;
            }
            assert!(
                tokio::time::Instant::now() < patience,
                "the run hangs: {view:#?}"
            );
            self.pass(step).await;
        }
    }

    /// Waits until the run is over.
    pub async fn end(&self, run: &RunId) -> RunView {
        self.until(run, |view| view.summary.status.is_terminal())
            .await
    }

    /// Waits until the run waits for a human, and returns what for.
    pub async fn asked(&self, run: &RunId) -> String {
        let view = self.until(run, |view| {
            assert!(
                !view.summary.status.is_terminal(),
                "the run ended: {view:#?}"
            );
            view.summary
                .waits_for
                .as_ref()
                .is_some_and(|waits| waits.reason == "human")
        });
        view.await
            .summary
            .waits_for
            .and_then(|waits| waits.subject)
            .unwrap()
    }

    /// Approves what the run asks for.
    pub async fn approve(&self, run: &RunId, subject: &str) -> Value {
        self.client
            .post(
                &format!("/runs/{run}/approvals/{subject}/approve"),
                &json!({}),
            )
            .await
            .unwrap()
    }

    /// Lets time go by: this much of the world's, and a moment of ours for what is under way.
    ///
    /// # Panics
    /// If the functions are processes of their own and more is to pass than a moment: they go by the system's clock.
    pub async fn pass(&self, time: Duration) {
        if self.watch.is_some() {
            let moment = Duration::from_secs(1);
            assert!(time <= moment, "{time:?} cannot pass for real processes");
            tokio::time::sleep(Duration::from_millis(20)).await;
            return;
        }
        let (before, minute) = (self.clock.now_ms(), 60_000);
        self.clock.advance(time);
        if before / minute != self.clock.now_ms() / minute {
            self.standing.cloud.fire_schedules().await;
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}
