//! Models that cannot be passed say why, by file and name.

use std::collections::HashMap;
use std::path::Path;

use safetensors::tensor::{Dtype, TensorView};
use safetensors::{SafeTensors, serialize};
use serde_json::{Value, json};

use super::golden_tests::{reference, tokens_of, weights};
use super::pass::{PassTask, run};
use super::transformer::Transformer;
use crate::contract::node::Part;
use crate::testing::tables::TestTables;

type Tensors = HashMap<String, (Dtype, Vec<usize>, Vec<u8>)>;

/// The golden qwen2 with its tensors and configuration changed, in a folder of its own.
fn changed(folder: &Path, tensors: impl Fn(&mut Tensors), config: impl Fn(&mut Value)) -> Vec<Part> {
    let golden = weights("qwen2");
    let mut parts = Vec::new();
    for part in golden {
        let bytes = std::fs::read(&part.path).unwrap();
        let path = folder.join(&part.name);
        let bytes = if part.name == "config.json" {
            let mut value = serde_json::from_slice(&bytes).unwrap();
            config(&mut value);
            value.to_string().into_bytes()
        } else {
            let file = SafeTensors::deserialize(&bytes).unwrap();
            let mut all: Tensors = file
                .iter()
                .map(|(name, view)| (name.to_string(), (view.dtype(), view.shape().to_vec(), view.data().to_vec())))
                .collect();
            tensors(&mut all);
            let views = all.iter().map(|(name, (dtype, shape, data))| {
                (name.clone(), TensorView::new(*dtype, shape.clone(), data).unwrap())
            });
            serialize(views.collect::<HashMap<_, _>>(), None).unwrap()
        };
        std::fs::write(&path, bytes).unwrap();
        parts.push(Part { path, name: part.name });
    }
    parts
}

fn error(tensors: impl Fn(&mut Tensors), config: impl Fn(&mut Value)) -> String {
    let folder = tempfile::tempdir().unwrap();
    match Transformer::open(&changed(folder.path(), tensors, config)) {
        Ok(_) => panic!("the model was opened"),
        Err(error) => format!("{error:#}"),
    }
}

#[track_caller]
fn assert_says(text: &str, words: &[&str]) {
    assert!(words.iter().all(|word| text.contains(word)), "{text:?} does not hold all of {words:?}");
}

#[test]
fn a_missing_an_unused_and_a_misshapen_tensor_are_named() {
    let name = "model.layers.1.mlp.up_proj.weight";
    assert_says(&error(|tensors| drop(tensors.remove(name)), |_| ()), &[name, "no tensor"]);
    let more = |tensors: &mut Tensors| drop(tensors.insert("model.extra".into(), (Dtype::F32, vec![1], vec![0; 4])));
    assert_says(&error(more, |_| ()), &["\"model.extra\"", "model.safetensors", "not used"]);
    let fewer = |config: &mut Value| config["num_hidden_layers"] = json!(1);
    assert_says(&error(|_| (), fewer), &["model.layers.1.", "more", "not used"]);
    let wider = |config: &mut Value| config["intermediate_size"] = json!(64);
    assert_says(&error(|_| (), wider), &["gate_proj", "[48, 32]", "[64, 32]"]);
    let double = |tensors: &mut Tensors| {
        tensors.insert("model.norm.weight".into(), (Dtype::F64, vec![32], vec![0; 256]));
    };
    assert_says(&error(double, |_| ()), &["model.norm.weight", "F64", "BF16"]);
}

#[test]
fn a_head_beside_tied_embeddings_must_be_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let copy = |tensors: &mut Tensors| {
        tensors.insert("lm_head.weight".into(), tensors["model.embed_tokens.weight"].clone());
        let buffer = (Dtype::F32, vec![4], vec![0; 16]);
        tensors.insert("model.layers.0.self_attn.rotary_emb.inv_freq".into(), buffer);
    };
    assert!(Transformer::open(&changed(folder.path(), copy, |_| ())).is_ok());
    let other = |tensors: &mut Tensors| {
        copy(tensors);
        tensors.get_mut("lm_head.weight").unwrap().2[0] ^= 1;
    };
    assert_says(&error(other, |_| ()), &["lm_head.weight", "embed_tokens", "differs"]);
}

#[test]
fn a_file_cut_short_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let parts = changed(folder.path(), |_| (), |_| ());
    let file = parts.iter().find(|part| part.name == "model.safetensors").unwrap();
    let bytes = std::fs::read(&file.path).unwrap();
    for keep in [bytes.len() - 1, 1000, 4, 0] {
        std::fs::write(&file.path, &bytes[..keep]).unwrap();
        let Err(error) = Transformer::open(&parts) else { panic!("{keep} bytes were opened") };
        assert_says(&format!("{error:#}"), &["model.safetensors"]);
    }
    let Err(error) = Transformer::open(&parts[..0]) else { panic!("no files were opened") };
    assert_says(&format!("{error:#}"), &["config.json"]);
}

