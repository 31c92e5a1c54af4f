//! The ops on tensors: on the CPU the kernels of [`super::ops`], elsewhere compositions of candle's ops
//! ([`super::composed`], [`super::composed_reverse`]). This is the one place that looks at the device.

use std::cell::RefCell;
use std::ops::Range;
use std::sync::Arc;

use anyhow::{Context, Result};
use candle_core::{CpuStorage, Device, InplaceOp1, Layout, Storage, Tensor};

pub use super::affine::Affine;
use super::composed;
use super::ops::{self, Activation, HeadShape, Logits, Norm, RotaryTable, Scores, Spans};

/// The device activations live on: the first GPU in a build with the `cuda` or `metal` feature, else the CPU.
pub fn default_device() -> Result<Device> {
    if cfg!(feature = "cuda") {
        return Ok(Device::cuda_if_available(0)?);
    }
    if cfg!(feature = "metal") {
        return Ok(Device::new_metal(0)?);
    }
    Ok(Device::Cpu)
}

/// Whether an op on this tensor is one of candle's, and not a kernel.
pub fn composes(x: &Tensor) -> bool {
    #[cfg(test)]
    if forced::COMPOSED.get() {
        return true;
    }
    !x.device().is_cpu()
}

/// Makes the ops of this thread those of a device without kernels, on the CPU.
#[cfg(test)]
pub mod forced {
    use std::cell::Cell;

    thread_local! {
        pub static COMPOSED: Cell<bool> = const { Cell::new(false) };
    }

    pub fn composed<T>(work: impl FnOnce() -> T) -> T {
        COMPOSED.set(true);
        let found = work();
        COMPOSED.set(false);
        found
    }
}

/// The values on the CPU, where they are not.
pub fn to_host(x: &Tensor) -> Result<Tensor> {
    Ok(x.to_device(&Device::Cpu)?.contiguous()?)
}

/// x [rows, in] Wᵀ + b.
pub fn linear(x: &Tensor, layer: Affine) -> Result<Tensor> {
    if composes(x) {
        return composed::linear(x, layer);
    }
    let out = with_slice(x, |x| layer.forward(x))?;
    Ok(Tensor::from_vec(out, (x.dim(0)?, layer.weight.out), &Device::Cpu)?)
}

/// base + x Wᵀ + b, as a new tensor.
pub fn add_linear(base: &Tensor, x: &Tensor, layer: Affine) -> Result<Tensor> {
    if composes(x) {
        return Ok((base + composed::linear(x, layer)?)?);
    }
    let mut out = with_slice(base, <[f32]>::to_vec)?;
    with_slice(x, |x| layer.add_forward(x, &mut out))?;
    Ok(Tensor::from_vec(out, base.shape(), &Device::Cpu)?)
}

/// Normalisation of each row.
pub fn norm(x: &Tensor, norm: Norm) -> Result<Tensor> {
    if composes(x) {
        return composed::norm(x, norm);
    }
    let out = with_slice(x, |x| norm.forward(x))?;
    Ok(Tensor::from_vec(out, x.shape(), &Device::Cpu)?)
}

/// activation(gate) * up. `gate` must not be shared: on the CPU it is overwritten.
pub fn gate(kind: Activation, gate: Tensor, up: &Tensor) -> Result<Tensor> {
    if composes(&gate) {
        return Ok((composed::activate(kind, &gate)? * up)?);
    }
    with_slice(up, |up| edit(&gate, |gate| ops::gate(kind, gate, up)))??;
    Ok(gate)
}

/// activation(x). `x` must not be shared: on the CPU it is overwritten.
pub fn activate(kind: Activation, x: Tensor) -> Result<Tensor> {
    if composes(&x) {
        return composed::activate(kind, &x);
    }
    edit(&x, |x| ops::activate(kind, x))?;
    Ok(x)
}

/// base + factor * x. `x` must not be shared: on the CPU it is overwritten.
pub fn add_scaled(base: &Tensor, x: Tensor, factor: f32) -> Result<Tensor> {
    if composes(&x) {
        return Ok((base + (x * factor as f64)?)?);
    }
    with_slice(base, |base| edit(&x, |x| ops::add_scaled(base, x, factor)))??;
    Ok(x)
}

