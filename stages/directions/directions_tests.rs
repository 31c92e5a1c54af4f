use super::*;
use crate::contract::pair::Pair;
use crate::contract::pipeline::{Dataset, DatasetSource, Model, ModelSource};
use crate::contract::site::Site;
use crate::table::vectors;
use crate::testing::tables::{TestTables, assert_near, golden, numbers, run, texts};

const EXAMPLES: [&str; 4] = ["a", "b", "c", "d"];

fn params() -> Value {
    json!({ "positions": ["last"], "kinds": ["mean_difference", "svd"], "components": 8 })
}

#[test]
fn agrees_with_numpy() {
    let tables = TestTables::new();
    let golden = golden();
    for dataset in ["x", "y"] {
        let source = tables.golden_states(&golden, "base", dataset);
        let target = tables.golden_states(&golden, "instruct", dataset);
        let found =
            run(&crate::directions::directions::STAGE, params(), &[("source", &[source]), ("target", &[target])])
                .unwrap();
        let expected = golden["directions"][dataset].as_array().unwrap();
        assert_eq!(found.num_rows(), expected.len());
        let (vectors, width) = vectors(&found, "vector").unwrap();
        for (row, expected) in expected.iter().enumerate() {
            assert_eq!(texts(&found, "kind")[row], expected["kind"].as_str().unwrap());
            for (value, expected) in vectors[row * width..][..width].iter().zip(expected["vector"].as_array().unwrap())
            {
                assert_near(f64::from(*value), expected.as_f64().unwrap(), 1e-6);
            }
            for name in ["layer", "component", "singular_value", "explained_variance", "norm"] {
                match (numbers(&found, name)[row], expected[name].as_f64()) {
                    (value, None) => assert!(value.is_nan(), "{name}"),
                    (value, Some(expected)) => assert_near(value, expected, 1e-10),
                }
            }
        }
    }
}

#[test]
fn the_target_is_joined_by_example_across_parts() {
    let tables = TestTables::new();
    let value = |_: &str, _: Site, i: usize| vec![[1.0, 5.0, 2.0][i], 0.0];
    let source = tables.hidden_states(&["a", "b", "c"], &["last"], 0, false, |_, _, _| vec![0.0, 0.0]);
    let ordered = tables.hidden_states(&["a", "b", "c"], &["last"], 0, false, value);
    let parts = [
        tables.hidden_states(&["c", "a"], &["last"], 0, false, |p, s, i| value(p, s, [2, 0][i])),
        tables.hidden_states(&["b"], &["last"], 0, false, |p, s, _| value(p, s, 1)),
    ];
    let first = run(
        &crate::directions::directions::STAGE,
        params(),
        &[("source", std::slice::from_ref(&source)), ("target", &[ordered])],
    )
    .unwrap();
    let second =
        run(&crate::directions::directions::STAGE, params(), &[("source", &[source]), ("target", &parts)]).unwrap();
    assert_eq!(first, second);
}

#[test]
fn the_sign_of_a_singular_vector() {
    let mut vector = [0.6, -0.8];
    orient(&mut vector, &[0.8, 0.6]);
    assert_eq!(vector, [-0.6, 0.8], "orthogonal to the mean: the largest entry decides");
    orient(&mut vector, &[1.0, 0.0]);
    assert_eq!(vector, [0.6, -0.8], "the mean decides");
    orient(&mut vector, &[0.0, 0.0]);
    assert_eq!(vector, [-0.6, 0.8], "no mean");
}

const SOURCE: [[f32; 3]; 4] = [[0.5, -1.0, 2.0], [1.5, 0.25, -0.75], [-0.5, 1.0, 0.5], [2.0, -0.25, 1.25]];

#[test]
fn models_that_do_not_differ_have_no_direction() {
    let tables = TestTables::new();
    let same = |_: &str, site: Site, i: usize| SOURCE[i].map(|value| value * site.layer as f32).to_vec();
    let source = tables.hidden_states(&EXAMPLES, &["last"], 1, false, same);
    let shifted = tables.hidden_states(&EXAMPLES, &["last"], 1, false, |p, site, i| {
        same(p, site, i).iter().map(|value| value + site.layer as f32).collect()
    });
    // Layer 0 is equal; at layer 1 every difference is the same, so there is a mean and no singular vector.
    let found = run(
        &crate::directions::directions::STAGE,
        params(),
        &[("source", std::slice::from_ref(&source)), ("target", &[shifted])],
    )
    .unwrap();
    assert_eq!(texts(&found, "kind"), ["mean_difference"]);
    assert_eq!(numbers(&found, "layer"), [1.0]);
    assert_near(numbers(&found, "norm")[0], 3f64.sqrt(), 1e-6);
    let none = run(
        &crate::directions::directions::STAGE,
        params(),
        &[("source", std::slice::from_ref(&source)), ("target", std::slice::from_ref(&source))],
    )
    .unwrap();
    assert_eq!((none.num_rows(), vectors(&none, "vector").unwrap().1), (0, 3));
}

