//! The runtime `ecs` against a server that speaks as ECS does, on good days and on bad ones.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that cannot go on has failed"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::future::pending;
use std::sync::{Arc, Mutex};

use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};
use towpath_aws::{Clients, Settings as Aws};
use towpath_engine::JobId;
use towpath_jobs::StartError;
use towpath_jobs_ecs::{Settings, Tasks};
use towpath_jobs_remote::{Cause, Order, Over, Seen, Substrate};

/// How one call goes that does not go well.
enum Bad {
    /// It is refused with this error, and nothing is done.
    Error(u16, Value),
    /// It is done, and the reply is this error of the server.
    LostReply,
    /// It is done, and there is never a reply.
    Silence,
    /// It answers this, and nothing is done.
    Answer(Value),
}

#[derive(Default)]
struct Ecs {
    families: BTreeSet<String>,
    registered: Vec<Value>,
    /// The tasks by token: what was asked for, and the task.
    tasks: BTreeMap<String, (Value, Value)>,
    stopped: Vec<Value>,
    /// How the next calls of an operation go. After these, all go well.
    bad: Vec<(&'static str, Bad)>,
}

type Shared = Arc<Mutex<Ecs>>;

impl Ecs {
    fn call(&mut self, operation: &str, request: &Value) -> (u16, Value) {
        let text = |name: &str| request[name].as_str().unwrap().to_owned();
        match operation {
            "DescribeTaskDefinition" => match self.families.contains(&text("taskDefinition")) {
                true => (200, json!({ "taskDefinition": { "status": "ACTIVE" } })),
                false => error("ClientException", "Unable to describe task definition."),
            },
            "RegisterTaskDefinition" => {
                self.families.insert(text("family"));
                self.registered.push(request.clone());
                (200, json!({}))
            }
            "RunTask" => self.run(request),
            "DescribeTasks" => {
                let wanted = &request["tasks"][0];
                let mut tasks = self.tasks.values().map(|(_, task)| task);
                match tasks.find(|task| task["taskArn"] == *wanted) {
                    Some(task) => (200, json!({ "tasks": [task], "failures": [] })),
                    None => {
                        let missing = json!([{ "arn": wanted, "reason": "MISSING" }]);
                        (200, json!({ "tasks": [], "failures": missing }))
                    }
                }
            }
            "StopTask" => {
                self.stopped.push(request.clone());
                error(
                    "InvalidParameterException",
                    "The referenced task was not found.",
                )
            }
            other => panic!("{other}"),
        }
    }

    fn run(&mut self, request: &Value) -> (u16, Value) {
        assert!(
            self.families
                .contains(request["taskDefinition"].as_str().unwrap())
        );
        let token = request["clientToken"].as_str().unwrap().to_owned();
        let number = self.tasks.len() + 1;
        let task = || {
            let arn = format!("arn:aws:ecs:us-east-1:123456789012:task/jobs/{number}");
            json!({ "taskArn": arn, "lastStatus": "PROVISIONING" })
        };
        let kept = self.tasks.entry(token);
        let (asked, task) = kept.or_insert_with(|| (request.clone(), task()));
        match asked == request {
            true => (200, json!({ "tasks": [task], "failures": [] })),
            false => {
                let tasks = json!([task["taskArn"]]);
                let (status, mut body) = error("ConflictException", "The token is in use.");
                body["resourceIds"] = tasks;
                (status, body)
            }
        }
    }
}

fn error(code: &str, message: &str) -> (u16, Value) {
    (400, json!({ "__type": code, "message": message }))
}

async fn answer(State(ecs): State<Shared>, headers: HeaderMap, body: Bytes) -> Response {
    let target = headers["x-amz-target"].to_str().unwrap();
    let (service, operation) = target.split_once('.').unwrap();
    assert_eq!(service, "AmazonEC2ContainerServiceV20141113");
    let request: Value = serde_json::from_slice(&body).unwrap();
    let (status, body) = {
        let mut ecs = ecs.lock().unwrap();
        let bad = ecs.bad.iter().position(|(of, _)| *of == operation);
        match bad.map(|at| ecs.bad.remove(at).1) {
            None => ecs.call(operation, &request),
            Some(Bad::Error(status, body)) => (status, body),
            Some(Bad::Answer(body)) => (200, body),
            Some(Bad::LostReply) => {
                ecs.call(operation, &request);
                (500, json!({ "__type": "ServerException" }))
            }
            Some(Bad::Silence) => {
                ecs.call(operation, &request);
                (0, Value::Null)
            }
        }
    };
    if status == 0 {
        return pending().await;
    }
    (StatusCode::from_u16(status).unwrap(), body.to_string()).into_response()
}

/// A server, and its URL.
async fn serve() -> (Shared, String) {
    let ecs = Shared::default();
    let router = axum::Router::new()
        .fallback(answer)
        .with_state(Arc::clone(&ecs));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, router).await });
    (ecs, url)
}

