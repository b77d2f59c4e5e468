//! Functions under Lambda's limits.

use futures::FutureExt;

use super::*;

struct Does(fn(Value) -> BoxFuture<'static, Result<Value, Diagnostic>>);

#[async_trait]
impl Function for Does {
    async fn invoke(&self, event: LambdaEvent<Value>) -> Result<Value, Diagnostic> {
        let left = event
            .context
            .deadline()
            .duration_since(SystemTime::now())
            .unwrap_or_default();
        assert!(
            left <= Duration::from_secs(3) && left > Duration::from_secs(1),
            "the deadline is by the wall clock"
        );
        (self.0)(event.payload).await
    }
}

async fn lambda(does: fn(Value) -> BoxFuture<'static, Result<Value, Diagnostic>>) -> Arc<Lambda> {
    lambda_with(0, does).await
}

async fn lambda_with(
    retries: usize,
    does: fn(Value) -> BoxFuture<'static, Result<Value, Diagnostic>>,
) -> Arc<Lambda> {
    let spec = FunctionSpec {
        id: "F".to_owned(),
        name: "towpath-F".to_owned(),
        arn: "arn:aws:lambda:us-east-1:000000000000:function:towpath-F".to_owned(),
        binary: None,
        timeout: Duration::from_secs(3),
        memory_mb: 128,
        retries,
        environment: BTreeMap::new(),
        triggers: Vec::new(),
    };
    let lambda = Lambda::new(&[spec], None, Clock::manual(0), Arc::default()).unwrap();
    let factory: Factory = Arc::new(move |_| {
        let function: Arc<dyn Function> = Arc::new(Does(does));
        async move { Ok(function) }.boxed()
    });
    lambda
        .start(&Functions::from([("F".to_owned(), factory)]), |_| {
            BTreeMap::new()
        })
        .await
        .unwrap();
    Arc::new(lambda)
}

async fn failure_of(lambda: &Arc<Lambda>, payload: Value) -> (String, String) {
    let failure = lambda
        .invoke("F", payload, Kind::Synchronous)
        .await
        .unwrap_err();
    let cause: Value = serde_json::from_str(&failure.cause).unwrap();
    assert_eq!(cause["errorType"], failure.error.as_str());
    (
        failure.error,
        cause["errorMessage"].as_str().unwrap().to_owned(),
    )
}

// Time is tokio's here, and it passes at once when everybody waits.
#[tokio::test(start_paused = true)]
async fn a_function_that_takes_too_long_is_timed_out() {
    let lambda = lambda(|_| futures::future::pending().boxed()).await;
    let (error, message) = failure_of(&lambda, Value::Null).await;
    assert_eq!(error, "Sandbox.Timedout");
    assert!(
        message.starts_with("RequestId: ")
            && message.ends_with("Error: Task timed out after 3.00 seconds"),
        "{message}"
    );
}

#[tokio::test]
async fn a_panic_is_an_exit() {
    let lambda = lambda(|_| panic!("on purpose")).await;
    let (error, message) = failure_of(&lambda, Value::Null).await;
    assert_eq!(error, "Runtime.ExitError");
    assert!(message.contains("Runtime exited with error"), "{message}");
}

#[tokio::test]
async fn an_error_keeps_its_name() {
    let failing = |_| {
        let error = Diagnostic {
            error_type: "Towpath.Throttled".to_owned(),
            error_message: "slow down".to_owned(),
        };
        async move { Err(error) }.boxed()
    };
    let found = failure_of(&lambda(failing).await, Value::Null).await;
    assert_eq!(
        found,
        ("Towpath.Throttled".to_owned(), "slow down".to_owned())
    );
}

#[tokio::test(start_paused = true)]
async fn a_failed_event_is_tried_again_as_often_as_the_function_says() {
    for retries in [0, 1, 2] {
        let lambda = lambda_with(retries, |_| {
            let error = Diagnostic {
                error_type: "E".to_owned(),
                error_message: "on purpose".to_owned(),
            };
            async move { Err(error) }.boxed()
        })
        .await;
        lambda.deliver("F", Value::Null).await;
        for _ in 0..3 {
            // Lets the retries in the background reach the clock.
            tokio::time::sleep(Duration::from_millis(1)).await;
            lambda.clock.advance(Duration::from_secs(120));
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
        assert_eq!(lambda.counts()["F"], 1 + retries as u64);
    }
}

#[tokio::test]
async fn payloads_have_a_limit_both_ways() {
    let lambda = lambda(|_| async { Ok(Value::String("x".repeat(7 << 20))) }.boxed()).await;
    assert_eq!(
        failure_of(&lambda, Value::Null).await.0,
        "Function.ResponseSizeTooLarge"
    );
    assert_eq!(
        failure_of(&lambda, "x".repeat(7 << 20).into()).await.0,
        "Lambda.RequestTooLargeException"
    );
    assert_eq!(
        lambda.counts()["F"],
        1,
        "what is too large is not even invoked"
    );
    let event = lambda
        .invoke("F", "x".repeat(2 << 20).into(), Kind::Asynchronous)
        .await
        .unwrap_err();
    assert_eq!(event.error, "Lambda.RequestTooLargeException");
}

#[tokio::test]
async fn a_function_is_found_by_its_names() {
    let lambda = lambda(|payload| async { Ok(payload) }.boxed()).await;
    let arn = "arn:aws:lambda:us-east-1:000000000000:function:towpath-F";
    for name in [
        "F",
        "towpath-F",
        arn,
        &format!("{arn}:live"),
        "towpath-F:$LATEST",
    ] {
        assert!(lambda.find(name).is_some(), "{name}");
    }
    assert!(lambda.find("towpath-F2").is_none());
}

#[test]
fn the_same_seed_makes_the_same_duplicates() {
    let rolls = |seed| {
        let lambda = Lambda::new(&[], None, Clock::manual(0), Arc::default()).unwrap();
        lambda.set_duplicates(Some(Duplicates { seed, one_in: 4 }));
        (0..400)
            .map(|_| lambda.rolls_a_duplicate())
            .collect::<Vec<_>>()
    };
    assert_eq!(rolls(7), rolls(7));
    assert_ne!(rolls(7), rolls(8));
    let share = rolls(7).iter().filter(|yes| **yes).count();
    assert!(
        (60..140).contains(&share),
        "about one in four: {share} of 400"
    );
}
