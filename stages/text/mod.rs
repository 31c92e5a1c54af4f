//! From a dataset's file to token ids.

pub mod chat;
pub mod dataset;
pub mod encoding;
pub mod examples;
pub mod place;
pub mod tokens;
