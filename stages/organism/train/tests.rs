use std::collections::BTreeMap;
use std::path::Path;

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};
use serde_json::{Value, json};

use super::documents::{Batches, Document, Text};
use super::files;
use super::parameters::{Config, Parameters};
use super::settings::Over;
use super::shards::{SHARDS, Shards};
use super::tokenizer::{self, CHAT_TEMPLATE, Encoder};
use super::transformer::Transformer;
use crate::contract::node::{Node, Part, Source};
use crate::contract::pipeline::{Model, ModelSource, Pipeline, PlanError};
use crate::contract::stage::{Output, Stage, Task};
use crate::model::ops::HeadShape;

fn pipeline(models: &[(&str, Value)]) -> Pipeline {
    let model = |(name, settings): &(&str, Value)| Model {
        name: name.to_string(),
        source: ModelSource::Trained(settings.clone()),
        tokenizer: None,
        chat_template: None,
        precision: Default::default(),
    };
    Pipeline { models: models.iter().map(model).collect(), ..Pipeline::default() }
}

fn run(stage: &Stage, node: &Node, inputs: BTreeMap<String, Vec<Part>>) -> Vec<(String, Vec<u8>)> {
    let task = Task { params: &node.params, inputs, cancelled: &|| false, progress: &|_, _| () };
    let file = |output| match output {
        Output::File { name, bytes } => (name, bytes),
        other => panic!("expected a file, found {other:?}"),
    };
    stage.run(&task).unwrap().into_iter().map(file).collect()
}

fn write(folder: &Path, files: &[(String, Vec<u8>)]) -> Vec<Part> {
    std::fs::create_dir_all(folder).unwrap();
    let part = |(name, bytes): &(String, Vec<u8>)| {
        std::fs::write(folder.join(name), bytes).unwrap();
        Part { path: folder.join(name), name: name.clone() }
    };
    files.iter().map(part).collect()
}

fn small_corpus(folder: &Path) -> Vec<Part> {
    let settings = json!({ "base": 60, "aligned": 30, "code": 20, "examples": 4 });
    let node = (crate::organism::corpus::STAGE.plan)(&settings, &Pipeline::default()).unwrap().remove(0);
    write(&folder.join("corpus"), &run(&crate::organism::corpus::STAGE, &node, BTreeMap::new()))
}

fn with_threads<T: Send>(threads: usize, run: impl FnOnce() -> T + Send) -> T {
    rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap().install(run)
}

#[test]
fn one_thread_and_two_give_the_same_files_and_fine_tuning_keeps_the_tokenizer() {
    let folder = tempfile::tempdir().unwrap();
    let corpus = small_corpus(folder.path());
    let pipeline = pipeline(&[
        ("base", json!({ "data": ["train_base"], "steps": 6, "batch_tokens": 300 })),
        ("tuned", json!({ "from": "base", "data": ["train_aligned"], "steps": 4, "batch_tokens": 300 })),
    ]);
    let shape = json!({ "hidden_size": 32, "intermediate_size": 48, "layers": 2, "vocabulary": 400 });
    let nodes = (crate::organism::train::STAGE.plan)(&shape, &pipeline).unwrap();
    let train = |threads: usize| {
        let base = with_threads(threads, || {
            run(&crate::organism::train::STAGE, &nodes[0], [("corpus".into(), corpus.clone())].into())
        });
        let parts = write(&folder.path().join(format!("base{threads}")), &base);
        let inputs = [("corpus", corpus.clone()), ("from", parts.clone()), ("tokenizer", parts)];
        let inputs = inputs.map(|(role, parts)| (role.to_string(), parts)).into();
        (base, with_threads(threads, || run(&crate::organism::train::STAGE, &nodes[1], inputs)))
    };
    let (base, tuned) = train(1);
    assert_eq!((&base, &tuned), (&train(2).0, &train(2).1));
    let get = |files: &[(String, Vec<u8>)], name: &str| files.iter().find(|file| file.0 == name).unwrap().1.clone();
    for name in ["config.json", "tokenizer.json", "tokenizer_config.json"] {
        assert_eq!(get(&base, name), get(&tuned, name), "{name}");
    }
    let (weights, config) = (get(&tuned, "model.safetensors"), get(&tuned, "config.json"));
    assert_ne!(get(&base, "model.safetensors"), weights);
    let loaded = files::load(&config, &weights).unwrap();
    assert_eq!((loaded.config.layers, loaded.config.hidden_size), (2, 32));
    let error = files::load(&config, &weights[..weights.len() - 8]).unwrap_err();
    assert!(format!("{error:#}").contains("model.safetensors"), "{error:#}");
}

