//! The bill: what a run has used, in all and step by step.

use serde::Serialize;
use towpath_api_types::RunView;

use crate::functions::LOOK_ON;
use crate::standing::Standing;

/// The transitions, invocations and units that were used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Usage {
    /// Transitions of the state machine.
    pub transitions: u64,
    /// Invocations of functions that drive runs.
    pub invocations: u64,
    /// Write units, as the tables report them: by the larger of each item before and after, indexes included.
    pub write_units: f64,
    /// Read units, as the tables report them.
    pub read_units: f64,
}

impl Usage {
    /// What the whole cloud has used so far, but for what only looks on.
    pub fn so_far(standing: &Standing) -> Self {
        let (counts, units) = (standing.cloud.counts(), standing.meters.driving());
        let watching = |name: &str| LOOK_ON.contains(&name) || name == "TickFunction";
        let driving = counts
            .invocations_by_function
            .iter()
            .filter(|(name, _)| !watching(name));
        Self {
            transitions: counts.transitions,
            invocations: driving.map(|(_, count)| count).sum(),
            write_units: units.write_reported,
            read_units: units.read_reported,
        }
    }

    /// What this costs in US dollars by the on-demand prices of us-east-1 in 2026. The time that functions take is not in
    /// it: it depends on the machine.
    pub fn dollars(&self) -> f64 {
        const MILLION: f64 = 1e6;
        // A precise sum of so small numbers is no use to anybody.
        let count = |count: u64| count as f64;
        count(self.transitions) * 25.0 / MILLION
            + count(self.invocations) * 0.2 / MILLION
            + self.write_units * 0.625 / MILLION
            + self.read_units * 0.125 / MILLION
    }

    fn since(self, earlier: Self) -> Self {
        Self {
            transitions: self.transitions - earlier.transitions,
            invocations: self.invocations - earlier.invocations,
            write_units: self.write_units - earlier.write_units,
            read_units: self.read_units - earlier.read_units,
        }
    }

    fn add(&mut self, other: Self) {
        self.transitions += other.transitions;
        self.invocations += other.invocations;
        self.write_units += other.write_units;
        self.read_units += other.read_units;
    }
}

/// A bill in the making: what is used is put to the step the run was last seen at.
#[derive(Clone, Debug)]
pub struct Bill {
    last: Usage,
    step: usize,
    steps: Vec<Usage>,
}

impl Bill {
    /// A bill that begins now.
    pub fn new(begin: Usage) -> Self {
        Self {
            last: begin,
            step: 0,
            steps: Vec::new(),
        }
    }

    /// Puts what was used since the last call to the step the run was at.
    pub fn note(&mut self, now: Usage, view: &RunView) {
        self.steps.resize(view.steps.len(), Usage::default());
        if let Some(step) = self.steps.get_mut(self.step) {
            step.add(now.since(self.last));
        }
        self.last = now;
        self.step = usize::from(view.summary.current_step.0);
    }

    /// The usage of each step.
    pub fn steps(&self) -> &[Usage] {
        &self.steps
    }

    /// The usage of all steps together.
    pub fn total(&self) -> Usage {
        let mut total = Usage::default();
        self.steps.iter().for_each(|step| total.add(*step));
        total
    }
}
