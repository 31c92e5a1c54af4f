//! A dataset's file, and how its rows are read as conversations.

mod array;
pub mod cell;
pub mod conversation;
mod csv_rows;
pub mod filter;
mod json;
mod lines;
pub mod message;
mod parquet_rows;
pub mod reading;
pub mod row;
pub mod rows;
pub mod sample;
pub mod schema;
pub mod sql;
pub mod template;
pub mod transcript;
pub mod turn;
pub mod written;
