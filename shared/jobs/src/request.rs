//! Job requests: what a runtime is asked to run, and how a request is made from a pipeline's command and a contract.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use towpath_auth::Secret;
use towpath_engine::{
    CheckoutMode, Command, EnvValue, EventFormat, JobId, Model, Place, Repository, Resources,
    SecretName, Simulated, StepIndex, WorkspaceId,
};

use crate::{Contract, StartError};

/// The time that a job has to tidy up after it was asked to end.
pub(crate) const GRACE: Duration = Duration::from_secs(10);

/// What a runtime is asked to run. A request is made afresh for each start and never stored, since its environment may
/// carry secrets.
#[derive(Clone, Debug, PartialEq)]
pub struct JobRequest {
    /// The identity of the job. A second start with the same id starts nothing.
    pub job: JobId,
    /// The workspace that owns the job.
    pub workspace: WorkspaceId,
    /// The work itself.
    pub work: Work,
    /// The step that the job works for.
    pub step: StepIndex,
    /// The number of the call among those of its step, from 1.
    pub attempt: u32,
    /// The work contract as JSON. A command reads it from `context.json` in the folder `$TOWPATH_INPUTS`.
    pub context: serde_json::Value,
    /// The texts that the contract names, each a file of the same folder.
    pub inputs: Vec<InputFile>,
    /// The artifacts that the contract names, each a file of the same folder once it is fetched.
    pub artifacts: Vec<InputArtifact>,
    /// The longest time the job may run. The runtime holds this limit, as the engine does.
    pub max_run: Duration,
    /// How long the job may tidy up after it was asked to end, before it is killed.
    pub grace: Duration,
}

/// A text that a job is given as a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct InputFile {
    /// The name of the file.
    pub name: String,
    /// All that the file holds.
    pub text: String,
}

/// An artifact of an earlier step that a job is given as a file.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct InputArtifact {
    /// The path of the file in the folder of inputs.
    pub file: String,
    /// The presigned URL of the file, valid for 15 minutes from when the request was made.
    pub url: String,
    /// The size of the file in bytes.
    pub bytes: u64,
    /// The SHA-256 of the file, in hexadecimal digits.
    pub sha256: String,
}

/// Leaves the URL out, which is a permission.
impl fmt::Debug for InputArtifact {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("InputArtifact")
            .field("file", &self.file)
            .field("bytes", &self.bytes)
            .field("sha256", &self.sha256)
            .finish_non_exhaustive()
    }
}

/// What a command is given besides its contract.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Given {
    /// The texts that the contract names.
    pub inputs: Vec<InputFile>,
    /// The artifacts that the contract names.
    pub artifacts: Vec<InputArtifact>,
    /// The values of the secrets that the command's environment names.
    pub secrets: BTreeMap<SecretName, Secret>,
}

impl Given {
    /// What a command is given whose runner asks for it later: nothing yet, and no secret is missed for that.
    pub fn later(command: &Command) -> Self {
        let named = command.secrets().into_iter();
        Self {
            inputs: Vec::new(),
            artifacts: Vec::new(),
            secrets: named.map(|name| (name.clone(), Secret::new(""))).collect(),
        }
    }
}

/// The work of a job. A runtime refuses the variants that it cannot carry out.
#[derive(Clone, Debug, PartialEq)]
pub enum Work {
    /// A program to run.
    Command(CommandWork),
    /// The script of a simulated agent.
    Simulated(Simulated),
    /// A call of a language model.
    Model(Model),
}

/// A program to run, and what it starts with.
#[derive(Clone, PartialEq, Eq)]
pub struct CommandWork {
    /// The program and its arguments; no shell is implied. An empty one fails the job.
    pub command: Vec<String>,
    /// The environment variables of the program, on top of a minimal environment.
    pub env: BTreeMap<String, String>,
    /// The values of secrets. What the runtime keeps of the command's prints and answer has none of them.
    pub secrets: Vec<Secret>,
    /// The working copy the program starts in. Without one it starts in an empty directory.
    pub checkout: Option<Checkout>,
    /// The form of what the program prints, if events can be made of it.
    pub events: Option<EventFormat>,
    /// The container image that the program runs in, by digest, where it runs in a container.
    pub image: Option<String>,
    /// The processors and memory that the program needs, where it gets a machine of its own.
    pub resources: Option<Resources>,
    /// The demands on the executor, where the command runs on one.
    pub executor: Option<ExecutorDemands>,
}

