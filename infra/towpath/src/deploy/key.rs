//! The first key of a deployment, fetched into a file that only its owner can read.

use std::path::PathBuf;

use towpath_auth::Key;

use super::account::Session;
use super::stack::Outputs;
use crate::standing::write_private;

/// Fetches the first key, and keeps it in a file of its own. Returns both.
pub(super) async fn fetch(
    session: &Session,
    outputs: &Outputs,
    stack: &str,
) -> Result<(Key, PathBuf), String> {
    let arn = outputs.need("FirstKeySecretArn")?;
    let secret = session.clients().secrets.read(&arn).await;
    let secret = secret.map_err(|error| {
        let why = error
            .as_service_error()
            .map_or("nothing answers".to_owned(), ToString::to_string);
        format!("the first key cannot be read from {arn}: {why}")
    })?;
    let key = Key::parse(&format!("twk_{}", secret.expose()));
    let key = key.map_err(|_| format!("{arn} does not hold a key"))?;
    let file = folder()?.join(format!("{stack}-{}.key", session.region()));
    let failed = |error: std::io::Error| format!("{}: {error}", file.display());
    if let Some(dir) = file.parent() {
        std::fs::create_dir_all(dir).map_err(failed)?;
    }
    write_private(&file, key.reveal()).map_err(failed)?;
    Ok((key, file))
}

/// The folder of a user's own settings of this command.
fn folder() -> Result<PathBuf, String> {
    let set = |name: &str| {
        std::env::var_os(name)
            .filter(|it| !it.is_empty())
            .map(PathBuf::from)
    };
    let config = set("XDG_CONFIG_HOME").or_else(|| Some(set("HOME")?.join(".config")));
    let none = || "there is no place for the key; set HOME or XDG_CONFIG_HOME".to_owned();
    Ok(config.ok_or_else(none)?.join("towpath"))
}
