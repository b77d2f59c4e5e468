//! The cloud itself: everything that the template describes, wired together.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::{Arc, RwLock};
use std::time::Duration;

use serde_json::Value;
use towpath_clock::Clock;
use towpath_stepfunctions::{InvokeError, StepFunctions};

use crate::aws::{Aws, Services, WATCHED, access_key};
use crate::codebuild::{BuildWeather, CodeBuild};
use crate::data;
use crate::dynamodb::Database;
use crate::error::Error;
use crate::events::Events;
use crate::http::{Front, Gateway, Origins};
use crate::iam::{Iam, OPERATOR, StatementInfo, StatementUse};
use crate::lambda::{Duplicates, Functions, Kind, Lambda};
use crate::loopback::Door;
use crate::random;
use crate::s3::Objects;
use crate::secrets::Secrets;
use crate::socket::{Behind, Sockets};
use crate::states::{self, Wiring};
use crate::tasks::Tasks;
use crate::template::{FrontSpec, FunctionSpec, PermissionSpec, REGION, Stack};

/// The interval at which expired items are removed. AWS promises days.
const SWEEP: Duration = Duration::from_secs(3_600);

/// The settings of a local cloud.
pub struct Options {
    /// The path of the SAM template.
    pub template: PathBuf,
    /// The directory that keeps everything: one that a local cloud used before, an empty one, or one that is not there
    /// yet. `None` keeps everything in memory until the process ends.
    pub data: Option<PathBuf>,
    /// The port of the HTTP API on 127.0.0.1; 0 is any free port.
    pub port: u16,
    /// The clock of everything but the deadlines of functions.
    pub clock: Clock,
    /// The functions that run in this process.
    pub functions: Functions,
    /// Environment variables for every function, besides the template's and before them.
    pub environment: BTreeMap<String, String>,
    /// The URL of the `cargo lambda watch` that runs the functions that are not in this process.
    pub lambda_url: Option<String>,
    /// The program that supervises the commands of builds, as `PROGRAM supervise --dir DIR`. Without one no build runs.
    pub supervisor: Option<PathBuf>,
    /// Values of the template's parameters, by name. The others have their defaults.
    pub parameters: BTreeMap<String, String>,
    /// Secrets of Secrets Manager that are there besides the template's, by their ARNs. They are not kept.
    pub secrets: BTreeMap<String, String>,
    /// Files that are objects of the first bucket from the start, by their keys.
    pub objects: BTreeMap<String, PathBuf>,
    /// Whether each schedule fires at the start and then by the clock. Without it, [`Cloud::fire_schedules`] fires them.
    pub schedules: bool,
}