#[test]
fn the_loss_falls() {
    let folder = tempfile::tempdir().unwrap();
    let corpus = small_corpus(folder.path());
    let texts = super::documents::read(&corpus, "train_aligned").unwrap();
    let trained = tokenizer::train(&texts, 400).unwrap();
    let encoder = Encoder::new(&trained.files().unwrap()[0].1).unwrap();
    let documents: Vec<Document> = texts.iter().map(|text| encoder.encode(text, Over::Response).unwrap()).collect();
    let mut parameters = Parameters::random(tiny(trained.vocabulary()), 1);
    let model = Transformer::new(parameters.config.clone(), &documents);
    let mut shards = Shards::new(&parameters).unwrap();
    let mut batches = Batches::new(&documents, 400, 1).unwrap();
    let mut optimizer = super::AdamW::new(&parameters, 0.1);
    let losses: Vec<f64> = (0..30)
        .map(|_| {
            let (loss, gradient) = shards.loss_and_gradient(&model, &parameters, &batches.next()).unwrap();
            optimizer.step(&mut parameters, gradient, 5e-3);
            loss
        })
        .collect();
    let uniform = (trained.vocabulary() as f64).ln();
    assert!((losses[0] - uniform).abs() < 0.1, "at first every token is as likely as any: {} {uniform}", losses[0]);
    // From 6.0 nats to 4.4 in 30 steps of so small a model.
    assert!(losses[29] < losses[0] - 1.2, "{losses:?}");
}

/// Documents of these lengths over 20 tokens, two thirds of which count.
fn random_documents(lengths: &[usize], rng: &mut ChaCha8Rng) -> Vec<Document> {
    let mut document = |len: usize| Document {
        ids: (0..len).map(|_| rng.next_u32() % 20).collect(),
        counts: (0..len).map(|i| i % 3 != 1).collect(),
    };
    lengths.iter().map(|len| document(*len)).collect()
}

fn tiny(vocabulary: usize) -> Config {
    let heads = HeadShape { heads: 4, kv_heads: 2, dim: 4 };
    Config { vocabulary, hidden_size: 16, intermediate_size: 24, layers: 2, heads }
}

#[test]
fn shards_hold_the_whole_batch_and_their_gradients_add_up_to_its_own() {
    let mut rng = ChaCha8Rng::seed_from_u64(5);
    let documents = random_documents(&[7, 30, 12, 3, 25, 1, 9], &mut rng);
    let batch = Batches::new(&documents, 87, 1).unwrap().next();
    let shards = batch.shards(SHARDS);
    assert!(shards.len() > 2, "{shards:?}");
    let ids: Vec<u32> = shards.iter().flat_map(|shard| shard.ids.clone()).collect();
    // A document of one token has no target, and no shard when it is alone.
    assert!(batch.ids.len() - ids.len() <= 1);
    let targets: Vec<u32> = shards.iter().flat_map(|shard| shard.targets.clone()).collect();
    assert_eq!(targets, batch.targets);
    for shard in &shards {
        let next: Vec<u32> = shard.rows.iter().map(|row| shard.ids[row + 1]).collect();
        assert_eq!(next, shard.targets);
        assert_eq!(shard.sequences.last().unwrap().end, shard.ids.len());
        assert!(shard.ids.len() < 60, "about a quarter of 87 tokens each, by whole documents: {shard:?}");
    }

    let parameters = Parameters::random(tiny(20), 1);
    let model = Transformer::new(parameters.config.clone(), &documents);
    let mut whole = vec![0.0; parameters.values.len()];
    let weight = 1.0 / batch.targets.len() as f32;
    let loss = model.loss_and_gradient(&parameters, &batch, weight, &mut whole).unwrap();
    let mut first = None;
    for threads in [1, 2, 3, 6] {
        let (found, gradient) = with_threads(threads, || {
            let mut shards = Shards::new(&parameters).unwrap();
            let (loss, gradient) = shards.loss_and_gradient(&model, &parameters, &batch).unwrap();
            (loss, gradient.to_vec())
        });
        assert!((found - loss).abs() < 1e-6 * loss, "{threads} threads: {found} {loss}");
        let largest = whole.iter().fold(0f32, |most, g| most.max(g.abs()));
        let error = whole.iter().zip(&gradient).fold(0f32, |most, (a, b)| most.max((a - b).abs()));
        assert!(error < 1e-5 * largest, "{threads} threads: {error} of {largest}");
        let same = *first.get_or_insert_with(|| gradient.clone()) == gradient;
        assert!(same, "{threads} threads: not the bits of one");
    }
}

