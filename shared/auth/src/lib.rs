//! API keys, `twk_` and 256 random bits, and the tokens of executors, `twx_` and as many. Each is shown once, when it is
//! made; only its hash is kept, and it is looked up by that, so that there is nothing to compare and nothing to leak.

mod secret;

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest, Sha256};

pub use secret::Secret;

/// 32 bytes in base64.
const LENGTH: usize = 43;

/// The system gave no random bits.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("the system gave no random bits")]
pub struct NoRandomness;

/// Defines a sort of credential: a prefix and 256 random bits.
macro_rules! credential {
    ($(#[$doc:meta])* $name:ident, $prefix:literal, $(#[$error_doc:meta])* $error:ident, $message:literal) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq)]
        pub struct $name(String);

        $(#[$error_doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
        #[error($message)]
        pub struct $error;

        impl $name {
            /// A new one.
            ///
            /// # Errors
            /// If the system has no random bits to give.
            pub fn generate() -> Result<Self, NoRandomness> {
                let mut bits = [0u8; 32];
                getrandom::fill(&mut bits).map_err(|_| NoRandomness)?;
                Ok(Self(format!("{}{}", $prefix, URL_SAFE_NO_PAD.encode(bits))))
            }

            /// The one that a caller presents.
            ///
            /// # Errors
            /// If the text cannot be one.
            pub fn parse(text: &str) -> Result<Self, $error> {
                let random = text.strip_prefix($prefix).ok_or($error)?;
                let fits = random.len() == LENGTH
                    && random
                        .bytes()
                        .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
                fits.then(|| Self(text.to_owned())).ok_or($error)
            }

            /// What it is stored and looked up by: SHA-256, in hexadecimal. It has all of 256 random bits, so the hash
            /// needs no salt and no stretching.
            pub fn hash(&self) -> String {
                format!("{:x}", Sha256::digest(self.0.as_bytes()))
            }

            /// The credential itself, to be shown or sent.
            pub fn reveal(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(concat!($prefix, "…"))
            }
        }
    };
}

credential!(
    /// An API key in the clear. It does not print.
    Key, "twk_",
    /// A text that is no API key.
    NotAKey, "an API key is twk_ and 43 characters"
);
credential!(
    /// The token of an executor in the clear. It does not print.
    ExecutorToken, "twx_",
    /// A text that is no token of an executor.
    NotAToken, "an executor's token is twx_ and 43 characters"
);

/// The token of an `Authorization: Bearer …` header, by the header's value.
pub fn bearer(value: &str) -> Option<&str> {
    let (scheme, token) = value.split_once(' ')?;
    // The scheme's case means nothing (RFC 9110, section 11.1).
    let is_bearer = scheme.eq_ignore_ascii_case("Bearer");
    is_bearer.then(|| token.trim())
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
