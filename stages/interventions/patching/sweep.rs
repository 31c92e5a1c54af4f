//! The patched passes of packed sequences, one for each layer.
//!
//! Both models move up together, so that the source is passed once, the target once for its clean end, and only
//! one state of each is in memory. At a patched layer the source's rows are put into the target's stream, and the
//! target's blocks above it run again.

use std::ops::Range;

use anyhow::{Context, Result, ensure};
use candle_core::{Device, Tensor};

use super::measure::{Measure, Values};
use crate::contract::intervention::Intervention;
use crate::contract::sequences::Sequences;
use crate::contract::site::Site;
use crate::model::compute::with_slice;
use crate::model::forward::{Start, states_at};
use crate::model::transformer::Transformer;

/// The values of packed sequences in the two clean models, and patched at each layer.
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
    sequences: &Sequences,
    layers: &[usize],
    patched: &[Range<usize>],
    measure: &Measure,
    step: &mut dyn FnMut() -> Result<()>,
) -> Result<Swept> {
    let top = target.description.layers;
    let measured =
        |model: &Transformer, start: Start, interventions: &[&dyn Intervention], what: &dyn Fn() -> String| {
            let values = measure.of(model, sequences, start, interventions).with_context(what)?;
            check_finite(&values, sequences, what)?;
            Ok::<_, anyhow::Error>(values)
        };
    let up = |model: &Transformer, start: Start, layer: usize| {
        states_at(model, sequences, start, Site::residual(layer)).map(|states| Start::Residual(layer, states))
    };
    let mut from = up(source, Start::Tokens, 0).context("the source model")?;
    let mut into = up(target, Start::Tokens, 0).context("the target model")?;
    let mut patches = Vec::new();
    for layer in 0..=top {
        if let (Ok(_), Start::Residual(_, from), Start::Residual(_, states)) =
            (layers.binary_search(&layer), &from, &into)
        {
            let change = changes(from, states, patched)?;
            let patch = Patching { site: Site::residual(layer), from, patched };
            let what = || format!("the target model, patched at layer {layer},");
            let values = measured(target, into.clone(), &[&patch], &what)?;
            patches.push(Patch { layer, change, values });
            step()?;
        }
        if layer < top {
            from = up(source, from, layer + 1).context("the source model")?;
            into = up(target, into, layer + 1).context("the target model")?;
        }
    }
    let clean_source = measured(source, from, &[], &|| "the source model".into())?;
    let clean_target = measured(target, into, &[], &|| "the target model".into())?;
    Ok(Swept { clean_source, clean_target, patches })
}

/// Puts the source's states in the place of the target's.
struct Patching<'a> {
    site: Site,
    from: &'a Tensor,
    /// The packed rows that are replaced, as ascending ranges.
    patched: &'a [Range<usize>],
}

impl Intervention for Patching<'_> {
    fn sites(&self) -> Vec<Site> {
        vec![self.site]
    }

    fn edit(&self, _site: Site, _sequences: &Sequences, states: &Tensor) -> Result<Option<Tensor>> {
        replaced(self.from, states, self.patched).map(Some)
    }
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

fn check_finite(values: &[Values], sequences: &Sequences, what: impl Fn() -> String) -> Result<()> {
    for (values, example) in values.iter().zip(&sequences.examples) {
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
