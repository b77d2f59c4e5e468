//! Answers of humans.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{Path, State};
use axum::routing::post;
use axum::{Json, Router};
use towpath_contracts::{Approve, Code, Decide, Problem, Reject, RequestChanges};
use towpath_engine::{Audit, Reply};
use towpath_shell::App;

use crate::access::{DECIDE, Holder};
use crate::body::{Body, id, parse};
use crate::problem::No;

type Shared = State<Arc<App>>;

pub(crate) fn routes() -> Router<Arc<App>> {
    Router::new()
        .route("/runs/{run}/decisions/{decision}", post(decide))
        .route("/runs/{run}/approvals/{approval}/{verb}", post(approval))
}

async fn decide(
    State(app): Shared,
    Holder(caller): Holder<DECIDE>,
    Path((run, decision)): Path<(String, String)>,
    Body(ask): Body<Decide>,
) -> Result<Json<Audit>, No> {
    let answered = app
        .answer(&caller, &id(&run)?, &decision, &Reply::Choice(ask.choice))
        .await?;
    Ok(Json(answered.audit))
}

async fn approval(
    State(app): Shared,
    Holder(caller): Holder<DECIDE>,
    Path((run, approval, verb)): Path<(String, String, String)>,
    body: Result<Bytes, BytesRejection>,
) -> Result<Json<Audit>, No> {
    let too_large = |_| {
        No::new(
            Code::TooLarge,
            format!("the body is larger than {} bytes", crate::BODY_LIMIT),
        )
    };
    let body = body.map_err(too_large)?;
    let reply = match verb.as_str() {
        "approve" => Reply::Approve {
            proposal: parse::<Approve>(&body)?.proposal,
        },
        "request-changes" => {
            let RequestChanges { feedback, comments } = parse(&body)?;
            if feedback
                .as_deref()
                .is_none_or(|text| text.trim().is_empty())
                && comments.is_empty()
            {
                let message = "say what is to be changed, in `feedback` or in `comments`";
                return Err(No(
                    Problem::new(Code::InvalidRequest, message).at("feedback")
                ));
            }
            Reply::RequestChanges { feedback, comments }
        }
        "reject" => Reply::Reject {
            reason: parse::<Reject>(&body)?.reason,
        },
        other => {
            let message =
                format!("{other} is no answer to an approval: approve, request-changes or reject");
            return Err(No::new(Code::NotFound, message));
        }
    };
    let answered = app.answer(&caller, &id(&run)?, &approval, &reply).await?;
    Ok(Json(answered.audit))
}
