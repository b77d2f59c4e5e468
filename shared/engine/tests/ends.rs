//! How runs end, and how they do not.

use towpath_engine::*;

use crate::support::*;

/// A run in each of the states that a live run can be in.
fn live_runs() -> Vec<Run> {
    let mut helping = begun(vec![helped("ci", 1)]);
    poll_gate(&mut helping, red(), minute(1)).unwrap();
    let mut resting = begun(vec![gate("ci")]);
    poll_gate(&mut resting, GateAnswer::Pending, minute(1)).unwrap();
    let mut paused = run_of(vec![job("coder")]);
    paused.head.status = Status::Paused;
    let mut runs = vec![
        run_of(vec![inline("coder")]),
        begun(vec![inline("coder")]),
        begun(vec![job("coder")]),
        begun(vec![gate("ci")]),
        helping,
        resting,
        asked(),
        proposed(),
        paused,
    ];
    for run in &mut runs {
        commit(run);
    }
    runs
}

#[test]
fn a_stop_ends_a_run_whatever_it_is_at_and_leaves_no_job_behind() {
    for mut run in live_runs() {
        let live: Vec<_> = run.step.live_job().cloned().into_iter().collect();
        assert_eq!(
            stop(&mut run, "ada", Some("not needed"), minute(9)),
            Outcome::Noop
        );
        assert_eq!(
            (run.head.status, run.head.finished_at),
            (Status::Failed, Some(minute(9)))
        );
        let failure = run.head.failure.clone().unwrap();
        assert_eq!(
            (failure.kind, failure.message.as_str()),
            (FailureKind::Cancelled, "not needed")
        );
        assert_eq!(run.changes.reap, live);
        assert_eq!(run.changes.block.ended, Some(Ended::Failed));
        let audit = run.changes.audit.clone().unwrap();
        assert_eq!(
            (audit.action, audit.subject),
            (Say::Stop, run.head.id.to_string())
        );
    }
}

#[test]
fn a_second_stop_changes_nothing() {
    for mut run in live_runs() {
        stop(&mut run, "ada", None, minute(9));
        commit(&mut run);
        let before = run.clone();
        assert_eq!(
            stop(&mut run, "bob", Some("me too"), minute(10)),
            Outcome::Noop
        );
        assert_eq!(run, before);
    }
}

#[test]
fn a_stop_beats_an_answer_that_arrives_late() {
    let mut coding = begun(vec![job("coder"), inline("next")]);
    let mut inlining = begun(vec![inline("coder"), inline("next")]);
    let mut looking = begun(vec![helped("ci", 3), inline("next")]);
    let mut helping = looking.clone();
    poll_gate(&mut helping, red(), minute(1)).unwrap();
    let mut asking = asked();
    let mut proposing = proposed();
    for run in [
        &mut coding,
        &mut inlining,
        &mut looking,
        &mut helping,
        &mut asking,
        &mut proposing,
    ] {
        stop(run, "ada", None, minute(5));
        commit(run);
    }
    let late = minute(6);
    for answer in [
        JobAnswer::Done(said("done!")),
        JobAnswer::Done(asks(&["a"])),
        evicted(true),
        JobAnswer::Unreadable(String::new()),
        JobAnswer::Running,
    ] {
        for before in [&coding, &helping] {
            let mut run = before.clone();
            assert_eq!(
                poll_job(&mut run, answer.clone(), late),
                Ok(Outcome::Noop),
                "{answer:?}"
            );
            assert_eq!(run, *before, "{answer:?}");
        }
    }
    for answer in [
        GateAnswer::Passed(String::new()),
        red(),
        GateAnswer::Pending,
        GateAnswer::Looking,
    ] {
        let mut run = looking.clone();
        assert_eq!(
            poll_gate(&mut run, answer.clone(), late),
            Ok(Outcome::Noop),
            "{answer:?}"
        );
        assert_eq!(run, looking, "{answer:?}");
    }
    let mut run = inlining.clone();
    assert_eq!(record(&mut run, said("done!"), late), Ok(Outcome::Noop));
    assert_eq!(run, inlining);
    for (before, reply) in [
        (&asking, Reply::Choice("red".to_owned())),
        (&proposing, approve()),
    ] {
        let mut run = before.clone();
        let subject = match &run.step.activity {
            Activity::Deciding { decision: subject }
            | Activity::Approving { approval: subject } => subject.clone(),
            other => panic!("{other:?}"),
        };
        assert!(matches!(
            answer(&mut run, &subject, &reply, "bob", late),
            Err(Refused::NotAsked(_))
        ));
        assert_eq!(run, *before);
    }
}

#[test]
fn the_first_failure_wins() {
    let mut run = begun(vec![job("coder")]);
    fail(&mut run, FailureKind::Timeout, "first", None, minute(1));
    commit(&mut run);
    let before = run.clone();
    assert_eq!(
        fail(&mut run, FailureKind::Agent, "second", None, minute(2)),
        Outcome::Noop
    );
    let second = Outcome::JobFailed {
        kind: FailureKind::Agent,
        error: "second".to_owned(),
        detail: None,
    };
    assert_eq!(fail_outcome(&mut run, second, minute(2)), Outcome::Noop);
    assert_eq!(run, before);
}

#[test]
fn a_run_that_is_done_cannot_fail_any_more() {
    let mut run = begun(vec![inline("coder")]);
    record(&mut run, said("x"), minute(1)).unwrap();
    commit(&mut run);
    let before = run.clone();
    assert_eq!(
        fail(&mut run, FailureKind::Unknown, "late", None, minute(2)),
        Outcome::Noop
    );
    assert_eq!(stop(&mut run, "ada", None, minute(2)), Outcome::Noop);
    assert_eq!(driver_died(&mut run, "late", minute(2)), Outcome::Noop);
    hand_over(&mut run);
    assert_eq!(run, before);
}

