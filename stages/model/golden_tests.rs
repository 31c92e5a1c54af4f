//! The runtime on tests/golden/models, against what transformers computed (tests/golden/models.py).

use std::path::{Path, PathBuf};

use anyhow::Result;
use arrow::array::{Array, BooleanArray, ListArray, RecordBatch, UInt32Array};
use candle_core::Tensor;
use serde_json::{Value, json};

use super::family::changes_tokenizers;
use super::forward::{Start, states_at, watch};
use super::pass::{PassTask, run};
use super::token_part::read_sequences;
use super::transformer::Transformer;
use crate::contract::intervention::Intervention;
use crate::contract::node::Part;
use crate::contract::observer::{Observer, Wants};
use crate::contract::sequences::Sequences;
use crate::contract::site::Site;
use crate::contract::stage::{Output, Stage};
use crate::losses::{next_tokens, token_losses};
use crate::states::hidden_states;
use crate::table;
use crate::testing::tables::{TestTables, numbers, run as run_stage, text, texts};
use crate::text::tokens;

const MODELS: [&str; 3] = ["qwen2", "llama", "qwen3"];

fn directory(model: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/golden/models").join(model)
}

/// The model's files whose names hold one of `wanted`.
pub fn parts(model: &str, wanted: &[&str]) -> Vec<Part> {
    parts_in(&directory(model), wanted)
}

fn parts_in(directory: &Path, wanted: &[&str]) -> Vec<Part> {
    let mut parts: Vec<Part> = std::fs::read_dir(directory)
        .expect("a folder of tests/golden")
        .map(|entry| entry.unwrap().path())
        .map(|path| Part { name: path.file_name().unwrap().to_string_lossy().into_owned(), path })
        .filter(|part| wanted.iter().any(|wanted| part.name.contains(wanted)))
        .collect();
    parts.sort_by(|a, b| a.name.cmp(&b.name));
    parts
}

pub fn weights(model: &str) -> Vec<Part> {
    let mut parts = parts(model, &["safetensors"]);
    parts.extend(self::parts(model, &["config.json"]).into_iter().filter(|part| part.name == "config.json"));
    parts
}

pub fn tokenizer(model: &str) -> Vec<Part> {
    parts(model, &["tokenizer", "jinja"])
}

pub fn reference(model: &str) -> Vec<Value> {
    serde_json::from_slice(&std::fs::read(directory(model).join("reference.json")).unwrap()).unwrap()
}

/// The `tokens` table of the chosen conversations, named `x0`, `x1`, … by their place in reference.json.
pub fn tokens_of(tables: &TestTables, model: &str, chosen: &[usize]) -> Part {
    let conversations = reference(model);
    let messages = chosen.iter().map(|i| conversations[*i]["messages"].to_string());
    let names = chosen.iter().map(|i| format!("x{i}"));
    let examples = tables.part(vec![("example", text(names)), ("messages", text(messages))]);
    let params = json!({ "max_tokens": 512, "date": "2024-07-26", "model_type": model });
    let inputs: [(&str, &[Part]); 2] = [("tokenizer", &tokenizer(model)), ("examples", &[examples])];
    tables.write(&run_stage(&tokens::STAGE, params, &inputs).unwrap())
}

fn batch(output: &Output) -> &RecordBatch {
    match output {
        Output::Table { batch, .. } => batch,
        Output::File { name, .. } => panic!("{name} instead of a table"),
    }
}

/// The hidden states and token losses of a part.
fn pass(model: &str, tokens: &Part) -> (RecordBatch, RecordBatch) {
    let params = json!({ "positions": ["last", "response_mean"], "layers": "all" });
    let task =
        |stage: &'static Stage, params| PassTask { stage, params, tokens: tokens.clone(), tokenizer: tokenizer(model) };
    let tasks = [task(&hidden_states::STAGE, &params), task(&token_losses::STAGE, &Value::Null)];
    let mut found = [None, None];
    run(&weights(model), &tasks, &|| false, &mut |index, outputs| {
        found[index] = Some(batch(&outputs.unwrap()[0]).clone());
    })
    .unwrap();
    let [states, losses] = found.map(Option::unwrap);
    (states, losses)
}

