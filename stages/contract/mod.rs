//! What a stage is, and what the engine and the stages say to each other.

pub mod cost;
pub mod example_limit;
pub mod figures;
pub mod file;
pub mod intervention;
pub mod layers;
pub mod module;
pub mod node;
pub mod observer;
pub mod output;
pub mod pair;
pub mod per_block;
pub mod pipeline;
pub mod places;
pub mod row_sql;
pub mod selection;
pub mod sequences;
pub mod setting;
pub mod site;
pub mod stage;
pub mod toml_path;
