//! Gradients of examples' losses for chosen weight matrices.

pub mod factors;
pub mod gradient_factors;
pub mod gradient_space;
pub mod gradient_summary;
pub mod gradient_vectors;
pub mod gradients;
pub mod settings;
pub mod vector_columns;
