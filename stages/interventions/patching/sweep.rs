//! The patched passes of a packed block, one for each layer.
//!
//! Both models move up together, so that the source is passed once, the target once for its clean end, and only
//! one state of each is in memory. At a patched layer the source's rows are put into the target's stream, and the
//! target's blocks above it run again.

use std::ops::Range;

use anyhow::{Result, ensure};
use candle_core::{Device, Tensor};

use super::measure::{Measure, Values};
use crate::contract::sequences::Sequences;
use crate::model::compute::with_slice;
use crate::model::transformer::Transformer;

/// A block's values in the two clean models, and patched at each layer.
pub struct Swept {
    pub clean_source: Vec<Values>,
    pub clean_target: Vec<Values>,
    pub patches: Vec<Patch>,
}

/// The target with the source's stream at one layer.
pub struct Patch {
    pub layer: usize,
    /// For each sequence |source - target| / |target| (L2 norms over the patched rows); 0 where they are equal.
    pub change: Vec<f64>,
    pub values: Vec<Values>,
}

/// Patches at each of `layers` (ascending). `patched` holds the packed rows of each sequence that are replaced.
/// `step` is told after each layer, and its error ends the sweep.
///
/// # Errors
/// When a token is unknown to a model, or a value is not finite (naming model, layer and example).
pub fn sweep(
    source: &Transformer,
    target: &Transformer,
    block: &Sequences,
    layers: &[usize],
    patched: &[Range<usize>],
    measure: &Measure,
    step: &mut dyn FnMut() -> Result<()>,
) -> Result<Swept> {
    let packings = [source.pack(block), target.pack(block)];
    let (mut from, mut into) = (source.embed(block)?, target.embed(block)?);
    let mut patches = Vec::new();
    for layer in 0..=target.config.layers {
        if layers.binary_search(&layer).is_ok() {
            let change = changes(&from, &into, patched)?;
            let normed = target.normed_from(layer, &replaced(&from, &into, patched)?, &packings[1])?;
            let values = measure.of(target, &normed)?;
            check_finite(&values, block, || format!("the target model, patched at layer {layer},"))?;
            patches.push(Patch { layer, change, values });
            step()?;
        }
        if layer < target.config.layers {
            from = source.block(layer, &from, &packings[0])?;
            into = target.block(layer, &into, &packings[1])?;
        }
    }
    let clean_source = measure.of(source, &source.final_norm(&from)?)?;
    check_finite(&clean_source, block, || "the source model".into())?;
    let clean_target = measure.of(target, &target.final_norm(&into)?)?;
    check_finite(&clean_target, block, || "the target model".into())?;
    Ok(Swept { clean_source, clean_target, patches })
}

/// `into` with the rows of `from` in place of its own at `patched` (ascending ranges).
fn replaced(from: &Tensor, into: &Tensor, patched: &[Range<usize>]) -> Result<Tensor> {
    let mut parts = Vec::new();
    let mut done = 0;
    for rows in patched.iter().filter(|rows| !rows.is_empty()) {
        if done < rows.start {
            parts.push(into.narrow(0, done, rows.start - done)?);
        }
        parts.push(from.narrow(0, rows.start, rows.len())?);
        done = rows.end;
    }
    let all = into.dim(0)?;
    if done < all {
        parts.push(into.narrow(0, done, all - done)?);
    }
    Ok(Tensor::cat(&parts, 0)?)
}

fn changes(from: &Tensor, into: &Tensor, patched: &[Range<usize>]) -> Result<Vec<f64>> {
    let change = |rows: &Range<usize>| -> Result<f64> {
        if rows.is_empty() {
            return Ok(0.0);
        }
        let of = |states: &Tensor| -> Result<Tensor> {
            Ok(states.narrow(0, rows.start, rows.len())?.to_device(&Device::Cpu)?)
        };
        let (from, into) = (of(from)?, of(into)?);
        with_slice(&from, |from| with_slice(&into, |into| relative_difference(from, into)))?
    };
    patched.iter().map(change).collect()
}

/// |a - b| / |b|.
fn relative_difference(a: &[f32], b: &[f32]) -> f64 {
    let square = |x: f64| x * x;
    let difference: f64 = a.iter().zip(b).map(|(a, b)| square(*a as f64 - *b as f64)).sum();
    let length: f64 = b.iter().map(|b| square(*b as f64)).sum();
    if difference == 0.0 { 0.0 } else { (difference / length).sqrt() }
}

fn check_finite(values: &[Values], block: &Sequences, what: impl Fn() -> String) -> Result<()> {
    for (values, example) in values.iter().zip(&block.examples) {
        let finite = values.iter().flatten().all(|value| value.is_finite());
        ensure!(
            finite,
            "{} gives a value that is not finite for example {example}: weights or states overflow",
            what()
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_patched_rows_alone_are_the_sources() {
        let tensor = |values: [f32; 6]| Tensor::from_vec(values.to_vec(), (6, 1), &Device::Cpu).unwrap();
        let (from, into) = (tensor([10.0, 11.0, 12.0, 13.0, 14.0, 15.0]), tensor([0.0, 1.0, 2.0, 3.0, 4.0, 5.0]));
        let rows = |patched: &[Range<usize>]| -> Vec<f32> {
            replaced(&from, &into, patched).unwrap().flatten_all().unwrap().to_vec1().unwrap()
        };
        assert_eq!(rows(&[1..2, 3..3, 4..6]), [0.0, 11.0, 2.0, 3.0, 14.0, 15.0]);
        assert_eq!(rows(std::slice::from_ref(&(0..6))), [10.0, 11.0, 12.0, 13.0, 14.0, 15.0]);
        assert_eq!(rows(std::slice::from_ref(&(0..0))), [0.0, 1.0, 2.0, 3.0, 4.0, 5.0]);
        let changes = changes(&from, &into, &[0..0, 1..2, 3..5]).unwrap();
        assert_eq!(changes, [0.0, 10.0, (200f64 / 25.0).sqrt()]);
        assert_eq!(relative_difference(&[0.0; 2], &[0.0; 2]), 0.0);
    }
}
