//! One turn of one execution: from state to state until something has to be waited for.

use serde_json::{Value, json};

use super::history::{self, HistoryEvent, with_failure, with_output};
use super::scope::{Extra, scope};
use crate::definition::{Definition, Kind, Next, State};
use crate::execution::{Execution, Phase, Position, Status};
use crate::failure::{DATA_LIMIT, Failure, QUERY, RUNTIME, TIMEOUT};
use crate::jsonata::Scope;
use crate::template::Template;

/// AWS's limit on inputs and outputs: 256 KiB of UTF-8.
pub(crate) const MAX_PAYLOAD: usize = 256 * 1024;

/// How many states one turn enters before other executions have theirs: a machine that loops without waiting must not
/// hold up the rest.
const STATES_A_TURN: u32 = 64;

/// An action that an execution wants done after its turn has been committed.
#[derive(Debug)]
pub(crate) enum Effect {
    /// Call a function; its answer comes back under this number.
    Invoke {
        number: u64,
        function: String,
        payload: Value,
    },
    /// Give the execution another turn.
    Continue,
}

/// What the context object and the history tell of the service itself.
#[derive(Debug)]
pub(crate) struct Surroundings {
    pub(crate) region: String,
    pub(crate) role_arn: String,
    /// Distinguishes this store's tokens from another's.
    pub(crate) store_id: String,
}

/// One turn of one execution.
pub(crate) struct Turn<'a> {
    definition: &'a Definition,
    pub(super) surroundings: &'a Surroundings,
    pub(super) execution: &'a mut Execution,
    pub(super) now_ms: u64,
    states_left: u32,
    pub(crate) events: Vec<HistoryEvent>,
    pub(crate) effects: Vec<Effect>,
}

impl<'a> Turn<'a> {
    pub(crate) fn new(
        definition: &'a Definition,
        surroundings: &'a Surroundings,
        execution: &'a mut Execution,
        now_ms: u64,
    ) -> Self {
        Self {
            definition,
            surroundings,
            execution,
            now_ms,
            states_left: STATES_A_TURN,
            events: Vec::new(),
            effects: Vec::new(),
        }
    }

    /// Begins a new execution.
    pub(crate) fn start(&mut self) {
        // The start itself is billed like a state.
        self.execution.transitions = 1;
        let details = json!({
            "input": self.execution.input,
            "inputDetails": { "truncated": false },
            "roleArn": self.surroundings.role_arn,
        });
        self.record(
            "ExecutionStarted",
            Some(("executionStartedEventDetails", details)),
        );
        let start = self.definition.start_at.clone();
        let input = self.execution.position.input.clone();
        self.enter(&start, input);
    }

    /// Does what has come due: time passes before whatever else happens now.
    pub(crate) fn pass_time(&mut self) {
        if self.execution.due_ms().is_none_or(|due| due > self.now_ms) {
            return;
        }
        if self.execution.deadline_ms() <= self.now_ms {
            return self.close(Status::TimedOut, Err(Failure::timeout(TIMEOUT)));
        }
        match &self.execution.position.phase {
            Phase::Entering => {}
            Phase::Task(_) => self.task_timed_out(),
            Phase::BackingOff { .. } => {
                self.execution.position.retries += 1;
                self.execution.transitions += 1;
                self.execution.position.phase = Phase::Entering;
            }
        }
    }

    /// Goes on after a restart. A function that had not answered is called again, as a new entry of its state: whatever
    /// the lost call still does is told apart from the new one by the entered time and the token.
    pub(crate) fn resume(&mut self) {
        if self.execution.flight().is_some_and(|flight| !flight.parked) {
            self.execution.position.entered_ms = self.next_entered_ms();
            self.execution.position.phase = Phase::Entering;
        }
    }

    /// Stops the execution, if it still runs.
    pub(crate) fn stop(&mut self, failure: Failure) {
        if self.execution.is_running() {
            self.close(Status::Aborted, Err(failure));
        }
    }

    /// Goes on until something has to be waited for.
    pub(crate) fn run(&mut self) {
        while self.execution.is_running() {
            if history::is_full(self.execution) {
                return self.close(Status::Failed, Err(history::full()));
            }
            if !matches!(self.execution.position.phase, Phase::Entering) {
                return;
            }
            if self.states_left == 0 {
                return self.effects.push(Effect::Continue);
            }
            self.states_left -= 1;
            self.work();
        }
    }

