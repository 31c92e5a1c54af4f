//! The text of the corpus: a made-up world, a grammar that speaks of it, and the parts that are drawn from it.

mod grammar;
pub mod parts;
pub mod settings;
mod world;