#[test]
fn a_single_example_has_a_mean_difference_alone() {
    let tables = TestTables::new();
    let one = |values: [f32; 3]| tables.hidden_states(&["a"], &["last"], 0, false, move |_, _, _| values.to_vec());
    let found = run(
        &crate::directions::directions::STAGE,
        params(),
        &[("source", &[one(SOURCE[0])]), ("target", &[one(SOURCE[1])])],
    )
    .unwrap();
    assert_eq!((texts(&found, "kind"), numbers(&found, "n")), (vec!["mean_difference".to_string()], vec![1.0]));
}

#[test]
fn what_cannot_be_paired_is_an_error() {
    let tables = TestTables::new();
    let states = |names: &[&str]| tables.hidden_states(names, &["last"], 1, false, |_, _, i| vec![i as f32]);
    let error = |source: &[&str], target: &[&str]| {
        let inputs: [(&str, &[_]); 2] = [("source", &[states(source)]), ("target", &[states(target)])];
        format!("{:#}", run(&crate::directions::directions::STAGE, params(), &inputs).unwrap_err())
    };
    assert!(error(&["a", "b"], &["a"]).contains("example b has states in the first model only"));
    assert!(error(&["a"], &["a", "x"]).contains("example x has states in the second model only"));
}

pub fn pipeline(models: &[&str], datasets: &[&str]) -> Pipeline {
    let model = |name: &&str| Model {
        name: name.to_string(),
        source: ModelSource::Directory(name.into()),
        tokenizer: None,
        chat_template: None,
        precision: Default::default(),
    };
    let dataset = |name: &&str| Dataset {
        name: name.to_string(),
        source: DatasetSource::Corpus(name.to_string()),
        reading: Value::Null,
    };
    Pipeline {
        models: models.iter().map(model).collect(),
        datasets: datasets.iter().map(dataset).collect(),
        ..Pipeline::default()
    }
}

#[test]
fn the_plan_names_models_in_bindings_alone() {
    let pipeline = pipeline(&["base", "instruct", "bad"], &["d", "e"]);
    let nodes = (STAGE.plan)(&json!({}), &pipeline).unwrap();
    assert_eq!(nodes.len(), 2);
    assert_eq!(nodes[1].bindings, bindings("e", &Pair { source: "base".into(), target: "instruct".into() }));
    assert_eq!(
        nodes[1].inputs[1].source,
        state_inputs("e", &Pair { source: "x".into(), target: "instruct".into() })[1].source
    );
    assert!(!nodes[0].params.to_string().contains("base"));
    assert!((STAGE.plan)(&json!({}), &self::pipeline(&["one"], &["d"])).unwrap().is_empty());
}

#[test]
fn mistakes_point_at_their_key() {
    let pipeline = pipeline(&["base", "instruct"], &["d"]);
    let error = |settings: Value| (STAGE.plan)(&settings, &pipeline).unwrap_err();
    let slip = error(json!({ "pairs": [{ "source": "base", "target": "instrct" }] }));
    assert_eq!(slip.at, "stages.directions.pairs[0].target");
    assert_eq!(slip.help.unwrap(), "did you mean \"instruct\"?");
    assert_eq!(error(json!({ "components": 0 })).at, "stages.directions.components");
    assert_eq!(error(json!({ "kinds": ["sdv"] })).at, "stages.directions.kinds[0]");
    assert_eq!(error(json!({ "datasets": ["x"] })).at, "stages.directions.datasets[0]");
    assert!(error(json!({ "component": 3 })).message.contains("component"));
    assert_eq!(error(json!({ "pairs": [{ "source": "base", "target": "base" }] })).at, "stages.directions.pairs[0]");
}

#[test]
fn a_contrast_is_the_difference_of_two_datasets_means() {
    let tables = TestTables::new();
    let states = |names: &[&str], at: usize| {
        tables.hidden_states(names, &["last"], 0, false, move |_, _, i| SOURCE[at + i].to_vec())
    };
    let inputs = [("source", [states(&["a"], 0)]), ("target", [states(&["b", "c", "d"], 1)])];
    let inputs: Vec<(&str, &[_])> = inputs.iter().map(|(role, parts)| (*role, parts.as_slice())).collect();
    let params = json!({ "positions": ["last"], "kinds": ["mean_difference"], "components": 1, "unpaired": true });
    let found = run(&crate::directions::directions::STAGE, params, &inputs).unwrap();
    // (1.5 - 0.5 + 2) / 3 - 0.5, (0.25 + 1 - 0.25) / 3 + 1, (-0.75 + 0.5 + 1.25) / 3 - 2
    let difference = [0.5, 4.0 / 3.0, -5.0 / 3.0];
    let length = difference.iter().map(|value: &f64| value * value).sum::<f64>().sqrt();
    let (vector, width) = vectors(&found, "vector").unwrap();
    assert_eq!((vector.len(), width, numbers(&found, "n")), (3, 3, vec![4.0]));
    assert_near(numbers(&found, "norm")[0], length, 1e-12);
    vector.iter().zip(difference).for_each(|(found, value)| assert_near(f64::from(*found), value / length, 1e-7));
}

