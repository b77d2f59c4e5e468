//! Lambda: the functions, called in process or through `cargo lambda watch`, under Lambda's limits.

mod remote;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use async_trait::async_trait;
use axum::response::Response;
use futures::future::BoxFuture;
use lambda_runtime::{Context, Diagnostic, LambdaEvent};
use serde_json::{Value, json};
use towpath_clock::Clock;
use towpath_stepfunctions::InvokeError;

use crate::error::Error;
use crate::random;
use crate::tasks::Tasks;
use crate::template::FunctionSpec;
use remote::Remote;

/// The limit on the payload and on the answer of a synchronous invocation, in bytes.
const SYNCHRONOUS_LIMIT: usize = 6 * 1024 * 1024;
/// The limit on the payload of an asynchronous invocation, in bytes.
const ASYNCHRONOUS_LIMIT: usize = 1024 * 1024;
/// The pauses before Lambda tries a failed asynchronous invocation again.
const RETRIES: [Duration; 2] = [Duration::from_secs(60), Duration::from_secs(120)];

/// A function that runs in this process. Payload and answer are the real JSON events.
#[async_trait]
pub trait Function: Send + Sync {
    /// Invokes the function once.
    ///
    /// # Errors
    /// The error of the function, by the name that the state machine's `Retry` and `Catch` match on.
    async fn invoke(&self, event: LambdaEvent<Value>) -> Result<Value, Diagnostic>;

    /// Invokes the function once, by its URL, with a response that is streamed.
    ///
    /// # Errors
    /// As for [`Function::invoke`], and for every function whose responses are not.
    async fn stream(&self, _event: LambdaEvent<Value>) -> Result<Response, Diagnostic> {
        Err(Diagnostic {
            error_type: "Runtime.NotStreamed".to_owned(),
            error_message: "this function does not stream its responses".to_owned(),
        })
    }
}

/// The maker of a function from its environment variables: the function's init phase.
pub type Factory = Arc<
    dyn Fn(BTreeMap<String, String>) -> BoxFuture<'static, Result<Arc<dyn Function>, String>>
        + Send
        + Sync,
>;

/// The functions that run in this process, by their logical ids in the template.
pub type Functions = BTreeMap<String, Factory>;

/// A fault: some events reach their function twice at the same time, which Lambda and EventBridge are free to do.
#[derive(Clone, Copy, Debug)]
pub struct Duplicates {
    /// The seed of the choice: the same seed chooses the same events, as far as their order is the same.
    pub seed: u64,
    /// The rate: one event in this many is doubled; 1 doubles each event, 0 none.
    pub one_in: u32,
}

/// The origin of an invocation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A caller that waits for the answer: the HTTP API, a test.
    Synchronous,
    /// A task of the state machine.
    Task,
    /// An event.
    Asynchronous,
}

pub(crate) struct Lambda {
    specs: BTreeMap<String, FunctionSpec>,
    running: OnceLock<BTreeMap<String, Arc<dyn Function>>>,
    remote: Option<Remote>,
    clock: Clock,
    counts: Mutex<BTreeMap<String, u64>>,
    duplicates: Mutex<Option<Duplicates>>,
    tasks: Arc<Tasks>,
}

impl Lambda {
    pub(crate) fn new(
        specs: &[FunctionSpec],
        remote: Option<&str>,
        clock: Clock,
        tasks: Arc<Tasks>,
    ) -> Result<Self, Error> {
        Ok(Self {
            specs: specs
                .iter()
                .map(|spec| (spec.id.clone(), spec.clone()))
                .collect(),
            running: OnceLock::new(),
            remote: remote.map(Remote::new).transpose()?,
            clock,
            counts: Mutex::default(),
            duplicates: Mutex::default(),
            tasks,
        })
    }

    /// Makes the functions. `environment` gives the variables of one.
    pub(crate) async fn start(
        &self,
        factories: &Functions,
        environment: impl Fn(&FunctionSpec) -> BTreeMap<String, String>,
    ) -> Result<(), Error> {
        let mut running = BTreeMap::new();
        for (name, factory) in factories {
            let failed = |message: String| Error::Function {
                name: name.clone(),
                message,
            };
            let spec = self
                .specs
                .get(name)
                .ok_or_else(|| failed("the template has no such function".to_owned()))?;
            running.insert(
                name.clone(),
                factory(environment(spec)).await.map_err(failed)?,
            );
        }
        self.running.set(running).map_err(|_| Error::Function {
            name: "all".to_owned(),
            message: "the functions have been started before".to_owned(),
        })
    }

