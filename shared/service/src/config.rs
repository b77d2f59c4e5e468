//! The configuration of a function.

use std::path::PathBuf;
use std::time::Duration;

use towpath_aws::Settings;
use towpath_engine::ENTRIES_LIMIT;

use crate::{Error, ModelGateway, remote};

/// The configuration of a function, from its environment.
#[derive(Clone, Debug)]
pub struct Config {
    /// The endpoints and credentials of AWS.
    pub aws: Settings,
    /// The name of the runs table: `RUNS_TABLE`.
    pub runs_table: String,
    /// The name of the executors table: `EXECUTORS_TABLE`.
    pub executors_table: String,
    /// The name of the bucket of large outputs: `OUTPUTS_BUCKET`.
    pub outputs_bucket: String,
    /// The ARN of the state machine: `STATE_MACHINE_ARN`.
    pub machine: String,
    /// The number of waits that one execution begins before the next takes over: `TOWPATH_ENTRIES_LIMIT`.
    pub entries_limit: u32,
    /// The time for which one invocation goes on to the next action: `TOWPATH_FOLD_SECONDS`, 20 when not set.
    pub fold: Duration,
    /// The ARN of the secret that holds the first API key: `FIRST_KEY_SECRET_ARN`. Only a function that admits it has it.
    pub first_key: Option<String>,
    /// The ARN of the secret that holds the key which enrols executors: `ENROLMENT_KEY_SECRET_ARN`. Only a function that
    /// registers them has it.
    pub enrolment_key: Option<String>,
    /// The ARN of the secret that holds the key of the secrets for agents: `SECRETS_KEY_ARN`. Only a function that keeps
    /// them or starts jobs has it.
    pub secrets_key: Option<String>,
    /// The kind of the runtime for commands that do not say where they run: `TOWPATH_RUNTIME`. When not set, the only
    /// runtime that runs commands.
    pub commands: Option<String>,
    /// The name of the CodeBuild project that jobs run in: `CODEBUILD_PROJECT`. Without it, there is no such runtime.
    pub codebuild: Option<String>,
    /// Where tasks of ECS run: `ECS_CLUSTER`, `ECS_SUBNETS`, `ECS_SECURITY_GROUPS`, `ECS_PUBLIC_IP`, `ECS_CAPACITY`,
    /// `ECS_ARCHITECTURE`, `ECS_FAMILY`, `ECS_TASK_ROLE`, `ECS_EXECUTION_ROLE`, `ECS_LOG_GROUP`; and, as for Fly.io, the
    /// image of jobs that name none, `JOB_IMAGE`, and the address that runners call, `TOWPATH_API_BASE`. Without a cluster,
    /// there is no such runtime.
    pub ecs: Option<towpath_jobs_ecs::Settings>,
    /// Where machines of Fly.io run: `FLY_APP`, `FLY_REGION`, `FLY_TOKEN_SECRET` (the ARN of the secret that holds the
    /// token). Without an app, there is no such runtime.
    pub fly: Option<towpath_jobs_fly::Settings>,
    /// The URL of the machines API of Fly.io, if it is not Fly.io's own: `FLY_API_URL`.
    pub fly_url: Option<String>,
    /// The URL by which messages are sent over the sockets of executors, `EXECUTOR_SOCKETS`: that of the management API of
    /// the WebSocket API's stage. Without it executors are told nothing, and poll.
    pub sockets: Option<String>,
    /// The model gateway: `TOWPATH_MODEL_BASE` and its key. Without it, there is no runtime `model`.
    pub model: Option<ModelGateway>,
    /// The directory of the jobs of the process runtime, `TOWPATH_JOBS`, and the program that supervises them,
    /// `TOWPATH_SUPERVISOR`. Both are set by the local cloud; elsewhere there is no such runtime.
    pub processes: Option<(PathBuf, PathBuf)>,
}

impl Config {
    /// Reads the configuration by name.
    ///
    /// # Errors
    /// If a setting is missing or makes no sense.
    pub fn from_lookup(lookup: impl Fn(&str) -> Option<String>) -> Result<Self, Error> {
        let need =
            |name: &str| lookup(name).ok_or_else(|| Error::Config(format!("{name} is not set")));
        let number = |name: &str, otherwise: u32| match lookup(name) {
            None => Ok(otherwise),
            Some(text) => text
                .parse()
                .map_err(|_| Error::Config(format!("{name}={text:?} is not a number"))),
        };
        let aws = Settings::from_lookup(&lookup).map_err(|e| Error::Config(e.to_string()))?;
        Ok(Self {
            aws,
            runs_table: need("RUNS_TABLE")?,
            executors_table: need("EXECUTORS_TABLE")?,
            outputs_bucket: need("OUTPUTS_BUCKET")?,
            machine: need("STATE_MACHINE_ARN")?,
            entries_limit: number("TOWPATH_ENTRIES_LIMIT", ENTRIES_LIMIT)?,
            fold: Duration::from_secs(number("TOWPATH_FOLD_SECONDS", 20)?.into()),
            first_key: lookup("FIRST_KEY_SECRET_ARN"),
            enrolment_key: lookup("ENROLMENT_KEY_SECRET_ARN"),
            secrets_key: lookup("SECRETS_KEY_ARN"),
            commands: lookup("TOWPATH_RUNTIME").filter(|kind| !kind.is_empty()),
            codebuild: lookup("CODEBUILD_PROJECT").filter(|name| !name.is_empty()),
            ecs: remote::ecs(&lookup)?,
            fly: remote::fly(&lookup)?,
            fly_url: lookup("FLY_API_URL").filter(|url| !url.is_empty()),
            sockets: lookup("EXECUTOR_SOCKETS").filter(|url| !url.is_empty()),
            model: ModelGateway::from_lookup(&lookup)?,
            processes: lookup("TOWPATH_JOBS")
                .map(PathBuf::from)
                .zip(lookup("TOWPATH_SUPERVISOR").map(PathBuf::from)),
        })
    }
}
