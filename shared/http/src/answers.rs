//! Answers of humans.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::State;
use axum::extract::rejection::BytesRejection;
use axum::routing::post;
use axum::{Json, Router};
use towpath_api_types::{Approve, Code, Decide, Problem, Reject, RequestChanges};
use towpath_engine::{Answer, Audit};
use towpath_service::App;

use crate::access::{DECIDE, Holder};
use crate::body::{Body, fits, id, parse};
use crate::parts::Path;
use crate::problem::No;

type Shared = State<Arc<App>>;

pub(crate) fn routes() -> Router<Arc<App>> {
    Router::new()
        .route("/runs/{run}/decisions/{decision}", post(decide))
        .route("/runs/{run}/approvals/{approval}/{verb}", post(approval))
}

async fn decide(
    State(app): Shared,
    Holder { caller, .. }: Holder<DECIDE>,
    Path((run, decision)): Path<(String, String)>,
    Body(ask): Body<Decide>,
) -> Result<Json<Audit>, No> {
    fits("choice", &ask.choice, 4096)?;
    let said = Answer::Choice(ask.choice);
    let answered = app
        .answers
        .answer(&caller, &id(&run)?, &decision, &said)
        .await?;
    Ok(Json(answered.audit))
}

async fn approval(
    State(app): Shared,
    Holder { caller, .. }: Holder<DECIDE>,
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
    let said = match verb.as_str() {
        "approve" => Answer::Approve {
            proposal: parse::<Approve>(&body)?.proposal,
        },
        "request-changes" => changes(parse(&body)?)?,
        "reject" => {
            let Reject { reason } = parse(&body)?;
            fits("reason", reason.as_deref().unwrap_or_default(), 4096)?;
            Answer::Reject { reason }
        }
        other => {
            let message =
                format!("{other} is no answer to an approval: approve, request-changes or reject");
            return Err(No::new(Code::NotFound, message));
        }
    };
    let answered = app
        .answers
        .answer(&caller, &id(&run)?, &approval, &said)
        .await?;
    Ok(Json(answered.audit))
}

/// A request for changes, if it says any and not too many.
fn changes(ask: RequestChanges) -> Result<Answer, No> {
    let RequestChanges { feedback, comments } = ask;
    let said = feedback.as_deref().unwrap_or_default();
    let problem =
        |field: &str, message| Err(No(Problem::new(Code::InvalidRequest, message).at(field)));
    if said.trim().is_empty() && comments.is_empty() {
        let message = "say what is to be changed, in `feedback` or in `comments`";
        return problem("feedback", message);
    }
    fits("feedback", said, 32 * 1024)?;
    let size = |comment| serde_json::to_string(comment).map_or(0, |text| text.len());
    if comments.iter().map(size).sum::<usize>() > 64 * 1024 {
        return problem("comments", "`comments` are more than 64 KiB in all");
    }
    Ok(Answer::RequestChanges { feedback, comments })
}
