use serde_json::json;

use super::*;
use crate::contract::node::Part;
use crate::statistics::random::Random;
use crate::testing::tables::{TestTables, assert_near, numbers, run, text};

/// Vectors around a centre, with noise in every direction.
fn group(tables: &TestTables, prefix: &str, n: usize, centre: &[f64], stream: u64) -> Part {
    let mut random = Random::new(11, stream);
    let values =
        (0..n).flat_map(|_| centre.iter().map(|c| (c + random.normal()) as f32).collect::<Vec<f32>>()).collect();
    tables.part(vec![
        ("example", text((0..n).map(|i| format!("{prefix}{i}")))),
        ("vector", crate::table::vector_array(values, centre.len()).unwrap()),
    ])
}

fn found(groups: &[Part]) -> arrow::array::RecordBatch {
    let roles: Vec<String> = (0..groups.len()).map(|i| format!("group/{i}")).collect();
    let inputs: Vec<(&str, &[Part])> =
        roles.iter().zip(groups).map(|(role, part)| (role.as_str(), std::slice::from_ref(part))).collect();
    let names: Vec<Value> = (0..groups.len()).map(|i| json!({ "model": "m", "dataset": format!("d{i}") })).collect();
    run(&STAGE, json!({ "of": "loss", "groups": names, "draws": 99, "seed": 0 }), &inputs).unwrap()
}

#[test]
fn opposed_aligned_and_unrelated_means_are_told_apart() {
    let tables = TestTables::new();
    let along =
        |axis: usize, length: f64| -> Vec<f64> { (0..40).map(|i| if i == axis { length } else { 0.0 }).collect() };
    let batch = found(&[
        group(&tables, "a", 60, &along(0, 3.0), 0),
        group(&tables, "b", 60, &along(0, 3.0), 1),
        group(&tables, "c", 60, &along(0, -3.0), 2),
        group(&tables, "d", 60, &along(1, 3.0), 3),
    ]);
    // ab, ac, ad, bc, bd, cd
    let cosines = numbers(&batch, "cosine");
    for (row, expected) in [1.0, -1.0, 0.0, -1.0, 0.0, 0.0].into_iter().enumerate() {
        assert_near(cosines[row], expected, 0.15);
        let (low, high) = (numbers(&batch, "ci_low")[row], numbers(&batch, "ci_high")[row]);
        assert!(low <= cosines[row] && cosines[row] <= high);
        let p = numbers(&batch, "p_holm")[row];
        assert!(if expected == 0.0 { p > 0.05 } else { p < 1e-6 }, "row {row}: {p}");
        assert!(numbers(&batch, "plain")[row].abs() < cosines[row].abs().max(0.2));
    }
    // 9 of 9 + 40.
    assert_near(numbers(&batch, "mean_share_a")[0], 9.0 / 49.0, 0.03);
    assert!(numbers(&batch, "p_max").iter().all(|p| p.is_nan()));
}

#[test]
fn groups_of_a_shared_example_leave_it_out() {
    let tables = TestTables::new();
    let (a, b) = (group(&tables, "x", 9, &[1.0; 3], 5), group(&tables, "x", 9, &[1.0; 3], 6));
    let batch = found(&[a, b]);
    assert_eq!((numbers(&batch, "n_same"), numbers(&batch, "n_a")), (vec![9.0], vec![9.0]));
}

#[test]
fn unrelated_means_are_rejected_at_level_and_intervals_cover() {
    let (mut rejected, mut covered, simulations) = (0, 0, 200);
    for seed in 0..simulations {
        let tables = TestTables::new();
        let axis = |axis: usize| -> Vec<f64> { (0..32).map(|i| if i == axis { 1.5 } else { 0.0 }).collect() };
        let batch = found(&[
            group(&tables, "a", 24, &axis(0), 100 + 2 * seed),
            group(&tables, "b", 24, &axis(1), 101 + 2 * seed),
        ]);
        rejected += usize::from(numbers(&batch, "p_value")[0] <= 0.05);
        covered += usize::from(numbers(&batch, "ci_low")[0] <= 0.0 && numbers(&batch, "ci_high")[0] >= 0.0);
    }
    assert!((2..=20).contains(&rejected), "{rejected} of {simulations}");
    assert!(covered >= 180, "{covered} of {simulations}");
}
