//! What fronts make of requests that are odd, too large, or never finished.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)] // Clippy does not see that the helpers are tests, too.

mod support;

use serde_json::{Value, json};
use support::{SMALL, answering, cloud_of, functions};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use towpath_local::Cloud;

async fn cloud() -> Cloud {
    let answers = answering(|_| Ok(json!("answered")));
    cloud_of(SMALL, functions([("First", answers)]))
        .await
        .unwrap()
}

/// The host and port of each front of a cloud: the HTTP API's and AWS's.
fn fronts(cloud: &Cloud) -> [String; 2] {
    let aws = cloud.aws_environment("operator")["AWS_ENDPOINT_URL"].clone();
    [cloud.url().to_owned(), aws].map(|url| url.replace("http://", ""))
}

/// Sends these bytes and no more, and returns all that comes back until the front closes the connection.
async fn answer_to(front: &str, bytes: &str) -> String {
    let mut stream = TcpStream::connect(front).await.unwrap();
    stream.write_all(bytes.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    String::from_utf8(answer).unwrap()
}

#[tokio::test]
async fn a_target_that_is_no_absolute_path_is_refused() {
    let cloud = cloud().await;
    for front in fronts(&cloud) {
        for (method, target) in [
            ("GET", "*".to_owned()),
            ("OPTIONS", "*".to_owned()),
            ("CONNECT", front.clone()),
            ("POST", format!("http://{front}/things/x")),
        ] {
            let request =
                format!("{method} {target} HTTP/1.1\r\nHost: {front}\r\nConnection: close\r\n\r\n");
            let answer = answer_to(&front, &request).await;
            assert!(answer.starts_with("HTTP/1.1 400 "), "{target}: {answer}");
            let (_, body) = answer.split_once("\r\n\r\n").unwrap();
            let body: Value = serde_json::from_str(body).unwrap();
            assert_eq!(body["code"], "invalid_request");
            assert!(body["message"].as_str().unwrap().contains("begins with /"));
        }
    }
    assert_eq!(cloud.counts().invocations, 0);
}

// Time is tokio's here, and it passes at once when everybody waits.
#[tokio::test(start_paused = true)]
async fn a_client_that_falls_silent_is_given_up() {
    let cloud = cloud().await;
    for front in fronts(&cloud) {
        for head in ["", "POST /things/x HTTP/1.1\r\nHost: "] {
            assert_eq!(answer_to(&front, head).await, "", "{head:?}");
        }
        let body =
            format!("POST /things/x HTTP/1.1\r\nHost: {front}\r\nContent-Length: 10\r\n\r\nhalf");
        let answer = answer_to(&front, &body).await;
        let given_up =
            answer.starts_with("HTTP/1.1 408 ") || answer.contains("#RequestTimeoutException");
        assert!(given_up, "{answer}");
    }
    assert_eq!(cloud.counts().invocations, 0);
}

#[tokio::test]
async fn the_head_of_a_request_is_bounded() {
    let cloud = cloud().await;
    for front in fronts(&cloud) {
        let padding = "x".repeat(20_000);
        let request = format!("GET / HTTP/1.1\r\nHost: {front}\r\nX-Padding: {padding}\r\n");
        let answer = answer_to(&front, &request).await;
        assert!(answer.starts_with("HTTP/1.1 431 "), "{answer}");
    }
}
