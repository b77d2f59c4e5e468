//! Definitions, to be read, and runs.

use std::str::FromStr;
use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{OriginalUri, State};
use axum::http::header::LOCATION;
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{any, get, post};
use axum::{Json, Router};
use serde::Deserialize;
use towpath_api_types::{
    Code, List, OutputText, PipelineView, Problem, RestartRun, RunSummary, RunView, StartRun,
    StopRun,
};
use towpath_engine::{Block, BlockId, JobId, PipelineId, RunId, StepIndex};
use towpath_jobs::{LogPage, LogPosition};
use towpath_service::{App, Caller, Stopped};
use towpath_store::{EventCursor, EventPage, PipelineSummary, Scope, StoredPipeline};

use crate::access::{DECIDE, Holder, READ, START};
use crate::body::{Body, fits, id, idempotency, parse};
use crate::parts::{Path, Query};
use crate::problem::{No, no_such_method};

type Shared = State<Arc<App>>;
type Answer<T> = Result<Json<T>, No>;

pub(crate) fn routes() -> Router<Arc<App>> {
    Router::new()
        .route("/pipelines", get(pipelines))
        .route("/pipelines/{pipeline}", get(pipeline))
        .route("/blocks", get(blocks))
        .route("/blocks/{block}", get(block))
        .route("/runs", get(runs).post(start))
        .route("/runs/{run}", get(run))
        .route("/runs/{run}/steps/{step}/output", get(output))
        .route("/runs/{run}/steps/{step}/artifacts/{*name}", get(artifact))
        .route("/runs/{run}/steps/{step}/log", get(log))
        .route("/runs/{run}/events", get(events))
        // Streamed by a function of its own, behind the front.
        .route("/runs/{run}/events/stream", get(no_stream))
        .route("/runs/{run}/stop", post(stop))
        .route("/runs/{run}/retry", post(retry))
        .route("/runs/{run}/restart", post(restart))
        // What is posted to these reaches the function that takes answers; anything else asked of them comes here.
        .route("/runs/{run}/decisions/{decision}", any(no_such_method))
        .route(
            "/runs/{run}/approvals/{approval}/{verb}",
            any(no_such_method),
        )
}

/// This function's answers are not streamed.
async fn no_stream() -> No {
    let message = "events are streamed at this path of the deployment's public address only; read pages of them at \
                   /runs/{run}/events?after=";
    No::new(Code::NotFound, message)
}

