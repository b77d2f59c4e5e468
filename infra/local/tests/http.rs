//! The HTTP API: requests become API Gateway's events, answers become responses.
#![allow(clippy::unwrap_used)] // Clippy does not see that the helpers are tests, too.

mod support;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use http::{Request, StatusCode};
use serde_json::{Value, json};
use support::{SMALL, answering, cloud_of, failing, functions, send, toy};
use towpath_local::Cloud;

/// A cloud whose function answers with the event it got.
async fn echo() -> Cloud {
    let echo = answering(|event| {
        Ok(json!({
            "statusCode": 207, "headers": {"content-type": "application/json", "x-from": "echo"},
            "cookies": ["a=1", "b=2"], "body": event.to_string(),
        }))
    });
    cloud_of(SMALL, functions([("First", echo)])).await.unwrap()
}

#[tokio::test]
async fn a_request_reaches_the_function_of_its_route() {
    let cloud = echo().await;
    let request = Request::post(format!("{}/things/a%20b?x=1&x=2", cloud.url()))
        .header("content-type", "application/json")
        .header("X-Two", "1")
        .header("X-Two", "2")
        .header("cookie", "c=3")
        .body(b"{\"n\":1}".to_vec())
        .unwrap();
    let response = send(request).await;
    assert_eq!(
        (
            response.status().as_u16(),
            response.headers()["x-from"].to_str().unwrap()
        ),
        (207, "echo")
    );
    assert_eq!(response.headers().get_all("set-cookie").iter().count(), 2);
    let event: Value = serde_json::from_slice(response.body()).unwrap();
    assert_eq!(event["routeKey"], "POST /things/{id}");
    assert_eq!(event["pathParameters"], json!({"id": "a b"}));
    assert_eq!(event["queryStringParameters"], json!({"x": "1,2"}));
    assert_eq!(event["headers"]["x-two"], "1,2");
    assert_eq!(event["cookies"], json!(["c=3"]));
    assert_eq!(
        (&event["body"], &event["isBase64Encoded"]),
        (&json!("{\"n\":1}"), &json!(false))
    );
    assert_eq!(event["requestContext"]["timeEpoch"], 1_700_000_000_000_u64);
    assert_eq!(cloud.counts().invocations_by_function["First"], 1);
    assert_eq!(cloud.output("Url").as_deref(), Some(cloud.url()));
}

#[tokio::test]
async fn bytes_arrive_as_base64() {
    let cloud = echo().await;
    let request = Request::put(format!("{}/files/a/b.bin", cloud.url()))
        .header("content-type", "application/octet-stream")
        .body(vec![0, 159, 146, 150])
        .unwrap();
    let event: Value = serde_json::from_slice(send(request).await.body()).unwrap();
    assert_eq!(event["isBase64Encoded"], true);
    assert_eq!(
        BASE64_STANDARD
            .decode(event["body"].as_str().unwrap())
            .unwrap(),
        [0, 159, 146, 150]
    );
    assert_eq!(event["pathParameters"]["proxy"], "a/b.bin");
}

#[tokio::test]
async fn what_has_no_route_is_not_found() {
    let cloud = echo().await;
    for request in [
        Request::get(format!("{}/things/x", cloud.url())),
        Request::post(format!("{}/", cloud.url())),
    ] {
        let response = send(request.body(Vec::new()).unwrap()).await;
        assert_eq!(response.status(), StatusCode::NOT_FOUND);
        assert_eq!(response.body(), b"{\"message\":\"Not Found\"}");
    }
    assert_eq!(cloud.counts().invocations, 0);
}

#[tokio::test]
async fn too_much_is_refused_at_the_gateway_and_at_the_function() {
    let cloud = echo().await;
    // API Gateway takes 10 MB, but a function only 6.
    for megabytes in [11, 7] {
        let request = Request::post(format!("{}/things/big", cloud.url()))
            .header("content-type", "text/plain")
            .body(vec![b'x'; megabytes * 1024 * 1024])
            .unwrap();
        assert_eq!(
            send(request).await.status(),
            StatusCode::PAYLOAD_TOO_LARGE,
            "{megabytes} MB"
        );
    }
    assert_eq!(cloud.counts().invocations, 0);
}

#[tokio::test]
async fn a_browser_on_another_site_gets_nothing() {
    let cloud = echo().await;
    let url = format!("{}/things/x", cloud.url());
    for (header, value) in [
        ("origin", "http://evil.example"),
        ("host", "evil.example"),
        ("origin", "null"),
    ] {
        let request = Request::post(&url)
            .header(header, value)
            .body(Vec::new())
            .unwrap();
        let answer = send(request).await;
        assert_eq!(answer.status(), StatusCode::FORBIDDEN, "{header}: {value}");
        let problem: Value = serde_json::from_slice(answer.body()).unwrap();
        assert_eq!(problem["code"], "forbidden");
    }
    let own = Request::post(&url)
        .header("origin", cloud.url())
        .body(Vec::new())
        .unwrap();
    assert_eq!(send(own).await.status(), 207);
}

#[tokio::test]
async fn the_inside_of_a_failure_stays_inside() {
    let fails = answering(|event| match event["pathParameters"]["id"].as_str() {
        Some("panic") => panic!("at the disco"),
        Some("nonsense") => Ok(json!({"statusCode": "what"})),
        _ => Err(failing("Towpath.Secret")),
    });
    let cloud = cloud_of(SMALL, functions([("First", fails)]))
        .await
        .unwrap();
    for id in ["panic", "nonsense", "error"] {
        let response = send(
            Request::post(format!("{}/things/{id}", cloud.url()))
                .body(Vec::new())
                .unwrap(),
        )
        .await;
        assert_eq!(response.status(), StatusCode::INTERNAL_SERVER_ERROR, "{id}");
        assert_eq!(response.body(), b"{\"message\":\"Internal Server Error\"}");
    }
}

#[tokio::test]
async fn a_function_gets_its_environment() {
    let tells = toy(|environment| {
        move |_| {
            let answer = json!(environment);
            async move { Ok(answer) }
        }
    });
    let cloud = cloud_of(SMALL, functions([("First", tells)]))
        .await
        .unwrap();
    let environment = cloud.invoke("First", json!({})).await.unwrap();
    assert_eq!(environment["TABLE"], "towpath-Table");
    assert_eq!(environment["AWS_LAMBDA_FUNCTION_NAME"], "towpath-First");
    assert_eq!(
        environment["AWS_ACCESS_KEY_ID"],
        cloud.aws_environment("First")["AWS_ACCESS_KEY_ID"]
    );
}

// Time is tokio's here, and it passes at once when everybody waits.
#[tokio::test(start_paused = true)]
async fn the_gateway_waits_half_a_minute_and_no_longer() {
    let never = toy(|_| |_| std::future::pending());
    let patient = SMALL.replace("Timeout: 5", "Timeout: 900");
    let cloud = cloud_of(&patient, functions([("First", never)]))
        .await
        .unwrap();
    let before = tokio::time::Instant::now();
    let response = send(
        Request::post(format!("{}/things/x", cloud.url()))
            .body(Vec::new())
            .unwrap(),
    )
    .await;
    assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(response.body(), b"{\"message\":\"Service Unavailable\"}");
    assert_eq!(before.elapsed().as_secs(), 30);
}