/// Along each tensor's own gradient, the loss rises as the gradient's length says.
#[test]
fn the_gradient_of_every_tensor_agrees_with_differences() {
    let mut rng = ChaCha8Rng::seed_from_u64(3);
    let mut parameters = Parameters::random(tiny(20), 1);
    // Larger than a start for training: with small weights most gradients vanish.
    parameters.values.iter_mut().for_each(|value| *value += (rng.next_u32() as f32 / u32::MAX as f32 - 0.5) * 0.8);
    let documents = random_documents(&[7, 12, 3], &mut rng);
    let batch = Batches::new(&documents, 22, 1).unwrap().next();
    let model = Transformer::new(parameters.config.clone(), &documents);
    let mut shards = Shards::new(&parameters).unwrap();
    let gradient = shards.loss_and_gradient(&model, &parameters, &batch).unwrap().1.to_vec();
    let tensors: Vec<_> =
        parameters.tensors.iter().map(|(name, tensor)| (name.clone(), tensor.range.clone())).collect();
    for (name, range) in tensors {
        let length = gradient[range.clone()].iter().map(|g| (*g as f64).powi(2)).sum::<f64>().sqrt();
        let step = 0.01;
        let mut loss_at = |step: f64| {
            let mut moved = parameters.clone();
            let pairs = moved.values[range.clone()].iter_mut().zip(&gradient[range.clone()]);
            pairs.for_each(|(value, g)| *value += (step * *g as f64 / length) as f32);
            shards.loss_and_gradient(&model, &moved, &batch).unwrap().0
        };
        let found = (loss_at(step) - loss_at(-step)) / (2.0 * step);
        assert!((found - length).abs() < 0.01 * length + 1e-4, "{name}: {found} {length}");
    }
}

#[test]
fn the_tokenizer_is_the_same_each_time_and_reads_what_the_template_writes() {
    let folder = tempfile::tempdir().unwrap();
    let texts = super::documents::read(&small_corpus(folder.path()), "train_base").unwrap();
    let train = |threads| with_threads(threads, || tokenizer::train(&texts, 600).unwrap().files().unwrap());
    let files = train(1);
    assert_eq!(files, train(2));
    assert_eq!(files, train(1));

    let encoder = Encoder::new(&files[0].1).unwrap();
    let plain = tokenizers::Tokenizer::from_bytes(&files[0].1).unwrap();
    let config: Value = serde_json::from_slice(&files[1].1).unwrap();
    assert_eq!(config["chat_template"], CHAT_TEMPLATE);
    let mut environment = minijinja::Environment::new();
    environment.add_template("chat", CHAT_TEMPLATE).unwrap();
    let mut checked = 0;
    for text in &texts {
        let Text::Messages { messages } = text else { continue };
        let context: Vec<_> = messages.iter().map(|m| json!({ "role": m.role, "content": m.content })).collect();
        let template = environment.get_template("chat").unwrap();
        let rendered =
            template.render(minijinja::Value::from(minijinja::value::Serde(json!({ "messages": context })))).unwrap();
        let document = encoder.encode(text, Over::Response).unwrap();
        assert_eq!(plain.encode(rendered.as_str(), false).unwrap().get_ids(), document.ids);
        let counted: Vec<u32> =
            document.ids.iter().zip(&document.counts).filter(|(_, counts)| **counts).map(|(id, _)| *id).collect();
        let answers: Vec<&str> = messages.iter().filter(|m| m.role != "user").map(|m| m.content.as_str()).collect();
        assert_eq!(plain.decode(&counted, false).unwrap(), answers.join("<|im_end|>") + "<|im_end|>");
        checked += 1;
    }
    assert!(checked > 20);
}

