//! The gradient of the loss at the last layer's stream from candle's ops, for devices that have no kernels here.

use anyhow::Result;
use candle_core::Tensor;

use super::predictions::Predictions;
use super::transformer::Transformer;
use super::{composed, composed_reverse, compute};

/// Logits in memory at once.
const LOGITS: usize = 1 << 26;

/// The gradient [tokens, D] of every example's mean cross-entropy at the last layer's residual `stream`, on the CPU.
///
/// # Errors
/// When the device fails.
pub fn gradient(model: &Transformer, predictions: &Predictions, stream: &Tensor) -> Result<Vec<f32>> {
    let (head, of) = (model.affine(&model.head), model.description.logits);
    let norm = model.final_norm.of(&model.description.final_norm);
    let width = stream.dim(1)?;
    let mut d = vec![0.0; stream.elem_count()];
    let chunk = (LOGITS / model.description.vocabulary).clamp(16, 4096);
    let Predictions { rows, targets, weights } = predictions;
    for ((rows, targets), weights) in rows.chunks(chunk).zip(targets.chunks(chunk)).zip(weights.chunks(chunk)) {
        let index: Vec<u32> = rows.iter().map(|row| *row as u32).collect();
        let picked = stream.index_select(&Tensor::new(index, stream.device())?, 0)?;
        let logits = composed::linear(&composed::norm(&picked, norm)?, head)?;
        let d_logits = composed_reverse::cross_entropy(&logits, targets, weights, of)?;
        let d_picked = composed_reverse::norm(&picked, norm, &composed_reverse::linear(&d_logits, head)?)?;
        compute::with_slice(&compute::to_host(&d_picked)?, |values| {
            for (row, values) in rows.iter().zip(values.chunks_exact(width)) {
                d[row * width..(row + 1) * width].copy_from_slice(values);
            }
        })?;
    }
    Ok(d)
}
