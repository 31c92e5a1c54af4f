//! Passes and their reverse from candle's ops, as on a GPU, run on the CPU: against transformers and against the kernels.

use serde_json::Value;

use super::compute::forced::composed;
use super::families_tests::{All, LENGTHS, deviations, golden, pass, too_far};
use super::ops::Precision;
use super::test_model::{TestModel, part};
use super::transformer::Transformer;

fn models() -> Vec<(String, Value, Transformer)> {
    let open = |(name, golden): (String, Value)| {
        let model = TestModel::of(&golden["config"]).open();
        (name, golden, model)
    };
    golden().into_iter().map(open).collect()
}

#[test]
fn families_are_those_of_transformers_from_candles_ops_too() {
    let wrong = models()
        .into_iter()
        .filter_map(|(name, golden, model)| too_far(&name, composed(|| deviations(&model, &golden))));
    let wrong: Vec<String> = wrong.collect();
    assert!(wrong.is_empty(), "states, log-probabilities, entropies, norms, cosines:\n{}", wrong.join("\n"));
}

/// The largest difference, in units of the largest number.
fn difference(found: &[f32], expected: &[f32]) -> f32 {
    assert_eq!(found.len(), expected.len());
    let largest = expected.iter().fold(1e-12f32, |largest, value| largest.max(value.abs()));
    let difference = |(found, expected): (&f32, &f32)| (found - expected).abs() / largest;
    let worst = found.iter().zip(expected).map(difference);
    worst.fold(0.0, |worst, d| if d.is_nan() { f32::INFINITY } else { worst.max(d) })
}

/// The largest differences of states, log-probabilities and gradients, the last by module.
fn differences(found: &All, expected: &All) -> [f32; 3] {
    let of = |all: &All| all.gradients.values().map(|gradients| gradients.concat()).collect::<Vec<_>>();
    let worst = |found: &[Vec<f32>], expected: &[Vec<f32>]| {
        assert_eq!(found.len(), expected.len());
        found.iter().zip(expected).map(|(found, expected)| difference(found, expected)).fold(0f32, f32::max)
    };
    assert!(found.gradients.keys().eq(expected.gradients.keys()));
    [
        worst(&found.states, &expected.states),
        difference(&found.logprobs, &expected.logprobs),
        worst(&of(found), &of(expected)),
    ]
}

#[test]
fn candles_ops_agree_with_the_kernels_in_both_precisions() {
    let sequences = part(&LENGTHS);
    for (name, _, mut model) in models() {
        // A bf16 value that falls between two is rounded to the other where f32 sums differ in their last bit.
        for (precision, most) in [(Precision::F32, 5e-5), (Precision::Bf16, 5e-2)] {
            model.precision = precision;
            model.layers.iter_mut().flat_map(|layer| &mut layer.modules).for_each(|linear| linear.forget());
            let kernels = pass(&model, &sequences);
            let found = differences(&composed(|| pass(&model, &sequences)), &kernels);
            let all = found.map(|difference| format!("{difference:.1e}")).join(", ");
            println!("{name:24} {precision:?}: {all}");
            assert!(found.iter().all(|difference| *difference < most), "{name}, {precision:?}: {all}");
        }
    }
}