fn floats(value: &Value) -> Vec<f64> {
    value.as_array().unwrap().iter().map(|x| x.as_f64().unwrap()).collect()
}

fn all() -> Vec<usize> {
    (0..5).collect()
}

#[test]
fn ids_and_spans_are_those_of_transformers() {
    for model in MODELS {
        let tables = TestTables::new();
        let part = tokens_of(&tables, model, &all());
        let found = table::read(&[part], &[]).unwrap();
        let ids: &ListArray = table::values(&found, "ids").unwrap();
        for (row, expected) in reference(model).iter().enumerate() {
            let list = ids.value(row);
            let list: &UInt32Array = list.as_any().downcast_ref().unwrap();
            assert_eq!(json!(list.values().to_vec()), expected["ids"], "{model} {row}");
            let number = |name: &str| numbers(&found, name)[row] as u64;
            assert_eq!(
                json!([number("response_start"), number("response_end")]),
                expected["response"],
                "{model} {row}"
            );
            assert_eq!(json!(number("turn_start")), expected["turn_start"], "{model} {row}");
        }
        let truncated: &BooleanArray = table::values(&found, "truncated").unwrap();
        assert_eq!(truncated.true_count(), 0);
    }
}

/// tests/golden/tokenizer_classes.py
#[test]
fn ids_of_every_tokenizer_class_are_those_of_transformers() {
    for name in ["llama", "llama_legacy", "llama_bytes", "mistral", "gemma", "gpt_neox"] {
        let directory = directory("../tokenizers").join(name);
        let json =
            |file: &str| -> Value { serde_json::from_slice(&std::fs::read(directory.join(file)).unwrap()).unwrap() };
        let (config, reference) = (json("config.json"), json("reference.json"));
        let conversations = reference.as_array().unwrap();
        let tables = TestTables::new();
        let messages = text(conversations.iter().map(|conversation| conversation["messages"].to_string()));
        let names = text((0..conversations.len()).map(|i| format!("x{i}")));
        let examples = tables.part(vec![("example", names), ("messages", messages)]);
        let mut params = json!({ "max_tokens": 512, "date": "2024-07-26" });
        if changes_tokenizers(config["model_type"].as_str().unwrap()) {
            params["model_type"] = config["model_type"].clone();
        }
        let tokenizer = parts_in(&directory, &["tokenizer"]);
        let inputs: [(&str, &[Part]); 2] = [("tokenizer", &tokenizer), ("examples", &[examples])];
        let found = run_stage(&tokens::STAGE, params, &inputs).unwrap();
        let ids: &ListArray = table::values(&found, "ids").unwrap();
        for (row, expected) in conversations.iter().enumerate() {
            let list = ids.value(row);
            let list: &UInt32Array = list.as_any().downcast_ref().unwrap();
            assert_eq!(json!(list.values().to_vec()), expected["ids"], "{name} {row}");
        }
    }
}

#[test]
fn hidden_states_are_those_of_transformers() {
    for model in MODELS {
        let tables = TestTables::new();
        let (states, _) = pass(model, &tokens_of(&tables, model, &all()));
        let (vectors, width) = table::vectors(&states, "vector").unwrap();
        let (positions, examples, sites) =
            (texts(&states, "position"), texts(&states, "example"), texts(&states, "site"));
        let reference = reference(model);
        assert_eq!(states.num_rows(), 2 * 4 * 5);
        for (row, layer) in numbers(&states, "layer").iter().enumerate() {
            let index = *layer as usize + (sites[row] == "final_norm") as usize;
            let example: usize = examples[row][1..].parse().unwrap();
            let expected = floats(&reference[example][&positions[row]][index]);
            let found = &vectors[row * width..(row + 1) * width];
            let norm = |x: &mut dyn Iterator<Item = f64>| x.map(|x| x * x).sum::<f64>().sqrt();
            let difference = norm(&mut found.iter().zip(&expected).map(|(f, e)| *f as f64 - e));
            let relative = difference / norm(&mut expected.iter().copied());
            assert!(
                relative < 1e-5,
                "{model} {} {} layer {layer} {}: {relative:e}",
                examples[row],
                positions[row],
                sites[row]
            );
        }
    }
}

