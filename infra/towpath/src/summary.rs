//! What a demo came to, for people and for machines.

use serde::Serialize;
use towpath_api_types::RunView;
use towpath_engine::{Failure, RunId, Status, StepState};

use crate::bill::{Bill, Usage};
use crate::screen::{self, indent};

/// The summary of a demo.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Summary {
    pub(crate) run: RunId,
    pub(crate) status: Status,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) failure: Option<Failure>,
    pub(crate) repository: String,
    pub(crate) branch: Option<String>,
    pub(crate) branch_commit: Option<String>,
    pub(crate) merged_commit: Option<String>,
    pub(crate) steps: Vec<StepSummary>,
    pub(crate) bill: Usage,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct StepSummary {
    agent_kind: String,
    state: StepState,
    seconds: Option<f64>,
    attempts: u32,
    usage: Usage,
}

pub(crate) fn steps(view: &RunView, bill: &Bill) -> Vec<StepSummary> {
    let usage = bill
        .steps()
        .iter()
        .copied()
        .chain(std::iter::repeat(Usage::default()));
    let steps = view
        .steps
        .iter()
        .zip(usage)
        .map(|(step, usage)| StepSummary {
            agent_kind: step.agent_kind.to_string(),
            state: step.state,
            seconds: step
                .finished_at
                .and_then(|end| screen::duration(step, end))
                .map(|took| took.as_secs_f64()),
            attempts: step.attempt,
            usage,
        });
    steps.collect()
}

impl Summary {
    /// The summary in words.
    pub(crate) fn told(&self) -> String {
        let mut lines = vec![String::new()];
        match (&self.failure, &self.merged_commit, &self.branch) {
            (Some(failure), _, _) => {
                lines.push(format!("Failed: {}", failure.message));
                lines.extend(failure.detail.as_deref().map(indent));
                // Its cloud ends with the demo: there is nothing left to retry.
                lines.push("Fix the cause, then run the demo again.".to_owned());
            }
            (None, Some(commit), _) => lines.push(format!("Done: merged as {commit}")),
            (None, None, Some(branch)) => lines.push(format!("Done: the work is on {branch}")),
            (None, None, None) => lines.push("Done.".to_owned()),
        }
        lines.push(String::new());
        lines.push(row([
            "bill",
            "transitions",
            "invocations",
            "write units",
            "read units",
        ]));
        for step in &self.steps {
            lines.push(usage_row(&step.agent_kind, &step.usage));
        }
        lines.push(usage_row("in all", &self.bill));
        lines.push(String::new());
        lines.push(format!(
            "1,000 such runs cost about ${:.2} on AWS (us-east-1, on demand), compute time and jobs aside.",
            self.bill.dollars() * 1000.0
        ));
        lines.join("\n")
    }
}

fn row(cells: [&str; 5]) -> String {
    let [name, a, b, c, d] = cells;
    format!("{name:<14}{a:>13}{b:>13}{c:>13}{d:>13}")
}

fn usage_row(name: &str, usage: &Usage) -> String {
    row([
        name,
        &usage.transitions.to_string(),
        &usage.invocations.to_string(),
        &format!("{:.0}", usage.write_units),
        &format!("{:.1}", usage.read_units),
    ])
}
