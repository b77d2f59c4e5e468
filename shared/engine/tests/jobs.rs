//! Runs that wait for jobs.

use towpath_engine::*;

use crate::support::*;

#[test]
fn a_running_job_is_waited_for_and_nothing_is_written() {
    let mut run = begun(vec![job("coder")]);
    let before = run.clone();
    let outcome = poll_job(&mut run, JobAnswer::Running, minute(69)).unwrap();
    assert_eq!(outcome, before.outcome());
    assert_eq!(run, before);
}

#[test]
fn a_jobs_answer_becomes_the_steps_result() {
    let mut run = begun(vec![job("coder"), inline("next")]);
    assert_eq!(
        poll_job(&mut run, JobAnswer::Done(said("done")), minute(5)),
        Ok(Outcome::Continue)
    );
    let left = &run.changes.left[0];
    assert_eq!(
        left.output,
        Some(OutputRef {
            attempt: 1,
            bytes: 4
        })
    );
    assert_eq!(left.live_job(), None);
    assert_eq!(run.changes.reap, [], "it ended by itself");
}

#[test]
fn a_failed_job_changes_nothing_until_the_funnel_takes_it() {
    let mut run = begun(vec![job("coder")]);
    let before = run.clone();
    let answer = JobAnswer::Failed {
        kind: FailureKind::Agent,
        error: "exit code 3".to_owned(),
        detail: Some("last words".to_owned()),
    };
    let outcome = poll_job(&mut run, answer, minute(5)).unwrap();
    assert_eq!(run, before);
    let failure = failed_by(&mut run, outcome, minute(6));
    assert_eq!(
        (failure.kind, failure.message.as_str()),
        (FailureKind::Agent, "exit code 3")
    );
    assert_eq!(failure.detail.as_deref(), Some("last words"));
    assert_eq!(failure.occurred_at, minute(6));
}

#[test]
fn one_crash_is_borne_and_the_second_fails_the_run_as_evicted() {
    let mut run = begun(vec![job("coder")]);
    let first = live_job(&run);
    assert_eq!(
        poll_job(&mut run, evicted(false), minute(10)),
        Ok(Outcome::Continue)
    );
    let second = live_job(&run);
    assert_eq!(second.origin(), (StepIndex(0), 2, Role::Main));
    assert_eq!(
        commit(&mut run).reap,
        [first],
        "the old one may not be as gone as it looks"
    );

    let outcome = poll_job(&mut run, evicted(false), minute(20)).unwrap();
    assert!(matches!(outcome, Outcome::JobEvicted { .. }));
    assert_eq!(
        failed_by(&mut run, outcome, minute(20)).kind,
        FailureKind::Evicted
    );
    assert_eq!(run.changes.reap, [second]);
    assert_eq!(run.step.evictions.crashes, 1, "never past its budget");
}

#[test]
fn five_announced_evictions_are_borne_beside_a_crash() {
    let mut run = begun(vec![job("coder")]);
    assert_eq!(
        poll_job(&mut run, evicted(false), minute(1)),
        Ok(Outcome::Continue)
    );
    for n in 1..=5 {
        assert_eq!(
            poll_job(&mut run, evicted(true), minute(1 + n)),
            Ok(Outcome::Continue)
        );
    }
    assert_eq!(live_job(&run).origin().1, 7);
    let outcome = poll_job(&mut run, evicted(true), minute(9)).unwrap();
    assert!(matches!(outcome, Outcome::JobEvicted { .. }));
    assert_eq!(
        run.step.evictions,
        Evictions {
            crashes: 1,
            transient: 5
        }
    );
}

#[test]
fn a_replaced_job_has_its_whole_time() {
    let mut run = begun(vec![job("coder")]);
    poll_job(&mut run, evicted(true), minute(60)).unwrap();
    assert!(matches!(
        poll_job(&mut run, JobAnswer::Running, minute(129)),
        Ok(Outcome::AwaitingJob { .. })
    ));
    assert!(matches!(
        poll_job(&mut run, JobAnswer::Running, minute(130)),
        Ok(Outcome::JobFailed { .. })
    ));
}

#[test]
fn six_unreadable_answers_in_a_row_are_a_timeout() {
    let unreadable = || JobAnswer::Unreadable("connection refused".to_owned());
    let mut run = begun(vec![job("coder")]);
    for n in 1..6 {
        let outcome = poll_job(&mut run, unreadable(), minute(n)).unwrap();
        assert!(matches!(outcome, Outcome::AwaitingJob { .. }), "{n}");
    }
    poll_job(&mut run, JobAnswer::Running, minute(6)).unwrap();
    assert_eq!(run.step.unreadable, 0, "only a row of them counts");
    for n in 7..12 {
        let outcome = poll_job(&mut run, unreadable(), minute(n)).unwrap();
        assert!(matches!(outcome, Outcome::AwaitingJob { .. }), "{n}");
    }
    let outcome = poll_job(&mut run, unreadable(), minute(12)).unwrap();
    let job = live_job(&run);
    let failure = failed_by(&mut run, outcome, minute(12));
    assert_eq!(failure.kind, FailureKind::Timeout);
    assert_eq!(failure.detail.as_deref(), Some("connection refused"));
    assert_eq!(run.changes.reap, [job], "nobody can say that it is gone");
}

#[test]
fn a_replaced_job_is_read_with_fresh_eyes() {
    let mut run = begun(vec![job("coder")]);
    for n in 0..5 {
        poll_job(&mut run, JobAnswer::Unreadable(String::new()), minute(n)).unwrap();
    }
    poll_job(&mut run, evicted(true), minute(6)).unwrap();
    assert_eq!(run.step.unreadable, 0);
}

#[test]
fn a_job_has_seventy_minutes_and_is_stopped_when_they_are_spent() {
    let mut run = begun(vec![job("coder")]);
    assert!(matches!(
        poll_job(&mut run, JobAnswer::Running, minute(69)),
        Ok(Outcome::AwaitingJob { .. })
    ));
    let outcome = poll_job(&mut run, JobAnswer::Running, minute(70)).unwrap();
    let job = live_job(&run);
    let failure = failed_by(&mut run, outcome, minute(70));
    assert_eq!(failure.kind, FailureKind::Timeout);
    assert!(
        failure.message.contains("70 minutes"),
        "{}",
        failure.message
    );
    assert_eq!(run.changes.reap, [job]);
}

#[test]
fn a_step_may_set_the_time_of_its_jobs() {
    let mut spec = job("coder");
    spec.budgets.job_minutes = Some(3);
    let mut run = begun(vec![spec]);
    assert!(matches!(
        poll_job(&mut run, JobAnswer::Running, minute(2)),
        Ok(Outcome::AwaitingJob { .. })
    ));
    let late = poll_job(&mut run.clone(), JobAnswer::Running, minute(3)).unwrap();
    assert!(matches!(
        late,
        Outcome::JobFailed {
            kind: FailureKind::Timeout,
            ..
        }
    ));
    let lost = poll_job(
        &mut run.clone(),
        JobAnswer::Unreadable(String::new()),
        minute(3),
    )
    .unwrap();
    assert!(matches!(
        lost,
        Outcome::JobFailed {
            kind: FailureKind::Timeout,
            ..
        }
    ));
    // Work that was done is not thrown away for the minute in which it was looked at.
    assert_eq!(
        poll_job(&mut run, JobAnswer::Done(said("x")), minute(3)),
        Ok(Outcome::Done)
    );
}
