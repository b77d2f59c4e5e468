//! Pipelines: what a run does, step by step. A run pins the version it started with.

use std::collections::BTreeSet;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::fields::{Fields, ProbeFields};
use crate::kinds::{ANY_RUNTIME, BUILT_IN, Kind, Work};
use crate::{AgentKind, CheckoutMode, Command, Model, PipelineId, SecretName, StepIndex};

/// A pipeline as its author wrote it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Pipeline {
    /// The pipeline's id, unique within its workspace.
    pub id: PipelineId,
    /// The pipeline's name, for people.
    #[serde(default)]
    pub name: String,
    /// The steps, in the order in which they run.
    pub steps: Vec<StepSpec>,
    /// Words to find the pipeline by.
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
    /// The kind of agent that the step names.
    pub agent_kind: AgentKind,
    /// Whether a human must approve the result before the run goes on.
    #[serde(default)]
    pub requires_approval: bool,
    /// A step that is not enabled is not part of any run.
    #[serde(default = "yes")]
    pub enabled: bool,
    /// The runtime of the agent. A gate has a probe instead.
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

/// The runtime that an agent is bound to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase", try_from = "Fields")]
pub enum Binding {
    /// A deterministic stand-in that answers at once, for demos and tests.
    Simulated(Simulated),
    /// A command, run as a job wherever the deployment runs jobs, or where the command says. Files and records of before
    /// call it `process`.
    Command(Command),
    /// One call of a language model, at the gateway that the deployment names.
    Model(Model),
}

/// The script of a simulated agent.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Simulated {
    /// The output that the agent answers with.
    pub output: String,
    /// A question that the agent asks first; it answers once a human has chosen.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub asks: Option<Question>,
    /// The error that the agent ends with, instead of an output.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fails: Option<String>,
}

/// A question an agent puts to a human.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Question {
    /// The question.
    pub question: String,
    /// The answers to choose from.
    #[serde(default)]
    pub options: Vec<String>,
    /// Whether an answer outside the options is accepted.
    #[serde(default)]
    pub free_text: bool,
}

/// A polling gate: a probe that looks, and a helper that fixes what it finds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct GateSpec {
    /// The probe that looks.
    pub probe: Probe,
    /// The helper that fixes what the probe finds; without one the first failure fails the run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub helper: Option<Helper>,
    /// The number of times the helper may try. See [`GateSpec::attempts_of`] for the default of each kind.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempts: Option<u32>,
    /// The time the gate may poll without a verdict, in minutes. Begins anew each time the helper has been at work.
    #[serde(default = "GateSpec::default_budget")]
    pub budget_minutes: u32,
    /// The pause between looks that come too early, in minutes. From 1 to 5, rising, when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interval_minutes: Option<u32>,
}

impl GateSpec {
    /// The number of times the helper of a gate of this agent kind may try: what the pipeline says, else 10 for `ci`, 3
    /// for `conflicts`, 1 for `post-release-health` and 3 for any other.
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

    /// The time the gate may poll without a verdict.
    pub fn budget(&self) -> Duration {
        Duration::from_secs(u64::from(self.budget_minutes) * 60)
    }
}

/// The way a gate looks.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase", try_from = "ProbeFields")]
pub enum Probe {
    /// Runs a command as a job of its own: exit code 0 passes, 75 (`EX_TEMPFAIL`) is pending, any other fails.
    Command(Command),
}

/// A gate's helper.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Helper {
    /// The kind of agent that helps.
    pub agent_kind: AgentKind,
    /// The runtime of the helper, which works on the branch that the probe looked at.
    pub runtime: Binding,
}

/// Limits on one step.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Budgets {
    /// The time that one round of the step's job may take, in minutes. 70 when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub job_minutes: Option<u32>,
}

impl Budgets {
    fn is_default(&self) -> bool {
        *self == Self::default()
    }

    /// The time that one round of the step's job may take, evictions included.
    pub fn job(&self) -> Duration {
        Duration::from_secs(u64::from(self.job_minutes.unwrap_or(70)) * 60)
    }
}

