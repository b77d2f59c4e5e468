//! What the runners of jobs ask for and tell. A runner has no API key: it has its job's start code, and then a token of
//! its own, which opens nothing but this job.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::State;
use axum::http::header::{CONTENT_TYPE, LOCATION, RETRY_AFTER};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post, put};
use axum::{Json, Router};
use serde::{Deserialize, Serialize};
use serde_json::json;
use towpath_api_types::Code;
use towpath_engine::{Artifact, JobId};
use towpath_jobs::{Answer, EventBatch, MANIFEST_TYPE, runner_object};
use towpath_service::{App, RunnerRefused, RunnersJob};
use towpath_store::UploadUrl;

use crate::access::bearer;
use crate::body::parse;
use crate::parts::{Path, Query};
use crate::problem::No;

/// The most a runner's request may be, in bytes: an answer of 4 MiB, and a little.
pub(crate) const RUNNER_BODY: usize = 4 * 1024 * 1024 + 64 * 1024;
/// The most a batch of events may be, in bytes.
const BATCH_BYTES: usize = 1024 * 1024;

type Shared = State<Arc<App>>;

pub(crate) fn routes() -> Router<Arc<App>> {
    Router::new()
        .route("/jobs/{job}", get(job))
        .route("/jobs/{job}/runner/{arch}", get(program))
        .route("/jobs/{job}/claim", post(claim))
        .route("/jobs/{job}/manifest", get(manifest))
        .route("/jobs/{job}/answer", put(answer))
        .route("/jobs/{job}/artifacts", post(artifact))
        .route("/runs/{job}/runner/events", post(events))
        .route("/api/v1/runs/{job}/runner/events", post(events))
}

