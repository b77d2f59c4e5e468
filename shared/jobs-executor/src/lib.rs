//! The runtime `executor`: a job is a mission of a machine that dialled in. And all that machines, operators and callers ask
//! of executors and missions besides.
//!
//! | part | does |
//! | --- | --- |
//! | [`Registrar`] | admits executors, by the enrolment key or their token; opens and closes their sockets |
//! | [`Missions`] | gives missions to executors, and lets operators pause, resume, end and answer them |
//! | [`Events`] | takes what executors tell |
//! | [`Delivery`] | brings messages to executors: pushed over a socket, or fetched by a poll |
//! | [`Silence`] | sees to executors of which nothing is heard |
//! | [`ExecutorRuntime`] | the runtime, as steps see it |
//!
//! A mission of a run has the id of its job. The job's record holds the stop, the answer and the end, as for every job that
//! runs elsewhere; the mission's record holds what the contract knows besides. The end of a job is written before that of
//! its mission: if the second write is lost, the executor tells its event again, or the silence of the executor ends it.

mod delivery;
mod events;
mod missions;
mod operate;
mod place;
mod registrar;
mod runtime;
mod seen;
mod silence;
mod sockets;
mod view;

use std::sync::Arc;

use async_trait::async_trait;
use towpath_clock::Clock;
use towpath_engine::{JobId, Timestamp};
use towpath_executors::RejectedExecutor;
use towpath_store::{ExecutorRecords, JobRecords, MissionRecords, Store};

pub use delivery::{Claimed, Delivery};
pub use events::{Events, Reply};
pub use missions::Missions;
pub use operate::Operator;
pub use registrar::{Identity, Proof, Registered, Registrar};
pub use runtime::ExecutorRuntime;
pub use seen::Seen;
pub use silence::Silence;
pub use sockets::{NoSockets, Pushed, Sockets};

/// Where news of a job is told, so that its run is woken.
#[async_trait]
pub trait JobNews: Send + Sync {
    /// Tells that a job has begun or ended. If that fails, the tick looks.
    async fn tell(&self, job: &JobId);
}

/// What the parts speak to.
#[derive(Clone)]
pub struct Ports {
    /// The records of executors.
    pub executors: ExecutorRecords,
    /// The records of missions.
    pub missions: MissionRecords,
    /// The records of jobs.
    pub jobs: JobRecords,
    /// The open sockets.
    pub sockets: Arc<dyn Sockets>,
    /// Where news of jobs is told.
    pub news: Arc<dyn JobNews>,
    /// The time.
    pub clock: Clock,
}

impl Ports {
    /// The ports over these records.
    pub fn new(
        store: &Store,
        sockets: Arc<dyn Sockets>,
        news: Arc<dyn JobNews>,
        clock: Clock,
    ) -> Self {
        Self {
            executors: store.executor_records(),
            missions: store.mission_records(),
            jobs: store.jobs(),
            sockets,
            news,
            clock,
        }
    }

    fn now(&self) -> Timestamp {
        Timestamp(self.clock.now_ms())
    }
}

/// All parts, over the same ports. Cheap to clone.
#[derive(Clone)]
pub struct Executors {
    /// Admits executors.
    pub registrar: Registrar,
    /// Gives missions to executors.
    pub missions: Missions,
    /// Lets operators pause, resume, end and answer missions.
    pub operator: Operator,
    /// Takes what executors tell.
    pub events: Events,
    /// Brings messages to executors.
    pub delivery: Delivery,
    /// Sees to silent executors.
    pub silence: Silence,
}

impl Executors {
    /// The parts over these ports.
    pub fn new(ports: Ports) -> Self {
        let delivery = Delivery::new(ports.clone());
        let missions = Missions::new(ports.clone(), delivery.clone());
        let silence = Silence::new(ports.clone(), missions.clone(), delivery.clone());
        Self {
            registrar: Registrar::new(ports.clone(), missions.clone(), delivery.clone()),
            operator: Operator::new(ports.clone(), missions.clone(), delivery.clone()),
            events: Events::new(ports, missions.clone(), delivery.clone()),
            missions,
            delivery,
            silence,
        }
    }

    /// The runtime `executor`.
    pub fn runtime(&self) -> ExecutorRuntime {
        ExecutorRuntime::new(self.missions.clone(), self.operator.clone())
    }
}

/// The reason something about executors is refused.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    /// The token is not one of an executor, or not any more.
    #[error(
        "send the executor's own token: Authorization: Bearer twx_…; it is told when the executor registers"
    )]
    NoToken,
    /// The token is another executor's.
    #[error("the token is another executor's")]
    AnotherExecutor,
    /// There is no such executor or mission, or it is another workspace's.
    #[error("{0}")]
    NotFound(String),
    /// The message has another shape than the contract says, led by the field.
    #[error("{0}")]
    Invalid(String),
    /// The mission or executor is not in a state for this.
    #[error("{0}")]
    WrongState(String),
    /// The mission id was used for another dispatch.
    #[error(
        "the mission {0} was dispatched with another body; use another mission_id for another mission"
    )]
    MissionMismatch(String),
    /// No executor fits.
    #[error("{message}")]
    NobodyFits {
        /// Whether one would fit if the mission were not `long_running`.
        only_resumable_missing: bool,
        /// The refusal in a sentence.
        message: String,
    },
    /// Others wrote the same records again and again.
    #[error("others were faster again and again; try again in a moment")]
    Busy,
    /// The records could not be reached, or are wrong.
    #[error(transparent)]
    Failed(#[from] towpath_store::Error),
}

impl Refused {
    /// The class of the refusal, a stable word.
    pub fn code(&self) -> &'static str {
        match self {
            Self::NoToken => "unauthorized",
            Self::AnotherExecutor => "forbidden",
            Self::NotFound(_) => "not_found",
            Self::Invalid(_) => "invalid_payload",
            Self::WrongState(_) => "wrong_state",
            Self::MissionMismatch(_) => "idempotency_mismatch",
            Self::NobodyFits { .. } => "no_executor_available",
            Self::Busy => "busy",
            Self::Failed(_) => "unavailable",
        }
    }
}

/// The number of times that a change is decided anew after somebody else was first.
const RACES: usize = 16;

/// The refusals of all executors, in one sentence.
fn why(rejected: &[RejectedExecutor]) -> String {
    const TOLD: usize = 5;
    if rejected.is_empty() {
        return "no executor is registered; start one with `towpath worker`".to_owned();
    }
    let told = rejected.iter().take(TOLD);
    let told: Vec<_> = told
        .map(|it| format!("{}: {}", it.executor_id, it.reason))
        .collect();
    let more = match rejected.len().saturating_sub(TOLD) {
        0 => String::new(),
        more => format!("; and {more} more"),
    };
    format!("no executor fits ({}{more})", told.join("; "))
}
