//! The identity of a worker: a UUID and a token, in a file that only its owner may read.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use towpath_auth::Secret;
use towpath_runner::write_durably;

use crate::Error;

/// The identity of a worker.
pub(crate) struct Identity {
    path: PathBuf,
    /// The UUID of the worker.
    pub(crate) executor: String,
    /// The token, once the worker was registered.
    pub(crate) token: Option<Secret>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Kept {
    executor_id: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    token: Option<String>,
}

impl Identity {
    /// The identity in this folder, which is made if there is none.
    pub(crate) fn of(folder: &Path) -> Result<Self, Error> {
        let path = folder.join("identity.json");
        match fs::read(&path) {
            Ok(bytes) => {
                // The parser's message might quote the token.
                let broken = |_| Error::Folder {
                    path: path.clone(),
                    why:
                        "it is no identity; delete it, and remove the executor from the deployment"
                            .to_owned(),
                };
                let kept: Kept = serde_json::from_slice(&bytes).map_err(broken)?;
                Ok(Self {
                    path,
                    executor: kept.executor_id,
                    token: kept.token.map(Secret::new),
                })
            }
            Err(error) if error.kind() == ErrorKind::NotFound => {
                let new = Self {
                    executor: new_uuid()?,
                    token: None,
                    path,
                };
                new.save()?;
                Ok(new)
            }
            Err(error) => Err(Error::folder(&path)(error)),
        }
    }

    /// Keeps another token.
    pub(crate) fn set_token(&mut self, token: &str) -> Result<(), Error> {
        self.token = Some(Secret::new(token));
        self.save()
    }

    fn save(&self) -> Result<(), Error> {
        let kept = Kept {
            executor_id: self.executor.clone(),
            token: self.token.as_ref().map(|it| it.expose().to_owned()),
        };
        let bytes = serde_json::to_vec(&kept).unwrap_or_default();
        write_durably(&self.path, &bytes).map_err(Error::folder(&self.path))
    }
}

/// A random UUID, version 4.
pub(crate) fn new_uuid() -> Result<String, Error> {
    let mut bits = [0_u8; 16];
    getrandom::fill(&mut bits)
        .map_err(|_| Error::Refused("the system gives no random bits".to_owned()))?;
    let mut number = u128::from_be_bytes(bits);
    number &= !(0xf << 76 | 0x3 << 62);
    number |= 0x4 << 76 | 0x2 << 62;
    let hex = format!("{number:032x}");
    let parts = [0..8, 8..12, 12..16, 16..20, 20..32];
    let parts = parts.map(|range| hex.get(range).unwrap_or_default());
    Ok(parts.join("-"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_identity_is_a_random_uuid_of_version_4() {
        let (one, other) = (new_uuid().unwrap(), new_uuid().unwrap());
        assert_ne!(one, other);
        assert!(one.parse::<towpath_executors::ExecutorId>().is_ok());
        assert_eq!(one.as_bytes()[14], b'4');
        assert!(matches!(one.as_bytes()[19], b'8' | b'9' | b'a' | b'b'));
    }
}
