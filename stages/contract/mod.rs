//! What a stage is, and what the engine and the stages say to each other.

pub mod example_limit;
pub mod figures;
pub mod node;
pub mod pipeline;
pub mod setting;
pub mod stage;
pub mod toml_path;