/// The demands on the executor of a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExecutorDemands {
    /// The capabilities that it must have, all of them.
    pub capabilities: Vec<String>,
    /// The condition under which the work is completed, if the step says one.
    pub completion: Option<String>,
    /// Whether it must keep its work over a restart.
    pub long_running: bool,
}

/// Prints the names of the environment variables only: a value may be a secret.
impl fmt::Debug for CommandWork {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CommandWork")
            .field("command", &self.command)
            .field("env", &self.env.keys())
            .field("checkout", &self.checkout)
            .finish()
    }
}

/// A working copy for a job.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Checkout {
    /// A URL or path that `git clone` understands. It may carry credentials.
    pub repo: String,
    /// The branch to work on. It is created from `base` if the repository has no branch of that name.
    pub branch: String,
    /// The branch that a new branch starts at. The default branch of the repository when absent.
    pub base: Option<String>,
    /// The access to the branch, which decides what becomes of the command's changes.
    pub access: Access,
}

/// Leaves the repository's address out: it may carry credentials.
impl fmt::Debug for Checkout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Checkout")
            .field("branch", &self.branch)
            .field("base", &self.base)
            .field("access", &self.access)
            .finish_non_exhaustive()
    }
}

/// The access of a job to the branch it works on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Access {
    /// The changes stay in the working copy of the job, and are thrown away with it.
    Read,
    /// If the command succeeds, its changes are committed and the branch is pushed.
    Write,
}

impl JobRequest {
    /// The request for a job that runs a command of the pipeline.
    ///
    /// # Errors
    /// [`StartError::Refused`] if the command wants a working copy and the block of the run has no repository, or names
    /// a secret that is not given.
    pub fn command(
        command: &Command,
        contract: &Contract,
        given: Given,
        repository: Option<&Repository>,
        max_run: Duration,
    ) -> Result<Self, StartError> {
        let work = CommandWork {
            command: command.command.clone(),
            env: environment(command, contract, &given.secrets)?,
            secrets: given.secrets.into_values().collect(),
            checkout: checkout(command.checkout, contract, repository)?,
            events: command.events,
            image: command.image.clone(),
            resources: command.resources,
            executor: match &command.on {
                Some(Place::Executor(capabilities)) => Some(ExecutorDemands {
                    capabilities: capabilities.clone(),
                    completion: command.completion.clone(),
                    long_running: command.long_running,
                }),
                _ => None,
            },
        };
        let request = Self::new(Work::Command(work), contract, max_run)?;
        Ok(Self {
            inputs: given.inputs,
            artifacts: given.artifacts,
            ..request
        })
    }

    /// The request for a job that a simulated agent answers.
    ///
    /// # Errors
    /// [`StartError::Refused`] if the contract cannot be written as JSON.
    pub fn simulated(
        script: &Simulated,
        contract: &Contract,
        max_run: Duration,
    ) -> Result<Self, StartError> {
        Self::new(Work::Simulated(script.clone()), contract, max_run)
    }

    /// The request for a job that a language model answers, told these texts of the contract.
    ///
    /// # Errors
    /// [`StartError::Refused`] if the contract cannot be written as JSON.
    pub fn model(
        model: &Model,
        contract: &Contract,
        inputs: Vec<InputFile>,
        max_run: Duration,
    ) -> Result<Self, StartError> {
        let request = Self::new(Work::Model(model.clone()), contract, max_run)?;
        Ok(Self { inputs, ..request })
    }

    fn new(work: Work, contract: &Contract, max_run: Duration) -> Result<Self, StartError> {
        let context = serde_json::to_value(contract).map_err(|error| {
            StartError::Refused(format!(
                "the work contract cannot be written as JSON: {error}"
            ))
        })?;
        Ok(Self {
            job: contract.job.clone(),
            workspace: contract.workspace.clone(),
            work,
            step: contract.step,
            attempt: contract.attempt,
            context,
            inputs: Vec::new(),
            artifacts: Vec::new(),
            max_run,
            grace: GRACE,
        })
    }
}