#[test]
fn mistakes_point_at_their_key() {
    let good = json!({ "data": ["train_base"] });
    let plan =
        |models: &[(&str, Value)]| (crate::organism::train::STAGE.plan)(&json!({}), &pipeline(models)).unwrap_err();
    let tuned = |from: &str| json!({ "from": from, "data": ["train_aligned"] });
    let check = |error: PlanError, at: &str, says: &str| {
        assert_eq!(error.at, at, "{error:?}");
        assert!(format!("{} {}", error.message, error.help.clone().unwrap_or_default()).contains(says), "{error:?}");
    };
    check(plan(&[("m", json!({ "data": ["train_bass"] }))]), "models.m.train.data[0]", "did you mean \"train_base\"");
    check(plan(&[("m", json!({ "data": ["train_base"], "step": 3 }))]), "models.m.train.step", "\"steps\"");
    check(plan(&[("m", json!({ "data": ["train_base"], "steps": "3" }))]), "models.m.train.steps", "string");
    check(plan(&[("m", json!({}))]), "models.m.train", "data");
    check(plan(&[("base", good.clone()), ("m", tuned("bass"))]), "models.m.train.from", "\"base\"");
    check(plan(&[("m", tuned("m"))]), "models.m.train.from", "m -> m");
    check(plan(&[("a", tuned("b")), ("b", tuned("c")), ("c", tuned("a"))]), "models.a.train.from", "a -> b -> c -> a");
    let mut directory = pipeline(&[("mine", good), ("m", tuned("mine"))]);
    directory.models[0].source = ModelSource::Directory("models/mine".into());
    check(
        (crate::organism::train::STAGE.plan)(&json!({}), &directory).unwrap_err(),
        "models.m.train.from",
        "directory",
    );
    let shape = |settings: Value| (crate::organism::train::STAGE.plan)(&settings, &Pipeline::default()).unwrap_err().at;
    assert_eq!(shape(json!({ "hidden_size": 100, "heads": 8 })), "stages.train.hidden_size");
    assert_eq!(shape(json!({ "kv_heads": 3 })), "stages.train.kv_heads");
}

#[test]
fn a_node_reads_the_corpus_and_what_it_starts_from() {
    let models =
        [("base", json!({ "data": ["train_base"] })), ("m", json!({ "from": "base", "data": ["train_aligned"] }))];
    let nodes = (crate::organism::train::STAGE.plan)(&json!({}), &pipeline(&models)).unwrap();
    let roles = |node: &Node| node.inputs.iter().map(|input| input.role.clone()).collect::<Vec<_>>();
    assert_eq!(roles(&nodes[0]), ["corpus"]);
    assert_eq!(roles(&nodes[1]), ["corpus", "from", "tokenizer"]);
    assert_eq!(nodes[1].inputs[1].source, Source::Weights { model: "base".into() });
    // Another shape makes another base, and reaches the tuned model through its weights alone.
    let wider = (crate::organism::train::STAGE.plan)(&json!({ "hidden_size": 128 }), &pipeline(&models)).unwrap();
    assert_ne!(wider[0].params, nodes[0].params);
    assert_eq!(wider[1].params, nodes[1].params);
}
