//! Task states: the call, its end by answer, token or clock, and what `Retry` and `Catch` make of a failure.

use serde_json::{Map, Value, json};
use ulid::Ulid;

use super::history::with_failure;
use super::{Answer, Effect, MAX_PAYLOAD, Taken, Turn, size, whole_seconds};
use crate::definition::{Kind, Next, Task};
use crate::execution::{Flight, Heartbeat, Phase, Status};
use crate::failure::{DATA_LIMIT, Failure, HEARTBEAT_TIMEOUT, RUNTIME, TIMEOUT};
use crate::token::Token;

/// What AWS takes where a task says no timeout.
const NO_TIMEOUT_SECONDS: u64 = 99_999_999;

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
        let scope = self.scope(None, None, token.as_deref());
        let arguments = task.arguments.evaluate(&scope, "Arguments")?;
        let seconds = |template: Option<&crate::template::Template>, field: &str| {
            template
                .map(|template| whole_seconds(template.evaluate(&scope, field)?, field, 1))
                .transpose()
        };
        let timeout = seconds(task.timeout_seconds.as_ref(), "TimeoutSeconds")?;
        let heartbeat = seconds(task.heartbeat_seconds.as_ref(), "HeartbeatSeconds")?;
        if size(&arguments) > MAX_PAYLOAD {
            return Err(Failure::new(
                DATA_LIMIT,
                "The Arguments of the task exceed 262144 bytes.",
            ));
        }
        let (function, payload) = call(&arguments)?;
        let after = |seconds: u64| self.now_ms.saturating_add(seconds.saturating_mul(1_000));
        let flight = Flight {
            number,
            token,
            parked: false,
            timeout_ms: Some(after(timeout.unwrap_or(NO_TIMEOUT_SECONDS))),
            heartbeat: heartbeat.map(|seconds| Heartbeat {
                every_ms: seconds.saturating_mul(1_000),
                due_ms: after(seconds),
            }),
        };
        let mut scheduled = json!({
            "resourceType": "lambda",
            "resource": task.resource(),
            "region": self.surroundings.region,
            "parameters": arguments.to_string(),
        });
        if let Some(details) = scheduled.as_object_mut() {
            let limits = [
                ("timeoutInSeconds", timeout),
                ("heartbeatInSeconds", heartbeat),
            ];
            details.extend(
                limits
                    .into_iter()
                    .filter_map(|(key, value)| Some((key.to_owned(), Value::from(value?)))),
            );
        }
        self.record(
            "TaskScheduled",
            Some(("taskScheduledEventDetails", scheduled)),
        );
        let started = json!({ "resourceType": "lambda", "resource": task.resource() });
        self.record("TaskStarted", Some(("taskStartedEventDetails", started)));
        self.execution.invocations += 1;
        self.execution.position.phase = Phase::Task(flight);
        self.effects.push(Effect::Invoke {
            number,
            function,
            payload,
        });
        Ok(())
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
        match answer {
            Err(failure) => self.task_failed(failure),
            Ok(payload) => {
                let result = lambda_result(payload);
                if size(&result) > MAX_PAYLOAD {
                    let cause = "The function returned a result with a size exceeding the maximum number of bytes service limit.";
                    return self.task_failed(Failure::new(DATA_LIMIT, cause));
                }
                if by_token {
                    // What the function says is not what the task gives: that comes with the token.
                    self.record_output("TaskSubmitted", "taskSubmittedEventDetails", &result);
                    if let Phase::Task(flight) = &mut self.execution.position.phase {
                        flight.parked = true;
                    }
                } else {
                    self.task_succeeded(result);
                }
            }
        }
    }

    /// A token was answered. It counts while its task is under way, whether or not the function has returned.
    pub(crate) fn answer_token(&mut self, text: &str, token: &Token, answer: Answer) -> Taken {
        let current = self
            .execution
            .flight()
            .is_some_and(|flight| flight.token.as_deref() == Some(text));
        if !current {
            return if token.task <= self.execution.position.tasks {
                Taken::Over
            } else {
                Taken::Unknown
            };
        }
        match answer {
            Answer::Success(output) => self.task_succeeded(output),
            Answer::Failure(failure) => self.task_failed(failure),
            Answer::Heartbeat => {
                if let Phase::Task(Flight {
                    heartbeat: Some(beat),
                    ..
                }) = &mut self.execution.position.phase
                {
                    beat.due_ms = self.now_ms.saturating_add(beat.every_ms);
                }
            }
        }
        Taken::Yes
    }

    fn task_succeeded(&mut self, result: Value) {
        self.record_output("TaskSucceeded", "taskSucceededEventDetails", &result);
        self.succeed(Some(result));
    }

    fn task_failed(&mut self, failure: Failure) {
        let details = with_failure(self.resource_details(), &failure);
        self.record("TaskFailed", Some(("taskFailedEventDetails", details)));
        self.fail(failure);
    }

    /// `whole`: the task's time is up; else its heart has stopped.
    pub(super) fn task_timed_out(&mut self, whole: bool) {
        let failure = Failure::timeout(if whole { TIMEOUT } else { HEARTBEAT_TIMEOUT });
        let details = with_failure(self.resource_details(), &failure);
        self.record("TaskTimedOut", Some(("taskTimedOutEventDetails", details)));
        self.fail(failure);
    }

    fn record_output(&mut self, kind: &str, member: &str, output: &Value) {
        let mut details = self.resource_details();
        if let Some(details) = details.as_object_mut() {
            details.insert("output".to_owned(), Value::String(output.to_string()));
            details.insert("outputDetails".to_owned(), json!({ "truncated": false }));
        }
        self.record(kind, Some((member, details)));
    }

    fn resource_details(&self) -> Value {
        let resource = match self.state().map(|state| &state.kind) {
            Some(Kind::Task(task)) => task.resource(),
            _ => "invoke",
        };
        json!({ "resourceType": "lambda", "resource": resource })
    }

    /// The state failed: a retrier takes it, else a catcher, else the execution fails.
    pub(super) fn fail(&mut self, failure: Failure) {
        let Some(state) = self.state() else {
            return self.close(Status::Failed, Err(failure));
        };
        if failure.error.as_deref() == Some(crate::failure::QUERY) {
            let details = with_failure(json!({ "state": self.execution.position.state }), &failure);
            self.record(
                "EvaluationFailed",
                Some(("evaluationFailedEventDetails", details)),
            );
        }
        let Kind::Task(task) = &state.kind else {
            return self.close(Status::Failed, Err(failure));
        };
        if let Some(until_ms) = self.retry_at(task, &failure) {
            self.execution.position.phase = Phase::BackingOff { until_ms };
            return;
        }
        match task
            .catch
            .iter()
            .find(|catcher| failure.is_one_of(&catcher.errors))
        {
            Some(catcher) => {
                let next = Next::State(catcher.next.clone());
                let output = Some(failure.output());
                self.leave_by(
                    catcher.assign.as_ref(),
                    catcher.output.as_ref(),
                    &next,
                    None,
                    output,
                );
            }
            None => self.close(Status::Failed, Err(failure)),
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

/// Which function is called with what.
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

/// What the Lambda integration gives for a function's answer.
fn lambda_result(payload: Value) -> Value {
    json!({
        "ExecutedVersion": "$LATEST",
        "Payload": payload,
        "SdkHttpMetadata": { "HttpStatusCode": 200 },
        "StatusCode": 200,
    })
}
