//! One name for a model in one file.

/// What a GGUF file is called among a model's parts, whatever its own name.
pub const FILE: &str = "model.gguf";
