use super::*;
use crate::contract::pipeline::{DatasetSource, Model, ModelSource};
use crate::testing::models::{TestModels, conversations, golden, tokenizer};
use crate::testing::tables::{TestTables, assert_near, numbers, text, texts};
use arrow::array::RecordBatch;

fn pipeline(reading: Value) -> Pipeline {
    let source = ModelSource::Directory("no such folder".into());
    let model = Model { name: "m".into(), source, tokenizer: None, chat_template: None, precision: Default::default() };
    let dataset = Dataset { name: "d".into(), source: DatasetSource::File("d.jsonl".into()), reading };
    Pipeline { models: vec![model], datasets: vec![dataset], ..Pipeline::default() }
}

fn plan(settings: Value, reading: Value) -> Result<Node, PlanError> {
    Ok((STAGE.plan)(&settings, &pipeline(reading))?.remove(0))
}

fn run(node: &Node, conversations: &[Value]) -> Result<(RecordBatch, BTreeMap<String, String>)> {
    let (models, tables) = (TestModels::new(), TestTables::new());
    let mut params = node.params.clone();
    // The pipeline's model has no folder whose config.json would say so.
    params["tokens"]["model_type"] = json!("qwen2");
    let examples = tables.part(vec![
        ("example", text((0..conversations.len()).map(|i| format!("e{i}")))),
        ("messages", text(conversations.iter().map(Value::to_string))),
    ]);
    let inputs = [("model", models.target()), ("tokenizer", tokenizer()), ("examples", vec![examples])];
    let inputs = inputs.into_iter().map(|(role, parts)| (role.to_string(), parts)).collect();
    let task = Task { params: &params, inputs, cancelled: &|| false, progress: &|_, _| {} };
    match STAGE.run(&task)?.remove(0) {
        Output::Table { batch, metadata } => Ok((batch, metadata)),
        Output::File { .. } => panic!("attribution gives a table"),
    }
}

#[test]
fn the_values_are_those_of_transformers() {
    for ablated in golden()["attribution"].as_array().unwrap() {
        let node = plan(ablated["settings"].clone(), json!({})).unwrap();
        let (batch, metadata) = run(&node, &conversations()).unwrap();
        assert!(metadata.is_empty());
        let (deltas, wholes, pieces) =
            (numbers(&batch, "delta_logprob"), numbers(&batch, "logprob"), numbers(&batch, "piece"));
        let (examples, found) = (texts(&batch, "example"), texts(&batch, "text"));
        let mut row = 0;
        for (i, example) in ablated["examples"].as_array().unwrap().iter().enumerate() {
            for (piece, expected) in example["pieces"].as_array().unwrap().iter().enumerate() {
                assert_eq!((examples[row].as_str(), pieces[row]), (format!("e{i}").as_str(), piece as f64));
                assert_eq!(found[row], expected["text"].as_str().unwrap());
                assert_near(deltas[row], expected["delta"].as_f64().unwrap(), 1e-4);
                assert_near(wholes[row], example["logprob"].as_f64().unwrap(), 1e-4);
                row += 1;
            }
        }
        assert_eq!(row, batch.num_rows());
        assert!(deltas.iter().any(|delta| delta.abs() > 0.1));
    }
}

#[test]
fn the_tokens_of_a_target_add_up_to_it_and_a_contribution_is_the_other_way_round() {
    let conversations = conversations();
    let of = |settings: Value| run(&plan(settings, json!({})).unwrap(), &conversations).unwrap().0;
    let whole = of(json!({}));
    let tokens = of(json!({"by": "token", "sign": "contribution"}));
    let key = |batch: &RecordBatch| -> Vec<(String, u32)> {
        let pieces = numbers(batch, "piece");
        texts(batch, "example").into_iter().zip(pieces).map(|(example, piece)| (example, piece as u32)).collect()
    };
    let (mut sums, mut counts) = (BTreeMap::new(), BTreeMap::new());
    for (key, delta) in key(&tokens).into_iter().zip(numbers(&tokens, "delta_logprob")) {
        *sums.entry(key.clone()).or_insert(0.0) += delta;
        *counts.entry(key).or_insert(0.0) += 1.0;
    }
    let deltas = numbers(&whole, "delta_logprob").into_iter().zip(numbers(&whole, "n_tokens"));
    for (key, (delta, count)) in key(&whole).into_iter().zip(deltas) {
        assert_near(sums[&key], -delta, 1e-4);
        assert_eq!(counts[&key], count);
    }
    assert_eq!(sums.len(), whole.num_rows());
    assert!(numbers(&tokens, "target_token").contains(&1.0));
    assert!(texts(&tokens, "sign").iter().all(|sign| sign == "contribution"));
    assert!(numbers(&whole, "target_token")[0].is_nan());
}

