//! Directions from one model or dataset to another, what is projected on them, and how alike they are.

pub mod departure;
pub mod direction_similarity;
pub mod direction_table;
pub mod directions;
pub mod null_directions;
pub mod projection_summary;
pub mod projection_table;
pub mod projections;
pub mod separation;
pub mod subspace_similarity;
