//! From a pipeline's binding to a substrate and back.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use towpath_engine::{
    AgentAnswer, Binding, CheckoutMode, Command, FailureKind, GateAnswer, JobAnswer, JobId, Plan,
    Probe, Repository, Role, StepSpec,
};

use crate::{
    Access, Answer, Checkout, Contract, JobSnapshot, JobSpec, JobStatus, Substrate, SubstrateError,
    error_class,
};

/// The exit code by which a probe says that it is too early to say: `EX_TEMPFAIL` of sysexits.
const PENDING: i32 = 75;

/// How long a job may tidy up after it was asked to end.
const GRACE: Duration = Duration::from_secs(10);

/// The substrates there are, by kind.
#[derive(Clone, Default)]
pub struct Substrates(BTreeMap<&'static str, Arc<dyn Substrate>>);

/// A job as its substrate left it.
#[derive(Debug)]
pub enum Fate {
    /// No job of this id was ever started.
    NeverStarted,
    /// What became of it.
    Known(JobSnapshot),
    /// The substrate could not say.
    Unreadable(String),
}

impl Substrates {
    /// These substrates.
    pub fn new(substrates: impl IntoIterator<Item = Arc<dyn Substrate>>) -> Self {
        Self(
            substrates
                .into_iter()
                .map(|substrate| (substrate.kind(), substrate))
                .collect(),
        )
    }

    fn of(&self, command: &Bound<'_>) -> Result<&Arc<dyn Substrate>, SubstrateError> {
        self.0.get(command.kind).ok_or_else(|| {
            SubstrateError::Refused(format!(
                "there is no runtime `{}` in this deployment",
                command.kind
            ))
        })
    }

    /// Starts the job of this contract, or does nothing if it was started before.
    ///
    /// # Errors
    /// If the step binds no substrate, or the substrate refuses or does not answer.
    pub async fn start(
        &self,
        spec: &StepSpec,
        contract: &Contract,
        repository: Option<&Repository>,
    ) -> Result<(), SubstrateError> {
        let bound = bound(spec, contract.role)?;
        let context =
            serde_json::to_value(contract).map_err(|e| SubstrateError::Refused(e.to_string()))?;
        let checkout = checkout(bound.command.checkout, contract, repository)?;
        let job = JobSpec {
            job: contract.job.clone(),
            workspace: contract.workspace.to_string(),
            command: bound.command.command.clone(),
            env: environment(bound.command, contract),
            context,
            checkout,
            max_run: spec.budgets.job(),
            grace: GRACE,
        };
        self.of(&bound)?.start(&job).await
    }

    /// What became of a job.
    pub async fn fate(&self, spec: &StepSpec, job: &JobId) -> Fate {
        let (_, _, role) = job.origin();
        let status = async { self.of(&bound(spec, role)?)?.status(job).await };
        match status.await {
            Ok(None) => Fate::NeverStarted,
            Ok(Some(snapshot)) => Fate::Known(snapshot),
            Err(error) => Fate::Unreadable(error.to_string()),
        }
    }

    /// Asks a job to end. `true` once it has.
    ///
    /// # Errors
    /// If its substrate does not answer.
    pub async fn reap(&self, plan: &Plan, job: &JobId) -> Result<bool, SubstrateError> {
        let (step, _, role) = job.origin();
        let Some(spec) = plan.step(step) else {
            return Ok(true);
        };
        // A substrate that is not in this deployment has never had the job.
        let substrate = match bound(spec, role).and_then(|bound| self.of(&bound)) {
            Err(SubstrateError::Refused(_)) => return Ok(true),
            other => other?,
        };
        substrate.stop(job, GRACE).await?;
        Ok(substrate
            .status(job)
            .await?
            .is_none_or(|snapshot| snapshot.status.is_final()))
    }
}

impl JobStatus {
    /// Whether the job is over.
    pub fn is_final(self) -> bool {
        matches!(self, JobStatus::Terminated | JobStatus::Failed)
    }
}

/// A command and the kind of substrate it is bound to.
struct Bound<'a> {
    kind: &'static str,
    command: &'a Command,
}

