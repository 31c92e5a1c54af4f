//! Effects of patches, and effects for the size of the patch.

use std::sync::Arc;

use anyhow::Result;
use arrow::array::{ArrayRef, BooleanArray, Float32Array, StringArray, UInt32Array};
use serde_json::json;
use strata_stages::statistics::random::Random;

use super::{Counts, Seen, Size, sections};
use crate::bench::Bench;

/// Patches whose change is log-normal and whose effect is half of it and noise: the effect is 0.5 exp(0.125) nats in the mean, and 0.5
/// for each unit of change.
pub fn patching(size: Size, seed: u64) -> Result<Vec<Seen>> {
    let mut random = Random::new(seed, 90);
    let mut bench = Bench::new(&["base", "third"], &["a"], sections(json!({})))?;
    let changes: Vec<f64> = (0..size.n).map(|_| (0.5 * random.normal()).exp()).collect();
    let clean: Vec<f64> = (0..size.n).map(|_| 2.0 + random.normal()).collect();
    let patched: Vec<f64> =
        changes.iter().zip(&clean).map(|(change, clean)| clean + 0.5 * change + 0.5 * random.normal()).collect();
    let numbers = |values: &[f64]| -> ArrayRef {
        Arc::new(values.iter().map(|value| Some(*value as f32)).collect::<Float32Array>())
    };
    let source: Vec<f64> = clean.iter().map(|clean| clean + 1.0).collect();
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("layer", Arc::new(UInt32Array::from(vec![1; size.n]))),
        ("last_layer", Arc::new(BooleanArray::from(vec![false; size.n]))),
        ("metric", Arc::new(StringArray::from(vec!["loss"; size.n]))),
        ("value", numbers(&patched)),
        ("clean_source", numbers(&source)),
        ("clean_target", numbers(&clean)),
        ("change", numbers(&changes)),
    ];
    let bindings = [("source", "base"), ("target", "third"), ("dataset", "a")];
    bench.give_bound("patching", &bindings.map(|(role, name)| (role, name.to_string())), columns)?;
    let mut counts = Counts::default();
    if let Some(row) = bench.table("patching_summary", &[])?.0.first() {
        counts.covers("effect", row.number("effect_low"), row.number("effect_high"), 0.5 * 0.125f64.exp());
        counts.covers("effect for its change", row.number("per_change_low"), row.number("per_change_high"), 0.5);
    }
    Ok(counts.0)
}
