//! The ops from candle's own, for devices that have no kernels here. A weight in bf16 stays so on the device, in either precision: in
//! f32 it is widened where it is used.

use std::ops::Range;
use std::sync::Arc;

use anyhow::Result;
use candle_core::{D, DType, Device, Tensor};

use super::affine::Affine;
use super::ops::{
    Activation, HeadShape, Logits, LowRank, Matrix, Norm, NormKind, Precision, RotaryTable, Scores, Spans, Values,
};

/// A matrix's copy on a device, in bf16 where its file has it so or its products are, else in f32.
fn copy(matrix: Matrix, device: &Device) -> Result<Tensor> {
    let shape = (matrix.out, matrix.inputs);
    match (matrix.values, matrix.precision) {
        (Values::Bf16(bytes), _) if cfg!(target_endian = "little") => {
            Ok(Tensor::from_raw_buffer(bytes, DType::BF16, &[shape.0, shape.1], device)?)
        }
        (values, Precision::Bf16) => {
            let wide = Tensor::from_vec(values.to_f32(), shape, &Device::Cpu)?;
            Ok(wide.to_dtype(DType::BF16)?.to_device(device)?)
        }
        (values, Precision::F32) => Ok(Tensor::from_vec(values.to_f32(), shape, device)?),
    }
}

/// A matrix in f32, for one use.
pub fn matrix(matrix: Matrix, device: &Device) -> Result<Tensor> {
    Ok(copy(matrix, device)?.to_dtype(DType::F32)?)
}

/// A layer's weight [out, in] for products in its precision: the copy that is resident on the device of `x`, or where there is no room
/// for it one for this use.
pub fn weight(x: &Tensor, layer: &Affine) -> Result<Tensor> {
    let on_device = match layer.resident.get() {
        Some(resident) => resident.clone(),
        None => {
            let copy = copy(layer.weight, x.device())?;
            if has_room(x.device()) {
                // Another thread may have been first: its copy is the same.
                let _ = layer.resident.set(copy.clone());
            }
            copy
        }
    };
    Ok(match layer.weight.precision {
        Precision::F32 => on_device.to_dtype(DType::F32)?,
        Precision::Bf16 => on_device,
    })
}

/// Whether a fifth of the device's memory is left for the states that pass.
#[cfg(feature = "cuda")]
fn has_room(device: &Device) -> bool {
    use candle_core::cuda_backend::cudarc::driver::result::mem_get_info;
    !device.is_cuda() || mem_get_info().is_ok_and(|(free, total)| free > total / 5)
}

#[cfg(not(feature = "cuda"))]
fn has_room(_device: &Device) -> bool {
    true
}

/// x w. In bf16 both are rounded to it, and so is the result.
pub fn product(x: &Tensor, w: &Tensor, precision: Precision) -> Result<Tensor> {
    match precision {
        Precision::F32 => Ok(x.matmul(w)?),
        // candle has no bf16 products on the CPU, where this runs in tests alone.
        Precision::Bf16 if x.device().is_cpu() => {
            let round = |x: &Tensor| x.to_dtype(DType::BF16)?.to_dtype(DType::F32);
            Ok(round(&round(x)?.matmul(&round(w)?)?)?)
        }
        Precision::Bf16 => Ok(x.to_dtype(DType::BF16)?.matmul(w)?.to_dtype(DType::F32)?),
    }
}

pub fn linear(x: &Tensor, layer: Affine) -> Result<Tensor> {
    let mut y = product(x, &weight(x, &layer)?.t()?, layer.weight.precision)?;
    if let Some(LowRank { a, b, scale }) = layer.update {
        let narrow = x.matmul(&matrix(a, x.device())?.t()?)?;
        y = (y + (narrow.matmul(&matrix(b, x.device())?.t()?)? * f64::from(scale))?)?;
    }
    match layer.bias {
        Some(bias) => Ok(y.broadcast_add(&Tensor::new(bias, x.device())?)?),
        None => Ok(y),
    }
}

pub fn norm(x: &Tensor, norm: Norm) -> Result<Tensor> {
    let x = match norm.kind {
        NormKind::RootMeanSquare => x.clone(),
        NormKind::Layer => x.broadcast_sub(&x.mean_keepdim(D::Minus1)?)?,
    };
    let mean = x.sqr()?.mean_keepdim(D::Minus1)?;
    let normal = x.broadcast_div(&(mean + f64::from(norm.eps))?.sqrt()?)?;
    let scaled = normal.broadcast_mul(&Tensor::new(norm.weight, x.device())?)?;
    match norm.bias {
        Some(bias) => Ok(scaled.broadcast_add(&Tensor::new(bias, x.device())?)?),
        None => Ok(scaled),
    }
}

pub fn activate(kind: Activation, x: &Tensor) -> Result<Tensor> {
    Ok(match kind {
        Activation::Silu => x.silu()?,
        Activation::Gelu => x.gelu_erf()?,
        Activation::GeluTanh => x.gelu()?,
        Activation::Relu => x.relu()?,
    })
}

pub fn rope(x: &Tensor, spans: Spans, tables: &[Arc<RotaryTable>]) -> Result<Tensor> {
    rotate(x, spans, tables, 1.0)
}

