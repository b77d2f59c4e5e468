//! A run begins, does its steps, and ends.

use std::sync::Arc;

use towpath_engine::*;

use crate::support::*;

#[test]
fn a_new_run_stands_before_its_first_step() {
    let run = run_of(vec![inline("coder"), inline("tester")]);
    assert_eq!(run.head.status, Status::Running);
    assert_eq!(run.head.current, StepIndex(0));
    assert_eq!(
        run.head.generation, 1,
        "its first driver is still to be started"
    );
    assert_eq!(run.head.created_at, minute(0));
    assert_eq!(run.head.initiated_by.as_deref(), Some("ada"));
    assert_eq!(run.step.state(), StepState::Pending);
    assert_eq!(run.step.started_at, None, "a start begins no work");
    assert_eq!(run.changes, Changes::default());
}

#[test]
fn each_action_does_one_thing_and_the_last_step_ends_the_run() {
    let mut run = run_of(vec![inline("coder"), inline("tester")]);
    assert_eq!(advance(&mut run, minute(1)), Ok(Outcome::Continue));
    assert_eq!(run.step.state(), StepState::Working);
    assert_eq!(
        record(&mut run, said("code"), minute(2)),
        Ok(Outcome::Continue)
    );
    assert_eq!(run.head.current, StepIndex(1));
    assert_eq!(
        run.step.state(),
        StepState::Pending,
        "the next step is another action's"
    );
    let changes = commit(&mut run);
    let [left] = &changes.left[..] else {
        panic!("{changes:?}")
    };
    assert_eq!((left.state(), left.index), (StepState::Done, StepIndex(0)));
    assert_eq!(
        (left.started_at, left.finished_at),
        (Some(minute(1)), Some(minute(2)))
    );
    assert_eq!(changes.outputs[0].text, "code");
    assert_eq!(changes.block.ended, None);

    advance(&mut run, minute(3)).unwrap();
    assert_eq!(record(&mut run, said("fine"), minute(4)), Ok(Outcome::Done));
    assert_eq!(
        (run.head.status, run.head.finished_at),
        (Status::Done, Some(minute(4)))
    );
    assert_eq!(run.step.state(), StepState::Done);
    assert_eq!(run.changes.block.ended, Some(Ended::Done));
}

#[test]
fn a_job_is_committed_before_it_exists_and_named_after_what_it_is_for() {
    let mut run = run_of(vec![inline("a"), job("coder")]);
    advance(&mut run, minute(0)).unwrap();
    record(&mut run, said("x"), minute(1)).unwrap();
    let expected = JobId::derive(&run.head.id, StepIndex(1), 1, Role::Main);
    let outcome = Outcome::AwaitingJob {
        job: expected,
        step: StepIndex(1),
    };
    assert_eq!(advance(&mut run, minute(2)), Ok(outcome));
}

#[test]
fn a_driver_that_comes_back_finds_the_run_waiting_and_changes_nothing() {
    let mut gated = begun(vec![gate("ci")]);
    let mut paused = run_of(vec![job("coder")]);
    paused.head.status = Status::Paused;
    for (mut run, waits) in [
        (begun(vec![job("coder")]), "AwaitingJob"),
        (gated.clone(), "AwaitingGate"),
        (asked(), "AwaitingDecision"),
        (proposed(), "AwaitingDecision"),
        (paused, "Paused"),
    ] {
        let before = run.clone();
        let outcome = advance(&mut run, minute(99)).unwrap();
        assert!(format!("{outcome:?}").starts_with(waits), "{outcome:?}");
        assert_eq!(run, before);
    }
    stop(&mut gated, "ada", None, minute(1));
    assert_eq!(advance(&mut gated, minute(2)), Ok(Outcome::Noop));
}

#[test]
fn a_steps_clock_starts_once_however_often_it_is_driven() {
    let mut run = begun(vec![job("coder"), inline("next")]);
    advance(&mut run, minute(7)).unwrap();
    poll_job(&mut run, evicted(true), minute(8)).unwrap();
    assert_eq!(
        run.step.started_at,
        Some(minute(0)),
        "a replaced job is the same attempt at it"
    );
    poll_job(&mut run, JobAnswer::Done(said("x")), minute(9)).unwrap();
    let left = &run.changes.left[0];
    assert_eq!(
        (left.started_at, left.finished_at),
        (Some(minute(0)), Some(minute(9)))
    );
}

#[test]
fn a_step_that_is_begun_again_is_written_in_the_runs_present_epoch() {
    let mut run = run_of(vec![job("coder")]);
    run.head.epoch = 3;
    advance(&mut run, minute(1)).unwrap();
    assert_eq!(run.step.epoch, 3, "or its record would read as pending");
}

