use arrow::array::RecordBatch;

use super::*;
use crate::contract::node::Part;
use crate::directions::directions::tests::pipeline;
use crate::statistics::random::Random;
use crate::testing::tables::{TestTables, assert_near, numbers, run, texts};

/// States of one model on one dataset, [examples][width].
type Model = Vec<Vec<f64>>;

/// Draws of states around a text that all models share.
struct Drawn {
    random: Random,
    text: Model,
}

impl Drawn {
    fn new(seed: u64, n: usize, width: usize) -> Drawn {
        let mut random = Random::new(seed, 7);
        let text = (0..n).map(|_| (0..width).map(|_| random.normal()).collect()).collect();
        Drawn { random, text }
    }

    /// A model whose states lie `shift` further along the first axis.
    fn model(&mut self, shift: f64) -> Model {
        let state = |text: &Vec<f64>, random: &mut Random| -> Vec<f64> {
            let noise = text.iter().map(|value| value + 0.7 * random.normal());
            noise.enumerate().map(|(axis, value)| if axis == 0 { value + shift } else { value }).collect()
        };
        self.text.iter().map(|text| state(text, &mut self.random)).collect()
    }
}

fn name(i: usize) -> String {
    format!("{:016x}", i * 104_729)
}

fn part(tables: &TestTables, model: &Model) -> Part {
    let names: Vec<String> = (0..model.len()).map(name).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    tables.hidden_states(&names, &["last"], 0, false, |_, _, i| model[i].iter().map(|&value| value as f32).collect())
}

/// Directions from the first model to the second.
fn direction(tables: &TestTables, models: &[&Model; 2], folds: u32) -> Part {
    let [source, target] = models.map(|model| [part(tables, model)]);
    let params = json!({ "positions": ["last"], "kinds": ["mean_difference", "svd"], "components": 1, "folds": folds });
    let inputs: [(&str, &[Part]); 2] = [("source", &source), ("target", &target)];
    tables.write(&run(&crate::directions::directions::STAGE, params, &inputs).unwrap())
}

/// [`Projected::moved`](crate::directions::projected::Projected::moved) of models by their number: the direction leads from 0 to 1.
fn moved([a, b]: [usize; 2]) -> f64 {
    let whose = |model: usize| f64::from(u8::from(model == a)) - f64::from(u8::from(model == b));
    (whose(0) - whose(1)) / 2.0
}

/// The separation of two of three models along the directions from the first to the second.
fn separated(models: &[Model; 3], compared: [usize; 2], folds: u32, permutations: usize) -> RecordBatch {
    let tables = TestTables::new();
    let one = std::slice::from_ref;
    let direction = direction(&tables, &[&models[0], &models[1]], folds);
    let states = compared.map(|model| part(&tables, &models[model]));
    let projections = states.clone().map(|states| {
        let inputs: [(&str, &[Part]); 2] = [("direction", one(&direction)), ("states", &[states])];
        let params = json!({ "components": 1, "folds": folds });
        tables.write(&run(&crate::directions::projections::STAGE, params, &inputs).unwrap())
    });
    let moved = if folds == 0 { 0.0 } else { moved(compared) };
    let params = json!({ "permutations": permutations, "seed": 0, "folds": folds, "moved": moved });
    let inputs: [(&str, &[Part]); 5] = [
        ("a", one(&projections[0])),
        ("b", one(&projections[1])),
        ("direction", one(&direction)),
        ("states_a", one(&states[0])),
        ("states_b", one(&states[1])),
    ];
    run(&crate::directions::separation::STAGE, params, &inputs).unwrap()
}

/// How often p is at most 0.05 for [mean difference, SVD], in a comparison of three models: source and target of the
/// direction, and a third.
fn rejections(n: usize, width: usize, shifts: [f64; 3], compared: [usize; 2], folds: u32, draws: u64) -> [f64; 2] {
    let mut found = [0.0; 2];
    for draw in 0..draws {
        let mut drawn = Drawn::new(draw, n, width);
        let models = shifts.map(|shift| drawn.model(shift));
        let table = separated(&models, compared, folds, 99);
        for (kind, p) in texts(&table, "kind").iter().zip(numbers(&table, "p_value")) {
            found[usize::from(kind == "svd")] += f64::from(u8::from(p <= 0.05)) / draws as f64;
        }
    }
    found
}

const SOURCE_AND_THIRD: [usize; 2] = [0, 2];
const SOURCE_AND_TARGET: [usize; 2] = [0, 1];

