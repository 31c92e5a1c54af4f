//! How alike examples are, in their losses, gradients or hidden states.

pub mod compared;
pub mod cosines;
pub mod family;
pub mod fill;
pub mod group_columns;
pub mod group_sums;
pub mod groups;
pub mod inner_products;
pub mod mean_similarity;
pub mod pca;
pub mod permanova;
pub mod similarity;
pub mod similarity_summary;
pub mod subject;
pub mod task;
