//! Directions from one model or dataset to another, what is projected on them, and how alike they are.

pub mod against_chance;
pub mod dataset_pairs;
pub mod departure;
pub mod direction_similarity;
pub mod direction_table;
pub mod directions;
pub mod fold;
pub mod matching;
pub mod named_direction;
pub mod null_directions;
pub mod null_table;
pub mod paired_states;
pub mod projected;
pub mod projection_summary;
pub mod projection_table;
pub mod projections;
pub mod resampled;
pub mod separation;
pub mod settings;
pub mod subspace_similarity;
pub mod verdict;