    /// The function that a name, an ARN (qualified or not) or a logical id names.
    pub(crate) fn find(&self, function: &str) -> Option<&FunctionSpec> {
        let named = |spec: &&FunctionSpec| {
            let rest = function
                .strip_prefix(&spec.arn)
                .or_else(|| function.strip_prefix(&spec.name));
            spec.id == function || rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(':'))
        };
        self.specs.values().find(named)
    }

    pub(crate) fn set_duplicates(&self, duplicates: Option<Duplicates>) {
        *self
            .duplicates
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = duplicates;
    }

    pub(crate) fn counts(&self) -> BTreeMap<String, u64> {
        self.counts
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Invokes a function by logical id and waits for its answer.
    pub(crate) async fn invoke(
        self: &Arc<Self>,
        id: &str,
        payload: Value,
        kind: Kind,
    ) -> Result<Value, InvokeError> {
        if kind != Kind::Synchronous && self.rolls_a_duplicate() {
            let (lambda, id, payload) = (Arc::clone(self), id.to_owned(), payload.clone());
            self.tasks.spawn(async move {
                if let Err(failure) = lambda.invoke_once(&id, payload, kind).await {
                    tracing::info!(
                        function = id,
                        error = failure.error,
                        "a duplicate invocation failed"
                    );
                }
            });
        }
        self.invoke_once(id, payload, kind).await
    }

    /// Delivers an event: waits for the first try, and goes on trying in the background if that one fails.
    pub(crate) async fn deliver(self: &Arc<Self>, id: &str, payload: Value) {
        let Err(failure) = self.invoke(id, payload.clone(), Kind::Asynchronous).await else {
            return;
        };
        let retries = self.specs.get(id).map_or(0, |spec| spec.retries);
        let (lambda, id) = (Arc::clone(self), id.to_owned());
        self.tasks.spawn(async move {
            let mut failure = failure;
            for pause in RETRIES.into_iter().take(retries) {
                tracing::warn!(function = id, error = failure.error, cause = failure.cause, "an event will be tried again");
                lambda.clock.sleep(pause).await;
                match lambda.invoke(&id, payload.clone(), Kind::Asynchronous).await {
                    Ok(_) => return,
                    Err(again) => failure = again,
                }
            }
            let InvokeError { error, cause } = failure;
            tracing::error!(function = id, error, cause, event = %payload, "an event was given up (dead letter)");
        });
    }

    async fn invoke_once(
        &self,
        id: &str,
        payload: Value,
        kind: Kind,
    ) -> Result<Value, InvokeError> {
        let Some(spec) = self.specs.get(id) else {
            return Err(failure(
                "Lambda.ResourceNotFoundException",
                &format!("Function not found: {id}"),
            ));
        };
        let limit = if kind == Kind::Asynchronous {
            ASYNCHRONOUS_LIMIT
        } else {
            SYNCHRONOUS_LIMIT
        };
        let bytes = serde_json::to_vec(&payload)
            .map_err(|error| failure("Lambda.Unknown", &error.to_string()))?;
        if bytes.len() > limit {
            let message = format!(
                "{} byte payload is too large for the invocation (limit {limit} bytes)",
                bytes.len()
            );
            return Err(failure("Lambda.RequestTooLargeException", &message));
        }
        *self
            .counts
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .entry(id.to_owned())
            .or_default() += 1;
        let answered = self.answer(spec, payload, bytes).await?;
        let size = serde_json::to_vec(&answered)
            .map(|bytes| bytes.len())
            .unwrap_or(usize::MAX);
        if size > SYNCHRONOUS_LIMIT {
            let message = format!(
                "Response payload size exceeded maximum allowed payload size ({SYNCHRONOUS_LIMIT} bytes)."
            );
            return Err(failure("Function.ResponseSizeTooLarge", &message));
        }
        Ok(answered)
    }

    /// The answer of a function, from this process or from a `cargo lambda watch`. `bytes` is the payload as JSON.
    async fn answer(
        &self,
        spec: &FunctionSpec,
        payload: Value,
        bytes: Vec<u8>,
    ) -> Result<Value, InvokeError> {
        let request = random::request_id();
        let running = self.running.get().and_then(|running| running.get(&spec.id));
        match (running, &self.remote) {
            (Some(function), _) => {
                let event = LambdaEvent::new(payload, context(spec, &request));
                run(Arc::clone(function), event, spec.timeout, &request).await
            }
            (None, Some(remote)) => {
                let called = remote.invoke(spec.binary.as_deref().unwrap_or(&spec.name), bytes);
                tokio::time::timeout(spec.timeout, called)
                    .await
                    .unwrap_or_else(|_| Err(timed_out(spec.timeout, &request)))
            }
            (None, None) => {
                let message = format!("{} has no code in this local cloud", spec.id);
                Err(failure("Lambda.ResourceNotFoundException", &message))
            }
        }
    }

    /// Invokes a function by logical id, with a response that is streamed.
    pub(crate) async fn stream(&self, id: &str, payload: Value) -> Result<Response, InvokeError> {
        let running = self.running.get().and_then(|running| running.get(id));
        let (Some(spec), Some(function)) = (self.specs.get(id), running) else {
            let message = format!(
                "{id} has no code in this process, and a `cargo lambda watch` streams nothing"
            );
            return Err(failure("Lambda.ResourceNotFoundException", &message));
        };
        *self
            .counts
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .entry(id.to_owned())
            .or_default() += 1;
        let event = LambdaEvent::new(payload, context(spec, &random::request_id()));
        let answered = function.stream(event).await;
        answered.map_err(|error| failure(&error.error_type, &error.error_message))
    }

    fn rolls_a_duplicate(&self) -> bool {
        let mut dice = self
            .duplicates
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let Some(dice) = dice.as_mut().filter(|dice| dice.one_in > 0) else {
            return false;
        };
        // splitmix64: small, and good enough to choose victims.
        dice.seed = dice.seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = dice.seed;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)).is_multiple_of(u64::from(dice.one_in))
    }
}

