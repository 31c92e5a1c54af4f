use serde_json::json;

use super::*;
use crate::contract::node::Part;
use crate::testing::tables::{TestTables, assert_near, golden, numbers, run, text, texts};

fn cosines(batch: &arrow::array::RecordBatch, centred: bool) -> Vec<f64> {
    let column: &BooleanArray = crate::table::values(batch, "centred").unwrap();
    let rows = (0..batch.num_rows()).filter(|&row| column.value(row) == centred);
    let values = numbers(batch, if batch.column_by_name("cosine").is_some() { "cosine" } else { "mean" });
    rows.map(|row| values[row]).collect()
}

fn states(a: usize, b: usize) -> Value {
    json!({ "of": "hidden_state", "positions": ["last"], "layers": [-1], "a": a, "b": b })
}

#[test]
fn cosines_and_components_agree_with_numpy() {
    let (tables, golden) = (TestTables::new(), golden());
    let groups = ["x", "y"].map(|dataset| tables.golden_states(&golden, "instruct", dataset));
    let inputs: [(&str, &[Part]); 2] = [("group/0", &groups[..1]), ("group/1", &groups[1..])];
    let expected =
        |name: &str| -> Vec<Vec<f64>> { serde_json::from_value(golden["similarity"][name].clone()).unwrap() };
    let found = run(&crate::comparison::similarity::STAGE, states(0, 1), &inputs).unwrap();
    for (centred, name) in [(false, "raw_xy"), (true, "centred_xy")] {
        let expected: Vec<f64> = expected(name).concat();
        let found = cosines(&found, centred);
        assert_eq!(found.len(), expected.len());
        found.iter().zip(&expected).for_each(|(found, expected)| assert_near(*found, *expected, 1e-6));
    }
    assert_eq!(numbers(&found, "layer")[0], 2.0);

    let mut params = states(0, 0);
    let own = run(&crate::comparison::similarity::STAGE, params.clone(), &inputs).unwrap();
    params["permutations"] = json!(99);
    params["resamples"] = json!(99);
    params["seed"] = json!(0);
    let summary = run(&crate::comparison::similarity_summary::STAGE, params, &inputs).unwrap();
    for (centred, name) in [(false, "raw_xx"), (true, "centred_xx")] {
        let matrix = expected(name);
        let pairs: Vec<f64> = (0..7).flat_map(|i| matrix[i][i + 1..].to_vec()).collect();
        let found = cosines(&own, centred);
        found.iter().zip(&pairs).for_each(|(found, expected)| assert_near(*found, *expected, 1e-6));
        assert_near(cosines(&summary, centred)[0], crate::statistics::moments::mean(&pairs), 1e-10);
    }
    assert_eq!((numbers(&summary, "n_pairs")[0], numbers(&summary, "n_a")[0]), (21.0, 7.0));

    for (group, name) in [(0, "pca_x"), (1, "pca_y")] {
        let params = json!({ "of": "hidden_state", "positions": ["last"], "layers": [2], "group": group });
        let found = run(&crate::comparison::pca::STAGE, params, &inputs).unwrap();
        for (component, column) in ["pc1", "pc2", "pc3"].into_iter().enumerate() {
            let share = golden["similarity"]["explained_variance"][component].as_f64().unwrap();
            assert_near(numbers(&found, &format!("explained_variance_{}", component + 1))[0], share, 1e-10);
            for (found, expected) in numbers(&found, column).iter().zip(expected(name)) {
                assert_near(*found, expected[component], 1e-9);
            }
        }
    }
}

/// Loss vectors around a centre.
fn losses(tables: &TestTables, prefix: &str, n: usize, centre: [f64; 3], stream: u64) -> Part {
    let mut random = crate::statistics::random::Random::new(4, stream);
    let values = (0..n).flat_map(|_| centre.map(|value| (value + 0.3 * random.normal()) as f32)).collect();
    tables.part(vec![
        ("example", text((0..n).map(|i| format!("{prefix}{i}")))),
        ("vector", crate::table::vector_array(values, 3).unwrap()),
    ])
}

fn summary(groups: &[Part], a: usize, b: usize) -> arrow::array::RecordBatch {
    let roles: Vec<String> = (0..groups.len()).map(|i| format!("group/{i}")).collect();
    let inputs: Vec<(&str, &[Part])> =
        roles.iter().zip(groups).map(|(role, part)| (role.as_str(), std::slice::from_ref(part))).collect();
    let params = json!({ "of": "loss", "a": a, "b": b, "resamples": 300, "permutations": 300, "seed": 1 });
    run(&crate::comparison::similarity_summary::STAGE, params, &inputs).unwrap()
}

#[test]
fn the_permutation_test_tells_groups_apart_and_equal_ones_not() {
    let tables = TestTables::new();
    let apart = [losses(&tables, "a", 20, [2.0, 0.0, 0.0], 0), losses(&tables, "b", 15, [0.0, 2.0, 0.0], 1)];
    let (within, between) = (summary(&apart, 0, 0), summary(&apart, 0, 1));
    assert_eq!(texts(&between, "position")[0], "null");
    for row in 0..2 {
        assert_eq!(numbers(&within, "p_value")[row], 1.0 / 301.0);
        assert_eq!(numbers(&between, "p_value")[row], 1.0 / 301.0);
        assert!(numbers(&within, "effect_size")[row] > 3.0 && numbers(&between, "effect_size")[row] < -3.0);
    }
    let alike = [losses(&tables, "a", 20, [1.0, 1.0, 0.0], 2), losses(&tables, "b", 15, [1.0, 1.0, 0.0], 3)];
    let between = summary(&alike, 0, 1);
    assert!(numbers(&between, "p_value").iter().all(|p| *p > 0.05));
    for row in 0..2 {
        let of = |name: &str| numbers(&between, name)[row];
        assert!(of("ci_low") < of("mean") && of("mean") < of("ci_high"));
    }
}

#[test]
fn one_example_has_no_pair_and_one_group_no_null() {
    let tables = TestTables::new();
    let alone = summary(&[losses(&tables, "a", 1, [1.0, 0.0, 0.0], 0)], 0, 0);
    assert_eq!(numbers(&alone, "n_pairs"), [0.0, 0.0]);
    assert!(numbers(&alone, "mean")[0].is_nan() && numbers(&alone, "p_value")[0].is_nan());
    let group = summary(&[losses(&tables, "a", 9, [1.0, 0.0, 0.0], 0)], 0, 0);
    assert_eq!(numbers(&group, "p_value"), [1.0, 1.0]);
}

#[test]
fn groups_that_cannot_be_compared_are_an_error() {
    let tables = TestTables::new();
    let wide = tables.hidden_states(&["a"], &["last"], 1, true, |_, _, _| vec![0.0, 1.0]);
    let narrow = tables.hidden_states(&["a"], &["last"], 1, true, |_, _, _| vec![1.0]);
    let inputs: [(&str, &[Part]); 2] = [("group/0", &[wide]), ("group/1", &[narrow])];
    let error = run(&crate::comparison::similarity::STAGE, states(0, 1), &inputs).unwrap_err().to_string();
    assert!(error.contains("1 numbers cannot be compared with vectors of 2"), "{error}");
}
