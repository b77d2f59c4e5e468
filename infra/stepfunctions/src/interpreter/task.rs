//! Task states: the call, its end by answer, token or clock, and what `Retry` and `Catch` make of a failure.

use serde_json::{Map, Value, json};
use ulid::Ulid;

use super::history::{with_failure, with_output};
use super::scope::Extra;
use super::turn::{Effect, MAX_PAYLOAD, Turn, size};
use crate::definition::{Kind, Next, Task};
use crate::execution::{Flight, Phase, Status};
use crate::failure::{DATA_LIMIT, Failure, RUNTIME, TIMEOUT};
use crate::token::Token;

/// AWS's timeout of a task that has none.
const NO_TIMEOUT_SECONDS: u64 = 99_999_999;

/// An answer to a task token.
#[derive(Debug)]
pub(crate) enum Answer {
    Success(Value),
    Failure(Failure),
    /// Changes nothing: no task here has a heartbeat to keep. It tells whether the token is alive.
    Heartbeat,
}

/// The outcome of answering a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TokenUse {
    /// The task was under way: the answer ended it, unless it was a heartbeat.
    Accepted,
    /// The task is over: answered before, timed out, or its execution closed.
    Over,
    /// There never was such a task.
    Unknown,
}

impl Turn<'_> {
    /// Evaluates the task's fields and asks for the call.
    pub(super) fn begin_task(&mut self, task: &Task) -> Result<(), Failure> {
        let number = self.execution.position.tasks + 1;
        self.execution.position.tasks = number;
        let token = task.by_token.then(|| {
            let token = Token {
                store: self.surroundings.store_id.clone(),
                execution: self.execution.seq,
                task: number,
            };
            token.encode(Ulid::new())
        });
        let scope = self.scope(Extra {
            token: token.as_deref(),
            ..Extra::default()
        });
        let arguments = task.arguments.evaluate(&scope, "Arguments")?;
        if size(&arguments) > MAX_PAYLOAD {
            return Err(Failure::new(
                DATA_LIMIT,
                "The Arguments of the task exceed 262144 bytes.",
            ));
        }
        let (function, payload) = call(&arguments)?;
        self.record_call(task, &arguments);
        let timeout = task.timeout_seconds.unwrap_or(NO_TIMEOUT_SECONDS);
        self.execution.invocations += 1;
        self.execution.position.phase = Phase::Task(Flight {
            number,
            token,
            parked: false,
            timeout_ms: Some(self.now_ms.saturating_add(timeout.saturating_mul(1_000))),
        });
        self.effects.push(Effect::Invoke {
            number,
            function,
            payload,
        });
        Ok(())
    }

    fn record_call(&mut self, task: &Task, arguments: &Value) {
        let mut scheduled = json!({
            "resourceType": "lambda",
            "resource": task.resource(),
            "region": self.surroundings.region,
            "parameters": arguments.to_string(),
        });
        if let (Some(details), Some(timeout)) = (scheduled.as_object_mut(), task.timeout_seconds) {
            details.insert("timeoutInSeconds".to_owned(), Value::from(timeout));
        }
        self.record(
            "TaskScheduled",
            Some(("taskScheduledEventDetails", scheduled)),
        );
        let started = self.resource_details();
        self.record("TaskStarted", Some(("taskStartedEventDetails", started)));
    }

    /// The function of the task of this number answered. Of a task that is over, the answer means nothing.
    pub(crate) fn answered(&mut self, number: u64, answer: Result<Value, Failure>) {
        let Some(flight) = self
            .execution
            .flight()
            .filter(|flight| flight.number == number && !flight.parked)
        else {
            return;
        };
        let by_token = flight.token.is_some();
        let result = match answer.map(lambda_result) {
            Err(failure) => return self.task_failed(failure),
            Ok(result) => result,
        };
        if size(&result) > MAX_PAYLOAD {
            let cause = "The function returned a result with a size exceeding the maximum number of bytes service limit.";
            return self.task_failed(Failure::new(DATA_LIMIT, cause));
        }
        if !by_token {
            return self.task_succeeded(result);
        }
        // What the function returns is not what the task gives: that comes with the token.
        let details = with_output(self.resource_details(), &result);
        self.record(
            "TaskSubmitted",
            Some(("taskSubmittedEventDetails", details)),
        );
        if let Phase::Task(flight) = &mut self.execution.position.phase {
            flight.parked = true;
        }
    }

    /// A token was answered. It counts while its task is under way, whether or not the function has returned.
    pub(crate) fn answer_token(&mut self, text: &str, token: &Token, answer: Answer) -> TokenUse {
        let current = self
            .execution
            .flight()
            .is_some_and(|flight| flight.token.as_deref() == Some(text));
        if !current {
            return if token.task <= self.execution.position.tasks {
                TokenUse::Over
            } else {
                TokenUse::Unknown
            };
        }
        match answer {
            Answer::Success(output) => self.task_succeeded(output),
            Answer::Failure(failure) => self.task_failed(failure),
            Answer::Heartbeat => {}
        }
        TokenUse::Accepted
    }

    fn task_succeeded(&mut self, result: Value) {
        let details = with_output(self.resource_details(), &result);
        self.record(
            "TaskSucceeded",
            Some(("taskSucceededEventDetails", details)),
        );
        self.succeed(Some(result));
    }

    fn task_failed(&mut self, failure: Failure) {
        let details = with_failure(self.resource_details(), &failure);
        self.record("TaskFailed", Some(("taskFailedEventDetails", details)));
        self.fail(failure);
    }

    pub(super) fn task_timed_out(&mut self) {
        let failure = Failure::timeout(TIMEOUT);
        let details = with_failure(self.resource_details(), &failure);
        self.record("TaskTimedOut", Some(("taskTimedOutEventDetails", details)));
        self.fail(failure);
    }

    fn resource_details(&self) -> Value {
        let resource = match self.state().map(|state| &state.kind) {
            Some(Kind::Task(task)) => task.resource(),
            _ => "invoke",
        };
        json!({ "resourceType": "lambda", "resource": resource })
    }

    pub(super) fn retry_or_catch(&mut self, task: &Task, failure: Failure) {
        if let Some(until_ms) = self.retry_at(task, &failure) {
            self.execution.position.phase = Phase::BackingOff { until_ms };
            return;
        }
        let catcher = task
            .catch
            .iter()
            .find(|catcher| failure.is_one_of(&catcher.errors));
        let Some(catcher) = catcher else {
            return self.close(Status::Failed, Err(failure));
        };
        let error_output = failure.output();
        let extra = Extra {
            error_output: Some(error_output.clone()),
            ..Extra::default()
        };
        match self.output(catcher.output.as_ref(), extra, error_output) {
            Ok(output) => self.leave(&Next::State(catcher.next.clone()), output),
            // A catcher's own failure is not caught again by the same state.
            Err(failure) => self.close(Status::Failed, Err(failure)),
        }
    }

    /// When the task is tried again, if a retrier takes the failure and has an attempt left. The first that takes it
    /// decides; the others are not asked.
    fn retry_at(&mut self, task: &Task, failure: &Failure) -> Option<u64> {
        let (i, retrier) = task
            .retry
            .iter()
            .enumerate()
            .find(|(_, retrier)| failure.is_one_of(&retrier.errors))?;
        let attempts = &mut self.execution.position.attempts;
        attempts.resize(task.retry.len(), 0);
        let used = attempts
            .get_mut(i)
            .filter(|used| **used < retrier.max_attempts)?;
        *used += 1;
        Some(
            self.now_ms
                .saturating_add(retrier.delay_ms(*used, chance())),
        )
    }
}

/// A number from 0 to 1, for jitter. Without a source of chance there is no jitter.
fn chance() -> f64 {
    getrandom::u32().map_or(1.0, |drawn| f64::from(drawn) / f64::from(u32::MAX))
}

/// The function to call and its payload.
fn call(arguments: &Value) -> Result<(String, Value), Failure> {
    let function = arguments
        .get("FunctionName")
        .and_then(Value::as_str)
        .filter(|name| !name.is_empty());
    let function = function
        .ok_or_else(|| Failure::new(RUNTIME, "FunctionName must be a string that is not empty."))?;
    let payload = arguments
        .get("Payload")
        .cloned()
        .unwrap_or_else(|| Value::Object(Map::new()));
    Ok((function.to_owned(), payload))
}

/// The result that the Lambda integration makes of a function's answer.
fn lambda_result(payload: Value) -> Value {
    json!({
        "ExecutedVersion": "$LATEST",
        "Payload": payload,
        "SdkHttpMetadata": { "HttpStatusCode": 200 },
        "StatusCode": 200,
    })
}
