//! Resolvers: what the end of a step does to the run's block, wherever the step stands in the pipeline.

use crate::{BlockChange, Step};

/// The changes of the block that the end of this step brings.
///
/// The agent's confidence reaches the block here, after the approval: a result that a human sent back says nothing about
/// the block.
pub(crate) fn after(step: &Step) -> Vec<BlockChange> {
    step.confidence
        .map(BlockChange::Confidence)
        .into_iter()
        .collect()
}