/// A server, and the runtime's tasks on it.
async fn bench() -> (Shared, Tasks) {
    let (ecs, url) = serve().await;
    (ecs, tasks(&url, |settings| settings))
}

fn tasks(url: &str, change: impl Fn(Settings) -> Settings) -> Tasks {
    let aws = Aws::from_lookup(|name| {
        Some(match name {
            "AWS_REGION" => "us-east-1".to_owned(),
            "AWS_ENDPOINT_URL" => url.to_owned(),
            "AWS_ACCESS_KEY_ID" | "AWS_SECRET_ACCESS_KEY" => "key".to_owned(),
            _ => return None,
        })
    });
    let settings = Settings {
        cluster: "jobs".to_owned(),
        subnets: vec!["subnet-1".to_owned(), "subnet-2".to_owned()],
        security_groups: vec!["sg-1".to_owned()],
        public_ip: true,
        spot: false,
        task_role: "arn:task-role".to_owned(),
        execution_role: "arn:execution-role".to_owned(),
        log_group: "/jobs".to_owned(),
        family: "towpath-job".to_owned(),
        architecture: "ARM64".to_owned(),
        image: None,
        api: Some("https://api.example".to_owned()),
    };
    Tasks::new(Clients::connect(&aws.unwrap(), None).ecs, change(settings))
}

fn job() -> JobId {
    "job_01ARZ3NDEKTSV4RRFFQ69G5FAV-7".parse().unwrap()
}

async fn start_image(tasks: &Tasks, image: &str) -> Result<String, StartError> {
    let variables = [("TOWPATH_RUN_ID", job().to_string())];
    let order = Order {
        job: &job(),
        spec: &json!({ "image": image, "cpu": 1024, "memoryMb": 2048 }),
        variables: variables
            .map(|(name, value)| (name.to_owned(), value))
            .into(),
    };
    tasks.start(&order).await
}

async fn start(tasks: &Tasks) -> Result<String, StartError> {
    start_image(tasks, "image@sha256:1").await
}

fn go_badly(ecs: &Shared, operation: &'static str, bad: Bad) {
    ecs.lock().unwrap().bad.push((operation, bad));
}

const ARN: &str = "arn:aws:ecs:us-east-1:123456789012:task/jobs/1";

