//! Polling gates.

use towpath_engine::*;

use crate::support::*;

fn probe_of(run: &Run) -> Option<JobId> {
    match &run.step.activity {
        Activity::Checking(checking) => checking.probe.clone(),
        _ => None,
    }
}

fn counters(run: &Run) -> &Gate {
    run.step.gate.as_ref().unwrap()
}

#[test]
fn a_gate_looks_and_lets_the_run_pass() {
    let mut run = begun(vec![gate("ci"), inline("next")]);
    let probe = probe_of(&run).unwrap();
    assert_eq!(probe.origin(), (StepIndex(0), 1, Role::Probe));
    assert_eq!(run.outcome(), Outcome::AwaitingGate { step: StepIndex(0) });
    let outcome = poll_gate(
        &mut run,
        GateAnswer::Passed("all green".to_owned()),
        minute(1),
    );
    assert_eq!(outcome, Ok(Outcome::Continue));
    assert_eq!(run.changes.outputs[0].text, "all green");
    assert_eq!(run.changes.left[0].finished_at, Some(minute(1)));
}

#[test]
fn a_probe_that_still_looks_is_waited_for() {
    let mut run = begun(vec![gate("ci")]);
    let before = run.clone();
    poll_gate(&mut run, GateAnswer::Looking, minute(59)).unwrap();
    assert_eq!(run, before);
    begin_probe(&mut run).unwrap();
    assert_eq!(run, before, "one probe at a time");
}

#[test]
fn too_early_to_say_means_another_probe_later_and_later() {
    let mut run = begun(vec![gate("ci")]);
    for n in 1..=7 {
        let now = minute(n);
        let outcome = poll_gate(&mut run, GateAnswer::Pending, now);
        assert_eq!(outcome, Ok(Outcome::AwaitingGate { step: StepIndex(0) }));
        assert_eq!(
            run.step.live_job(),
            None,
            "nothing runs while the gate waits"
        );
        assert_eq!(counters(&run).polls, u32::try_from(n).unwrap());
        begin_probe(&mut run).unwrap();
        assert_eq!(u64::from(probe_of(&run).unwrap().origin().1), n + 1);
    }
    let apart = |polls| next_probe(polls, minute(0)).since(minute(0)).as_secs() / 60;
    assert_eq!(
        (0..8).map(apart).collect::<Vec<_>>(),
        [1, 1, 2, 3, 4, 5, 5, 5]
    );
}

#[test]
fn a_lost_probe_is_cleared_away_before_another_looks() {
    let mut run = begun(vec![gate("ci")]);
    let lost = probe_of(&run).unwrap();
    poll_gate(
        &mut run,
        GateAnswer::Lost("its machine is gone".to_owned()),
        minute(1),
    )
    .unwrap();
    assert_eq!(run.changes.reap, [lost]);
    assert_eq!(probe_of(&run), None);
}

#[test]
fn the_helper_mends_and_whatever_it_says_the_gate_looks_again() {
    let failed = JobAnswer::Failed {
        kind: FailureKind::Agent,
        error: "exit code 1".to_owned(),
        detail: None,
    };
    for word in [
        JobAnswer::Done(said("mended!")),
        JobAnswer::Done(asks(&["a"])),
        failed,
    ] {
        let mut run = begun(vec![helped("ci", 2), inline("next")]);
        let outcome = poll_gate(&mut run, red(), minute(1)).unwrap();
        let helper = live_job(&run);
        assert_eq!(helper.origin(), (StepIndex(0), 2, Role::Helper));
        assert_eq!(
            outcome,
            Outcome::AwaitingJob {
                job: helper,
                step: StepIndex(0)
            }
        );
        assert_eq!(counters(&run).attempts, 1);
        assert_eq!(
            counters(&run).last_failure.as_deref(),
            Some("2 tests failed")
        );
        assert_eq!(
            counters(&run).failing_checks,
            ["unit"],
            "what the helper is to mend"
        );

        let outcome = poll_job(&mut run, word, minute(9)).unwrap();
        assert_eq!(outcome, Outcome::AwaitingGate { step: StepIndex(0) });
        assert_eq!(probe_of(&run).unwrap().origin().1, 3);
        assert_eq!(run.changes.outputs, [], "a helper's word is no result");
        poll_gate(&mut run, GateAnswer::Passed(String::new()), minute(10)).unwrap();
        assert_eq!(run.head.current, StepIndex(1));
    }
}

#[test]
fn a_gate_fails_the_run_when_its_helpers_attempts_are_spent() {
    let mut run = begun(vec![helped("ci", 2)]);
    for n in 1..=2 {
        poll_gate(&mut run, red(), minute(n)).unwrap();
        poll_job(&mut run, JobAnswer::Done(said("")), minute(n)).unwrap();
    }
    let outcome = poll_gate(&mut run, red(), minute(3)).unwrap();
    let failure = failed_by(&mut run, outcome, minute(3));
    assert_eq!(failure.kind, FailureKind::JobFailed);
    assert!(
        failure.message.contains("after 2 attempts"),
        "{}",
        failure.message
    );
    assert_eq!(failure.detail.as_deref(), Some("2 tests failed"));
    assert_eq!(counters(&run).attempts, 2, "never past its budget");
}