/// A page of what the run's jobs tell, as far as their runtimes keep events.
async fn events(
    State(app): Shared,
    Holder { caller, .. }: Holder<READ>,
    Path(name): Path<String>,
    Query(query): Query<After>,
) -> Answer<EventPage> {
    let after = query.after::<EventCursor>()?;
    let after = after.map_or(Ok(EventCursor::default()), str::parse);
    let after = after.map_err(|_| No::new(Code::InvalidRequest, "`after` is no place"))?;
    let page = app.views.events(&caller, &id(&name)?, after).await?;
    Ok(Json(page))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct After {
    after: Option<String>,
}

impl After {
    /// The id behind which the page begins; an empty text is none.
    fn after<T: FromStr>(&self) -> Result<Option<&str>, No> {
        after::<T>(self.after.as_deref())
    }
}

fn after<T: FromStr>(text: Option<&str>) -> Result<Option<&str>, No> {
    let text = text.filter(|text| !text.is_empty());
    match text.is_none_or(|text| text.parse::<T>().is_ok()) {
        true => Ok(text),
        false => {
            let message = "`after` takes the `next` of the page before";
            Err(No(Problem::new(Code::InvalidRequest, message).at("after")))
        }
    }
}

async fn pipelines(
    State(app): Shared,
    Holder { caller, .. }: Holder<READ>,
    Query(query): Query<After>,
) -> Answer<List<PipelineSummary>> {
    let after = query.after::<PipelineId>()?;
    let page = app.store.pipelines(&caller.workspace, after).await;
    let page = page?;
    Ok(Json(List {
        items: page.items,
        next: page.next,
    }))
}

pub(crate) fn pipeline_view(stored: StoredPipeline) -> PipelineView {
    PipelineView {
        version: stored.version,
        pipeline: stored.pipeline,
    }
}

async fn pipeline(
    State(app): Shared,
    Holder { caller, .. }: Holder<READ>,
    Path(name): Path<String>,
) -> Answer<PipelineView> {
    let id = id::<PipelineId>(&name)?;
    let found = app.store.pipeline(&caller.workspace, &id).await?;
    let found =
        found.ok_or_else(|| No::new(Code::NotFound, format!("there is no pipeline {name}")))?;
    Ok(Json(pipeline_view(found)))
}

async fn blocks(
    State(app): Shared,
    Holder { caller, .. }: Holder<READ>,
    Query(query): Query<After>,
) -> Answer<List<Block>> {
    let after = query.after::<BlockId>()?;
    let page = app.store.blocks(&caller.workspace, after).await;
    let page = page?;
    Ok(Json(List {
        items: page.items.into_iter().map(Block::shown).collect(),
        next: page.next,
    }))
}

async fn block(
    State(app): Shared,
    Holder { caller, .. }: Holder<READ>,
    Path(name): Path<String>,
) -> Answer<Block> {
    let id = id::<BlockId>(&name)?;
    let found = app.store.block(&caller.workspace, &id).await?;
    found
        .map(|block| Json(block.shown()))
        .ok_or_else(|| No::new(Code::NotFound, format!("there is no block {name}")))
}

async fn runs(
    State(app): Shared,
    Holder { caller, .. }: Holder<READ>,
    Query(query): Query<Listed>,
) -> Answer<List<RunSummary>> {
    let after = after::<RunId>(query.after.as_deref())?;
    Ok(Json(app.views.runs(&caller, after, query.live).await?))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Listed {
    after: Option<String>,
    /// Whether only runs that are not over are wanted.
    #[serde(default)]
    live: bool,
}

async fn run(
    State(app): Shared,
    Holder { caller, .. }: Holder<READ>,
    Path(run): Path<String>,
) -> Answer<RunView> {
    Ok(Json(app.views.run(&caller, &id(&run)?).await?))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Number {
    number: Option<u32>,
}

/// Redirects to the bytes of an artifact, for some minutes.
async fn artifact(
    State(app): Shared,
    Holder { caller, .. }: Holder<READ>,
    Path((run, step, name)): Path<(String, String, String)>,
) -> Result<Response, No> {
    let (run, step) = (id(&run)?, step_index(&step)?);
    let url = app.views.artifact(&caller, &run, step, &name).await?;
    let location = HeaderValue::from_str(&url)
        .map_err(|_| No::new(Code::Internal, "the artifact's URL cannot be told"))?;
    Ok((StatusCode::FOUND, [(LOCATION, location)]).into_response())
}

fn step_index(text: &str) -> Result<StepIndex, No> {
    let step = text.parse().map(StepIndex);
    step.map_err(|_| No::new(Code::NotFound, format!("{text} is no step")))
}

async fn output(
    State(app): Shared,
    Holder { caller, .. }: Holder<READ>,
    Path((run, step)): Path<(String, String)>,
    Query(query): Query<Number>,
) -> Answer<OutputText> {
    let (run, step) = (id(&run)?, step_index(&step)?);
    let output = app.views.output(&caller, &run, step, query.number);
    Ok(Json(output.await?))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct LogQuery {
    job: Option<String>,
    after: Option<String>,
}

async fn log(
    State(app): Shared,
    Holder { caller, .. }: Holder<READ>,
    Path((run, step)): Path<(String, String)>,
    Query(query): Query<LogQuery>,
) -> Answer<LogPage> {
    let (run, step) = (id(&run)?, step_index(&step)?);
    let job = query.job.as_deref().map(id::<JobId>).transpose()?;
    let after = query.after.as_deref().filter(|after| !after.is_empty());
    let after: Result<LogPosition, _> = after.map_or(Ok(LogPosition::default()), str::parse);
    let after = after.map_err(|_| {
        let message = "`after` takes the `next` of the page before";
        No(Problem::new(Code::InvalidRequest, message).at("after"))
    })?;
    let page = app.views.log(&caller, &run, step, job, after);
    Ok(Json(page.await?))
}

/// A body, whole, with what its `Idempotency-Key` says.
type Whole = Result<Bytes, BytesRejection>;

fn whole(body: Whole) -> Result<Bytes, No> {
    body.map_err(|_| {
        No::new(
            Code::TooLarge,
            format!("the body is larger than {} bytes", crate::BODY_LIMIT),
        )
    })
}

async fn start(
    State(app): Shared,
    Holder { caller, scope, .. }: Holder<START>,
    headers: HeaderMap,
    OriginalUri(uri): OriginalUri,
    body: Whole,
) -> Result<(StatusCode, Json<RunView>), No> {
    let body = whole(body)?;
    let ask: StartRun = parse(&body)?;
    if ask.replace && scope < Scope::Decide {
        return Err(No::new(
            Code::Forbidden,
            "`replace` stops a run, which needs a key of scope decide",
        ));
    }
    let name = idempotency(&headers, uri.path(), &body)?;
    let run = app.runs.start(&caller, &ask, name.as_ref()).await?;
    created(&app, &caller, &run).await
}

async fn created(
    app: &App,
    caller: &Caller,
    run: &RunId,
) -> Result<(StatusCode, Json<RunView>), No> {
    Ok((StatusCode::CREATED, Json(app.views.run(caller, run).await?)))
}

async fn stop(
    State(app): Shared,
    Holder { caller, .. }: Holder<DECIDE>,
    Path(run): Path<String>,
    Body(ask): Body<StopRun>,
) -> Result<(StatusCode, Json<RunView>), No> {
    fits("reason", ask.reason.as_deref().unwrap_or_default(), 4096)?;
    let run: RunId = id(&run)?;
    let status = match app.runs.stop(&caller, &run, &ask).await? {
        Stopped::Now => StatusCode::OK,
        Stopped::Soon => StatusCode::ACCEPTED,
    };
    Ok((status, Json(app.views.run(&caller, &run).await?)))
}

async fn retry(
    State(app): Shared,
    Holder { caller, .. }: Holder<DECIDE>,
    Path(run): Path<String>,
    headers: HeaderMap,
    OriginalUri(uri): OriginalUri,
) -> Result<(StatusCode, Json<RunView>), No> {
    let name = idempotency(&headers, uri.path(), b"")?;
    let new = app.runs.retry(&caller, &id(&run)?, name.as_ref()).await?;
    created(&app, &caller, &new).await
}

async fn restart(
    State(app): Shared,
    Holder { caller, .. }: Holder<DECIDE>,
    Path(run): Path<String>,
    headers: HeaderMap,
    OriginalUri(uri): OriginalUri,
    body: Whole,
) -> Result<(StatusCode, Json<RunView>), No> {
    let body = whole(body)?;
    let ask: RestartRun = parse(&body)?;
    let name = idempotency(&headers, uri.path(), &body)?;
    let new = app
        .runs
        .restart(&caller, &id(&run)?, &ask, name.as_ref())
        .await?;
    created(&app, &caller, &new).await
}
