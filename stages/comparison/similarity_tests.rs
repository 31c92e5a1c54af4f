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
    params["seed"] = json!(0);
    params["groups"] = names(2);
    let summary = run(&crate::comparison::similarity_summary::STAGE, params, &inputs).unwrap();
    for (centred, name) in [(false, "raw_xx"), (true, "centred_xx")] {
        let matrix = expected(name);
        let pairs: Vec<f64> = (0..7).flat_map(|i| matrix[i][i + 1..].to_vec()).collect();
        let found = cosines(&own, centred);
        found.iter().zip(&pairs).for_each(|(found, expected)| assert_near(*found, *expected, 1e-6));
        assert_near(cosines(&summary, centred)[0], crate::statistics::moments::mean(&pairs), 1e-10);
    }
    assert_eq!((numbers(&summary, "n_pairs")[0], numbers(&summary, "n_a")[0]), (21.0, 7.0));

    let params = json!({
        "of": "hidden_state", "positions": ["last"], "layers": [2], "groups": names(2), "robust": false,
    });
    let found = run(&crate::comparison::pca::STAGE, params, &inputs).unwrap();
    assert_eq!(texts(&found, "dataset"), [["d0"; 7].as_slice(), &["d1"; 5]].concat());
    for (component, column) in ["pc1", "pc2", "pc3"].into_iter().enumerate() {
        let share = golden["similarity"]["explained_variance"][component].as_f64().unwrap();
        assert_near(numbers(&found, &format!("explained_variance_{}", component + 1))[0], share, 1e-10);
        let expected = [expected("pca_x"), expected("pca_y")].concat();
        assert_eq!(numbers(&found, column).len(), expected.len());
        for (found, expected) in numbers(&found, column).iter().zip(expected) {
            assert_near(*found, expected[component], 1e-9);
        }
    }
}

