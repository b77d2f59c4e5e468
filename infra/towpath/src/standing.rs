//! Towpath on the local cloud: the template stood up with its functions, jobs as local processes, and a key to get in.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::json;
use tempfile::TempDir;
use towpath_auth::{Key, Secret};
use towpath_clock::Clock;
use towpath_engine::JobId;
use towpath_instruments::Deaths;
use towpath_jobs::Runtime;
use towpath_jobs_process::{Ownership, ProcessRuntime, Watcher};
use towpath_local::{Cloud, Options};
use towpath_service::{App, Caller, Doctor};
use towpath_store::{ApiKey, Scope};

use crate::functions::{self, Meters, Shared};

/// The plan of a local cloud with Towpath on it.
pub struct Plan {
    /// The folder that everything is kept in. `None`: in memory, and gone with the process.
    pub data: Option<PathBuf>,
    /// The port of the HTTP API; 0 for any.
    pub port: u16,
    /// The clock that everything goes by.
    pub clock: Clock,
    /// Whether the clock runs the schedules.
    pub schedules: bool,
    /// More variables for every function.
    pub environment: BTreeMap<String, String>,
    /// The gateway for calls of models. `None`: there are none.
    pub models: Option<Models>,
    /// The URL of a `cargo lambda watch` to call the functions through, instead of in process.
    pub lambda_url: Option<String>,
    /// The program that supervises jobs: the `towpath` binary.
    pub supervisor: PathBuf,
    /// The program that builds fetch as their runner. `None`: the supervisor.
    pub runner: Option<PathBuf>,
    /// The kind of the runtime for commands that do not say where they run: `process`, or `codebuild`.
    pub commands: &'static str,
}

/// The gateway for calls of models, as a deployment names it.
#[derive(Clone, Debug)]
pub struct Models {
    /// The base URL of its API.
    pub base: String,
    /// Its key, if it asks for one.
    pub key: Option<Secret>,
}

/// The ARN of the secret that holds the key of the model gateway.
const MODEL_KEY_ARN: &str = "arn:aws:secretsmanager:us-east-1:000000000000:secret:model-key";

impl Models {
    /// The gateway that the environment of this process names: `TOWPATH_MODEL_BASE`, and its key, `TOWPATH_MODEL_KEY`.
    pub fn from_env() -> Option<Self> {
        let named = |name| std::env::var(name).ok().filter(|text| !text.is_empty());
        Some(Self {
            base: named("TOWPATH_MODEL_BASE")?,
            key: named("TOWPATH_MODEL_KEY").map(Secret::new),
        })
    }

    /// The parameters of the template that name it.
    fn parameters(&self) -> BTreeMap<String, String> {
        let arn = self.key.as_ref().map(|_| MODEL_KEY_ARN);
        [
            ("ModelBase", self.base.as_str()),
            ("ModelKeySecret", arn.unwrap_or_default()),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into()
    }

    /// The secret that those parameters speak of.
    fn secrets(&self) -> BTreeMap<String, String> {
        let key = self.key.iter();
        key.map(|key| (MODEL_KEY_ARN.to_owned(), key.expose().to_owned()))
            .collect()
    }
}

/// The reason Towpath could not be stood up.
#[derive(Debug, thiserror::Error)]
#[error("the local cloud could not be started: {0}")]
pub struct Error(String);

fn error(what: impl std::fmt::Display) -> Error {
    Error(what.to_string())
}

/// Towpath, standing.
pub struct Standing {
    /// The cloud under it.
    pub cloud: Cloud,
    /// The table units that the functions have used.
    pub meters: Meters,
    /// An app that may do everything, for looking on without it being counted.
    pub operator: App,
    /// The doctor of this cloud.
    pub doctor: Doctor,
    /// The key to the API.
    pub key: Key,
    /// The caller whose key it is.
    pub caller: Caller,
    /// The runtime of the jobs.
    pub process: ProcessRuntime,
    /// The folder of the jobs' folders.
    pub jobs: PathBuf,
    /// The `--env-file` of the `cargo lambda watch` that runs the functions, if one does.
    pub watch_file: Option<PathBuf>,
    watcher: Watcher,
    /// The possession of jobs that end with this cloud, however it ends.
    owner: Option<Ownership>,
    temporary: Option<TempDir>,
}

/// The workspace of the local cloud.
const WORKSPACE: &str = "local";

impl Standing {
    /// Stands Towpath up. On a data directory that was used before, everything goes on where it was.
    ///
    /// # Errors
    /// If the template, the directory or the port cannot be used.
    pub async fn start(plan: Plan) -> Result<Self, Error> {
        Self::start_mortal(plan, None).await
    }