fn checkout(
    mode: CheckoutMode,
    contract: &Contract,
    repository: Option<&Repository>,
) -> Result<Option<Checkout>, StartError> {
    let access = match mode {
        CheckoutMode::None => return Ok(None),
        CheckoutMode::Read => Access::Read,
        CheckoutMode::Write => Access::Write,
    };
    let repository = repository.ok_or_else(|| {
        let (step, block) = (contract.step, &contract.objective.block);
        StartError::Refused(format!(
            "step {step} needs a checkout, but the block {block} has no repository; give the block a `repository`, \
             or set the step's `checkout` to `none`"
        ))
    })?;
    Ok(Some(Checkout {
        repo: repository.url.clone(),
        branch: contract.branch.clone(),
        base: repository.base.clone(),
        access,
    }))
}

/// The environment of a command: the pipeline's variables, and the short facts of the contract for commands that would
/// rather not parse JSON. Names beginning with `TOWPATH_` are the engine's alone.
fn environment(
    command: &Command,
    contract: &Contract,
    secrets: &BTreeMap<SecretName, Secret>,
) -> Result<BTreeMap<String, String>, StartError> {
    let objective = &contract.objective;
    let revision = contract.revision.as_ref();
    let findings = contract.findings.as_ref();
    // Whoever says everything in the title need not say it again.
    let whole = match objective.description.trim() {
        "" => &objective.title,
        _ => &objective.description,
    };
    let facts = [
        ("JOB_ID", Some(contract.job.to_string())),
        ("RUN_ID", Some(contract.run.to_string())),
        ("AGENT_KIND", Some(contract.agent_kind.to_string())),
        ("BLOCK", Some(objective.block.clone())),
        ("TITLE", Some(objective.title.clone())),
        ("OBJECTIVE", Some(whole.clone())),
        ("BRANCH", Some(contract.branch.clone())),
        ("FEEDBACK", revision.and_then(|it| it.feedback.clone())),
        ("FINDINGS", findings.and_then(|it| it.summary.clone())),
        (
            "COMMIT_MESSAGE",
            Some(format!("{}: {}", contract.agent_kind, objective.title)),
        ),
    ];
    let named = facts
        .into_iter()
        // An environment variable cannot hold a zero byte.
        .filter_map(|(name, value)| Some((format!("TOWPATH_{name}"), value?.replace('\0', " "))));
    let mut env = BTreeMap::new();
    for (name, value) in &command.env {
        let value = match value {
            EnvValue::Text(text) => text.clone(),
            EnvValue::Secret(secret) => secrets
                .get(secret)
                .ok_or_else(|| no_secret(secret))?
                .expose()
                .to_owned(),
        };
        if !name.starts_with("TOWPATH_") {
            env.insert(name.clone(), value);
        }
    }
    env.extend(named);
    Ok(env)
}

fn no_secret(name: &SecretName) -> StartError {
    StartError::Refused(format!(
        "there is no secret `{name}`; put it at /secrets/{name}, then retry the run"
    ))
}

#[cfg(test)]
mod tests {
    use towpath_engine::Role;

    use super::*;
    use crate::{Findings, Objective, RequestedChanges};

    const HOUR: Duration = Duration::from_secs(3600);

    fn contract() -> Contract {
        Contract {
            job: "job_01ARZ3NDEKTSV4RRFFQ69G5FAV-2-1-main".parse().unwrap(),
            run: "run_01ARZ3NDEKTSV4RRFFQ69G5FAV".parse().unwrap(),
            workspace: "acme".parse().unwrap(),
            step: StepIndex(2),
            attempt: 1,
            role: Role::Main,
            agent_kind: "coder".parse().unwrap(),
            pipeline: "Build".to_owned(),
            is_final: false,
            initiated_by: None,
            objective: Objective {
                block: "login".to_owned(),
                title: "Fix the log-in".to_owned(),
                description: "It\0fails".to_owned(),
            },
            branch: "towpath/login".to_owned(),
            decisions: Vec::new(),
            revision: None,
            findings: None,
            outputs: Vec::new(),
        }
    }

    fn command(checkout: CheckoutMode) -> Command {
        Command {
            command: vec!["make".to_owned(), "test".to_owned()],
            checkout,
            env: BTreeMap::from([("CI".to_owned(), EnvValue::Text("1".to_owned()))]),
            ..Command::default()
        }
    }

    fn repository() -> Repository {
        Repository {
            url: "https://bot:hunter2@example.com/a.git".to_owned(),
            branch: None,
            base: Some("main".to_owned()),
        }
    }

