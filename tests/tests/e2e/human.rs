//! Runs that wait for humans.

use serde_json::{Value, json};
use std::time::Duration;
use towpath_engine::{ApprovalStatus, Audit, AuditAction, BlockStatus, FailureKind, Status};
use towpath_store::Scope;
use towpath_tests::{World, ask};

use crate::{done, failure, world};

const DRAFT: &str = "
id: draft
steps:
  - { agentKind: writer, requiresApproval: true, runtime: { kind: simulated, output: A draft. } }
  - { agentKind: printer, runtime: { kind: simulated, output: Printed. } }
";

const COLOUR: &str = "
id: paint
steps:
  - agentKind: painter
    runtime: { kind: simulated, output: Painted., asks: { question: Which colour?, options: [red, blue] } }
  - { agentKind: printer, runtime: { kind: simulated, output: Printed. } }
";

/// A job that says what it was asked to change.
const REVISED: &str = r#"
id: revised
steps:
  - agentKind: writer
    requiresApproval: true
    runtime:
      kind: process
      command: [sh, -c, 'printf "%s|" "$TOWPATH_FEEDBACK"; cat "$TOWPATH_CONTEXT"']
  - { agentKind: printer, runtime: { kind: simulated, output: Printed. } }
"#;

fn line(audit: &Audit) -> (&str, AuditAction, &str, Option<&str>) {
    let reason = audit.reason.as_deref();
    (&audit.actor, audit.action, &audit.subject, reason)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_inline_step_is_approved_and_the_run_goes_on() {
    let world = world().await;
    let run = world.run(DRAFT).await;
    let subject = world.asked_soon(&run).await;
    assert_eq!(world.view(&run).await.summary.status, Status::Blocked);
    world.approve(&run, &subject).await;
    let view = world.end_soon(&run).await;
    done(&view);
    assert_eq!(world.output(&run, 0).await, "A draft.");
    assert_eq!(world.output(&run, 1).await, "Printed.");
    assert_eq!(
        line(&view.audit[0]),
        ("local", AuditAction::Approve, &subject[..], None)
    );
    world.quiet().await;
    world.standing.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_decision_takes_one_of_its_options_and_nothing_else() {
    let world = world().await;
    let run = world.run(COLOUR).await;
    let decision = world.asked_soon(&run).await;
    let before = world.view(&run).await;
    let no = world.decide(&run, &decision, "green").await;
    assert_eq!(
        no.no(),
        (422, "invalid_request".into(), Some("choice".into()))
    );
    assert!(
        no.problem().message.contains("red, blue"),
        "{}",
        no.problem().message
    );
    assert_eq!(world.view(&run).await, before);

    world.decide(&run, &decision, "blue").await.done();
    let view = world.over(&run).await;
    done(&view);
    assert_eq!(world.output(&run, 0).await, "Painted.\n\nDecided: blue");
    assert_eq!(view.steps[0].decisions[0].chosen.as_deref(), Some("blue"));
    assert_eq!(
        line(&view.audit[0]),
        ("local", AuditAction::Decide, &decision[..], Some("blue"))
    );
    world.standing.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_decision_that_allows_it_is_made_in_free_text() {
    let world = world().await;
    let run = world
        .run(&COLOUR.replace("options: [red, blue]", "options: [red], freeText: true"))
        .await;
    let decision = world.asked_soon(&run).await;
    world
        .decide(&run, &decision, "the colour of rain")
        .await
        .done();
    done(&world.over(&run).await);
    assert_eq!(
        world.output(&run, 0).await,
        "Painted.\n\nDecided: the colour of rain"
    );
    world.standing.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_edited_proposal_is_the_output_from_then_on() {
    let world = world().await;
    let run = world.run(DRAFT).await;
    let subject = world.asked_soon(&run).await;
    let edited = json!({ "proposal": "A better draft." });
    world.say(&run, &subject, "approve", &edited).await.done();
    let view = world.over(&run).await;
    done(&view);
    assert_eq!(world.output(&run, 0).await, "A better draft.");
    let first = format!("/runs/{run}/steps/0/output?number=2");
    let first: Value = world.client.get(&first).await.unwrap();
    assert_eq!(first["text"], "A draft.", "what was proposed is kept");
    world.standing.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn requested_changes_reach_the_job_and_what_it_makes_of_them_is_approved_anew() {
    let world = world().await;
    let run = world.run(REVISED).await;
    let first = world.asked_soon(&run).await;
    let ask = json!({ "feedback": "shorter", "comments": [{ "body": "no jokes", "quotedSource": "ha" }] });
    world
        .say(&run, &first, "request-changes", &ask)
        .await
        .done();
    let second = world.asked_soon(&run).await;
    assert_ne!(first, second, "another result is another question");
    let late = world.say(&run, &first, "approve", &json!({})).await;
    assert_eq!(late.no().1, "already_answered");
    world.approve(&run, &second).await;
    let view = world.over(&run).await;
    done(&view);

    let made = world.output(&run, 0).await;
    let (feedback, context) = made.split_once('|').unwrap();
    assert_eq!(feedback, "shorter");
    let context: Value = serde_json::from_str(context).unwrap();
    let revision = &context["revision"];
    assert_eq!(
        (&revision["feedback"], &revision["comments"][0]["body"]),
        (&json!("shorter"), &json!("no jokes"))
    );
    // The job was told where the result that was sent back is, and there it is.
    let previous: Value = world
        .client
        .get(revision["previous"].as_str().unwrap())
        .await
        .unwrap();
    assert!(previous["text"].as_str().unwrap().starts_with("|{"));
    let approval = view.steps[0].approval.clone().unwrap();
    assert_eq!(
        (approval.id, approval.status),
        (second, ApprovalStatus::Approved)
    );
    assert_eq!(view.steps[0].attempt, 2);
    world.standing.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rejected_result_ends_the_run_and_blocks_the_block() {
    let world = world().await;
    let run = world.run(DRAFT).await;
    let subject = world.asked_soon(&run).await;
    let why = json!({ "reason": "off topic" });
    world.say(&run, &subject, "reject", &why).await.done();
    let view = world.over(&run).await;
    let (kind, message) = failure(&view);
    assert_eq!(kind, FailureKind::Rejected);
    assert!(message.contains("off topic"), "{message}");
    let block: towpath_engine::Block = world.client.get("/blocks/draft").await.unwrap();
    assert_eq!(block.status, BlockStatus::Blocked);
    assert_eq!(
        line(&view.audit[0]),
        (
            "local",
            AuditAction::Reject,
            &subject[..],
            Some("off topic")
        )
    );
    world.standing.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_given_twice_is_one_answer_and_another_is_refused() {
    let world = world().await;
    let erin = world.client_of("local", "erin", Scope::Decide).await;
    let run = world.run(DRAFT).await;
    let subject = world.asked_soon(&run).await;
    let path = |verb: &str| format!("/runs/{run}/approvals/{subject}/{verb}");
    let say = async |verb: &str, body: Value| {
        let body = body.to_string().into();
        ask(&erin, http::Method::POST, &path(verb), &[], body).await
    };

    let unasked = world.say(&run, "apr-9", "approve", &json!({})).await;
    assert_eq!(unasked.no(), (409, "not_waiting".into(), None));
    let unfit = world.decide(&run, &subject, "yes").await;
    assert_eq!(unfit.no(), (422, "invalid_request".into(), None));
    let nothing = json!({});
    let empty = world.say(&run, &subject, "request-changes", &nothing);
    let field = Some("feedback".into());
    assert_eq!(empty.await.no(), (422, "invalid_request".into(), field));

    let first = say("approve", json!({})).await;
    assert_eq!((first.status, &first.body["actor"]), (200, &json!("erin")));
    for _ in 0..2 {
        assert_eq!(say("approve", json!({})).await, first, "while it goes on");
    }
    done(&world.end_soon(&run).await);
    assert_eq!(say("approve", json!({})).await, first, "once it is over");
    for (verb, body) in [
        ("reject", json!({})),
        ("approve", json!({ "proposal": "mine" })),
        ("request-changes", json!({ "feedback": "no" })),
    ] {
        let other = say(verb, body).await;
        assert_eq!(other.no(), (409, "already_answered".into(), None), "{verb}");
        assert!(other.problem().message.contains("erin"), "{other:?}");
    }
    assert_eq!(
        world.audit(&run).await.len(),
        1,
        "what was refused is no answer"
    );
    world.quiet().await;
    world.standing.stop().await;
}

/// The time at which the waiting driver entered its state.
async fn entered(world: &World, run: &towpath_engine::RunId) -> u64 {
    let wait = world.standing.operator.store.wait(run).await.unwrap();
    wait.unwrap().fence.map_or(0, |fence| fence.entered.0)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_human_may_take_days_and_each_day_costs_next_to_nothing() {
    let world = world().await;
    let run = world.run(DRAFT).await;
    let subject = world.asked_soon(&run).await;
    let before = world.standing.cloud.counts().transitions;
    for _ in 0..5 {
        let parked = entered(&world, &run).await;
        world.pass(Duration::from_secs(24 * 3600)).await;
        // The driver's own timeout: it enters its state again, and waits on.
        let again = async || entered(&world, &run).await != parked;
        world.when(Duration::from_millis(1), again).await;
        assert_eq!(world.asked_soon(&run).await, subject);
    }
    let spent = world.standing.cloud.counts().transitions - before;
    assert!(
        (5..=15).contains(&spent),
        "{spent} transitions in five days"
    );
    world.approve(&run, &subject).await;
    done(&world.end_soon(&run).await);
    assert_eq!(
        world.drivers(&run).await,
        ["SUCCEEDED"],
        "one driver all the time"
    );
    world.standing.stop().await;
}
