//! `chat_template` of a model: where it comes from, and what is said of one that cannot be used.

use crate::workspace::{PIPELINE, Workspace, ran};

/// `PIPELINE` with this after the path of the model `base`, whose own template is removed.
fn workspace(more: &str) -> Workspace {
    let workspace = Workspace::new();
    let entry = format!("{{ path = \"models/base\"{more} }}");
    workspace.write("pipeline.toml", PIPELINE.replacen("{ path = \"models/base\" }", &entry, 1));
    let path = workspace.path("models/base/tokenizer_config.json");
    let text = std::fs::read_to_string(&path).expect("the configuration");
    let mut config: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    config.as_object_mut().expect("an object").remove("chat_template");
    workspace.write("models/base/tokenizer_config.json", config.to_string());
    let _ = std::fs::remove_file(workspace.path("models/base/chat_template.jinja"));
    workspace
}

fn tokens(workspace: &Workspace, model: &str) -> Vec<u8> {
    let folder = format!("tokens/model={model}/dataset=one");
    let tables = workspace.tables().into_iter().filter(|(path, _)| path.starts_with(&folder));
    tables.flat_map(|(_, bytes)| bytes).collect()
}

#[test]
fn a_base_model_borrows_a_template() {
    let workspace = workspace(", chat_template = \"model:instruct\"");
    workspace.run(&["tokens"]);
    assert!(!tokens(&workspace, "base").is_empty());
    assert_eq!(tokens(&workspace, "base"), tokens(&workspace, "instruct"));
}

#[test]
fn a_file_and_a_built_in_template_differ_and_a_changed_file_is_noticed() {
    let workspace = workspace(", chat_template = \"mine.jinja\"");
    workspace.write("mine.jinja", "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}");
    let all = ran(&workspace.run(&["tokens[base,*]"]), "tokens");
    let before = tokens(&workspace, "base");
    assert_eq!(ran(&workspace.run(&["tokens[base,*]"]), "tokens"), 0);
    workspace.write("mine.jinja", "{% for m in messages %}<{{ m.role }}> {{ m.content }}\n{% endfor %}");
    assert_eq!(ran(&workspace.run(&["tokens[base,*]"]), "tokens"), all);
    assert_ne!(tokens(&workspace, "base"), before);
    let mut seen = vec![before, tokens(&workspace, "base")];
    for name in ["chatml", "alpaca", "plain"] {
        let text = workspace.read("pipeline.toml");
        let (head, rest) = text.split_once("chat_template = \"").expect("the key");
        let (_, tail) = rest.split_once('"').expect("its end");
        workspace.write("pipeline.toml", format!("{head}chat_template = \"{name}\"{tail}"));
        assert_eq!(ran(&workspace.run(&["tokens[base,*]"]), "tokens"), all, "{name}");
        let now = tokens(&workspace, "base");
        assert!(!seen.contains(&now), "{name}");
        seen.push(now);
    }
}

#[test]
fn a_template_that_cannot_be_used_is_named() {
    let said = |more: &str, words: &[&str]| {
        let text = workspace(more).fails(2, &["run"]);
        for word in words.iter().chain(&["pipeline.toml:3"]) {
            assert!(text.contains(word), "no {word:?} in:\n{text}");
        }
    };
    said(", chat_template = \"chatlm\"", &["\"chatlm\"", "did you mean \"chatml\"?"]);
    said(", chat_template = \"nowhere.jinja\"", &["\"nowhere.jinja\"", "alpaca", "model:NAME"]);
    said(", chat_template = \"model:instrct\"", &["unknown model \"instrct\"", "did you mean \"instruct\"?"]);
    said(", chat_template = 3", &["in quotes"]);
    let text = workspace("").fails(1, &["run", "tokens"]);
    assert!(text.contains("has no chat template") && text.contains("model:NAME") && text.contains("chatml"), "{text}");
    let endless = workspace(", chat_template = \"endless.jinja\"");
    endless.write("endless.jinja", "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}");
    let text = endless.fails(1, &["run", "tokens[base,one]"]);
    assert!(text.contains("does not end"), "{text}");
}

#[test]
fn a_model_of_several_templates_is_asked_for_one_by_name() {
    let workspace = workspace(", chat_template = \"named:short\"");
    let path = "models/base/tokenizer_config.json";
    let mut config: serde_json::Value = serde_json::from_str(&workspace.read(path)).expect("JSON");
    let source = |start: &str| format!("{start}{{% for m in messages %}}{{{{ m.content }}}}\n{{% endfor %}}");
    config["chat_template"] = serde_json::json!([{ "name": "default", "template": source("") }, { "name": "short", "template": source("<") }]);
    workspace.write(path, config.to_string());
    let all = ran(&workspace.run(&["tokens[base,*]"]), "tokens");
    let of_the_list = tokens(&workspace, "base");
    // A file of that name comes before the list, and its text is in the key.
    let file = "models/base/additional_chat_templates/short.jinja";
    workspace.write(file, "{% for m in messages %}> {{ m.content }}\n{% endfor %}");
    assert_eq!(ran(&workspace.run(&["tokens[base,*]"]), "tokens"), all);
    assert_ne!(tokens(&workspace, "base"), of_the_list);
    workspace.write(file, "{% for m in messages %}>> {{ m.content }}\n{% endfor %}");
    assert_eq!(ran(&workspace.run(&["tokens[base,*]"]), "tokens"), all);
    let asked = |name: &str| {
        let text = workspace.read("pipeline.toml");
        let (head, rest) = text.split_once("chat_template = \"").expect("the key");
        let (_, tail) = rest.split_once('"').expect("its end");
        workspace.write("pipeline.toml", format!("{head}chat_template = \"named:{name}\"{tail}"));
    };
    asked("shrot");
    let error = workspace.fails(1, &["run", "tokens[base,*]"]);
    assert!(error.contains("no chat template is named \"shrot\"; did you mean \"short\"?"), "{error}");
    asked("../x");
    let error = workspace.fails(2, &["run"]);
    assert!(error.contains("is no name of a chat template") && error.contains("pipeline.toml:3"), "{error}");
}
