use serde_json::json;

use super::*;
use crate::contract::node::Part;
use crate::statistics::random::Random;
use crate::testing::tables::{TestTables, assert_near, golden, numbers, run};

fn distances(a: Part, b: Part) -> arrow::array::RecordBatch {
    let params = json!({ "positions": ["last"], "permutations": 199, "seed": 0 });
    run(&STAGE, params, &[("a", &[a]), ("b", &[b])]).unwrap()
}

/// States of `n` examples at the embeddings and two layers: around a common mean and, at the last layer, moved by `shift`
/// along the second axis.
fn states(tables: &TestTables, name: &str, n: usize, shift: f32, stream: u64) -> Part {
    const WIDTH: usize = 24;
    let mut random = Random::new(5, stream);
    let noise: Vec<f32> = (0..3 * n * WIDTH).map(|_| random.normal() as f32 / (WIDTH as f32).sqrt()).collect();
    let names: Vec<String> = (0..n).map(|i| format!("{name}{i}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    tables.hidden_states(&names, &["last"], 2, false, |_, site, i| {
        let start = (site.layer * n + i) * WIDTH;
        let mut vector = noise[start..start + WIDTH].to_vec();
        vector[0] += 2.0;
        vector[1] += if site.layer == 2 { shift } else { 0.0 };
        vector
    })
}

#[test]
fn the_plain_distance_agrees_with_numpy() {
    let (tables, golden) = (TestTables::new(), golden());
    let states = |dataset: &str| tables.golden_states(&golden, "instruct", dataset);
    let found = distances(states("x"), states("y"));
    let expected = golden["distance"].as_array().unwrap();
    assert_eq!((found.num_rows(), numbers(&found, "n_b")[0]), (expected.len(), 5.0));
    for (row, expected) in expected.iter().enumerate() {
        let of = |name: &str| numbers(&found, name)[row];
        assert_near(of("plain_distance"), expected.as_f64().unwrap(), 1e-12);
        assert!(of("ci_low") <= of("cosine_distance") && of("cosine_distance") <= of("ci_high"));
        assert!(of("p_value") <= of("p_holm"));
    }
    let same = distances(states("x"), states("x"));
    assert!(numbers(&same, "plain_distance").iter().all(|distance| distance.abs() < 1e-12));
    assert_eq!((numbers(&same, "n_same")[0], numbers(&same, "p_value")[0]), (7.0, 1.0));
}

#[test]
fn a_mean_of_zero_has_no_direction() {
    let tables = TestTables::new();
    let zero = tables.hidden_states(&["a"], &["last"], 0, false, |_, _, _| vec![0.0, 0.0]);
    let one = tables.hidden_states(&["b"], &["last"], 0, false, |_, _, _| vec![1.0, 0.0]);
    let found = distances(zero, one);
    for column in ["cosine_distance", "ci_low", "plain_distance", "p_value", "p_holm", "p_max"] {
        assert!(numbers(&found, column)[0].is_nan(), "{column}");
    }
}

#[test]
fn equal_states_have_no_test() {
    let tables = TestTables::new();
    let state = |names: &[&str]| tables.hidden_states(names, &["last"], 0, false, |_, _, _| vec![0.1, 0.7, -0.3]);
    let found = distances(state(&["a", "b", "c", "d"]), state(&["e", "f", "g", "h", "i"]));
    assert!(numbers(&found, "p_value")[0].is_nan() && numbers(&found, "p_max")[0].is_nan());
    assert_near(numbers(&found, "cosine_distance")[0], 0.0, 1e-9);
}

#[test]
fn a_shift_of_one_layer_is_found_there_alone() {
    let tables = TestTables::new();
    let found = distances(states(&tables, "a", 30, 0.0, 0), states(&tables, "b", 20, 1.5, 1));
    for column in ["p_value", "p_holm", "p_max"] {
        let p = numbers(&found, column);
        assert!(p[2] <= 0.02 && p[0] > 0.05 && p[1] > 0.05, "{column}: {p:?}");
    }
    // 1 - cos of the angle between (2, 0) and (2, 1.5) is 0.2.
    let of = |name: &str| numbers(&found, name);
    assert!(of("ci_low")[2] < 0.2 && 0.2 < of("ci_high")[2] && of("ci_low")[2] > 0.1);
    assert!(of("plain_distance")[0] > of("cosine_distance")[0], "noise lengthens the plain distance");
}

/// What the estimate's bias, the interval and the tests are worth, over simulated datasets.
#[test]
fn rejections_and_coverage_are_as_they_should_be() {
    let tables = TestTables::new();
    let count = 200;
    let (mut rejected, mut any, mut covered, mut covered_null, mut bias) = (0, 0, 0, 0, 0.0);
    for stream in 0..count {
        let (a, b) = (states(&tables, "a", 16, 0.0, 2 * stream), states(&tables, "b", 24, 1.5, 2 * stream + 1));
        let found = distances(a, b);
        let of = |name: &str, row: usize| numbers(&found, name)[row];
        rejected += usize::from(of("p_value", 1) <= 0.05);
        any += usize::from(of("p_max", 0).min(of("p_max", 1)) <= 0.05);
        covered += usize::from(of("ci_low", 2) <= 0.2 && 0.2 <= of("ci_high", 2));
        covered_null += usize::from(of("ci_low", 1) <= 0.0 && 0.0 <= of("ci_high", 1));
        bias += (of("cosine_distance", 2) - 0.2) / count as f64;
    }
    let share = |found: usize| found as f64 / count as f64;
    assert!((0.015..=0.085).contains(&share(rejected)), "rejections {}", share(rejected));
    assert!(share(any) <= 0.085, "the layers' family {}", share(any));
    assert!((0.91..=0.99).contains(&share(covered)), "coverage {}", share(covered));
    assert!(share(covered_null) >= 0.92, "coverage of 0 {}", share(covered_null));
    assert!(bias.abs() < 0.01, "bias {bias}");
}
