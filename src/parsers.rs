//! The engine's parsers as a library, for the fuzz targets alone: `fuzz/parsers/Cargo.toml` begins here, and the program in `main.rs`.

// What the program does with what was parsed is not here.
#![allow(dead_code, unused_imports)]

pub mod diagnostic;
pub mod graph;
pub mod hub;
pub mod key;
pub mod latest;
pub mod lock;
pub mod manifest;
pub mod outputs;
pub mod plan;
pub mod progress;
pub mod remote;
pub mod store;