fn bound(spec: &StepSpec, role: Role) -> Result<Bound<'_>, SubstrateError> {
    let gate = spec.gate.as_ref();
    let binding = match role {
        Role::Main => spec.runtime.as_ref(),
        Role::Helper => gate
            .and_then(|gate| gate.helper.as_ref())
            .map(|helper| &helper.runtime),
        Role::Probe => {
            let probe = gate.map(|gate| &gate.probe);
            return match probe {
                Some(Probe::Command(command)) => Ok(Bound {
                    kind: "process",
                    command,
                }),
                None => Err(SubstrateError::Refused("the step has no probe".to_owned())),
            };
        }
    };
    match binding {
        Some(Binding::Process(command)) => Ok(Bound {
            kind: "process",
            command,
        }),
        Some(Binding::Simulated(_)) | None => Err(SubstrateError::Refused(
            "the step has no job runtime".to_owned(),
        )),
    }
}

fn checkout(
    mode: CheckoutMode,
    contract: &Contract,
    repository: Option<&Repository>,
) -> Result<Option<Checkout>, SubstrateError> {
    let access = match mode {
        CheckoutMode::None => return Ok(None),
        CheckoutMode::Read => Access::Read,
        CheckoutMode::Write => Access::Write,
    };
    let repository = repository.ok_or_else(|| {
        let block = &contract.objective.block;
        SubstrateError::Refused(format!(
            "the step wants a checkout, but the block {block} has no repository"
        ))
    })?;
    Ok(Some(Checkout {
        repo: repository.url.clone(),
        branch: contract.branch.clone(),
        base: repository.base.clone(),
        access,
    }))
}

/// The short facts of a contract, for commands that would rather not parse JSON.
fn environment(command: &Command, contract: &Contract) -> BTreeMap<String, String> {
    let mut env = command.env.clone();
    let feedback = contract
        .revision
        .as_ref()
        .and_then(|revision| revision.feedback.clone());
    let findings = contract
        .findings
        .as_ref()
        .and_then(|findings| findings.summary.clone());
    let facts = [
        ("TOWPATH_AGENT_KIND", Some(contract.agent_kind.to_string())),
        ("TOWPATH_BLOCK", Some(contract.objective.block.clone())),
        ("TOWPATH_TITLE", Some(contract.objective.title.clone())),
        (
            "TOWPATH_OBJECTIVE",
            Some(contract.objective.description.clone()),
        ),
        ("TOWPATH_BRANCH", Some(contract.branch.clone())),
        ("TOWPATH_FEEDBACK", feedback),
        ("TOWPATH_FINDINGS", findings),
        (
            "TOWPATH_COMMIT_MESSAGE",
            Some(format!(
                "{}: {}",
                contract.agent_kind, contract.objective.title
            )),
        ),
    ];
    let short = |text: String| text.replace('\0', " ");
    env.extend(
        facts
            .into_iter()
            .filter_map(|(name, value)| Some((name.to_owned(), short(value?)))),
    );
    env
}

/// What a job's end means to the step it works for. `None`: it has not ended.
pub fn job_answer(snapshot: JobSnapshot) -> JobAnswer {
    let said = snapshot.terminal_error_message.clone();
    let failed = |kind, error: &str| JobAnswer::Failed {
        kind,
        error: error.to_owned(),
        detail: said.clone(),
    };
    match (snapshot.status, snapshot.terminal_error_class.as_deref()) {
        (
            JobStatus::Queued | JobStatus::Provisioning | JobStatus::Running | JobStatus::Stopping,
            _,
        ) => JobAnswer::Running,
        (_, Some(error_class::EVICTED)) => JobAnswer::Evicted {
            transient: false,
            error: said.unwrap_or_else(|| "what ran the job is gone".to_owned()),
        },
        (_, Some(error_class::START_FAILED)) => {
            failed(FailureKind::Dispatch, "the command could not be started")
        }
        (_, Some(error_class::ANSWER_REFUSED)) => {
            failed(FailureKind::Agent, "the job's answer cannot be used")
        }
        (_, Some(error_class::TIMED_OUT)) => failed(FailureKind::Timeout, "the job's time was up"),
        (_, Some(error_class::STOPPED)) => {
            failed(FailureKind::JobFailed, "the job was stopped from outside")
        }
        (_, Some(error_class::CHECKOUT_FAILED)) => failed(
            FailureKind::JobFailed,
            "the working copy could not be made or pushed",
        ),
        (JobStatus::Failed, _) | (_, Some(_)) => match snapshot.exit_code {
            Some(code) => failed(
                FailureKind::JobFailed,
                &format!("the command ended with exit code {code}"),
            ),
            None => failed(FailureKind::JobFailed, "the job failed"),
        },
        (JobStatus::Terminated, None) => match parse(snapshot.answer) {
            Ok(answer) => JobAnswer::Done(answer),
            Err(error) => JobAnswer::Failed {
                kind: FailureKind::Agent,
                error,
                detail: None,
            },
        },
    }
}

