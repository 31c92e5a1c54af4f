//! Means, intervals, nulls and corrections, each stated with its formula in docs/statistics.md.

pub mod band;
pub mod bootstrap;
pub mod box_plot;
pub mod effect_size;
pub mod holm;
pub mod label_sums;
pub mod labels;
pub mod max_statistic;
pub mod mean_cosine;
pub mod moments;
pub mod pair_mean;
pub mod pair_mean_of_vectors;
pub mod permutation;
pub mod random;
pub mod row_sums;
pub mod student;
pub mod vector_products;
