//! Gradients of examples' losses for chosen weight matrices.

pub mod gradient_factors;
pub mod gradient_space;
pub mod gradient_vectors;
pub mod gradients;