/// Row i of `x`, times `weights[i]`, added to row `rows[i]` of `out`, which must not be shared: on the CPU it is overwritten.
pub fn add_rows(out: Tensor, x: &Tensor, rows: &[u32], weights: &[f32]) -> Result<Tensor> {
    if composes(x) {
        let scaled = x.broadcast_mul(&Tensor::from_slice(weights, (weights.len(), 1), x.device())?)?;
        return Ok(out.index_add(&Tensor::new(rows, x.device())?, &scaled, 0)?);
    }
    with_slice(x, |x| edit(&out, |out| ops::add_rows(out, x, rows, Some(weights))))??;
    Ok(out)
}

/// The columns of these ranges beside each other.
pub fn columns(x: &Tensor, ranges: &[Range<usize>]) -> Result<Tensor> {
    if composes(x) {
        let parts = ranges.iter().map(|range| x.narrow(1, range.start, range.len()));
        return Ok(Tensor::cat(&parts.collect::<candle_core::Result<Vec<_>>>()?, 1)?);
    }
    let (rows, width) = x.dims2()?;
    let out = with_slice(x, |x| ops::columns(x, width, ranges))?;
    Ok(Tensor::from_vec(out, (rows, ranges.iter().map(Range::len).sum::<usize>()), &Device::Cpu)?)
}

/// Rotary embeddings of every head, with a table for each sequence. `x` must not be shared: on the CPU it is overwritten.
pub fn rope(x: Tensor, spans: Spans, tables: &[Arc<RotaryTable>]) -> Result<Tensor> {
    if composes(&x) {
        return composed::rope(&x, spans, tables);
    }
    let width = x.dim(1)?;
    edit(&x, |x| ops::rope(x, width, spans, tables, false))?;
    Ok(x)
}

/// Causal attention within each sequence.
pub fn attention(q: &Tensor, k: &Tensor, v: &Tensor, shape: HeadShape, spans: Spans, scores: Scores) -> Result<Tensor> {
    if composes(q) {
        return composed::attention(q, k, v, shape, spans, scores);
    }
    let mut out = vec![0.0; q.elem_count()];
    with_slice(q, |q| with_slice(k, |k| with_slice(v, |v| ops::attention(q, k, v, shape, spans, scores, &mut out))))???;
    Ok(Tensor::from_vec(out, q.shape(), &Device::Cpu)?)
}

/// Log-probabilities [rows, vocabulary], row-major on the CPU, of the logits that `of` makes of x Wᵀ, in the place of what
/// `found` held.
pub fn log_probabilities(x: &Tensor, head: Affine, of: Logits, found: &mut Vec<f32>) -> Result<()> {
    if composes(x) {
        *found = composed::log_probabilities(x, head, of)?;
        return Ok(());
    }
    with_slice(x, |x| head.forward_replacing(x, found))?;
    of.apply(found);
    ops::log_softmax(found, head.weight.out);
    Ok(())
}

/// The values of a contiguous f32 tensor on the CPU, in place.
pub fn with_slice<T>(tensor: &Tensor, read: impl FnOnce(&[f32]) -> T) -> Result<T> {
    let (storage, layout) = tensor.storage_and_layout();
    let Storage::Cpu(CpuStorage::F32(values)) = &*storage else {
        anyhow::bail!("expected f32 values on the CPU, found {:?} on {:?}", tensor.dtype(), tensor.device());
    };
    let (start, end) = layout.contiguous_offsets().context("expected a contiguous tensor")?;
    Ok(read(&values[start..end]))
}

/// Changes the values of a contiguous f32 tensor on the CPU in place.
pub fn edit<T>(tensor: &Tensor, change: impl FnOnce(&mut [f32]) -> T) -> Result<T> {
    /// The change and its result; candle calls an op through `&self`.
    struct Edit<F, T>(RefCell<(Option<F>, Option<T>)>);
    impl<T, F: FnOnce(&mut [f32]) -> T> InplaceOp1 for Edit<F, T> {
        fn name(&self) -> &'static str {
            "edit"
        }

        fn cpu_fwd(&self, storage: &mut CpuStorage, layout: &Layout) -> candle_core::Result<()> {
            match (storage, layout.contiguous_offsets()) {
                (CpuStorage::F32(values), Some((start, end))) => {
                    let mut state = self.0.borrow_mut();
                    if let Some(change) = state.0.take() {
                        state.1 = Some(change(&mut values[start..end]));
                    }
                    Ok(())
                }
                _ => candle_core::bail!("expected a contiguous f32 tensor"),
            }
        }
    }
    let op = Edit(RefCell::new((Some(change), None)));
    tensor.inplace_op1(&op)?;
    op.0.into_inner().1.context("an edit that did not run")
}

#[cfg(test)]
mod tests {
    use std::sync::OnceLock;

