//! The reverse of the ops from candle's own, for devices that have no kernels here. Each takes the gradient `d` at an op's output
//! and gives that at its input.

use std::ops::Range;
use std::sync::Arc;

use anyhow::Result;
use candle_core::{D, Tensor};

use super::affine::Affine;
use super::composed;
use super::ops::{Activation, HeadShape, Logits, LowRank, Norm, NormKind, RotaryTable, Scores, Spans};

/// d W, and the update's part.
pub fn linear(d: &Tensor, layer: Affine) -> Result<Tensor> {
    let dx = composed::product(d, &composed::weight(d, &layer)?, layer.weight.precision)?;
    let Some(LowRank { a, b, scale }) = layer.update else { return Ok(dx) };
    let narrow = d.matmul(&composed::matrix(b, d.device())?)?;
    Ok((dx + (narrow.matmul(&composed::matrix(a, d.device())?)? * f64::from(scale))?)?)
}

/// With n the normalised rows, s what they were multiplied by and g = d weight: s (g - n mean(g n)), less s mean(g) for layer
/// normalisation.
pub fn norm(x: &Tensor, norm: Norm, d: &Tensor) -> Result<Tensor> {
    let x = match norm.kind {
        NormKind::RootMeanSquare => x.clone(),
        NormKind::Layer => x.broadcast_sub(&x.mean_keepdim(D::Minus1)?)?,
    };
    let scale = (x.sqr()?.mean_keepdim(D::Minus1)? + f64::from(norm.eps))?.sqrt()?.recip()?;
    let normal = x.broadcast_mul(&scale)?;
    let g = d.broadcast_mul(&Tensor::new(norm.weight, d.device())?)?;
    let along = (&g * &normal)?.mean_keepdim(D::Minus1)?;
    let mut dx = (&g - normal.broadcast_mul(&along)?)?;
    if norm.kind == NormKind::Layer {
        dx = dx.broadcast_sub(&g.mean_keepdim(D::Minus1)?)?;
    }
    Ok(dx.broadcast_mul(&scale)?)
}

/// The gradients at gate and up of activation(gate) * up.
pub fn gate(kind: Activation, gate: &Tensor, up: &Tensor, d: &Tensor) -> Result<(Tensor, Tensor)> {
    Ok((((d * up)? * slope(kind, gate)?)?, (d * composed::activate(kind, gate)?)?))
}

pub fn activate(kind: Activation, x: &Tensor, d: &Tensor) -> Result<Tensor> {
    Ok((d * slope(kind, x)?)?)
}

/// The activation's derivative.
fn slope(kind: Activation, x: &Tensor) -> Result<Tensor> {
    Ok(match kind {
        // σ (1 + x (1 - σ))
        Activation::Silu => {
            let sigmoid = (x.neg()?.exp()? + 1.0)?.recip()?;
            (&sigmoid * ((x * sigmoid.affine(-1.0, 1.0)?)? + 1.0)?)?
        }
        // Φ(x) + x φ(x)
        Activation::Gelu => {
            let below = ((x * std::f64::consts::FRAC_1_SQRT_2)?.erf()? + 1.0)?;
            let density = ((x.sqr()? * -0.5)?.exp()?
                * (0.5 * std::f64::consts::FRAC_2_SQRT_PI * std::f64::consts::FRAC_1_SQRT_2))?;
            ((below * 0.5)? + (x * density)?)?
        }
        // With u = √(2/π) (x + c x³): (1 + tanh u) / 2 + x (1 - tanh² u) u' / 2
        Activation::GeluTanh => {
            let (root, c) = ((2.0 / std::f64::consts::PI).sqrt(), 0.044715);
            let square = x.sqr()?;
            let tanh = ((x * square.affine(c, 1.0)?)? * root)?.tanh()?;
            let inner = square.affine(3.0 * c * root, root)?;
            let bend = ((x * tanh.sqr()?.affine(-1.0, 1.0)?)? * inner)?;
            (tanh.affine(0.5, 0.5)? + (bend * 0.5)?)?
        }
        Activation::Relu => x.gt(0.0)?.to_dtype(x.dtype())?,
    })
}

