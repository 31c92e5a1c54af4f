//! From a dataset's file to token ids.

pub mod chat;
pub mod examples;
pub mod tokens;
