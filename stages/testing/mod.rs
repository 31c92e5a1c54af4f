//! What tests share: small models, tables; docs/ held against the registry, and imports against the order of the folders.

mod documentation;
mod layers;
pub mod models;
pub mod sample_stage;
mod source;
pub mod tables;
