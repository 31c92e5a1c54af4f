use super::*;
use crate::contract::node::Part;
use crate::directions::directions::tests::pipeline;
use crate::testing::tables::{TestTables, assert_near, golden, numbers, run, texts};

/// Directions and null directions of paired states.
fn both(tables: &TestTables, source: &Part, target: &Part, draws: u32) -> [Part; 2] {
    let inputs: [(&str, &[Part]); 2] =
        [("source", std::slice::from_ref(source)), ("target", std::slice::from_ref(target))];
    let mut params = json!({ "positions": ["last"], "kinds": ["mean_difference", "svd"], "components": 8 });
    let directions = tables.write(&run(&crate::directions::directions::STAGE, params.clone(), &inputs).unwrap());
    params["draws"] = json!(draws);
    params["shuffles"] = json!(draws);
    params["seed"] = json!(0);
    [directions, tables.write(&run(&crate::directions::null_directions::STAGE, params, &inputs).unwrap())]
}

fn compare_tables(stage: &Stage, params: Value, a: &[Part; 2], b: &[Part; 2]) -> arrow::array::RecordBatch {
    let one = std::slice::from_ref;
    run(stage, params, &[("a", one(&a[0])), ("null_a", one(&a[1])), ("b", one(&b[0])), ("null_b", one(&b[1]))]).unwrap()
}

fn golden_tables(tables: &TestTables) -> ([Part; 2], [Part; 2], Value) {
    let golden = golden();
    let of = |dataset: &str| {
        let states = |model: &str| tables.golden_states(&golden, model, dataset);
        both(tables, &states("base"), &states("instruct"), 5)
    };
    (of("x"), of("y"), golden)
}

#[test]
fn cosines_and_principal_angles_agree_with_numpy() {
    let tables = TestTables::new();
    let (x, y, golden) = golden_tables(&tables);
    let check = |found: &arrow::array::RecordBatch, expected: &Value, names: &[&str]| {
        let expected = expected.as_array().unwrap();
        assert_eq!(found.num_rows(), expected.len());
        for (row, expected) in expected.iter().enumerate() {
            for name in names {
                assert_near(numbers(found, name)[row], expected[*name].as_f64().unwrap(), 1e-6);
            }
        }
    };
    let found = compare_tables(&crate::directions::direction_similarity::STAGE, json!({}), &x, &y);
    check(&found, &golden["direction_similarity"], &["layer", "component_a", "component_b", "cosine"]);
    assert_eq!(texts(&found, "kind")[0], "mean_difference");
    let angles = compare_tables(&crate::directions::subspace_similarity::STAGE, json!({ "k": [1, 3] }), &x, &y);
    check(&angles, &golden["subspace_similarity"], &["layer", "k", "angle_index", "cosine"]);
    for (name, batch) in [("null_cosine", &found), ("random_cosine", &found), ("null_cosine", &angles)] {
        let high = numbers(batch, &name.replace("cosine", "high"));
        for (mean, high) in numbers(batch, name).into_iter().zip(high) {
            assert!(0.0 < mean && mean <= high && high <= 1.0, "{name}: {mean} {high}");
        }
    }
}

#[test]
fn a_dataset_beside_itself_shares_every_direction() {
    let tables = TestTables::new();
    let (x, _, _) = golden_tables(&tables);
    let found = compare_tables(&crate::directions::direction_similarity::STAGE, json!({}), &x, &x);
    let (a, b) = (numbers(&found, "component_a"), numbers(&found, "component_b"));
    for (row, cosine) in numbers(&found, "cosine").into_iter().enumerate() {
        assert_near(cosine, f64::from(a[row] == b[row]), 1e-6);
    }
    let angles = compare_tables(&crate::directions::subspace_similarity::STAGE, json!({ "k": [3] }), &x, &x);
    numbers(&angles, "cosine").into_iter().for_each(|cosine| assert_near(cosine, 1.0, 1e-6));
}