    use super::*;
    use crate::model::ops::test_values::{values, worst_relative};
    use crate::model::ops::{LowRank, Matrix, NormKind};

    fn tensor(rows: usize, columns: usize, seed: u64) -> Tensor {
        Tensor::from_vec(values(rows * columns, seed), (rows, columns), &Device::Cpu).unwrap()
    }

    fn assert_close(kernel: &Tensor, composed: &Tensor) {
        assert_eq!(kernel.dims(), composed.dims());
        let of = |t: &Tensor| t.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        let composed: Vec<f64> = of(composed).iter().map(|x| *x as f64).collect();
        let error = worst_relative(&of(kernel), &composed, 1.0);
        assert!(error < 2e-5, "{error:e}");
    }

    #[test]
    fn the_composed_ops_agree_with_the_kernels() {
        let shape = HeadShape { heads: 4, kv_heads: 2, dim: 8 };
        let rows = [0..3, 3..4, 4..20, 20..30];
        let before = [vec![], vec![], vec![rows[0].clone()], vec![0..3, 4..20]];
        let (x, q, k, v) = (tensor(30, 24, 1), tensor(30, 32, 2), tensor(30, 16, 3), tensor(30, 16, 4));
        let (w, b) = (values(10 * 24, 5), values(10, 6));
        let resident = OnceLock::new();
        let layer = Affine { weight: Matrix::of(&w, 10, 24), bias: Some(&b), update: None, resident: &resident };
        assert_close(&linear(&x, layer).unwrap(), &composed::linear(&x, layer).unwrap());
        let (low, high) = (values(3 * 24, 11), values(10 * 3, 12));
        let update = Some(LowRank { a: Matrix::of(&low, 3, 24), b: Matrix::of(&high, 10, 3), scale: 0.7 });
        let layer = Affine { update, ..layer };
        assert_close(&linear(&x, layer).unwrap(), &composed::linear(&x, layer).unwrap());
        let base = tensor(30, 10, 7);
        assert_close(&add_linear(&base, &x, layer).unwrap(), &(base + composed::linear(&x, layer).unwrap()).unwrap());
        let (weight, bias) = (values(24, 8), values(24, 10));
        for (kind, bias) in [(NormKind::RootMeanSquare, None), (NormKind::Layer, Some(bias.as_slice()))] {
            let of = Norm { kind, eps: 1e-6, weight: &weight, bias };
            assert_close(&norm(&x, of).unwrap(), &composed::norm(&x, of).unwrap());
        }
        let up = tensor(30, 24, 9);
        for kind in [Activation::Silu, Activation::Gelu, Activation::GeluTanh, Activation::Relu] {
            let expected = composed::activate(kind, &x).unwrap();
            assert_close(&activate(kind, x.copy().unwrap()).unwrap(), &expected);
            assert_close(&gate(kind, x.copy().unwrap(), &up).unwrap(), &(expected * &up).unwrap());
        }
        let expected = (&up + (&x * 0.3).unwrap()).unwrap();
        assert_close(&add_scaled(&up, x.copy().unwrap(), 0.3).unwrap(), &expected);
        for spans in [Spans::whole(&rows), Spans { rows: &rows, before: &before }] {
            for (half, factor) in [(4, 1.0), (2, 1.5)] {
                let table = Arc::new(RotaryTable::new(&[1.0, 0.3, 0.1, 0.01][..half], 8, factor, 32));
                let tables = vec![table; rows.len()];
                let rotated = composed::rope(&q, spans, &tables).unwrap();
                assert_close(&rope(q.copy().unwrap(), spans, &tables).unwrap(), &rotated);
            }
            for (window, soft_cap) in [(None, None), (Some(5), None), (None, Some(0.5)), (Some(2), Some(0.5))] {
                let scores = Scores { scale: 1.0 / 8f32.sqrt(), soft_cap, window };
                let mixed = composed::attention(&q, &k, &v, shape, spans, scores).unwrap();
                assert_close(&attention(&q, &k, &v, shape, spans, scores).unwrap(), &mixed);
            }
        }
        for of in [Logits::PLAIN, Logits { factor: 0.5, soft_cap: Some(0.7) }] {
            let mut kernel = Vec::new();
            log_probabilities(&x, layer, of, &mut kernel).unwrap();
            let kernel = Tensor::new(kernel, &Device::Cpu).unwrap();
            let composed = Tensor::new(composed::log_probabilities(&x, layer, of).unwrap(), &Device::Cpu).unwrap();
            assert_close(&kernel, &composed);
        }
    }
}
