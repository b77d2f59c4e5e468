//! What is made of the deployment's own key: the encryption of secrets for agents, and the codes of runners.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use base64::Engine;
use base64::engine::general_purpose::{STANDARD as BASE64, URL_SAFE_NO_PAD as BASE64_URL};
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::hkdf::{HKDF_SHA256, Prk, Salt};
use ring::hmac;
use tokio::sync::OnceCell;
use towpath_auth::Secret;
use towpath_aws::Secrets;
use towpath_engine::{JobId, SecretName, WorkspaceId};
use towpath_jobs::Unreadable;
use towpath_jobs_remote::StartCodes;

use crate::Error;

/// Encrypts and decrypts with the deployment's key, which a secret of Secrets Manager holds. The key is read when it is
/// first needed, and once in a process. Cheap to clone.
#[derive(Clone)]
pub struct Vault {
    key_from: KeyFrom,
    keys: Arc<OnceCell<Keys>>,
}

/// The keys that are made of the deployment's.
struct Keys {
    secrets: LessSafeKey,
    codes: hmac::Key,
}

#[derive(Clone)]
enum KeyFrom {
    /// The secret of this ARN.
    Secret(Secrets, String),
    /// This text, in tests.
    Text(String),
    /// Nowhere: this process has nothing to do with secrets.
    Nowhere,
}

impl fmt::Debug for Vault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Vault(…)")
    }
}

impl Vault {
    fn new(key_from: KeyFrom) -> Self {
        Self {
            key_from,
            keys: Arc::default(),
        }
    }

    /// A vault whose key is in the secret of this ARN.
    pub fn at(secrets: Secrets, arn: String) -> Self {
        Self::new(KeyFrom::Secret(secrets, arn))
    }

    /// A vault whose key is made of this text.
    pub fn of_text(text: &str) -> Self {
        Self::new(KeyFrom::Text(text.to_owned()))
    }

    /// The vault of a process that has nothing to do with secrets.
    pub fn nowhere() -> Self {
        Self::new(KeyFrom::Nowhere)
    }

    /// Encrypts the value of a secret. It can be decrypted under the same workspace and name only.
    ///
    /// # Errors
    /// If the key cannot be read, or the system has no randomness.
    pub(crate) async fn seal(
        &self,
        workspace: &WorkspaceId,
        name: &SecretName,
        value: &str,
    ) -> Result<String, Error> {
        let key = &self.keys().await?.secrets;
        let mut nonce = [0; NONCE_LEN];
        getrandom::fill(&mut nonce).map_err(|error| Error::Config(error.to_string()))?;
        let mut text = value.as_bytes().to_vec();
        let unique = Nonce::assume_unique_for_key(nonce);
        key.seal_in_place_append_tag(unique, bound(workspace, name), &mut text)
            .map_err(|_| Error::Config("a secret could not be encrypted".to_owned()))?;
        Ok(BASE64.encode([&nonce[..], &text].concat()))
    }

    /// Decrypts the value of a secret. `None`: it was not encrypted with this key, under this workspace and name.
    ///
    /// # Errors
    /// If the key cannot be read.
    pub(crate) async fn open(
        &self,
        workspace: &WorkspaceId,
        name: &SecretName,
        sealed: &str,
    ) -> Result<Option<Secret>, Error> {
        let key = &self.keys().await?.secrets;
        let opened = || {
            let bytes = BASE64.decode(sealed).ok()?;
            let (nonce, text) = bytes.split_at_checked(NONCE_LEN)?;
            let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
            let mut text = text.to_vec();
            let value = key.open_in_place(nonce, bound(workspace, name), &mut text);
            String::from_utf8(value.ok()?.to_vec()).ok()
        };
        Ok(opened().map(Secret::new))
    }

    /// The code by which the runner of a job proves itself: made of the job's id and the deployment's key.
    async fn code_of(&self, job: &JobId) -> Result<Secret, Error> {
        let key = self.keys().await?;
        let tag = hmac::sign(&key.codes, job.as_str().as_bytes());
        Ok(Secret::new(BASE64_URL.encode(tag)))
    }

    async fn keys(&self) -> Result<&Keys, Error> {
        let read = async || match &self.key_from {
            KeyFrom::Text(text) => derived(text),
            KeyFrom::Nowhere => Err(Error::Config("SECRETS_KEY_ARN is not set".to_owned())),
            KeyFrom::Secret(secrets, arn) => {
                let secret = secrets.read(arn).await.map_err(|error| {
                    tracing::error!("the key of the secrets cannot be read: {error}");
                    Error::Unavailable("Secrets Manager")
                })?;
                derived(secret.expose())
            }
        };
        self.keys.get_or_try_init(read).await
    }
}

/// The text that a value is bound to: it cannot be moved to another name, or to another workspace.
fn bound(workspace: &WorkspaceId, name: &SecretName) -> Aad<Vec<u8>> {
    Aad::from(format!("{workspace}/{name}").into_bytes())
}

/// The keys made of a text of enough randomness.
fn derived(text: &str) -> Result<Keys, Error> {
    let made = Salt::new(HKDF_SHA256, b"towpath secrets").extract(text.as_bytes());
    let keys = |made: &Prk| {
        let secrets = made.expand(&[b"aes-256-gcm"], &AES_256_GCM)?;
        let codes = made.expand(&[b"start codes"], hmac::HMAC_SHA256)?;
        Ok(Keys {
            secrets: LessSafeKey::new(UnboundKey::from(secrets)),
            codes: hmac::Key::from(codes),
        })
    };
    let none = |_: ring::error::Unspecified| "no key can be made of the secret".to_owned();
    keys(&made).map_err(|error| Error::Config(none(error)))
}

#[async_trait]
impl StartCodes for Vault {
    async fn code(&self, job: &JobId) -> Result<Secret, Unreadable> {
        let code = self.code_of(job).await;
        code.map_err(|error| Unreadable(error.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_value_is_read_under_its_own_name_with_its_own_key_only() {
        let (vault, other) = (Vault::of_text("key"), Vault::of_text("other"));
        let (ws, elsewhere) = ("ws".parse().unwrap(), "elsewhere".parse().unwrap());
        let (name, another) = ("token".parse().unwrap(), "another".parse().unwrap());
        let sealed = vault.seal(&ws, &name, "hunter2").await.unwrap();
        assert!(!sealed.contains("hunter2"));
        let again = vault.seal(&ws, &name, "hunter2").await.unwrap();
        assert_ne!(sealed, again, "no two values look alike");
        let opened = vault.open(&ws, &name, &sealed).await.unwrap().unwrap();
        assert_eq!(opened.expose(), "hunter2");
        for wrong in [
            vault.open(&elsewhere, &name, &sealed).await,
            vault.open(&ws, &another, &sealed).await,
            other.open(&ws, &name, &sealed).await,
            vault.open(&ws, &name, "AAAA").await,
            vault.open(&ws, &name, "not base64").await,
        ] {
            assert_eq!(wrong.unwrap(), None);
        }
        assert!(Vault::nowhere().seal(&ws, &name, "x").await.is_err());
    }
}
