//! The interpreter: a functional core. A [`Turn`] takes an execution, something that happened and the time, and leaves
//! the execution changed, the history events to write and the effects wanted. It does no I/O and never waits.

mod history;
mod scope;
mod task;

use serde_json::{Value, json};

use crate::definition::{Condition, Definition, Kind, Next, State, Until};
use crate::execution::{Execution, Phase, Position, Status};
use crate::failure::{DATA_LIMIT, Failure, NO_CHOICE, RUNTIME, TIMEOUT};
use crate::template::Template;
use crate::time;
pub(crate) use history::HistoryEvent;
use history::with_failure;

/// AWS's limit on inputs, outputs and variables: 256 KiB of UTF-8.
pub(crate) const MAX_PAYLOAD: usize = 256 * 1024;

/// How many states one turn enters before it lets others have theirs: a machine that loops without waiting must not
/// hold up the rest.
const STATES_A_TURN: u32 = 64;

/// What an execution wants done. Only what follows a commit is here.
#[derive(Debug)]
pub(crate) enum Effect {
    /// Call a function; its answer comes back under this number.
    Invoke {
        number: u64,
        function: String,
        payload: Value,
    },
    /// Give it another turn.
    Continue,
}

/// What the world is like, as far as the context object tells.
#[derive(Debug)]
pub(crate) struct Surroundings {
    pub(crate) region: String,
    pub(crate) role_arn: String,
    /// Distinguishes this store's tokens from another's.
    pub(crate) store_id: String,
}

/// How a task token was answered.
#[derive(Debug)]
pub(crate) enum Answer {
    Success(Value),
    Failure(Failure),
    Heartbeat,
}

/// What became of a token's answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Taken {
    /// It ended the task, or kept it alive.
    Yes,
    /// The task is over: answered before, timed out, or its execution closed.
    Over,
    /// There never was such a task.
    Unknown,
}

