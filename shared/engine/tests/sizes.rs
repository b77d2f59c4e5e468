//! How large the records may grow.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde::Serialize;
use serde_json::json;
use towpath_engine::{
    Answer, Deaths, Effect, FailureKind, LossCause, Pin, Plan, Run, Status, StepIndex, StepSpec,
    StopMark, advance, answer, fail, kinds::gate, poll, start,
};

use crate::support::{
    approved, at, changes, done, exit, gate as a_gate, job, lost, new_run, proposed, run, run_id,
    subject,
};

/// The length of a record as JSON.
pub(crate) fn json_bytes<T: Serialize>(record: &T) -> usize {
    serde_json::to_string(record).unwrap().len()
}

/// 1 KB: one write unit.
pub(crate) const KB: usize = 1024;

/// Texts of many bytes: plain, of several bytes a character, and of characters that end at odd places.
const TEXTS: [&str; 4] = ["x", "ü", "語", "🦀é"];

fn spec(step: serde_json::Value) -> StepSpec {
    serde_json::from_value(step).unwrap()
}

/// A run whose ids and names are of this length, and whose numbers are large.
fn large(text: &str, name: usize) -> Run {
    let mut new = new_run(500);
    let id = "n".repeat(name);
    new.workspace = id.parse().unwrap();
    new.block = id.parse().unwrap();
    new.pipeline = Pin {
        id: id.parse().unwrap(),
        version: 999_999,
        name: text.repeat(5_000),
        steps: 500,
    };
    new.initiated_by = Some(text.repeat(5_000));
    let plan = Plan::new(vec![spec(job("coder")); 500]).unwrap();
    let mut run = start(new, Arc::new(plan), at(0)).unwrap();
    run.head.retried_from = Some(run_id(7));
    run.head.current = StepIndex(499);
    run.head.epoch = 999_999;
    run.head.calls = 999_999;
    run.head.generation = 999_999;
    run.head.rev = 999_999_999;
    run
}

const KINDS: [FailureKind; 10] = [
    FailureKind::Preflight,
    FailureKind::Dispatch,
    FailureKind::Evicted,
    FailureKind::Timeout,
    FailureKind::Agent,
    FailureKind::JobFailed,
    FailureKind::Rejected,
    FailureKind::CompanionRejected,
    FailureKind::Cancelled,
    FailureKind::Unknown,
];

#[test]
fn a_head_is_at_most_one_kilobyte_whatever_its_texts() {
    for (text, name, kind) in TEXTS
        .iter()
        .flat_map(|text| [1, 12, 32, 64].map(|name| (text, name)))
        .flat_map(|(text, name)| KINDS.map(|kind| (text, name, kind)))
    {
        let mut run = large(text, name);
        let long = text.repeat(5_000);
        run.head.stop = Some(StopMark::new(&long, Some(&long), at(1)));
        run.head.driver = Deaths {
            counted: 3,
            excused: 99,
        };
        let live = json_bytes(&run.head);
        assert!(live <= KB, "{live} bytes, live, with {text} and {name}");
        fail(&mut run, kind, &long, Some(&long), at(2));
        let over = json_bytes(&run.head);
        assert!(over <= KB, "{over} bytes, failed, with {text} and {name}");
    }
}

