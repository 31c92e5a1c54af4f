//! What Strata computes. Each file beside this one is a stage; `model` is the instrumented transformer they
//! share and `table` their Parquet. Nothing here knows when a stage runs or where its results live.

pub mod attribution;
pub mod chat;
pub mod comparison;
pub mod corpus;
pub mod departure;
pub mod direction_similarity;
pub mod direction_table;
pub mod directions;
pub mod distance;
#[cfg(test)]
mod documentation;
pub mod example_limit;
pub mod examples;
pub mod gradient_factors;
pub mod gradient_space;
pub mod gradient_vectors;
pub mod gradients;
pub mod hidden_states;
pub mod linear_algebra;
pub mod loss_summary;
pub mod loss_vectors;
pub mod model;
pub mod next_tokens;
pub mod null_directions;
pub mod patching;
pub mod pca;
pub mod pipeline;
pub mod place_columns;
pub mod projection_summary;
pub mod projection_table;
pub mod projections;
pub mod report;
pub mod separation;
pub mod similarity;
pub mod similarity_summary;
pub mod stage;
pub mod state_table;
pub mod statistics;
pub mod subspace_similarity;
pub mod table;
#[cfg(test)]
mod test_models;
#[cfg(test)]
mod test_tables;
pub mod token_losses;
pub mod tokens;
pub mod train;

pub use pipeline::{Pipeline, PlanError};
pub use stage::{Input, Node, Output, Part, Source, Stage, Task};

/// Every stage, in the order of the documentation and of `strata status`.
#[rustfmt::skip]
pub static STAGES: &[&dyn Stage] = &[
    &corpus::Corpus,
    &train::Train,
    &examples::Examples,
    &tokens::Tokens,
    &token_losses::TokenLosses,
    &next_tokens::NextTokens,
    &hidden_states::HiddenStates,
    &loss_summary::LossSummary,
    &loss_vectors::LossVectors,
    &gradients::Gradients,
    &gradient_factors::GradientFactors,
    &gradient_space::GradientSpace,
    &gradient_vectors::GradientVectors,
    &directions::Directions,
    &projections::Projections,
    &projection_summary::ProjectionSummary,
    &separation::Separation,
    &departure::Departure,
    &null_directions::NullDirections,
    &direction_similarity::DirectionSimilarity,
    &subspace_similarity::SubspaceSimilarity,
    &distance::Distance,
    &similarity::Similarity,
    &similarity_summary::SimilaritySummary,
    &pca::Pca,
    &patching::Patching,
    &attribution::Attribution,
    &report::Report,
];

/// The stage of this name.
pub fn stage(name: &str) -> Option<&'static dyn Stage> {
    STAGES.iter().copied().find(|stage| stage.name() == name)
}
