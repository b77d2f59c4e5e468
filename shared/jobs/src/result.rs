//! What the end of a job means to the engine. The same for every role: what a step's kind makes of it is the kind's.

use towpath_engine::{
    AgentAnswer, Artifact, CallFailure, CallResult, CheckedAnswer, FailureKind, Loss, LossCause,
};

use crate::{Answer, JobSnapshot, JobStatus, error_class, last_lines};

/// The most that is told of what a failed command printed, in bytes.
const PRINTED_MAX: usize = 4 * 1024;

/// Turns the last snapshot of a job into what became of the call. `None`: the job has not ended.
pub fn call_result(snapshot: JobSnapshot) -> Option<CallResult> {
    if !snapshot.status.is_final() {
        return None;
    }
    let class = snapshot.terminal_error_class.clone();
    Some(match (snapshot.status, class.as_deref()) {
        (JobStatus::Terminated, None) => done(snapshot),
        (_, Some(error_class::AGENT_ERROR)) => agent_error(snapshot),
        // With an exit code the command ran: it is the push that failed, in the words of the previous release.
        (_, Some(error_class::CHECKOUT_FAILED)) if snapshot.exit_code.is_some() => {
            failed(error_class::PUSH_FAILED, snapshot)
        }
        (_, class) => {
            let class = class.unwrap_or(error_class::EXIT_CODE);
            match loss(class) {
                Some((cause, otherwise)) => lost(cause, snapshot, otherwise),
                None => failed(class, snapshot),
            }
        }
    })
}

/// The cause of a loss, and the message for a snapshot that has none. `None`: the class is not that of a loss.
fn loss(class: &str) -> Option<(LossCause, &'static str)> {
    Some(match class {
        error_class::EVICTED => (LossCause::Crashed, "what ran the job ended without a word"),
        error_class::RECLAIMED => (LossCause::Reclaimed, "the job's machine was taken back"),
        error_class::TIMED_OUT => (LossCause::TimedOut, "the job ran longer than it may"),
        error_class::SIGNAL => (LossCause::Killed, "the command was ended by a signal"),
        error_class::STOPPED => (LossCause::Killed, "the job was stopped from outside"),
        error_class::CHECKOUT_FAILED => (LossCause::Checkout, "the working copy could not be made"),
        _ => return None,
    })
}

fn done(snapshot: JobSnapshot) -> CallResult {
    let (exit_code, usage) = (snapshot.exit_code, snapshot.usage);
    match agent_answer(snapshot.answer, snapshot.artifacts) {
        Ok(answer) => CallResult::Done(answer.with_usage(usage)),
        Err(message) => CallResult::Failed(CallFailure {
            exit_code,
            usage,
            ..CallFailure::new(FailureKind::Agent, message)
        }),
    }
}

fn lost(cause: LossCause, snapshot: JobSnapshot, otherwise: &str) -> CallResult {
    let message = snapshot.terminal_error_message;
    CallResult::Lost(Loss {
        cause,
        message: message.unwrap_or_else(|| otherwise.to_owned()),
        usage: snapshot.usage,
    })
}

fn failed(class: &str, snapshot: JobSnapshot) -> CallResult {
    let (kind, message) = match (class, snapshot.exit_code) {
        (error_class::START_FAILED, _) => {
            (FailureKind::Dispatch, "the command could not be started")
        }
        (error_class::ANSWER_REFUSED, _) => (FailureKind::Agent, "the job's answer cannot be used"),
        (error_class::PUSH_FAILED, _) => (
            FailureKind::JobFailed,
            "the command ended well, but its changes could not be pushed",
        ),
        (_, Some(code)) => {
            let message = format!("the command ended with exit code {code}");
            return failure(FailureKind::JobFailed, message, snapshot);
        }
        (_, None) => (FailureKind::JobFailed, "the job failed"),
    };
    failure(kind, message.to_owned(), snapshot)
}

