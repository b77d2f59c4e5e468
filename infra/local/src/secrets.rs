//! Secrets Manager, as far as the template makes secrets and functions read them.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::{Value, json};

use crate::data;
use crate::error::Error;
use crate::random;
use crate::template::SecretSpec;

/// The secrets, generated when they were first needed.
pub(crate) struct Secrets {
    specs: Vec<SecretSpec>,
    values: BTreeMap<String, String>,
}

impl Secrets {
    /// Reads the secrets kept in the directory, and makes and keeps those that are not there yet.
    pub(crate) fn open(directory: Option<&Path>, specs: Vec<SecretSpec>) -> Result<Self, Error> {
        let kept = directory.map(|directory| directory.join("secrets.json"));
        let mut values = kept.as_deref().map_or(Ok(BTreeMap::new()), read)?;
        let before = values.len();
        for spec in &specs {
            if !values.contains_key(&spec.id) {
                values.insert(spec.id.clone(), random::text(spec.length)?);
            }
        }
        if let Some(path) = kept.filter(|_| values.len() > before) {
            data::write(&path, &json!(values).to_string())?;
        }
        Ok(Self { specs, values })
    }

    /// The same, with more secrets, by their ARNs. These are not kept.
    pub(crate) fn with(mut self, more: &BTreeMap<String, String>) -> Self {
        for (arn, value) in more {
            self.specs.push(SecretSpec {
                id: arn.clone(),
                name: arn.clone(),
                arn: arn.clone(),
                length: value.len(),
            });
            self.values.insert(arn.clone(), value.clone());
        }
        self
    }

    /// The secret that an ARN, a name or a logical id speaks of.
    pub(crate) fn find(&self, id: &str) -> Option<&SecretSpec> {
        self.specs.iter().find(|spec| {
            [&spec.arn, &spec.name, &spec.id]
                .iter()
                .any(|known| **known == id)
        })
    }

    /// The value of a secret.
    pub(crate) fn value(&self, id: &str) -> Option<&str> {
        self.values.get(&self.find(id)?.id).map(String::as_str)
    }

    /// The answer of `GetSecretValue`, if there is such a secret.
    pub(crate) fn answer(&self, id: &str) -> Option<Value> {
        let spec = self.find(id)?;
        Some(json!({
            "ARN": spec.arn,
            "Name": spec.name,
            "SecretString": self.value(id)?,
            "VersionStages": ["AWSCURRENT"],
        }))
    }
}

/// Reads the secrets in a file, by the logical ids of their resources. One that cannot be read is not taken for none: with
/// new secrets, what was encrypted or signed with the old ones would be lost.
fn read(path: &Path) -> Result<BTreeMap<String, String>, Error> {
    let Some(text) = data::read(path)? else {
        return Ok(BTreeMap::new());
    };
    // The parser's own message may quote a secret.
    serde_json::from_str(&text).map_err(|_| Error::Syntax {
        path: path.to_owned(),
        message: "it holds no secrets that a local cloud wrote; restore it, or remove it to have new secrets made".to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_stays_what_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let spec = |id: &str| SecretSpec {
            id: id.to_owned(),
            name: format!("towpath-{id}"),
            arn: format!("arn:secret:{id}"),
            length: 43,
        };
        let first = Secrets::open(Some(folder.path()), vec![spec("A")]).unwrap();
        let value = first.value("A").unwrap().to_owned();
        assert!(
            value.len() == 43 && value.chars().all(|c| c.is_ascii_alphanumeric()),
            "{value}"
        );
        let second = Secrets::open(Some(folder.path()), vec![spec("A"), spec("B")]).unwrap();
        assert_eq!(second.value("arn:secret:A"), Some(value.as_str()));
        assert_ne!(second.value("towpath-B"), Some(value.as_str()));
        assert_eq!(second.answer("A").unwrap()["SecretString"], value.as_str());
        assert_eq!(second.value("C"), None);
        let more = BTreeMap::from([("arn:secret:C".to_owned(), "given".to_owned())]);
        let third = second.with(&more);
        assert_eq!(
            third.answer("arn:secret:C").unwrap()["SecretString"],
            "given"
        );
        let fourth = Secrets::open(Some(folder.path()), vec![spec("A")]).unwrap();
        assert_eq!(
            fourth.value("arn:secret:C"),
            None,
            "what was given is not kept"
        );
    }
}