    fn work(request: JobRequest) -> CommandWork {
        match request.work {
            Work::Command(work) => work,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_command_gets_its_own_variables_and_the_facts_of_its_contract() {
        let told = Contract {
            revision: Some(RequestedChanges {
                previous: "/runs/r/steps/2/output".to_owned(),
                file: None,
                feedback: Some("shorter".to_owned()),
                comments: Vec::new(),
            }),
            findings: Some(Findings {
                summary: Some("2 tests failed".to_owned()),
                failing: Vec::new(),
                probe: None,
                file: None,
            }),
            ..contract()
        };
        let request = JobRequest::command(
            &command(CheckoutMode::None),
            &told,
            Given::default(),
            None,
            HOUR,
        )
        .unwrap();
        assert_eq!((&request.job, request.max_run), (&told.job, HOUR));
        assert_eq!(
            serde_json::from_value::<Contract>(request.context.clone()).unwrap(),
            told
        );
        let env = work(request).env;
        let expected = [
            ("CI", "1"),
            ("TOWPATH_AGENT_KIND", "coder"),
            ("TOWPATH_BLOCK", "login"),
            ("TOWPATH_BRANCH", "towpath/login"),
            ("TOWPATH_COMMIT_MESSAGE", "coder: Fix the log-in"),
            ("TOWPATH_FEEDBACK", "shorter"),
            ("TOWPATH_FINDINGS", "2 tests failed"),
            ("TOWPATH_JOB_ID", "job_01ARZ3NDEKTSV4RRFFQ69G5FAV-2-1-main"),
            ("TOWPATH_OBJECTIVE", "It fails"),
            ("TOWPATH_RUN_ID", "run_01ARZ3NDEKTSV4RRFFQ69G5FAV"),
            ("TOWPATH_TITLE", "Fix the log-in"),
        ];
        let env: Vec<_> = env.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
        assert_eq!(env, expected);
    }

    #[test]
    fn a_pipeline_cannot_set_a_variable_of_the_engines() {
        let mut forging = command(CheckoutMode::None);
        for name in ["TOWPATH_JOB_ID", "TOWPATH_FEEDBACK", "TOWPATH_ELSE"] {
            let value = EnvValue::Text("forged".to_owned());
            forging.env.insert(name.to_owned(), value);
        }
        let env =
            work(JobRequest::command(&forging, &contract(), Given::default(), None, HOUR).unwrap())
                .env;
        assert!(!env.values().any(|value| value == "forged"), "{env:?}");
    }

    #[test]
    fn a_checkout_is_of_the_blocks_repository_with_the_access_of_its_mode() {
        let checkout = |mode| {
            let request = JobRequest::command(
                &command(mode),
                &contract(),
                Given::default(),
                Some(&repository()),
                HOUR,
            );
            work(request.unwrap()).checkout
        };
        assert_eq!(checkout(CheckoutMode::None), None);
        let expected = |access| Checkout {
            repo: repository().url,
            branch: "towpath/login".to_owned(),
            base: Some("main".to_owned()),
            access,
        };
        assert_eq!(checkout(CheckoutMode::Read), Some(expected(Access::Read)));
        assert_eq!(checkout(CheckoutMode::Write), Some(expected(Access::Write)));
    }

    #[test]
    fn a_checkout_without_a_repository_is_refused_with_the_block_and_the_step() {
        let refused = JobRequest::command(
            &command(CheckoutMode::Read),
            &contract(),
            Given::default(),
            None,
            HOUR,
        );
        let Err(StartError::Refused(why)) = refused else {
            panic!("{refused:?}")
        };
        assert!(
            why.contains("block login") && why.contains("step 2"),
            "{why}"
        );
    }

    #[test]
    fn a_request_can_be_printed_without_its_secrets() {
        let mut secret = command(CheckoutMode::Write);
        let name: SecretName = "token".parse().unwrap();
        let value = EnvValue::Secret(name.clone());
        secret.env.insert("TOKEN".to_owned(), value);
        let refused = JobRequest::command(&secret, &contract(), Given::default(), None, HOUR);
        assert!(matches!(refused, Err(StartError::Refused(_))));
        let given = Given {
            secrets: BTreeMap::from([(name, Secret::new("hunter2"))]),
            ..Given::default()
        };
        let request =
            JobRequest::command(&secret, &contract(), given, Some(&repository()), HOUR).unwrap();
        let printed = format!("{request:?}");
        assert!(printed.contains("TOKEN") && printed.contains("towpath/login"));
        assert!(!printed.contains("hunter2"), "{printed}");
        assert_eq!(work(request).env["TOKEN"], "hunter2");
    }
}
