//! Secrets Manager, as far as the template makes secrets and functions read them.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::{Value, json};

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
    pub(crate) fn open(data: Option<&Path>, specs: Vec<SecretSpec>) -> Result<Self, Error> {
        let kept = data.map(|data| data.join("secrets.json"));
        let read = kept.as_deref().and_then(|path| std::fs::read(path).ok());
        // What a process that was killed left half-written is made anew.
        let mut values: BTreeMap<String, String> = read
            .and_then(|bytes| serde_json::from_slice(&bytes).ok())
            .unwrap_or_default();
        let before = values.len();
        for spec in &specs {
            if !values.contains_key(&spec.id) {
                values.insert(spec.id.clone(), random::text(spec.length)?);
            }
        }
        if let Some(path) = kept.filter(|_| values.len() > before) {
            let failed = |error| Error::io(format!("cannot write {}", path.display()), error);
            std::fs::write(&path, json!(values).to_string()).map_err(failed)?;
        }
        Ok(Self { specs, values })
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
    }
}
