use super::*;
use crate::contract::node::Part;
use crate::directions::directions::tests::pipeline;
use crate::testing::tables::{TestTables, assert_near, golden, numbers, run, texts};

/// The directions of dataset x, and the projections of x under the three models on them.
fn projections(tables: &TestTables, golden: &Value) -> Vec<(&'static str, Part)> {
    let states = |model: &str| tables.golden_states(golden, model, "x");
    let params = json!({ "positions": ["last"], "kinds": ["mean_difference", "svd"], "components": 3 });
    let found = run(
        &crate::directions::directions::STAGE,
        params,
        &[("source", &[states("base")]), ("target", &[states("instruct")])],
    )
    .unwrap();
    let directions = tables.write(&found);
    ["base", "instruct", "misaligned"]
        .map(|model| {
            let inputs: [(&str, &[Part]); 2] =
                [("direction", std::slice::from_ref(&directions)), ("states", &[states(model)])];
            (
                model,
                tables
                    .write(&run(&crate::directions::projections::STAGE, json!({ "components": 1 }), &inputs).unwrap()),
            )
        })
        .to_vec()
}

#[test]
fn projections_and_their_summaries_agree_with_numpy() {
    let (tables, golden) = (TestTables::new(), golden());
    for (model, part) in projections(&tables, &golden) {
        let found = crate::table::read(std::slice::from_ref(&part), &[]).unwrap();
        let params = json!({ "resamples": 200, "seed": 0 });
        let summary = run(&crate::directions::projection_summary::STAGE, params, &[("projections", &[part])]).unwrap();
        assert_eq!((found.num_rows(), summary.num_rows()), (2 * 3 * 7, 2 * 3));
        let expected: Vec<&Value> =
            golden["projections"].as_array().unwrap().iter().filter(|row| row["model"] == model).collect();
        for expected in expected {
            let (kind, layer) = (expected["kind"].as_str().unwrap(), expected["layer"].as_f64().unwrap());
            let rows = |batch| {
                let (kinds, layers) = (texts(batch, "kind"), numbers(batch, "layer"));
                (0..batch.num_rows()).filter(move |&row| kinds[row] == kind && layers[row] == layer).collect::<Vec<_>>()
            };
            let values = numbers(&found, "projection");
            for (row, value) in rows(&found).into_iter().zip(expected["values"].as_array().unwrap()) {
                assert_near(values[row], value.as_f64().unwrap(), 1e-6);
            }
            let row = rows(&summary)[0];
            let of = |name: &str| numbers(&summary, name)[row];
            assert_near(of("mean"), expected["mean"].as_f64().unwrap(), 1e-6);
            assert_near(of("std"), expected["std"].as_f64().unwrap(), 1e-6);
            assert_eq!(of("n"), 7.0);
            assert!(of("ci_low") < of("mean") && of("mean") < of("ci_high"));
        }
    }
}

fn separation(a: &Part, b: &Part) -> arrow::array::RecordBatch {
    let params = json!({ "permutations": 500, "seed": 0 });
    run(
        &crate::directions::separation::STAGE,
        params,
        &[("a", std::slice::from_ref(a)), ("b", std::slice::from_ref(b))],
    )
    .unwrap()
}

#[test]
fn separation_agrees_with_numpy_and_is_antisymmetric() {
    let (tables, golden) = (TestTables::new(), golden());
    let parts = projections(&tables, &golden);
    let (instruct, misaligned) = (&parts[1].1, &parts[2].1);
    let found = separation(instruct, misaligned);
    let (kinds, layers, scores) = (texts(&found, "kind"), numbers(&found, "layer"), numbers(&found, "score"));
    let expected = golden["separation"].as_array().unwrap();
    assert_eq!(found.num_rows(), expected.len());
    for expected in expected {
        let row = (0..kinds.len()).find(|&row| kinds[row] == expected["kind"] && layers[row] == expected["layer"]);
        assert_near(scores[row.unwrap()], expected["score"].as_f64().unwrap(), 1e-6);
    }
    let back = numbers(&separation(misaligned, instruct), "score");
    scores.iter().zip(back).for_each(|(there, back)| assert_near(*there, -back, 1e-12));
    for (low, high) in numbers(&found, "ci_low").iter().zip(numbers(&found, "ci_high")) {
        assert!(*low < high);
    }
    for (raw, holm) in numbers(&found, "p_value").iter().zip(numbers(&found, "p_holm")) {
        assert!(*raw <= holm && holm <= 1.0 && *raw >= 1.0 / 501.0);
    }
}

#[test]
fn a_model_beside_itself_is_not_separated() {
    let (tables, golden) = (TestTables::new(), golden());
    let part = &projections(&tables, &golden)[0].1;
    let found = separation(part, part);
    assert!(numbers(&found, "score").iter().chain(&numbers(&found, "difference")).all(|value| *value == 0.0));
    assert!(numbers(&found, "p_max").iter().all(|p| p.is_nan()), "there is nothing to test");
}