    /// Stands Towpath up with functions whose invocations may die.
    ///
    /// # Errors
    /// As for [`Standing::start`].
    pub async fn start_mortal(plan: Plan, deaths: Option<Deaths>) -> Result<Self, Error> {
        let temporary = match plan.data {
            None => Some(temporary()?),
            Some(_) => None,
        };
        let home = plan
            .data
            .as_deref()
            .or(temporary.as_ref().map(TempDir::path))
            .unwrap_or(Path::new("."));
        let jobs = home.join("jobs");
        let owner = temporary.as_ref().map(|_| Ownership::take(&jobs));
        let owner = owner.transpose().map_err(error)?;
        let process = ProcessRuntime::new(jobs.clone(), plan.supervisor.clone());
        let shared = Shared {
            clock: plan.clock.clone(),
            process: process.clone(),
            meters: Meters::default(),
            deaths,
        };
        let mut environment = plan.environment;
        environment.insert("TOWPATH_RUNTIME".to_owned(), plan.commands.to_owned());
        environment.insert("TOWPATH_JOBS".to_owned(), jobs.display().to_string());
        environment.insert(
            "TOWPATH_SUPERVISOR".to_owned(),
            plan.supervisor.display().to_string(),
        );
        let in_process = if plan.lambda_url.is_none() {
            functions::all(&shared)
        } else {
            BTreeMap::new()
        };
        let models = plan.models.as_ref();
        let options = Options {
            template: template(),
            data: plan.data.clone(),
            port: plan.port,
            clock: plan.clock,
            functions: in_process,
            environment: environment.clone(),
            lambda_url: plan.lambda_url,
            schedules: plan.schedules,
            objects: towpath_jobs::runner_object(std::env::consts::ARCH)
                .map(|key| (key, plan.runner.unwrap_or(plan.supervisor.clone())))
                .into_iter()
                .collect(),
            supervisor: Some(plan.supervisor),
            parameters: models.map(Models::parameters).unwrap_or_default(),
            secrets: models.map(Models::secrets).unwrap_or_default(),
        };
        let cloud = Cloud::start(options).await.map_err(error)?;
        let watch_file = watch_file(home, cloud.watch_environment())?;
        let base = models.map(|it| ("TOWPATH_MODEL_BASE".to_owned(), it.base.clone()));
        environment.extend(base);
        let environment = operators(environment, &cloud)?;
        if let Some(data) = &plan.data {
            let text = serde_json::to_string(&environment).map_err(error)?;
            write_private(&data.join(crate::doctor::ENVIRONMENT), &text).map_err(error)?;
        }
        let (operator, doctor) = functions::operator(&shared, &environment).map_err(error)?;
        let key = key(plan.data.as_deref())?;
        let caller = admit(&operator, &key).await?;
        let watcher = watch(&process, &cloud)?;
        Ok(Self {
            caller,
            meters: shared.meters,
            cloud,
            operator,
            doctor,
            key,
            process,
            jobs,
            watch_file,
            watcher,
            owner,
            temporary,
        })
    }

