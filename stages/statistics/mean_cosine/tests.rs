use super::*;
use crate::linear_algebra::{gram, products};

const WIDTH: usize = 64;

/// `n` vectors around `length` times the unit vector at an angle with this cosine to the first axis.
fn group(random: &mut Random, n: usize, length: f64, cosine: f64) -> Vec<f64> {
    let sine = (1.0 - cosine * cosine).sqrt();
    let mut vectors: Vec<f64> = (0..n * WIDTH).map(|_| random.normal() / (WIDTH as f64).sqrt()).collect();
    for vector in vectors.chunks_exact_mut(WIDTH) {
        vector[0] += length * cosine;
        vector[1] += length * sine;
    }
    vectors
}

fn of(a: &[f64], b: &[f64], examples: &Examples) -> MeanCosine {
    let (within_a, within_b, between) = (gram(a, WIDTH), gram(b, WIDTH), products(a, b, WIDTH));
    let [a, b, between] = [&within_a, &within_b, &between].map(|matrix| Matrix::Held(matrix));
    mean_cosine(InnerProducts { a, b, between }, examples)
}

/// The shares of `count` simulations whose test rejects at 0.05 and whose interval has the cosine, and the mean estimate.
fn simulated(count: u64, n: [usize; 2], lengths: [f64; 2], cosine: f64) -> [f64; 3] {
    let mut sums = [0.0; 3];
    for stream in 0..count {
        let mut random = Random::new(7, stream);
        let a = group(&mut random, n[0], lengths[0], 1.0);
        let b = group(&mut random, n[1], lengths[1], cosine);
        let found = of(&a, &b, &Examples::different(n[0], n[1]));
        sums[0] += f64::from(found.p_value.is_some_and(|p| p <= 0.05));
        sums[1] += f64::from(found.interval.is_some_and(|found| found.low <= cosine && cosine <= found.high));
        sums[2] += found.estimate.unwrap_or(f64::NAN);
    }
    sums.map(|sum| sum / count as f64)
}

#[test]
fn the_test_holds_its_level_with_and_without_means() {
    for (n, lengths) in [
        ([16, 16], [0.0, 0.0]),
        ([16, 16], [0.0, 2.0]),
        // Two real means at a right angle: with one of them held fixed, signs on the other group reject 0.15 of these.
        ([16, 16], [2.0, 2.0]),
        ([16, 64], [1.0, 1.0]),
        ([64, 64], [0.5, 0.5]),
    ] {
        let [rejected, ..] = simulated(400, n, lengths, 0.0);
        let least = if lengths == [0.0, 0.0] { 0.0 } else { 0.025 };
        assert!((least..=0.075).contains(&rejected), "{n:?} {lengths:?}: {rejected}");
    }
    let [power, ..] = simulated(100, [16, 16], [2.0, 2.0], 0.5);
    assert_eq!(power, 1.0);
}

#[test]
fn the_interval_covers_and_the_estimate_has_no_bias() {
    for (n, length, cosine) in
        [([16, 16], 0.7, 0.3), ([16, 64], 2.0, 0.8), ([64, 64], 0.4, -0.5), ([64, 64], 5.0, 0.95)]
    {
        let [_, covered, mean] = simulated(400, n, [length, length], cosine);
        assert!((0.92..=0.975).contains(&covered), "{n:?} {length} {cosine}: {covered}");
        assert!((mean - cosine).abs() < 0.02, "{n:?} {length} {cosine}: {mean}");
    }
}

#[test]
fn agrees_with_its_definition() {
    let mut random = Random::new(1, 0);
    let (a, b) = (group(&mut random, 5, 1.0, 1.0), group(&mut random, 7, 1.0, 0.5));
    let found = of(&a, &b, &Examples::different(5, 7));
    let row = |matrix: &[f64], i: usize| matrix[i * WIDTH..(i + 1) * WIDTH].to_vec();
    let mean_product = |a: &[f64], b: &[f64], skip: bool| {
        let (n, m) = (a.len() / WIDTH, b.len() / WIDTH);
        let pairs = (0..n).flat_map(|i| (0..m).map(move |j| (i, j))).filter(|(i, j)| !skip || i != j);
        let values: Vec<f64> = pairs.map(|(i, j)| dot(&row(a, i), &row(b, j))).collect();
        values.iter().sum::<f64>() / values.len() as f64
    };
    let expected = mean_product(&a, &b, false) / (mean_product(&a, &a, true) * mean_product(&b, &b, true)).sqrt();
    assert!((found.estimate.unwrap() - expected).abs() < 1e-12);
    let plain = mean_product(&a, &b, false) / (mean_product(&a, &a, false) * mean_product(&b, &b, false)).sqrt();
    assert!((found.plain - plain).abs() < 1e-12);
    // The standard error of the inner product is about that of the jackknife, which leaves out one row at a time.
    let inner = mean_product(&a, &b, false);
    let without = |matrix: &[f64], i: usize| [&matrix[..i * WIDTH], &matrix[(i + 1) * WIDTH..]].concat();
    let of_a: f64 = (0..5).map(|i| 0.8 * (mean_product(&without(&a, i), &b, false) - inner).powi(2)).sum();
    let of_b: f64 = (0..7).map(|i| 6.0 / 7.0 * (mean_product(&a, &without(&b, i), false) - inner).powi(2)).sum();
    let z = found.z.unwrap();
    assert!((z * z) * (of_a + of_b) >= inner * inner, "the pairs' part is taken off once");
    assert!((z * z) * (of_a + of_b) <= 2.0 * inner * inner * 1.0001);
}