fn failure(kind: FailureKind, message: String, snapshot: JobSnapshot) -> CallResult {
    CallResult::Failed(CallFailure {
        kind,
        message,
        exit_code: snapshot.exit_code,
        printed: printed(&snapshot),
        usage: snapshot.usage,
        detail: snapshot.terminal_error_message,
    })
}

/// The agent's own words are the message.
fn agent_error(mut snapshot: JobSnapshot) -> CallResult {
    let message = snapshot.terminal_error_message.take();
    let message = message.unwrap_or_else(|| "the agent answered with an error".to_owned());
    failure(FailureKind::Agent, message, snapshot)
}

/// The end of what a failed command printed. The previous release kept it as the job's answer.
fn printed(snapshot: &JobSnapshot) -> Option<String> {
    let answer = snapshot.answer.as_ref().map(|answer| match answer {
        Answer::File(text) | Answer::Stdout(text) => text,
    });
    let text = last_lines(
        snapshot.printed.as_ref().or(answer)?.as_bytes(),
        PRINTED_MAX,
    );
    (!text.is_empty()).then_some(text)
}

/// An answer file that holds a JSON object has to be an agent answer, to the letter; any other text is an output.
fn agent_answer(answer: Option<Answer>, kept: Vec<Artifact>) -> Result<CheckedAnswer, String> {
    let output = match answer {
        None => String::new(),
        Some(Answer::File(text)) if text.trim_start().starts_with('{') => {
            let answer: AgentAnswer = serde_json::from_str(&text).map_err(|error| {
                format!("the answer file holds a JSON object that is not an agent answer: {error}")
            })?;
            return answer.checked_with(kept);
        }
        Some(Answer::File(output) | Answer::Stdout(output)) => output,
    };
    let answer = AgentAnswer {
        output,
        ..AgentAnswer::default()
    };
    answer.checked()
}

#[cfg(test)]
mod tests {
    use towpath_engine::Usage;

    use super::*;

    fn ended_well(answer: Answer) -> JobSnapshot {
        JobSnapshot {
            answer: Some(answer),
            ..JobSnapshot::of(JobStatus::Terminated)
        }
    }

    fn answer_to(file: &str) -> CallResult {
        call_result(ended_well(Answer::File(file.to_owned()))).unwrap()
    }