#[test]
fn what_an_agent_says_of_its_pull_request_and_confidence_reaches_the_block() {
    let mut run = begun(vec![inline("coder"), inline("next")]);
    let pull_request = PullRequest {
        url: "https://example.org/pr/7".to_owned(),
        number: Some(7),
        branch: None,
    };
    let answer = AgentAnswer {
        pull_request: Some(pull_request.clone()),
        confidence: Some(7.0),
        model: Some("m".to_owned()),
        ..said("x")
    };
    record(&mut run, answer, minute(1)).unwrap();
    assert_eq!(run.changes.block.pull_request, Some(pull_request));
    assert_eq!(run.changes.block.confidence, Some(1.0), "at most sure");
    assert_eq!(run.changes.left[0].model.as_deref(), Some("m"));
}

#[test]
fn a_step_without_anything_to_run_it_is_refused_and_nothing_begins() {
    let nothing = StepSpec {
        runtime: None,
        ..inline("coder")
    };
    let mut run = run_of(vec![nothing]);
    let before = run.clone();
    let error = advance(&mut run, minute(1)).unwrap_err().to_string();
    assert!(error.contains("neither a runtime nor a gate"), "{error}");
    assert_eq!(run, before);
}

#[test]
fn a_plan_has_a_first_step() {
    assert_eq!(Plan::new(Vec::new()), None);
    assert_eq!(Plan::new(vec![inline("a"); MAX_STEPS + 1]), None);
    assert_eq!(Plan::new(vec![inline("a"); MAX_STEPS]).unwrap().len(), 500);
}

#[test]
fn the_longest_pipeline_runs_to_its_end() {
    let mut run = run_of(vec![inline("a"); MAX_STEPS]);
    for step in 0..MAX_STEPS {
        assert_eq!(usize::from(run.head.current.0), step);
        advance(&mut run, minute(0)).unwrap();
        record(&mut run, said("x"), minute(0)).unwrap();
        commit(&mut run);
    }
    assert_eq!(run.head.status, Status::Done);
}

#[test]
fn a_retry_goes_on_at_the_first_step_that_is_not_done_with_fresh_counters() {
    let mut run = run_of(vec![inline("a"), job("b"), inline("c")]);
    advance(&mut run, minute(0)).unwrap();
    record(&mut run, said("x"), minute(1)).unwrap();
    advance(&mut run, minute(2)).unwrap();
    poll_job(&mut run, evicted(false), minute(3)).unwrap();
    let outcome = poll_job(&mut run, evicted(false), minute(4)).unwrap();
    fail_outcome(&mut run, outcome, minute(4));

    let plan = Arc::clone(&run.plan);
    let again = retry(&run.head, run_id(2), Some("bob"), plan, minute(9)).unwrap();
    assert_eq!(again.head.current, StepIndex(1), "what came before is kept");
    assert_eq!(again.head.retried_from, Some(run_id(1)));
    assert_eq!((again.head.id.clone(), again.head.rev), (run_id(2), 0));
    assert_eq!(again.head.initiated_by.as_deref(), Some("bob"));
    assert_eq!(
        (again.head.block.clone(), again.head.pipeline.clone()),
        (run.head.block, run.head.pipeline)
    );
    assert_eq!(
        (again.head.failure.clone(), again.head.finished_at),
        (None, None)
    );
    assert_eq!(
        (again.step.attempt, again.step.evictions),
        (0, Evictions::default())
    );
    assert_eq!(again.step.agent_kind.as_str(), "b");
}

#[test]
fn only_a_failed_run_is_retried() {
    let mut done = begun(vec![inline("a")]);
    record(&mut done, said("x"), minute(1)).unwrap();
    for run in [begun(vec![job("a")]), proposed(), done] {
        let error =
            retry(&run.head, run_id(2), None, Arc::clone(&run.plan), minute(9)).unwrap_err();
        let status = run.head.status.to_string();
        assert!(
            error.to_string().contains(&status),
            "{error} names {status}"
        );
    }
}

#[test]
fn any_run_is_restarted_from_a_step_it_has_come_to() {
    let mut run = run_of(vec![inline("a"), inline("b"), inline("c")]);
    for _ in 0..2 {
        advance(&mut run, minute(0)).unwrap();
        record(&mut run, said("x"), minute(1)).unwrap();
    }
    let from = |step| {
        restart(
            &run.head,
            StepIndex(step),
            run_id(2),
            None,
            Arc::clone(&run.plan),
            minute(9),
        )
    };
    for step in 0..=2 {
        let again = from(step).unwrap();
        assert_eq!(again.head.current, StepIndex(step));
        assert_eq!(again.head.status, Status::Running);
        assert_eq!(
            again.head.initiated_by.as_deref(),
            Some("ada"),
            "nobody else asked"
        );
    }
    assert!(from(3).is_err(), "the plan has no such step");
    let first = run_of(vec![inline("a"), inline("b")]);
    let beyond = restart(
        &first.head,
        StepIndex(1),
        run_id(2),
        None,
        first.plan,
        minute(9),
    );
    assert!(beyond.is_err(), "what comes before step 1 does not exist");
}