#[tokio::test]
async fn a_task_is_run_with_what_the_deployment_says_and_no_long_lived_secret() {
    let (ecs, tasks) = bench().await;
    assert_eq!(start(&tasks).await.unwrap(), ARN);
    let ecs = ecs.lock().unwrap();
    let (request, _) = ecs.tasks.values().next().unwrap();
    assert_eq!(request["cluster"], "jobs");
    assert_eq!(request["launchType"], "FARGATE");
    assert_eq!(request["clientToken"], job().as_str());
    assert_eq!(request["startedBy"], job().as_str());
    let network = &request["networkConfiguration"]["awsvpcConfiguration"];
    let expected = json!({
        "subnets": ["subnet-1", "subnet-2"], "securityGroups": ["sg-1"], "assignPublicIp": "ENABLED",
    });
    assert_eq!(*network, expected);
    let environment = json!([
        { "name": "TOWPATH_API_BASE", "value": "https://api.example" },
        { "name": "TOWPATH_RUN_ID", "value": job() },
    ]);
    let container = json!([{ "name": "job", "environment": environment }]);
    assert_eq!(request["overrides"]["containerOverrides"], container);
    let definition = &ecs.registered[0];
    assert_eq!(definition["cpu"], "1024");
    assert_eq!(definition["memory"], "2048");
    assert_eq!(definition["taskRoleArn"], "arn:task-role");
    assert_eq!(definition["runtimePlatform"]["cpuArchitecture"], "ARM64");
    assert_eq!(
        definition["containerDefinitions"][0]["image"],
        "image@sha256:1"
    );
    let console = tasks.console(ARN).unwrap();
    assert_eq!(
        console,
        "https://us-east-1.console.aws.amazon.com/ecs/v2/clusters/jobs/tasks/1?region=us-east-1"
    );
}

#[tokio::test]
async fn each_image_is_registered_once_and_again_when_it_was_deregistered() {
    let (ecs, tasks) = bench().await;
    for image in ["a@sha256:1", "a@sha256:1", "b@sha256:2"] {
        ecs.lock().unwrap().tasks.clear();
        start_image(&tasks, image).await.unwrap();
    }
    assert_eq!(ecs.lock().unwrap().registered.len(), 2);
    ecs.lock().unwrap().families.clear();
    ecs.lock().unwrap().tasks.clear();
    start_image(&tasks, "b@sha256:2").await.unwrap();
    let ecs = ecs.lock().unwrap();
    assert_eq!(ecs.registered.len(), 3);
    assert_eq!(ecs.registered[1], ecs.registered[2]);
}

#[tokio::test]
async fn a_task_whose_reply_was_lost_or_never_came_is_not_run_twice() {
    for bad in [Bad::LostReply, Bad::Silence] {
        let (ecs, tasks) = bench().await;
        go_badly(&ecs, "RunTask", bad);
        assert_eq!(start(&tasks).await.unwrap(), ARN);
        assert_eq!(start(&tasks).await.unwrap(), ARN);
        assert_eq!(ecs.lock().unwrap().tasks.len(), 1);
    }
}

#[tokio::test]
async fn a_start_that_goes_on_after_the_deployment_was_changed_finds_the_task_of_before() {
    let (ecs, url) = serve().await;
    start(&tasks(&url, |settings| settings)).await.unwrap();
    let changed = tasks(&url, |settings| Settings {
        subnets: vec!["subnet-3".to_owned()],
        task_role: "arn:another-role".to_owned(),
        ..settings
    });
    assert_eq!(start(&changed).await.unwrap(), ARN);
    let ecs = ecs.lock().unwrap();
    assert_eq!(ecs.tasks.len(), 1);
    assert_eq!(
        ecs.registered.len(),
        2,
        "another role is another definition"
    );
}