/// A refusal: of the API's own, or one that only runners know.
enum Refusal {
    Api(No),
    Runner(StatusCode, &'static str, String, Option<u64>),
}

impl From<No> for Refusal {
    fn from(no: No) -> Self {
        Self::Api(no)
    }
}

impl From<RunnerRefused> for Refusal {
    fn from(refused: RunnerRefused) -> Self {
        let told =
            |status, code, message: &str| Self::Runner(status, code, message.to_owned(), None);
        match refused {
            RunnerRefused::Unknown => Self::Api(No::new(
                Code::Unauthorized,
                "the start code or token is not one of this job",
            )),
            RunnerRefused::CodeExpired => told(
                StatusCode::FORBIDDEN,
                "start_code_expired",
                "the start code was good for 10 minutes; the job is looked at again soon, which renews it",
            ),
            RunnerRefused::Claimed => told(
                StatusCode::CONFLICT,
                "job_claimed",
                "another runner works on this job; end without doing anything",
            ),
            RunnerRefused::Over => told(
                StatusCode::CONFLICT,
                "job_over",
                "the job is over, and takes nothing more",
            ),
            RunnerRefused::Batch(error, last) => Self::Runner(
                StatusCode::BAD_REQUEST,
                error.code.as_str(),
                error.message,
                last,
            ),
            RunnerRefused::Artifact(why) => {
                Self::Runner(StatusCode::BAD_REQUEST, "invalid_artifact", why, None)
            }
            RunnerRefused::AnswerMissing => told(
                StatusCode::CONFLICT,
                "answer_missing",
                "the job ended well, and its answer was not handed in; put it at /jobs/{job}/answer first",
            ),
            RunnerRefused::NoWork(why) => {
                Self::Runner(StatusCode::UNPROCESSABLE_ENTITY, "no_work", why, None)
            }
            RunnerRefused::Failed(error) => Self::Api(error.into()),
        }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let (status, code, message, last) = match self {
            Self::Api(no) => return no.into_response(),
            Self::Runner(status, code, message, last) => (status, code, message, last),
        };
        let mut body = json!({ "code": code, "message": message });
        if let (Some(body), Some(last)) = (body.as_object_mut(), last) {
            body.insert("lastSeq".to_owned(), last.into());
        }
        let mut response = (status, Json(body)).into_response();
        if code == "start_code_expired" {
            let headers = response.headers_mut();
            headers.insert(RETRY_AFTER, HeaderValue::from_static("30"));
        }
        response
    }
}

fn secret(headers: &HeaderMap) -> Result<&str, Refusal> {
    bearer(headers).ok_or_else(|| RunnerRefused::Unknown.into())
}

fn job_id(text: &str) -> Result<JobId, Refusal> {
    text.parse().map_err(|_| RunnerRefused::Unknown.into())
}

async fn of_token(app: &App, job: &str, headers: &HeaderMap) -> Result<RunnersJob, Refusal> {
    let token = secret(headers)?;
    Ok(app.runners.with_token(&job_id(job)?, token).await?)
}

/// Redirects a build that has a valid start code to the URL of the runner's program.
async fn program(
    State(app): Shared,
    Path((job, arch)): Path<(String, String)>,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    app.runners
        .check_code(&job_id(&job)?, secret(&headers)?)
        .await?;
    let unknown = || {
        let message = format!("there are runners for x86_64 and aarch64, and none for {arch}");
        No::new(Code::NotFound, message)
    };
    let object = runner_object(&arch).ok_or_else(unknown)?;
    let url = app.store.output_url(&object).map_err(No::from)?.url;
    let location = HeaderValue::from_str(&url)
        .map_err(|_| No::new(Code::Internal, "the runner's address cannot be told"))?;
    let mut response = StatusCode::FOUND.into_response();
    response.headers_mut().insert(LOCATION, location);
    Ok(response)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Claim {
    /// The name of what runs the runner, as its runtime knows it: the id of a build.
    by: String,
    /// The token by which the runner is known from now on.
    token: String,
}

/// The shortest token: 128 random bits in hexadecimal.
const TOKEN: usize = 32;

async fn claim(
    State(app): Shared,
    Path(job): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Json<serde_json::Value>, Refusal> {
    let (job, code) = (job_id(&job)?, secret(&headers)?);
    let Claim { by, token } = parse(&body)?;
    if !(TOKEN..=256).contains(&token.len()) || !(1..=256).contains(&by.len()) {
        let message = "`token` has from 32 to 256 characters, and `by` from 1 to 256";
        return Err(No::new(Code::InvalidRequest, message).into());
    }
    match code.starts_with("twx_") {
        true => app.runners.claim_as_executor(&job, code, &token).await?,
        false => app.runners.claim(&job, code, &by, &token).await?,
    }
    Ok(Json(json!({ "job": job })))
}

async fn manifest(
    State(app): Shared,
    Path(job): Path<String>,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    let of = of_token(&app, &job, &headers).await?;
    let request = app.runners.manifest(&of).await?;
    let none = || RunnerRefused::NoWork("an agent that is no command has no runner".to_owned());
    let bytes = request.to_manifest().ok_or_else(none)?;
    Ok(([(CONTENT_TYPE, MANIFEST_TYPE)], bytes).into_response())
}

/// What a runner is to know while it works.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Told {
    /// All events up to this one are stored.
    #[serde(skip_serializing_if = "Option::is_none")]
    accepted_through: Option<u64>,
    /// The request to stop.
    #[serde(skip_serializing_if = "Option::is_none")]
    stop: Option<StopTold>,
    /// Whether the job is over.
    over: bool,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct StopTold {
    /// The time that the command has to tidy up, in milliseconds.
    grace_ms: u64,
}

fn told(of: &RunnersJob, accepted_through: Option<u64>) -> Json<Told> {
    Json(Told {
        accepted_through,
        stop: of.stop().map(|stop| StopTold {
            grace_ms: stop.grace_ms,
        }),
        over: of.is_over(),
    })
}

async fn job(
    State(app): Shared,
    Path(job): Path<String>,
    headers: HeaderMap,
) -> Result<Json<Told>, Refusal> {
    let of = of_token(&app, &job, &headers).await?;
    Ok(told(&of, None))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct AnswerQuery {
    /// `file` or `stdout`.
    from: String,
}

async fn answer(
    State(app): Shared,
    Path(job): Path<String>,
    Query(AnswerQuery { from }): Query<AnswerQuery>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<StatusCode, Refusal> {
    let of = of_token(&app, &job, &headers).await?;
    let text = String::from_utf8(body.into())
        .map_err(|_| No::new(Code::InvalidRequest, "an answer is UTF-8"))?;
    let answer = match from.as_str() {
        "file" => Answer::File(text),
        "stdout" => Answer::Stdout(text),
        _ => {
            let message = "`from` is `file` or `stdout`";
            return Err(No::new(Code::InvalidRequest, message).into());
        }
    };
    app.runners.answer(&of, &answer).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Answers with the place where the runner is to put a file.
async fn artifact(
    State(app): Shared,
    Path(job): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Json<UploadUrl>, Refusal> {
    let of = of_token(&app, &job, &headers).await?;
    let artifact: Artifact = parse(&body)?;
    Ok(Json(app.runners.artifact(&of, &artifact)?))
}

/// The media types of newline-delimited JSON.
const LINES: [&str; 3] = [
    "application/x-ndjson",
    "application/ndjson",
    "application/jsonl",
];

async fn events(
    State(app): Shared,
    Path(job): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Json<Told>, Refusal> {
    let of = of_token(&app, &job, &headers).await?;
    if body.len() > BATCH_BYTES {
        let message = format!("a batch is at most {BATCH_BYTES} bytes; send fewer events at once");
        return Err(No::new(Code::TooLarge, message).into());
    }
    let kind = headers.get(CONTENT_TYPE).and_then(|it| it.to_str().ok());
    let kind = kind.unwrap_or_default().split(';').next();
    let kind = kind.unwrap_or_default().trim().to_ascii_lowercase();
    let batch = match LINES.contains(&&*kind) {
        true => EventBatch::read_lines(&job, &String::from_utf8_lossy(&body)),
        // What is not JSON is no envelope either.
        false => EventBatch::read(&serde_json::from_slice(&body).unwrap_or_default()),
    };
    let batch = batch.map_err(|error| RunnerRefused::Batch(error, None))?;
    if batch.run_id != job {
        let message = format!("`runId` is {}, and the path's is {job}", batch.run_id);
        let status = StatusCode::FORBIDDEN;
        return Err(Refusal::Runner(status, "run_id_mismatch", message, None));
    }
    let through = app.runners.append(&of, &batch).await?;
    Ok(told(&of, Some(through)))
}