/// What a probe's end means to its gate.
pub fn gate_answer(snapshot: JobSnapshot) -> GateAnswer {
    let printed = |answer: &Option<Answer>| match answer {
        Some(Answer::File(text) | Answer::Stdout(text)) => text.trim().to_owned(),
        None => String::new(),
    };
    match (
        snapshot.status,
        snapshot.terminal_error_class.as_deref(),
        snapshot.exit_code,
    ) {
        (JobStatus::Terminated, None, _) => GateAnswer::Passed(printed(&snapshot.answer)),
        (status, _, _) if !status.is_final() => GateAnswer::Looking,
        (
            _,
            Some(
                error_class::EVICTED
                | error_class::STOPPED
                | error_class::TIMED_OUT
                | error_class::CHECKOUT_FAILED,
            ),
            _,
        ) => GateAnswer::Lost(snapshot.terminal_error_message.unwrap_or_default()),
        // No helper can mend a probe that does not run.
        (_, Some(error_class::START_FAILED), _) => {
            GateAnswer::Broken(snapshot.terminal_error_message.unwrap_or_default())
        }
        (_, _, Some(PENDING)) => GateAnswer::Pending,
        _ => {
            let said = snapshot.terminal_error_message.unwrap_or_default();
            let printed = printed(&snapshot.answer);
            let summary = if said.trim().is_empty() {
                printed
            } else {
                said
            };
            GateAnswer::Failed {
                summary,
                failing: Vec::new(),
            }
        }
    }
}

/// An answer file that holds a JSON object is an agent answer, to the letter; any other text is an output.
fn parse(answer: Option<Answer>) -> Result<AgentAnswer, String> {
    let answer = match answer {
        None => AgentAnswer::default(),
        Some(Answer::Stdout(output)) => AgentAnswer {
            output,
            ..AgentAnswer::default()
        },
        Some(Answer::File(text)) if text.trim_start().starts_with('{') => {
            serde_json::from_str(&text)
                .map_err(|e| format!("the job's answer is not an agent answer: {e}"))?
        }
        Some(Answer::File(output)) => AgentAnswer {
            output,
            ..AgentAnswer::default()
        },
    };
    answer.checked()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ended(answer: Answer) -> JobSnapshot {
        JobSnapshot {
            answer: Some(answer),
            ..JobSnapshot::of(JobStatus::Terminated)
        }
    }

    #[test]
    fn plain_text_is_an_output_and_a_json_object_is_an_answer_to_the_letter() {
        let JobAnswer::Done(text) = job_answer(ended(Answer::File("done".to_owned()))) else {
            panic!()
        };
        assert_eq!(text.output, "done");
        let json = r#"{"output": "done", "confidence": 0.9, "model": "m"}"#;
        let JobAnswer::Done(answer) = job_answer(ended(Answer::File(json.to_owned()))) else {
            panic!()
        };
        assert_eq!(
            (answer.output.as_str(), answer.confidence),
            ("done", Some(0.9))
        );
        for nonsense in ["{", r#"{"outputs": 1}"#, r#"{"output": 7}"#] {
            let answer = job_answer(ended(Answer::File(nonsense.to_owned())));
            assert!(
                matches!(
                    answer,
                    JobAnswer::Failed {
                        kind: FailureKind::Agent,
                        ..
                    }
                ),
                "{nonsense}: {answer:?}"
            );
        }
    }

    #[test]
    fn a_large_output_is_taken_whole() {
        let text = "x".repeat(1024 * 1024);
        let JobAnswer::Done(answer) = job_answer(ended(Answer::File(text.clone()))) else {
            panic!()
        };
        assert_eq!(answer.output, text);
    }

    #[test]
    fn a_probe_passes_with_0_waits_with_75_and_fails_with_the_rest() {
        let exit = |code| JobSnapshot {
            exit_code: Some(code),
            terminal_error_class: Some(error_class::EXIT_CODE.to_owned()),
            terminal_error_message: Some("2 tests failed".to_owned()),
            ..JobSnapshot::of(JobStatus::Failed)
        };
        assert_eq!(
            gate_answer(JobSnapshot::of(JobStatus::Terminated)),
            GateAnswer::Passed(String::new())
        );
        assert_eq!(gate_answer(exit(75)), GateAnswer::Pending);
        assert!(
            matches!(gate_answer(exit(1)), GateAnswer::Failed { summary, .. } if summary == "2 tests failed")
        );
        assert_eq!(
            gate_answer(JobSnapshot::of(JobStatus::Running)),
            GateAnswer::Looking
        );
    }
}
