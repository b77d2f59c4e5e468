//! The first API key: a deployment makes it as a secret, and it is admitted when it is first used.

use std::sync::Arc;

use tokio::sync::OnceCell;
use towpath_auth::Key;
use towpath_aws::Secrets;
use towpath_store::{ApiKey, Scope};

use crate::{App, Error};

/// Whose key the first one is.
const WORKSPACE: &str = "default";

/// Where the first key is.
#[derive(Clone)]
pub(crate) struct FirstKey {
    secrets: Secrets,
    arn: String,
    /// Its hash, once it was read.
    hash: Arc<OnceCell<String>>,
}

impl FirstKey {
    pub(crate) fn new(secrets: Secrets, arn: String) -> Self {
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

impl App {
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
            created_at: self.now(),
        };
        self.store.put_api_key(&hash, &record).await?;
        Ok(Some(record))
    }
}