#[test]
fn models_of_one_distribution_are_told_apart_no_more_often_than_the_level_says() {
    for compared in [SOURCE_AND_THIRD, SOURCE_AND_TARGET] {
        let [mean, svd] = rejections(24, 48, [0.0; 3], compared, 5, 100);
        assert!(mean <= 0.11 && svd <= 0.11, "{compared:?}: {mean} {svd}");
    }
    // On directions found from the same examples, source and target always differ.
    assert!(rejections(24, 48, [0.0; 3], SOURCE_AND_TARGET, 0, 20)[0] > 0.9);
}

#[test]
fn an_exchange_gives_what_directions_of_the_exchanged_states_give() {
    let (n, width) = (20, 6);
    for compared in [[0, 1], [1, 0], [0, 2], [2, 0], [1, 2], [2, 1]] {
        let mut drawn = Drawn::new(5, n, width);
        let models = [0.0, 2.0, 1.0].map(|shift| drawn.model(shift));
        let signs: Vec<i8> = (0..n).map(|_| if drawn.random.coin() { 1 } else { -1 }).collect();
        let [a, b] = compared;
        let mut exchanged = models.clone();
        for i in (0..n).filter(|&i| signs[i] < 0) {
            (exchanged[a][i], exchanged[b][i]) = (models[b][i].clone(), models[a][i].clone());
        }
        let expected = separated(&exchanged, compared, 5, 9);

        let directions = read_fitted(&[direction(&TestTables::new(), &[&models[0], &models[1]], 5)]).unwrap();
        let (_, fitted) = directions.iter().find(|((name, _), _)| name.kind == DirectionKind::MeanDifference).unwrap();
        let mut order: Vec<usize> = (0..n).collect();
        order.sort_by_key(|&i| (fold(&name(i), 5), i));
        let exchanges = Exchanges {
            signs: order.iter().map(|&i| signs[i]).collect(),
            folds: order.iter().map(|&i| fold(&name(i), 5)).collect(),
        };
        let rounded = |value: f64| f64::from(value as f32);
        let delta =
            |i: usize| (0..width).map(|x| rounded(models[b][i][x]) - rounded(models[a][i][x])).collect::<Vec<_>>();
        let deltas: Vec<f64> = order.iter().flat_map(|&i| delta(i)).collect();
        let found = refit::mean_difference(&exchanges, &deltas, width, fitted, moved(compared));
        assert_near(found.sums[0], numbers(&expected, "difference")[0] * n as f64, 1e-5);
    }
}

#[test]
fn a_shift_along_the_direction_is_found() {
    let [mean, _] = rejections(64, 32, [0.0, 2.0, 1.0], SOURCE_AND_THIRD, 5, 10);
    let [between, _] = rejections(64, 32, [0.0, 2.0, 1.0], SOURCE_AND_TARGET, 5, 10);
    assert!(mean > 0.99 && between > 0.99, "{mean} {between}");
}

/// Printed with `cargo test --release -p strata-stages -- --ignored --nocapture share_of_rejections`.
#[test]
#[ignore = "takes minutes"]
fn share_of_rejections() {
    for (n, width, draws) in [(16, 64, 1000), (64, 64, 1000), (400, 64, 500), (16, 2048, 500), (64, 2048, 500)] {
        for (what, shifts) in [("no direction", [0.0; 3]), ("a real one", [0.0, 2.0, 0.0])] {
            println!("{n} x {width}, {what}: {:?}", rejections(n, width, shifts, SOURCE_AND_THIRD, 5, draws));
        }
        println!("{n} x {width}, source and target: {:?}", rejections(n, width, [0.0; 3], SOURCE_AND_TARGET, 5, draws));
    }
}

