//! What an agent may answer, and what becomes of it.

use serde_json::json;
use towpath_engine::{
    AgentAnswer, Artifact, BlockChange, CheckedAnswer, Effect, FailureKind, Outcome, PullRequest,
    Question, Run, Status, advance, answer, poll,
};

use crate::support::{answered, asks, at, calling, done, failure, job, run, subject};

fn asking(question: usize, options: &[usize]) -> AgentAnswer {
    let mut answer = asks(&[]);
    answer.decision = Some(Question {
        question: "q".repeat(question),
        options: options.iter().map(|bytes| "o".repeat(*bytes)).collect(),
        free_text: false,
    });
    answer
}

fn requesting(url: usize, branch: usize) -> AgentAnswer {
    AgentAnswer {
        pull_request: Some(PullRequest {
            url: "u".repeat(url),
            number: None,
            branch: Some("b".repeat(branch)),
        }),
        ..AgentAnswer::default()
    }
}

fn model(bytes: usize) -> AgentAnswer {
    AgentAnswer {
        model: Some("m".repeat(bytes)),
        ..AgentAnswer::default()
    }
}

#[test]
fn each_part_of_an_answer_has_a_limit() {
    for (fits, exceeds, told) in [
        (
            asking(4096, &[]),
            asking(4097, &[]),
            "the answer's question is 4097 bytes long; at most 4096 are allowed",
        ),
        (
            asking(1, &[1, 256]),
            asking(1, &[1, 257]),
            "the answer's option is 257 bytes long; at most 256 are allowed",
        ),
        (
            asking(1, &[1; 20]),
            asking(1, &[1; 21]),
            "the answer's question has 21 options; at most 20 are allowed",
        ),
        (
            requesting(4096, 0),
            requesting(4097, 0),
            "the answer's pull request's URL is 4097 bytes long; at most 4096 are allowed",
        ),
        (
            requesting(1, 256),
            requesting(1, 257),
            "the answer's pull request's branch is 257 bytes long; at most 256 are allowed",
        ),
        (
            model(256),
            model(257),
            "the answer's model is 257 bytes long; at most 256 are allowed",
        ),
    ] {
        assert_eq!(*fits.clone().checked().unwrap(), fits);
        assert_eq!(exceeds.checked().unwrap_err(), told);
    }
    let output = AgentAnswer {
        output: "x".repeat(1 << 20),
        ..AgentAnswer::default()
    };
    assert!(output.checked().is_ok(), "an output is stored apart");
}

#[test]
fn a_confidence_is_a_number_from_0_to_1() {
    for (given, kept) in [
        (f64::NAN, None),
        (f64::INFINITY, Some(1.0)),
        (f64::NEG_INFINITY, Some(0.0)),
        (-1.0, Some(0.0)),
        (1e-300, Some(0.0)),
        (1e-6, Some(1e-6)),
        (0.25, Some(0.25)),
        (1.0, Some(1.0)),
        (7.0, Some(1.0)),
    ] {
        let answer = AgentAnswer {
            confidence: Some(given),
            ..AgentAnswer::default()
        };
        assert_eq!(answer.checked().unwrap().confidence, kept, "{given}");
    }
}

#[test]
fn an_answer_of_an_unknown_form_is_refused_and_not_guessed_at() {
    let error = serde_json::from_value::<AgentAnswer>(json!({"outptu": "x"})).unwrap_err();
    assert!(error.to_string().contains("outptu"), "{error}");
    let answer: AgentAnswer = serde_json::from_value(json!({"output": "x"})).unwrap();
    assert_eq!(*CheckedAnswer::of_output("x"), answer);
    assert_eq!(
        serde_json::to_value(answer).unwrap(),
        json!({"output": "x"})
    );
}

fn begun() -> Run {
    let mut run = run(json!([job("coder"), job("writer")]));
    advance(&mut run, at(0)).unwrap();
    run
}

#[test]
fn what_an_agent_says_of_its_work_reaches_the_step_and_the_block() {
    let mut run = begun();
    let request = PullRequest {
        url: "https://example.org/pr/7".to_owned(),
        number: Some(7),
        branch: None,
    };
    let said = AgentAnswer {
        output: "made".to_owned(),
        pull_request: Some(request.clone()),
        confidence: Some(0.75),
        model: Some("m".to_owned()),
        ..AgentAnswer::default()
    };
    poll(&mut run, answered(said), at(1)).unwrap();
    let wanted = [
        BlockChange::PullRequest(request),
        BlockChange::Confidence(0.75),
    ];
    for change in wanted {
        assert!(run.effects.contains(&Effect::Block(change)));
    }
    let Some(Effect::StepLeft(left)) = run.effects.last() else {
        panic!("{:?}", run.effects)
    };
    assert_eq!(left.model.as_deref(), Some("m"));
    assert_eq!(
        (left.started_at, left.finished_at),
        (Some(at(0)), Some(at(1)))
    );
    let Some(Effect::Output(output)) = run.effects.first() else {
        panic!("{:?}", run.effects)
    };
    assert_eq!((output.step.0, output.text.as_str()), (0, "made"));
    assert_eq!(left.output.as_ref().unwrap().number, output.number);
    assert_eq!(left.output.as_ref().unwrap().bytes, 4);
}

