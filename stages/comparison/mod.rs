//! How alike examples are, in their losses, gradients or hidden states.

pub mod comparison;
pub mod pca;
pub mod similarity;
pub mod similarity_summary;
