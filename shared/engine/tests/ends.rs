//! How runs end, what stays of them, and what their blocks become.

use serde_json::json;
use towpath_engine::{
    Block, BlockChange, BlockStatus, Effect, Ended, FailureKind, Level, Outcome, Run, Status,
    StopMark, advance, fail, poll, start, stop,
};

use crate::support::{asked, at, done, exit, failure, gate, job, new_run, plan_of, proposed, run};

/// A run in each of the states that a live run can be in.
fn live_runs() -> Vec<Run> {
    let gated = || {
        let mut run = run(json!([gate(json!({}))]));
        advance(&mut run, at(0)).unwrap();
        run
    };
    let (mut helping, mut resting) = (gated(), gated());
    poll(&mut helping, exit(1, "red"), at(1)).unwrap();
    poll(&mut resting, exit(75, ""), at(1)).unwrap();
    let mut calling = run(json!([job("coder")]));
    advance(&mut calling, at(0)).unwrap();
    let mut paused = calling.clone();
    paused.head.status = Status::Paused;
    let pending = run(json!([job("coder")]));
    let mut runs = vec![
        pending,
        calling,
        gated(),
        helping,
        resting,
        asked(),
        proposed(),
        paused,
    ];
    runs.iter_mut().for_each(|run| run.effects.clear());
    runs
}

#[test]
fn a_stop_ends_a_run_whatever_it_is_at_and_leaves_no_job_behind() {
    for mut run in live_runs() {
        let live: Vec<_> = run.step.live_jobs().map(Effect::Reap).collect();
        let mark = StopMark::new("ann", Some("not needed"), at(9));
        assert_eq!(stop(&mut run, &mark, at(9)), Outcome::Noop);
        assert_eq!(
            (run.head.status, run.head.finished_at),
            (Status::Failed, Some(at(9)))
        );
        assert_eq!(
            failure(&run),
            (FailureKind::Cancelled, "not needed".to_owned())
        );
        let reaped = run
            .effects
            .iter()
            .filter(|effect| matches!(effect, Effect::Reap(_)));
        assert_eq!(reaped.cloned().collect::<Vec<_>>(), live);
        let over = run.clone();
        stop(&mut run, &StopMark::new("ben", None, at(10)), at(10));
        fail(&mut run, FailureKind::Agent, "late", None, at(10));
        assert_eq!(run, over, "the first failure wins");
    }
}

#[test]
fn a_stop_says_who_why_and_of_what() {
    let mut run = run(json!([job("coder")]));
    stop(&mut run, &StopMark::new("ann", Some(" \n"), at(1)), at(2));
    assert_eq!(failure(&run).1, "stopped on request");
    let Some(Effect::Audit(audit)) = run.effects.first() else {
        panic!("{:?}", run.effects)
    };
    assert_eq!((audit.at, audit.actor.as_str()), (at(1), "ann"));
    assert_eq!(
        (&audit.subject, &audit.reason),
        (&run.head.id.to_string(), &None)
    );
    let long = StopMark::new(&"a".repeat(99), Some(&"r".repeat(999)), at(1));
    assert_eq!(long.actor, format!("{}…", "a".repeat(48)));
    assert_eq!(long.reason.unwrap(), format!("{}…", "r".repeat(120)));
}

#[test]
fn a_run_that_is_done_cannot_fail_any_more() {
    let mut run = run(json!([job("coder")]));
    advance(&mut run, at(0)).unwrap();
    assert_eq!(poll(&mut run, done("x"), at(1)), Ok(Outcome::Done));
    assert_eq!(
        (run.head.status, run.head.finished_at),
        (Status::Done, Some(at(1)))
    );
    assert!(
        run.effects
            .contains(&Effect::Block(BlockChange::Ended(Ended::Done)))
    );
    let over = run.clone();
    assert_eq!(
        fail(&mut run, FailureKind::Unknown, "late", None, at(2)),
        Outcome::Noop
    );
    assert_eq!(
        stop(&mut run, &StopMark::new("ann", None, at(2)), at(2)),
        Outcome::Noop
    );
    assert_eq!(run, over);
}

#[test]
fn a_failure_says_what_happened_and_when() {
    let mut run = run(json!([job("coder")]));
    advance(&mut run, at(0)).unwrap();
    let outcome = poll(&mut run, exit(3, "last words"), at(5)).unwrap();
    let told = "the command ended with exit code 3".to_owned();
    let failed = Outcome::JobFailed {
        kind: FailureKind::JobFailed,
        error: told.clone(),
    };
    assert_eq!(outcome, failed);
    assert_eq!(failure(&run), (FailureKind::JobFailed, told));
    assert_eq!(run.head.failure.unwrap().occurred_at, at(5));
}

#[test]
fn names_are_cut_to_what_a_head_can_carry() {
    let mut new = new_run(1);
    new.pipeline.name = "ü".repeat(48);
    new.initiated_by = Some(" somebody ".to_owned());
    let run = start(
        new,
        plan_of(json!([job("coder")]), towpath_engine::kinds::BUILT_IN),
        at(3),
    );
    let head = run.unwrap().head;
    assert_eq!(head.pipeline.name, format!("{}…", "ü".repeat(24)));
    assert_eq!(head.initiated_by.as_deref(), Some("somebody"));
    assert_eq!((head.created_at, head.generation, head.rev), (at(3), 1, 0));
}

#[test]
fn a_block_becomes_what_its_run_made_of_it() {
    use BlockStatus::{Blocked, Done, InProgress, Planned, PrReady};
    let block = |level, status| {
        let block = json!({"id": "b", "workspace": "w", "title": "B"});
        let mut block: Block = serde_json::from_value(block).unwrap();
        assert_eq!((block.level, block.status), (Level::Task, Planned));
        (block.level, block.status) = (level, status);
        block
    };
    for (level, status, ended, after) in [
        (Level::Task, InProgress, Ended::Done, PrReady),
        (Level::Task, InProgress, Ended::Failed, Blocked),
        (Level::Task, PrReady, Ended::Failed, Blocked),
        (Level::Frame, InProgress, Ended::Done, Done),
        (Level::Module, InProgress, Ended::Done, Done),
        (Level::Module, InProgress, Ended::Failed, Blocked),
        // What is merged stays merged.
        (Level::Task, Done, Ended::Done, Done),
        (Level::Task, Done, Ended::Failed, Done),
        (Level::Frame, Done, Ended::Failed, Done),
    ] {
        let became = block(level, status).after(ended);
        assert_eq!(became, after, "{level:?} {status:?} {ended:?}");
    }
    let mut named = block(Level::Task, Planned);
    assert_eq!(named.branch(), "towpath/b");
    let repository = json!({"url": "https://example.org/r.git", "branch": "mend"});
    named.repository = Some(serde_json::from_value(repository).unwrap());
    assert_eq!(named.branch(), "mend");
}
