//! The outbox: what must follow a commit. It is in the commit, done at once, and done again by the tick if it was not.

use aws_sdk_sfn::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_sfn::types::ExecutionStatus;
use towpath_aws::{Trouble, classify};
use towpath_engine::{Next, Reason, RunId, Wait};

use crate::{App, Error};

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
    /// Sends a waiting driver on its way.
    pub(crate) async fn send(&self, token: &str, next: Next) -> Result<Sent, Error> {
        let output = serde_json::json!({ "next": next }).to_string();
        match self
            .sfn
            .send_task_success()
            .task_token(token)
            .output(output)
            .send()
            .await
        {
            Ok(_) => Ok(Sent::Taken),
            Err(error) => match error.code() {
                Some("TaskTimedOut" | "TaskDoesNotExist" | "InvalidToken") => Ok(Sent::Gone),
                _ => Err(trouble(&error)),
            },
        }
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
            gone = self.send(token, next).await? == Sent::Gone;
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