/// Turned by the tables' angles, or with a `sign` of -1 back.
pub fn rotate(x: &Tensor, spans: Spans, tables: &[Arc<RotaryTable>], sign: f64) -> Result<Tensor> {
    let (tokens, width) = x.dims2()?;
    let Some(table) = tables.first() else { return Ok(x.clone()) };
    let (head, half) = (table.head, table.half());
    let of = |values: fn(&RotaryTable) -> &[f32]| -> Result<Tensor> {
        let rows = spans.rows.iter().zip(tables).enumerate().flat_map(|(i, (rows, table))| {
            let first = spans.position(i);
            &values(table)[first * half..(first + rows.len()) * half]
        });
        Ok(Tensor::from_vec(rows.copied().collect::<Vec<_>>(), (tokens, 1, half), x.device())?)
    };
    let (cos, sin) = (of(|table| &table.cos)?, (of(|table| &table.sin)? * sign)?);
    let heads = x.reshape((tokens, width / head, head))?;
    let (a, b) = (heads.narrow(2, 0, half)?, heads.narrow(2, half, half)?);
    let first = (a.broadcast_mul(&cos)? - b.broadcast_mul(&sin)?)?;
    let second = (b.broadcast_mul(&cos)? + a.broadcast_mul(&sin)?)?;
    let mut parts = vec![first, second];
    if head > 2 * half {
        parts.push(heads.narrow(2, 2 * half, head - 2 * half)?);
    }
    Ok(Tensor::cat(&parts, 2)?.reshape((tokens, width))?)
}

/// The heads [kv head, query head of its group and token, dim] of the tokens in these rows.
pub fn heads(
    x: &Tensor,
    rows: impl Iterator<Item = Range<usize>>,
    [kv_heads, group, dim]: [usize; 3],
) -> Result<Tensor> {
    let parts = rows.map(|rows| x.narrow(0, rows.start, rows.len())).collect::<candle_core::Result<Vec<_>>>()?;
    let x = Tensor::cat(&parts, 0)?;
    let tokens = x.dim(0)?;
    let x = x.reshape((tokens, kv_heads, group, dim))?;
    Ok(x.permute((1, 2, 0, 3))?.contiguous()?.reshape((kv_heads, group * tokens, dim))?)
}

/// The scores, capped, and the weights of what each token sees, both [kv head, query head of its group and token, token]. The
/// queries are those at `positions` of the sequence whose keys are all there.
pub fn attention_weights(
    q: &Tensor,
    k: &Tensor,
    [kv_heads, group]: [usize; 2],
    positions: Range<usize>,
    of: Scores,
) -> Result<(Tensor, Tensor)> {
    let (n, keys) = (positions.len(), positions.end);
    let seen = |i: usize, j: usize| (of.first_seen(i)..=i).contains(&j);
    let hidden = positions.flat_map(|i| (0..keys).map(move |j| if seen(i, j) { 0.0 } else { f32::NEG_INFINITY }));
    let mask = Tensor::from_vec(hidden.collect::<Vec<_>>(), (1, 1, n, keys), q.device())?;
    let mut scores = (q.matmul(&k.t()?)? * f64::from(of.scale))?;
    if let Some(cap) = of.soft_cap {
        scores = ((scores / f64::from(cap))?.tanh()? * f64::from(cap))?;
    }
    let seen = scores.reshape((kv_heads, group, n, keys))?.broadcast_add(&mask)?;
    let weights = seen.broadcast_sub(&seen.max_keepdim(D::Minus1)?)?.exp()?;
    let weights = weights.broadcast_div(&weights.sum_keepdim(D::Minus1)?)?;
    Ok((scores, weights.reshape((kv_heads, group * n, keys))?))
}

pub fn attention(q: &Tensor, k: &Tensor, v: &Tensor, shape: HeadShape, spans: Spans, of: Scores) -> Result<Tensor> {
    let HeadShape { heads, kv_heads, dim } = shape;
    let group = heads / kv_heads;
    let mut parts = Vec::new();
    for (i, rows) in spans.rows.iter().enumerate() {
        let (n, first) = (rows.len(), spans.position(i));
        let q = self::heads(q, std::iter::once(rows.clone()), [kv_heads, group, dim])?;
        let [k, v] = [k, v].map(|x| self::heads(x, spans.all(i), [kv_heads, 1, dim]));
        let (_, weights) = attention_weights(&q, &k?, [kv_heads, group], first..first + n, of)?;
        let mixed = weights.matmul(&v?)?.reshape((kv_heads, group, n, dim))?;
        parts.push(mixed.permute((2, 0, 1, 3))?.contiguous()?.reshape((n, heads * dim))?);
    }
    Ok(Tensor::cat(&parts, 0)?)
}

/// The output head's logits from its products.
pub fn logits(products: &Tensor, of: Logits) -> Result<Tensor> {
    let logits = (products * f64::from(of.factor))?;
    match of.soft_cap {
        Some(cap) => Ok(((logits / f64::from(cap))?.tanh()? * f64::from(cap))?),
        None => Ok(logits),
    }
}

pub fn log_probabilities(x: &Tensor, head: Affine, of: Logits) -> Result<Vec<f32>> {
    let logits = logits(&linear(x, head)?, of)?;
    let shifted = logits.broadcast_sub(&logits.max_keepdim(D::Minus1)?)?;
    let log_sum = shifted.exp()?.sum_keepdim(D::Minus1)?.log()?;
    Ok(shifted.broadcast_sub(&log_sum)?.flatten_all()?.to_vec1()?)
}
