//! Values of environment variables, as a pipeline gives them.

use std::fmt;

use serde::de::{Error, MapAccess, Visitor};
use serde::ser::SerializeMap;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::SecretName;

/// The value of an environment variable of a command: a text, or the name of a secret, written `{ secret: NAME }`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EnvValue {
    /// A text, as it stands in the pipeline.
    Text(String),
    /// The secret of this name, as it is when the command starts.
    Secret(SecretName),
}

impl EnvValue {
    /// The secret that the value names.
    pub fn secret(&self) -> Option<&SecretName> {
        match self {
            Self::Text(_) => None,
            Self::Secret(name) => Some(name),
        }
    }
}

impl Serialize for EnvValue {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Text(text) => serializer.serialize_str(text),
            Self::Secret(name) => {
                let mut map = serializer.serialize_map(Some(1))?;
                map.serialize_entry("secret", name)?;
                map.end()
            }
        }
    }
}

impl<'de> Deserialize<'de> for EnvValue {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Reader)
    }
}

struct Reader;

impl<'de> Visitor<'de> for Reader {
    type Value = EnvValue;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a text, in quotes if it looks like a number, or { secret: NAME }")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<EnvValue, E> {
        Ok(EnvValue::Text(text.to_owned()))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<EnvValue, A::Error> {
        let mut found = None;
        while let Some(key) = map.next_key::<String>()? {
            match key.as_str() {
                "secret" if found.is_none() => found = Some(map.next_value()?),
                other => return Err(A::Error::unknown_field(other, &["secret"])),
            }
        }
        found
            .map(EnvValue::Secret)
            .ok_or_else(|| A::Error::missing_field("secret"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_a_text_or_names_a_secret() {
        for json in [r#""plain""#, r#"{"secret":"token"}"#] {
            let value: EnvValue = serde_json::from_str(json).unwrap();
            assert_eq!(serde_json::to_string(&value).unwrap(), json);
            assert_eq!(value.secret().is_some(), json.starts_with('{'));
        }
        for (wrong, says) in [
            ("1", "in quotes"),
            ("{}", "missing field"),
            (r#"{"secret":"A b"}"#, "name of a secret"),
            (r#"{"secret":"a","or":"b"}"#, "unknown field"),
        ] {
            let error = serde_json::from_str::<EnvValue>(wrong).unwrap_err();
            assert!(error.to_string().contains(says), "{wrong}: {error}");
        }
    }
}
