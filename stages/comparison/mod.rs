//! How alike examples are, in their losses, gradients or hidden states.

pub mod compared;
pub mod groups;
pub mod pca;
pub mod similarity;
pub mod similarity_summary;
pub mod subject;
