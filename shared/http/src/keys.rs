//! API keys: made, listed, revoked.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::{delete, get};
use axum::{Json, Router};
use serde::{Deserialize, Serialize};
use towpath_api_types::{Code, List, Problem};
use towpath_engine::Timestamp;
use towpath_service::{App, Error};
use towpath_store::{Error as StoreError, ListedKey, Scope};

use crate::access::{ADMIN, Holder};
use crate::body::{Body, fits};
use crate::parts::Path;
use crate::problem::No;

type Shared = State<Arc<App>>;

pub(crate) fn routes() -> Router<Arc<App>> {
    Router::new()
        .route("/keys", get(list).post(make))
        .route("/keys/{key}", delete(revoke))
}

/// `POST /keys`
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct MakeKey {
    /// The key's name: it stands in the audit of what is done with the key.
    name: String,
    /// All that the key may do.
    scope: Scope,
}

/// A key, as it may be shown.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct KeyView {
    id: String,
    name: String,
    scope: Scope,
    created_at: Timestamp,
    #[serde(skip_serializing_if = "Option::is_none")]
    revoked_at: Option<Timestamp>,
    /// The key itself, which is told once.
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<String>,
}

fn shown(listed: ListedKey, key: Option<String>) -> KeyView {
    KeyView {
        id: listed.id,
        name: listed.key.name,
        scope: listed.key.scope,
        created_at: listed.key.created_at,
        revoked_at: listed.key.revoked_at,
        key,
    }
}

async fn list(
    State(app): Shared,
    Holder { caller, .. }: Holder<ADMIN>,
) -> Result<Json<List<KeyView>>, No> {
    let keys = app.store.api_keys(&caller.workspace).await?;
    Ok(Json(List {
        items: keys.into_iter().map(|key| shown(key, None)).collect(),
        next: None,
    }))
}

async fn make(
    State(app): Shared,
    Holder { caller, .. }: Holder<ADMIN>,
    Body(ask): Body<MakeKey>,
) -> Result<(StatusCode, Json<KeyView>), No> {
    fits("name", &ask.name, 100)?;
    if ask.name.trim().is_empty() {
        let problem = Problem::new(Code::InvalidRequest, "`name` says whose key it is");
        return Err(No(problem.at("name")));
    }
    let made = app.access.make_key(&caller.workspace, &ask.name, ask.scope);
    let (key, listed) = made.await?;
    let view = shown(listed, Some(key.reveal().to_owned()));
    Ok((StatusCode::CREATED, Json(view)))
}

async fn revoke(
    State(app): Shared,
    Holder { caller, hash, .. }: Holder<ADMIN>,
    Path(id): Path<String>,
) -> Result<StatusCode, No> {
    if !id.is_empty() && hash.starts_with(&id) {
        let message =
            "a key cannot revoke itself: make another of scope admin, and revoke this one with it";
        return Err(No::new(Code::WrongState, message));
    }
    match app.access.revoke_key(&caller.workspace, &id, &hash).await {
        Ok(true) => Ok(StatusCode::NO_CONTENT),
        Err(Error::Store(StoreError::Conflict)) => {
            let keys = app.store.api_keys(&caller.workspace).await?;
            // What was revoked before is as the caller wants it.
            match keys
                .iter()
                .any(|it| it.id == id && it.key.revoked_at.is_some())
            {
                true => Ok(StatusCode::NO_CONTENT),
                false => Err(No::new(
                    Code::Busy,
                    "keys are being revoked; look, then try again",
                )),
            }
        }
        Ok(false) => Err(No::new(Code::NotFound, format!("there is no key {id}"))),
        Err(error) => Err(error.into()),
    }
}