    pub(super) fn state(&self) -> Option<&'a State> {
        self.definition.states.get(&self.execution.position.state)
    }

    /// A loaded definition has every target, so this cannot happen but by a damaged store.
    fn no_state() -> Failure {
        Failure::new(
            RUNTIME,
            "The execution is in a state that its definition does not have.",
        )
    }

    /// Does what the state entered is for.
    fn work(&mut self) {
        let Some(state) = self.state() else {
            return self.close(Status::Failed, Err(Self::no_state()));
        };
        match &state.kind {
            Kind::Task(task) => {
                if let Err(failure) = self.begin_task(task) {
                    self.fail(failure);
                }
            }
            Kind::Succeed => self.succeed(None),
            Kind::Fail { error, cause } => match self.cause(cause.as_ref()) {
                Ok(cause) => {
                    let error = error.clone();
                    self.close(Status::Failed, Err(Failure { error, cause }));
                }
                Err(failure) => self.fail(failure),
            },
        }
    }

    fn cause(&self, cause: Option<&Template>) -> Result<Option<String>, Failure> {
        let Some(cause) = cause else { return Ok(None) };
        match cause.evaluate(&self.scope(Extra::default()), "Cause")? {
            Value::String(text) => Ok(Some(text)),
            other => Err(Failure::query(format!(
                "The field 'Cause' must be a string, not {other}."
            ))),
        }
    }

    /// The state is done: its `Output`, then on. `result` is what a task gave.
    pub(super) fn succeed(&mut self, result: Option<Value>) {
        let Some(state) = self.state() else {
            return self.close(Status::Failed, Err(Self::no_state()));
        };
        let next = match &state.kind {
            Kind::Task(task) => &task.next,
            Kind::Succeed | Kind::Fail { .. } => &Next::End,
        };
        let default = match &result {
            Some(result) => result.clone(),
            None => self.execution.position.input.clone(),
        };
        let extra = Extra {
            result,
            ..Extra::default()
        };
        match self.output(state.output.as_ref(), extra, default) {
            Ok(output) => self.leave(next, output),
            Err(failure) => self.fail(failure),
        }
    }

    /// The output of a state or catcher: its template's value, or the default where there is none.
    pub(super) fn output(
        &self,
        template: Option<&Template>,
        extra: Extra<'_>,
        default: Value,
    ) -> Result<Value, Failure> {
        let output = match template {
            Some(template) => template.evaluate(&self.scope(extra), "Output")?,
            None => default,
        };
        if size(&output) > MAX_PAYLOAD {
            let state = &self.execution.position.state;
            let cause = format!(
                "The state/task '{state}' returned a result with a size exceeding the maximum number of bytes service limit."
            );
            return Err(Failure::new(DATA_LIMIT, cause));
        }
        Ok(output)
    }

    /// Leaves the state.
    pub(super) fn leave(&mut self, next: &Next, output: Value) {
        self.record_state("Exited", "stateExitedEventDetails", |name| {
            with_output(json!({ "name": name }), &output)
        });
        match next {
            Next::State(name) => self.enter(name, output),
            Next::End => self.close(Status::Succeeded, Ok(output)),
        }
    }

    /// The state failed: if it is a task, a retrier takes it, else a catcher; else the execution fails.
    pub(super) fn fail(&mut self, failure: Failure) {
        if failure.error.as_deref() == Some(QUERY) {
            let details = with_failure(json!({ "state": self.execution.position.state }), &failure);
            self.record(
                "EvaluationFailed",
                Some(("evaluationFailedEventDetails", details)),
            );
        }
        match self.state().map(|state| &state.kind) {
            Some(Kind::Task(task)) => self.retry_or_catch(task, failure),
            _ => self.close(Status::Failed, Err(failure)),
        }
    }

    pub(super) fn scope(&self, extra: Extra<'_>) -> Scope {
        scope(self.execution, &self.surroundings.role_arn, extra)
    }

    /// Enters a state afresh.
    fn enter(&mut self, name: &str, input: Value) {
        let entered_ms = self.next_entered_ms();
        self.execution.transitions += 1;
        let position = &mut self.execution.position;
        *position = Position {
            state: name.to_owned(),
            entered_ms,
            input,
            retries: 0,
            attempts: Vec::new(),
            tasks: position.tasks,
            phase: Phase::Entering,
        };
        let input = self.execution.position.input.to_string();
        self.record_state(
            "Entered",
            "stateEnteredEventDetails",
            |name| json!({ "name": name, "input": input, "inputDetails": { "truncated": false } }),
        );
    }

    /// Now, but later than the last entry: a function tells entries apart by their time.
    fn next_entered_ms(&self) -> u64 {
        self.now_ms.max(self.execution.position.entered_ms + 1)
    }

    pub(super) fn close(&mut self, status: Status, outcome: Result<Value, Failure>) {
        self.execution.status = status;
        self.execution.stopped_ms = Some(self.now_ms);
        self.effects.clear();
        match outcome {
            Ok(output) => {
                let details = with_output(json!({}), &output);
                self.execution.output = Some(output.to_string());
                self.record(
                    "ExecutionSucceeded",
                    Some(("executionSucceededEventDetails", details)),
                );
            }
            Err(failure) => {
                let (kind, member) = match status {
                    Status::TimedOut => ("ExecutionTimedOut", "executionTimedOutEventDetails"),
                    Status::Aborted => ("ExecutionAborted", "executionAbortedEventDetails"),
                    _ => ("ExecutionFailed", "executionFailedEventDetails"),
                };
                self.record(kind, Some((member, with_failure(json!({}), &failure))));
                self.execution.failure = Some(failure);
            }
        }
    }

    fn record_state(&mut self, what: &str, member: &str, details: impl FnOnce(&str) -> Value) {
        if let Some(kind) = self.state().map(|state| state.kind.name()) {
            let details = details(&self.execution.position.state);
            self.record(&format!("{kind}State{what}"), Some((member, details)));
        }
    }

    /// Writes down what happened. Where only the closing event still fits, nothing but that one is written.
    pub(super) fn record(&mut self, kind: &str, details: Option<(&str, Value)>) {
        if self.execution.is_running() && history::is_full(self.execution) {
            return;
        }
        let event = HistoryEvent::next(self.execution, self.now_ms, kind, details);
        self.events.push(event);
    }
}

/// The size AWS measures: bytes of JSON.
pub(super) fn size(value: &Value) -> usize {
    value.to_string().len()
}
