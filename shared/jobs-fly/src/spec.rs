//! What a job asks Fly.io for, as its record keeps it: a repeated start asks for the same.

use serde::{Deserialize, Serialize};
use towpath_engine::Resources;
use towpath_jobs::{CommandWork, StartError};
use towpath_jobs_remote::{DEFAULT_RESOURCES, image};

/// The sorts of machines: their name; how many processors one may have; the least and the most memory in MiB for each of
/// them.
const SORTS: [(&str, &[u32], u32, u32); 2] = [
    ("shared", &[1, 2, 4, 8], 256, 2 * 1024),
    ("performance", &[1, 2, 4, 8, 16], 2 * 1024, 8 * 1024),
];
/// Memory comes in steps of so many MiB.
const STEP: u32 = 256;

/// What a job asks for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Spec {
    pub(crate) image: String,
    pub(crate) guest: Guest,
}

/// The size of a machine, as Fly.io is told it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Guest {
    pub(crate) cpu_kind: String,
    pub(crate) cpus: u32,
    pub(crate) memory_mb: u32,
}

impl Spec {
    pub(crate) fn of(work: &CommandWork, otherwise: Option<&str>) -> Result<Self, StartError> {
        let image = image(work, otherwise, "fly")?;
        Ok(Self {
            image,
            guest: guest(work.resources.as_ref().unwrap_or(&DEFAULT_RESOURCES))?,
        })
    }
}

/// The smallest machine that has what is needed.
fn guest(needed: &Resources) -> Result<Guest, StartError> {
    let Resources { cpus, memory_mb } = *needed;
    let mut sizes = SORTS.iter().flat_map(|(kind, counts, least, most)| {
        counts
            .iter()
            .map(move |count| (*kind, *count, least * count, most * count))
    });
    let found = sizes.find(|(_, count, _, most)| *count >= cpus && *most >= memory_mb);
    let found = found.map(|(kind, cpus, least, _)| Guest {
        cpu_kind: kind.to_owned(),
        cpus,
        memory_mb: memory_mb.next_multiple_of(STEP).max(least),
    });
    found.ok_or_else(|| {
        let why = format!(
            "Fly.io has no machine with {cpus} processors and {memory_mb} MiB of memory; the largest has 16 and 131072"
        );
        StartError::Refused(why)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_smallest_machine_that_has_both_is_taken() {
        for (cpus, memory, kind, expected) in [
            (1, 1, "shared", (1, 256)),
            (1, 257, "shared", (1, 512)),
            (1, 2049, "shared", (2, 2304)),
            (3, 1, "shared", (4, 1024)),
            (8, 16_384, "shared", (8, 16_384)),
            (8, 16_385, "performance", (8, 16_640)),
            (9, 1, "performance", (16, 32_768)),
            (1, 131_072, "performance", (16, 131_072)),
        ] {
            let needed = Resources {
                cpus,
                memory_mb: memory,
            };
            let found = guest(&needed).unwrap();
            assert_eq!(found.cpu_kind, kind, "{cpus} {memory}");
            assert_eq!((found.cpus, found.memory_mb), expected, "{cpus} {memory}");
        }
        for (cpus, memory_mb) in [(17, 1), (1, 131_073)] {
            assert!(guest(&Resources { cpus, memory_mb }).is_err());
        }
    }
}
