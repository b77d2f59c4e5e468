//! With a data directory, a cloud goes on after it ended, however it ended.

mod support;

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
#[tokio::test]
async fn nobody_else_can_read_it() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let _cloud = start(&real_template(), &data).await.unwrap();
    assert_eq!(
        std::fs::metadata(&data).unwrap().permissions().mode() & 0o777,
        0o700
    );
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