#[test]
fn a_single_example_has_no_spread_and_no_score() {
    let tables = TestTables::new();
    let state = |value: f32| tables.hidden_states(&["a"], &["last"], 0, false, move |_, _, _| vec![value, 1.0]);
    let params = json!({ "positions": ["last"], "kinds": ["mean_difference", "svd"], "components": 3 });
    let (source, target) = (state(1.0), state(3.0));
    let found = run(
        &crate::directions::directions::STAGE,
        params,
        &[("source", std::slice::from_ref(&source)), ("target", std::slice::from_ref(&target))],
    )
    .unwrap();
    let directions = tables.write(&found);
    let part = |states: Part| {
        let inputs: [(&str, &[Part]); 2] = [("direction", std::slice::from_ref(&directions)), ("states", &[states])];
        tables.write(&run(&crate::directions::projections::STAGE, json!({ "components": 1 }), &inputs).unwrap())
    };
    let (a, b) = (part(source), part(target));
    let summary =
        run(&crate::directions::projection_summary::STAGE, json!({}), &[("projections", std::slice::from_ref(&b))])
            .unwrap();
    let of = |name: &str| numbers(&summary, name)[0];
    assert_eq!((of("n"), of("mean"), of("std"), of("ci_low"), of("ci_high")), (1.0, 3.0, 0.0, 3.0, 3.0));
    let found = separation(&a, &b);
    assert!(numbers(&found, "score")[0].is_nan() && numbers(&found, "ci_low")[0].is_nan());
    assert_eq!(numbers(&found, "difference")[0], 2.0);
    assert!(numbers(&found, "p_value")[0].is_nan() && numbers(&found, "difference_low")[0].is_nan());
}

#[test]
fn positions_may_have_different_examples() {
    let tables = TestTables::new();
    let at = |names: &[&str], position: &str, shift: f32| {
        tables.hidden_states(names, &[position], 0, false, move |_, _, i| vec![i as f32 * i as f32 * shift, shift])
    };
    let states = |shift| [at(&["a", "b", "c"], "last", shift), at(&["a", "b"], "token:9", shift)];
    let params = json!({ "positions": ["last", "token:9"], "kinds": ["mean_difference"], "components": 3 });
    let (source, target) = (states(1.0), states(2.0));
    let directions = tables.write(
        &run(&crate::directions::directions::STAGE, params, &[("source", &source), ("target", &target)]).unwrap(),
    );
    let part = |states: &[Part]| {
        let inputs: [(&str, &[Part]); 2] = [("direction", std::slice::from_ref(&directions)), ("states", states)];
        tables.write(&run(&crate::directions::projections::STAGE, json!({ "components": 1 }), &inputs).unwrap())
    };
    let (a, b) = (part(&source), part(&target));
    let summary =
        run(&crate::directions::projection_summary::STAGE, json!({}), &[("projections", std::slice::from_ref(&a))])
            .unwrap();
    assert_eq!(numbers(&summary, "n"), [3.0, 2.0]);
    assert_eq!(numbers(&separation(&a, &b), "n"), [3.0, 2.0]);
}

#[test]
fn plans_follow_the_directions() {
    let mut pipeline = pipeline(&["base", "instruct", "bad"], &["d", "e"]);
    let count = |settings: Value, pipeline: &Pipeline| {
        (crate::directions::projections::STAGE.plan)(&settings, pipeline).map(|nodes| nodes.len())
    };
    assert_eq!(count(json!({}), &pipeline).unwrap(), 6, "each dataset on its own direction under three models");
    assert_eq!(count(json!({ "directions": "*" }), &pipeline).unwrap(), 12);
    pipeline.sections.push(("directions".into(), json!({ "datasets": ["d"] })));
    assert_eq!(count(json!({}), &pipeline).unwrap(), 3);
    assert_eq!(count(json!({ "directions": ["d"], "models": ["bad"] }), &pipeline).unwrap(), 2);
    let error = count(json!({ "directions": ["d", "e"] }), &pipeline).unwrap_err();
    assert_eq!(
        (error.at.to_string().as_str(), error.message.as_str()),
        ("stages.projections.directions[1]", "dataset \"e\" has no directions")
    );
    let error = count(json!({ "pairs": [{ "source": "base", "target": "bad" }] }), &pipeline).unwrap_err();
    assert_eq!(error.at, "stages.projections.pairs[0]");
    assert_eq!((crate::directions::projection_summary::STAGE.plan)(&json!({}), &pipeline).unwrap().len(), 3);
    let nodes = (crate::directions::separation::STAGE.plan)(&json!({}), &pipeline).unwrap();
    assert_eq!(nodes.len(), 3);
    assert_eq!(nodes[1].bindings[4..], [("model_a", "base".to_string()), ("model_b", "bad".to_string())]);
}