#[test]
fn what_is_cut_from_a_failure_leaves_enough_to_understand_it() {
    for text in TEXTS {
        let long = text.repeat(5_000);
        // With ordinary ids and names a few lines, and still something beside the longest.
        let mut ordinary = run(json!([job("coder")]));
        for (run, message, detail) in [(&mut ordinary, 237, 194), (&mut large(text, 64), 58, 20)] {
            fail(run, FailureKind::Agent, &long, Some(&long), at(1));
            let failure = run.head.failure.clone().unwrap();
            for (cut, least) in [
                (failure.message, message),
                (failure.detail.unwrap(), detail),
            ] {
                let kept = cut.strip_suffix('…').unwrap();
                assert!(long.starts_with(kept));
                assert!(
                    (least..=240).contains(&kept.len()),
                    "{} bytes of {text}",
                    kept.len()
                );
            }
        }
    }
    // Names and texts share one room: what the former take, the latter have not.
    for (name, message, detail) in [(1, 240, 119), (12, 197, 96), (24, 149, 72), (32, 117, 56)] {
        let mut run = large("x", name);
        let long = "x".repeat(5_000);
        fail(&mut run, FailureKind::Agent, &long, Some(&long), at(1));
        let failure = run.head.failure.unwrap();
        let cut = |bytes: usize| format!("{}…", "x".repeat(bytes));
        assert_eq!(failure.message, cut(message), "{name}");
        assert_eq!(failure.detail, Some(cut(detail)), "{name}");
    }
    let mut run = run(json!([job("coder")]));
    fail(
        &mut run,
        FailureKind::Agent,
        " exit code 3\n",
        Some(" "),
        at(1),
    );
    let failure = run.head.failure.unwrap();
    assert_eq!(
        (failure.message.as_str(), failure.detail),
        ("exit code 3", None)
    );
}

#[test]
fn every_class_of_failure_has_a_name_and_advice_of_its_own() {
    let mut hints = BTreeSet::new();
    for kind in KINDS {
        let mut run = run(json!([job("coder")]));
        fail(&mut run, kind, "x", None, at(1));
        let hint = run.head.failure.unwrap().hint;
        assert!(hint.len() > 30 && hint.len() < 110, "{hint}");
        hints.insert(hint);
    }
    assert_eq!(hints.len(), KINDS.len());
}

#[test]
fn a_steps_record_is_at_most_one_kilobyte_in_ordinary_use() {
    let mut gated = run(json!([a_gate(json!({}))]));
    advance(&mut gated, at(0)).unwrap();
    poll(&mut gated, exit(1, &"red\n".repeat(5_000)), at(1)).unwrap();
    poll(&mut gated, lost(LossCause::Reclaimed), at(2)).unwrap();
    let found = gate::state(&gated.step).unwrap().last_failure.unwrap();
    assert!((297..=303).contains(&found.len()), "{}", found.len());
    let mut revised = proposed();
    let feedback = "Name the error after what the user can do about it. ".repeat(4);
    let id = subject(&revised);
    answer(&mut revised, &id, &changes(&feedback), "ann", at(2)).unwrap();
    advance(&mut revised, at(3)).unwrap();
    for step in [gated.step, revised.step] {
        assert!(json_bytes(&step) <= KB, "{step:?}");
    }
}

#[test]
fn the_records_of_a_long_run_do_not_grow() {
    let plan = Plan::new(vec![spec(approved(job("coder"))); 500]).unwrap();
    let mut run = start(new_run(500), Arc::new(plan), at(0)).unwrap();
    let mut sizes = Vec::new();
    while run.head.status == Status::Running {
        assert!(sizes.len() < 500, "the run goes on and on");
        advance(&mut run, at(1)).unwrap();
        poll(&mut run, done("x"), at(1)).unwrap();
        let id = subject(&run);
        answer(
            &mut run,
            &id,
            &Answer::Approve { proposal: None },
            "ann",
            at(1),
        )
        .unwrap();
        let left: Vec<_> = std::mem::take(&mut run.effects)
            .into_iter()
            .filter_map(|effect| match effect {
                Effect::StepLeft(step) => Some(json_bytes(&step)),
                _ => None,
            })
            .collect();
        sizes.push((json_bytes(&run.head), left));
    }
    assert_eq!(run.head.current, StepIndex(499));
    let ((first, first_left), (last, last_left)) = (&sizes[100], &sizes[498]);
    assert_eq!(
        (first_left.len(), last_left.len()),
        (1, 1),
        "one step is left at a time"
    );
    // The counts have a digit more.
    assert!(
        last - first <= 2 && last_left[0] - first_left[0] <= 6,
        "{first} {last} {first_left:?} {last_left:?}"
    );
}
