//! The functions, as the local cloud calls them in process: the same handlers, given the same events.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use axum::Router;
use axum::response::Response;
use futures::future::BoxFuture;
use lambda_http::Adapter;
use lambda_http::request::LambdaRequest;
use lambda_runtime::{Diagnostic, LambdaEvent, Service};
use serde_json::Value;
use towpath_clock::Clock;
use towpath_instruments::{Deaths, Index, Instruments, Meter, Units};
use towpath_jobs::Runtime;
use towpath_jobs_process::ProcessRuntime;
use towpath_local::{Factory, Function, Functions};
use towpath_service::{App, Config, Doctor, Error};
use towpath_store::index;

/// The functions by which people and programs look at what is there: not a cost of a run.
pub(crate) const LOOK_ON: [&str; 3] = ["ApiFunction", "AdminFunction", "EventsFunction"];

/// What each function's calls to the tables cost, by its logical id.
#[derive(Clone, Default)]
pub struct Meters(Arc<Mutex<BTreeMap<String, Meter>>>);

impl Meters {
    /// What the functions that drive runs have used, without what only looks on.
    pub fn driving(&self) -> Units {
        let meters = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        meters
            .iter()
            .filter(|(name, _)| !LOOK_ON.contains(&name.as_str()))
            .map(|(_, meter)| meter.units())
            .sum()
    }
}

/// The state that the functions share in this process.
#[derive(Clone)]
pub(crate) struct Shared {
    pub(crate) clock: Clock,
    pub(crate) process: ProcessRuntime,
    pub(crate) meters: Meters,
    /// Ends invocations before their time, for tests.
    pub(crate) deaths: Option<Deaths>,
}

/// The router that answers a function's requests.
type Route = fn(App) -> Router;

/// The handler of an action's event.
type Act = for<'a> fn(&'a App, LambdaEvent<Value>) -> BoxFuture<'a, Result<Value, Error>>;

struct Action {
    app: App,
    act: Act,
}

#[async_trait]
impl Function for Action {
    async fn invoke(&self, event: LambdaEvent<Value>) -> Result<Value, Diagnostic> {
        (self.act)(&self.app, event).await.map_err(Diagnostic::from)
    }
}

struct Http(Router);

#[async_trait]
impl Function for Http {
    async fn invoke(&self, event: LambdaEvent<Value>) -> Result<Value, Diagnostic> {
        let broken = |message: String| Diagnostic {
            error_type: "Towpath.BadEvent".to_owned(),
            error_message: message,
        };
        let request = serde_json::from_value(event.payload).map_err(|e| broken(e.to_string()))?;
        let event = LambdaEvent::new(request, event.context);
        let answered = Adapter::from(self.0.clone()).call(event);
        let answer = answered.await.map_err(|e| broken(e.to_string()))?;
        serde_json::to_value(answer).map_err(|e| broken(e.to_string()))
    }

    async fn stream(&self, event: LambdaEvent<Value>) -> Result<Response, Diagnostic> {
        let broken = |message: String| Diagnostic {
            error_type: "Towpath.BadEvent".to_owned(),
            error_message: message,
        };
        let request: LambdaRequest =
            serde_json::from_value(event.payload).map_err(|e| broken(e.to_string()))?;
        match self
            .0
            .clone()
            .call(lambda_http::Request::from(request))
            .await
        {
            Ok(response) => Ok(response),
            Err(never) => match never {},
        }
    }
}

/// A function that answers HTTP requests, as API Gateway or a function URL passes them on.
pub fn http(router: Router) -> Arc<dyn Function> {
    Arc::new(Http(router))
}

/// A function whose invocations may die, as they do with the sandbox they are in.
struct Mortal {
    function: Arc<dyn Function>,
    deaths: Deaths,
}

#[async_trait]
impl Function for Mortal {
    async fn invoke(&self, event: LambdaEvent<Value>) -> Result<Value, Diagnostic> {
        let lived = self.deaths.live(self.function.invoke(event)).await;
        lived.unwrap_or_else(|| {
            Err(Diagnostic {
                error_type: "Runtime.ExitError".to_owned(),
                error_message: "Error: Runtime exited without providing a reason".to_owned(),
            })
        })
    }
}

