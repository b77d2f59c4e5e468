//! The model gateway of a deployment: where it is, and where its key comes from.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use towpath_auth::Secret;
use towpath_aws::{Secrets, Trouble, classify};
use towpath_clock::Clock;
use towpath_jobs::Unreadable;
use towpath_jobs_model::{Base, Keys, ModelRuntime};
use towpath_store::JobRecords;

use crate::{Config, Error};

/// The model gateway that a deployment names.
#[derive(Clone, Debug)]
pub struct ModelGateway {
    /// The base URL of its API: `TOWPATH_MODEL_BASE`. Without one there is no runtime `model`.
    pub base: Base,
    /// The source of its key.
    pub key: ModelKey,
}

/// The source of the key of a model gateway.
#[derive(Clone, Debug)]
pub enum ModelKey {
    /// The secret of this ARN: `TOWPATH_MODEL_KEY_SECRET`. Only a function that makes inline calls has it.
    At(String),
    /// The key itself: `TOWPATH_MODEL_KEY`, on a laptop.
    Is(Secret),
    /// None: the gateway asks for none, or this function does not call it.
    None,
}

/// The time of a function that is left over when an inline call ends at the latest: for the commit of its answer.
const SPARE: Duration = Duration::from_secs(30);
/// The time-out of the functions that make inline calls, as the template has it.
const FUNCTION: Duration = Duration::from_secs(300);

impl ModelGateway {
    /// Reads the gateway from a configuration. `None`: there is none.
    ///
    /// # Errors
    /// If it cannot be called at that base.
    pub(crate) fn from_lookup(
        lookup: impl Fn(&str) -> Option<String>,
    ) -> Result<Option<Self>, Error> {
        let named = |name| lookup(name).filter(|text| !text.trim().is_empty());
        let Some(base) = named("TOWPATH_MODEL_BASE") else {
            return Ok(None);
        };
        let base = Base::parse(&base)
            .map_err(|error| Error::Config(format!("TOWPATH_MODEL_BASE: {error}")))?;
        let key = named("TOWPATH_MODEL_KEY").map(|key| ModelKey::Is(Secret::new(key.trim())));
        let key = key.or(named("TOWPATH_MODEL_KEY_SECRET").map(ModelKey::At));
        Ok(Some(Self {
            base,
            key: key.unwrap_or(ModelKey::None),
        }))
    }

    /// The runtime that calls it.
    pub(crate) fn runtime(
        &self,
        config: &Config,
        secrets: &Secrets,
        jobs: JobRecords,
        clock: Clock,
    ) -> ModelRuntime {
        let keys: Arc<dyn Keys> = match &self.key {
            ModelKey::None => Arc::new(None),
            ModelKey::Is(key) => Arc::new(Some(key.clone())),
            ModelKey::At(arn) => Arc::new(StoredKey {
                secrets: secrets.clone(),
                arn: arn.clone(),
                read: Mutex::default(),
            }),
        };
        // An invocation begins its last action when it has gone on from action to action for so long.
        let whole = FUNCTION.saturating_sub(SPARE).saturating_sub(config.fold);
        ModelRuntime::new(self.base.clone(), keys, jobs, whole, clock)
    }
}

/// A key that a secret of Secrets Manager holds. It is read when it is first needed, and again when the gateway did not
/// take it: it may have been replaced meanwhile.
struct StoredKey {
    secrets: Secrets,
    arn: String,
    read: Mutex<Option<Secret>>,
}

impl StoredKey {
    fn kept(&self) -> Option<Secret> {
        let read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        read.clone()
    }

    fn keep(&self, key: Option<Secret>) {
        *self.read.lock().unwrap_or_else(PoisonError::into_inner) = key;
    }
}

#[async_trait]
impl Keys for StoredKey {
    async fn key(&self) -> Result<Option<Secret>, Unreadable> {
        if let Some(known) = self.kept() {
            return Ok(Some(known));
        }
        let secret = self.secrets.read(&self.arn).await.map_err(|error| {
            tracing::error!("the key of the model gateway cannot be read: {error}");
            Unreadable(match classify(&error) {
                Trouble::AccessDenied { message } => message,
                _ => format!("Secrets Manager does not give {}", self.arn),
            })
        })?;
        let key = Secret::new(secret.expose().trim());
        self.keep(Some(key.clone()));
        Ok(Some(key))
    }

    async fn refused(&self) {
        self.keep(None);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(set: &[(&str, &str)]) -> Result<Option<ModelGateway>, Error> {
        ModelGateway::from_lookup(|name| {
            let found = set.iter().find(|(known, _)| *known == name);
            found.map(|(_, value)| (*value).to_owned())
        })
    }

    #[test]
    fn a_deployment_has_a_gateway_if_it_names_its_base() {
        for none in [
            &[][..],
            &[("TOWPATH_MODEL_BASE", " ")],
            &[("TOWPATH_MODEL_KEY", "k")],
        ] {
            assert!(read(none).unwrap().is_none(), "{none:?}");
        }
        let base = ("TOWPATH_MODEL_BASE", "https://gateway.example.com/v1");
        let arn = ("TOWPATH_MODEL_KEY_SECRET", "arn:x");
        let key = |set: &[_]| read(set).unwrap().unwrap().key;
        assert!(matches!(key(&[base]), ModelKey::None));
        assert!(matches!(
            key(&[base, ("TOWPATH_MODEL_KEY_SECRET", "")]),
            ModelKey::None
        ));
        assert!(matches!(key(&[base, arn]), ModelKey::At(arn) if arn == "arn:x"));
        let text = key(&[base, arn, ("TOWPATH_MODEL_KEY", "hush\n")]);
        assert!(!format!("{text:?}").contains("hush"));
        assert!(matches!(text, ModelKey::Is(key) if key.expose() == "hush"));
    }

    #[test]
    fn a_base_that_may_not_be_called_is_told_without_what_it_holds() {
        let wrong = read(&[("TOWPATH_MODEL_BASE", "https://me:hush@gateway.example.com")]);
        let message = wrong.unwrap_err().to_string();
        assert!(
            message.contains("TOWPATH_MODEL_BASE") && !message.contains("hush"),
            "{message}"
        );
    }
}
