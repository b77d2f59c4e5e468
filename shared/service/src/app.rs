//! The ports, and the services over them.

use std::sync::Arc;
use std::time::Duration;

use towpath_aws::{Clients, Instrument};
use towpath_clock::Clock;
use towpath_engine::{ENTRIES_LIMIT, JobId, Timestamp};
use towpath_jobs::{Registry, Runtime};
use towpath_jobs_codebuild::Builds;
use towpath_jobs_executor::{Executors, NoSockets, Ports as ExecutorPorts, Sockets};
use towpath_jobs_remote::RemoteRuntime;
use towpath_jobs_simulated::SimulatedRuntime;
use towpath_machine::{Machine, StepFunctions};
use towpath_store::{Scope, Store};
use towpath_table::DynamoTable;

use crate::jobs::Jobs;
use crate::outbox::Outbox;
use crate::sockets::ApiSockets;
use crate::stops::Stops;
use crate::{
    Access, AgentSecrets, Answers, Config, Driver, Error, FirstKey, JobEvent, News, Poll, Random,
    Runners, Runs, Settler, Ticker, Vault, Views,
};

/// The ports that the services speak to.
#[derive(Clone)]
pub struct Ports {
    /// The records.
    pub store: Store,
    /// The state machine that drives runs.
    pub machine: Arc<dyn Machine>,
    /// The places where jobs run.
    pub runtimes: Registry,
    /// The time.
    pub clock: Clock,
    /// The randomness.
    pub random: Random,
    /// The key of the secrets for agents.
    pub vault: Vault,
    /// Where the ends of jobs are told.
    pub news: News,
    /// The open sockets of executors.
    pub sockets: Arc<dyn Sockets>,
}

impl Ports {
    /// Executors and their missions, over these ports.
    pub fn executors(&self) -> Executors {
        Executors::new(ExecutorPorts::new(
            &self.store,
            Arc::clone(&self.sockets),
            Arc::new(self.news.clone()),
            self.clock.clone(),
        ))
    }

    /// The time.
    pub(crate) fn now(&self) -> Timestamp {
        Timestamp(self.clock.now_ms())
    }
}

/// Every service, over the same ports. Cheap to clone.
#[derive(Clone)]
pub struct App {
    /// Moves runs on.
    pub driver: Driver,
    /// Looks at what runs wait for.
    pub poll: Poll,
    /// Takes the answers of humans.
    pub answers: Answers,
    /// Starts and stops runs.
    pub runs: Runs,
    /// Replaces drivers that died.
    pub settler: Settler,
    /// Sees to what is due.
    pub ticker: Ticker,
    /// Shows runs.
    pub views: Views,
    /// Knows API keys.
    pub access: Access,
    /// Keeps secrets for agents.
    pub secrets: AgentSecrets,
    /// Speaks with the runners of jobs.
    pub runners: Runners,
    /// Executors and their missions.
    pub executors: Executors,
    /// The builds that are jobs, if the deployment has the runtime `codebuild`.
    pub builds: Option<Builds>,
    /// The runtimes whose jobs run on machines of a service.
    pub remote: Vec<RemoteRuntime>,
    /// The records.
    pub store: Store,
    /// The time.
    pub clock: Clock,
}

impl App {
    /// The services over these ports.
    pub fn new(ports: Ports) -> Self {
        Self::with(ports, ENTRIES_LIMIT, Duration::from_secs(20), Vec::new())
    }

    /// The services over these ports. `entries_limit` is the number of waits that one execution begins, `fold` the time
    /// for which one invocation goes on to the next action.
    pub fn with(
        ports: Ports,
        entries_limit: u32,
        fold: Duration,
        first_keys: Vec<FirstKey>,
    ) -> Self {
        let outbox = Outbox::new(ports.clone());
        let jobs = Jobs::new(&ports);
        let stops = Stops::new(outbox.clone());
        let poll = Poll::new(outbox.clone(), jobs.clone(), stops.clone());
        let settler = Settler::new(outbox.clone(), stops.clone());
        let executors = ports.executors();
        let ticker = Ticker::new(
            outbox.clone(),
            poll.clone(),
            settler.clone(),
            stops.clone(),
            executors.silence.clone(),
        );
        Self {
            driver: Driver::new(outbox.clone(), jobs.clone(), entries_limit, fold),
            runners: Runners::new(ports.clone(), jobs, executors.registrar.clone()),
            executors,
            answers: Answers::new(outbox.clone(), stops.clone()),
            runs: Runs::new(outbox.clone(), stops),
            views: Views::new(ports.store.clone(), ports.runtimes.clone()),
            access: Access::new(ports.store.clone(), ports.clock.clone(), first_keys),
            secrets: AgentSecrets::new(ports.clone()),
            builds: None,
            remote: Vec::new(),
            poll,
            settler,
            ticker,
            store: ports.store,
            clock: ports.clock,
        }
    }

