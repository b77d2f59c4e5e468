//! The outbox: what must follow a commit. It is in the commit, done at once, and done again by the tick if it was not.

use aws_sdk_sfn::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_sfn::types::ExecutionStatus;
use towpath_aws::{Trouble, classify};
use towpath_engine::{FIRST_FORM, Next, Reason, RunId, Wait};

use crate::{App, Error, old_form};

const SERVICE: &str = "Step Functions";

/// What became of a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sent {
    /// The driver goes on.
    Taken,
    /// Its task is over: it was answered before, or timed out.
    Gone,
}

impl App {
    /// Answers a task token: its driver goes on at `next`, or its execution ends. `form` is that of the payload which
    /// brought the token.
    pub(crate) async fn send(&self, token: &str, form: u8, next: Next) -> Result<Sent, Error> {
        match token_answer(form, next) {
            TokenAnswer::Next(name) => {
                let output = serde_json::json!({ "next": name }).to_string();
                let send = self.sfn.send_task_success().task_token(token);
                sent(send.output(output).send().await)
            }
            TokenAnswer::End { error, cause } => {
                let send = self.sfn.send_task_failure().task_token(token);
                sent(send.error(error).cause(cause).send().await)
            }
        }
    }

    /// Whether a task token can still be answered.
    pub(crate) async fn is_live(&self, token: &str) -> Result<bool, Error> {
        let beat = self.sfn.send_task_heartbeat().task_token(token);
        Ok(sent(beat.send().await)? == Sent::Taken)
    }

    /// Delivers what the mailbox holds, and leaves what fails to the tick.
    pub(crate) async fn try_deliver(&self, run: &RunId, wait: Wait) {
        if let Err(error) = self.deliver(run, wait, false).await {
            tracing::warn!(%run, error = error.name(), "a delivery is left to the tick: {error}");
        }
    }

    /// Delivers what the mailbox holds: first the waiting driver is let go, then the next execution is started.
    /// `again`: this is not the first time.
    pub(crate) async fn deliver(
        &self,
        run: &RunId,
        mut wait: Wait,
        again: bool,
    ) -> Result<(), Error> {
        let mut gone = false;
        while let (Some(next), Some(token)) = (wait.wake, &wait.token) {
            gone = self.send(token, wait.form, next).await? == Sent::Gone;
            if !gone {
                break;
            }
            // Gone counts as delivered only while the token we sent is the one on record.
            match self.store.wait(run).await? {
                Some(stored) if stored.token == wait.token => {
                    wait = stored;
                    break;
                }
                Some(stored) => wait = stored,
                None => return Ok(()),
            }
        }
        if wait.drive {
            self.start_execution(run, wait.generation).await?;
        }
        // A driver that was woken writes the mailbox next. Only where none will, it is on us to say that all is done.
        if (gone || again || wait.reason == Reason::Nothing) && (wait.wake.is_some() || wait.drive)
        {
            match self.store.put_wait(run, &wait.delivered(self.now())).await {
                Ok(()) | Err(towpath_store::Error::Conflict) => {}
                Err(other) => return Err(other.into()),
            }
        }
        Ok(())
    }

    /// Starts the execution of a generation. One that was started before is not started again.
    async fn start_execution(&self, run: &RunId, generation: u32) -> Result<(), Error> {
        let input = serde_json::json!({ "run": run, "generation": generation }).to_string();
        let start = self.sfn.start_execution().state_machine_arn(&self.machine);
        match start
            .name(format!("{run}-{generation}"))
            .input(input)
            .send()
            .await
        {
            Ok(_) => Ok(()),
            Err(error) if error.code() == Some("ExecutionAlreadyExists") => Ok(()),
            Err(error) => Err(trouble(&error)),
        }
    }

    /// The ARN of an execution by its name.
    pub(crate) fn execution_arn(&self, name: &str) -> String {
        let machine = self.machine.replacen(":stateMachine:", ":execution:", 1);
        format!("{machine}:{name}")
    }

    /// What has become of the execution of a generation, if it is over; `None` while it runs.
    pub(crate) async fn driver_death(
        &self,
        run: &RunId,
        generation: u32,
    ) -> Result<Option<String>, Error> {
        let arn = self.execution_arn(&format!("{run}-{generation}"));
        match self
            .sfn
            .describe_execution()
            .execution_arn(arn)
            .send()
            .await
        {
            Ok(execution) if *execution.status() == ExecutionStatus::Running => Ok(None),
            Ok(execution) => Ok(Some(format!("execution {}", execution.status()))),
            Err(error) if error.code() == Some("ExecutionDoesNotExist") => {
                Ok(Some("no execution".to_owned()))
            }
            Err(error) => Err(trouble(&error)),
        }
    }
}

/// What a call that names a token says of the token.
fn sent<T, E: ProvideErrorMetadata + std::fmt::Debug + 'static>(
    answer: Result<T, SdkError<E, aws_sdk_sfn::config::http::HttpResponse>>,
) -> Result<Sent, Error> {
    match answer {
        Ok(_) => Ok(Sent::Taken),
        Err(error) => match error.code() {
            Some("TaskTimedOut" | "TaskDoesNotExist" | "InvalidToken") => Ok(Sent::Gone),
            _ => Err(trouble(&error)),
        },
    }
}

/// How a task token is answered.
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
    if form == FIRST_FORM {
        return TokenAnswer::Next(old_form::state(next));
    }
    match next {
        Next::Advance => TokenAnswer::Next("advance"),
        Next::PollJob => TokenAnswer::Next("poll-job"),
        Next::PollGate => TokenAnswer::Next("poll-gate"),
        Next::Handover => TokenAnswer::End {
            error: "Towpath.Handover",
            cause: "the run goes on under its next execution",
        },
        Next::Succeed => TokenAnswer::End {
            error: "Towpath.Over",
            cause: "the run has ended, or another execution drives it",
        },
    }
}

pub(crate) fn trouble<E: ProvideErrorMetadata + std::fmt::Debug + 'static>(
    error: &SdkError<E, aws_sdk_sfn::config::http::HttpResponse>,
) -> Error {
    match classify(error) {
        Trouble::Throttled => Error::Throttled(SERVICE),
        Trouble::AccessDenied { message } => Error::Denied(message),
        Trouble::Unavailable | Trouble::ConditionFailed | Trouble::TransactionConflict => {
            Error::Unavailable(SERVICE)
        }
        Trouble::Other => Error::Denied(format!(
            "{SERVICE} refused a request: {}",
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
        Next::Succeed,
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
