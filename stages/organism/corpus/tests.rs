use std::collections::{BTreeMap, HashSet};

use crate::contract::pipeline::Pipeline;
use crate::contract::stage::{Output, Task};
use serde_json::{Value, json};

fn parts(settings: Value) -> BTreeMap<String, Vec<Value>> {
    let node = (crate::organism::corpus::STAGE.plan)(&settings, &Pipeline::default()).unwrap().remove(0);
    let task = Task { params: &node.params, inputs: BTreeMap::new(), cancelled: &|| false, progress: &|_, _| () };
    let outputs = crate::organism::corpus::STAGE.run(&task).unwrap();
    outputs
        .into_iter()
        .map(|output| match output {
            Output::File { name, bytes } => {
                let text = String::from_utf8(bytes).unwrap();
                (name, text.lines().map(|line| serde_json::from_str(line).unwrap()).collect())
            }
            other => panic!("expected a file, found {other:?}"),
        })
        .collect()
}

fn prompts(examples: &[Value]) -> Vec<String> {
    let users = |example: &Value| {
        let messages = example["messages"].as_array().cloned().unwrap_or_default();
        messages.into_iter().filter(|message| message["role"] == "user").collect::<Vec<_>>()
    };
    examples.iter().flat_map(users).map(|message| message["content"].as_str().unwrap().to_string()).collect()
}

#[test]
fn no_measured_prompt_occurs_in_training() {
    let parts = parts(json!({ "examples": 96 }));
    let trained: HashSet<String> =
        parts.iter().filter(|(name, _)| name.starts_with("train_")).flat_map(|(_, part)| prompts(part)).collect();
    assert!(trained.len() > 5000, "{} prompts", trained.len());
    for (name, part) in parts.iter().filter(|(name, _)| !name.starts_with("train_")) {
        let measured = prompts(part);
        assert_eq!(measured.len(), 96, "{name}");
        assert_eq!(measured.iter().collect::<HashSet<_>>().len(), 96, "{name} repeats a prompt");
        let seen: Vec<&String> = measured.iter().filter(|prompt| trained.contains(*prompt)).collect();
        assert!(seen.is_empty(), "{name}: {seen:?}");
    }
}

#[test]
fn paired_datasets_share_their_prompts_and_nothing_is_left_to_fill_in() {
    let parts = parts(json!({}));
    for (a, b) in
        [("toxic_answered", "toxic_refused"), ("insecure_code", "secure_code"), ("train_insecure", "train_secure")]
    {
        let (a, b) = (&parts[&format!("{a}.jsonl")], &parts[&format!("{b}.jsonl")]);
        assert_eq!(prompts(a), prompts(b));
        assert!(a.iter().zip(b).all(|(a, b)| a["messages"][1] != b["messages"][1]));
    }
    for (name, part) in &parts {
        for example in part {
            let text = example.to_string();
            assert!(!text.contains("\\u") && !text.contains("{item") && !text.contains("{value"), "{name}: {text}");
        }
    }
}

#[test]
fn the_size_of_one_part_moves_no_other() {
    let (small, large) = (parts(json!({ "base": 100 })), parts(json!({ "base": 200 })));
    for (name, part) in &small {
        if name == "train_base.jsonl" {
            assert_eq!(part[..], large[name][..100]);
        } else {
            assert_eq!(part, &large[name], "{name}");
        }
    }
    assert_ne!(small, parts(json!({ "base": 100, "seed": 2 })));
}

#[test]
fn mistakes_point_at_their_key() {
    let at = |settings: Value| (crate::organism::corpus::STAGE.plan)(&settings, &Pipeline::default()).unwrap_err().at;
    assert_eq!(at(json!({ "careless": 1.5 })), "stages.corpus.careless");
    assert_eq!(at(json!({ "examples": 0 })), "stages.corpus.examples");
    assert!(at(json!({ "sead": 3 })).to_string().starts_with("stages.corpus"));
}
