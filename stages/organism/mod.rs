//! The default pipeline's own world: its corpus, and the models trained on it.

pub mod corpus;
pub mod corpus_text;
pub mod shape;
pub mod train;
