//! A dataset's file, and how its rows are read as conversations.

pub mod cell;
pub mod conversation;
pub mod filter;
mod json;
mod parquet_rows;
pub mod reading;
pub mod row;
pub mod rows;
pub mod schema;
pub mod template;
pub mod transcript;
pub mod written;
