//! The inputs of a run, and where the records of its earlier steps are.

use serde::{Deserialize, Serialize};
use towpath_engine::{Block, RunId, Segment, StepIndex};

/// The inputs of a run: written once, when it starts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Input {
    /// The block as it was then.
    pub block: Block,
    /// The runs that hold the records of the steps before this run's first one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub lineage: Vec<Segment>,
}

impl Input {
    /// The run that holds the record of this step: another one, for steps that were done before this run.
    pub fn holder<'a>(&'a self, run: &'a RunId, step: StepIndex) -> &'a RunId {
        self.lineage
            .iter()
            .find(|segment| step < segment.upto)
            .map_or(run, |segment| &segment.run)
    }

    /// The lineage of a run that begins at `from` and keeps what `run`, whose inputs these are, did before.
    pub fn lineage_at(&self, run: &RunId, from: StepIndex) -> Vec<Segment> {
        let mut lineage: Vec<Segment> = Vec::new();
        for segment in self.lineage.iter().cloned().chain([Segment {
            upto: StepIndex(u16::MAX),
            run: run.clone(),
        }]) {
            let upto = segment.upto.min(from);
            if lineage.last().map_or(StepIndex(0), |last| last.upto) < upto {
                lineage.push(Segment { upto, ..segment });
            }
        }
        lineage
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(n: u8) -> RunId {
        RunId::from_ulid(&format!("{n:026}")).unwrap()
    }

    fn input(lineage: &[(u16, u8)]) -> Input {
        let lineage = lineage
            .iter()
            .map(|(upto, n)| Segment {
                upto: StepIndex(*upto),
                run: run(*n),
            })
            .collect();
        let block = serde_json::json!({"id": "b", "workspace": "w", "title": ""});
        Input {
            block: serde_json::from_value(block).unwrap(),
            lineage,
        }
    }

    #[test]
    fn a_retry_of_a_retry_finds_every_step_where_it_was_done() {
        let first = input(&[]);
        assert_eq!(first.lineage_at(&run(1), StepIndex(0)), []);
        let second = Input {
            lineage: first.lineage_at(&run(1), StepIndex(3)),
            ..first
        };
        let third = Input {
            lineage: second.lineage_at(&run(2), StepIndex(5)),
            ..second.clone()
        };
        let here = run(3);
        let holders: Vec<_> = (0..6)
            .map(|step| third.holder(&here, StepIndex(step)).clone())
            .collect();
        assert_eq!(holders, [run(1), run(1), run(1), run(2), run(2), run(3)]);
        // Restarting the second run before its own first step leads back to the first alone.
        let fourth = Input {
            lineage: second.lineage_at(&run(2), StepIndex(2)),
            ..second
        };
        assert_eq!(fourth.holder(&here, StepIndex(1)), &run(1));
        assert_eq!(fourth.holder(&here, StepIndex(2)), &run(3));
    }
}
