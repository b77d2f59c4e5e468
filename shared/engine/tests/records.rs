//! What is kept of a run, how large that may be, and how it reads.

use std::sync::Arc;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use towpath_engine::*;

use crate::support::*;

/// 1 KB is one write unit.
const KB: usize = 1024;

/// What DynamoDB counts for a record: names and texts by their bytes, two digits of a number in one byte and one for the
/// number, three for each map or list and one for each of its entries.
pub(crate) fn stored_bytes<T: Serialize>(record: &T) -> usize {
    fn value(of: &Value) -> usize {
        match of {
            Value::Null | Value::Bool(_) => 1,
            Value::Number(number) => number.to_string().len().div_ceil(2) + 1,
            Value::String(text) => text.len(),
            Value::Array(items) => 3 + items.iter().map(|item| 1 + value(item)).sum::<usize>(),
            Value::Object(map) => {
                3 + map
                    .iter()
                    .map(|(name, of)| 1 + name.len() + value(of))
                    .sum::<usize>()
            }
        }
    }
    match serde_json::to_value(record).unwrap() {
        Value::Object(map) => map.iter().map(|(name, of)| name.len() + value(of)).sum(),
        other => panic!("a record is a map: {other}"),
    }
}

/// The keys that a head is stored under: its own, and those of its listing in the workspace.
pub(crate) fn head_bytes(head: &Head) -> usize {
    let id = head.id.as_str().len();
    let own = "pk".len() + id + "sk".len() + "HEAD".len();
    let listing =
        "listing".len() + head.workspace.as_str().len() + "#run".len() + "listedAt".len() + id;
    own + listing + stored_bytes(head)
}

fn reads_back<T: Serialize + DeserializeOwned + PartialEq + std::fmt::Debug>(record: &T) {
    let read: T = serde_json::from_str(&serde_json::to_string(record).unwrap()).unwrap();
    assert_eq!(&read, record);
}

/// Texts of many bytes: plain, of several bytes a character, and of characters that end at odd places.
const TEXTS: [&str; 4] = ["x", "ü", "語", "🦀é"];

/// A run whose every id and name is as large as it may be, and then larger.
fn largest(text: &str) -> Run {
    let name = "n".repeat(64);
    let new = NewRun {
        id: run_id(u64::MAX),
        workspace: name.parse().unwrap(),
        block: name.parse().unwrap(),
        pipeline: Pin {
            id: name.parse().unwrap(),
            version: 999_999,
            name: text.repeat(5_000),
            steps: 500,
        },
        initiated_by: Some(text.repeat(5_000)),
    };
    let plan = Arc::new(Plan::new(vec![job(&name); 500]).unwrap());
    let mut run = start(new, plan, minute(0)).unwrap();
    run.head.retried_from = Some(run_id(7));
    run.head.current = StepIndex(499);
    run.step.index = StepIndex(499);
    run.head.epoch = 999_999;
    run.head.generation = 999_999;
    run.head.deaths = 2;
    run.head.rev = 999_999_999;
    run
}

#[test]
fn a_head_is_at_most_one_kilobyte_with_the_largest_ids_and_messages() {
    for text in TEXTS {
        for kind in [
            FailureKind::Dispatch,
            FailureKind::CompanionRejected,
            FailureKind::Timeout,
        ] {
            let mut run = largest(text);
            assert!(
                head_bytes(&run.head) < KB - 200,
                "and a live one is far from it"
            );
            let long = text.repeat(100_000);
            fail(&mut run, kind, &long, Some(&long), minute(1));
            let bytes = head_bytes(&run.head);
            assert!(bytes <= KB, "{bytes} bytes with {text}, {kind:?}");
            reads_back(&run.head);
        }
    }
}

#[test]
fn what_is_cut_from_a_message_leaves_enough_to_understand_it() {
    for text in TEXTS {
        // Even beside the largest ids,
        let mut run = largest(text);
        let long = text.repeat(1_000);
        fail(&mut run, FailureKind::Agent, &long, Some(&long), minute(1));
        let failure = run.head.failure.unwrap();
        let detail = failure.detail.unwrap();
        for cut in [&failure.message, &detail] {
            let kept = cut.strip_suffix('…').unwrap();
            assert!(long.starts_with(kept));
            assert!(kept.len() >= 45, "{} bytes of {text}", kept.len());
        }
        // and with ordinary ones a few lines of each.
        let mut run = begun(vec![job("coder")]);
        fail(&mut run, FailureKind::Agent, &long, Some(&long), minute(1));
        let failure = run.head.failure.unwrap();
        assert!(failure.message.len() >= 237 && failure.detail.unwrap().len() >= 197);
    }
    let mut run = begun(vec![job("coder")]);
    fail(
        &mut run,
        FailureKind::Agent,
        " exit code 3\n",
        Some(""),
        minute(1),
    );
    let failure = run.head.failure.unwrap();
    assert_eq!(
        (failure.message.as_str(), failure.detail),
        ("exit code 3", None)
    );
}

