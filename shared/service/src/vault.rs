//! Secrets for agents: encrypted where they are kept, and read where a job starts.

use std::fmt;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::hkdf::{HKDF_SHA256, Salt};
use tokio::sync::OnceCell;
use towpath_auth::Secret;
use towpath_aws::Secrets;
use towpath_engine::{SecretName, WorkspaceId};

use crate::Error;

/// Encrypts and decrypts with the deployment's key, which a secret of Secrets Manager holds. The key is read when it is
/// first needed, and once in a process. Cheap to clone.
#[derive(Clone)]
pub struct Vault {
    key_from: KeyFrom,
    key: Arc<OnceCell<LessSafeKey>>,
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
            key: Arc::default(),
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
        let key = self.key().await?;
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
        let key = self.key().await?;
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

    async fn key(&self) -> Result<&LessSafeKey, Error> {
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
        self.key.get_or_try_init(read).await
    }
}

/// The text that a value is bound to: it cannot be moved to another name, or to another workspace.
fn bound(workspace: &WorkspaceId, name: &SecretName) -> Aad<Vec<u8>> {
    Aad::from(format!("{workspace}/{name}").into_bytes())
}

/// The key made of a text of enough randomness.
fn derived(text: &str) -> Result<LessSafeKey, Error> {
    let made = Salt::new(HKDF_SHA256, b"towpath secrets").extract(text.as_bytes());
    let key = made.expand(&[b"aes-256-gcm"], &AES_256_GCM);
    let key = key.map_err(|_| Error::Config("no key can be made of the secret".to_owned()))?;
    Ok(LessSafeKey::new(UnboundKey::from(key)))
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
