//! Adapters against what peft computes (tests/golden/adapters.py), and those that are refused.
//!
//! With `-- --nocapture` the largest deviation of each is printed as a row of docs/accuracy.md.

use serde_json::{Map, Value, json};

use crate::model::families_tests::{deviations, too_far};
use crate::model::test_model::TestModel;
use crate::model::transformer::Transformer;

fn golden() -> Map<String, Value> {
    serde_json::from_str(include_str!("../../../tests/golden/adapters.json")).unwrap()
}

fn tensors(golden: &Value) -> Vec<(&str, Vec<usize>, &str)> {
    let tensors = golden["tensors"].as_object().unwrap().iter();
    let shape =
        |of: &Value| of["shape"].as_array().unwrap().iter().map(|size| size.as_u64().unwrap() as usize).collect();
    tensors.map(|(name, of)| (name.as_str(), shape(of), of["of"].as_str().unwrap())).collect()
}

#[test]
fn adapters_are_those_of_peft() {
    let mut wrong = Vec::new();
    for (name, golden) in &golden() {
        let mut model = TestModel::of(&golden["config"]);
        model.add_adapter(&golden["adapter"], &tensors(golden));
        wrong.extend(too_far(name, deviations(&model.open(), golden)));
    }
    assert!(wrong.is_empty(), "states, log-probabilities, entropies, norms, cosines:\n{}", wrong.join("\n"));
}

/// The error with one of the golden adapters changed.
fn error(name: &str, change: impl Fn(&mut Value, &mut Vec<(&str, Vec<usize>, &str)>)) -> String {
    let golden = &golden()[name];
    let mut config = golden["adapter"].clone();
    let mut tensors = tensors(golden);
    change(&mut config, &mut tensors);
    let mut model = TestModel::of(&golden["config"]);
    model.add_adapter(&config, &tensors);
    match Transformer::open_on(&model.parts, candle_core::Device::Cpu) {
        Ok(_) => panic!("{name} opened"),
        Err(error) => format!("{error:#}"),
    }
}

fn assert_names(error: &str, words: &[&str]) {
    for word in words {
        assert!(error.contains(word), "{word:?} is not in: {error}");
    }
}

#[test]
fn what_a_config_asks_for_and_is_not_computed_is_named() {
    let with = |key: &str, value: Value| error("llama", |config, _| config[key] = value.clone());
    assert_names(&with("peft_type", json!("IA3")), &["adapter_config.json", "\"IA3\"", "LORA"]);
    assert_names(&with("lora_alpha", Value::Null), &["\"lora_alpha\"", "scaled"]);
    assert_names(&with("r", json!(null)), &["\"r\""]);
    assert_names(&with("use_dora", json!(true)), &["DoRA", "merge_and_unload"]);
    assert_names(&with("init_lora_weights", json!("pissa_niter_4")), &["pissa_niter_4", "path_initial_model"]);
    assert_names(&with("trainable_token_indices", json!([1, 2])), &["trainable_token_indices"]);
    assert_names(&with("layer_replication", json!([[0, 2]])), &["layer_replication"]);
    assert_names(&with("a_key_of_next_year", json!(3)), &["a_key_of_next_year"]);
    assert_names(&with("target_modules", json!("(q_proj")), &["target_modules", "regular expression"]);
    assert_names(&with("target_modules", Value::Null), &["target_modules"]);
}

#[test]
fn patterns_that_match_nothing_are_named_with_the_nearest() {
    let with = |key: &str, value: Value| error("llama", |config, _| config[key] = value.clone());
    let text = with("target_modules", json!(["q_proj", "v_proj", "gate_prj"]));
    assert_names(&text, &["target_modules", "\"gate_prj\"", "\"gate_proj\""]);
    assert_names(&with("rank_pattern", json!({"k_proj": 4})), &["rank_pattern", "\"k_proj\""]);
    assert_names(&with("alpha_pattern", json!({"q_prj": 4})), &["alpha_pattern", "\"q_prj\"", "\"q_proj\""]);
    assert_names(&with("modules_to_save", json!(["lm_head"])), &["modules_to_save", "\"lm_head\""]);
    assert_names(&with("target_modules", json!("nothing.*")), &["q_proj", "does not name"]);
}

#[test]
fn an_adapter_that_does_not_fit_its_base_is_named() {
    const A: &str = "base_model.model.model.layers.1.self_attn.q_proj.lora_A.weight";
    const B: &str = "base_model.model.model.layers.1.self_attn.q_proj.lora_B.weight";
    let narrow = error("llama", |config, tensors| {
        config["base_model_name_or_path"] = json!("other/model");
        tensors.iter_mut().find(|(name, ..)| *name == A).unwrap().1 = vec![4, 20];
    });
    assert_names(&narrow, &[A, "[4, 20]", "[4, 16]", "other/model"]);
    let deep = error("llama", |_, tensors| {
        let of = "base_model.model.model.layers.7.self_attn.q_proj.lora_A.weight";
        tensors.push((of, vec![4, 16], of));
    });
    assert_names(&deep, &["layers.7.self_attn.q_proj", "does not have"]);
    let cut = error("llama", |_, tensors| tensors.retain(|(name, ..)| !name.contains("layers.1.self_attn.q_proj")));
    assert_names(&cut, &["layers.1.self_attn.q_proj", "holds no update"]);
    let half = error("llama", |_, tensors| tensors.retain(|(name, ..)| *name != B));
    assert_names(&half, &["layers.1.self_attn.q_proj", "matrix B"]);
    let rank = error("llama", |config, _| config["r"] = json!(5));
    assert_names(&rank, &["[4, 16]", "[5, 16]"]);
    let magnitude = error("llama", |_, tensors| {
        let of = "base_model.model.model.layers.1.self_attn.q_proj.lora_magnitude_vector";
        tensors.push((of, vec![16], of));
    });
    assert_names(&magnitude, &["lora_magnitude_vector", "not supported"]);
    let score = error("llama", |_, tensors| tensors.push(("base_model.model.score.weight", vec![2, 16], "x")));
    assert_names(&score, &["score.weight", "not used"]);
}

/// The update is beside the weights and not in them: W is where the base's file is.
#[test]
fn the_weights_stay_those_of_the_base() {
    let golden = &golden()["llama"];
    let base = TestModel::of(&golden["config"]);
    let mut tuned = TestModel::of(&golden["config"]);
    tuned.add_adapter(&golden["adapter"], &tensors(golden));
    let (base, tuned) = (base.open(), tuned.open());
    let modules = base.program.modules.iter().zip(base.block(1).modules).zip(tuned.block(1).modules);
    for ((module, of_base), of_tuned) in modules {
        assert_eq!(of_base.weight.values.to_f32(), of_tuned.weight.values.to_f32(), "{}", module.name);
        assert!(of_base.update.is_none());
        assert_eq!(of_tuned.update.is_some(), ["self_attn.q_proj", "self_attn.v_proj"].contains(&&*module.name));
    }
}
