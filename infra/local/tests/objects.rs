//! Buckets: whole objects or none, for those who may.
#![allow(clippy::unwrap_used)] // Clippy does not see that the helpers are tests, too.

mod support;

use std::time::{Duration, SystemTime};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::Request;
use sha2::{Digest, Sha256};
use support::{SMALL, cloud_of, functions, send};
use towpath_aws::{Bucket, Clients, Settings};
use towpath_local::Cloud;

const QUARTER: Duration = Duration::from_secs(900);

/// The small cloud with a bucket, in which `First` may put things under `runs/`.
async fn cloud() -> Cloud {
    let may = "            - { Effect: Allow, Action: s3:PutObject, Resource: !Sub '${Bucket.Arn}/runs/*' }\n";
    let text = SMALL
        .replacen(
            "  Api: {",
            "  Bucket: { Type: AWS::S3::Bucket }\n  Api: {",
            1,
        )
        .replacen(
            "        - Statement:\n",
            &format!("        - Statement:\n{may}"),
            1,
        );
    cloud_of(&text, functions([])).await.unwrap()
}

fn bucket(cloud: &Cloud, identity: &str) -> Bucket {
    let environment = cloud.aws_environment(identity);
    let settings = Settings::from_lookup(|name| environment.get(name).cloned()).unwrap();
    Clients::connect(&settings, None).bucket("towpath-bucket")
}

/// Puts a text, and says what S3 said to it.
async fn put(bucket: &Bucket, key: &str, text: &'static str, hashed: &str) -> String {
    let hash = Sha256::digest(hashed).into();
    match bucket.put(key, text.into(), "text/plain", hash).await {
        Ok(()) => "put".to_owned(),
        Err(error) => error.as_service_error().unwrap().to_string(),
    }
}

/// Fetches an object by a URL that was signed this long ago.
async fn get(bucket: &Bucket, key: &str, ago: Duration) -> (u16, String) {
    get_by_url_of(bucket, key, SystemTime::now() - ago).await
}

/// Fetches an object by a URL that was signed then.
async fn get_by_url_of(bucket: &Bucket, key: &str, time: SystemTime) -> (u16, String) {
    let url = bucket.presign("GET", key, &[], time, QUARTER);
    let request = Request::get(url.unwrap().url).body(Vec::new()).unwrap();
    let answer = send(request).await;
    let status = answer.status().as_u16();
    (status, String::from_utf8(answer.into_body()).unwrap())
}

#[tokio::test]
async fn what_was_put_is_read_by_url_until_it_expires() {
    let cloud = cloud().await;
    let (first, operator) = (bucket(&cloud, "First"), bucket(&cloud, "operator"));
    assert_eq!(
        put(&first, "runs/a/1", "all of it", "all of it").await,
        "put"
    );
    let now = get(&operator, "runs/a/1", Duration::ZERO).await;
    assert_eq!(now, (200, "all of it".to_owned()));
    let (status, said) = get(&operator, "runs/a/1", QUARTER + Duration::from_secs(5)).await;
    assert!(status == 403 && said.contains("expired"), "{status} {said}");
    let future = SystemTime::now() + QUARTER + Duration::from_secs(60);
    let (status, said) = get_by_url_of(&operator, "runs/a/1", future).await;
    assert!(
        status == 403 && said.contains("RequestTimeTooSkewed"),
        "{status} {said}"
    );
}

#[tokio::test]
async fn policies_hold_for_objects_and_for_urls() {
    let cloud = cloud().await;
    let first = bucket(&cloud, "First");
    assert_eq!(put(&first, "runs/a/1", "text", "text").await, "put");
    let denied = put(&first, "elsewhere/a", "text", "text").await;
    assert!(denied.starts_with("AccessDenied"), "{denied}");
    assert!(denied.contains("s3:PutObject"), "{denied}");
    // A URL may do what whoever signed it may.
    let (status, said) = get(&first, "runs/a/1", Duration::ZERO).await;
    assert!(status == 403 && said.contains("s3:GetObject"), "{said}");
    let used = cloud.statements_used();
    assert_eq!(used.len(), 1, "{used:?}");
    assert_eq!(used[0].resource, "arn:aws:s3:::towpath-bucket/runs/a/1");
}

#[tokio::test]
async fn an_object_that_is_not_what_was_sent_is_not_kept() {
    let cloud = cloud().await;
    let operator = bucket(&cloud, "operator");
    let refused = put(&operator, "runs/a/1", "half of it", "all of it").await;
    assert!(refused.starts_with("BadDigest"), "{refused}");
    assert_eq!(get(&operator, "runs/a/1", Duration::ZERO).await.0, 404);
    // Nor does it take the place of what is there.
    assert_eq!(put(&operator, "runs/a/1", "whole", "whole").await, "put");
    put(&operator, "runs/a/1", "half of it", "all of it").await;
    let kept = get(&operator, "runs/a/1", Duration::ZERO).await;
    assert_eq!(kept, (200, "whole".to_owned()));
}

#[tokio::test]
async fn what_is_not_known_is_refused() {
    let cloud = cloud().await;
    let url = cloud.aws_environment("operator")["AWS_ENDPOINT_URL_S3"].clone();
    let unsigned = Request::get(format!("{url}/towpath-bucket/runs/a/1?X-Amz-Signature=0"));
    let answer = send(unsigned.body(Vec::new()).unwrap()).await;
    assert_eq!(answer.status().as_u16(), 403);
    // A listing is a `GET` of the bucket itself.
    let (status, said) = get(&bucket(&cloud, "operator"), "", Duration::ZERO).await;
    assert!(
        status == 501 && said.contains("ListObjects"),
        "{status} {said}"
    );
}

#[tokio::test]
async fn a_url_to_put_takes_what_it_was_made_for_and_nothing_else() {
    let cloud = cloud().await;
    let first = bucket(&cloud, "First");
    let hash = STANDARD.encode(Sha256::digest("all of it"));
    let made_for = [("content-length", "9"), ("x-amz-checksum-sha256", &*hash)];
    let put = async |headers: &[(&str, &str)], body: &str| {
        let now = SystemTime::now();
        let url = first.presign("PUT", "runs/a/1", &made_for, now, QUARTER);
        let mut request = Request::put(url.unwrap().url);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let answer = send(request.body(body.as_bytes().to_vec()).unwrap()).await;
        (
            answer.status().as_u16(),
            String::from_utf8(answer.into_body()).unwrap(),
        )
    };
    let (status, said) = put(&made_for, "other one").await;
    assert!(
        status == 400 && said.contains("BadDigest"),
        "{status} {said}"
    );
    let other = STANDARD.encode(Sha256::digest("other one"));
    let (status, said) = put(&[("x-amz-checksum-sha256", &other)], "other one").await;
    assert!(
        status == 403 && said.contains("SignatureDoesNotMatch"),
        "{status} {said}"
    );
    let (status, said) = put(&[], "all of it").await;
    assert_eq!(status, 403, "{said}");
    let operator = bucket(&cloud, "operator");
    assert_eq!(get(&operator, "runs/a/1", Duration::ZERO).await.0, 404);
    let (status, said) = put(&made_for[1..], "all of it").await;
    assert_eq!(status, 200, "{said}");
    let kept = get(&operator, "runs/a/1", Duration::ZERO).await;
    assert_eq!(kept, (200, "all of it".to_owned()));
}
