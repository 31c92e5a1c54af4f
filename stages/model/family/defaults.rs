//! The values of keys that a config.json leaves out.

/// What transformers takes where config.json leaves a key out: each family has its own.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Defaults {
    pub eps: f64,
    pub tied: bool,
    /// As many as the query heads without.
    pub kv_heads: Option<usize>,
    /// The hidden size over the number of heads without.
    pub head_dim: Option<usize>,
    /// The activation's key and value.
    pub activation: (&'static str, &'static str),
    pub theta: f64,
    /// The share of a head that is rotated; without, all of it, and a config that asks for another is refused.
    pub rotary_share: Option<f64>,
    pub max_positions: usize,
    /// Where it is given beside the rotary parameters rather than in them.
    pub original_positions: Option<usize>,
}

impl Defaults {
    pub const LLAMA: Defaults = Defaults {
        eps: 1e-6,
        tied: false,
        kv_heads: None,
        head_dim: None,
        activation: ("hidden_act", "silu"),
        theta: 10_000.0,
        rotary_share: None,
        max_positions: 2048,
        original_positions: None,
    };
}