#[test]
fn a_steps_record_is_at_most_one_kilobyte_in_ordinary_use() {
    let mut run = begun(vec![
        approved(helped("post-release-health", 10)),
        inline("next"),
    ]);
    poll_gate(&mut run, red(), minute(1)).unwrap();
    poll_job(&mut run, evicted(true), minute(2)).unwrap();
    poll_job(&mut run, JobAnswer::Done(said("")), minute(3)).unwrap();
    poll_gate(&mut run, GateAnswer::Passed("green".to_owned()), minute(4)).unwrap();
    let gate = stored_bytes(&run.step);

    let mut run = begun(vec![approved(job("coder")), inline("next")]);
    poll_job(
        &mut run,
        JobAnswer::Done(asks(&["Keep the old API", "Break it"])),
        minute(1),
    )
    .unwrap();
    ada(&mut run, &Reply::Choice("Break it".to_owned()), minute(2)).unwrap();
    advance(&mut run, minute(3)).unwrap();
    poll_job(&mut run, JobAnswer::Done(said("draft")), minute(4)).unwrap();
    let feedback = "Name the error after what the user can do about it. ".repeat(4);
    ada(&mut run, &changes(&feedback), minute(5)).unwrap();
    advance(&mut run, minute(6)).unwrap();
    let revised = stored_bytes(&run.step);
    assert!(gate <= KB && revised <= KB, "{gate} {revised}");
}

#[test]
fn the_records_of_a_long_run_do_not_grow() {
    let mut run = run_of(vec![inline("a"); 500]);
    let mut sizes = Vec::new();
    for _ in 0..499 {
        advance(&mut run, minute(1)).unwrap();
        record(&mut run, said("x"), minute(1)).unwrap();
        let left = commit(&mut run).left;
        assert_eq!(
            left.len(),
            1,
            "one step is written, however many came before"
        );
        sizes.push((stored_bytes(&run.head), stored_bytes(&left[0])));
    }
    let (first, last) = (sizes[3], sizes[498]);
    assert!(
        last.0 - first.0 <= 1 && last.1 - first.1 <= 1,
        "{first:?} {last:?}: only the index has more digits"
    );
}

#[test]
fn a_gates_finding_is_cut_too() {
    for text in TEXTS {
        let mut run = begun(vec![helped("ci", 3)]);
        let answer = GateAnswer::Failed {
            summary: text.repeat(100_000),
            failing: Vec::new(),
        };
        poll_gate(&mut run, answer, minute(1)).unwrap();
        assert!(
            run.step
                .gate
                .as_ref()
                .unwrap()
                .last_failure
                .as_ref()
                .unwrap()
                .len()
                <= 303
        );
        assert!(stored_bytes(&run.step) <= KB);
    }
}

#[test]
fn a_record_reads_back_as_it_was_written() {
    let mut helping = begun(vec![helped("ci", 3)]);
    poll_gate(&mut helping, red(), minute(1)).unwrap();
    poll_job(&mut helping, evicted(true), minute(2)).unwrap();
    poll_job(
        &mut helping,
        JobAnswer::Unreadable("?".to_owned()),
        minute(3),
    )
    .unwrap();
    let mut revised = proposed();
    ada(&mut revised, &changes("more"), minute(6)).unwrap();
    let mut rejected = proposed();
    ada(&mut rejected, &reject(), minute(6)).unwrap();
    for run in [
        run_of(vec![inline("a")]),
        begun(vec![inline("a")]),
        helping,
        asked(),
        proposed(),
        revised,
        rejected,
    ] {
        reads_back(&run.head);
        reads_back(&run.step);
        reads_back(&*run.plan);
    }
}

#[test]
fn what_a_step_does_not_have_takes_no_room() {
    let step = serde_json::to_value(&run_of(vec![inline("a")]).step).unwrap();
    let names = step.as_object().unwrap().keys().map(String::as_str);
    // Whether a map keeps its order is for others to say.
    let names: std::collections::BTreeSet<_> = names.collect();
    assert_eq!(
        names.into_iter().collect::<Vec<_>>(),
        ["activity", "agentKind", "attempt", "epoch", "index"]
    );
}

#[test]
fn a_record_of_this_release_is_marked_with_its_form() {
    let head = serde_json::to_value(&run_of(vec![inline("a")]).head).unwrap();
    assert_eq!(head["v"], SCHEMA);
}