#[test]
fn without_a_helper_the_first_failure_is_the_last() {
    let mut run = begun(vec![gate("ci")]);
    let outcome = poll_gate(&mut run, red(), minute(1)).unwrap();
    let failure = failed_by(&mut run, outcome, minute(1));
    assert!(failure.message.contains("no helper"), "{}", failure.message);
}

#[test]
fn a_gate_without_a_verdict_for_an_hour_is_a_timeout_and_its_probe_is_stopped() {
    for answer in [
        GateAnswer::Looking,
        GateAnswer::Pending,
        GateAnswer::Lost(String::new()),
    ] {
        let mut run = begun(vec![helped("ci", 3)]);
        let waits = poll_gate(&mut run.clone(), answer.clone(), minute(59)).unwrap();
        assert_eq!(waits, Outcome::AwaitingGate { step: StepIndex(0) });
        let probe = probe_of(&run).unwrap();
        let outcome = poll_gate(&mut run, answer, minute(60)).unwrap();
        assert_eq!(
            failed_by(&mut run, outcome, minute(60)).kind,
            FailureKind::Timeout
        );
        assert_eq!(run.changes.reap, [probe]);
    }
}

#[test]
fn a_verdict_counts_however_late_it_is() {
    let mut run = begun(vec![helped("ci", 1)]);
    let late = minute(500);
    assert!(matches!(
        poll_gate(&mut run.clone(), red(), late),
        Ok(Outcome::AwaitingJob { .. })
    ));
    assert_eq!(
        poll_gate(&mut run, GateAnswer::Passed(String::new()), late),
        Ok(Outcome::Done)
    );
}

#[test]
fn the_helpers_time_is_not_the_gates() {
    let mut run = begun(vec![helped("ci", 3)]);
    poll_gate(&mut run, GateAnswer::Pending, minute(30)).unwrap();
    begin_probe(&mut run).unwrap();
    poll_gate(&mut run, red(), minute(31)).unwrap();
    assert_eq!(counters(&run).polls, 0, "a new round is looked at soon");
    poll_job(&mut run, JobAnswer::Done(said("")), minute(95)).unwrap();
    let outcome = poll_gate(&mut run, GateAnswer::Looking, minute(154)).unwrap();
    assert_eq!(outcome, Outcome::AwaitingGate { step: StepIndex(0) });
    let outcome = poll_gate(&mut run, GateAnswer::Looking, minute(155)).unwrap();
    assert!(matches!(
        outcome,
        Outcome::JobFailed {
            kind: FailureKind::Timeout,
            ..
        }
    ));
}

#[test]
fn a_helper_that_is_taken_away_is_sent_again_and_then_given_up_on() {
    let mut run = begun(vec![helped("ci", 1)]);
    poll_gate(&mut run, red(), minute(1)).unwrap();
    let first = live_job(&run);
    assert_eq!(
        poll_job(&mut run, evicted(false), minute(2)),
        Ok(Outcome::Continue)
    );
    let second = live_job(&run);
    assert_eq!(second.origin().2, Role::Helper);
    assert_eq!(counters(&run).attempts, 1, "the same attempt");
    let outcome = poll_job(&mut run, evicted(false), minute(3));
    assert_eq!(
        outcome,
        Ok(Outcome::AwaitingGate { step: StepIndex(0) }),
        "the probe says what is left to mend"
    );
    assert_eq!(run.changes.reap, [first, second]);
}

#[test]
fn a_helper_has_a_jobs_time_too() {
    let mut run = begun(vec![helped("ci", 1)]);
    poll_gate(&mut run, red(), minute(10)).unwrap();
    let helper = live_job(&run);
    let outcome = poll_job(&mut run, JobAnswer::Running, minute(80)).unwrap();
    assert_eq!(
        failed_by(&mut run, outcome, minute(80)).kind,
        FailureKind::Timeout
    );
    assert_eq!(run.changes.reap, [helper]);
}

#[test]
fn a_human_who_sends_a_gates_result_back_sends_its_helper() {
    let mut run = begun(vec![approved(helped("ci", 1)), inline("next")]);
    poll_gate(
        &mut run,
        GateAnswer::Passed("green, but slow".to_owned()),
        minute(1),
    )
    .unwrap();
    ada(&mut run, &changes("make it quick"), minute(2)).unwrap();
    assert!(matches!(
        advance(&mut run, minute(3)),
        Ok(Outcome::AwaitingJob { .. })
    ));
    assert_eq!(live_job(&run).origin().2, Role::Helper);
    assert_eq!(counters(&run).attempts, 0, "at no cost to its attempts");
    assert_eq!(
        run.step.revision.as_ref().unwrap().feedback.as_deref(),
        Some("make it quick")
    );
    poll_job(&mut run, JobAnswer::Done(said("")), minute(4)).unwrap();
    poll_gate(&mut run, GateAnswer::Passed("green".to_owned()), minute(5)).unwrap();
    assert_eq!(run.head.status, Status::Blocked, "and is asked again");
}