/// An error in a pipeline.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ValidationError {
    /// The path of the field, such as `steps[2].gate`.
    pub path: String,
    /// The error, and what is expected instead.
    pub problem: String,
}

/// The most steps a pipeline may have.
pub const MAX_STEPS: usize = 500;

impl Pipeline {
    /// Checks the pipeline and returns every error that keeps it from running.
    pub fn errors(&self) -> Vec<ValidationError> {
        self.errors_for(BUILT_IN)
    }

    /// Checks the pipeline for a deployment that has these kinds of steps.
    pub fn errors_for(&self, kinds: &[&'static dyn Kind]) -> Vec<ValidationError> {
        let mut errors = ValidationErrors::default();
        if self.steps.iter().filter(|step| step.enabled).count() == 0 {
            errors.add("steps", "a pipeline needs at least one enabled step");
        }
        if self.steps.len() > MAX_STEPS {
            errors.add(
                "steps",
                format!(
                    "a pipeline has at most {MAX_STEPS} steps, this one has {}",
                    self.steps.len()
                ),
            );
        }
        for (index, step) in self.steps.iter().enumerate() {
            step.check(kinds, &format!("steps[{index}]"), &mut errors);
        }
        // Neither a command nor a terminal could be given one.
        match serde_json::to_value(self) {
            Ok(all) => errors.find_nul("", &all),
            Err(error) => errors.add("", error.to_string()),
        }
        errors.0
    }

    /// The errors of a correct pipeline for a block that has no repository: the places that need a working copy of one.
    pub fn errors_without_repository(&self) -> Vec<ValidationError> {
        let mut errors = ValidationErrors::default();
        for (path, command) in self.commands() {
            if command.checkout != CheckoutMode::None {
                let problem = "needs a working copy, and the block has no `repository`";
                errors.add(format!("{path}.checkout"), problem);
            }
        }
        errors.0
    }

    /// The errors of a correct pipeline where these secrets are missing: the places that name one of them.
    pub fn errors_without_secrets(&self, missing: &BTreeSet<&SecretName>) -> Vec<ValidationError> {
        let mut errors = ValidationErrors::default();
        for (path, command) in self.commands() {
            for (variable, value) in &command.env {
                if let Some(secret) = value.secret().filter(|secret| missing.contains(secret)) {
                    let problem =
                        format!("there is no secret `{secret}`; put it at /secrets/{secret}");
                    errors.add(format!("{path}.env.{variable}"), problem);
                }
            }
        }
        errors.0
    }

    /// The secrets that the enabled steps name.
    pub fn secrets(&self) -> BTreeSet<&SecretName> {
        self.commands()
            .flat_map(|(_, command)| command.secrets())
            .collect()
    }

    /// The commands of the enabled steps, each with its path.
    fn commands(&self) -> impl Iterator<Item = (String, &Command)> {
        let steps = self.steps.iter().enumerate();
        let enabled = steps.filter(|(_, step)| step.enabled);
        enabled.flat_map(|(index, step)| {
            let commands = step.commands().into_iter();
            commands.map(move |(place, command)| (format!("steps[{index}].{place}"), command))
        })
    }

    /// What a correct pipeline needs and a deployment lacks that has these runtimes and no others: each missing runtime, and
    /// the error that says where.
    pub fn missing_runtimes(&self, runtimes: &[&str]) -> Vec<(&str, ValidationError)> {
        let mut all = Vec::new();
        let steps = self.steps.iter().enumerate();
        for (index, step) in steps.filter(|(_, step)| step.enabled) {
            let needs = step.kind(BUILT_IN).map(|kind| kind.needs(step));
            let mut missing = needs.unwrap_or_default();
            missing.retain(|runtime| !runtimes.contains(runtime));
            missing.dedup();
            for runtime in missing {
                let problem = match runtime {
                    ANY_RUNTIME => "this deployment runs no commands".to_owned(),
                    runtime => format!("this deployment has no runtime `{runtime}`"),
                };
                let problem = format!("{problem}; it has {}", runtimes.join(", "));
                let path = format!("steps[{index}]");
                all.push((runtime, ValidationError { path, problem }));
            }
        }
        all
    }

    /// The steps of a run: the enabled ones, in their order.
    pub fn enabled(&self) -> Vec<StepSpec> {
        self.steps
            .iter()
            .filter(|step| step.enabled)
            .cloned()
            .collect()
    }
}

/// The errors of a pipeline, collected.
#[derive(Debug, Default)]
pub struct ValidationErrors(Vec<ValidationError>);

impl ValidationErrors {
    /// Adds an error at a path of the pipeline.
    pub fn add(&mut self, path: impl Into<String>, problem: impl Into<String>) {
        self.0.push(ValidationError {
            path: path.into(),
            problem: problem.into(),
        });
    }

