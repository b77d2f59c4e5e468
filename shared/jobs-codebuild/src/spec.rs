//! What a job asks CodeBuild for, as its record keeps it: a repeated start asks for the same.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use towpath_engine::Resources;
use towpath_jobs::{CommandWork, JobRequest, StartError};

/// The longest a build may run, in minutes.
const LONGEST: u64 = 36 * 60;
/// The shortest time-out that CodeBuild takes, in minutes. The runner holds a shorter one.
const SHORTEST: u32 = 5;
/// The longest a build may wait for its turn, in minutes.
const LONGEST_WAIT: u32 = 8 * 60;
/// The time that a build has besides its command's, in minutes: for the checkout, the push, and telling the end.
const AROUND: u64 = 10;

/// The machines of CodeBuild: their processors, their memory in MiB, and what they are called.
const MACHINES: [(u32, u32, &str); 5] = [
    (2, 3 * 1024, "BUILD_GENERAL1_SMALL"),
    (4, 7 * 1024, "BUILD_GENERAL1_MEDIUM"),
    (8, 15 * 1024, "BUILD_GENERAL1_LARGE"),
    (36, 70 * 1024, "BUILD_GENERAL1_XLARGE"),
    (72, 145 * 1024, "BUILD_GENERAL1_2XLARGE"),
];

/// What a job asks for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Spec {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) image: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) compute_type: Option<String>,
    pub(crate) timeout_minutes: u32,
    pub(crate) queued_timeout_minutes: u32,
}

impl Spec {
    pub(crate) fn of(request: &JobRequest, work: &CommandWork) -> Result<Self, StartError> {
        let minutes = minutes(request.max_run);
        if minutes + AROUND > LONGEST {
            let why = format!(
                "a build of CodeBuild runs for {LONGEST} minutes at most; set the step's `budgets.jobMinutes` to {} or less",
                LONGEST - AROUND
            );
            return Err(StartError::Refused(why));
        }
        let whole = |minutes: u64| u32::try_from(minutes).unwrap_or(u32::MAX);
        Ok(Self {
            image: work.image.clone(),
            compute_type: work.resources.as_ref().map(machine).transpose()?,
            timeout_minutes: whole(minutes + AROUND).max(SHORTEST),
            queued_timeout_minutes: whole(minutes).clamp(SHORTEST, LONGEST_WAIT),
        })
    }
}

/// The smallest machine that has what is needed.
fn machine(needed: &Resources) -> Result<String, StartError> {
    let fits =
        |(cpus, memory, _): &&(u32, u32, &str)| *cpus >= needed.cpus && *memory >= needed.memory_mb;
    let found = MACHINES.iter().find(fits).map(|(_, _, name)| *name);
    let none = || {
        let why = format!(
            "CodeBuild has no machine with {} processors and {} MiB of memory",
            needed.cpus, needed.memory_mb
        );
        StartError::Refused(why)
    };
    found.map(str::to_owned).ok_or_else(none)
}

fn minutes(time: Duration) -> u64 {
    time.as_secs().div_ceil(60)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn needed(cpus: u32, memory_mb: u32) -> Resources {
        Resources { cpus, memory_mb }
    }

    #[test]
    fn the_smallest_machine_that_has_both_is_taken() {
        for (cpus, memory, name) in [
            (1, 256, "SMALL"),
            (2, 3072, "SMALL"),
            (2, 3073, "MEDIUM"),
            (5, 256, "LARGE"),
            (9, 256, "XLARGE"),
            (72, 148_480, "2XLARGE"),
        ] {
            let found = machine(&needed(cpus, memory)).unwrap();
            assert_eq!(found, format!("BUILD_GENERAL1_{name}"), "{cpus} {memory}");
        }
        assert!(machine(&needed(73, 256)).is_err());
    }
}