#[test]
fn log_probabilities_entropies_and_ranks_are_those_of_transformers() {
    for model in MODELS {
        let tables = TestTables::new();
        let (_, losses) = pass(model, &tokens_of(&tables, model, &all()));
        let reference = reference(model);
        let of = |key: &str| reference.iter().flat_map(|example| floats(&example[key])).collect::<Vec<_>>();
        for (name, tolerance) in [("logprob", 2e-5), ("entropy", 2e-5), ("rank", 0.0)] {
            let (found, expected) = (numbers(&losses, name), of(name));
            assert_eq!(found.len(), expected.len());
            for (row, (found, expected)) in found.iter().zip(&expected).enumerate() {
                assert!((found - expected).abs() <= tolerance, "{model} {name} {row}: {found} {expected}");
            }
        }
        let in_response: &BooleanArray = table::values(&losses, "in_response").unwrap();
        let lengths = reference.iter().map(|example| floats(&example["response"])).map(|span| span[1] - span[0]);
        assert_eq!(in_response.true_count() as f64, lengths.sum::<f64>());
        let (examples, pieces) = (texts(&losses, "example"), texts(&losses, "text"));
        let said: String =
            examples.iter().zip(&pieces).filter(|(name, _)| *name == "x0").map(|(_, text)| text.as_str()).collect();
        let turn = if model != "llama" {
            "<|im_start|>assistant\nhello<|im_end|>\n"
        } else {
            "<|im_start|>ASSISTANT 2\n\nhello<|im_end|>"
        };
        assert!(said.ends_with(turn), "{said:?}");
    }
}

#[test]
fn the_next_tokens_hold_the_one_that_came_with_its_probability() {
    let tables = TestTables::new();
    let tokens = tokens_of(&tables, "qwen2", &[0, 2]);
    let params = json!({ "places": ["response", "before:hello"], "k": 320 });
    let task = PassTask { stage: &next_tokens::STAGE, params: &params, tokens, tokenizer: tokenizer("qwen2") };
    let mut found = None;
    run(&weights("qwen2"), &[task], &|| false, &mut |_, outputs| found = Some(outputs.unwrap().remove(0))).unwrap();
    let Some(Output::Table { batch, metadata }) = found else { panic!("no table") };
    assert_eq!(metadata.get("strata.examples_without.before:hello").map(String::as_str), Some("1"));
    assert_eq!(batch.num_rows(), 3 * 320);
    let (examples, places) = (texts(&batch, "example"), texts(&batch, "place"));
    let column = |name: &str| numbers(&batch, name);
    let (token, rank, id, probability) = (column("token"), column("rank"), column("id"), column("probability"));
    let mut seen = 0;
    for (i, name) in [(0, "x0"), (2, "x2")] {
        let expected = &reference("qwen2")[i];
        let start = expected["response"][0].as_u64().unwrap() as usize;
        let row = (0..batch.num_rows()).find(|row| {
            examples[*row] == name && places[*row] == "response" && id[*row] == expected["ids"][start].as_f64().unwrap()
        });
        let row = row.unwrap();
        assert_eq!(token[row], start as f64);
        assert_eq!(rank[row], expected["rank"][start - 1].as_f64().unwrap());
        assert!((probability[row].ln() - expected["logprob"][start - 1].as_f64().unwrap()).abs() < 2e-5);
        seen += 1;
    }
    assert_eq!(seen, 2);
    assert!((probability[..320].iter().sum::<f64>() - 1.0).abs() < 1e-5);
}

