//! Models in one GGUF file, as llama.cpp writes them: quantised weights, and the configuration and the tokenizer as
//! metadata. The header is read by candle.
//!
//! Such a file is given the names that a model directory has: its metadata becomes the text of a config.json, its tensors are
//! called as a checkpoint calls them. The weights stay as they lie in the map and are widened as they are read.

mod config;
mod file;
pub mod file_name;
mod names;
#[cfg(test)]
mod tests;
mod tokenizer;

pub use config::config;
pub use file::{Change, Gguf, Tensor};
pub use file_name::FILE;
pub use tokenizer::{tokenizer, tokenizer_config};
