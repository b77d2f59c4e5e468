//! EventBridge: rules that match events, and schedules.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Value, json};
use towpath_clock::Clock;
use towpath_stepfunctions::StatusChange;

use crate::lambda::Lambda;
use crate::pattern;
use crate::random;
use crate::tasks::Tasks;
use crate::template::{ACCOUNT, FunctionSpec, REGION, Trigger, arn};

/// The default event bus and the schedules.
pub(crate) struct Events {
    rules: Vec<Rule>,
    schedules: Vec<Schedule>,
    lambda: Arc<Lambda>,
    clock: Clock,
}

struct Rule {
    name: String,
    pattern: Value,
    target: String,
}

struct Schedule {
    name: String,
    every: Duration,
    input: Option<Value>,
    target: String,
}

impl Events {
    pub(crate) fn new(functions: &[FunctionSpec], lambda: Arc<Lambda>, clock: Clock) -> Self {
        let (mut rules, mut schedules) = (Vec::new(), Vec::new());
        for function in functions {
            for trigger in function.triggers.iter().cloned() {
                let target = function.id.clone();
                match trigger {
                    Trigger::Event { name, pattern } => rules.push(Rule {
                        name,
                        pattern,
                        target,
                    }),
                    Trigger::Schedule { name, every, input } => schedules.push(Schedule {
                        name,
                        every,
                        input,
                        target,
                    }),
                    Trigger::Http { .. } => {}
                }
            }
        }
        Self {
            rules,
            schedules,
            lambda,
            clock,
        }
    }

    /// Puts an event on the bus. Returns once each function it is for has been invoked; what failed is tried again in
    /// the background. Members of the envelope that are missing are filled in.
    pub(crate) async fn put(&self, mut event: Value) {
        if let Some(members) = event.as_object_mut() {
            for (name, value) in [
                ("version", json!("0")),
                ("id", json!(random::request_id())),
                ("account", json!(ACCOUNT)),
                ("time", json!(iso(self.clock.now_ms()))),
                ("region", json!(REGION)),
                ("resources", json!([])),
            ] {
                members.entry(name).or_insert(value);
            }
        }
        let matching = self
            .rules
            .iter()
            .filter(|rule| pattern::matches(&rule.pattern, &event));
        let deliveries = matching.map(|rule| {
            tracing::debug!(rule = rule.name, "a rule matched");
            self.lambda.deliver(&rule.target, event.clone())
        });
        futures::future::join_all(deliveries).await;
    }

    /// Fires each schedule once, now.
    pub(crate) async fn fire(&self) {
        futures::future::join_all(
            self.schedules
                .iter()
                .map(|schedule| self.fire_one(schedule)),
        )
        .await;
    }

    async fn fire_one(&self, schedule: &Schedule) {
        let event = schedule.input.clone().unwrap_or_else(|| {
            json!({
                "version": "0",
                "id": random::request_id(),
                "detail-type": "Scheduled Event",
                "source": "aws.events",
                "account": ACCOUNT,
                "time": iso(self.clock.now_ms()),
                "region": REGION,
                "resources": [arn("events", &format!("rule/{}", schedule.name))],
                "detail": {},
            })
        });
        self.lambda.deliver(&schedule.target, event).await;
    }

    /// Runs the schedules by the clock, and fires each at once: what came due while no cloud was up would wait for a whole
    /// interval otherwise, and for ever in clouds that are ended sooner. A clock that jumps over several times of a
    /// schedule fires it once: what is due is done then, and the minutes in between are gone.
    pub(crate) fn run_schedules(self: &Arc<Self>, tasks: &Arc<Tasks>) {
        for index in 0..self.schedules.len() {
            let (events, tasks_of_its_own) = (Arc::clone(self), Arc::clone(tasks));
            let start = self.clock.now_ms();
            tasks.spawn(async move {
                let Some(schedule) = events.schedules.get(index) else {
                    return;
                };
                let every = u64::try_from(schedule.every.as_millis())
                    .unwrap_or(u64::MAX)
                    .max(1);
                loop {
                    let passed = events.clock.now_ms().saturating_sub(start) / every;
                    let next = start.saturating_add(every.saturating_mul(passed + 1));
                    // A slow invocation does not hold up the next one.
                    let due = Arc::clone(&events);
                    tasks_of_its_own.spawn(async move {
                        if let Some(schedule) = due.schedules.get(index) {
                            due.fire_one(schedule).await;
                        }
                    });
                    events.clock.sleep_until(next).await;
                }
            });
        }
    }
}

/// The event of an execution's new status, as Step Functions puts it on the bus.
pub(crate) fn of_status(change: &StatusChange, now_ms: u64) -> Value {
    json!({
        "version": "0",
        "id": random::request_id(),
        "detail-type": "Step Functions Execution Status Change",
        "source": "aws.states",
        "account": ACCOUNT,
        "time": iso(now_ms),
        "region": REGION,
        "resources": [change.execution_arn],
        "detail": {
            "executionArn": change.execution_arn,
            "stateMachineArn": change.state_machine_arn,
            "stateMachineVersionArn": null,
            "stateMachineAliasArn": null,
            "redriveCount": 0,
            "redriveDate": null,
            "redriveStatus": if change.status == "RUNNING" || change.status == "SUCCEEDED" { "NOT_REDRIVABLE" } else { "REDRIVABLE" },
            "redriveStatusReason": null,
            "name": change.name,
            "status": change.status,
            "startDate": change.start_date_ms,
            "stopDate": change.stop_date_ms,
            "input": change.input,
            "output": change.output,
            "inputDetails": {"included": true},
            "outputDetails": change.output.as_ref().map(|_| json!({"included": true})),
            "error": change.error,
            "cause": change.cause,
        },
    })
}

/// EventBridge's times: to the second, in UTC.
fn iso(millis: u64) -> String {
    let seconds = i64::try_from(millis / 1_000).unwrap_or(i64::MAX);
    format!(
        "{:.0}",
        Timestamp::from_second(seconds).unwrap_or(Timestamp::MAX)
    )
}