#[test]
fn a_target_takes_the_answers_place() {
    let conversations = conversations();
    let (own, _) = run(&plan(json!({"limit": 1}), json!({})).unwrap(), &conversations).unwrap();
    let answer = conversations[0][1]["content"].as_str().unwrap();
    assert!(texts(&own, "target").iter().all(|target| target == answer));
    assert!(texts(&own, "example").iter().all(|example| example == "e0"));

    let same = plan(json!({"limit": 1, "target": answer}), json!({})).unwrap();
    assert_eq!(run(&same, &conversations).unwrap().0, own);
    let other = plan(json!({"limit": 1, "target": "no, no"}), json!({})).unwrap();
    let (other, _) = run(&other, &conversations).unwrap();
    assert_eq!(texts(&other, "target"), vec!["no, no"; other.num_rows()]);
    assert!(numbers(&other, "n_tokens")[0] > numbers(&own, "n_tokens")[0]);
}

#[test]
fn slots_are_those_of_the_datasets_template() {
    let reading = json!({"prompt": "Do {task} with\n{code}", "response": "r"});
    let node = plan(json!({"pieces": "slots"}), reading).unwrap();
    let asked = |prompt: &str| json!([{"role": "user", "content": prompt}, {"role": "assistant", "content": "ok"}]);
    let conversations = [asked("Do this with\na = 1"), asked("something else")];
    let (batch, metadata) = run(&node, &conversations).unwrap();
    assert_eq!(texts(&batch, "text"), ["this", "a = 1"]);
    assert_eq!(metadata["strata.examples_without_pieces"], "1");

    // The same conversations by hand: what is left out is the slot's value alone.
    let by_hand = [asked("Do this with\na = 1"), asked("Do  with\na = 1"), asked("Do this with\n")];
    let (whole, _) = run(&plan(json!({"max_pieces": 1}), json!({})).unwrap(), &by_hand).unwrap();
    let logprobs = numbers(&whole, "logprob");
    for (found, without) in numbers(&batch, "delta_logprob").iter().zip(&logprobs[1..]) {
        assert_near(*found, without - logprobs[0], 1e-5);
    }
}

#[test]
fn too_long_examples_are_left_out_and_counted() {
    let mut node = plan(json!({}), json!({})).unwrap();
    let reference = crate::model::golden_tests::reference("qwen2");
    let longest = reference.iter().map(|example| example["ids"].as_array().unwrap().len()).max();
    node.params["tokens"]["max_tokens"] = json!(longest.unwrap() - 1);
    let (batch, metadata) = run(&node, &conversations()).unwrap();
    assert_eq!(metadata["strata.examples_too_long"], "1");
    let mut examples = texts(&batch, "example");
    examples.dedup();
    assert_eq!(examples.len(), 4);
}

#[test]
fn settings_are_checked_where_they_stand() {
    let table = json!({"prompt": "{a}{b}", "response": "r"});
    for (settings, reading, at, message) in [
        (json!({"piece": "words"}), json!({}), "stages.attribution.piece", "unknown field"),
        (json!({"pieces": "letters"}), json!({}), "stages.attribution.pieces", "unknown variant"),
        (json!({"pieces": "slots"}), json!({}), "stages.attribution.pieces", "no prompt template"),
        (json!({"pieces": "slots"}), table, "stages.attribution.pieces", "no text between"),
        (json!({"max_pieces": 0}), json!({}), "stages.attribution.max_pieces", "at least 1"),
        (json!({"target": ""}), json!({}), "stages.attribution.target", "empty"),
        (json!({"limit": "most"}), json!({}), "stages.attribution.limit", "\"all\""),
        (json!({"models": ["x"]}), json!({}), "stages.attribution.models[0]", "unknown model"),
        (json!({"datasets": "x"}), json!({}), "stages.attribution.datasets", "unknown dataset"),
    ] {
        let error = plan(settings.clone(), reading).unwrap_err();
        assert_eq!(error.at, at, "{settings}");
        assert!(error.message.contains(message), "{settings}: {}", error.message);
    }
    assert_eq!(plan(json!({}), json!({})).unwrap().per_part, None);
    assert_eq!(plan(json!({"limit": "all"}), json!({})).unwrap().per_part, Some("examples"));
}
