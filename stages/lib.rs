//! What Strata computes, in folders named for what is measured. Nothing here knows when a stage runs or where its
//! results live.

// A folder is named for what is measured, and often so is one of its stages.
#![allow(clippy::module_inception)]

pub mod chart;
pub mod comparison;
pub mod contract;
pub mod directions;
pub mod estimate;
pub mod gradients;
pub mod interventions;
pub mod linear_algebra;
pub mod losses;
pub mod model;
pub mod organism;
pub mod processor;
pub mod report;
pub mod states;
pub mod statistics;
pub mod table;
#[cfg(test)]
mod testing;
pub mod text;

use comparison::{mean_similarity, pca, permanova, similarity, similarity_summary};
pub use contract::node::{Input, Node, Part, Source};
pub use contract::pipeline::{Pipeline, PlanError};
pub use contract::stage::{Output, Outputs, Stage, Task, Work};
use directions::{
    departure, direction_similarity, directions as direction, null_directions, projection_summary, projections,
    separation, subspace_similarity,
};
use gradients::{gradient_factors, gradient_space, gradient_summary, gradient_vectors, gradients as gradient};
use interventions::{attribution, patching, patching_summary};
use losses::{loss_difference, loss_summary, loss_vectors, next_tokens, token_losses};
use organism::{corpus, train};
use states::{distance, hidden_states};
pub use text::examples::first::{First, first};
use text::{examples, tokens};

/// Every stage, in the order of the documentation and of `strata status`.
pub static STAGES: &[&Stage] = &[
    &corpus::STAGE,
    &train::STAGE,
    &examples::STAGE,
    &tokens::STAGE,
    &token_losses::STAGE,
    &next_tokens::STAGE,
    &hidden_states::STAGE,
    &loss_summary::STAGE,
    &loss_difference::STAGE,
    &loss_vectors::STAGE,
    &gradient::STAGE,
    &gradient_summary::STAGE,
    &gradient_factors::STAGE,
    &gradient_space::STAGE,
    &gradient_vectors::STAGE,
    &direction::STAGE,
    &projections::STAGE,
    &projection_summary::STAGE,
    &separation::STAGE,
    &departure::STAGE,
    &null_directions::STAGE,
    &direction_similarity::STAGE,
    &subspace_similarity::STAGE,
    &distance::STAGE,
    &similarity::STAGE,
    &similarity_summary::STAGE,
    &permanova::STAGE,
    &mean_similarity::STAGE,
    &pca::STAGE,
    &patching::STAGE,
    &patching_summary::STAGE,
    &attribution::STAGE,
    &report::STAGE,
];

/// The stage of this name.
pub fn stage(name: &str) -> Option<&'static Stage> {
    STAGES.iter().copied().find(|stage| stage.name == name)
}
