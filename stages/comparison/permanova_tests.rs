use serde_json::json;

use super::*;
use crate::contract::node::Part;
use crate::statistics::random::Random;
use crate::testing::tables::{TestTables, assert_near, numbers, run, text};

fn group(tables: &TestTables, prefix: &str, n: usize, centre: [f64; 4], stream: u64) -> Part {
    let mut random = Random::new(21, stream);
    let values = (0..n).flat_map(|_| centre.map(|c| (c + random.normal()) as f32)).collect();
    tables.part(vec![
        ("example", text((0..n).map(|i| format!("{prefix}{i}")))),
        ("vector", crate::table::vector_array(values, 4).unwrap()),
    ])
}

fn found(groups: &[Part], permutations: usize) -> arrow::array::RecordBatch {
    let roles: Vec<String> = (0..groups.len()).map(|i| format!("group/{i}")).collect();
    let inputs: Vec<(&str, &[Part])> =
        roles.iter().zip(groups).map(|(role, part)| (role.as_str(), std::slice::from_ref(part))).collect();
    let names: Vec<Value> = (0..groups.len()).map(|i| json!({ "model": "m", "dataset": format!("d{i}") })).collect();
    let params = json!({ "of": "loss", "groups": names, "permutations": permutations, "seed": 0 });
    run(&STAGE, params, &inputs).unwrap()
}

#[test]
fn one_group_that_lies_elsewhere_is_found() {
    let tables = TestTables::new();
    let groups = [
        group(&tables, "a", 20, [2.0, 0.0, 0.0, 0.0], 0),
        group(&tables, "b", 14, [2.0, 0.0, 0.0, 0.0], 1),
        group(&tables, "c", 17, [0.0, 0.0, 3.0, 0.0], 2),
    ];
    let batch = found(&groups, 499);
    assert_eq!((numbers(&batch, "n"), numbers(&batch, "n_groups")), (vec![51.0; 2], vec![3.0; 2]));
    assert_eq!(numbers(&batch, "p_value"), [1.0 / 500.0; 2]);
    assert!(numbers(&batch, "f")[0] > 4.0 && numbers(&batch, "p_max")[0].is_nan());
    let near_one = numbers(&batch, "null_f")[0];
    assert!((0.9..1.15).contains(&near_one), "pseudo-F is about 1 under the null: {near_one}");
}

/// On unit vectors the pseudo-F is the ratio of sums of squares about the groups' means.
#[test]
fn f_is_that_of_the_sums_of_squares() {
    let tables = TestTables::new();
    let groups = [group(&tables, "a", 6, [1.0, 0.0, 0.0, 0.0], 4), group(&tables, "b", 5, [0.0; 4], 5)];
    let mut units: Vec<Vec<f64>> = Vec::new();
    for part in &groups {
        let batch = crate::table::read(std::slice::from_ref(part), &["vector"]).unwrap();
        let (values, _) = crate::table::vectors(&batch, "vector").unwrap();
        for row in values.chunks(4) {
            let mut row: Vec<f64> = row.iter().map(|x| f64::from(*x)).collect();
            crate::linear_algebra::scale_to_unit(&mut row);
            units.push(row);
        }
    }
    let squares = |rows: &[Vec<f64>]| -> f64 {
        let mean = |axis: usize| rows.iter().map(|row| row[axis]).sum::<f64>() / rows.len() as f64;
        rows.iter().map(|row| (0..4).map(|axis| (row[axis] - mean(axis)).powi(2)).sum::<f64>()).sum()
    };
    let (all, within) = (squares(&units), squares(&units[..6]) + squares(&units[6..]));
    let batch = found(&groups, 19);
    assert_near(numbers(&batch, "f")[0], (all - within) / (within / 9.0), 1e-9);
    assert_near(numbers(&batch, "r_squared")[0], 1.0 - within / all, 1e-9);
}

#[test]
fn equal_groups_are_rejected_at_level() {
    let mut rejected = [0; 2];
    for seed in 0..200 {
        let tables = TestTables::new();
        let of = |name: &str, n: usize, stream: u64| group(&tables, name, n, [0.5; 4], 100 + 3 * seed + stream);
        // The last two are one dataset under two models.
        let batch = found(&[of("a", 12, 0), of("b", 20, 1), of("b", 20, 2)], 99);
        for (rejected, p) in rejected.iter_mut().zip(numbers(&batch, "p_value")) {
            *rejected += usize::from(p <= 0.05);
        }
    }
    assert!(rejected.iter().all(|rejected| (2..=20).contains(rejected)), "{rejected:?} of 200");
}

#[test]
fn one_group_has_no_test() {
    let tables = TestTables::new();
    let batch = found(&[group(&tables, "a", 9, [1.0; 4], 0)], 99);
    assert!(numbers(&batch, "f")[0].is_nan() && numbers(&batch, "p_value")[0].is_nan());
}
