//! Where results come from, as their records tell it: a lineage down to files, what two pipelines or runs differ in, and a folder
//! with results that carries its records along.

pub mod comparison;
pub mod export;
pub mod lineage;
pub mod numbers;
