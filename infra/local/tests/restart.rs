//! With a data directory, a cloud goes on after it ended, however it ended.
#![allow(clippy::unwrap_used)] // Clippy does not see that the helpers are tests, too.

mod support;

use std::fs;
use std::path::Path;

use aws_sdk_dynamodb::types::AttributeValue;
use serde_json::json;
use support::{SMALL, dynamodb, functions, options, real_template, states};
use towpath_local::{Cloud, Error};

async fn start(template: &Path, data: &Path) -> Result<Cloud, Error> {
    let mut options = options(template, functions([]));
    options.data = Some(data.to_owned());
    Cloud::start(options).await
}

#[tokio::test]
async fn tables_keys_and_executions_are_still_there() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let cloud = start(&real_template(), &data).await.unwrap();
    let (table, machine) = (
        cloud.output("RunsTable").unwrap(),
        cloud.output("StateMachineArn").unwrap(),
    );
    let environment = cloud.aws_environment("operator");
    let text = |text: &str| AttributeValue::S(text.to_owned());
    let put = dynamodb(&environment)
        .put_item()
        .table_name(&table)
        .item("pk", text("a"))
        .item("sk", text("b"));
    put.send().await.unwrap();
    let started = states(&environment)
        .start_execution()
        .state_machine_arn(&machine)
        .name("e");
    let execution = started
        .input(json!({"run": "r", "generation": 1}).to_string())
        .send()
        .await
        .unwrap()
        .execution_arn;
    let first_key = cloud.secret("FirstKey");
    drop(cloud); // as a kill does

    let cloud = start(&real_template(), &data).await.unwrap();
    assert_eq!(
        environment["AWS_ACCESS_KEY_ID"],
        cloud.aws_environment("operator")["AWS_ACCESS_KEY_ID"]
    );
    assert!(first_key.is_some() && first_key == cloud.secret("FirstKey"));
    let environment = cloud.aws_environment("operator");
    let get = dynamodb(&environment)
        .get_item()
        .table_name(&table)
        .key("pk", text("a"))
        .key("sk", text("b"));
    assert!(get.send().await.unwrap().item().is_some());
    let described = states(&environment)
        .describe_execution()
        .execution_arn(execution)
        .send()
        .await
        .unwrap();
    assert_eq!(described.name(), Some("e"));
    cloud.shutdown().await;
    start(&real_template(), &data).await.unwrap();
}

#[tokio::test]
async fn two_clouds_do_not_share_a_directory() {
    let folder = tempfile::tempdir().unwrap();
    let (template, data) = (
        folder.path().join("template.yaml"),
        folder.path().join("data"),
    );
    std::fs::write(&template, SMALL).unwrap();
    let first = start(&template, &data).await.unwrap();
    let refused = start(&template, &data).await.err().unwrap();
    assert!(matches!(refused, Error::Locked(_)), "{refused}");
    first.shutdown().await;
    start(&template, &data).await.unwrap();
}

#[cfg(unix)]
fn mode(path: &Path) -> u32 {
    use std::os::unix::fs::PermissionsExt;
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[cfg(unix)]
#[tokio::test]
async fn nobody_else_can_read_it() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let _cloud = start(&real_template(), &data).await.unwrap();
    assert_eq!(mode(&data), 0o700);
    let entries: Vec<_> = fs::read_dir(&data).unwrap().map(Result::unwrap).collect();
    for name in [
        "secrets.json",
        "access-key-secret",
        "tables.db",
        "executions.db",
    ] {
        assert!(
            entries.iter().any(|entry| entry.file_name() == name),
            "{name}"
        );
    }
    for entry in entries {
        let mode = mode(&entry.path());
        assert_eq!(mode & 0o077, 0, "{:?} has mode {mode:o}", entry.path());
    }
}

#[cfg(unix)]
#[tokio::test]
async fn an_empty_folder_is_taken_and_keeps_its_mode() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let cloud = start(&real_template(), folder.path()).await.unwrap();
    assert_eq!(mode(folder.path()), 0o755);
    cloud.shutdown().await;
    start(&real_template(), folder.path()).await.unwrap();
    assert_eq!(mode(folder.path()), 0o755);
}

#[tokio::test]
async fn a_folder_with_other_things_in_it_is_refused_and_stays_as_it_was() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("letter"), "dear").unwrap();
    let refused = start(&real_template(), folder.path()).await.err().unwrap();
    assert!(matches!(refused, Error::Foreign(_)), "{refused}");
    let message = refused.to_string();
    assert!(
        message.contains("choose a folder that is empty"),
        "{message}"
    );
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
}

#[tokio::test]
async fn the_folder_of_a_release_without_the_marker_is_taken() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let cloud = start(&real_template(), &data).await.unwrap();
    cloud.shutdown().await;
    fs::remove_file(data.join("local-cloud")).unwrap();
    start(&real_template(), &data).await.unwrap();
}

#[tokio::test]
async fn secrets_are_written_whole_or_not_at_all() {
    let folder = tempfile::tempdir().unwrap();
    let (template, data) = (
        folder.path().join("template.yaml"),
        folder.path().join("data"),
    );
    let secret = |name: &str| {
        let how = "{ PasswordLength: 32, ExcludePunctuation: true }";
        format!(
            "  {name}: {{ Type: AWS::SecretsManager::Secret, Properties: {{ GenerateSecretString: {how} }} }}\n"
        )
    };
    let with = |secrets: &str| SMALL.replacen("  Api: {", &format!("{secrets}  Api: {{"), 1);
    fs::write(&template, with(&secret("One"))).unwrap();
    let cloud = start(&template, &data).await.unwrap();
    let one = cloud.secret("One");
    cloud.shutdown().await;

    // Whoever reads the file while it is written anew reads all of the old one.
    let (kept, before) = (data.join("secrets.json"), data.join("before"));
    fs::hard_link(&kept, &before).unwrap();
    let old = fs::read_to_string(&kept).unwrap();
    fs::write(&template, with(&(secret("One") + &secret("Two")))).unwrap();
    let cloud = start(&template, &data).await.unwrap();
    assert_eq!(cloud.secret("One"), one);
    assert!(cloud.secret("Two").is_some());
    assert_eq!(fs::read_to_string(&before).unwrap(), old);
    assert_ne!(fs::read_to_string(&kept).unwrap(), old);
    cloud.shutdown().await;

    // And one that cannot be read is not silently replaced.
    fs::write(&kept, "{\"One\": \"half").unwrap();
    let refused = start(&template, &data).await.err().unwrap().to_string();
    assert!(
        refused.contains("secrets.json") && refused.contains("restore it"),
        "{refused}"
    );
    assert!(!refused.contains("half"), "{refused}");
}

#[tokio::test]
async fn what_outlives_a_cloud_changes_nothing_any_more() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let cloud = start(&real_template(), &data).await.unwrap();
    let client = dynamodb(&cloud.aws_environment("AdvanceFunction"));
    let put = |key: &str| {
        let text = |text: &str| AttributeValue::S(text.to_owned());
        let put = client.put_item().table_name("towpath-RunsTable");
        put.item("pk", text(key)).item("sk", text("x")).send()
    };
    put("before").await.unwrap();
    drop(cloud);
    // The connection is still open.
    assert!(put("after").await.is_err());
    let cloud = start(&real_template(), &data).await.unwrap();
    let operator = dynamodb(&cloud.aws_environment("operator"));
    let all = operator
        .scan()
        .table_name("towpath-RunsTable")
        .send()
        .await
        .unwrap();
    assert_eq!(all.count(), 1);
}
