//! Access: who an API key belongs to. A deployment makes the first key as a secret, and it is admitted when it is first
//! used.

use std::sync::Arc;

use tokio::sync::OnceCell;
use towpath_auth::Key;
use towpath_aws::Secrets;
use towpath_clock::Clock;
use towpath_engine::{Timestamp, WorkspaceId};
use towpath_store::{ApiKey, ListedKey, Scope, Store};

use crate::Error;

/// The workspace of the first key.
const WORKSPACE: &str = "default";

/// The secret that holds a key which the deployment made itself: the first key, or the one that enrols executors.
#[derive(Clone)]
pub struct FirstKey {
    secrets: Secrets,
    arn: String,
    scope: Scope,
    /// The hash of the key, once it was read.
    hash: Arc<OnceCell<String>>,
}

impl FirstKey {
    /// The key in the secret of this ARN, which is for this scope.
    pub fn new(secrets: Secrets, arn: String, scope: Scope) -> Self {
        Self {
            secrets,
            arn,
            scope,
            hash: Arc::default(),
        }
    }

    async fn hash(&self) -> Result<&str, Error> {
        let read = async || {
            let secret = self.secrets.read(&self.arn).await.map_err(|error| {
                tracing::error!("the first key cannot be read: {error}");
                Error::Unavailable("Secrets Manager")
            })?;
            let key = Key::parse(&format!("twk_{}", secret.expose()));
            key.map(|key| key.hash())
                .map_err(|error| Error::Config(format!("the first key's secret: {error}")))
        };
        self.hash.get_or_try_init(read).await.map(String::as_str)
    }
}

/// Knows API keys.
#[derive(Clone)]
pub struct Access {
    store: Store,
    clock: Clock,
    first_keys: Vec<FirstKey>,
}

impl Access {
    pub(crate) fn new(store: Store, clock: Clock, first_keys: Vec<FirstKey>) -> Self {
        Self {
            store,
            clock,
            first_keys,
        }
    }

    /// The record of a key that was presented. The first key is put on record when it is first seen.
    ///
    /// # Errors
    /// If the records or the secret cannot be read.
    pub async fn api_key(&self, key: &Key) -> Result<Option<ApiKey>, Error> {
        let hash = key.hash();
        if let Some(known) = self.store.api_key(&hash).await? {
            return Ok(Some(known).filter(|known| known.revoked_at.is_none()));
        }
        for first in &self.first_keys {
            if first.hash().await? == hash {
                return self.admit(&hash, first.scope).await.map(Some);
            }
        }
        Ok(None)
    }

    /// Puts a key on record that the deployment made.
    async fn admit(&self, hash: &str, scope: Scope) -> Result<ApiKey, Error> {
        let record = ApiKey {
            workspace: WORKSPACE
                .parse()
                .map_err(|error| Error::Config(format!("{error}")))?,
            scope,
            name: match scope {
                Scope::Enrol => "enrolment".to_owned(),
                _ => "first".to_owned(),
            },
            created_at: Timestamp(self.clock.now_ms()),
            revoked_at: None,
        };
        self.store.put_api_key(hash, &record).await?;
        Ok(record)
    }

    /// Makes a key for a workspace. It is told here and never again.
    ///
    /// # Errors
    /// If the system has no randomness, or the key cannot be written.
    pub async fn make_key(
        &self,
        workspace: &WorkspaceId,
        name: &str,
        scope: Scope,
    ) -> Result<(Key, ListedKey), Error> {
        let key = Key::generate().map_err(|error| Error::Config(error.to_string()))?;
        let record = ApiKey {
            workspace: workspace.clone(),
            scope,
            name: name.to_owned(),
            created_at: Timestamp(self.clock.now_ms()),
            revoked_at: None,
        };
        let hash = key.hash();
        self.store.put_api_key(&hash, &record).await?;
        Ok((key, ListedKey::new(&hash, &record)))
    }

    /// Revokes a key of a workspace by another. False: there is no such key.
    ///
    /// # Errors
    /// As for [`Store::revoke_api_key`].
    pub async fn revoke_key(
        &self,
        workspace: &WorkspaceId,
        id: &str,
        by: &str,
    ) -> Result<bool, Error> {
        let now = Timestamp(self.clock.now_ms());
        Ok(self.store.revoke_api_key(workspace, id, by, now).await?)
    }
}
