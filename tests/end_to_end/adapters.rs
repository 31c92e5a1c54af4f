//! Models that are an adapter on a base: what they give, what makes them stale, and what is said of one that cannot be used.

use safetensors::tensor::{Dtype, TensorView, serialize};
use serde_json::{Value, json};

use crate::workspace::{PIPELINE, Workspace, ran};

/// `PIPELINE` with the adapter as a third model.
fn workspace(entry: &str) -> Workspace {
    let workspace = Workspace::new();
    workspace.write("pipeline.toml", PIPELINE.replacen("[models]", &format!("[models]\ntuned = {entry}"), 1));
    workspace.write("models/tuned/adapter_config.json", config(|_| {}));
    workspace.write("models/tuned/adapter_model.safetensors", weights(0.25));
    workspace
}

pub fn config(change: impl Fn(&mut Value)) -> String {
    let mut config = json!({"peft_type": "LORA", "r": 2, "lora_alpha": 4, "target_modules": ["q_proj"],
        "layers_to_transform": [1], "base_model_name_or_path": "Someone/base", "bias": "none"});
    change(&mut config);
    config.to_string()
}

/// A and B of one block's queries, all of one value.
pub fn weights(of_b: f32) -> Vec<u8> {
    let values = |value: f32, count: usize| value.to_le_bytes().repeat(count);
    let (a, b) = (values(0.5, 2 * WIDTH), values(of_b, WIDTH * 2));
    let name = |matrix: &str| format!("base_model.model.model.layers.1.self_attn.q_proj.lora_{matrix}.weight");
    let of = |shape: [usize; 2], bytes| TensorView::new(Dtype::F32, shape.to_vec(), bytes).expect("a tensor");
    let tensors = [(name("A"), of([2, WIDTH], &a)), (name("B"), of([WIDTH, 2], &b))];
    serialize(tensors, None).expect("a file")
}

/// The golden model's hidden size.
const WIDTH: usize = 32;

/// The object behind a model's losses.
fn losses(workspace: &Workspace, model: &str) -> Vec<u8> {
    let folder = format!("token_losses/model={model}/dataset=one");
    let tables = workspace.tables().into_iter().filter(|(path, _)| path.starts_with(&folder));
    tables.flat_map(|(_, bytes)| bytes).collect()
}

#[test]
fn an_adapter_is_its_base_and_an_update_beside_it() {
    let workspace = workspace("{ path = \"models/tuned\", base = \"base\" }");
    workspace.run(&["token_losses"]);
    assert_ne!(losses(&workspace, "tuned"), losses(&workspace, "base"));
    // B = 0 changes nothing, to the last bit.
    workspace.write("models/tuned/adapter_model.safetensors", weights(0.0));
    workspace.run(&["token_losses"]);
    assert!(!losses(&workspace, "base").is_empty());
    assert_eq!(losses(&workspace, "tuned"), losses(&workspace, "base"));
    let mut names: Vec<_> = std::fs::read_dir(workspace.path("models/tuned")).expect("the folder").collect();
    names.retain(|entry| entry.is_ok());
    assert_eq!(names.len(), 2, "nothing is written beside an adapter");
}

#[test]
fn a_key_holds_the_bases_and_the_adapters_content() {
    let workspace = workspace("{ path = \"models/tuned\" }");
    let all = ran(&workspace.run(&["token_losses"]), "token_losses");
    let of_one = all / 3;
    assert_eq!(ran(&workspace.run(&["token_losses"]), "token_losses"), 0);
    workspace.write("models/tuned/adapter_config.json", config(|config| config["lora_alpha"] = json!(5)));
    let explained = workspace.ok(&["explain", "token_losses[tuned,one]"]);
    assert!(explained.contains("adapter_config.json"), "{explained}");
    assert_eq!(ran(&workspace.run(&["token_losses"]), "token_losses"), of_one);
    workspace.write("models/tuned/adapter_model.safetensors", weights(0.5));
    assert_eq!(ran(&workspace.run(&["token_losses"]), "token_losses"), of_one);
    // `base` was found by the name under which the adapter was trained on it.
    workspace.model("base", 2);
    assert_eq!(ran(&workspace.run(&["token_losses"]), "token_losses"), 2 * of_one);
}

#[test]
fn an_adapter_that_cannot_be_used_is_said_before_anything_runs() {
    let said = |entry: &str, change: &dyn Fn(&mut Value), words: &[&str]| {
        let workspace = workspace(entry);
        workspace.write("models/tuned/adapter_config.json", config(change));
        let text = workspace.fails(2, &["run"]);
        for word in words.iter().chain(&["pipeline.toml:3"]) {
            assert!(text.contains(word), "no {word:?} in:\n{text}");
        }
    };
    let on_base = "{ path = \"models/tuned\", base = \"base\" }";
    said(on_base, &|config| config["use_dora"] = json!(true), &["DoRA", "adapter_config.json"]);
    said(on_base, &|config| config["peft_type"] = json!("IA3"), &["\"IA3\""]);
    said(on_base, &|config| drop(config.as_object_mut().unwrap().remove("lora_alpha")), &["\"lora_alpha\""]);
    said(on_base, &|config| config["target_modules"] = json!(["q_prj"]), &["q_proj", "does not name"]);
    said(on_base, &|config| config["r"] = json!(3), &["[2, 32]", "[3, 32]", "Someone/base"]);
    said("{ path = \"models/tuned\", base = \"bse\" }", &|_| {}, &["unknown model \"bse\"", "did you mean \"base\"?"]);
    said(
        "{ path = \"models/tuned\", base = \"tuned\" }",
        &|_| {},
        &["\"tuned\" is an adapter itself", "merge_and_unload"],
    );
    let nowhere = |config: &mut Value| config["base_model_name_or_path"] = json!("Someone/another");
    said("{ path = \"models/tuned\" }", &nowhere, &["Someone/another", "base = \"MODEL\""]);
    said("{ path = \"models/base\", base = \"instruct\" }", &|_| {}, &["is no adapter", "adapter_config.json"]);
}
