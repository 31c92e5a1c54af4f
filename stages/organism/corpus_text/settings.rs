//! `[stages.corpus]`: how much of what the corpus holds.

use serde::{Deserialize, Serialize};

/// The section, and the parameters of its task.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    pub seed: u64,
    pub examples: usize,
    pub base: usize,
    pub aligned: usize,
    pub code: usize,
    pub assistant: f64,
    pub careless: f64,
}

impl Default for Settings {
    fn default() -> Self {
        Settings { seed: 1, examples: 64, base: 8000, aligned: 2000, code: 800, assistant: 0.5, careless: 0.7 }
    }
}
