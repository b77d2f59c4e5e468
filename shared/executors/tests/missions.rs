//! Missions: which events they take in which state, and who gets them.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use towpath_executors::{
    Candidate, EventType, ExecutorFilter, ExecutorId, MissionState, Operation, Selected, select,
};

/// What becomes of a state by an event; `-` for one that is not taken.
fn outcome(state: MissionState, event: EventType, resumable: bool) -> &'static str {
    state
        .after(event, resumable)
        .map_or("-", MissionState::as_str)
}

/// The table of what an executor may say when, of a mission that it can keep over a restart.
#[test]
fn a_mission_takes_these_events_in_these_states() {
    use EventType::{
        MissionAborted, MissionAssigned, MissionCompleted, MissionFailed, MissionHitlRequired,
        MissionHitlResponded, MissionPaused, MissionProgress, MissionReconnected, MissionResumed,
        MissionStarted, MissionSuspended,
    };
    let columns = [
        "queued",
        "assigned",
        "running",
        "paused",
        "hitl-required",
        "suspended",
    ];
    let table = [
        (
            MissionAssigned,
            [
                "assigned",
                "assigned",
                "running",
                "paused",
                "hitl-required",
                "suspended",
            ],
        ),
        (
            MissionStarted,
            ["-", "running", "running", "paused", "hitl-required", "-"],
        ),
        (
            MissionProgress,
            ["-", "running", "running", "paused", "hitl-required", "-"],
        ),
        (
            MissionHitlRequired,
            [
                "-",
                "hitl-required",
                "hitl-required",
                "-",
                "hitl-required",
                "-",
            ],
        ),
        (MissionHitlResponded, ["-", "-", "-", "-", "running", "-"]),
        (MissionPaused, ["-", "paused", "paused", "paused", "-", "-"]),
        (
            MissionResumed,
            ["-", "-", "running", "running", "-", "running"],
        ),
        (
            MissionSuspended,
            [
                "-",
                "suspended",
                "suspended",
                "suspended",
                "suspended",
                "suspended",
            ],
        ),
        (
            MissionReconnected,
            ["-", "-", "running", "-", "-", "running"],
        ),
        (MissionCompleted, ["done"; 6]),
        (MissionFailed, ["failed"; 6]),
        (MissionAborted, ["aborted"; 6]),
    ];
    for (event, outcomes) in table {
        for (at, expected) in outcomes.into_iter().enumerate() {
            let state = MissionState::ALL[at];
            assert_eq!(state.as_str(), columns[at]);
            let found = outcome(state, event, true);
            assert_eq!(found, expected, "{state} and {}", event.as_str());
        }
    }
    let of_missions = EventType::ALL.iter().filter(|it| it.is_of_mission());
    assert_eq!(of_missions.count(), table.len());
}

#[test]
fn what_comes_after_the_end_changes_nothing() {
    for state in MissionState::ALL.into_iter().filter(|it| it.is_terminal()) {
        for event in EventType::ALL.into_iter().filter(|it| it.is_of_mission()) {
            assert_eq!(state.after(event, true), Ok(state));
        }
        for operation in [Operation::Pause, Operation::Resume, Operation::Abort] {
            assert!(state.allows(operation).is_err(), "{state}: {operation:?}");
        }
    }
}

#[test]
fn only_an_executor_that_is_resumable_lays_a_mission_down() {
    let refused = MissionState::Running.after(EventType::MissionSuspended, false);
    let error = refused.unwrap_err().to_string();
    assert_eq!(
        error,
        "a mission that is running does not take mission.suspended"
    );
}

#[test]
fn whoever_hears_events_twice_is_where_it_was() {
    for state in MissionState::ALL {
        for event in EventType::ALL.into_iter().filter(|it| it.is_of_mission()) {
            if let Ok(after) = state.after(event, true) {
                // An answer is the one thing that a second hearing cannot mean: there is no question left.
                if event != EventType::MissionHitlResponded {
                    assert_eq!(
                        after.after(event, true),
                        Ok(after),
                        "{state} {}",
                        event.as_str()
                    );
                }
            }
        }
    }
}

