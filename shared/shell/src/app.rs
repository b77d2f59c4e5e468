//! What every function is made of.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use towpath_aws::{Clients, Index, Meter, Settings};
use towpath_clock::Clock;
use towpath_engine::{ENTRIES_LIMIT, Timestamp};
use towpath_jobs::{Registry, Runtime};
use towpath_jobs_process::ProcessRuntime;
use towpath_store::{Store, index};

use crate::Error;
use crate::first_key::FirstKey;

/// Clients and settings, made once per function.
#[derive(Clone)]
pub struct App {
    /// The records.
    pub store: Store,
    /// What the records cost so far.
    pub meter: Meter,
    pub(crate) sfn: aws_sdk_sfn::Client,
    pub(crate) machine: String,
    pub(crate) runtimes: Registry,
    pub(crate) clock: Clock,
    pub(crate) entries_limit: u32,
    pub(crate) fold: Duration,
    pub(crate) first_key: Option<FirstKey>,
}

/// What a function reads from its environment.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where AWS is, and who calls.
    pub aws: Settings,
    /// The name of the runs table: `RUNS_TABLE`.
    pub runs_table: String,
    /// The name of the executors table: `EXECUTORS_TABLE`.
    pub executors_table: String,
    /// The name of the bucket of large outputs: `OUTPUTS_BUCKET`.
    pub outputs_bucket: String,
    /// The ARN of the state machine: `STATE_MACHINE_ARN`.
    pub machine: String,
    /// How many waits one execution begins before the next takes over: `TOWPATH_ENTRIES_LIMIT`.
    pub entries_limit: u32,
    /// How long one invocation goes on to the next action: `TOWPATH_FOLD_SECONDS`, 20 when not set.
    pub fold: Duration,
    /// The ARN of the secret that holds the first API key: `FIRST_KEY_SECRET_ARN`. Only a function that admits it has it.
    pub first_key: Option<String>,
    /// The directory of the jobs of the process runtime, `TOWPATH_JOBS`, and the program that supervises them,
    /// `TOWPATH_SUPERVISOR`. Both are set by the local cloud; elsewhere there is no such runtime.
    pub processes: Option<(PathBuf, PathBuf)>,
}

impl Config {
    /// Reads the configuration by name.
    ///
    /// # Errors
    /// If something is missing or makes no sense.
    pub fn from_lookup(lookup: impl Fn(&str) -> Option<String>) -> Result<Self, Error> {
        let need =
            |name: &str| lookup(name).ok_or_else(|| Error::Config(format!("{name} is not set")));
        let number = |name: &str, otherwise: u32| match lookup(name) {
            None => Ok(otherwise),
            Some(text) => text
                .parse()
                .map_err(|_| Error::Config(format!("{name}={text:?} is not a number"))),
        };
        let runs_table = need("RUNS_TABLE")?;
        let aws = Settings::from_lookup(&lookup).map_err(|e| Error::Config(e.to_string()))?;
        let indexes = index::KEYS.iter().map(|keys| Index {
            table: runs_table.clone(),
            keys: keys.iter().map(ToString::to_string).collect(),
            // Keys only: the table's own and the index's.
            copies: Some(
                keys.iter()
                    .chain(&["pk", "sk"])
                    .map(ToString::to_string)
                    .collect(),
            ),
        });
        Ok(Self {
            aws: aws.with_indexes(indexes),
            executors_table: need("EXECUTORS_TABLE")?,
            outputs_bucket: need("OUTPUTS_BUCKET")?,
            machine: need("STATE_MACHINE_ARN")?,
            entries_limit: number("TOWPATH_ENTRIES_LIMIT", ENTRIES_LIMIT)?,
            fold: Duration::from_secs(number("TOWPATH_FOLD_SECONDS", 20)?.into()),
            first_key: lookup("FIRST_KEY_SECRET_ARN"),
            processes: lookup("TOWPATH_JOBS")
                .map(PathBuf::from)
                .zip(lookup("TOWPATH_SUPERVISOR").map(PathBuf::from)),
            runs_table,
        })
    }
}

impl App {
    /// The app of a function process: configured by its environment, its connections opened before the first event.
    ///
    /// # Errors
    /// If the environment is not complete.
    pub async fn from_env() -> Result<Self, Error> {
        crate::init_logs();
        let config = Config::from_lookup(|name| std::env::var(name).ok())?;
        let app = Self::connect(&config, Clock::system(), None)?;
        app.store.warm().await;
        Ok(app)
    }

    /// The app of this configuration. `process` is a process runtime to share with others in the same process.
    ///
    /// # Errors
    /// If the configuration is refused.
    pub fn connect(
        config: &Config,
        clock: Clock,
        process: Option<ProcessRuntime>,
    ) -> Result<Self, Error> {
        let clients = Clients::connect(&config.aws).map_err(|e| Error::Config(e.to_string()))?;
        let processes = config.processes.clone();
        let process =
            process.or_else(|| processes.map(|(jobs, program)| ProcessRuntime::new(jobs, program)));
        let runtimes = process
            .into_iter()
            .map(|process| Arc::new(process) as Arc<dyn Runtime>);
        Ok(Self {
            store: Store::new(
                clients.dynamodb.clone(),
                clients.bucket(&config.outputs_bucket),
                &config.runs_table,
                &config.executors_table,
            ),
            meter: clients.meter,
            sfn: clients.sfn,
            machine: config.machine.clone(),
            runtimes: Registry::new(runtimes),
            clock,
            entries_limit: config.entries_limit,
            fold: config.fold,
            first_key: config
                .first_key
                .clone()
                .map(|arn| FirstKey::new(clients.secrets, arn)),
        })
    }

    /// The time.
    pub fn now(&self) -> Timestamp {
        Timestamp(self.clock.now_ms())
    }
}
