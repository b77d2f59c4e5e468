//! The cloud itself: everything the template describes, wired together.

use std::collections::BTreeMap;
use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};
use std::sync::{Arc, RwLock};
use std::time::Duration;

use serde_json::Value;
use towpath_clock::Clock;
use towpath_stepfunctions::{InvokeError, StepFunctions};

use crate::aws::{Aws, Services, WATCHED, access_key};
use crate::dynamodb::Database;
use crate::error::Error;
use crate::events::Events;
use crate::http::Front;
use crate::iam::{Iam, OPERATOR, StatementInfo, StatementUse};
use crate::lambda::{Duplicates, Functions, Kind, Lambda};
use crate::loopback::Door;
use crate::random;
use crate::s3::Objects;
use crate::secrets::Secrets;
use crate::states::{self, Wiring};
use crate::tasks::Tasks;
use crate::template::{FunctionSpec, REGION, Stack};

/// How often expired items are removed. AWS promises days.
const SWEEP: Duration = Duration::from_secs(3_600);

/// What to stand up, and how.
pub struct Options {
    /// The SAM template.
    pub template: PathBuf,
    /// Where everything is kept. `None`: in memory, and gone with the process.
    pub data: Option<PathBuf>,
    /// The port of the HTTP API on 127.0.0.1. 0: any.
    pub port: u16,
    /// The time for everything but deadlines.
    pub clock: Clock,
    /// The functions in process.
    pub functions: Functions,
    /// More variables for every function. They win over the template's.
    pub environment: BTreeMap<String, String>,
    /// The URL of a `cargo lambda watch` for the functions that are not in process.
    pub lambda_url: Option<String>,
    /// Whether the clock runs the schedules. A test may rather fire them by hand.
    pub schedules: bool,
}

/// How much was done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Counts {
    /// Transitions of the state machine.
    pub transitions: u64,
    /// Invocations of functions.
    pub invocations: u64,
    /// The same by logical id; a function that was never invoked is not there.
    pub invocations_by_function: BTreeMap<String, u64>,
}

/// A running local cloud. Dropping it ends it as a kill would; [`Cloud::shutdown`] ends it in order.
pub struct Cloud {
    url: String,
    aws_url: String,
    secret: String,
    outputs: BTreeMap<String, String>,
    iam: Arc<Iam>,
    lambda: Arc<Lambda>,
    events: Arc<Events>,
    states: StepFunctions,
    tasks: Arc<Tasks>,
    aws: Arc<Aws>,
    watched: BTreeMap<String, String>,
    _lock: Option<File>,
}

impl Cloud {
    /// Stands the template up.
    ///
    /// # Errors
    /// If the template cannot be stood up as it is, a file or port cannot be used, or a function does not start.
    pub async fn start(options: Options) -> Result<Self, Error> {
        let lock = options.data.as_deref().map(claim).transpose()?;
        let http = Door::open(options.port).await?;
        // Beside the HTTP API where that is free: what runs outside (a cargo lambda watch) then outlives a restart.
        let beside = options
            .port
            .checked_add(1)
            .filter(|beside| *beside > 1)
            .unwrap_or_default();
        let aws = match Door::open(beside).await {
            Ok(door) => door,
            Err(_) => Door::open(0).await?,
        };
        let (url, aws_url) = (http.url(), aws.url());
        let stack = Stack::load(&options.template, &url)?;
        let secret = secret(options.data.as_deref())?;
        let file = |name: &str| options.data.as_ref().map(|data| data.join(name));

        let database = Arc::new(Database::open(file("tables.db").as_deref(), &stack.tables)?);
        let iam = Arc::new(Iam::new(&stack));
        let tasks = Arc::new(Tasks::default());
        let clock = options.clock;
        let remote = options.lambda_url.as_deref();
        let lambda = Arc::new(Lambda::new(
            &stack.functions,
            remote,
            clock.clone(),
            Arc::clone(&tasks),
        )?);
        let events = Arc::new(Events::new(
            &stack.functions,
            Arc::clone(&lambda),
            clock.clone(),
        ));
        let wiring = Wiring {
            lambda: Arc::clone(&lambda),
            iam: Arc::clone(&iam),
            events: Arc::clone(&events),
            clock: clock.clone(),
            tasks: Arc::clone(&tasks),
        };
        let states = states::open(file("executions.db"), &stack.machines, &wiring)?;
        let identities = stack
            .roles
            .keys()
            .map(String::as_str)
            .chain([OPERATOR, WATCHED]);
        let objects = Objects::open(
            options.data.as_deref(),
            &stack.buckets,
            identities.map(|identity| access_key(identity, &secret)),
            &secret,
            Arc::clone(&iam),
        )?;
        let services = Services {
            database: Arc::clone(&database),
            objects: Arc::new(objects),
            states: states.router(),
        };
        let binaries = stack.functions.iter().filter_map(|spec| {
            let binary = spec.binary.clone()?;
            Some((binary, spec.id.clone()))
        });
        let front = Arc::new(Aws {
            iam: Arc::clone(&iam),
            binaries: binaries.collect(),
            tables: stack.tables,
            machines: stack.machines,
            secrets: Arc::new(Secrets::open(options.data.as_deref(), stack.secrets)?),
            secret: secret.clone(),
            port: aws.port,
            services: RwLock::new(Some(services)),
        });
        let mut cloud = Self {
            url,
            aws_url,
            secret,
            outputs: stack.outputs,
            iam,
            lambda: Arc::clone(&lambda),
            events: Arc::clone(&events),
            states,
            tasks: Arc::clone(&tasks),
            aws: front,
            watched: BTreeMap::new(),
            _lock: lock,
        };
        if options.lambda_url.is_some() {
            cloud.watched = shared_environment(&stack.functions);
            cloud.watched.extend(cloud.aws_environment(WATCHED));
            cloud.watched.extend(options.environment.clone());
        }

        // First what functions call, then the functions, then what calls them.
        aws.serve(cloud.aws.router(), &tasks);
        lambda
            .start(&options.functions, |spec| {
                cloud.environment(spec, &options.environment)
            })
            .await?;
        let port = http.port;
        http.serve(
            Front::router(&stack.functions, lambda, clock.clone(), port),
            &tasks,
        );
        cloud.states.resume();
        if options.schedules {
            events.run_schedules(&tasks);
            tasks.spawn(sweep(database, clock));
        }
        Ok(cloud)
    }