/// Turns back.
pub fn rope(d: &Tensor, spans: Spans, tables: &[Arc<RotaryTable>]) -> Result<Tensor> {
    composed::rotate(d, spans, tables, -1.0)
}

/// Columns go back to where they came from.
pub fn columns(d: &Tensor, width: usize, ranges: &[Range<usize>]) -> Result<Tensor> {
    let from: Vec<u32> = ranges.iter().flat_map(|range| range.start as u32..range.end as u32).collect();
    let zeros = Tensor::zeros((d.dim(0)?, width), d.dtype(), d.device())?;
    Ok(zeros.index_add(&Tensor::new(from, d.device())?, d, 1)?)
}

/// With P = softmax(scale q kᵀ) and D the row sums of P * (d vᵀ): dv = Pᵀ d, dS = P * (d vᵀ - D), dq = scale dS k, dk = scale dSᵀ q;
/// with a soft-cap, dS takes its slope as a factor. The gradients at q, k and v.
pub fn attention(
    [q, k, v]: [&Tensor; 3],
    shape: HeadShape,
    sequences: &[Range<usize>],
    of: Scores,
    d: &Tensor,
) -> Result<[Tensor; 3]> {
    let HeadShape { heads, kv_heads, dim } = shape;
    let group = heads / kv_heads;
    let mut parts: [Vec<Tensor>; 3] = Default::default();
    for rows in sequences {
        let n = rows.len();
        let split =
            |x: &Tensor, group: usize| composed::heads(x, std::iter::once(rows.clone()), [kv_heads, group, dim]);
        let [q, d] = [split(q, group)?, split(d, group)?];
        let [k, v] = [split(k, 1)?, split(v, 1)?];
        let (scores, weights) = composed::attention_weights(&q, &k, [kv_heads, group], 0..n, of)?;
        let dv = weights.t()?.matmul(&d)?;
        let dp = d.matmul(&v.t()?)?;
        let along = (&weights * &dp)?.sum_keepdim(D::Minus1)?;
        let mut ds = (weights * dp.broadcast_sub(&along)?)?;
        if let Some(cap) = of.soft_cap {
            let slope = (scores / f64::from(cap))?.sqr()?.affine(-1.0, 1.0)?;
            ds = (ds * slope)?;
        }
        let ds = (ds * f64::from(of.scale))?;
        let (dq, dk) = (ds.matmul(&k)?, ds.t()?.matmul(&q)?);
        for ((parts, gradient), group) in parts.iter_mut().zip([dq, dk, dv]).zip([group, 1, 1]) {
            let back = gradient.reshape((kv_heads, group, n, dim))?.permute((2, 0, 1, 3))?.contiguous()?;
            parts.push(back.reshape((n, kv_heads * group * dim))?);
        }
    }
    let [q, k, v] = parts;
    Ok([Tensor::cat(&q, 0)?, Tensor::cat(&k, 0)?, Tensor::cat(&v, 0)?])
}

/// The gradient [rows, vocabulary] at the output head's products of each row's cross-entropy with its target, times its weight.
pub fn cross_entropy(products: &Tensor, targets: &[u32], weights: &[f32], of: Logits) -> Result<Tensor> {
    let logits = composed::logits(products, of)?;
    let shifted = logits.broadcast_sub(&logits.max_keepdim(D::Minus1)?)?.exp()?;
    let softmax = shifted.broadcast_div(&shifted.sum_keepdim(D::Minus1)?)?;
    let (rows, device) = (targets.len(), products.device());
    let index = Tensor::from_slice(targets, (rows, 1), device)?;
    let ones = Tensor::ones((rows, 1), products.dtype(), device)?;
    let d = softmax.scatter_add(&index, &ones.neg()?, 1)?;
    let mut d = d.broadcast_mul(&Tensor::from_slice(weights, (rows, 1), device)?)?;
    if let Some(cap) = of.soft_cap {
        d = (d * (logits / f64::from(cap))?.sqr()?.affine(-1.0, 1.0)?)?;
    }
    Ok(if of.factor == 1.0 { d } else { (d * f64::from(of.factor))? })
}
