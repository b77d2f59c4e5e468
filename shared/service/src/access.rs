//! Access: who an API key belongs to. A deployment makes the first key as a secret, and it is admitted when it is first
//! used.

use std::sync::Arc;

use tokio::sync::OnceCell;
use towpath_auth::Key;
use towpath_aws::Secrets;
use towpath_clock::Clock;
use towpath_engine::Timestamp;
use towpath_store::{ApiKey, Scope, Store};

use crate::Error;

/// The workspace of the first key.
const WORKSPACE: &str = "default";

/// The secret that holds the first key.
#[derive(Clone)]
pub struct FirstKey {
    secrets: Secrets,
    arn: String,
    /// The hash of the key, once it was read.
    hash: Arc<OnceCell<String>>,
}

impl FirstKey {
    /// The first key in the secret of this ARN.
    pub fn new(secrets: Secrets, arn: String) -> Self {
        Self {
            secrets,
            arn,
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
    first_key: Option<FirstKey>,
}

impl Access {
    pub(crate) fn new(store: Store, clock: Clock, first_key: Option<FirstKey>) -> Self {
        Self {
            store,
            clock,
            first_key,
        }
    }

    /// The record of a key that was presented. The first key is put on record when it is first seen.
    ///
    /// # Errors
    /// If the records or the secret cannot be read.
    pub async fn api_key(&self, key: &Key) -> Result<Option<ApiKey>, Error> {
        let hash = key.hash();
        if let Some(known) = self.store.api_key(&hash).await? {
            return Ok(Some(known));
        }
        let Some(first) = &self.first_key else {
            return Ok(None);
        };
        if first.hash().await? != hash {
            return Ok(None);
        }
        let record = ApiKey {
            workspace: WORKSPACE
                .parse()
                .map_err(|error| Error::Config(format!("{error}")))?,
            scope: Scope::Admin,
            name: "first".to_owned(),
            created_at: Timestamp(self.clock.now_ms()),
        };
        self.store.put_api_key(&hash, &record).await?;
        Ok(Some(record))
    }
}
