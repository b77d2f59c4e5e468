//! Pipelines: what a run does, step by step. A run pins the version it started with.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::{AgentKind, PipelineId, StepIndex};

/// A pipeline as its author wrote it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Pipeline {
    /// Its name within the workspace.
    pub id: PipelineId,
    /// What people call it.
    #[serde(default)]
    pub name: String,
    /// What it does, in order.
    pub steps: Vec<StepSpec>,
    /// Free words to find it by.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub labels: Vec<String>,
    /// An archived pipeline starts no runs.
    #[serde(default)]
    pub archived: bool,
}

/// One step of a pipeline.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct StepSpec {
    /// What the step's agent is for.
    pub agent_kind: AgentKind,
    /// Whether a human must approve the result before the run goes on. Means nothing on the last step.
    #[serde(default)]
    pub requires_approval: bool,
    /// A step that is not enabled is not part of any run.
    #[serde(default = "yes")]
    pub enabled: bool,
    /// What runs the agent. A gate has a probe instead.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub runtime: Option<Binding>,
    /// Makes the step a polling gate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gate: Option<GateSpec>,
    /// Limits of the step's own; see [`Budgets`] for what holds otherwise.
    #[serde(default, skip_serializing_if = "Budgets::is_default")]
    pub budgets: Budgets,
}

fn yes() -> bool {
    true
}

/// What runs an agent.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase", deny_unknown_fields)]
pub enum Binding {
    /// A deterministic stand-in that answers at once, for demos and tests.
    Simulated(Simulated),
    /// A command in a process group of its own on the machine of the local cloud.
    Process(Command),
}

/// What a simulated agent answers.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Simulated {
    /// Its output.
    pub output: String,
    /// A question it asks first; it answers once a human has chosen.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub asks: Option<Question>,
    /// The error it ends with, instead of an output.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fails: Option<String>,
}

/// A question an agent puts to a human.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Question {
    /// The question.
    pub question: String,
    /// The answers there are.
    #[serde(default)]
    pub options: Vec<String>,
    /// Whether an answer outside the options is one too.
    #[serde(default)]
    pub free_text: bool,
}

/// A command that a job runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Command {
    /// The program and its arguments; no shell is implied.
    pub command: Vec<String>,
    /// The job's working copy of the block's repository.
    #[serde(default)]
    pub checkout: CheckoutMode,
    /// Environment variables. Names beginning with `TOWPATH_` are the engine's.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, String>,
}

/// What a job gets of the block's repository.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CheckoutMode {
    /// An empty work directory.
    #[default]
    None,
    /// A working copy of the branch; what the command changes in it is thrown away.
    Read,
    /// A working copy; when the command succeeds its changes are committed and the branch is pushed.
    Write,
}

/// A polling gate: a probe that looks, and a helper that mends what it finds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct GateSpec {
    /// What the gate looks at.
    pub probe: Probe,
    /// Who mends what the probe finds; without one the first failure is the last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub helper: Option<Helper>,
    /// The number of times the helper may try. See [`GateSpec::attempts_of`] for the default of each kind of gate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempts: Option<u32>,
    /// How long the gate may poll without a verdict, in minutes. It begins anew each time the helper has been at work.
    #[serde(default = "GateSpec::default_budget")]
    pub budget_minutes: u32,
}

impl GateSpec {
    /// The number of times the helper of a gate of this kind may try: what the pipeline says, else 10 for `ci`, 3 for
    /// `conflicts`, 1 for `post-release-health` and 3 for any other.
    pub fn attempts_of(&self, kind: &AgentKind) -> u32 {
        self.attempts.unwrap_or(match kind.as_str() {
            "ci" => 10,
            "post-release-health" => 1,
            _ => 3,
        })
    }

    fn default_budget() -> u32 {
        60
    }

    /// How long the gate may poll without a verdict.
    pub fn budget(&self) -> Duration {
        Duration::from_secs(u64::from(self.budget_minutes) * 60)
    }
}

/// How a gate looks.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase", deny_unknown_fields)]
pub enum Probe {
    /// Runs a command as a job of its own: exit code 0 passes, 75 (`EX_TEMPFAIL`) is pending, any other fails.
    Command(Command),
}

/// A gate's helper.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Helper {
    /// What the helper is for.
    pub agent_kind: AgentKind,
    /// What runs it. It works on the branch that the probe looked at.
    pub runtime: Binding,
}

/// Limits on one step.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Budgets {
    /// How long one job of the step may take, in minutes. 70 when not said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub job_minutes: Option<u32>,
}

impl Budgets {
    fn is_default(&self) -> bool {
        *self == Self::default()
    }

    /// How long one job of the step may take.
    pub fn job(&self) -> Duration {
        Duration::from_secs(u64::from(self.job_minutes.unwrap_or(70)) * 60)
    }
}

/// Something wrong with a pipeline.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Flaw {
    /// Where: a path such as `steps[2].gate`.
    pub path: String,
    /// What is wrong, and what is expected instead.
    pub problem: String,
}

/// The most steps a pipeline may have.
pub const MAX_STEPS: usize = 500;

impl Pipeline {
    /// Everything that keeps this pipeline from running. Empty for a good one.
    pub fn flaws(&self) -> Vec<Flaw> {
        let mut flaws = Flaws::default();
        if self.steps.iter().filter(|step| step.enabled).count() == 0 {
            flaws.add("steps", "a pipeline needs at least one enabled step");
        }
        if self.steps.len() > MAX_STEPS {
            flaws.add(
                "steps",
                format!(
                    "a pipeline has at most {MAX_STEPS} steps, this one has {}",
                    self.steps.len()
                ),
            );
        }
        for (index, step) in self.steps.iter().enumerate() {
            step.check(&format!("steps[{index}]"), &mut flaws);
        }
        flaws.0
    }