/// Every function of the template.
pub(crate) fn all(shared: &Shared) -> Functions {
    let actions: [(&str, Act); 6] = [
        ("AdvanceFunction", |app, event| {
            Box::pin(async {
                towpath_functions::advance::handle(app, event)
                    .await
                    .map(Value::from)
            })
        }),
        ("PollJobFunction", |app, event| {
            Box::pin(async {
                towpath_functions::poll_job::handle(app, event)
                    .await
                    .map(Value::from)
            })
        }),
        ("PollGateFunction", |app, event| {
            Box::pin(async {
                towpath_functions::poll_gate::handle(app, event)
                    .await
                    .map(Value::from)
            })
        }),
        ("SettleFunction", |app, event| {
            Box::pin(async {
                towpath_functions::settle::handle(app, event)
                    .await
                    .map(Value::from)
            })
        }),
        ("TickFunction", |app, event| {
            Box::pin(towpath_functions::tick::handle(app, event))
        }),
        ("ExecutorSocketFunction", |app, event| {
            Box::pin(towpath_functions::executor_socket::handle(app, event))
        }),
    ];
    let routers: [(&str, Route); 7] = [
        ("AdminFunction", towpath_functions::admin),
        ("EventsFunction", towpath_functions::events),
        ("ApiFunction", towpath_functions::api),
        ("ExecutorsFunction", towpath_functions::executors),
        ("PollFunction", towpath_functions::poll),
        ("RunnerFunction", towpath_functions::runner),
        (
            "ResolveDecisionFunction",
            towpath_functions::resolve_decision,
        ),
    ];
    let actions = actions.map(|(name, act)| {
        (
            name.to_owned(),
            factory(name, shared, move |app| Arc::new(Action { app, act })),
        )
    });
    let routers = routers.map(|(name, router)| {
        (
            name.to_owned(),
            factory(name, shared, move |app| Arc::new(Http(router(app)))),
        )
    });
    actions.into_iter().chain(routers).collect()
}

fn factory(
    name: &'static str,
    shared: &Shared,
    function: impl Fn(App) -> Arc<dyn Function> + Send + Sync + 'static,
) -> Factory {
    let shared = shared.clone();
    Arc::new(move |environment| {
        let made = instrumented(&shared, &environment).map(|(app, instruments)| {
            let meters = shared.meters.0.lock();
            let mut meters = meters.unwrap_or_else(PoisonError::into_inner);
            meters.insert(name.to_owned(), instruments.meter);
            match shared.deaths.clone() {
                None => function(app),
                Some(deaths) => Arc::new(Mortal {
                    function: function(app),
                    deaths,
                }),
            }
        });
        Box::pin(async move { made.map_err(|error| error.to_string()) })
    })
}

/// The services of an environment that is not the process's own, with the instruments of their clients.
fn instrumented(
    shared: &Shared,
    environment: &BTreeMap<String, String>,
) -> Result<(App, Instruments), Error> {
    let config = Config::from_lookup(|name| environment.get(name).cloned())?;
    let faults = environment.get("TOWPATH_FAULTS").map(String::as_str);
    let instruments = Instruments::new(indexes(&config))
        .with_faults(faults, &config.aws)
        .map_err(Error::Config)?
        .with_deaths(shared.deaths.clone());
    let process: Arc<dyn Runtime> = Arc::new(shared.process.clone());
    let clock = shared.clock.clone();
    let app = App::connect(&config, clock, vec![process], Some(&instruments));
    Ok((app, instruments))
}

/// The indexes of the tables, as the meter counts them: they hold keys only, the table's own and theirs.
fn indexes(config: &Config) -> Vec<Index> {
    let runs = index::KEYS.iter().map(|keys| (&config.runs_table, keys));
    let executors = index::EXECUTORS.iter();
    let executors = executors.map(|keys| (&config.executors_table, keys));
    let indexes = runs.chain(executors).map(|(table, keys)| Index {
        table: table.clone(),
        keys: keys.iter().map(ToString::to_string).collect(),
        copies: Some(
            keys.iter()
                .chain(&["pk", "sk"])
                .map(ToString::to_string)
                .collect(),
        ),
    });
    indexes.collect()
}

/// The services of an operator's environment, and their doctor.
pub(crate) fn operator(
    shared: &Shared,
    environment: &BTreeMap<String, String>,
) -> Result<(App, Doctor), Error> {
    let config = Config::from_lookup(|name| environment.get(name).cloned())?;
    let process: Arc<dyn Runtime> = Arc::new(shared.process.clone());
    let clock = shared.clock.clone();
    Ok(Doctor::connect(&config, clock, vec![process], None))
}
