//! A secret that the template has generated.

use serde_json::Value;

use super::{Resource, arn};
use crate::error::Error;

/// A secret that is generated.
#[derive(Clone, Debug)]
pub(crate) struct SecretSpec {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) arn: String,
    /// The length of the secret, in letters and digits.
    pub(crate) length: usize,
}

impl SecretSpec {
    pub(super) fn read(at: &Resource<'_>) -> Result<Self, Error> {
        let properties = at.properties()?;
        at.only(
            &properties,
            &["Name", "GenerateSecretString"],
            &["Description", "KmsKeyId", "Tags"],
        )?;
        let how = at.map(&properties, "GenerateSecretString")?;
        let place = at.place("GenerateSecretString");
        let length = how
            .get("PasswordLength")
            .map_or(Some(32), Value::as_u64)
            .and_then(|length| length.try_into().ok());
        let plain = how.get("ExcludePunctuation") == Some(&Value::Bool(true));
        let known = how
            .keys()
            .all(|key| ["PasswordLength", "ExcludePunctuation"].contains(&key.as_str()));
        match length.filter(|_| plain && known) {
            Some(length) => {
                let name = at.scope.name(at.id, &place)?;
                let arn = arn("secretsmanager", &format!("secret:{name}"));
                Ok(Self {
                    id: at.id.to_owned(),
                    name,
                    arn,
                    length,
                })
            }
            None => {
                let message = "the local cloud makes secrets of a PasswordLength with ExcludePunctuation, and no others";
                Err(Error::template(place, message))
            }
        }
    }
}
