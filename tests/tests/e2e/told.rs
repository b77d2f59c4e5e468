//! What a job is told: its contract, earlier results, findings, secrets.

use http::Method;
use serde_json::{Value, json};
use towpath_engine::FailureKind;
use towpath_tests::World;

use crate::{done, failure, world};

/// Lists what a command was given to read.
const LIST: &str =
    r#"cd "$TOWPATH_INPUTS"; for file in $(ls); do echo "$file: $(head -c 60 "$file")"; done"#;

/// A pipeline whose last step lists what it was given.
fn listing(before: &str) -> String {
    let command = serde_json::to_string(&["sh", "-c", LIST]).unwrap();
    format!(
        "{{ id: told, steps: [{before}, {{ agentKind: lister, runtime: {{ kind: process, command: {command} }} }}] }}"
    )
}

/// The files that a step says it was given, without its contract.
async fn listed(world: &World, run: &towpath_engine::RunId, step: u16) -> Vec<String> {
    let text = world.output(run, step).await;
    let files = text
        .lines()
        .filter(|line| !line.starts_with("context.json"));
    files.map(str::to_owned).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_reads_the_last_results_as_files() {
    let world = world().await;
    let step = |output: usize| {
        format!("{{ agentKind: writer, runtime: {{ kind: simulated, output: written {output} }} }}")
    };
    let steps: Vec<String> = (0..14).map(step).collect();
    let run = world.run(&listing(&steps.join(","))).await;
    done(&world.end_soon(&run).await);
    let expected: Vec<String> = (2..14)
        .map(|step| format!("output-{step}.txt: written {step}"))
        .collect();
    let mut found = listed(&world, &run, 14).await;
    found.sort_by_key(|line| line.len());
    assert_eq!(found, expected, "the last dozen");

    // A run that goes on from there is given what the other made.
    let again = json!({ "fromStep": 14 });
    let again = world
        .post(&format!("/runs/{run}/restart"), &again)
        .await
        .run();
    done(&world.end_soon(&again).await);
    assert_eq!(listed(&world, &again, 14).await.len(), 12);
    world.quiet().await;
    world.standing.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_reads_a_result_that_no_row_holds_and_none_that_is_too_large() {
    let world = world().await;
    let prints = |kib: usize| {
        let text = format!(
            "head -c {} /dev/zero | tr '\\0' x > $TOWPATH_OUTPUT",
            kib * 1024
        );
        let command = serde_json::to_string(&["sh", "-c", &text]).unwrap();
        format!("{{ agentKind: writer, runtime: {{ kind: process, command: {command} }} }}")
    };
    let before = [prints(3 * 1024), prints(2 * 1024), prints(300)].join(",");
    let run = world.run(&listing(&before)).await;
    done(&world.end_soon(&run).await);
    let found = listed(&world, &run, 3).await;
    let names: Vec<_> = found
        .iter()
        .filter_map(|line| line.split_once(": x"))
        .collect();
    let names: Vec<_> = names.iter().map(|(name, _)| *name).collect();
    assert_eq!(
        names,
        ["output-1.txt", "output-2.txt"],
        "whole or not at all"
    );
    world.quiet().await;
    world.standing.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_makes_it_again_reads_what_it_was_before_and_the_block_as_it_is_now() {
    let world = world().await;
    let command =
        serde_json::to_string(&["sh", "-c", &format!("{LIST}; cat context.json")]).unwrap();
    let yaml = format!(
        "{{ id: told, steps: [{{ agentKind: writer, requiresApproval: true, runtime: {{ kind: process, command: {command} }} }}] }}"
    );
    let run = world.run(&yaml).await;
    let subject = world.asked_soon(&run).await;
    let edited = json!({ "proposal": "the proposal, edited" });
    let block = json!({ "title": "A better title" });
    world.ask(Method::PUT, "/blocks/told", &block).await.done();
    let wish = json!({ "feedback": "shorter" });
    world
        .say(&run, &subject, "request-changes", &wish)
        .await
        .done();
    let subject = world.asked_soon(&run).await;
    let text = world.output(&run, 0).await;
    let previous = text.lines().find(|line| line.starts_with("previous.txt: "));
    assert!(previous.unwrap().contains("context.json: {"), "{text}");
    let context: Value = serde_json::from_str(text.lines().last().unwrap()).unwrap();
    assert_eq!(context["objective"]["title"], "A better title");
    assert_eq!(context["revision"]["file"], "previous.txt");
    world.say(&run, &subject, "approve", &edited).await.done();
    done(&world.end_soon(&run).await);
    world.quiet().await;
    world.standing.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_helper_reads_all_that_the_probe_printed() {
    let world = world().await;
    let dir = tempfile::tempdir().unwrap();
    let (told, green) = (dir.path().join("told"), dir.path().join("green"));
    let probe = format!(
        "test -e {} || {{ seq 1 30000; echo broken >&2; exit 1; }}",
        green.display()
    );
    let helper = format!(
        "cp $TOWPATH_INPUTS/findings.txt {}; touch {}",
        told.display(),
        green.display()
    );
    let words = |script: &str| serde_json::to_string(&["sh", "-c", script]).unwrap();
    let yaml = format!(
        "{{ id: gate, steps: [{{ agentKind: ci, gate: {{ probe: {{ kind: command, command: {} }},
            helper: {{ agentKind: fixer, runtime: {{ kind: process, command: {} }} }} }} }}] }}",
        words(&probe),
        words(&helper)
    );
    let run = world.run(&yaml).await;
    done(&world.end_soon(&run).await);
    let told = std::fs::read_to_string(told).unwrap();
    let numbers = told.lines().filter(|line| line.parse::<u32>().is_ok());
    assert_eq!(numbers.count(), 30_000);
    assert!(told.contains("broken\n"));
    world.quiet().await;
    world.standing.stop().await;
}

