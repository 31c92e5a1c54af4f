//! What tests share: small models, tables, and docs/ held against the registry.

mod documentation;
pub mod models;
pub mod sample_stage;
pub mod tables;