/// Printed with `cargo test --release -p strata-stages -- --ignored --nocapture seconds_of_separation`.
#[test]
#[ignore = "takes half a minute"]
fn seconds_of_separation() {
    let (n, width, layers) = (2000, 32, 64);
    let tables = TestTables::new();
    let names: Vec<String> = (0..n).map(name).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let mut random = Random::new(0, 0);
    let model: [Part; 3] = std::array::from_fn(|_| {
        let values: Vec<f32> = (0..n * width).map(|_| random.normal() as f32).collect();
        let state = |layer: usize, i: usize| -> Vec<f32> {
            values[i * width..(i + 1) * width].iter().map(|value| value + 0.1 * layer as f32).collect()
        };
        tables.hidden_states(&names, &["last"], layers, false, |_, site, i| state(site.layer, i))
    });
    let one = std::slice::from_ref;
    let clock = std::time::Instant::now();
    let said = |what: &str| println!("{what}: {:.1} s", clock.elapsed().as_secs_f64());
    let params = json!({ "positions": ["last"], "kinds": ["mean_difference", "svd"], "components": 8, "folds": 5 });
    let inputs: [(&str, &[Part]); 2] = [("source", one(&model[0])), ("target", one(&model[1]))];
    let direction = tables.write(&run(&crate::directions::directions::STAGE, params, &inputs).unwrap());
    said("directions");
    let projections = [0, 2].map(|which| {
        let inputs: [(&str, &[Part]); 2] = [("direction", one(&direction)), ("states", one(&model[which]))];
        let params = json!({ "components": 1, "folds": 5 });
        tables.write(&run(&crate::directions::projections::STAGE, params, &inputs).unwrap())
    });
    said("two of projections");
    run(&crate::directions::projection_summary::STAGE, json!({}), &[("projections", one(&projections[0]))]).unwrap();
    said("projection_summary");
    for moved in [0.0, 0.5] {
        let inputs: [(&str, &[Part]); 5] = [
            ("a", one(&projections[0])),
            ("b", one(&projections[1])),
            ("direction", one(&direction)),
            ("states_a", one(&model[0])),
            ("states_b", one(&model[2])),
        ];
        run(&STAGE, json!({ "folds": 5, "moved": moved }), &inputs).unwrap();
        said(&format!("separation, moved by {moved}"));
    }
}

#[test]
fn an_example_does_not_move_the_direction_that_it_is_projected_on() {
    let mut drawn = Drawn::new(3, 30, 8);
    let (source, mut target) = (drawn.model(0.0), drawn.model(1.0));
    let third = drawn.model(0.0);
    let projections = |target: &Model, folds: u32| {
        let tables = TestTables::new();
        let direction = direction(&tables, &[&source, target], folds);
        let inputs: [(&str, &[Part]); 2] = [("direction", &[direction]), ("states", &[part(&tables, &third)])];
        let params = json!({ "components": 1, "folds": folds });
        let found = run(&crate::directions::projections::STAGE, params, &inputs).unwrap();
        numbers(&found, "projection")[..30].to_vec()
    };
    let (fitted, crossed) = (projections(&target, 0), projections(&target, 5));
    target[4] = vec![9.0; 8];
    let (fitted_after, crossed_after) = (projections(&target, 0), projections(&target, 5));
    assert_eq!(crossed[4], crossed_after[4]);
    assert_ne!(fitted[4], fitted_after[4]);
    assert!(crossed.iter().zip(&crossed_after).filter(|(before, after)| before != after).count() > 15);
}

#[test]
fn the_direction_is_found_again_where_one_of_its_models_is_compared() {
    let mut pipeline = pipeline(&["base", "instruct", "bad", "control"], &["d", "e"]);
    let plan = |pipeline: &Pipeline| (STAGE.plan)(&json!({}), pipeline).unwrap();
    let moved = |nodes: &[Node], a: &str, b: &str| -> Vec<f64> {
        let here = nodes.iter().filter(|node| node.bindings[4].1 == a && node.bindings[5].1 == b);
        here.inspect(|node| assert_eq!(node.inputs.len() == 5, node.params["moved"] != json!(0.0)))
            .map(|node| node.params["moved"].as_f64().unwrap())
            .collect()
    };
    let nodes = plan(&pipeline);
    assert_eq!(moved(&nodes, "base", "instruct"), [1.0, 1.0]);
    assert_eq!(moved(&nodes, "base", "bad"), [0.5, 0.5]);
    assert_eq!(moved(&nodes, "instruct", "bad"), [-0.5, -0.5]);
    assert_eq!(moved(&nodes, "bad", "control"), [0.0, 0.0]);
    let contrast = json!([{ "model": "instruct", "source": "d", "target": "e" }]);
    pipeline.sections = vec![("directions".into(), json!({ "datasets": [], "contrasts": contrast }))];
    let nodes = plan(&pipeline);
    assert_eq!(moved(&nodes, "instruct", "bad"), [0.5, -0.5], "of the source dataset and of the target dataset");
    assert_eq!(moved(&nodes, "base", "instruct"), [-0.5, 0.5]);
    pipeline.sections = vec![("directions".into(), json!({ "folds": 0 }))];
    let nodes = plan(&pipeline);
    assert_eq!(moved(&nodes, "base", "instruct"), [0.0, 0.0]);
    assert!(nodes.iter().all(|node| node.params["fitted"] == json!(true)));
    pipeline.sections = vec![("projections".into(), json!({ "directions": ["d"] }))];
    let nodes = plan(&pipeline);
    assert_eq!(moved(&nodes, "base", "instruct"), [1.0, 0.0], "another dataset does not move the direction");
}