/// The numbers of what was done since the start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Counts {
    /// State transitions, as AWS bills them.
    pub transitions: u64,
    /// Invocations of all functions.
    pub invocations: u64,
    /// Invocations by the logical id of the function; a function that was never invoked is not there.
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
    codebuild: Arc<CodeBuild>,
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
        let lock = options.data.as_deref().map(data::claim).transpose()?;
        let (http, aws) = doors(options.port).await?;
        let stack = Stack::load(
            &options.template,
            &options.parameters,
            &http.url(),
            &aws.url(),
        )?;
        let secret = secret(options.data.as_deref())?;
        let parts = Parts::open(&options, &stack, &secret, aws.port)?;
        let functions = stack.functions.clone();
        let front = stack.front.clone().zip(Some(stack.permissions.clone()));
        let outputs = stack.outputs.clone();
        let database = Arc::clone(&parts.services.database);
        let codebuild = Arc::clone(&parts.services.codebuild);
        let mut cloud = Self {
            url: http.url(),
            aws_url: aws.url(),
            secret: secret.clone(),
            outputs,
            iam: Arc::clone(&parts.iam),
            lambda: Arc::clone(&parts.lambda),
            events: Arc::clone(&parts.events),
            states: parts.states.clone(),
            tasks: Arc::clone(&parts.tasks),
            codebuild,
            aws: Arc::new(parts.front(stack, &options, secret, aws.port)?),
            watched: BTreeMap::new(),
            _lock: lock,
        };
        if options.lambda_url.is_some() {
            cloud.watched = shared_environment(&functions);
            cloud.watched.extend(cloud.aws_environment(WATCHED));
            cloud.watched.extend(options.environment.clone());
        }
        cloud
            .open_for(&options, &functions, front, http, aws)
            .await?;
        if options.schedules {
            cloud.events.run_schedules(&cloud.tasks);
            cloud.tasks.spawn(sweep(database, options.clock));
        }
        Ok(cloud)
    }

    /// Begins to serve: first what functions call, then the functions, then what calls them.
    async fn open_for(
        &self,
        options: &Options,
        functions: &[FunctionSpec],
        front: Option<(FrontSpec, Vec<PermissionSpec>)>,
        http: Door,
        aws: Door,
    ) -> Result<(), Error> {
        aws.serve(self.aws.router(), &self.tasks);
        self.lambda
            .start(&options.functions, |spec| {
                self.environment(spec, &options.environment)
            })
            .await?;
        let (lambda, clock, port) = (Arc::clone(&self.lambda), options.clock.clone(), http.port);
        let api = Gateway::router(functions, Arc::clone(&lambda), clock.clone(), port);
        let router = match front {
            Some((spec, permissions)) => {
                let sockets = self.aws.sockets();
                let origins = Origins { api, sockets };
                Front::router(spec, permissions, origins, lambda, clock, port)
            }
            None => api,
        };
        http.serve(router, &self.tasks);
        self.states.resume();
        self.codebuild.resume();
        Ok(())
    }

    /// The URL of the HTTP API: `http://127.0.0.1:PORT`.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The environment variables with which an AWS SDK client calls this cloud as an identity: the logical id of a
    /// function or state machine, whose role it then has, or `operator`, who may do everything.
    pub fn aws_environment(&self, identity: &str) -> BTreeMap<String, String> {
        let key = access_key(identity, &self.secret);
        [
            ("AWS_REGION", REGION),
            ("AWS_DEFAULT_REGION", REGION),
            // The endpoint of every other service too: nothing may leave the machine.
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

    /// The environment variables of the functions that a `cargo lambda watch` runs, the same for all of them. Empty
    /// without one.
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

    /// Counts what was done since the start.
    pub fn counts(&self) -> Counts {
        let invocations_by_function = self.lambda.counts();
        let invocations = invocations_by_function.values().sum();
        Counts {
            transitions: self.states.counts().transitions,
            invocations,
            invocations_by_function,
        }
    }

    /// Puts an event on the default bus: `{"source": …, "detail-type": …, "detail": …}`. Returns after each function that
    /// a rule names was invoked; a failed one is tried again in the background, by the clock, as Lambda does.
    pub async fn put_event(&self, event: Value) {
        self.events.put(event).await;
    }

    /// The default event bus, for code that puts events on it as long as the cloud stands.
    pub fn event_bus(&self) -> EventBus {
        EventBus(Arc::clone(&self.events))
    }

    /// Fires each schedule once, now, and returns after each function was invoked.
    pub async fn fire_schedules(&self) {
        self.events.fire().await;
    }

    /// Invokes a function by its logical id and waits for its answer.
    ///
    /// # Errors
    /// The error of the function: its name, and Lambda's error document as the cause.
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

    /// Every access that was allowed so far, with the statement of the template that allowed it.
    pub fn statements_used(&self) -> Vec<StatementUse> {
        self.iam.used()
    }

    /// Every access that was refused so far because no statement allows it, in AWS's words.
    pub fn refused(&self) -> Vec<String> {
        self.iam.refused()
    }

    /// Every statement of the template's policies.
    pub fn statements(&self) -> Vec<StatementInfo> {
        self.iam.statements()
    }

    /// Removes a statement from its policy from now on, or one action from the statement, and returns whether there was
    /// such a statement. `policy` is the logical id of a managed policy, or of the function or state machine whose role
    /// has the statement; `action` has no wildcards.
    pub fn remove_statement(&self, policy: &str, index: usize, action: Option<&str>) -> bool {
        self.iam.remove(policy, index, action)
    }

    /// Delivers some events to their function twice at the same time from now on: asynchronous invocations and tasks of
    /// the state machine. `None` ends that.
    pub fn duplicate_invocations(&self, duplicates: Option<Duplicates>) {
        self.lambda.set_duplicates(duplicates);
    }

    /// Decides how builds go from now on.
    pub fn set_build_weather(&self, weather: BuildWeather) {
        self.codebuild.set_weather(weather);
    }

    /// Waits until the cloud cannot drive executions any more, and returns the reason: their store has been unusable for
    /// a minute of the clock. A process that keeps a cloud up ends with that reason and an exit code that is not 0. A
    /// failure that is over sooner, such as a disk that is full for a moment, is got over without a word here.
    pub async fn failed(&self) -> Error {
        Error::Executions(self.states.failed().await.to_string())
    }

    /// Ends the cloud. Work under way is cut off; with a data directory, the next start goes on from there.
    pub async fn shutdown(self) {
        self.aws.close();
        self.states.shutdown().await;
        self.tasks.stop().await;
    }
}

/// The services of a cloud, opened and not yet serving.
struct Parts {
    iam: Arc<Iam>,
    tasks: Arc<Tasks>,
    lambda: Arc<Lambda>,
    events: Arc<Events>,
    states: StepFunctions,
    services: Services,
}

impl Parts {
    fn open(options: &Options, stack: &Stack, secret: &str, port: u16) -> Result<Self, Error> {
        let data = options.data.as_deref();
        let file = |name: &str| data.map(|data| data.join(name));
        let clock = &options.clock;
        let database = Arc::new(Database::open(file("tables.db").as_deref(), &stack.tables)?);
        let iam = Arc::new(Iam::new(stack));
        let tasks = Arc::new(Tasks::default());
        let lambda = Arc::new(Lambda::new(
            &stack.functions,
            options.lambda_url.as_deref(),
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
        let identities = stack.roles.keys().map(String::as_str);
        let keys = identities
            .chain([OPERATOR, WATCHED])
            .map(|identity| access_key(identity, secret));
        let objects = Objects::open(data, &stack.buckets, keys, secret, Arc::clone(&iam))?;
        if let Some(bucket) = stack.buckets.first() {
            objects.place(bucket, &options.objects)?;
        }
        let codebuild = Arc::new(CodeBuild::open(
            data,
            &stack.projects,
            options.supervisor.clone(),
            Arc::clone(&events),
            clock.clone(),
            Arc::clone(&tasks),
        )?);
        let behind = Behind {
            permissions: stack.permissions.clone(),
            lambda: Arc::clone(&lambda),
            clock: clock.clone(),
            tasks: Arc::clone(&tasks),
        };
        let sockets = stack.sockets.clone();
        let sockets = sockets.map(|spec| Arc::new(Sockets::new(spec, behind, port)));
        let services = Services {
            sockets,
            database,
            objects: Arc::new(objects),
            states: states.router(),
            codebuild,
            events: Arc::clone(&events),
            tasks: Arc::clone(&tasks),
        };
        Ok(Self {
            iam,
            tasks,
            lambda,
            events,
            states,
            services,
        })
    }

    /// The AWS front of these services.
    fn front(
        self,
        stack: Stack,
        options: &Options,
        secret: String,
        port: u16,
    ) -> Result<Aws, Error> {
        let binaries = stack.functions.iter().filter_map(|spec| {
            let binary = spec.binary.clone()?;
            Some((binary, spec.id.clone()))
        });
        let data = options.data.as_deref();
        let secrets = Secrets::open(data, stack.secrets)?.with(&options.secrets);
        Ok(Aws {
            iam: self.iam,
            binaries: binaries.collect(),
            tables: stack.tables,
            machines: stack.machines,
            secrets: Arc::new(secrets),
            secret,
            port,
            services: RwLock::new(Some(self.services)),
        })
    }
}

/// Opens the ports of the HTTP API and of the AWS front. The latter is beside the former where that port is free: what
/// runs outside (a cargo lambda watch) then outlives a restart.
async fn doors(port: u16) -> Result<(Door, Door), Error> {
    let http = Door::open(port).await?;
    let beside = port.checked_add(1).filter(|beside| *beside > 1);
    let aws = match Door::open(beside.unwrap_or_default()).await {
        Ok(door) => door,
        Err(_) => Door::open(0).await?,
    };
    Ok((http, aws))
}

/// The default event bus of a cloud.
#[derive(Clone)]
pub struct EventBus(Arc<Events>);

impl EventBus {
    /// Puts an event on the bus, as [`Cloud::put_event`] does.
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

/// The template's variables that every function has. A `cargo lambda watch` gives all functions the same variables, and
/// with a variable that is for another, a function would try what its role does not allow.
fn shared_environment(specs: &[FunctionSpec]) -> BTreeMap<String, String> {
    let mut environments = specs.iter().map(|spec| &spec.environment);
    let mut shared = environments.next().cloned().unwrap_or_default();
    for environment in environments {
        shared.retain(|name, value| environment.get(name) == Some(value));
    }
    shared
}

/// The secret access key of every identity. It is kept with the data, so that keys handed out before a restart go on
/// working.
fn secret(directory: Option<&Path>) -> Result<String, Error> {
    let Some(directory) = directory else {
        return random::hex();
    };
    let path = directory.join("access-key-secret");
    match data::read(&path)? {
        Some(secret) if secret.len() == 32 => Ok(secret),
        // Not there yet, or half-written by an older release that was killed.
        _ => {
            let secret = random::hex()?;
            data::write(&path, &secret)?;
            Ok(secret)
        }
    }
}

/// Removes expired items at intervals, while the clock is the system's, since the database tells by that clock what has
/// expired.
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