    /// The services of a function process: configured by its environment, its connections opened before the first event.
    ///
    /// # Errors
    /// If the environment is not complete.
    pub async fn from_env() -> Result<Self, Error> {
        crate::init_logs();
        let config = Config::from_lookup(|name| std::env::var(name).ok())?;
        let runtimes = runtimes(&config);
        let app = Self::connect(&config, Clock::system(), runtimes, None);
        app.store.warm().await;
        Ok(app)
    }

    /// The services of this configuration, with the simulated runtime and these. `instrument` looks on at the calls to
    /// AWS, or breaks them.
    pub fn connect(
        config: &Config,
        clock: Clock,
        runtimes: Vec<Arc<dyn Runtime>>,
        instrument: Option<&dyn Instrument>,
    ) -> Self {
        let clients = Clients::connect(&config.aws, instrument);
        let table = |name: &str| DynamoTable::new(clients.dynamodb.clone(), name);
        let store = Store::new(
            Arc::new(table(&config.runs_table)),
            Arc::new(table(&config.executors_table)),
            Arc::new(clients.bucket(&config.outputs_bucket)),
        );
        let vault = match config.secrets_key.clone() {
            Some(arn) => Vault::at(clients.secrets.clone(), arn),
            None => Vault::nowhere(),
        };
        let simulated: Arc<dyn Runtime> = Arc::new(SimulatedRuntime);
        let builds = config.codebuild.clone();
        let builds = builds.map(|project| Builds::new(clients.codebuild.clone(), project));
        let substrates = crate::remote::substrates(config, &clients, builds.as_ref(), &clock);
        let remote: Vec<_> = substrates
            .into_iter()
            .map(|it| RemoteRuntime::new(store.jobs(), it, Arc::new(vault.clone()), clock.clone()))
            .collect();
        let sockets: Arc<dyn Sockets> = match &config.sockets {
            Some(url) => Arc::new(ApiSockets(clients.connections(url))),
            None => Arc::new(NoSockets),
        };
        let models = config.model.as_ref().map(|gateway| {
            let runtime = gateway.runtime(config, &clients.secrets, store.jobs(), clock.clone());
            Arc::new(runtime) as Arc<dyn Runtime>
        });
        let news = News::Bus(clients.event_bus.clone());
        let executors = Executors::new(ExecutorPorts::new(
            &store,
            Arc::clone(&sockets),
            Arc::new(news.clone()),
            clock.clone(),
        ));
        let executors: Arc<dyn Runtime> = Arc::new(executors.runtime());
        let remotes = remote.iter();
        let remotes = remotes.map(|it| Arc::new(it.clone()) as Arc<dyn Runtime>);
        let runtimes = runtimes
            .into_iter()
            .chain([simulated, executors])
            .chain(remotes)
            .chain(models);
        let ports = Ports {
            store,
            machine: Arc::new(StepFunctions::new(clients.sfn.clone(), &config.machine)),
            runtimes: Registry::new(runtimes).with_commands_on(config.commands.as_deref()),
            clock,
            random: Random::system(),
            vault,
            news,
            sockets,
        };
        let keys = [
            (&config.first_key, Scope::Admin),
            (&config.enrolment_key, Scope::Enrol),
        ];
        let keys = keys.into_iter().filter_map(|(arn, scope)| {
            let arn = arn.clone()?;
            Some(FirstKey::new(clients.secrets.clone(), arn, scope))
        });
        let app = Self::with(ports, config.entries_limit, config.fold, keys.collect());
        Self {
            builds,
            remote,
            ..app
        }
    }

    /// The time.
    pub fn now(&self) -> Timestamp {
        Timestamp(self.clock.now_ms())
    }

    /// The job that an event tells of. `None`: a build or task that is nobody's.
    ///
    /// # Errors
    /// If the runtime has to be asked, and does not answer.
    pub async fn job_of(&self, event: JobEvent) -> Result<Option<JobId>, Error> {
        let (build, job) = match event {
            JobEvent::Job(job) => return Ok(Some(job)),
            JobEvent::Task(job) => return Ok(job),
            JobEvent::Build(build, job) => (build, job),
        };
        // An ARN ends with the id: `…:build/PROJECT:UUID`.
        let id = build.split_once(":build/").map_or(&*build, |(_, id)| id);
        match (&self.builds, job) {
            (Some(builds), None) => builds.job_of(id).await.map_err(|unreadable| {
                tracing::warn!(build, "{unreadable}");
                Error::Unavailable("CodeBuild")
            }),
            (_, job) => Ok(job),
        }
    }
}

/// The runtimes that a function process reaches by its environment.
#[cfg(feature = "process")]
fn runtimes(config: &Config) -> Vec<Arc<dyn Runtime>> {
    use towpath_jobs_process::ProcessRuntime;
    let processes = config.processes.clone().into_iter();
    processes
        .map(|(jobs, program)| Arc::new(ProcessRuntime::new(jobs, program)) as Arc<dyn Runtime>)
        .collect()
}

/// The runtimes that a function process reaches by its environment: none yet that is not linked for the local cloud.
#[cfg(not(feature = "process"))]
fn runtimes(_config: &Config) -> Vec<Arc<dyn Runtime>> {
    Vec::new()
}
