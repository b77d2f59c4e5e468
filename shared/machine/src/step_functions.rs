//! Step Functions as the machine that drives runs.

use async_trait::async_trait;
use aws_sdk_sfn::Client;
use aws_sdk_sfn::config::http::HttpResponse;
use aws_sdk_sfn::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_sfn::types::ExecutionStatus;
use towpath_aws::{Trouble, classify};
use towpath_engine::{Next, RunId};

use crate::{Error, Executions, Machine, Sent, execution_name, old_form};

/// A state machine of Step Functions.
#[derive(Clone, Debug)]
pub struct StepFunctions {
    client: Client,
    arn: String,
}

impl StepFunctions {
    /// The state machine of this ARN.
    pub fn new(client: Client, arn: impl Into<String>) -> Self {
        Self {
            client,
            arn: arn.into(),
        }
    }

    fn execution_arn(&self, name: &str) -> String {
        let machine = self.arn.replacen(":stateMachine:", ":execution:", 1);
        format!("{machine}:{name}")
    }
}

#[async_trait]
impl Machine for StepFunctions {
    async fn answer(&self, token: &str, form: u8, next: Next) -> Result<Sent, Error> {
        match token_answer(form, next) {
            TokenAnswer::Next(name) => {
                let output = serde_json::json!({ "next": name }).to_string();
                let send = self.client.send_task_success().task_token(token);
                sent(send.output(output).send().await)
            }
            TokenAnswer::End { error, cause } => {
                let send = self.client.send_task_failure().task_token(token);
                sent(send.error(error).cause(cause).send().await)
            }
        }
    }

    async fn is_live(&self, token: &str) -> Result<bool, Error> {
        let beat = self.client.send_task_heartbeat().task_token(token);
        Ok(sent(beat.send().await)? == Sent::Taken)
    }

    async fn start(&self, run: &RunId, generation: u32) -> Result<(), Error> {
        let input = serde_json::json!({ "run": run, "generation": generation }).to_string();
        let start = self.client.start_execution().state_machine_arn(&self.arn);
        let start = start.name(execution_name(run, generation)).input(input);
        match start.send().await {
            Ok(_) => Ok(()),
            Err(error) if error.code() == Some("ExecutionAlreadyExists") => Ok(()),
            Err(error) => Err(trouble(&error)),
        }
    }

    async fn end_of(&self, run: &RunId, generation: u32) -> Result<Option<String>, Error> {
        let arn = self.execution_arn(&execution_name(run, generation));
        let describe = self.client.describe_execution().execution_arn(arn);
        match describe.send().await {
            Ok(execution) if *execution.status() == ExecutionStatus::Running => Ok(None),
            Ok(execution) => Ok(Some(match execution.error() {
                Some(error) => error.to_owned(),
                None => format!("execution {}", execution.status()),
            })),
            Err(error) if error.code() == Some("ExecutionDoesNotExist") => {
                Ok(Some("no execution".to_owned()))
            }
            Err(error) => Err(trouble(&error)),
        }
    }
}

#[async_trait]
impl Executions for StepFunctions {
    async fn running(&self) -> Result<Vec<String>, Error> {
        let (mut names, mut from) = (Vec::new(), None);
        loop {
            let list = self.client.list_executions().state_machine_arn(&self.arn);
            let list = list.status_filter(ExecutionStatus::Running);
            let page = list.set_next_token(from).send().await;
            let page = page.map_err(|error| trouble(&error))?;
            names.extend(page.executions.into_iter().map(|execution| execution.name));
            from = page.next_token;
            if from.is_none() {
                return Ok(names);
            }
        }
    }

    async fn abort(&self, name: &str, why: &str) -> Result<(), Error> {
        let stop = self.client.stop_execution();
        let stop = stop.execution_arn(self.execution_arn(name));
        let stopped = stop.error("Towpath.Orphan").cause(why).send().await;
        stopped.map(|_| ()).map_err(|error| trouble(&error))
    }
}

/// The state of a token, by the outcome of a call that names it.
fn sent<T, E: ProvideErrorMetadata + std::fmt::Debug + 'static>(
    answer: Result<T, SdkError<E, HttpResponse>>,
) -> Result<Sent, Error> {
    match answer {
        Ok(_) => Ok(Sent::Taken),
        Err(error) => match error.code() {
            Some("TaskTimedOut" | "TaskDoesNotExist" | "InvalidToken") => Ok(Sent::Gone),
            _ => Err(trouble(&error)),
        },
    }
}

/// The form of a task token's answer: a success or a failure.
#[derive(Debug, PartialEq, Eq)]
enum TokenAnswer {
    /// With the name of where the driver goes on.
    Next(&'static str),
    /// With an error that the machine catches, to end the execution.
    End {
        error: &'static str,
        cause: &'static str,
    },
}

/// The answer to a token whose payload had this form.
fn token_answer(form: u8, next: Next) -> TokenAnswer {
    if let Some(state) = old_form::state(form, next) {
        return TokenAnswer::Next(state);
    }
    match next {
        Next::Advance => TokenAnswer::Next("advance"),
        Next::PollJob => TokenAnswer::Next("poll-job"),
        Next::PollGate => TokenAnswer::Next("poll-gate"),
        Next::Handover => TokenAnswer::End {
            error: "Towpath.Handover",
            cause: "the run goes on under its next execution",
        },
        Next::Over => TokenAnswer::End {
            error: "Towpath.Over",
            cause: "the run has ended, or another execution drives it",
        },
    }
}

fn trouble<E: ProvideErrorMetadata + std::fmt::Debug + 'static>(
    error: &SdkError<E, HttpResponse>,
) -> Error {
    match classify(error) {
        Trouble::Throttled => Error::Throttled,
        Trouble::AccessDenied { message } => Error::Denied(message),
        Trouble::Unavailable | Trouble::ConditionFailed | Trouble::TransactionConflict => {
            Error::Unavailable
        }
        Trouble::Other => Error::Denied(format!(
            "Step Functions refused a request: {}",
            error.message().unwrap_or("no reason given")
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [Next; 5] = [
        Next::Advance,
        Next::PollJob,
        Next::PollGate,
        Next::Handover,
        Next::Over,
    ];

    #[test]
    fn a_token_of_0_1_0_is_answered_with_a_state_of_that_machine() {
        let names = ["Advance", "PollJob", "PollGate", "Handover", "Succeed"];
        assert_eq!(
            ALL.map(|next| token_answer(1, next)),
            names.map(TokenAnswer::Next)
        );
    }

    #[test]
    fn an_end_is_an_error_that_the_machine_catches() {
        let machine = include_str!("../../../statemachines/run.asl.json");
        for next in ALL {
            let name = match token_answer(2, next) {
                TokenAnswer::Next(name) => format!("'{name}': '${{"),
                TokenAnswer::End { error, .. } => format!("[\"{error}\"]"),
            };
            assert!(machine.contains(&name), "the machine does not know {name}");
        }
    }
}