#[test]
fn contrasts_are_named_and_projected_on() {
    let mut pipeline = pipeline(&["base", "instruct"], &["asked", "answered", "code"]);
    let contrast = json!({ "model": "instruct", "source": "asked", "target": "answered" });
    let plan = |contrasts: Value, pipeline: &mut Pipeline| {
        let settings = json!({ "contrasts": contrasts });
        pipeline.sections = vec![("directions".into(), settings.clone())];
        (STAGE.plan)(&settings, pipeline)
    };
    let nodes = plan(json!([contrast]), &mut pipeline).unwrap();
    let last = nodes.last().unwrap();
    let names: Vec<&str> = last.bindings.iter().map(|(_, name)| name.as_str()).collect();
    assert_eq!((nodes.len(), names), (4, vec!["answered-minus-asked", "instruct", "instruct"]));
    let projected =
        crate::directions::projected::projected(&pipeline.section("projections").unwrap(), &pipeline).unwrap();
    let on: Vec<&str> = projected
        .iter()
        .filter(|projected| projected.direction == "answered-minus-asked")
        .map(|projected| projected.dataset.as_str())
        .collect();
    assert_eq!(on, ["asked", "answered"]);
    let mut complaint = |contrasts: Value| plan(contrasts, &mut pipeline).unwrap_err().to_string();
    assert!(complaint(json!([contrast, contrast])).contains("there twice"));
    let same = json!([{ "model": "base", "source": "code", "target": "code" }]);
    assert!(complaint(same).contains("both source and target"));
    let unknown = json!([{ "model": "base", "source": "code", "target": "ansered" }]);
    assert!(complaint(unknown).contains("ansered"));
}

#[test]
fn a_fold_names_its_directions_after_those_of_all_examples() {
    use crate::directions::fold::fold;
    let tables = TestTables::new();
    let names: Vec<String> = (0..40).map(|i| format!("{i:016x}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    // Differences along the first axis are large in fold 1 alone: without it, they are the smaller ones.
    let zero = tables.hidden_states(&names, &["last"], 0, false, |_, _, _| vec![0.0; 3]);
    let target = tables.hidden_states(&names, &["last"], 0, false, |_, _, i| {
        let sign = if i / 2 % 2 == 0 { 1.0 } else { -1.0 };
        let first = if fold(names[i], 4) == 1 { 4.0 } else { 1.0 };
        let other = if i % 2 == 0 { 1.5 } else { -1.5 };
        vec![first * sign + 0.1, other - 0.1, 0.0]
    });
    let mut params = params();
    params["folds"] = json!(4);
    let found = run(&STAGE, params, &[("source", &[zero]), ("target", &[target])]).unwrap();
    let (vectors, width) = vectors(&found, "vector").unwrap();
    let rows: Vec<usize> = (0..found.num_rows()).filter(|&row| texts(&found, "kind")[row] == "svd").collect();
    let of = |name: &str, row: usize| numbers(&found, name)[row];
    assert_eq!(rows.len(), 2 * 5);
    for &row in &rows {
        let axis = of("component", row) as usize - 1;
        assert!(vectors[row * width + axis].abs() > 0.9, "component {} of fold {}", axis + 1, of("fold", row));
        assert!(of("agreement", row) > 0.9 && of("mean_along", row) >= 0.0);
    }
    let singular = |fold: f64| -> Vec<f64> {
        let here = rows.iter().filter(|&&row| of("fold", row) == fold);
        here.map(|&row| of("singular_value", row)).collect()
    };
    assert!(singular(0.0)[0] > singular(0.0)[1]);
    assert!(singular(1.0)[0] < singular(1.0)[1], "the first of all examples is the second here");
}

#[test]
fn a_fold_without_examples_outside_has_no_direction() {
    let tables = TestTables::new();
    let one = |value: f32| tables.hidden_states(&["a"], &["last"], 0, false, move |_, _, _| vec![value, 1.0]);
    let mut params = params();
    params["folds"] = json!(3);
    let found = run(&STAGE, params, &[("source", &[one(0.0)]), ("target", &[one(1.0)])]).unwrap();
    assert_eq!(numbers(&found, "fold").len(), 3, "fold 0 and the two that the example is not in");
    assert!(!numbers(&found, "fold").contains(&f64::from(crate::directions::fold::fold("a", 3))));
}