#[tokio::test]
async fn what_is_full_or_throttled_is_no_room_and_starts_nothing() {
    let failure = |reason: &str| {
        let failures = json!([{ "arn": "arn", "reason": reason, "detail": "more" }]);
        Bad::Answer(json!({ "tasks": [], "failures": failures }))
    };
    let refused = |code: &str, message: &str| {
        let (status, body) = error(code, message);
        Bad::Error(status, body)
    };
    let bad = [
        ("RunTask", failure("RESOURCE:CPU")),
        ("RunTask", failure("RESOURCE:ENI")),
        (
            "RunTask",
            failure("Capacity is unavailable at this time. Please try again later"),
        ),
        ("RunTask", refused("ThrottlingException", "Rate exceeded")),
        (
            "RunTask",
            refused(
                "ClientException",
                "You've reached the limit on the number of vCPUs",
            ),
        ),
        ("RunTask", refused("LimitExceeded", "too many")),
        (
            "RegisterTaskDefinition",
            refused("ThrottlingException", "Rate exceeded"),
        ),
        (
            "DescribeTaskDefinition",
            refused("ThrottlingException", "Rate exceeded"),
        ),
    ];
    for (operation, bad) in bad {
        let (ecs, tasks) = bench().await;
        go_badly(&ecs, operation, bad);
        let started = start(&tasks).await;
        assert!(matches!(started, Err(StartError::NoRoom(_))), "{started:?}");
        assert!(ecs.lock().unwrap().tasks.is_empty());
        assert_eq!(start(&tasks).await.unwrap(), ARN, "there is room later");
    }
}

#[tokio::test]
async fn what_ecs_never_takes_is_refused_in_its_own_words() {
    for (operation, code) in [
        ("RegisterTaskDefinition", "ClientException"),
        ("RunTask", "ClusterNotFoundException"),
        ("RunTask", "AccessDeniedException"),
        ("RunTask", "InvalidParameterException"),
    ] {
        let (ecs, tasks) = bench().await;
        let (status, body) = error(code, "the reason of ECS");
        go_badly(&ecs, operation, Bad::Error(status, body));
        let started = start(&tasks).await;
        let Err(StartError::Refused(why)) = started else {
            panic!("{started:?}");
        };
        assert!(
            why.contains("the reason of ECS") && why.contains(code),
            "{why}"
        );
    }
}

#[tokio::test]
async fn a_task_is_looked_at_until_ecs_has_forgotten_it() {
    let (ecs, tasks) = bench().await;
    start(&tasks).await.unwrap();
    let become_ = |task: Value| {
        let mut ecs = ecs.lock().unwrap();
        ecs.tasks.get_mut(job().as_str()).unwrap().1 = task;
    };
    assert_eq!(tasks.look(ARN).await, Ok(Some(Seen::Preparing)));
    become_(json!({ "taskArn": ARN, "lastStatus": "RUNNING" }));
    assert_eq!(tasks.look(ARN).await, Ok(Some(Seen::InProgress)));
    become_(json!({
        "taskArn": ARN, "lastStatus": "STOPPED", "stopCode": "SpotInterruption",
        "stoppedReason": "Your Spot Task was interrupted.", "containers": [{ "exitCode": 137 }],
    }));
    let over = Over {
        cause: Cause::Reclaimed,
        why: " (Your Spot Task was interrupted.)".to_owned(),
    };
    assert_eq!(tasks.look(ARN).await, Ok(Some(Seen::Over(over))));
    ecs.lock().unwrap().tasks.clear();
    assert_eq!(tasks.look(ARN).await, Ok(None));
    let (status, body) = error("ThrottlingException", "Rate exceeded");
    go_badly(&ecs, "DescribeTasks", Bad::Error(status, body));
    assert!(tasks.look(ARN).await.is_err(), "no answer is no loss");
    tasks.stop(ARN).await.unwrap();
    assert_eq!(ecs.lock().unwrap().stopped[0]["task"], ARN);
}

#[tokio::test]
async fn spare_capacity_is_asked_for_by_its_provider() {
    let (ecs, url) = serve().await;
    let spot = tasks(&url, |settings| Settings {
        spot: true,
        public_ip: false,
        ..settings
    });
    start(&spot).await.unwrap();
    let ecs = ecs.lock().unwrap();
    let (request, _) = ecs.tasks.values().next().unwrap();
    let provider = &request["capacityProviderStrategy"][0]["capacityProvider"];
    assert_eq!(provider, "FARGATE_SPOT");
    assert_eq!(request.get("launchType"), None);
    let network = &request["networkConfiguration"]["awsvpcConfiguration"];
    assert_eq!(network["assignPublicIp"], "DISABLED");
}