    /// Finds the texts that hold a NUL character.
    fn find_nul(&mut self, path: &str, value: &serde_json::Value) {
        let below = |name: &str| match path {
            "" => name.to_owned(),
            path => format!("{path}.{name}"),
        };
        match value {
            serde_json::Value::String(text) if text.contains('\0') => {
                self.add(path, "a text holds no NUL character");
            }
            serde_json::Value::Array(all) => {
                for (index, value) in all.iter().enumerate() {
                    self.find_nul(&format!("{path}[{index}]"), value);
                }
            }
            serde_json::Value::Object(all) => {
                for (name, value) in all {
                    if name.contains('\0') {
                        self.add(path, "a name holds no NUL character");
                    }
                    self.find_nul(&below(name), value);
                }
            }
            _ => {}
        }
    }
}

/// The kinds whose place in a pipeline is that of a gate.
const GATE_KINDS: [&str; 3] = ["ci", "conflicts", "post-release-health"];

impl StepSpec {
    /// The kind that decides for the step: the first of these that claims it.
    fn kind(&self, kinds: &[&'static dyn Kind]) -> Option<&'static dyn Kind> {
        kinds.iter().find(|kind| kind.claims(self)).copied()
    }

    /// The step's commands, each with its place in the step.
    fn commands(&self) -> Vec<(&'static str, &Command)> {
        let gate = self.gate.as_ref();
        let helper = gate.and_then(|gate| gate.helper.as_ref());
        let bound = [
            ("runtime", self.runtime.as_ref()),
            ("gate.helper.runtime", helper.map(|helper| &helper.runtime)),
        ];
        let bound = bound
            .into_iter()
            .filter_map(|(place, binding)| match binding {
                Some(Binding::Command(command)) => Some((place, command)),
                Some(Binding::Simulated(_) | Binding::Model(_)) | None => None,
            });
        let probe = gate.map(|gate| {
            let Probe::Command(probe) = &gate.probe;
            ("gate.probe", probe)
        });
        bound.chain(probe).collect()
    }

    fn check(&self, kinds: &[&'static dyn Kind], path: &str, errors: &mut ValidationErrors) {
        let name = self.agent_kind.as_str();
        if self.runtime.is_some() && self.gate.is_some() {
            errors.add(path, "a step has a `runtime` or a `gate`, not both");
        } else if let Some(kind) = self.kind(kinds) {
            kind.check(self, path, errors);
        } else if GATE_KINDS.contains(&name) {
            errors.add(path, format!("the gate `{name}` needs a `gate` with a `probe`, for example {{ probe: {{ kind: command, command: [make, test] }} }}"));
        } else {
            errors.add(path, format!("no runtime is known for the agent kind `{name}`; give the step a `runtime` (kind `command`, `model` or `simulated`) or a `gate`"));
        }
        if self
            .budgets
            .job_minutes
            .is_some_and(|minutes| !(1..=7 * 24 * 60).contains(&minutes))
        {
            errors.add(
                format!("{path}.budgets.jobMinutes"),
                "a job may take from 1 minute to 7 days (10080)",
            );
        }
    }
}

impl GateSpec {
    pub(crate) fn check(&self, path: &str, errors: &mut ValidationErrors) {
        let Probe::Command(probe) = &self.probe;
        probe.check(&format!("{path}.probe"), errors);
        if probe.checkout == CheckoutMode::Write {
            errors.add(
                format!("{path}.probe.checkout"),
                "a probe looks and changes nothing: `none` or `read`",
            );
        }
        if let Some(helper) = &self.helper {
            helper
                .runtime
                .check(&format!("{path}.helper.runtime"), errors);
            if !matches!(helper.runtime, Binding::Command(_)) {
                errors.add(
                    format!("{path}.helper.runtime"),
                    "a helper changes the branch in a job: kind `command`",
                );
            }
        }
        if self.attempts.is_some_and(|attempts| attempts > 100) {
            errors.add(
                format!("{path}.attempts"),
                "a helper gets at most 100 attempts",
            );
        }
        if !(1..=7 * 24 * 60).contains(&self.budget_minutes) {
            errors.add(
                format!("{path}.budgetMinutes"),
                "a gate may poll from 1 minute to 7 days (10080)",
            );
        }
        if self
            .interval_minutes
            .is_some_and(|minutes| !(1..=24 * 60).contains(&minutes))
        {
            errors.add(
                format!("{path}.intervalMinutes"),
                "the pause between a gate's looks is from 1 minute to 1 day (1440)",
            );
        }
    }
}

impl Binding {
    /// The work that the binding names.
    pub fn work(&self) -> Work<'_> {
        match self {
            Binding::Simulated(script) => Work::Simulated(script),
            Binding::Command(command) => Work::Command(command),
            Binding::Model(model) => Work::Model(model),
        }
    }

    pub(crate) fn check(&self, path: &str, errors: &mut ValidationErrors) {
        match self {
            Binding::Command(command) => command.check(path, errors),
            Binding::Model(model) => model.check(path, errors),
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
                    errors.add(
                        format!("{path}.asks.options"),
                        "a question without `freeText` needs at least one option",
                    );
                }
                if options.iter().collect::<BTreeSet<_>>().len() != options.len() {
                    errors.add(format!("{path}.asks.options"), "each option stands once");
                }
            }
        }
    }
}

/// The pinned steps of a run, each with the kind that decides for it.
#[derive(Clone, Debug)]
pub struct Plan(Vec<(StepSpec, Option<&'static dyn Kind>)>);

impl PartialEq for Plan {
    fn eq(&self, other: &Self) -> bool {
        self.iter().eq(other.iter())
    }
}

impl Plan {
    /// Makes a plan of these steps, if there is at least one and not too many.
    pub fn new(steps: Vec<StepSpec>) -> Option<Self> {
        Self::of(steps, BUILT_IN)
    }

    /// Makes a plan for a deployment that has these kinds of steps.
    pub fn of(steps: Vec<StepSpec>, kinds: &[&'static dyn Kind]) -> Option<Self> {
        let usable = !steps.is_empty() && steps.len() <= MAX_STEPS;
        let with_kind = |step: StepSpec| {
            let kind = step.kind(kinds);
            (step, kind)
        };
        usable.then(|| Self(steps.into_iter().map(with_kind).collect()))
    }

    /// The definition of the step at this place.
    pub fn step(&self, index: StepIndex) -> Option<&StepSpec> {
        self.0.get(usize::from(index.0)).map(|(step, _)| step)
    }

    /// The kind of the step at this place.
    pub fn kind(&self, index: StepIndex) -> Option<&'static dyn Kind> {
        self.0.get(usize::from(index.0)).and_then(|(_, kind)| *kind)
    }

    /// The kinds of the runtimes that the steps need.
    pub fn needs(&self) -> BTreeSet<&str> {
        let needs = self
            .0
            .iter()
            .filter_map(|(step, kind)| Some(kind.as_ref()?.needs(step)));
        needs.flatten().collect()
    }

    /// The number of steps: at least 1.
    pub fn len(&self) -> u16 {
        u16::try_from(self.0.len()).unwrap_or(u16::MAX)
    }

    /// False: a plan has at least one step.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Iterates over the steps with their places.
    pub fn iter(&self) -> impl Iterator<Item = (StepIndex, &StepSpec)> {
        (0u16..)
            .map(StepIndex)
            .zip(self.0.iter().map(|(step, _)| step))
    }

    /// Whether the step is the last one.
    pub fn is_final(&self, index: StepIndex) -> bool {
        index.0 + 1 >= self.len()
    }
}