/// One turn of one execution.
pub(crate) struct Turn<'a> {
    definition: &'a Definition,
    surroundings: &'a Surroundings,
    execution: &'a mut Execution,
    now_ms: u64,
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
            Phase::Task(flight) => {
                let timed_out = flight.timeout_ms.is_some_and(|due| due <= self.now_ms);
                self.task_timed_out(timed_out);
            }
            Phase::BackingOff { .. } => {
                self.execution.position.retries += 1;
                self.execution.transitions += 1;
                self.execution.position.phase = Phase::Entering;
            }
            Phase::Waiting { .. } => self.succeed(None),
        }
    }

    /// Goes on after a restart. A function that had not answered is called again, as a new entry of its state: whatever
    /// the lost call still does is told from the new one by the entered time and the token.
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
            if self.history_is_full() {
                return self.close(Status::Failed, Err(Self::full_history()));
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

    fn state(&self) -> Option<&'a State> {
        self.definition.states.get(&self.execution.position.state)
    }

    /// A loaded definition has every target, so this is a stored one that this program cannot use any more.
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
            Kind::Wait { until, .. } => match self.wait_until(until) {
                Ok(until_ms) if until_ms > self.now_ms => {
                    self.execution.position.phase = Phase::Waiting { until_ms };
                }
                Ok(_) => self.succeed(None),
                Err(failure) => self.fail(failure),
            },
            Kind::Choice { rules, default } => {
                match self.choose(rules, default.as_deref(), state) {
                    Ok(chosen) => self.leave_by(
                        chosen.0,
                        chosen.1,
                        &Next::State(chosen.2.to_owned()),
                        None,
                        None,
                    ),
                    Err(failure) => self.fail(failure),
                }
            }
            Kind::Succeed | Kind::Pass { .. } => self.succeed(None),
            Kind::Fail { error, cause } => match self.fail_texts(error.as_ref(), cause.as_ref()) {
                Ok(failure) => self.close(Status::Failed, Err(failure)),
                Err(failure) => self.fail(failure),
            },
        }
    }

    /// The state is done: its `Assign` and `Output`, then on. `result` is what a task gave.
    fn succeed(&mut self, result: Option<Value>) {
        let Some(state) = self.state() else {
            return self.close(Status::Failed, Err(Self::no_state()));
        };
        let end = Next::End;
        let next = match &state.kind {
            Kind::Task(task) => &task.next,
            Kind::Pass { next } | Kind::Wait { next, .. } => next,
            Kind::Choice { .. } | Kind::Succeed | Kind::Fail { .. } => &end,
        };
        self.leave_by(
            state.assign.as_ref(),
            state.output.as_ref(),
            next,
            result,
            None,
        );
    }

    /// Leaves the state: variables and output are made from the same old variables, then all of it takes effect.
    fn leave_by(
        &mut self,
        assign: Option<&Template>,
        output: Option<&Template>,
        next: &Next,
        result: Option<Value>,
        error_output: Option<Value>,
    ) {
        match self.outcome(assign, output, result, error_output.clone()) {
            Ok((assigned, output)) => {
                self.execution.position.variables.extend(assigned);
                self.record_exited(&output);
                match next {
                    Next::State(name) => self.enter(name, output),
                    Next::End => self.close(Status::Succeeded, Ok(output)),
                }
            }
            // A catcher's own failure is not caught again by the same state.
            Err(failure) if error_output.is_some() => self.close(Status::Failed, Err(failure)),
            Err(failure) => self.fail(failure),
        }
    }

    fn outcome(
        &self,
        assign: Option<&Template>,
        output: Option<&Template>,
        result: Option<Value>,
        error_output: Option<Value>,
    ) -> Result<(serde_json::Map<String, Value>, Value), Failure> {
        let default = match (&result, &error_output) {
            (Some(value), _) | (None, Some(value)) => value.clone(),
            (None, None) => self.execution.position.input.clone(),
        };
        let scope = self.scope(result, error_output, None);
        let assigned = match assign
            .map(|assign| assign.evaluate(&scope, "Assign"))
            .transpose()?
        {
            Some(Value::Object(variables)) => variables,
            _ => serde_json::Map::new(),
        };
        if size(&Value::Object(assigned.clone())) > MAX_PAYLOAD {
            return Err(Failure::new(
                DATA_LIMIT,
                "The variables assigned by one state exceed 262144 bytes.",
            ));
        }
        let output = output.map_or(Ok(default), |output| output.evaluate(&scope, "Output"))?;
        if size(&output) > MAX_PAYLOAD {
            let state = &self.execution.position.state;
            let cause = format!(
                "The state/task '{state}' returned a result with a size exceeding the maximum number of bytes service limit."
            );
            return Err(Failure::new(DATA_LIMIT, cause));
        }
        Ok((assigned, output))
    }

    /// The first rule whose condition holds, or the default: its assignments, output and target.
    fn choose(
        &self,
        rules: &'a [crate::definition::Rule],
        default: Option<&'a str>,
        state: &'a State,
    ) -> Result<(Option<&'a Template>, Option<&'a Template>, &'a str), Failure> {
        let scope = self.scope(None, None, None);
        for (i, rule) in rules.iter().enumerate() {
            let holds = match &rule.condition {
                Condition::Literal(value) => *value,
                Condition::Expression(expression) => match expression.evaluate(&scope) {
                    Ok(Some(Value::Bool(value))) => value,
                    Ok(_) => {
                        return Err(Failure::query(format!(
                            "The JSONata expression '{}' specified for the field 'Choices[{i}]/Condition' must return a boolean.",
                            expression.source()
                        )));
                    }
                    Err(problem) => {
                        return Err(Failure::query(format!(
                            "The JSONata expression '{}' specified for the field 'Choices[{i}]/Condition' threw an error during evaluation. {problem}",
                            expression.source()
                        )));
                    }
                },
            };
            if holds {
                return Ok((rule.assign.as_ref(), rule.output.as_ref(), &rule.next));
            }
        }
        let next = default.ok_or_else(|| {
            Failure::new(
                NO_CHOICE,
                "No choice rule matched and the state has no Default.",
            )
        })?;
        // The state's own assignments and output belong to its default.
        Ok((state.assign.as_ref(), state.output.as_ref(), next))
    }

    fn wait_until(&self, until: &Until) -> Result<u64, Failure> {
        let scope = self.scope(None, None, None);
        match until {
            Until::Seconds(template) => {
                let seconds = whole_seconds(template.evaluate(&scope, "Seconds")?, "Seconds", 0)?;
                Ok(self.now_ms.saturating_add(seconds.saturating_mul(1_000)))
            }
            Until::Timestamp(template) => {
                let value = template.evaluate(&scope, "Timestamp")?;
                value.as_str().and_then(time::parse).ok_or_else(|| {
                    Failure::query(format!(
                        "The field 'Timestamp' must be an RFC 3339 time, not {value}."
                    ))
                })
            }
        }
    }

    fn fail_texts(
        &self,
        error: Option<&Template>,
        cause: Option<&Template>,
    ) -> Result<Failure, Failure> {
        let scope = self.scope(None, None, None);
        let text = |template: Option<&Template>, field: &str| match template
            .map(|t| t.evaluate(&scope, field))
        {
            None => Ok(None),
            Some(Ok(Value::String(text))) => Ok(Some(text)),
            Some(Ok(other)) => Err(Failure::query(format!(
                "The field '{field}' must be a string, not {other}."
            ))),
            Some(Err(failure)) => Err(failure),
        };
        Ok(Failure {
            error: text(error, "Error")?,
            cause: text(cause, "Cause")?,
        })
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
            variables: std::mem::take(&mut position.variables),
            retries: 0,
            attempts: Vec::new(),
            tasks: position.tasks,
            phase: Phase::Entering,
        };
        self.record_entered();
    }

    /// Now, but later than the last entry: a function tells entries apart by their time.
    fn next_entered_ms(&self) -> u64 {
        self.now_ms.max(self.execution.position.entered_ms + 1)
    }

    fn close(&mut self, status: Status, outcome: Result<Value, Failure>) {
        self.execution.status = status;
        self.execution.stopped_ms = Some(self.now_ms);
        self.effects.clear();
        match outcome {
            Ok(output) => {
                let output = output.to_string();
                let details = json!({ "output": output, "outputDetails": { "truncated": false } });
                self.execution.output = Some(output);
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
}

/// The size AWS measures: bytes of JSON.
fn size(value: &Value) -> usize {
    value.to_string().len()
}

/// A whole number of seconds, as an evaluated field must be.
fn whole_seconds(value: Value, field: &str, least: u64) -> Result<u64, Failure> {
    const MOST: u64 = 99_999_999;
    value
        .as_u64()
        .filter(|seconds| (least..=MOST).contains(seconds))
        .ok_or_else(|| {
            Failure::query(format!(
                "The field '{field}' must be a whole number from {least} to {MOST}, not {value}."
            ))
        })
}
