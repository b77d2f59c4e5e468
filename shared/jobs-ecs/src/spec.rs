//! What a job asks ECS for, as its record keeps it: a repeated start asks for the same.

use serde::{Deserialize, Serialize};
use towpath_engine::Resources;
use towpath_jobs::{CommandWork, StartError};
use towpath_jobs_remote::{DEFAULT_RESOURCES, image};

/// The sizes of Fargate: the units of processor, of 1/1024 each; the least and the most memory in MiB, and its steps.
const SIZES: [(u32, u32, u32, u32); 6] = [
    (512, 1024, 4 * 1024, 1024),
    (1024, 2 * 1024, 8 * 1024, 1024),
    (2 * 1024, 4 * 1024, 16 * 1024, 1024),
    (4 * 1024, 8 * 1024, 30 * 1024, 1024),
    (8 * 1024, 16 * 1024, 60 * 1024, 4 * 1024),
    (16 * 1024, 32 * 1024, 120 * 1024, 8 * 1024),
];

/// What a job asks for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Spec {
    pub(crate) image: String,
    /// The processors, in units of 1/1024.
    pub(crate) cpu: u32,
    pub(crate) memory_mb: u32,
}

impl Spec {
    pub(crate) fn of(work: &CommandWork, otherwise: Option<&str>) -> Result<Self, StartError> {
        let image = image(work, otherwise, "ecs")?;
        let (cpu, memory_mb) = size(work.resources.as_ref().unwrap_or(&DEFAULT_RESOURCES))?;
        Ok(Self {
            image,
            cpu,
            memory_mb,
        })
    }
}

/// The smallest task that has what is needed.
fn size(needed: &Resources) -> Result<(u32, u32), StartError> {
    let Resources { cpus, memory_mb } = *needed;
    let fits = |(units, _, most, _): &&(u32, u32, u32, u32)| {
        *units >= cpus.saturating_mul(1024) && *most >= memory_mb
    };
    let found = SIZES.iter().find(fits);
    let found = found.map(|(units, least, _, step)| {
        let beyond = memory_mb.saturating_sub(*least).div_ceil(*step);
        (*units, least + beyond * step)
    });
    found.ok_or_else(|| {
        let why = format!(
            "Fargate has no task with {cpus} processors and {memory_mb} MiB of memory; the largest has 16 and 122880"
        );
        StartError::Refused(why)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_smallest_task_that_has_both_is_taken() {
        for (cpus, memory_mb, expected) in [
            (1, 256, (1024, 2048)),
            (0, 256, (512, 1024)),
            (1, 2049, (1024, 3072)),
            (1, 8193, (2048, 9216)),
            (3, 1, (4096, 8192)),
            (4, 30_720, (4096, 30_720)),
            (4, 30_721, (8192, 32_768)),
            (8, 16_385, (8192, 20_480)),
            (16, 122_880, (16_384, 122_880)),
        ] {
            let found = size(&Resources { cpus, memory_mb });
            assert_eq!(found, Ok(expected), "{cpus} {memory_mb}");
        }
        for (cpus, memory_mb) in [(17, 1), (1, 122_881)] {
            assert!(size(&Resources { cpus, memory_mb }).is_err());
        }
    }
}