    /// Ends it. Jobs of a cloud in memory end with it; those of a data directory go on, and are found again.
    pub async fn stop(self) {
        drop(self.watcher);
        self.cloud.shutdown().await;
        if let Some(temporary) = self.temporary {
            stop_all(&self.process, &self.jobs).await;
            drop(self.owner);
            drop(temporary);
        }
    }
}

/// A folder of a local cloud that is gone with it.
fn temporary() -> Result<TempDir, Error> {
    let made = tempfile::Builder::new().prefix("towpath-").tempdir();
    made.map_err(error)
}

/// The variables that name what a deployment consists of, and the outputs of its stack that say so.
pub(crate) const OF_OUTPUTS: [(&str, &str); 6] = [
    ("RUNS_TABLE", "RunsTable"),
    ("EXECUTORS_TABLE", "ExecutorsTable"),
    ("OUTPUTS_BUCKET", "OutputsBucket"),
    ("STATE_MACHINE_ARN", "StateMachineArn"),
    ("CODEBUILD_PROJECT", "JobsProject"),
    ("EXECUTOR_SOCKETS", "ExecutorSockets"),
];

/// The environment in which an operator's commands reach this cloud: they break nothing on purpose.
fn operators(
    mut environment: BTreeMap<String, String>,
    cloud: &Cloud,
) -> Result<BTreeMap<String, String>, Error> {
    environment.extend(cloud.aws_environment("operator"));
    for (variable, output) in OF_OUTPUTS {
        let value = cloud.output(output);
        let value = value.ok_or_else(|| error(format!("the template has no output {output}")))?;
        environment.insert(variable.to_owned(), value);
    }
    environment.remove("TOWPATH_FAULTS");
    Ok(environment)
}

/// Admits the key of the local cloud, and says whose it is.
async fn admit(operator: &App, key: &Key) -> Result<Caller, Error> {
    let record = ApiKey {
        workspace: WORKSPACE.parse().map_err(error)?,
        scope: Scope::Admin,
        name: "local".to_owned(),
        created_at: operator.now(),
        revoked_at: None,
    };
    let put = operator.store.put_api_key(&key.hash(), &record).await;
    put.map_err(error)?;
    Ok(Caller {
        workspace: record.workspace,
        name: record.name,
    })
}

/// Stops every job under `root`, and returns once all have ended.
async fn stop_all(process: &ProcessRuntime, root: &Path) {
    let names = fs::read_dir(root).into_iter().flatten().flatten();
    let jobs: Vec<JobId> = names
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .collect();
    for job in &jobs {
        if let Err(error) = process.stop(job, Duration::from_secs(1)).await {
            tracing::warn!(%job, "could not be stopped: {error}");
        }
    }
    for job in &jobs {
        if let Err(error) = process.ended(job).await {
            tracing::warn!(%job, "may not have ended: {error}");
        }
    }
}

/// The template, where this command was built from.
/// The path of the template, in the sources.
pub fn template() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../template.yaml")
}

/// Tells the cloud's event bus of each job that ends, as a container service would.
fn watch(process: &ProcessRuntime, cloud: &Cloud) -> Result<Watcher, Error> {
    let (tell, mut ended) = tokio::sync::mpsc::unbounded_channel::<JobId>();
    let bus = cloud.event_bus();
    tokio::spawn(async move {
        while let Some(job) = ended.recv().await {
            let event = json!({
                "source": "towpath.jobs",
                "detail-type": "Job State Change",
                "detail": { "job": job },
            });
            let bus = bus.clone();
            tokio::spawn(async move { bus.put(event).await });
        }
    });
    process
        .watch(move |job| {
            // The cloud may be gone already; then nobody needs to know.
            let _ = tell.send(job);
        })
        .map_err(error)
}

/// The key of the local cloud: made once for a data directory, and kept where only its owner can read it.
fn key(data: Option<&Path>) -> Result<Key, Error> {
    let Some(data) = data else {
        return Key::generate().map_err(error);
    };
    let path = data.join("key");
    if let Some(key) = fs::read_to_string(&path)
        .ok()
        .and_then(|text| Key::parse(text.trim()).ok())
    {
        return Ok(key);
    }
    let key = Key::generate().map_err(error)?;
    write_private(&path, key.reveal()).map_err(error)?;
    Ok(key)
}

/// Keeps what the functions of a `cargo lambda watch` have to know where it can read it, and nobody else.
fn watch_file(home: &Path, variables: &BTreeMap<String, String>) -> Result<Option<PathBuf>, Error> {
    if variables.is_empty() {
        return Ok(None);
    }
    let lines = variables
        .iter()
        .map(|(name, value)| format!("{name}={value}\n"));
    let path = home.join("functions.env");
    write_private(&path, &lines.collect::<String>()).map_err(error)?;
    Ok(Some(path))
}

/// Writes a file that only its owner can read, whole or not at all.
pub(crate) fn write_private(path: &Path, text: &str) -> std::io::Result<()> {
    let dir = path.parent().unwrap_or(Path::new("."));
    // A temporary file is made with mode 0600.
    let mut file = tempfile::NamedTempFile::new_in(dir)?;
    file.write_all(text.as_bytes())?;
    file.as_file().sync_all()?;
    file.persist(path)?;
    Ok(())
}