/// Two datasets whose models differ along one shared axis, within text that varies along others: the real
/// cosine is far above the nulls. With the same direction everywhere in the covariance, it is not.
#[test]
fn the_nulls_tell_a_shared_direction_from_chance() {
    let tables = TestTables::new();
    let names: Vec<String> = (0..40).map(|i| format!("e{i}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let dataset = |stream: u64, shared: f64, isotropic: f64| {
        let mut random = crate::statistics::random::Random::new(1, stream);
        let (mut source, mut target) = (Vec::new(), Vec::new());
        for _ in &names {
            let text: Vec<f64> = (0..30).map(|_| 3.0 * random.normal()).collect();
            let mut moved: Vec<f64> = text.iter().map(|value| value + isotropic * random.normal()).collect();
            moved[0] += shared * random.normal();
            source.push(text);
            target.push(moved);
        }
        let write = |values: Vec<Vec<f64>>| {
            tables.hidden_states(&names, &["last"], 0, false, move |_, _, i| {
                values[i].iter().map(|&value| value as f32).collect()
            })
        };
        both(&tables, &write(source), &write(target), 20)
    };
    let first = |a: &[Part; 2], b: &[Part; 2], name: &str| {
        let found = compare_tables(&crate::directions::direction_similarity::STAGE, json!({}), a, b);
        let row = texts(&found, "kind").iter().position(|kind| kind == "svd").unwrap();
        numbers(&found, name)[row].abs()
    };
    let (a, b) = (dataset(0, 4.0, 0.3), dataset(1, 4.0, 0.3));
    assert!(first(&a, &b, "cosine") > 0.98);
    assert!(first(&a, &b, "null_high") < 0.7, "shuffled pairs bring back the variation of the text");
    assert!(first(&a, &b, "random_cosine") > 0.5, "one axis holds nearly all of the covariance");
    let (a, b) = (dataset(2, 0.0, 1.0), dataset(3, 0.0, 1.0));
    assert!(first(&a, &b, "cosine") < 0.7 && first(&a, &b, "random_cosine") < 0.3);
}

/// Two datasets that both move along a direction of their own, with noise around it: `common` is the cosine of the two.
fn shifted(tables: &TestTables, seed: u64, n: usize, width: usize, common: f64) -> [[Part; 2]; 2] {
    let mut random = crate::statistics::random::Random::new(seed, 3);
    let mut axis = || -> Vec<f64> {
        let mut axis: Vec<f64> = (0..width).map(|_| random.normal()).collect();
        crate::linear_algebra::scale_to_unit(&mut axis);
        axis
    };
    let (first, other) = (axis(), axis());
    let along = dot(&first, &other);
    let mut apart: Vec<f64> = other.iter().zip(&first).map(|(other, first)| other - along * first).collect();
    crate::linear_algebra::scale_to_unit(&mut apart);
    // Without anything in common the second direction is drawn like noise, and not held at a right angle.
    let second: Vec<f64> = match common == 0.0 {
        true => other,
        false => first.iter().zip(&apart).map(|(x, y)| common * x + (1.0 - common * common).sqrt() * y).collect(),
    };
    let names: Vec<String> = (0..n).map(|i| format!("e{i}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    [first, second].map(|shift| {
        let mut states = [Vec::new(), Vec::new()];
        for _ in 0..n {
            let text: Vec<f64> = (0..width).map(|_| random.normal()).collect();
            states[1]
                .push(text.iter().zip(&shift).map(|(x, s)| x + 5.0 * s + 0.5 * random.normal()).collect::<Vec<f64>>());
            states[0].push(text);
        }
        let [source, target] = states.map(|states| {
            tables.hidden_states(&names, &["last"], 0, false, |_, _, i| states[i].iter().map(|&x| x as f32).collect())
        });
        both(tables, &source, &target, 39)
    })
}

/// Exchanging source and target in random pairs would leave a part of each real shift in the null, so that a shared direction
/// would be expected: 0.8 of a cosine of 0.8.
#[test]
fn two_real_shifts_without_anything_in_common_are_not_shared() {
    let mut rejected = 0;
    for seed in 0..30 {
        let tables = TestTables::new();
        let [a, b] = shifted(&tables, seed, 24, 32, 0.0);
        let found = compare_tables(&STAGE, json!({}), &a, &b);
        assert_eq!(texts(&found, "kind")[0], "mean_difference");
        let of = |name: &str| numbers(&found, name)[0];
        assert!(of("null_high") < 0.55, "two directions of 32 dimensions: {}", of("null_high"));
        assert_eq!((of("p_value"), of("largest")), (of("p_largest"), of("cosine").abs()));
        rejected += usize::from(of("p_value") <= 0.05);
    }
    assert!(rejected <= 5, "{rejected} of 30");
    let tables = TestTables::new();
    let [a, b] = shifted(&tables, 1, 24, 32, 0.8);
    let found = compare_tables(&STAGE, json!({}), &a, &b);
    assert_eq!((numbers(&found, "p_value")[0], numbers(&found, "p_max")[0]), (1.0 / 40.0, 1.0 / 40.0));
    assert!(numbers(&found, "null_high")[0] < 0.55, "the shared direction is not in its own null");
}

/// The largest of many cosines is large without anything in common: its own null says so, and a cell's does not.
#[test]
fn the_largest_of_all_components_is_held_against_the_largest_of_the_null() {
    let (mut alone, mut rejected) = (0, 0);
    for seed in 0..30 {
        let tables = TestTables::new();
        let [a, b] = shifted(&tables, 100 + seed, 16, 32, 0.0);
        let found = compare_tables(&STAGE, json!({}), &a, &b);
        let svd: Vec<usize> = (0..found.num_rows()).filter(|&row| texts(&found, "kind")[row] == "svd").collect();
        assert_eq!(svd.len(), 64);
        let of = |name: &str, row: usize| numbers(&found, name)[row];
        let largest = svd.iter().map(|&row| of("cosine", row).abs()).fold(0.0, f64::max);
        assert_eq!(of("largest", svd[0]), largest);
        alone += usize::from(largest > of("null_high", svd[0]));
        rejected += usize::from(of("p_largest", svd[0]) <= 0.05);
    }
    assert!(alone >= 25 && rejected <= 5, "{alone} and {rejected} of 30");
}

#[test]
fn nulls_are_the_same_for_the_same_seed() {
    let tables = TestTables::new();
    let golden = golden();
    let states = |model: &str| tables.golden_states(&golden, model, "x");
    let draw = |seed: u64| {
        let params = json!({ "positions": ["last"], "kinds": ["mean_difference", "svd"], "components": 2, "draws": 3, "shuffles": 3, "seed": seed });
        run(
            &crate::directions::null_directions::STAGE,
            params,
            &[("source", &[states("base")]), ("target", &[states("instruct")])],
        )
        .unwrap()
    };
    assert_eq!(draw(1), draw(1));
    assert_ne!(draw(1), draw(2));
    assert_eq!(draw(1).num_rows(), 3 * 3 * (2 + 1));
}

#[test]
fn plans_pair_the_datasets_that_have_directions() {
    let mut pipeline = pipeline(&["base", "instruct"], &["d", "e", "f"]);
    assert_eq!((crate::directions::direction_similarity::STAGE.plan)(&json!({}), &pipeline).unwrap().len(), 3);
    pipeline.sections.push(("directions".into(), json!({ "datasets": ["d", "f"], "components": 2 })));
    let nodes = (crate::directions::subspace_similarity::STAGE.plan)(&json!({}), &pipeline).unwrap();
    assert_eq!((nodes.len(), &nodes[0].params), (1, &json!({ "k": [2] })));
    assert_eq!(nodes[0].bindings[2..], [("dataset_a", "d".to_string()), ("dataset_b", "f".to_string())]);
    assert_eq!((crate::directions::null_directions::STAGE.plan)(&json!({}), &pipeline).unwrap().len(), 2);
    let error = (crate::directions::subspace_similarity::STAGE.plan)(&json!({ "k": [1, 3] }), &pipeline).unwrap_err();
    assert_eq!(error.at, "stages.subspace_similarity.k[1]");
    let error = (crate::directions::direction_similarity::STAGE.plan)(&json!({ "datasets": ["d", "e"] }), &pipeline)
        .unwrap_err();
    assert!(error.message.contains("\"e\" has no directions"));
    assert_eq!(
        (crate::directions::null_directions::STAGE.plan)(&json!({ "draws": 1 }), &pipeline).unwrap_err().at,
        "stages.null_directions.draws"
    );
}
