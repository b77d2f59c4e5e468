//! The end of a job, as the engine's transitions take it.

use towpath_engine::{FailureKind, GateAnswer, JobAnswer};
use towpath_jobs::{CallFailure, CallResult, JobSnapshot, LossCause, call_result};

/// The exit code by which a probe says that it is too early to say: `EX_TEMPFAIL` of `sysexits.h`.
const TOO_EARLY: i32 = 75;

/// What a job's end means to the step it works for.
pub(crate) fn job_answer(snapshot: JobSnapshot) -> JobAnswer {
    let failed = |kind, error| JobAnswer::Failed {
        kind,
        error,
        detail: None,
    };
    match call_result(snapshot) {
        None => JobAnswer::Running,
        Some(CallResult::Done(answer)) => JobAnswer::Done(answer),
        Some(CallResult::Failed(CallFailure {
            kind,
            message,
            detail,
            ..
        })) => JobAnswer::Failed {
            kind,
            error: message,
            detail,
        },
        Some(CallResult::Lost(loss)) => match loss.cause {
            LossCause::Crashed | LossCause::Reclaimed => JobAnswer::Evicted {
                transient: loss.cause == LossCause::Reclaimed,
                error: loss.message,
            },
            LossCause::TimedOut => failed(FailureKind::Timeout, loss.message),
            LossCause::Killed | LossCause::Checkout => failed(FailureKind::JobFailed, loss.message),
        },
    }
}

/// What a probe's end means to its gate. A probe that was lost has found nothing, so it costs its helper no attempt.
pub(crate) fn gate_answer(snapshot: JobSnapshot) -> GateAnswer {
    match call_result(snapshot) {
        None => GateAnswer::Looking,
        Some(CallResult::Done(answer)) => GateAnswer::Passed(answer.output.trim().to_owned()),
        Some(CallResult::Lost(loss)) => GateAnswer::Lost(loss.message),
        Some(CallResult::Failed(failure)) => match failure {
            CallFailure {
                exit_code: Some(TOO_EARLY),
                ..
            } => GateAnswer::Pending,
            // No helper can fix a probe that does not run.
            CallFailure {
                kind: FailureKind::Dispatch,
                message,
                detail,
                ..
            } => GateAnswer::Broken(detail.unwrap_or(message)),
            CallFailure {
                message,
                detail,
                printed,
                ..
            } => GateAnswer::Failed {
                summary: [printed, detail]
                    .into_iter()
                    .flatten()
                    .find(|text| !text.trim().is_empty())
                    .unwrap_or(message),
                failing: Vec::new(),
            },
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use towpath_jobs::{JobStatus, error_class};

    fn ended(class: &str, exit_code: Option<i32>) -> JobSnapshot {
        JobSnapshot {
            exit_code,
            terminal_error_class: Some(class.to_owned()),
            terminal_error_message: Some("2 tests failed".to_owned()),
            ..JobSnapshot::of(JobStatus::Failed)
        }
    }

    #[test]
    fn a_probe_passes_with_0_waits_with_75_and_fails_with_the_rest() {
        let passed = gate_answer(JobSnapshot::of(JobStatus::Terminated));
        assert_eq!(passed, GateAnswer::Passed(String::new()));
        let early = gate_answer(ended(error_class::EXIT_CODE, Some(75)));
        assert_eq!(early, GateAnswer::Pending);
        let failed = gate_answer(ended(error_class::EXIT_CODE, Some(1)));
        assert!(matches!(failed, GateAnswer::Failed { .. }), "{failed:?}");
        let looking = gate_answer(JobSnapshot::of(JobStatus::Running));
        assert_eq!(looking, GateAnswer::Looking);
    }

    #[test]
    fn a_probe_that_is_killed_by_a_signal_is_lost_and_finds_nothing() {
        let killed = gate_answer(ended(error_class::SIGNAL, None));
        assert!(matches!(killed, GateAnswer::Lost(_)), "{killed:?}");
    }

    #[test]
    fn a_job_that_lost_its_place_is_evicted() {
        let evicted = job_answer(ended(error_class::EVICTED, None));
        assert!(
            matches!(
                evicted,
                JobAnswer::Evicted {
                    transient: false,
                    ..
                }
            ),
            "{evicted:?}"
        );
    }
}
