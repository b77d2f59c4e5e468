//! What the specs of substrates have in common: where they are kept, and what a job gets that asks for nothing.

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use towpath_engine::Resources;
use towpath_jobs::{CommandWork, StartError};

/// The processors and memory of a job whose step names none, where the substrate has no default of its own.
pub const DEFAULT_RESOURCES: Resources = Resources {
    cpus: 2,
    memory_mb: 4 * 1024,
};

/// Turns a substrate's spec into the JSON that the job's record keeps.
pub fn spec_to_value(spec: &impl Serialize) -> Value {
    serde_json::to_value(spec).unwrap_or_default()
}

/// Reads a substrate's spec from the JSON that the job's record keeps.
///
/// # Errors
/// [`StartError::Unavailable`] if it is none: another release may have written it.
pub fn spec_from_value<T: DeserializeOwned>(value: &Value) -> Result<T, StartError> {
    T::deserialize(value).map_err(|error| {
        StartError::Unavailable(format!("the record of the job cannot be read: {error}"))
    })
}

/// The container image of a job: that of its step, or else the deployment's.
///
/// # Errors
/// [`StartError::Refused`] if there is neither.
pub fn image(
    work: &CommandWork,
    of_deployment: Option<&str>,
    runtime: &str,
) -> Result<String, StartError> {
    let image = work.image.as_deref().or(of_deployment);
    let why = || {
        format!(
            "the runtime `{runtime}` needs an image: name one in the step's `image`, by digest, or set the stack's parameter JobImage"
        )
    };
    image
        .map(str::to_owned)
        .ok_or_else(|| StartError::Refused(why()))
}
