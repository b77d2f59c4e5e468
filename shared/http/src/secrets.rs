//! Secrets for agents: put, listed by name, deleted. No value is ever told.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::{get, put};
use axum::{Json, Router};
use serde::{Deserialize, Serialize};
use towpath_api_types::{Code, List, Problem};
use towpath_engine::{SecretName, Timestamp};
use towpath_service::App;
use towpath_store::SealedSecret;

use crate::access::{ADMIN, Holder};
use crate::body::{Body, fits};
use crate::parts::Path;
use crate::problem::No;

type Shared = State<Arc<App>>;

/// The fewest characters of a value: anything shorter could not be masked without making logs unreadable.
const SHORTEST: usize = 8;
/// The most bytes of a value: what an environment variable may hold with some others beside it.
const LONGEST: usize = 32 * 1024;

pub(crate) fn routes() -> Router<Arc<App>> {
    Router::new()
        .route("/secrets", get(list))
        .route("/secrets/{secret}", put(keep).delete(forget))
}

/// `PUT /secrets/{name}`
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PutSecret {
    value: String,
}

/// A secret, as it may be shown.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct SecretView {
    name: SecretName,
    updated_at: Timestamp,
    updated_by: String,
}

impl From<SealedSecret> for SecretView {
    fn from(secret: SealedSecret) -> Self {
        Self {
            name: secret.name,
            updated_at: secret.updated_at,
            updated_by: secret.updated_by,
        }
    }
}

fn name(text: &str) -> Result<SecretName, No> {
    text.parse().map_err(|error: towpath_engine::InvalidId| {
        No(Problem::new(Code::InvalidRequest, error.to_string()).at("name"))
    })
}

async fn list(
    State(app): Shared,
    Holder { caller, .. }: Holder<ADMIN>,
) -> Result<Json<List<SecretView>>, No> {
    let secrets = app.secrets.list(&caller.workspace).await?;
    Ok(Json(List {
        items: secrets.into_iter().map(SecretView::from).collect(),
        next: None,
    }))
}

async fn keep(
    State(app): Shared,
    Holder { caller, .. }: Holder<ADMIN>,
    Path(secret): Path<String>,
    Body(PutSecret { value }): Body<PutSecret>,
) -> Result<Json<SecretView>, No> {
    let name = name(&secret)?;
    if value.trim().chars().count() < SHORTEST {
        let message =
            "a secret has at least 8 characters: a shorter one could not be kept out of logs";
        return Err(No(Problem::new(Code::InvalidRequest, message).at("value")));
    }
    fits("value", &value, LONGEST)?;
    Ok(Json(app.secrets.put(&caller, &name, &value).await?.into()))
}

async fn forget(
    State(app): Shared,
    Holder { caller, .. }: Holder<ADMIN>,
    Path(secret): Path<String>,
) -> Result<StatusCode, No> {
    let name = name(&secret)?;
    match app.secrets.delete(&caller.workspace, &name).await? {
        true => Ok(StatusCode::NO_CONTENT),
        false => Err(No::new(
            Code::NotFound,
            format!("there is no secret {name}"),
        )),
    }
}
