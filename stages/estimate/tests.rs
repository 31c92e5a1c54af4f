//! Memory as far as it can be held without measuring: what is added up, and what runs at once.

use serde_json::json;

use super::count::count;
use super::memory::PROCESS;
use super::planned::{PlannedInput, PlannedNode, PlannedRun};
use super::row::Row;
use crate::contract::cost::Pass;
use crate::contract::node::{Bindings, Node, Part, Source};
use crate::contract::pipeline::{Dataset, DatasetSource, Model, ModelSource, Pipeline};
use crate::contract::stage::{Outputs, Stage};

/// Four models, of which the last two start from the second and so train at once.
fn pipeline() -> Pipeline {
    let model = |name: &str, from: Option<&str>| {
        let mut train = json!({ "data": ["train_base"] });
        if let Some(from) = from {
            train["from"] = json!(from);
        }
        Model {
            name: name.into(),
            source: ModelSource::Trained(train),
            tokenizer: None,
            chat_template: None,
            precision: Default::default(),
        }
    };
    let corpus = DatasetSource::Corpus("general".into());
    Pipeline {
        models: vec![
            model("base", None),
            model("tuned", Some("base")),
            model("good", Some("tuned")),
            model("bad", Some("tuned")),
        ],
        datasets: vec![Dataset { name: "general".into(), source: corpus, reading: json!({}) }],
        ..Pipeline::default()
    }
}

/// The nodes of these stages, each reading those before it.
fn nodes(pipeline: &Pipeline, stages: &[&'static Stage]) -> Vec<(&'static Stage, Node)> {
    let plan = |stage: &&'static Stage| {
        let nodes = (stage.plan)(&json!({}), pipeline).unwrap();
        nodes.into_iter().map(|node| (*stage, node)).collect::<Vec<_>>()
    };
    stages.iter().flat_map(plan).collect()
}

fn planned<'a>(pipeline: &'a Pipeline, nodes: &'a [(&'static Stage, Node)], jobs: usize) -> PlannedRun<'a> {
    let makes = |name: &str| {
        let of = |(stage, node): &(&Stage, Node)| {
            matches!(stage.outputs, Outputs::Model) && node.bindings.iter().any(|(_, model)| model == name)
        };
        nodes.iter().position(of)
    };
    let of_stage = |name: &str, bindings: &Bindings| {
        nodes.iter().position(|(stage, node)| stage.name == name && node.bindings == *bindings)
    };
    let input = |source: &'a Source| {
        let node = match source {
            Source::Node { stage, bindings } => of_stage(stage, bindings),
            Source::Weights { model } | Source::Tokenizer { model } | Source::Config { model } => makes(model),
            Source::Dataset { .. } => of_stage("corpus", &Vec::new()),
            Source::Figures { .. } => None,
        };
        PlannedInput { source, node, files: None, absent: None }
    };
    let node = |(stage, node): &'a (&'static Stage, Node)| PlannedNode {
        stage,
        bindings: &node.bindings,
        params: &node.params,
        per_part: node.per_part.is_some(),
        inputs: node.inputs.iter().map(|asked| input(&asked.source)).collect(),
        undone: 1.0,
        outputs: None,
    };
    PlannedRun { pipeline, nodes: nodes.iter().map(node).collect(), jobs }
}

fn stages(names: &[&str]) -> Vec<&'static Stage> {
    names.iter().map(|name| crate::stage(name).unwrap()).collect()
}

fn row<'a>(rows: &'a [Row], what: &str) -> &'a Row {
    rows.iter().find(|row| row.what == what).unwrap_or_else(|| panic!("no {what} in {rows:#?}"))
}

#[test]
fn models_that_are_yet_to_be_trained_are_counted() {
    let pipeline = pipeline();
    let nodes = nodes(&pipeline, &stages(&["corpus", "train", "examples", "tokens", "hidden_states"]));
    let counted = count(&planned(&pipeline, &nodes, 2)).unwrap().unwrap();
    // 64 examples of 37 tokens.
    for model in ["base", "tuned", "good", "bad"] {
        assert_eq!(row(&counted.rows, &format!("forward passes of {model}")).tokens, 64.0 * 37.0);
    }
    let train = row(&counted.rows, "train");
    // Each model is of base's shape.
    assert_eq!(train.written, 4.0 * counted.largest.bytes());
    assert!(!train.compares, "training compares no examples");
    let notes = counted.notes.join("\n");
    assert!(notes.contains("the corpus is yet to be made") && !notes.contains("not counted"), "{notes}");
}

#[test]
fn a_stage_that_opens_two_models_passes_one_at_a_time() {
    let pipeline = pipeline();
    let nodes = nodes(&pipeline, &stages(&["corpus", "train", "examples", "tokens", "patching"]));
    let counted = count(&planned(&pipeline, &nodes, 2)).unwrap().unwrap();
    let size = &counted.largest;
    // 64 examples in parts of 32.
    let part = 32.0 * 37.0;
    let values = size.pass_memory(part, Pass { blocks: 4, predictions: part, reversed: 0 }) - size.bytes();
    assert_eq!(row(&counted.rows, "patching").memory, PROCESS + 2.0 * size.bytes() + values);
}

#[test]
fn tasks_at_once_share_the_memory() {
    let pipeline = pipeline();
    let nodes = nodes(&pipeline, &stages(&["corpus", "train"]));
    let of = |jobs: usize| {
        let rows = count(&planned(&pipeline, &nodes, jobs)).unwrap().unwrap().rows;
        (row(&rows, "train").clone(), Row::total(&rows).memory)
    };
    let (alone, total) = of(1);
    assert_eq!((alone.at_once, total), (1, alone.memory));
    // Four models, of which two do not read each other.
    let (two, total) = of(8);
    assert_eq!((two.at_once, two.memory), (2, alone.memory));
    assert_eq!(total, PROCESS + 2.0 * (alone.memory - PROCESS));
}

#[test]
fn a_stage_that_tells_no_cost_holds_what_it_reads() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("part");
    std::fs::write(&path, vec![0; 3_000_000]).unwrap();
    let pipeline = pipeline();
    let nodes = nodes(&pipeline, &stages(&["corpus", "train", "examples", "tokens", "token_losses", "loss_vectors"]));
    let others = |read: Option<usize>| {
        let mut run = planned(&pipeline, &nodes, 3);
        if let Some(parts) = read {
            let part = || Part { path: path.clone(), name: String::new() };
            let inputs = run.nodes.iter_mut().flat_map(|node| &mut node.inputs);
            let losses = inputs.filter(|input| matches!(input.source, Source::Node { stage: "token_losses", .. }));
            losses.for_each(|input| input.files = Some((0..parts).map(|_| part()).collect()));
        }
        let rows = count(&run).unwrap().unwrap().rows;
        row(&rows, "stages that read tables").clone()
    };
    // What is there is counted as it is: twice, for Arrow's copy and the numbers.
    assert_eq!(others(Some(1)).memory, PROCESS + 2.0 * 3e6);
    assert_eq!(others(Some(2)).memory, PROCESS + 2.0 * 6e6);
    assert_eq!(others(Some(2)).at_once, 3);
    // What is not is as large as its stage says: 24 bytes for each of 36 tokens that have one before them.
    assert_eq!(others(None).memory, PROCESS + 2.0 * 24.0 * 64.0 * 36.0);
}