    fn failure_of(snapshot: JobSnapshot) -> CallFailure {
        match call_result(snapshot) {
            Some(CallResult::Failed(failure)) => failure,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_job_that_has_not_ended_has_no_result() {
        for status in [
            JobStatus::Queued,
            JobStatus::Provisioning,
            JobStatus::Running,
            JobStatus::Stopping,
        ] {
            assert_eq!(call_result(JobSnapshot::of(status)), None);
        }
    }

    #[test]
    fn plain_text_is_an_output_and_a_json_object_is_an_answer_to_the_letter() {
        let CallResult::Done(text) = answer_to("done") else {
            panic!()
        };
        assert_eq!(text.output, "done");
        let json = r#"{"output": "done", "confidence": 0.9, "model": "m"}"#;
        let CallResult::Done(answer) = answer_to(json) else {
            panic!()
        };
        assert_eq!(
            (answer.output.as_str(), answer.confidence),
            ("done", Some(0.9))
        );
        for nonsense in ["{", r#"{"outputs": 1}"#, r#"{"output": 7}"#] {
            let result = answer_to(nonsense);
            assert!(
                matches!(&result, CallResult::Failed(it) if it.kind == FailureKind::Agent),
                "{nonsense}: {result:?}"
            );
        }
    }

    #[test]
    fn an_answer_that_the_records_cannot_hold_is_the_agents_failure() {
        let json = serde_json::json!({"output": "", "model": "m".repeat(1000)});
        let result = answer_to(&json.to_string());
        assert!(
            matches!(&result, CallResult::Failed(it)
                if it.kind == FailureKind::Agent && it.message.contains("model")),
            "{result:?}"
        );
    }

    #[test]
    fn what_a_command_printed_is_an_output_even_where_it_looks_like_an_answer() {
        let printed = r#"{"output": "x"}"#;
        let result = call_result(ended_well(Answer::Stdout(printed.to_owned())));
        assert!(matches!(result, Some(CallResult::Done(it)) if it.output == printed));
    }

    #[test]
    fn a_large_output_is_taken_whole() {
        let text = "x".repeat(1024 * 1024);
        assert!(matches!(answer_to(&text), CallResult::Done(it) if it.output == text));
    }

    #[test]
    fn each_class_of_end_is_a_loss_or_a_failure() {
        let losses = [
            (error_class::EVICTED, LossCause::Crashed),
            (error_class::RECLAIMED, LossCause::Reclaimed),
            (error_class::TIMED_OUT, LossCause::TimedOut),
            (error_class::SIGNAL, LossCause::Killed),
            (error_class::STOPPED, LossCause::Killed),
            (error_class::CHECKOUT_FAILED, LossCause::Checkout),
        ];
        for (class, cause) in losses {
            let expected = CallResult::Lost(Loss {
                cause,
                message: "why".to_owned(),
                usage: None,
            });
            assert_eq!(
                call_result(JobSnapshot::ended_badly(class, "why")),
                Some(expected),
                "{class}"
            );
        }
        let failures = [
            (error_class::START_FAILED, FailureKind::Dispatch),
            (error_class::EXIT_CODE, FailureKind::JobFailed),
            (error_class::PUSH_FAILED, FailureKind::JobFailed),
            (error_class::ANSWER_REFUSED, FailureKind::Agent),
            (error_class::AGENT_ERROR, FailureKind::Agent),
            ("a word of a later release", FailureKind::JobFailed),
        ];
        for (class, kind) in failures {
            let failure = failure_of(JobSnapshot::ended_badly(class, "why"));
            assert_eq!(failure.kind, kind, "{class}");
            let words = [Some(failure.message), failure.detail];
            assert!(
                words.contains(&Some("why".to_owned())),
                "{class}: {words:?}"
            );
        }
    }

    #[test]
    fn a_push_that_failed_under_the_previous_release_is_no_loss() {
        let failure = failure_of(JobSnapshot {
            exit_code: Some(0),
            ..JobSnapshot::ended_badly(error_class::CHECKOUT_FAILED, "cannot push the branch")
        });
        assert_eq!(
            (failure.kind, failure.exit_code),
            (FailureKind::JobFailed, Some(0))
        );
    }

    #[test]
    fn a_failed_command_tells_its_exit_code_and_the_end_of_what_it_printed() {
        let failed = JobSnapshot {
            exit_code: Some(75),
            printed: Some("\x1b[31m2 tests failed\n".to_owned()),
            ..JobSnapshot::ended_badly(error_class::EXIT_CODE, "exit code 75")
        };
        let failure = failure_of(failed.clone());
        assert_eq!(failure.exit_code, Some(75));
        assert_eq!(failure.message, "the command ended with exit code 75");
        assert_eq!(failure.printed.as_deref(), Some("2 tests failed"));

        let previous_release = JobSnapshot {
            printed: None,
            answer: Some(Answer::Stdout("line\n".repeat(100_000))),
            ..failed
        };
        let printed = failure_of(previous_release).printed.unwrap();
        assert!(printed.len() <= PRINTED_MAX && printed.starts_with("line\n"));
    }
    #[test]
    fn what_a_job_used_is_told_whether_it_ended_well_or_not() {
        let usage = Some(Usage {
            prompt_tokens: 7,
            completion_tokens: 5,
            cached_tokens: 2,
            ..Usage::default()
        });
        let well = ended_well(Answer::File("done".to_owned()));
        let unusable = ended_well(Answer::File("{".to_owned()));
        let failed = JobSnapshot::ended_badly(error_class::AGENT_ERROR, "no");
        for snapshot in [well, unusable, failed] {
            assert_eq!(call_result(snapshot.clone()).unwrap().usage(), None);
            let used = JobSnapshot { usage, ..snapshot };
            assert_eq!(call_result(used).unwrap().usage(), usage);
        }
    }
}
