//! From messages to token ids: a tokenizer with its chat template, as transformers applies them.

mod bounded;
pub mod built_in;
mod date;
mod encode;
mod span;
mod template;
mod tokenizer;

pub use date::Date;
pub use encode::Encoded;
pub use span::Turn;
pub use template::{ChatTemplate, Limits, Message};
pub use tokenizer::{ADDITIONAL, BORROWED, ChatTokenizer};