#[test]
fn only_failures_go_through_the_funnel() {
    for outcome in [
        Outcome::Continue,
        Outcome::Done,
        Outcome::Noop,
        Outcome::Paused,
        Outcome::AwaitingGate { step: StepIndex(0) },
    ] {
        let mut run = begun(vec![job("coder")]);
        let before = run.clone();
        assert_eq!(fail_outcome(&mut run, outcome.clone(), minute(1)), outcome);
        assert_eq!(run, before);
    }
}

#[test]
fn every_class_of_failure_says_what_to_do() {
    use FailureKind::*;
    let kinds = [
        Preflight,
        Dispatch,
        Evicted,
        Timeout,
        Agent,
        JobFailed,
        Rejected,
        CompanionRejected,
        Cancelled,
        Unknown,
    ];
    let hints: std::collections::BTreeSet<_> = kinds.iter().map(|kind| kind.hint()).collect();
    assert_eq!(hints.len(), kinds.len(), "each its own");
    for kind in kinds {
        let mut run = begun(vec![job("coder")]);
        fail(&mut run, kind, "x", Some("  "), minute(1));
        let failure = run.head.failure.unwrap();
        assert_eq!((failure.hint.as_str(), failure.detail), (kind.hint(), None));
    }
}

#[test]
fn a_dead_driver_is_replaced_and_the_third_in_a_row_fails_the_run() {
    for mut run in live_runs() {
        let before = run.clone();
        for death in 1..3 {
            assert_eq!(
                driver_died(&mut run, "aborted", minute(9)),
                Outcome::Continue
            );
            assert_eq!(run.head.generation, before.head.generation + death);
            assert_eq!(
                (&run.step, run.head.status),
                (&before.step, before.head.status),
                "it goes on where it was"
            );
        }
        assert_eq!(driver_died(&mut run, "aborted", minute(9)), Outcome::Noop);
        let failure = run.head.failure.clone().unwrap();
        assert_eq!(failure.kind, FailureKind::Unknown);
        assert!(failure.message.contains("aborted"), "{}", failure.message);
        assert_eq!(
            run.changes.reap,
            Vec::from_iter(before.step.live_job().cloned())
        );
    }
}

#[test]
fn progress_forgives_dead_drivers() {
    let twice = |run: &mut Run| {
        for _ in 0..2 {
            driver_died(run, "aborted", minute(1));
        }
        assert_eq!(run.head.deaths, 2);
    };
    // A step is done.
    let mut run = begun(vec![inline("a"), inline("b")]);
    twice(&mut run);
    record(&mut run, said("x"), minute(2)).unwrap();
    assert_eq!(run.head.deaths, 0);
    // A question is asked, and answered.
    let mut run = begun(vec![job("a"), inline("b")]);
    twice(&mut run);
    poll_job(&mut run, JobAnswer::Done(asks(&["x"])), minute(2)).unwrap();
    assert_eq!(run.head.deaths, 0);
    twice(&mut run);
    ada(&mut run, &Reply::Choice("x".to_owned()), minute(3)).unwrap();
    assert_eq!(run.head.deaths, 0);
    // A result is proposed, and sent back.
    let mut run = begun(vec![approved(job("a")), inline("b")]);
    twice(&mut run);
    poll_job(&mut run, JobAnswer::Done(said("x")), minute(2)).unwrap();
    assert_eq!(run.head.deaths, 0);
    twice(&mut run);
    ada(&mut run, &changes("more"), minute(3)).unwrap();
    assert_eq!(run.head.deaths, 0);
    // A job that is sent again is not.
    advance(&mut run, minute(4)).unwrap();
    twice(&mut run);
    poll_job(&mut run, evicted(true), minute(5)).unwrap();
    assert_eq!(run.head.deaths, 2);
}

#[test]
fn a_handover_changes_the_driver_and_nothing_else() {
    for mut run in live_runs() {
        let before = run.clone();
        hand_over(&mut run);
        assert_eq!(run.head.generation, before.head.generation + 1);
        run.head.generation = before.head.generation;
        assert_eq!(run, before);
    }
}

#[test]
fn a_block_becomes_what_its_run_made_of_it() {
    use BlockStatus::*;
    let block = |level, status| {
        let mut block: Block =
            serde_json::from_value(serde_json::json!({"id": "b", "workspace": "w", "title": "B"}))
                .unwrap();
        (block.level, block.status) = (level, status);
        block
    };
    for (level, status, ended, after) in [
        (Level::Task, InProgress, Ended::Done, PrReady), // not merged yet
        (Level::Task, Done, Ended::Done, Done),          // a step has merged it: not lowered
        (Level::Task, InProgress, Ended::Failed, Blocked),
        (Level::Task, PrReady, Ended::Failed, Blocked),
        (Level::Task, InProgress, Ended::Planned, Planned),
        (Level::Frame, InProgress, Ended::Done, Done),
        (Level::Module, InProgress, Ended::Done, Done),
        (Level::Module, InProgress, Ended::Failed, Blocked),
        (Level::Frame, InProgress, Ended::Planned, Planned),
    ] {
        assert_eq!(
            block(level, status).after(ended),
            after,
            "{level:?} {status:?} {ended:?}"
        );
    }
    assert_eq!(block(Level::Task, Planned).branch(), "towpath/b");
}