/// Names of groups.
fn names(groups: usize) -> Value {
    (0..groups).map(|i| json!({ "model": "m", "dataset": format!("d{i}") })).collect()
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

/// The summary of these groups' loss vectors, with more parameters.
fn summary(groups: &[Part], more: Value) -> arrow::array::RecordBatch {
    let roles: Vec<String> = (0..groups.len()).map(|i| format!("group/{i}")).collect();
    let inputs: Vec<(&str, &[Part])> =
        roles.iter().zip(groups).map(|(role, part)| (role.as_str(), std::slice::from_ref(part))).collect();
    let mut params = json!({ "of": "loss", "groups": names(groups.len()), "permutations": 300, "seed": 1, "least": 1 });
    for (key, value) in more.as_object().unwrap() {
        params[key] = value.clone();
    }
    run(&crate::comparison::similarity_summary::STAGE, params, &inputs).unwrap()
}

/// The rows of two groups, raw and then centred.
fn rows_of(batch: &arrow::array::RecordBatch, a: usize, b: usize) -> Vec<usize> {
    let (of_a, of_b) = (texts(batch, "dataset_a"), texts(batch, "dataset_b"));
    (0..batch.num_rows()).filter(|&row| of_a[row] == format!("d{a}") && of_b[row] == format!("d{b}")).collect()
}

#[test]
fn the_tests_are_of_the_groups_they_name() {
    let tables = TestTables::new();
    // Two groups of one distribution, and a third that lies elsewhere.
    let apart = [
        losses(&tables, "a", 20, [2.0, 0.0, 0.0], 0),
        losses(&tables, "b", 15, [2.0, 0.0, 0.0], 1),
        losses(&tables, "c", 15, [0.0, 2.0, 0.0], 2),
    ];
    let found = summary(&apart, json!({}));
    let of = |name: &str, row: usize| numbers(&found, name)[row];
    assert_eq!(texts(&found, "position")[0], "null");
    for row in rows_of(&found, 0, 1) {
        assert!(of("p_value", row) > 0.05, "the third group is no evidence on the first two: {}", of("p_value", row));
    }
    for pair in [(0, 2), (1, 2)] {
        for row in rows_of(&found, pair.0, pair.1) {
            assert_eq!((of("p_value", row), of("p_holm", row)), (1.0 / 301.0, 3.0 / 301.0));
            assert!(of("effect_size", row) < -3.0 && of("p_max", row).is_nan());
        }
    }
    for row in rows_of(&found, 0, 0) {
        assert!(of("p_value", row).is_nan() && of("null_mean", row).is_nan() && of("mean", row) > 0.5);
    }
    let raw = rows_of(&found, 0, 2)[0];
    assert!(of("ci_low", raw) < of("mean", raw) && of("mean", raw) < of("ci_high", raw));
    assert!(of("ci_low", rows_of(&found, 0, 2)[1]).is_nan(), "a centred mean has no interval");
    assert_eq!((of("within_a", raw), of("within_b", raw)), (of("mean", 0), of("mean", rows_of(&found, 2, 2)[0])));
}

#[test]
fn a_group_that_is_more_alike_is_found() {
    let tables = TestTables::new();
    let groups = [losses(&tables, "a", 30, [3.0, 3.0, 3.0], 0), losses(&tables, "b", 30, [0.5, 0.5, 0.5], 1)];
    let found = summary(&groups, json!({}));
    let row = rows_of(&found, 0, 1)[0];
    assert_eq!(numbers(&found, "within_p_value")[row], 1.0 / 301.0);
    assert!(numbers(&found, "within_a")[row] > numbers(&found, "within_b")[row] + 0.1);
}

#[test]
fn one_example_has_no_pair_and_a_group_alone_no_test() {
    let tables = TestTables::new();
    let alone = summary(&[losses(&tables, "a", 1, [1.0, 0.0, 0.0], 0)], json!({}));
    assert_eq!(numbers(&alone, "n_pairs"), [0.0, 0.0]);
    assert!(numbers(&alone, "mean")[0].is_nan() && numbers(&alone, "p_value")[0].is_nan());
}

/// Rows of two groups with identities of their own, or of one dataset under two models.
fn group_of(tables: &TestTables, names: impl Iterator<Item = String>, rows: &[Vec<f32>]) -> Part {
    let width = rows[0].len();
    tables.part(vec![("example", text(names)), ("vector", crate::table::vector_array(rows.concat(), width).unwrap())])
}

/// The share of p-values of at most 0.05, of raw and centred rows of two groups.
fn rejections(simulations: u64, column: &str, more: Value, groups: impl Fn(&TestTables, u64) -> [Part; 2]) -> [f64; 2] {
    let mut rejected = [0; 2];
    for seed in 0..simulations {
        let tables = TestTables::new();
        let mut params = json!({ "permutations": 199, "seed": seed });
        more.as_object().unwrap().iter().for_each(|(key, value)| params[key] = value.clone());
        let found = summary(&groups(&tables, seed), params);
        for (rejected, row) in rejected.iter_mut().zip(rows_of(&found, 0, 1)) {
            *rejected += usize::from(numbers(&found, column)[row] <= 0.05);
        }
    }
    rejected.map(|rejected| rejected as f64 / simulations as f64)
}

/// Positive losses of one distribution; those of the second group end early.
fn short_answers(tables: &TestTables, seed: u64) -> [Part; 2] {
    let mut random = crate::statistics::random::Random::new(seed, 9);
    [false, true].map(|short| {
        let rows: Vec<Vec<f32>> = (0..20)
            .map(|_| {
                let length = if short { 8 + random.below(6) } else { 32 };
                let loss = |place: usize, x: f64| if place < length { x.exp() as f32 } else { f32::NAN };
                (0..32).map(|place| loss(place, random.normal())).collect()
            })
            .collect();
        group_of(tables, (0..20).map(|i| format!("{short}{i}")), &rows)
    })
}

#[test]
fn short_answers_alone_are_no_difference() {
    for column in ["p_value", "within_p_value"] {
        let common = rejections(200, column, json!({ "least": 8 }), short_answers);
        assert!(common.iter().all(|share| *share <= 0.09), "{column}: {common:?}");
    }
    // The paper's fill finds a difference that is none.
    let group = rejections(40, "p_value", json!({ "least": 8, "fill": "group" }), short_answers);
    assert!(group.iter().all(|share| *share > 0.5), "{group:?}");
    let tables = TestTables::new();
    let found = summary(&short_answers(&tables, 0), json!({ "least": 9 }));
    let row = rows_of(&found, 0, 1)[0];
    let number = |name: &str| numbers(&found, name)[row];
    assert!(number("missing") > 0.3 && number("left_out") > 0.0 && number("n_a") == 20.0 && number("n_b") < 20.0);
    assert_eq!(number("width"), 9.0);
}

/// One dataset under two models: an example's vectors share most of what they are.
fn under_two_models(tables: &TestTables, seed: u64) -> [Part; 2] {
    let mut random = crate::statistics::random::Random::new(seed, 7);
    let normal = |random: &mut crate::statistics::random::Random| (0..6).map(|_| random.normal()).collect::<Vec<f64>>();
    let own: Vec<Vec<f64>> = (0..20).map(|_| normal(&mut random)).collect();
    [0, 1].map(|_| {
        let mut row = |own: &Vec<f64>| own.iter().map(|x| (0.5 + x + 0.3 * random.normal()) as f32).collect();
        let rows: Vec<Vec<f32>> = own.iter().map(&mut row).collect();
        group_of(tables, (0..20).map(|i| i.to_string()), &rows)
    })
}

#[test]
fn one_dataset_under_two_equal_models_is_no_difference() {
    for column in ["p_value", "within_p_value"] {
        let found = rejections(200, column, json!({}), under_two_models);
        assert!(found.iter().all(|share| (0.01..=0.09).contains(share)), "{column}: {found:?}");
    }
    let tables = TestTables::new();
    let groups = under_two_models(&tables, 0);
    let (left, kept) = (summary(&groups, json!({})), summary(&groups, json!({ "same_example": "keep" })));
    let row = rows_of(&left, 0, 1)[0];
    let number = |batch, name: &str| numbers(batch, name)[row];
    assert_eq!((number(&left, "n_same"), number(&left, "n_pairs"), number(&kept, "n_pairs")), (20.0, 380.0, 400.0));
    assert!(number(&kept, "mean") > number(&left, "mean") + 0.02);
    let inputs: [(&str, &[Part]); 2] = [("group/0", &groups[..1]), ("group/1", &groups[1..])];
    let pairs = run(&crate::comparison::similarity::STAGE, json!({ "of": "loss", "a": 0, "b": 1 }), &inputs).unwrap();
    let same: &BooleanArray = crate::table::values(&pairs, "same_example").unwrap();
    assert_eq!(same.true_count(), 2 * 20);
}

#[test]
fn a_pair_is_centred_on_its_own_mean() {
    let tables = TestTables::new();
    let groups = [
        losses(&tables, "a", 12, [2.0, 0.0, 0.0], 0),
        losses(&tables, "b", 12, [0.0, 2.0, 0.0], 1),
        losses(&tables, "c", 12, [0.0, 0.0, 9.0], 2),
    ];
    let (three, two) = (summary(&groups, json!({ "centring": "pair" })), summary(&groups[..2], json!({})));
    let centred = |batch: &arrow::array::RecordBatch| numbers(batch, "mean")[rows_of(batch, 0, 1)[1]];
    assert_near(centred(&three), centred(&two), 1e-12);
    assert_eq!((rows_of(&three, 0, 0).len(), rows_of(&two, 0, 0).len()), (1, 2));
    assert_eq!(rows_of(&summary(&groups, json!({ "centring": "none" })), 0, 1).len(), 1);
}

#[test]
fn layers_are_corrected_together() {
    let tables = TestTables::new();
    let names: Vec<String> = (0..24).map(|i| i.to_string()).collect();
    let part = |first: usize| {
        let names: Vec<&str> = names[first..first + 12].iter().map(String::as_str).collect();
        tables.hidden_states(&names, &["last"], 3, false, |_, site, i| {
            let mut random = crate::statistics::random::Random::new(i as u64, (first + 100 * site.layer) as u64);
            let shift = if site.layer == 2 && first > 0 { 2.0 } else { 0.0 };
            (0..5).map(|axis| (random.normal() + if axis == 0 { shift } else { 0.0 }) as f32).collect()
        })
    };
    let groups = [part(0), part(12)];
    let inputs: [(&str, &[Part]); 2] = [("group/0", &groups[..1]), ("group/1", &groups[1..])];
    let params = json!({
        "of": "hidden_state", "positions": ["last"], "layers": [0, 1, 2, 3], "centring": "none", "groups": self::names(2),
        "permutations": 999, "seed": 0,
    });
    let found = run(&crate::comparison::similarity_summary::STAGE, params, &inputs).unwrap();
    for row in rows_of(&found, 0, 1) {
        let (p, p_max) = (numbers(&found, "p_value")[row], numbers(&found, "p_max")[row]);
        assert!(p <= p_max && p_max <= 4.0 * p + 0.05, "{p} {p_max}");
    }
    let moved = rows_of(&found, 0, 1)[2];
    assert!(numbers(&found, "p_max")[moved] < 0.05);
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
