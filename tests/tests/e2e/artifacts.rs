//! Files that agents leave besides their outputs: kept, downloaded, handed on, whatever runs the jobs.

use http::Method;
use serde_json::{Value, json};
use towpath_engine::FailureKind;
use towpath_tests::Worlds;

use crate::{done, failure, worlds};

/// A step that runs a shell script.
fn step(script: &str) -> Value {
    json!({ "agentKind": "coder", "runtime": { "kind": "command", "command": ["sh", "-c", script] } })
}

/// A pipeline of such steps, as a document.
fn pipeline(scripts: &[&str]) -> String {
    let steps: Vec<Value> = scripts.iter().map(|script| step(script)).collect();
    json!({ "id": "artifacts", "steps": steps }).to_string()
}

async fn files_are_kept_downloaded_and_handed_on(worlds: Worlds) {
    let world = worlds.start().await;
    let make = r#"
        mkdir -p dist/deep
        head -c 5000000 /dev/zero | tr '\0' '\377' > dist/deep/large.bin
        printf '<script>alert(1)</script>' > report.html
        : > empty
        echo '{"output": "made", "artifacts": ["dist/deep/large.bin", "report.html", "empty"]}' > "$TOWPATH_OUTPUT"
    "#;
    let idle = "echo nothing";
    let read = r#"
        cd "$TOWPATH_INPUTS"
        wc -c < artifacts/0/dist/deep/large.bin
        cat artifacts/0/report.html
        test -e artifacts/0/empty && ls artifacts
    "#;
    let run = world.run(&pipeline(&[make, idle, read])).await;
    let view = world.end_soon(&run).await;
    done(&view);
    assert_eq!(world.output(&run, 0).await, "made");
    let read = world.output(&run, 2).await;
    assert_eq!(read, "5000000\n<script>alert(1)</script>0\n");

    let left = &view.steps[0].output.as_ref().unwrap().artifacts;
    let names: Vec<_> = left
        .iter()
        .map(|link| (&*link.artifact.name, link.artifact.bytes))
        .collect();
    let expected = [
        ("dist/deep/large.bin", 5_000_000),
        ("report.html", 25),
        ("empty", 0),
    ];
    assert_eq!(names, expected);
    assert_eq!(
        world.client.artifact(&left[0]).await.unwrap(),
        vec![0xff; 5_000_000]
    );
    assert_eq!(
        world.client.artifact(&left[1]).await.unwrap(),
        &b"<script>alert(1)</script>"[..]
    );
    assert_eq!(world.client.artifact(&left[2]).await.unwrap(), "");

    let missing = format!("/runs/{run}/steps/0/artifacts/other.html");
    let (status, _) = world
        .client
        .raw(Method::GET, &missing, &[], Vec::new())
        .await
        .unwrap();
    assert_eq!(status, 404);
    world.quiet().await;
    world.standing.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn files_of_processes_are_kept_downloaded_and_handed_on() {
    files_are_kept_downloaded_and_handed_on(worlds()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn files_of_builds_are_kept_downloaded_and_handed_on() {
    files_are_kept_downloaded_and_handed_on(worlds().on_builds()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_edited_proposal_keeps_the_files_of_its_agent() {
    let world = worlds().start().await;
    let make =
        r#"echo x > a.txt; echo '{"output": "draft", "artifacts": ["a.txt"]}' > "$TOWPATH_OUTPUT""#;
    let mut first = step(make);
    first["requiresApproval"] = true.into();
    let read = step(r#"cat "$TOWPATH_INPUTS/artifacts/0/a.txt" "$TOWPATH_INPUTS/output-0.txt""#);
    let pipeline = json!({ "id": "artifacts", "steps": [first, read] }).to_string();
    let run = world.run(&pipeline).await;
    let subject = world.asked_soon(&run).await;
    let path = format!("/runs/{run}/approvals/{subject}/approve");
    let _: Value = world
        .client
        .post(&path, &json!({ "proposal": "mine" }))
        .await
        .unwrap();
    let view = world.end_soon(&run).await;
    done(&view);
    assert_eq!(world.output(&run, 1).await, "x\nmine");
    world.standing.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_file_of_the_work_directory_is_refused() {
    let world = worlds().start().await;
    std::fs::write(world.standing.jobs.join("outside"), "not yours").unwrap();
    let cases = [
        ("true", "gone.txt", "is not in the work directory"),
        ("mkdir dir", "dir", "is not a file"),
        ("ln -s ../../outside link", "link", "is behind a link"),
        ("ln -s ../.. up", "up/outside", "is behind a link"),
        ("mkfifo pipe", "pipe", "is not a file"),
        ("true", "../../outside", "is not named by a path below"),
        ("true", "/etc/passwd", "is not named by a path below"),
        (
            "head -c 33554433 /dev/zero > large",
            "large",
            "larger than 32 MiB",
        ),
    ];
    for (prepare, name, why) in cases {
        let script = format!(
            "{prepare}; echo '{{\"output\": \"\", \"artifacts\": [\"{name}\"]}}' > \"$TOWPATH_OUTPUT\""
        );
        let run = world.run(&pipeline(&[&script])).await;
        let (kind, message) = failure(&world.end_soon(&run).await);
        assert_eq!(kind, FailureKind::Agent, "{name}: {message}");
        assert!(message.contains(why), "{name}: {message}");
    }
    let names: Vec<String> = (0..17).map(|n| format!("\"f{n}\"")).collect();
    let script = format!(
        "echo '{{\"output\": \"\", \"artifacts\": [{}]}}' > \"$TOWPATH_OUTPUT\"",
        names.join(",")
    );
    let run = world.run(&pipeline(&[&script])).await;
    let (_, message) = failure(&world.end_soon(&run).await);
    assert!(message.contains("at most 16"), "{message}");
    world.standing.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_holds_a_secret_is_not_kept() {
    let world = worlds().start().await;
    let value = json!({ "value": "hunter22-hunter22" });
    world
        .ask(Method::PUT, "/secrets/token", &value)
        .await
        .done();
    let script = r#"printf 'x%sx' "$TOKEN" > a.bin; echo '{"output": "", "artifacts": ["a.bin"]}' > "$TOWPATH_OUTPUT""#;
    let mut leaks = step(script);
    leaks["runtime"]["env"] = json!({ "TOKEN": { "secret": "token" } });
    let pipeline = json!({ "id": "artifacts", "steps": [leaks] }).to_string();
    let run = world.run(&pipeline).await;
    let (kind, message) = failure(&world.end_soon(&run).await);
    assert_eq!(kind, FailureKind::Agent);
    assert!(message.contains("holds the value of a secret"), "{message}");
    world.standing.stop().await;
}
