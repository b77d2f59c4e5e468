//! Definitions: pipelines and blocks are put and deleted.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::put;
use axum::{Json, Router};
use towpath_api_types::{Code, PipelineView, Problem, PutBlock};
use towpath_engine::{Block, BlockId, BlockStatus, Pipeline, PipelineId};
use towpath_service::App;
use towpath_store::Error as StoreError;

use crate::access::{ADMIN, Holder};
use crate::body::{Body, fits, id};
use crate::parts::Path;
use crate::problem::No;
use crate::routes::pipeline_view;

type Shared = State<Arc<App>>;
type Answer<T> = Result<Json<T>, No>;

pub(crate) fn routes() -> Router<Arc<App>> {
    Router::new()
        .route(
            "/pipelines/{pipeline}",
            put(put_pipeline).delete(delete_pipeline),
        )
        .route("/blocks/{block}", put(put_block).delete(delete_block))
}

/// The most a pipeline may be, in bytes: it is kept in an item, which holds 400 KB.
const PIPELINE_LIMIT: usize = 256 * 1024;

async fn put_pipeline(
    State(app): Shared,
    Holder { caller, .. }: Holder<ADMIN>,
    Path(name): Path<String>,
    Body(pipeline): Body<Pipeline>,
) -> Answer<PipelineView> {
    if pipeline.id != id::<PipelineId>(&name)? {
        let message = format!("the body's id is {}, the path's is {name}", pipeline.id);
        return Err(No(Problem::new(Code::InvalidRequest, message).at("id")));
    }
    let bytes = serde_json::to_string(&pipeline).map_or(0, |text| text.len());
    if bytes > PIPELINE_LIMIT {
        let message =
            format!("the pipeline is {bytes} bytes, and at most {PIPELINE_LIMIT} are kept");
        return Err(No::new(Code::TooLarge, message));
    }
    app.runs.check(&pipeline)?;
    match app.store.put_pipeline(&caller.workspace, &pipeline).await {
        Err(StoreError::Conflict) => Err(No::new(
            Code::Busy,
            "somebody else put this pipeline just now; look, then put it again",
        )),
        other => Ok(Json(pipeline_view(other?))),
    }
}

async fn delete_pipeline(
    State(app): Shared,
    Holder { caller, .. }: Holder<ADMIN>,
    Path(name): Path<String>,
) -> Result<StatusCode, No> {
    let id = id::<PipelineId>(&name)?;
    match app.store.delete_pipeline(&caller.workspace, &id).await {
        Ok(true) => Ok(StatusCode::NO_CONTENT),
        Ok(false) => Err(No::new(
            Code::NotFound,
            format!("there is no pipeline {name}"),
        )),
        Err(StoreError::Conflict) => Err(No::new(
            Code::Busy,
            "somebody else put this pipeline just now; look, then delete it again",
        )),
        Err(other) => Err(other.into()),
    }
}

async fn delete_block(
    State(app): Shared,
    Holder { caller, .. }: Holder<ADMIN>,
    Path(name): Path<String>,
) -> Result<StatusCode, No> {
    let id = id::<BlockId>(&name)?;
    match app.store.delete_block(&caller.workspace, &id).await {
        Ok(true) => Ok(StatusCode::NO_CONTENT),
        Ok(false) => Err(No::new(Code::NotFound, format!("there is no block {name}"))),
        Err(StoreError::Conflict) => {
            let live = app.store.live_run(&caller.workspace, &id).await?;
            let live = live.ok_or_else(|| {
                let message = "somebody else wrote this block just now; delete it again";
                No::new(Code::Busy, message)
            })?;
            let message = format!("{live} is live on the block; stop it, then delete the block");
            Err(No(Problem::new(Code::RunIsLive, message).with_run(live)))
        }
        Err(other) => Err(other.into()),
    }
}

async fn put_block(
    State(app): Shared,
    Holder { caller, .. }: Holder<ADMIN>,
    Path(name): Path<String>,
    Body(put): Body<PutBlock>,
) -> Answer<Block> {
    fits("title", &put.title, 300)?;
    if put.title.trim().is_empty() {
        let problem = Problem::new(Code::InvalidRequest, "`title` says what is to be done");
        return Err(No(problem.at("title")));
    }
    fits("description", &put.description, 64 * 1024)?;
    if let Some(repository) = &put.repository {
        if repository.holds_password() {
            let message = "`repository.url` holds a password or token, which every key of the workspace could read; \
                           leave it out, and let git log in where the jobs run: by a credential helper, an SSH key, or \
                           `GIT_ASKPASS` in the step's `env`";
            let problem = Problem::new(Code::InvalidRequest, message);
            return Err(No(problem.at("repository.url")));
        }
        fits("repository.url", &repository.url, 2048)?;
        fits(
            "repository.branch",
            repository.branch.as_deref().unwrap_or_default(),
            250,
        )?;
        fits(
            "repository.base",
            repository.base.as_deref().unwrap_or_default(),
            250,
        )?;
    }
    let block = Block {
        id: id(&name)?,
        workspace: caller.workspace,
        title: put.title,
        description: put.description,
        level: put.level,
        repository: put.repository,
        status: BlockStatus::Planned,
        run_id: None,
        pull_request: None,
        confidence: None,
        created_by: Some(caller.name),
        rev: 0,
    };
    match app.store.put_block(&block).await {
        Err(StoreError::Conflict) => Err(No::new(
            Code::Busy,
            "somebody else wrote this block just now; put it again",
        )),
        other => Ok(Json(other?.shown())),
    }
}