const SECRETIVE: &str = r#"
id: secretive
steps:
  - agentKind: user
    runtime:
      kind: process
      env: { TOKEN: { secret: token }, PLAIN: plain }
      command: [sh, -c, 'echo "$PLAIN and $TOKEN"; printf %s "$TOKEN" | wc -c >&2; test -n "$FAIL" && exit 1; echo "got $TOKEN" > $TOWPATH_OUTPUT']
"#;

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_reaches_the_command_that_names_it_and_nothing_that_is_kept() {
    const VALUE: &str = "swordfish-4711";
    let world = world().await;
    world.put(SECRETIVE).await;
    world.block("secretive").await;
    let start = json!({ "blockId": "secretive", "pipelineId": "secretive" });
    let no = world.post("/runs", &start).await;
    assert_eq!(
        no.no(),
        (422, "invalid_request".into(), Some("pipelineId".into()))
    );
    let problem = no.problem();
    assert_eq!(problem.errors[0].path, "steps[0].runtime.env.TOKEN");

    let secret = json!({ "value": VALUE });
    let kept = world
        .ask(Method::PUT, "/secrets/token", &secret)
        .await
        .done();
    assert_eq!(kept.get("value"), None);
    let list = world
        .ask(Method::GET, "/secrets", &Value::Null)
        .await
        .done();
    assert_eq!(
        (&list["items"][0]["name"], list.to_string().contains(VALUE)),
        (&"token".into(), false)
    );
    let run = world.post("/runs", &start).await.run();
    done(&world.end_soon(&run).await);
    assert_eq!(world.output(&run, 0).await.trim(), "got ***");
    let log = world
        .ask(
            Method::GET,
            &format!("/runs/{run}/steps/0/log"),
            &Value::Null,
        )
        .await
        .done();
    assert_eq!(log["parts"][0]["text"], "plain and ***\n");
    assert_eq!(log["parts"][1]["text"], format!("{}\n", VALUE.len()));

    // Neither the record nor the job's folder has the value.
    let store = &world.standing.operator.store;
    let (workspace, name) = ("local".parse().unwrap(), "token".parse().unwrap());
    let sealed = store.secret(&workspace, &name).await.unwrap().unwrap();
    assert!(!serde_json::to_string(&sealed).unwrap().contains(VALUE));
    let kept = files(&world.standing.jobs);
    assert!(
        kept.iter().any(|file| file.ends_with("stdout.log")),
        "{kept:?}"
    );
    for file in kept {
        let bytes = std::fs::read(&file).unwrap_or_default();
        let found = bytes
            .windows(VALUE.len())
            .any(|window| window == VALUE.as_bytes());
        assert!(!found, "{} has the secret", file.display());
    }
    world.quiet().await;
    world.standing.stop().await;
}

/// Every file under a folder.
fn files(dir: &std::path::Path) -> Vec<std::path::PathBuf> {
    let entries = std::fs::read_dir(dir).unwrap().filter_map(Result::ok);
    let of = |entry: std::fs::DirEntry| match entry.file_type() {
        Ok(kind) if kind.is_dir() => files(&entry.path()),
        Ok(kind) if kind.is_file() => vec![entry.path()],
        _ => Vec::new(),
    };
    entries.flat_map(of).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_that_is_deleted_meanwhile_fails_the_step_that_needs_it() {
    let world = world().await;
    let secret = json!({ "value": "swordfish-4711" });
    world
        .ask(Method::PUT, "/secrets/token", &secret)
        .await
        .done();
    let steps = SECRETIVE.replace(
        "steps:\n",
        "steps:\n  - { agentKind: first, requiresApproval: true, runtime: { kind: simulated } }\n",
    );
    let run = world.run(&steps).await;
    let subject = world.asked_soon(&run).await;
    let deleted = world
        .ask(Method::DELETE, "/secrets/token", &Value::Null)
        .await;
    assert_eq!(deleted.status, 204);
    let again = world
        .ask(Method::DELETE, "/secrets/token", &Value::Null)
        .await;
    assert_eq!(again.status, 404);
    world.approve(&run, &subject).await;
    let (kind, message) = failure(&world.end_soon(&run).await);
    assert_eq!(kind, FailureKind::Dispatch);
    assert!(message.contains("there is no secret `token`"), "{message}");
    for (name, value, field) in [
        ("token", "short", "value"),
        ("token", "a\0bcdefgh", "value"),
        ("To ken", "swordfish", "name"),
    ] {
        let path = format!("/secrets/{}", name.replace(' ', "%20"));
        let no = world
            .ask(Method::PUT, &path, &json!({ "value": value }))
            .await;
        assert_eq!(
            no.no(),
            (422, "invalid_request".into(), Some(field.into())),
            "{value:?}"
        );
    }
    world.quiet().await;
    world.standing.stop().await;
}
