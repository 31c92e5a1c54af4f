//! In which numbers a model's linear layers are computed.

/// The output head is always computed in f32: a log-probability is a difference of logits, which bf16 rounds by up to 0.06 at 20.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Precision {
    /// The reference.
    #[default]
    F32,
    /// Products of values rounded to bf16 with sums in f32; the residual stream stays f32.
    Bf16,
}
