//! What the simulated runtime answers.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests"
)]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use towpath_engine::{CheckedAnswer, FailureKind, JobId, Question, Simulated};
use towpath_jobs::testing::{Subject, contract};
use towpath_jobs::{CallResult, CommandWork, JobRequest, Runtime, Started, Work, call_result};
use towpath_jobs_simulated::SimulatedRuntime;

struct Script;

#[async_trait]
impl Subject for Script {
    fn runtime(&self) -> Arc<dyn Runtime> {
        Arc::new(SimulatedRuntime)
    }

    fn new_job(&self) -> JobId {
        format!("job_{}-0-1-main", ulid::Ulid::new())
            .parse()
            .unwrap()
    }

    fn answering(&self, output: &str) -> Work {
        Work::Simulated(says(output))
    }

    fn failing(&self) -> Work {
        Work::Simulated(Simulated {
            fails: Some("no idea".to_owned()),
            ..Simulated::default()
        })
    }

    fn foreign(&self) -> Work {
        Work::Command(CommandWork {
            command: vec!["true".to_owned()],
            env: BTreeMap::new(),
            secrets: Vec::new(),
            checkout: None,
            events: None,
            image: None,
            resources: None,
            executor: None,
        })
    }

    fn endless(&self) -> Option<Work> {
        None
    }

    fn begun(&self, job: &JobId) -> usize {
        panic!("nothing counts how often {job} was answered")
    }

    async fn ended(&self, job: &JobId) {
        panic!("{job} was accepted, not answered")
    }
}

fn says(output: &str) -> Simulated {
    Simulated {
        output: output.to_owned(),
        ..Simulated::default()
    }
}

fn asks(output: &str) -> Simulated {
    Simulated {
        asks: Some(Question {
            question: "Which?".to_owned(),
            options: vec!["left".to_owned(), "right".to_owned()],
            free_text: false,
        }),
        ..says(output)
    }
}

/// What a script comes to when these decisions stand in the contract.
async fn result(script: Simulated, decisions: serde_json::Value) -> CallResult {
    let request = JobRequest {
        job: Script.new_job(),
        workspace: "acme".parse().unwrap(),
        work: Work::Simulated(script),
        step: towpath_engine::StepIndex(0),
        attempt: 1,
        context: serde_json::json!({"decisions": decisions, "branch": "towpath/login"}),
        inputs: Vec::new(),
        artifacts: Vec::new(),
        max_run: Duration::from_secs(60),
        grace: Duration::from_secs(10),
    };
    match SimulatedRuntime.start(&request).await.unwrap() {
        Started::Answered(end) => call_result(*end).unwrap(),
        Started::Accepted => panic!("a simulated job is over at once"),
    }
}

async fn answer(script: Simulated, decisions: serde_json::Value) -> CheckedAnswer {
    match result(script, decisions).await {
        CallResult::Done(answer) => answer,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn it_upholds_the_contract_of_a_runtime() {
    for check in contract(&Script) {
        eprintln!("{}", check.name);
        check.run(&Script).await;
    }
}

#[tokio::test]
async fn its_output_is_taken_to_the_letter() {
    for output in ["done", "", "{\"output\": \"nested\"}", "two\nlines\n"] {
        let answer = answer(says(output), serde_json::json!([])).await;
        assert_eq!(
            (answer.output.as_str(), answer.decision.clone()),
            (output, None)
        );
    }
}

#[tokio::test]
async fn it_asks_until_a_decision_was_made() {
    let open = serde_json::json!([{"id": "d1", "question": "Which?", "options": []}]);
    for decisions in [serde_json::json!([]), open] {
        let answer = answer(asks("done"), decisions).await;
        assert_eq!(answer.decision.clone().unwrap().options, ["left", "right"]);
    }
    let made = serde_json::json!([
        {"id": "d1", "question": "Which?", "options": [], "chosen": "right"},
    ]);
    let decided = answer(asks("done"), made.clone()).await;
    assert_eq!(
        (decided.output.as_str(), decided.decision.clone()),
        ("done\n\nDecided: right", None)
    );
    assert_eq!(answer(asks(""), made).await.output, "Decided: right");
}

#[tokio::test]
async fn its_error_is_the_agents_failure_in_its_own_words() {
    let script = Simulated {
        fails: Some("no idea".to_owned()),
        ..asks("done")
    };
    match result(script, serde_json::json!([])).await {
        CallResult::Failed(failure) => assert_eq!(
            (failure.kind, failure.message.as_str()),
            (FailureKind::Agent, "no idea")
        ),
        other => panic!("{other:?}"),
    }
}