/// The hashes of an example's rows, column by column.
fn hashes_of(batch: &RecordBatch, example: &str) -> Vec<String> {
    let keep: BooleanArray = texts(batch, "example").iter().map(|name| Some(name == example)).collect();
    let kept = arrow::compute::filter_record_batch(batch, &keep).unwrap();
    assert!(kept.num_rows() > 0);
    table::column_hashes(&kept).unwrap().into_iter().map(|(name, hash)| format!("{name} {hash}")).collect()
}

#[test]
fn an_example_has_the_same_bits_alone_and_among_others_in_any_order() {
    for model in MODELS {
        let tables = TestTables::new();
        let together = pass(model, &tokens_of(&tables, model, &all()));
        let reversed = pass(model, &tokens_of(&tables, model, &[4, 3, 2, 1, 0]));
        for i in 0..4 {
            let alone = pass(model, &tokens_of(&tables, model, &[i]));
            let name = format!("x{i}");
            for others in [&together, &reversed] {
                assert_eq!(hashes_of(&alone.0, &name), hashes_of(&others.0, &name), "{model} {name}");
                assert_eq!(hashes_of(&alone.1, &name), hashes_of(&others.1, &name), "{model} {name}");
            }
        }
    }
}

#[test]
fn one_thread_and_three_give_the_same_tables() {
    let tables = TestTables::new();
    let tokens = tokens_of(&tables, "qwen2", &all());
    let with = |threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| pass("qwen2", &tokens))
    };
    assert_eq!(with(1), with(3));
}

#[test]
fn longer_conversations_are_cut_and_marked() {
    let tables = TestTables::new();
    let conversations = reference("qwen2");
    let examples =
        tables.part(vec![("example", text(["a"])), ("messages", text([conversations[4]["messages"].to_string()]))]);
    let params = json!({ "max_tokens": 20, "date": "2024-07-26", "model_type": "qwen2" });
    let inputs: [(&str, &[Part]); 2] = [("tokenizer", &tokenizer("qwen2")), ("examples", &[examples])];
    let part = tables.write(&run_stage(&tokens::STAGE, params, &inputs).unwrap());
    let sequences = read_sequences(std::slice::from_ref(&part)).unwrap();
    assert_eq!((sequences.ids[0].len(), sequences.response[0]), (20, (20, 20)));
    let truncated = table::read(&[part], &["truncated"]).unwrap();
    assert!(table::values::<BooleanArray>(&truncated, "truncated").unwrap().value(0));
}

/// candle-transformers' Qwen2 as a second opinion on the logits.
#[test]
fn log_probabilities_agree_with_candle_transformers() {
    use candle_core::{DType, Device};
    use candle_nn::VarBuilder;
    use candle_transformers::models::qwen2::{Config, ModelForCausalLM};

    let mut config: Value =
        serde_json::from_slice(&std::fs::read(directory("qwen2").join("config.json")).unwrap()).unwrap();
    // The spelling of transformers 4, which candle-transformers reads.
    config["rope_theta"] = config["rope_parameters"]["rope_theta"].clone();
    config["sliding_window"] = json!(4096);
    let config: Config = serde_json::from_value(config).unwrap();
    let bytes = std::fs::read(directory("qwen2").join("model.safetensors")).unwrap();
    let weights = VarBuilder::from_buffered_safetensors(bytes, DType::F32, &Device::Cpu).unwrap();
    let mut model = ModelForCausalLM::new(&config, weights).unwrap();

    let tables = TestTables::new();
    let tokens = tokens_of(&tables, "qwen2", &[1]);
    let sequences = read_sequences(std::slice::from_ref(&tokens)).unwrap();
    let ids = Tensor::new(sequences.ids[0].as_slice(), &Device::Cpu).unwrap().unsqueeze(0).unwrap();
    let logits = model.forward(&ids, 0).unwrap().flatten_all().unwrap();
    let theirs = candle_nn::ops::log_softmax(&logits, 0).unwrap().to_vec1::<f32>().unwrap();

    let ours = Transformer::open(&self::weights("qwen2")).unwrap();
    let mut last = Last { row: sequences.tokens() - 1, logprobs: Vec::new() };
    watch(&ours, &sequences, Start::Tokens, &mut last, &[]).unwrap();
    let found = last.logprobs;
    assert_eq!(found.len(), theirs.len());
    let worst = found.iter().zip(&theirs).map(|(a, b)| (*a as f64 - *b as f64).abs()).fold(0.0, f64::max);
    assert!(worst < 2e-5, "{worst:e}");
}