/// The states of three models at a position with so many tokens: `state` gives that of a model, example and token.
fn of_tokens(n: usize, tokens: usize, state: impl Fn(usize, usize, usize) -> Vec<f64>) -> [RecordBatch; 2] {
    let tables = TestTables::new();
    let one = std::slice::from_ref;
    let names: Vec<String> = (0..n * tokens).map(|row| name(row / tokens)).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let states = [0, 1, 2].map(|model| {
        let value = |_: &str, _, row: usize| -> Vec<f32> {
            state(model, row / tokens, row % tokens).into_iter().map(|value| value as f32).collect()
        };
        tables.hidden_states(&names, &["role_first"], 0, false, value)
    });
    let kinds = ["mean_difference", "svd"];
    let params = json!({ "positions": ["role_first"], "kinds": kinds, "components": 1, "folds": 5 });
    let inputs: [(&str, &[Part]); 2] = [("source", one(&states[0])), ("target", one(&states[1]))];
    let direction = tables.write(&run(&crate::directions::directions::STAGE, params, &inputs).unwrap());
    let projections = [0, 2].map(|model| {
        let inputs: [(&str, &[Part]); 2] = [("direction", one(&direction)), ("states", one(&states[model]))];
        let params = json!({ "components": 1, "folds": 5 });
        tables.write(&run(&crate::directions::projections::STAGE, params, &inputs).unwrap())
    });
    let inputs: [(&str, &[Part]); 5] = [
        ("a", one(&projections[0])),
        ("b", one(&projections[1])),
        ("direction", one(&direction)),
        ("states_a", one(&states[0])),
        ("states_b", one(&states[2])),
    ];
    let separation = run(&STAGE, json!({ "permutations": 99, "folds": 5, "moved": 0.5 }), &inputs).unwrap();
    let inputs: [(&str, &[Part]); 1] = [("projections", one(&projections[1]))];
    [separation, run(&crate::directions::projection_summary::STAGE, json!({ "folds": 5 }), &inputs).unwrap()]
}

#[test]
fn tokens_that_repeat_their_example_add_nothing() {
    let mut drawn = Drawn::new(9, 20, 4);
    let models = [0.0, 2.0, 1.0].map(|shift| drawn.model(shift));
    let once = of_tokens(20, 1, |model, example, _| models[model][example].clone());
    let often = of_tokens(20, 5, |model, example, _| models[model][example].clone());
    let columns: [&[&str]; 2] = [
        &["n", "difference", "difference_low", "difference_high", "score", "ci_low", "ci_high", "p_value", "p_max"],
        &["n", "mean", "std", "ci_low", "ci_high"],
    ];
    for ((once, often), columns) in once.iter().zip(&often).zip(columns) {
        for column in columns {
            numbers(once, column).iter().zip(numbers(often, column)).for_each(|(a, b)| assert_near(*a, b, 1e-9));
        }
    }
}

#[test]
fn a_score_is_over_all_tokens_and_an_interval_over_examples() {
    let (n, tokens) = (12, 4);
    let mut drawn = Drawn::new(10, n, 3);
    let models = [0.0, 2.0, 1.0].map(|shift| drawn.model(shift));
    let noise: Vec<f64> = (0..3 * n * tokens).map(|_| drawn.random.normal()).collect();
    // Along the first axis, on which the direction nearly lies, tokens lie far apart.
    let state = |model: usize, example: usize, token: usize| {
        let mut state = models[model][example].clone();
        state[0] += 3.0 * noise[(model * n + example) * tokens + token];
        state
    };
    let [separation, summary] = of_tokens(n, tokens, state);
    let mean_over_tokens = |model: usize, example: usize, _: usize| {
        let rows: Vec<Vec<f64>> = (0..tokens).map(|token| state(model, example, token)).collect();
        (0..3).map(|x| rows.iter().map(|row| row[x]).sum::<f64>() / tokens as f64).collect()
    };
    let [of_means, summary_of_means] = of_tokens(n, 1, mean_over_tokens);
    let first = |batch: &RecordBatch, column: &str| numbers(batch, column)[0];
    for column in ["n", "difference", "difference_low", "p_value"] {
        assert_near(first(&separation, column), first(&of_means, column), 1e-5);
    }
    for column in ["n", "mean", "ci_low", "ci_high"] {
        assert_near(first(&summary, column), first(&summary_of_means, column), 1e-5);
    }
    assert!(first(&summary, "std") > 1.3 * first(&summary_of_means, "std"), "the spread is the tokens'");
    assert!(first(&separation, "score") < first(&of_means, "score") / 1.3);
    assert!(first(&separation, "ci_low") < first(&separation, "score"));
}