#[test]
fn pairs_of_one_example_are_left_out() {
    let (mut rejected, mut mean, count) = (0.0, 0.0, 300);
    for stream in 0..count {
        let mut random = Random::new(3, stream);
        // The same noise in both groups: its own products would be a common direction.
        let a = group(&mut random, 24, 1.5, 1.0);
        let noise = group(&mut Random::new(3, stream), 24, 0.0, 1.0);
        let b: Vec<f64> = noise.iter().enumerate().map(|(i, x)| x + if i % WIDTH == 1 { 1.5 } else { 0.0 }).collect();
        let names: Vec<String> = (0..24).map(|i| format!("example{i}")).collect();
        let names = || names.iter().map(String::as_str);
        let examples = Examples::by_identity(names(), names());
        assert_eq!(examples.same_pairs(), 24);
        let found = of(&a, &b, &examples);
        rejected += f64::from(found.p_value.unwrap() <= 0.05) / count as f64;
        mean += found.estimate.unwrap() / count as f64;
    }
    assert!(rejected <= 0.085 && mean.abs() < 0.02, "{rejected} {mean}");
    let repeated = Examples::by_identity(["x", "x-2", "y-z"], ["y", "x"]);
    assert_eq!(repeated.same_pairs(), 2);
}

#[test]
fn what_cannot_be_known_is_not_said() {
    let mut random = Random::new(2, 0);
    let constant = [1.0; WIDTH].repeat(6);
    let other = group(&mut random, 6, 1.0, 0.0);
    let found = of(&constant, &constant, &Examples::different(6, 6));
    assert!(found.p_value.is_none() && (found.estimate.unwrap() - 1.0).abs() < 1e-12);
    let interval = found.interval.unwrap();
    assert!((interval.low - 1.0).abs() < 1e-6 && (interval.high - 1.0).abs() < 1e-6, "{interval:?}");
    let zero = of(&[0.0; 6 * WIDTH], &other, &Examples::different(6, 6));
    assert!(zero.plain.is_nan() && zero.estimate.is_none() && zero.p_value.is_none());
    let few = of(&constant[..2 * WIDTH], &other, &Examples::different(2, 6));
    assert!(few.estimate.is_some() && few.interval.is_none() && few.p_value.is_none());
    // The noise of a single mean: hardly a length, so any cosine.
    let faint = group(&mut random, 6, 0.3, 1.0);
    if let Some(interval) = of(&faint, &faint, &Examples::different(6, 6)).interval {
        assert!(interval.low <= 1.0 && interval.high - interval.low > 0.1);
    }
}

#[test]
fn null_values_have_the_spread_of_the_statistic() {
    let mut random = Random::new(9, 0);
    let (a, b) = (group(&mut random, 30, 1.0, 1.0), group(&mut random, 20, 1.0, 0.0));
    let tests = [of(&a, &b, &Examples::different(30, 20)), of(&a, &a, &Examples::different(30, 30))];
    let null = null_of(&tests[..1], 4000, 0, 0);
    let variance = null.iter().map(|value| value * value).sum::<f64>() / 4000.0;
    assert!((variance - 1.0).abs() < 0.1, "{variance}");
    assert_eq!(null_of(&tests, 3, 0, 0).len(), 6);
}

#[test]
fn vectors_say_what_their_products_do() {
    use crate::statistics::vector_products::Centred;
    let mut random = Random::new(4, 0);
    for length in [0.5, 30.0] {
        let (a, b) = (group(&mut random, 9, length, 1.0), group(&mut random, 7, length, 0.6));
        // The examples 0 and 1 are in both groups, 1 twice in the first.
        let shared = Examples { a: vec![0, 1, 1, 2, 3, 4, 5, 6, 7], b: vec![8, 1, 9, 0, 10, 11, 12], count: 13 };
        for examples in [Examples::different(9, 7), shared] {
            let expected = of(&a, &b, &examples);
            let (of_a, of_b) = (Centred::new(&a, WIDTH), Centred::new(&b, WIDTH));
            let found = mean_cosine(InnerProducts::of_vectors(&of_a, &of_b), &examples);
            let close = |found: f64, expected: f64| assert!((found - expected).abs() < 1e-9, "{found} for {expected}");
            close(found.plain, expected.plain);
            close(found.estimate.unwrap(), expected.estimate.unwrap());
            close(found.z.unwrap() / expected.z.unwrap(), 1.0);
            close(found.interval.unwrap().low, expected.interval.unwrap().low);
            close(found.interval.unwrap().high, expected.interval.unwrap().high);
            found.shares.iter().zip(&expected.shares).for_each(|(found, expected)| close(*found, *expected));
        }
    }
}