fn pass_error(tensors: impl Fn(&mut Tensors), config: impl Fn(&mut Value)) -> String {
    let (folder, tables) = (tempfile::tempdir().unwrap(), TestTables::new());
    let model = changed(folder.path(), tensors, config);
    let params = json!({ "positions": ["last"], "layers": [0, -1] });
    let tokens = tokens_of(&tables, "qwen2", &[0, 1]);
    let tasks =
        [PassTask { stage: &crate::states::hidden_states::STAGE, params: &params, tokens, tokenizer: Vec::new() }];
    let mut said = String::new();
    run(&model, &tasks, &|| false, &mut |_, outputs| said = format!("{:#}", outputs.unwrap_err())).unwrap();
    said
}

#[test]
fn a_token_beyond_the_vocabulary_names_id_example_and_size() {
    let smaller = |config: &mut Value| config["vocab_size"] = json!(3);
    let cut = |tensors: &mut Tensors| {
        let (_, shape, data) = tensors.get_mut("model.embed_tokens.weight").unwrap();
        shape[0] = 3;
        data.truncate(3 * 32 * 4);
    };
    assert_says(&pass_error(cut, smaller), &["example x0", "token id", "has 3 tokens"]);
}

#[test]
fn states_that_are_not_finite_name_layer_and_example() {
    let infinite = |tensors: &mut Tensors| {
        let (_, _, data) = tensors.get_mut("model.layers.1.mlp.down_proj.weight").unwrap();
        data[..4].copy_from_slice(&f32::NAN.to_le_bytes());
    };
    assert_says(&pass_error(infinite, |_| ()), &["example x0", "NaN", "layer 2", "residual"]);
}

#[test]
fn a_layer_that_is_not_there_is_the_tasks_own_error() {
    let tables = TestTables::new();
    let tokens = tokens_of(&tables, "qwen2", &[0]);
    let (good, bad) =
        (json!({ "positions": ["last"], "layers": [1] }), json!({ "positions": ["last"], "layers": [9] }));
    let task = |params| PassTask {
        stage: &crate::states::hidden_states::STAGE,
        params,
        tokens: tokens.clone(),
        tokenizer: Vec::new(),
    };
    let mut said = Vec::new();
    run(&weights("qwen2"), &[task(&bad), task(&good)], &|| false, &mut |index, outputs| {
        said.push((index, outputs.map(|_| ()).map_err(|error| error.to_string())));
    })
    .unwrap();
    assert_eq!(said.len(), 2);
    assert_says(said[0].1.as_ref().unwrap_err(), &["layer 9", "0 to 2"]);
    assert_eq!(said[1], (1, Ok(())));
}

/// Parts with the same prompts pass together.
#[test]
fn what_one_part_fails_at_does_not_fail_a_part_that_passes_with_it() {
    let conversations = reference("qwen2");
    let largest = |i: &usize| conversations[*i]["ids"].as_array().unwrap().iter().map(|id| id.as_u64().unwrap()).max();
    let fits = (0..conversations.len()).min_by_key(largest).unwrap();
    let does_not = (0..conversations.len()).max_by_key(largest).unwrap();
    let vocabulary = largest(&fits).unwrap() as usize + 1;
    assert!(largest(&does_not).unwrap() as usize >= vocabulary);
    let smaller = |config: &mut Value| config["vocab_size"] = json!(vocabulary);
    let cut = |tensors: &mut Tensors| {
        let (_, shape, data) = tensors.get_mut("model.embed_tokens.weight").unwrap();
        shape[0] = vocabulary;
        data.truncate(vocabulary * 32 * 4);
    };
    let (folder, tables) = (tempfile::tempdir().unwrap(), TestTables::new());
    let model = changed(folder.path(), cut, smaller);
    let params = json!({ "positions": ["last"], "layers": [-1] });
    let task = |chosen: &[usize]| PassTask {
        stage: &crate::states::hidden_states::STAGE,
        params: &params,
        tokens: tokens_of(&tables, "qwen2", chosen),
        tokenizer: Vec::new(),
    };
    let mut said = Vec::new();
    run(&model, &[task(&[fits]), task(&[fits, does_not])], &|| false, &mut |index, outputs| {
        said.push((index, outputs.map(|_| ()).map_err(|error| format!("{error:#}"))));
    })
    .unwrap();
    let [(0, Ok(())), (1, Err(error))] = said.as_slice() else { panic!("{said:?}") };
    assert_says(error, &[&format!("example x{does_not}"), "token id"]);
}
