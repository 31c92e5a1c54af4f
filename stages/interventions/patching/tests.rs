use super::*;
use crate::contract::node::Part;
use crate::contract::pipeline::{Dataset, DatasetSource, Model, ModelSource};
use crate::contract::site::Site;
use crate::model::forward::{Start, states_at};
use crate::model::golden_tests::tokens_of;
use crate::model::test_model::TestModel;
use crate::testing::models::{TestModels, conversations, golden, source, tokenizer};
use crate::testing::tables::{TestTables, assert_near, numbers, texts};
use arrow::array::RecordBatch;

const METRICS: [&str; 3] = ["loss", "logprob", "entropy"];

struct Bench {
    models: TestModels,
    tables: TestTables,
}

impl Bench {
    fn new() -> Bench {
        Bench { models: TestModels::new(), tables: TestTables::new() }
    }

    fn tokens(&self) -> Part {
        let all: Vec<usize> = (0..conversations().len()).collect();
        tokens_of(&self.tables, "qwen2", &all)
    }

    fn run(&self, source: &[Part], target: &[Part], settings: Value) -> Result<RecordBatch> {
        self.run_with(source, target, &tokenizer(), settings)
    }

    fn run_with(&self, source: &[Part], target: &[Part], own: &[Part], settings: Value) -> Result<RecordBatch> {
        let nodes = (STAGE.plan)(&settings, &pipeline()).map_err(|error| anyhow::anyhow!("{}: {error}", error.at))?;
        let tokens = [self.tokens()];
        let inputs = [
            ("source", source),
            ("target", target),
            ("source_tokenizer", own),
            ("target_tokenizer", &tokenizer()),
            ("tokens", &tokens),
        ];
        crate::testing::tables::run(&crate::interventions::patching::STAGE, nodes[0].params.clone(), &inputs)
    }
}

fn pipeline() -> Pipeline {
    let model = |name: &str| Model {
        name: name.into(),
        source: ModelSource::Directory("no such folder".into()),
        tokenizer: None,
        chat_template: None,
        precision: Default::default(),
    };
    let dataset = Dataset { name: "d".into(), source: DatasetSource::File("d.jsonl".into()), reading: json!({}) };
    Pipeline { models: vec![model("a"), model("b")], datasets: vec![dataset], ..Pipeline::default() }
}

/// (example, layer, metric) of each row, in order.
fn keys(batch: &RecordBatch) -> Vec<(String, u32, String)> {
    let layers = numbers(batch, "layer");
    let rows = texts(batch, "example").into_iter().zip(layers).zip(texts(batch, "metric"));
    rows.map(|((example, layer), metric)| (example, layer as u32, metric)).collect()
}

#[test]
fn the_values_are_those_of_transformers() {
    let bench = Bench::new();
    for patched in golden()["patching"].as_array().unwrap() {
        let batch = bench.run(&source(), &bench.models.target(), patched["settings"].clone()).unwrap();
        let columns = ["value", "clean_source", "clean_target", "change"].map(|name| numbers(&batch, name));
        let mut row = 0;
        let found = keys(&batch);
        for (i, example) in patched["examples"].as_array().unwrap().iter().enumerate() {
            for (layer, expected) in example["layers"].as_array().unwrap().iter().enumerate() {
                for (m, metric) in METRICS.iter().enumerate() {
                    if expected["values"][m].is_null() {
                        continue;
                    }
                    assert_eq!(found[row], (format!("x{i}"), layer as u32, metric.to_string()));
                    let expected =
                        [&expected["values"][m], &example["source"][m], &example["target"][m], &expected["change"]];
                    for (column, expected) in columns.iter().zip(expected) {
                        assert_near(column[row], expected.as_f64().unwrap(), 2e-5);
                    }
                    row += 1;
                }
            }
        }
        assert_eq!(row, batch.num_rows());
    }
}

#[test]
fn a_patch_of_a_model_into_itself_gives_exactly_its_own_values() {
    let bench = Bench::new();
    for positions in ["all", "response", "last"] {
        let batch = bench.run(&source(), &source(), json!({ "positions": positions })).unwrap();
        assert_eq!(batch.num_rows(), 5 * 3 * 3);
        assert_eq!(numbers(&batch, "value"), numbers(&batch, "clean_target"));
        assert_eq!(numbers(&batch, "value"), numbers(&batch, "clean_source"));
        assert!(numbers(&batch, "change").iter().all(|change| *change == 0.0));
    }
}

