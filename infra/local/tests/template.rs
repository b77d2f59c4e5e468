//! What the template says is what there is; what it says wrongly is named.

mod support;

use serde_json::{Value, json};
use support::{SMALL, answering, cloud_of, dynamodb, functions, options, real_template};
use towpath_local::Cloud;

#[tokio::test]
async fn the_real_template_stands_up() {
    let cloud = Cloud::start(options(&real_template(), functions([])))
        .await
        .unwrap();
    assert_eq!(cloud.output("ApiUrl").as_deref(), Some(cloud.url()));
    let client = dynamodb(&cloud.aws_environment("operator"));
    let mut tables = client
        .list_tables()
        .send()
        .await
        .unwrap()
        .table_names()
        .to_vec();
    tables.sort();
    assert_eq!(
        tables,
        [
            cloud.output("ExecutorsTable").unwrap(),
            cloud.output("RunsTable").unwrap()
        ]
    );
    let runs = client
        .describe_table()
        .table_name(cloud.output("RunsTable").unwrap())
        .send()
        .await
        .unwrap();
    let mut indexes: Vec<_> = runs
        .table()
        .unwrap()
        .global_secondary_indexes()
        .iter()
        .filter_map(|index| index.index_name())
        .collect();
    indexes.sort_unstable();
    assert_eq!(indexes, ["due", "listing", "live"]);
    assert_eq!(
        cloud.output("StateMachineArn").as_deref(),
        Some("arn:aws:states:us-east-1:000000000000:stateMachine:towpath-run")
    );
    cloud.shutdown().await;
}

#[tokio::test]
async fn the_real_template_spreads_the_shards_over_its_schedules() {
    let (tick, mut told) = support::telling();
    let cloud = Cloud::start(options(
        &real_template(),
        functions([("TickFunction", tick)]),
    ))
    .await
    .unwrap();
    cloud.fire_schedules().await;
    let mut shards: Vec<u64> = Vec::new();
    while let Ok(event) = told.try_recv() {
        shards.extend(
            event["shards"]
                .as_array()
                .unwrap()
                .iter()
                .filter_map(Value::as_u64),
        );
    }
    shards.sort_unstable();
    assert_eq!(shards, (0..16).collect::<Vec<_>>());
}

#[tokio::test]
async fn the_real_template_hears_of_its_own_tasks_and_of_no_others() {
    let (poll_job, mut told) = support::telling();
    let cloud = Cloud::start(options(
        &real_template(),
        functions([("PollJobFunction", poll_job)]),
    ))
    .await
    .unwrap();
    let change = |job: &str, family: &str, status: &str| {
        json!({
            "source": "aws.ecs",
            "detail-type": "ECS Task State Change",
            "detail": {
                "taskArn": "arn:aws:ecs:us-east-1:000000000000:task/jobs/1",
                "startedBy": job,
                "group": format!("family:{family}"),
                "lastStatus": status,
            },
        })
    };
    for event in [
        change("another", "somebody-elses", "STOPPED"),
        change("running", "towpath-job-1", "RUNNING"),
        change("ours", "towpath-job-1", "STOPPED"),
    ] {
        cloud.put_event(event).await;
    }
    let heard = told.recv().await.unwrap();
    assert_eq!(heard["detail"]["startedBy"], "ours");
    assert!(told.try_recv().is_err());
    cloud.shutdown().await;
}

#[tokio::test]
async fn what_is_not_understood_is_named() {
    for (right, wrong, named) in [
        (
            "Timeout: 1\n",
            "Tiemout: 1\n",
            "Resources.Second.Properties.Tiemout",
        ),
        ("!Ref Table", "!Ref Tabel", "Tabel"),
        (
            "rate(1 minute)",
            "cron(0 * * * ? *)",
            "Resources.Second.Properties.Events.Minute",
        ),
        (
            "prefix: ship",
            "cidr: 10.0.0.0/8",
            "Resources.Second.Properties.Events.Shipped.Pattern",
        ),
        (
            "AWS::Serverless::HttpApi",
            "AWS::Serverless::GraphQLApi",
            "AWS::Serverless::GraphQLApi",
        ),
        (
            "Effect: Allow",
            "Effect: Maybe",
            "Resources.First.Properties.Policies[0].Statement[0].Effect",
        ),
        (
            "!GetAtt Api.ApiEndpoint",
            "!GetAtt Api.Speed",
            "Outputs.Url.Value",
        ),
        (
            "{ TABLE: !Ref Table }",
            "{ ECS_CLUSTER: jobs }",
            "the local cloud has no ECS",
        ),
        (
            "{ TABLE: !Ref Table }",
            "{ FLY_APP: jobs }",
            "Environment.Variables.FLY_APP",
        ),
        ("Type: ScheduleV2", "Type: Kafka", "Kafka"),
        ("Resources:\n", "Resources: [\n", "cannot be read"),
    ] {
        assert!(SMALL.contains(right), "{right}");
        let error = cloud_of(&SMALL.replacen(right, wrong, 1), functions([]))
            .await
            .err();
        let message = error.map_or("no error".to_owned(), |error| error.to_string());
        assert!(message.contains(named), "{wrong}: {message}");
    }
}

#[tokio::test]
async fn a_function_the_template_does_not_have_is_named() {
    let stray = answering(Ok);
    let error = cloud_of(SMALL, functions([("Frist", stray)]))
        .await
        .err()
        .unwrap()
        .to_string();
    assert!(error.contains("Frist"), "{error}");
}

#[tokio::test]
async fn a_parameter_has_the_value_that_is_given_or_its_default() {
    let given = |name: &str, value: &str| {
        let mut options = options(&real_template(), functions([]));
        let parameter = (name.to_owned(), value.to_owned());
        options.parameters.extend([parameter]);
        Cloud::start(options)
    };
    let models = |cloud: &Cloud| {
        let statements = cloud.statements();
        let mut sids = statements.into_iter().filter_map(|statement| statement.sid);
        sids.any(|sid| sid == "ModelAnswers")
    };
    let cloud = given("ModelBase", "https://gateway.example.com/v1").await;
    let cloud = cloud.unwrap();
    assert!(models(&cloud), "the condition goes by the value");
    cloud.shutdown().await;
    let cloud = given("LogLevel", "debug").await.unwrap();
    assert!(!models(&cloud), "the others have their defaults");
    cloud.shutdown().await;
    let unknown = given("Modelbase", "x").await.err().unwrap().to_string();
    assert!(unknown.contains("Parameters.Modelbase"), "{unknown}");
}