/// Runs a function in a task of its own, so that a panic or an endless wait stays its own.
async fn run(
    function: Arc<dyn Function>,
    event: LambdaEvent<Value>,
    timeout: Duration,
    request: &str,
) -> Result<Value, InvokeError> {
    let mut task = AbortOnDrop(tokio::spawn(async move { function.invoke(event).await }));
    match tokio::time::timeout(timeout, &mut task.0).await {
        Ok(Ok(Ok(answer))) => Ok(answer),
        Ok(Ok(Err(Diagnostic {
            error_type,
            error_message,
        }))) => Err(failure(&error_type, &error_message)),
        Ok(Err(_)) => {
            let message =
                format!("RequestId: {request} Error: Runtime exited with error: exit status 101");
            Err(failure("Runtime.ExitError", &message))
        }
        Err(_) => Err(timed_out(timeout, request)),
    }
}

/// A task that ends when nobody waits for it any more: its time is up, or the cloud is shut down.
struct AbortOnDrop<T>(tokio::task::JoinHandle<T>);

impl<T> Drop for AbortOnDrop<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}

fn timed_out(timeout: Duration, request: &str) -> InvokeError {
    let message = format!(
        "RequestId: {request} Error: Task timed out after {:.2} seconds",
        timeout.as_secs_f64()
    );
    failure("Sandbox.Timedout", &message)
}

/// A failed invocation as Step Functions reports it: the cause is Lambda's answer, as JSON.
pub(crate) fn failure(error: &str, message: &str) -> InvokeError {
    let cause = json!({ "errorMessage": message, "errorType": error }).to_string();
    InvokeError {
        error: error.to_owned(),
        cause,
    }
}

fn context(spec: &FunctionSpec, request: &str) -> Context {
    let mut context = Context::default();
    context.request_id = request.to_owned();
    // Lambda's deadlines are by the wall clock, whatever time a test has.
    let deadline = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
        + spec.timeout;
    context.deadline = u64::try_from(deadline.as_millis()).unwrap_or(u64::MAX);
    context.invoked_function_arn = spec.arn.clone();
    context.env_config = Arc::new(lambda_runtime::Config {
        function_name: spec.name.clone(),
        memory: i32::try_from(spec.memory_mb).unwrap_or(i32::MAX),
        version: "$LATEST".to_owned(),
        log_stream: String::new(),
        log_group: format!("/aws/lambda/{}", spec.name),
    });
    context
}

#[cfg(test)]
mod tests;