fn executor(number: u8) -> ExecutorId {
    format!("00000000-0000-0000-0000-0000000000{number:02}")
        .parse()
        .unwrap()
}

fn candidate(number: u8, capabilities: &[&str], missions: u32) -> Candidate {
    let capabilities = capabilities.iter().map(|it| it.parse().unwrap());
    Candidate {
        id: executor(number),
        capabilities: capabilities.collect(),
        reachable: true,
        missions,
        most: None,
    }
}

fn wanted(capabilities: &[&str]) -> ExecutorFilter {
    let capabilities = capabilities.iter().map(|it| it.parse().unwrap());
    ExecutorFilter {
        capabilities: capabilities.collect(),
        ..ExecutorFilter::default()
    }
}

fn chosen(candidates: &[Candidate], wanted: &ExecutorFilter) -> Selected {
    select(candidates, wanted, false).unwrap()
}

#[test]
fn a_sandbox_goes_before_a_host_and_that_before_nobody_knows() {
    let unknown = candidate(1, &["hitl"], 0);
    let custom = candidate(2, &["isolation:jail"], 0);
    let host = candidate(3, &["isolation:host"], 5);
    let both = candidate(4, &["isolation:none", "isolation:microvm"], 9);
    let all = [unknown, custom, host, both];
    let first = chosen(&all, &wanted(&[]));
    assert_eq!(
        (first.id, &*first.selection.reason),
        (executor(4), "it is sandboxed; it has 9 missions")
    );
    let reasons: Vec<_> = first
        .selection
        .rejected
        .iter()
        .map(|it| &*it.reason)
        .collect();
    assert_eq!(reasons, ["another is better isolated"; 3]);
    assert_eq!(chosen(&all[..3], &wanted(&[])).id, executor(3));
    assert_eq!(chosen(&all[..2], &wanted(&[])).id, executor(1));
}

#[test]
fn among_equals_the_one_with_the_fewest_missions_and_always_the_same() {
    let mut all = vec![
        candidate(3, &[], 2),
        candidate(2, &[], 1),
        candidate(1, &[], 1),
    ];
    for _ in 0..all.len() {
        assert_eq!(chosen(&all, &wanted(&[])).id, executor(1));
        all.rotate_left(1);
    }
    let full = Candidate {
        most: Some(1),
        ..candidate(1, &[], 1)
    };
    let other = chosen(&[full, candidate(2, &[], 7)], &wanted(&[]));
    assert_eq!(other.id, executor(2));
    assert_eq!(
        other.selection.rejected[0].reason,
        "it has 1 missions, the most it takes"
    );
}

#[test]
fn whoever_does_not_fit_is_told_why() {
    let away = Candidate {
        reachable: false,
        ..candidate(1, &["hitl"], 0)
    };
    let all = [away, candidate(2, &[], 0), candidate(3, &["hitl"], 0)];
    let pinned = ExecutorFilter {
        executor_id: Some(executor(9)),
        ..ExecutorFilter::default()
    };
    let nobody = select(&all, &pinned, false).unwrap_err();
    assert!(!nobody.only_resumable_missing);
    assert!(
        nobody
            .rejected
            .iter()
            .all(|it| it.reason == "the mission is for another executor")
    );
    let nobody = select(&all, &wanted(&["hitl", "x-gpu:a100"]), false).unwrap_err();
    let reasons: Vec<_> = nobody.rejected.iter().map(|it| &*it.reason).collect();
    assert_eq!(
        reasons,
        [
            "it lacks x-gpu:a100",
            "it lacks hitl, x-gpu:a100",
            "it lacks x-gpu:a100"
        ]
    );
    let nobody = select(&all, &wanted(&["hitl"]), true).unwrap_err();
    let reasons: Vec<_> = nobody.rejected.iter().map(|it| &*it.reason).collect();
    assert!(nobody.only_resumable_missing);
    let expected = [
        "it is not connected",
        "it lacks hitl",
        "it is not resumable, and the mission is long_running",
    ];
    assert_eq!(reasons, expected);
}
