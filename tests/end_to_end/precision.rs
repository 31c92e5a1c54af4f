//! A model's precision is part of what its passes compute and of their keys.

use crate::workspace::{PIPELINE, Workspace, ran};

/// `PIPELINE` with the base's directory as a third model, in this precision.
fn workspace(precision: &str) -> Workspace {
    let workspace = Workspace::new();
    write(&workspace, precision);
    workspace
}

fn write(workspace: &Workspace, precision: &str) {
    let entry = format!("[models]\nagain = {{ path = \"models/base\", precision = {precision} }}");
    workspace.write("pipeline.toml", PIPELINE.replacen("[models]", &entry, 1));
}

/// The bytes of a model's losses.
fn losses(workspace: &Workspace, model: &str) -> Vec<u8> {
    let folder = format!("token_losses/model={model}/dataset=one");
    let tables = workspace.tables().into_iter().filter(|(path, _)| path.starts_with(&folder));
    tables.flat_map(|(_, bytes)| bytes).collect()
}

#[test]
fn the_precision_is_in_the_key_and_in_the_numbers() {
    let workspace = workspace("\"bf16\"");
    workspace.run(&["token_losses"]);
    let base = losses(&workspace, "base");
    assert!(!base.is_empty());
    assert_ne!(losses(&workspace, "again"), base);
    // The default said in words is the default, and the base's results are the model's.
    write(&workspace, "\"f32\"");
    assert_eq!(ran(&workspace.run(&["token_losses"]), "token_losses"), 0);
    assert_eq!(losses(&workspace, "again"), base);
    // The files are f32.
    write(&workspace, "\"auto\"");
    assert!(ran(&workspace.run(&["token_losses"]), "token_losses") > 0, "what auto finds is known when it runs");
    assert_eq!(losses(&workspace, "again"), base);
}

#[test]
fn another_precision_is_an_error() {
    let said = |precision: &str, words: &[&str]| {
        let text = workspace(precision).fails(2, &["run"]);
        for word in words.iter().chain(&["pipeline.toml:3"]) {
            assert!(text.contains(word), "no {word:?} in:\n{text}");
        }
    };
    said("\"bf61\"", &["unknown precision \"bf61\"", "did you mean \"bf16\"?"]);
    said("16", &["expected one of f32, bf16, auto, found 16"]);
}