/// Keeps the distribution at one row.
struct Last {
    row: usize,
    logprobs: Vec<f32>,
}

impl Observer for Last {
    fn wants(&self) -> Wants {
        Wants { predictions: vec![self.row], ..Wants::default() }
    }

    fn predictions(&mut self, rows: &[usize], logprobs: &[f32], _vocabulary: usize) -> Result<()> {
        assert_eq!(rows, [self.row]);
        self.logprobs.extend(logprobs);
        Ok(())
    }
}

/// Puts one state in the place of another.
struct Patch {
    site: Site,
    states: Tensor,
}

impl Intervention for Patch {
    fn sites(&self) -> Vec<Site> {
        vec![self.site]
    }

    fn edit(&self, site: Site, _sequences: &Sequences, _states: &Tensor) -> Result<Option<Tensor>> {
        assert_eq!(site, self.site);
        Ok(Some(self.states.clone()))
    }
}

#[test]
fn a_pass_can_be_edited_and_can_start_in_the_middle() {
    let tables = TestTables::new();
    let sequences = read_sequences(&[tokens_of(&tables, "llama", &[0, 3])]).unwrap();
    let model = Transformer::open(&weights("llama")).unwrap();
    let distribution = |start: Start, interventions: &[&dyn Intervention]| {
        let mut last = Last { row: sequences.tokens() - 1, logprobs: Vec::new() };
        watch(&model, &sequences, start, &mut last, interventions).unwrap();
        last.logprobs
    };
    let plain = distribution(Start::Tokens, &[]);
    let keep = |site| states_at(&model, &sequences, Start::Tokens, site).unwrap();
    let site = Site::residual(1);
    let first = keep(site);
    assert_eq!(distribution(Start::Tokens, &[&Patch { site, states: first.clone() }]), plain);
    assert_eq!(distribution(Start::Residual(1, first.clone()), &[]), plain);
    let halved = Patch { site, states: (first.clone() * 0.5).unwrap() };
    let edited = distribution(Start::Tokens, &[&halved]);
    assert_ne!(edited, plain);
    assert_eq!(distribution(Start::Residual(1, first), &[&halved]), edited);
    let site = Site::final_norm(2);
    let normed = keep(site);
    assert_eq!(distribution(Start::Tokens, &[&Patch { site, states: normed.clone() }]), plain);
    assert_ne!(distribution(Start::Tokens, &[&Patch { site, states: (normed * 0.5).unwrap() }]), plain);
}

#[test]
fn an_intervention_that_would_never_edit_is_an_error() {
    let tables = TestTables::new();
    let sequences = read_sequences(&[tokens_of(&tables, "llama", &[0])]).unwrap();
    let model = Transformer::open(&weights("llama")).unwrap();
    let states = states_at(&model, &sequences, Start::Tokens, Site::residual(0)).unwrap();
    let error = |start: Start, watched: Site, site: Site| {
        let patch = Patch { site, states: states.clone() };
        let mut shown = Shown { site: watched };
        watch(&model, &sequences, start, &mut shown, &[&patch]).unwrap_err().to_string()
    };
    // The pass ends below the site, starts above it, or there is no such layer.
    let text = error(Start::Tokens, Site::residual(1), Site::residual(2));
    assert!(text.contains("layer 2 (residual)") && text.contains("to layer 1 (residual)"), "{text}");
    let text = error(Start::Tokens, Site::residual(2), Site::final_norm(2));
    assert!(text.contains("layer 2 (final_norm)"), "{text}");
    let text = error(Start::Residual(1, states.clone()), Site::residual(2), Site::residual(0));
    assert!(text.contains("from layer 1 (residual) to layer 2"), "{text}");
    let text = error(Start::Tokens, Site::final_norm(2), Site::residual(3));
    assert!(text.contains("layer 3"), "{text}");
    // An observer that would never be shown a state fails alone.
    let text = states_at(&model, &sequences, Start::Tokens, Site::residual(3)).unwrap_err().to_string();
    assert!(text.contains("layer 3"), "{text}");
}