#[test]
fn a_question_is_no_result_and_its_answer_runs_the_step_again() {
    let mut run = begun();
    poll(&mut run, answered(asks(&["red", "blue"])), at(1)).unwrap();
    assert_eq!(
        (run.head.status, run.step.paused_at),
        (Status::Blocked, Some(at(1)))
    );
    assert!(run.effects.is_empty(), "{:?}", run.effects);
    let (first, id) = (run.step.attempt, subject(&run));
    let choice = towpath_engine::Answer::Choice("red".to_owned());
    let outcome = answer(&mut run, &id, &choice, "ann", at(9)).unwrap();
    assert!(matches!(outcome, Outcome::AwaitingJob { .. }));
    assert_eq!(run.step.decisions[0].chosen.as_deref(), Some("red"));
    assert_eq!((run.step.attempt, run.step.paused_at), (first + 1, None));
    assert_eq!(
        run.step.call().unwrap().deadline,
        at(9 + 70),
        "a round of its own"
    );
    assert_eq!(run.step.started_at, Some(at(0)));
}

#[test]
fn an_agent_that_offers_nothing_is_answered_in_words() {
    for (options, free_text) in [(&[][..], false), (&["red"][..], true)] {
        let mut run = begun();
        let mut said = asks(options);
        said.decision.as_mut().unwrap().free_text = free_text;
        poll(&mut run, answered(said), at(1)).unwrap();
        let id = subject(&run);
        let words = towpath_engine::Answer::Choice("like the sea".to_owned());
        answer(&mut run, &id, &words, "ann", at(2)).unwrap();
        calling(&run);
    }
}

#[test]
fn a_step_asks_at_most_twenty_questions() {
    let mut run = begun();
    for n in 1..=20 {
        poll(&mut run, answered(asks(&["red"])), at(1)).unwrap();
        assert_eq!(run.step.decisions.len(), n);
        let id = subject(&run);
        let choice = towpath_engine::Answer::Choice("red".to_owned());
        answer(&mut run, &id, &choice, "ann", at(1)).unwrap();
    }
    let outcome = poll(&mut run, answered(asks(&["red"])), at(1)).unwrap();
    let told = "the agent asked more than 20 questions".to_owned();
    assert_eq!(failure(&run), (FailureKind::Agent, told.clone()));
    let failed = Outcome::JobFailed {
        kind: FailureKind::Agent,
        error: told,
    };
    assert_eq!(outcome, failed);
}

#[test]
fn a_model_that_is_named_once_is_kept() {
    let mut run = run(json!([job("coder")]));
    advance(&mut run, at(0)).unwrap();
    run.step.model = Some("m".to_owned());
    poll(&mut run, done("x"), at(1)).unwrap();
    assert_eq!(run.step.model.as_deref(), Some("m"));
}

fn artifact(name: &str) -> Artifact {
    Artifact {
        name: name.to_owned(),
        bytes: 3,
        sha256: "ab".repeat(32),
        job: "job_01ARZ3NDEKTSV4RRFFQ69G5FAV-1".parse().unwrap(),
    }
}

#[test]
fn the_artifacts_of_an_answer_are_those_that_were_kept() {
    let said = AgentAnswer {
        artifacts: vec!["a.txt".to_owned()],
        ..AgentAnswer::default()
    };
    let error = said.clone().checked().unwrap_err();
    assert!(error.contains("\"a.txt\" was not kept"), "{error}");
    let kept = vec![artifact("a.txt")];
    let answer = said.clone().checked_with(kept.clone()).unwrap();
    assert_eq!(answer.kept(), kept);
    let outside = vec![artifact("a.txt"), artifact("../b.txt")];
    assert!(said.clone().checked_with(outside).is_err());
    let unhashed = vec![Artifact {
        sha256: "../..".to_owned(),
        ..artifact("a.txt")
    }];
    assert!(said.clone().checked_with(unhashed).is_err());
    let large = vec![Artifact {
        bytes: Artifact::BYTES_MAX + 1,
        ..artifact("a.txt")
    }];
    assert!(said.clone().checked_with(large).is_err());
    let many = vec![artifact("a.txt"); Artifact::COUNT_MAX + 1];
    assert!(said.checked_with(many).is_err());
}
