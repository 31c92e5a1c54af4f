//! Hidden states, and how far apart datasets lie in them.

pub mod distance;
pub mod hidden_states;
pub mod place_columns;
pub mod state_table;