/// Looks at one site.
struct Shown {
    site: Site,
}

impl Observer for Shown {
    fn wants(&self) -> Wants {
        Wants { states: vec![self.site], ..Wants::default() }
    }
}

/// As a run of several datasets passes them: beside each example's pass alone.
#[test]
fn parts_that_pass_together_have_the_bits_that_their_examples_have_alone() {
    let states = json!({ "positions": ["last", "response_mean"], "layers": "all" });
    let gradients = json!({ "modules": ["layers.*.mlp.down_proj"], "over": "all", "size": 64, "seed": 3 });
    let wanted = [
        (&hidden_states::STAGE, &states),
        (&token_losses::STAGE, &Value::Null),
        (&crate::gradients::gradients::STAGE, &gradients),
    ];
    for model in MODELS {
        let tables = TestTables::new();
        // One conversation with two other answers, and another one that is in both parts.
        let conversation = |answer: &str| {
            let mut messages = reference(model)[0]["messages"].clone();
            messages.as_array_mut().unwrap().last_mut().unwrap()["content"] = json!(answer.repeat(60));
            messages.to_string()
        };
        let other = reference(model)[3]["messages"].to_string();
        let part = |examples: &[(&str, &String)]| {
            let names = text(examples.iter().map(|(name, _)| name.to_string()));
            let messages = text(examples.iter().map(|(_, messages)| messages.to_string()));
            let examples = tables.part(vec![("example", names), ("messages", messages)]);
            let params = json!({ "max_tokens": 2048, "date": "2024-07-26", "model_type": model });
            let inputs: [(&str, &[Part]); 2] = [("tokenizer", &tokenizer(model)), ("examples", &[examples])];
            tables.write(&run_stage(&tokens::STAGE, params, &inputs).unwrap())
        };
        let run_parts = |parts: &[Part]| {
            let task = |(part, (stage, params)): (&Part, (&'static Stage, _))| PassTask {
                stage,
                params,
                tokens: part.clone(),
                tokenizer: tokenizer(model),
            };
            let tasks: Vec<PassTask> =
                parts.iter().flat_map(|part| wanted.map(|wanted| (part, wanted))).map(task).collect();
            let mut found = vec![None; tasks.len()];
            run(&weights(model), &tasks, &|| false, &mut |index, outputs| {
                found[index] = Some(batch(&outputs.unwrap()[0]).clone());
            })
            .unwrap();
            found.into_iter().map(Option::unwrap).collect::<Vec<_>>()
        };
        let answers = ["one answer ", "yes ", "no ", "another answer "].map(conversation);
        let examples = [
            [("a", &answers[0]), ("b", &other), ("c", &answers[1])],
            [("d", &answers[2]), ("b", &other), ("e", &answers[3])],
        ];
        let together = run_parts(&examples.map(|examples| part(&examples)));
        for (examples, found) in examples.iter().zip(together.chunks(wanted.len())) {
            for example in examples {
                for (all, alone) in found.iter().zip(run_parts(&[part(&[*example])])) {
                    let is = texts(all, "example").iter().map(|name| Some(name == example.0)).collect();
                    assert!(arrow::compute::filter_record_batch(all, &is).unwrap() == alone, "{model} {}", example.0);
                }
            }
        }
    }
}