    /// Where the HTTP API is: `http://127.0.0.1:PORT`.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The variables an AWS SDK client needs to call this cloud as an identity: the logical id of a function or state
    /// machine, whose role it then has, or `operator`, who may do everything.
    pub fn aws_environment(&self, identity: &str) -> BTreeMap<String, String> {
        let key = access_key(identity, &self.secret);
        [
            ("AWS_REGION", REGION),
            ("AWS_DEFAULT_REGION", REGION),
            // For every other service too: nothing may leave the machine.
            ("AWS_ENDPOINT_URL", &self.aws_url),
            ("AWS_ENDPOINT_URL_DYNAMODB", &self.aws_url),
            ("AWS_ENDPOINT_URL_S3", &self.aws_url),
            ("AWS_ENDPOINT_URL_SFN", &self.aws_url),
            ("AWS_ACCESS_KEY_ID", &key),
            ("AWS_SECRET_ACCESS_KEY", &self.secret),
            ("AWS_EC2_METADATA_DISABLED", "true"),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into()
    }

    /// The variables of the functions that a `cargo lambda watch` runs: it gives them all the same. Empty without one.
    pub fn watch_environment(&self) -> &BTreeMap<String, String> {
        &self.watched
    }

    fn environment(
        &self,
        spec: &FunctionSpec,
        more: &BTreeMap<String, String>,
    ) -> BTreeMap<String, String> {
        let mut environment = spec.environment.clone();
        environment.extend(self.aws_environment(&spec.id));
        environment.insert("AWS_LAMBDA_FUNCTION_NAME".to_owned(), spec.name.clone());
        environment.insert(
            "AWS_LAMBDA_FUNCTION_MEMORY_SIZE".to_owned(),
            spec.memory_mb.to_string(),
        );
        environment.extend(more.clone());
        environment
    }

    /// How much was done since the start.
    pub fn counts(&self) -> Counts {
        let invocations_by_function = self.lambda.counts();
        let invocations = invocations_by_function.values().sum();
        Counts {
            transitions: self.states.counts().transitions,
            invocations,
            invocations_by_function,
        }
    }

    /// Puts an event on the default bus: `{"source": …, "detail-type": …, "detail": …}`. Returns once each function it
    /// is for was invoked; one that failed is tried again in the background, by the clock, as Lambda does.
    pub async fn put_event(&self, event: Value) {
        self.events.put(event).await;
    }

    /// The default event bus, for whoever puts events on it for as long as the cloud stands.
    pub fn event_bus(&self) -> EventBus {
        EventBus(Arc::clone(&self.events))
    }

    /// Fires each schedule once, now, and returns once each was invoked.
    pub async fn fire_schedules(&self) {
        self.events.fire().await;
    }

    /// Invokes a function by its logical id and waits for its answer.
    ///
    /// # Errors
    /// If the function fails: the name of its error, and Lambda's error document.
    pub async fn invoke(&self, logical_id: &str, payload: Value) -> Result<Value, InvokeError> {
        self.lambda
            .invoke(logical_id, payload, Kind::Synchronous)
            .await
    }

    /// The value of one of the template's `Outputs`.
    pub fn output(&self, name: &str) -> Option<String> {
        self.outputs.get(name).cloned()
    }

    /// The value of a secret that the template generates, by its logical id, name or ARN.
    pub fn secret(&self, id: &str) -> Option<String> {
        self.aws.secrets.value(id).map(str::to_owned)
    }

    /// What was allowed so far, and which statement of the template allowed it.
    pub fn statements_used(&self) -> Vec<StatementUse> {
        self.iam.used()
    }

    /// What was refused so far, in AWS's words, because no statement allows it.
    pub fn refused(&self) -> Vec<String> {
        self.iam.refused()
    }

    /// Every statement of the template's policies.
    pub fn statements(&self) -> Vec<StatementInfo> {
        self.iam.statements()
    }

    /// From now on as if a statement did not stand in its policy, or one action did not stand in it. Says whether there
    /// was such a statement. `policy` is the logical id of a managed policy, or of the function or state machine that
    /// the statement stands in; `action` is concrete, without wildcards.
    pub fn remove_statement(&self, policy: &str, index: usize, action: Option<&str>) -> bool {
        self.iam.remove(policy, index, action)
    }

    /// From now on, some events reach their function twice at the same time (asynchronous invocations and tasks of the
    /// state machine). `None`: no longer.
    pub fn duplicate_invocations(&self, duplicates: Option<Duplicates>) {
        self.lambda.set_duplicates(duplicates);
    }

    /// Ends the cloud. What is under way ends where it is; with a data directory, the next start goes on from there.
    pub async fn shutdown(self) {
        self.aws.close();
        self.states.shutdown().await;
        self.tasks.stop().await;
    }
}

/// The default event bus of a cloud.
#[derive(Clone)]
pub struct EventBus(Arc<Events>);

impl EventBus {
    /// Puts an event on the bus: see [`Cloud::put_event`].
    pub async fn put(&self, event: Value) {
        self.0.put(event).await;
    }
}

impl Drop for Cloud {
    fn drop(&mut self) {
        self.aws.close();
        self.tasks.abort();
    }
}

/// The template's variables that every function has. A `cargo lambda watch` gives them all the same, and what is for one
/// is not for the others: it would try what its role does not allow.
fn shared_environment(specs: &[FunctionSpec]) -> BTreeMap<String, String> {
    let mut environments = specs.iter().map(|spec| &spec.environment);
    let mut shared = environments.next().cloned().unwrap_or_default();
    for environment in environments {
        shared.retain(|name, value| environment.get(name) == Some(value));
    }
    shared
}

/// Makes the directory ours alone.
fn claim(data: &Path) -> Result<File, Error> {
    let failed = |error| Error::io(format!("cannot use {}", data.display()), error);
    std::fs::create_dir_all(data).map_err(failed)?;
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        std::fs::set_permissions(data, std::fs::Permissions::from_mode(0o700)).map_err(failed)?;
    }
    let lock = File::create(data.join("lock")).map_err(failed)?;
    // The system lets go of it when the process ends, however it ends.
    match lock.try_lock() {
        Ok(()) => Ok(lock),
        Err(TryLockError::WouldBlock) => Err(Error::Locked(data.to_owned())),
        Err(TryLockError::Error(error)) => Err(failed(error)),
    }
}

/// The secret access key of everybody here. It is kept with the data, so that what was given keys before a restart goes on.
fn secret(data: Option<&Path>) -> Result<String, Error> {
    let Some(data) = data else {
        return random::hex();
    };
    let path = data.join("access-key-secret");
    match std::fs::read_to_string(&path) {
        Ok(secret) if secret.len() == 32 => Ok(secret),
        // Half-written by a process that was killed, or not there yet.
        _ => {
            let secret = random::hex()?;
            let failed = |error| Error::io(format!("cannot write {}", path.display()), error);
            std::fs::write(&path, &secret).map_err(failed)?;
            Ok(secret)
        }
    }
}

/// Removes expired items now and then, while the clock is the system's: by that one the database tells what expired.
async fn sweep(database: Arc<Database>, clock: Clock) {
    loop {
        clock.sleep(SWEEP).await;
        if clock.now_ms().abs_diff(Clock::system().now_ms()) < 5_000 {
            let database = Arc::clone(&database);
            if tokio::task::spawn_blocking(move || database.sweep())
                .await
                .is_err()
            {
                tracing::error!("removing expired items ended early");
            }
        }
    }
}