#[test]
fn all_positions_at_the_last_layer_are_the_sources_stream_under_the_targets_head() {
    let bench = Bench::new();
    let (source, target) = (source(), bench.models.target());
    let batch = bench.run(&source, &target, json!({ "layers": [-1], "metrics": ["loss"] })).unwrap();
    let (source, target) = (Transformer::open(&source).unwrap(), Transformer::open(&target).unwrap());
    let sequences = read_sequences(&[bench.tokens()]).unwrap();
    let last = states_at(&source, &sequences, Start::Tokens, Site::residual(2)).unwrap();
    let measure = Measure::new(&[Metric::Loss], Over::All, &[None; 5], &sequences);
    let expected = measure.of(&target, &sequences, Start::Residual(2, last), &[]).unwrap();
    let expected: Vec<f64> = expected.iter().map(|values| f64::from(values[0].unwrap() as f32)).collect();
    assert_eq!(numbers(&batch, "layer"), [2.0; 5]);
    assert_eq!(numbers(&batch, "value"), expected);
    assert!(numbers(&batch, "change").iter().all(|change| *change > 0.1));
}

#[test]
fn a_patch_that_changed_nothing_says_so() {
    let bench = Bench::new();
    let node = &(STAGE.plan)(&json!({ "limit": 2 }), &pipeline()).unwrap()[0];
    let inputs = [
        ("source", source()),
        ("target", bench.models.target()),
        ("source_tokenizer", tokenizer()),
        ("target_tokenizer", tokenizer()),
        ("tokens", vec![bench.tokens()]),
    ];
    let inputs = inputs.into_iter().map(|(role, parts)| (role.to_string(), parts)).collect();
    let task = Task { params: &node.params, inputs, cancelled: &|| false, progress: &|_, _| {} };
    let outputs = STAGE.run(&task).unwrap();
    let [Output::Table { batch, metadata }] = &outputs[..] else { panic!("one table") };
    // The two models share their embeddings: of two examples' patches at layers 0 to 2, those at layer 0.
    assert_eq!((metadata["strata.patches"].as_str(), metadata["strata.patches_without_change"].as_str()), ("6", "2"));
    for ((_, layer, _), change) in keys(batch).iter().zip(numbers(batch, "change")) {
        assert_eq!(*layer == 0, change == 0.0);
    }
    assert_eq!(batch.num_rows(), 2 * 3 * 3);
}

#[test]
fn groups_do_not_change_the_values_and_hold_every_example() {
    let mut sequences = Sequences::default();
    for (i, len) in [3000, 1000, 97, 5000, 1].into_iter().enumerate() {
        sequences.examples.push(format!("e{i}"));
        sequences.ids.push(vec![i as u32; len]);
        sequences.response.push((i as u32, len as u32));
        sequences.turn.push(0);
    }
    let groups = groups(&sequences);
    let lengths: Vec<Vec<usize>> = groups.iter().map(|group| group.ids.iter().map(Vec::len).collect()).collect();
    assert_eq!(lengths, [vec![3000, 1000], vec![97], vec![5000], vec![1]]);
    assert_eq!(groups[2].examples, ["e3"]);
    assert_eq!(groups[2].response, [(3, 5000)]);
}

#[test]
fn models_of_another_shape_are_refused() {
    let of = Transformer::open(&source()).unwrap().description;
    check_shapes(&of, &of).unwrap();
    let error = check_shapes(&Description { layers: 3, ..of.clone() }, &of).unwrap_err().to_string();
    assert!(error.contains("one number of layers: the source has 3, the target 2"), "{error}");
    let error = check_shapes(&of, &Description { hidden_size: 16, ..of.clone() }).unwrap_err().to_string();
    assert!(error.contains("one hidden size: the source has 32, the target 16"), "{error}");
}

#[test]
fn models_that_do_not_fit_are_refused() {
    let bench = Bench::new();
    let (source, target) = (source(), bench.models.target());
    let error = bench.run(&TestModel::new("qwen2").parts, &target, json!({})).unwrap_err().to_string();
    assert!(error.contains("one hidden size: the source has 16, the target 32"), "{error}");

    let swapped = bench.models.changed_tokenizer(|text| {
        let (a, b) = ("\"a\":", "\"b\":");
        assert!(text.contains(a) && text.contains(b));
        text.replace(a, "\"a, once\":").replace(b, a).replace("\"a, once\":", b)
    });
    let error = bench.run_with(&source, &target, &swapped, json!({})).unwrap_err().to_string();
    assert!(error.contains("is \"b\" to the source's tokenizer and \"a\" to the target's"), "{error}");
    let error = bench.run(&source, &target, json!({ "target": { "token": "quite helpful" } }));
    let error = error.unwrap_err().to_string();
    assert!(error.contains("expected one token") && error.contains("\"quite helpful\""), "{error}");
    let error = bench.run(&source, &target, json!({ "layers": [4] })).unwrap_err().to_string();
    assert!(error.contains("layer 4"), "{error}");
}

