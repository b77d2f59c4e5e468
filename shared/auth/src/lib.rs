//! API keys: `twk_` and 256 random bits. A key is shown once, when it is made; only its hash is kept, and a key is
//! looked up by that, so that there is nothing to compare and nothing to leak.

mod secret;

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest, Sha256};

pub use secret::Secret;

const PREFIX: &str = "twk_";
/// 32 bytes in base64.
const LENGTH: usize = 43;

/// An API key in the clear. It does not print.
#[derive(Clone, PartialEq, Eq)]
pub struct Key(String);

/// A text that is no API key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an API key is twk_ and 43 characters")]
pub struct NotAKey;

/// The system gave no random bits.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("the system gave no random bits")]
pub struct NoRandomness;

impl Key {
    /// A new key.
    ///
    /// # Errors
    /// If the system has no random bits to give.
    pub fn generate() -> Result<Self, NoRandomness> {
        let mut bits = [0u8; 32];
        getrandom::fill(&mut bits).map_err(|_| NoRandomness)?;
        Ok(Self(format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(bits))))
    }

    /// The key that a caller presents.
    ///
    /// # Errors
    /// If the text cannot be a key.
    pub fn parse(text: &str) -> Result<Self, NotAKey> {
        let random = text.strip_prefix(PREFIX).ok_or(NotAKey)?;
        let fits = random.len() == LENGTH
            && random
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
        if fits {
            Ok(Self(text.to_owned()))
        } else {
            Err(NotAKey)
        }
    }

    /// What the key is stored and looked up by: SHA-256, in hexadecimal. A key has all of 256 random bits, so the hash
    /// needs no salt and no stretching.
    pub fn hash(&self) -> String {
        format!("{:x}", Sha256::digest(self.0.as_bytes()))
    }

    /// The key itself, to be shown or sent.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("twk_…")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_told_from_nonsense_and_does_not_print() {
        let key = Key::generate().unwrap();
        assert_eq!(Key::parse(key.reveal()), Ok(key.clone()));
        assert_ne!(Key::generate().unwrap(), key);
        assert_eq!(key.hash().len(), 64);
        assert_eq!(format!("{key:?}"), "twk_…");
        for text in [
            "",
            "twk_",
            "twk_short",
            &key.reveal()[4..],
            &format!("{}x", key.reveal()),
        ] {
            assert_eq!(Key::parse(text), Err(NotAKey), "{text}");
        }
    }
}