    /// The steps of a run: the enabled ones, in order.
    pub fn enabled(&self) -> Vec<StepSpec> {
        self.steps
            .iter()
            .filter(|step| step.enabled)
            .cloned()
            .collect()
    }
}

#[derive(Default)]
struct Flaws(Vec<Flaw>);

impl Flaws {
    fn add(&mut self, path: impl Into<String>, problem: impl Into<String>) {
        self.0.push(Flaw {
            path: path.into(),
            problem: problem.into(),
        });
    }
}

/// The kinds whose place in a pipeline is that of a gate.
const GATE_KINDS: [&str; 3] = ["ci", "conflicts", "post-release-health"];

impl StepSpec {
    fn check(&self, path: &str, flaws: &mut Flaws) {
        let kind = self.agent_kind.as_str();
        match (&self.runtime, &self.gate) {
            (Some(_), Some(_)) => flaws.add(path, "a step has a `runtime` or a `gate`, not both"),
            (None, None) if GATE_KINDS.contains(&kind) => {
                flaws.add(path, format!("the gate `{kind}` needs a `gate` with a `probe`, for example {{ probe: {{ kind: command, command: [make, test] }} }}"));
            }
            (None, None) => {
                flaws.add(path, format!("no runtime is known for the agent kind `{kind}`; give the step a `runtime` (kind `process` or `simulated`) or a `gate`"));
            }
            (Some(runtime), None) => runtime.check(&format!("{path}.runtime"), flaws),
            (None, Some(gate)) => gate.check(&format!("{path}.gate"), flaws),
        }
        if self
            .budgets
            .job_minutes
            .is_some_and(|minutes| !(1..=7 * 24 * 60).contains(&minutes))
        {
            flaws.add(
                format!("{path}.budgets.jobMinutes"),
                "a job may take from 1 minute to 7 days (10080)",
            );
        }
    }
}

impl GateSpec {
    fn check(&self, path: &str, flaws: &mut Flaws) {
        let Probe::Command(probe) = &self.probe;
        probe.check(&format!("{path}.probe"), flaws);
        if probe.checkout == CheckoutMode::Write {
            flaws.add(
                format!("{path}.probe.checkout"),
                "a probe looks and changes nothing: `none` or `read`",
            );
        }
        if let Some(helper) = &self.helper {
            helper
                .runtime
                .check(&format!("{path}.helper.runtime"), flaws);
            if matches!(helper.runtime, Binding::Simulated(_)) {
                flaws.add(
                    format!("{path}.helper.runtime"),
                    "a helper mends the branch in a job: kind `process`",
                );
            }
        }
        if self.attempts.is_some_and(|attempts| attempts > 100) {
            flaws.add(
                format!("{path}.attempts"),
                "a helper gets at most 100 attempts",
            );
        }
        if !(1..=7 * 24 * 60).contains(&self.budget_minutes) {
            flaws.add(
                format!("{path}.budgetMinutes"),
                "a gate may poll from 1 minute to 7 days (10080)",
            );
        }
    }
}

impl Binding {
    fn check(&self, path: &str, flaws: &mut Flaws) {
        match self {
            Binding::Process(command) => command.check(path, flaws),
            Binding::Simulated(simulated) => {
                let options = simulated
                    .asks
                    .as_ref()
                    .map(|asks| &asks.options[..])
                    .unwrap_or_default();
                if simulated
                    .asks
                    .as_ref()
                    .is_some_and(|asks| !asks.free_text && asks.options.is_empty())
                {
                    flaws.add(
                        format!("{path}.asks.options"),
                        "a question without `freeText` needs at least one option",
                    );
                }
                if options.iter().collect::<BTreeSet<_>>().len() != options.len() {
                    flaws.add(format!("{path}.asks.options"), "each option stands once");
                }
            }
        }
    }
}

impl Command {
    fn check(&self, path: &str, flaws: &mut Flaws) {
        if self
            .command
            .first()
            .is_none_or(|program| program.is_empty())
        {
            flaws.add(
                format!("{path}.command"),
                "a command needs a program, for example [make, test]",
            );
        }
        if self.command.iter().any(|word| word.contains('\0')) {
            flaws.add(format!("{path}.command"), "a command's words hold no NUL");
        }
        for name in self.env.keys() {
            if name.starts_with("TOWPATH_") {
                flaws.add(
                    format!("{path}.env.{name}"),
                    "names beginning with TOWPATH_ are the engine's own",
                );
            } else if name.is_empty() || name.contains(['=', '\0']) {
                flaws.add(
                    format!("{path}.env"),
                    "a variable's name is not empty and holds no `=` and no NUL",
                );
            }
        }
    }
}

/// The pinned steps of a run, as the engine reads them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Plan(Vec<StepSpec>);

impl Plan {
    /// The plan of these steps, if there is at least one.
    pub fn new(steps: Vec<StepSpec>) -> Option<Self> {
        (!steps.is_empty() && steps.len() <= MAX_STEPS).then_some(Self(steps))
    }

    /// The step at this place.
    pub fn step(&self, index: StepIndex) -> Option<&StepSpec> {
        self.0.get(usize::from(index.0))
    }

    /// How many steps there are: at least 1.
    pub fn len(&self) -> u16 {
        u16::try_from(self.0.len()).unwrap_or(u16::MAX)
    }

    /// Never: a plan has at least one step.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The steps with their places.
    pub fn iter(&self) -> impl Iterator<Item = (StepIndex, &StepSpec)> {
        (0u16..).map(StepIndex).zip(&self.0)
    }

    /// Whether the step is the last one.
    pub fn is_final(&self, index: StepIndex) -> bool {
        index.0 + 1 >= self.len()
    }
}