#[test]
fn settings_are_checked_where_they_stand() {
    for (settings, at, message) in [
        (json!({"layer": [1]}), "stages.patching.layer", "unknown field"),
        (json!({"layers": "some"}), "stages.patching.layers", "unknown choice of layers"),
        (json!({"layers": []}), "stages.patching.layers", "empty"),
        (json!({"positions": "first"}), "stages.patching.positions", "unknown variant"),
        (json!({"metrics": []}), "stages.patching.metrics", "empty"),
        (json!({"metrics": ["loss", "loss"]}), "stages.patching.metrics[1]", "twice"),
        (json!({"over": "prompt"}), "stages.patching.over", "unknown variant"),
        (json!({"target": {"token": ""}}), "stages.patching.target.token", "empty"),
        (json!({"target": {"at": "end"}}), "stages.patching.target.at", "unknown place"),
        (json!({"target": {"place": "end"}}), "stages.patching.target.place", "unknown field"),
        (json!({"message_only": ["e"]}), "stages.patching.message_only[0]", "unknown patched dataset"),
        (json!({"limit": 0}), "stages.patching.limit", "\"all\""),
        (json!({"datasets": "e"}), "stages.patching.datasets", "unknown dataset"),
        (json!({"pairs": []}), "stages.patching.pairs", "empty"),
        (json!({"pairs": [{"source": "a", "target": "c"}]}), "stages.patching.pairs[0].target", "unknown model"),
        (json!({"pairs": [{"source": "a", "target": "a"}]}), "stages.patching.pairs[0]", "both"),
    ] {
        let error = (STAGE.plan)(&settings, &pipeline()).unwrap_err();
        assert_eq!(error.at, at, "{settings}");
        assert!(error.message.contains(message), "{settings}: {}", error.message);
    }
    let alone = Pipeline { models: pipeline().models[..1].to_vec(), ..pipeline() };
    assert!((STAGE.plan)(&json!({}), &alone).unwrap_err().message.contains("two models"));
}

#[test]
fn a_limit_makes_one_task_and_all_examples_one_for_each_part() {
    let node = |settings| (STAGE.plan)(&settings, &pipeline()).unwrap().remove(0);
    let some = node(json!({}));
    assert_eq!((some.per_part, &some.params["limit"]), (None, &json!(32)));
    assert_eq!(node(json!({"limit": "all"})).per_part, Some("tokens"));
    let names: Vec<(&str, &str)> = some.bindings.iter().map(|(role, name)| (*role, name.as_str())).collect();
    assert_eq!(names, [("source", "a"), ("target", "b"), ("dataset", "d")]);
    let tokens = some.inputs.iter().find(|input| input.role == "tokens").unwrap();
    assert_eq!(tokens.source, Source::Node { stage: "tokens", bindings: model_dataset("b", "d") });
}

#[test]
fn a_message_on_its_own_is_patched_as_a_conversation_of_its_tokens() {
    let bench = Bench::new();
    let (source, target) = (source(), bench.models.target());
    let settings = json!({ "message_only": ["d"], "over": "turn", "metrics": ["loss"], "layers": [1] });
    let batch = bench.run(&source, &target, settings).unwrap();
    let sequences = read_sequences(&[bench.tokens()]).unwrap();
    let model = Transformer::open(&target).unwrap();
    let mut expected = Vec::new();
    for (ids, (start, end)) in sequences.ids.iter().zip(&sequences.response) {
        let ids = ids[*start as usize..*end as usize].to_vec();
        // A message of one token has no loss.
        if ids.len() < 2 {
            continue;
        }
        let alone = Sequences {
            examples: vec!["alone".into()],
            response: vec![(0, ids.len() as u32)],
            turn: vec![0],
            ids: vec![ids],
        };
        let measure = Measure::new(&[Metric::Loss], Over::All, &[None], &alone);
        expected.push(measure.of(&model, &alone, Start::Tokens, &[]).unwrap()[0][0].unwrap());
    }
    let clean = numbers(&batch, "clean_target");
    assert_eq!(clean.len(), expected.len());
    assert!(clean.len() > 1);
    clean.iter().zip(&expected).for_each(|(found, expected)| assert_near(*found, *expected, 1e-5));
}
