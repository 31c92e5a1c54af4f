//! Keeps docs/ in step with the registry: what stages say of their settings and tables is what the files show.
//!
//! `UPDATE_DOCS=1 cargo test -p strata-stages documentation` rewrites the generated parts.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::path::PathBuf;

use serde_json::json;

use crate::STAGES;
use crate::contract::stage::Stage;
use crate::directions::directions::tests::pipeline;
use crate::text::dataset::reading::KEYS;
use crate::text::dataset::schema::SCHEMAS;

fn stage_keys(stage: &Stage) -> String {
    let mut text = String::from("| key | default | what it is |\n| --- | --- | --- |\n");
    for setting in stage.settings {
        let default = stage.default_of(setting.key).map(|default| format!("`{}`", escape(&default)));
        let _ = writeln!(text, "| `{}` | {} | {} |", setting.key, default.unwrap_or_default(), escape(setting.about));
    }
    text
}

fn dataset_keys() -> String {
    let mut text = String::from("| key | what it is |\n| --- | --- |\n");
    for setting in KEYS {
        let _ = writeln!(text, "| `{}` | {} |", setting.key, escape(setting.about));
    }
    text
}

fn escape(text: &str) -> String {
    text.replace('|', "\\|")
}

fn schemas() -> String {
    let mut text = String::from("| schema | what it stands for | for |\n| --- | --- | --- |\n");
    for schema in SCHEMAS {
        let keys = schema.keys();
        let keys: Vec<String> =
            keys.iter().map(|(key, value)| format!("`{key}` = `{}`", escape(&value.to_string()))).collect();
        let _ = writeln!(text, "| `{}` | {} | {} |", schema.name, keys.join(", "), escape(schema.about));
    }
    text
}

fn stages() -> String {
    let mut text = String::new();
    for stage in STAGES {
        let _ = write!(text, "### `[stages.{}]`\n\n{}\n\n", stage.name, stage.about);
        match stage.settings {
            [] => text.push_str("It has no keys.\n\n"),
            _ => text.push_str(&(stage_keys(stage) + "\n")),
        }
    }
    text.trim_end().to_string() + "\n"
}

fn tables() -> String {
    let mut text = String::new();
    for (stage, table) in STAGES.iter().filter_map(|stage| Some((stage, stage.table()?))) {
        let _ = write!(
            text,
            "### {}\n\n{}\n\n| column | type | what it is |\n| --- | --- | --- |\n",
            table.name, stage.about
        );
        for folder in table.folders {
            let _ = writeln!(text, "| `{}` | folder | {} |", folder.name, escape(folder.about));
        }
        for column in table.columns {
            let _ = writeln!(text, "| `{}` | {:?} | {} |", column.name, column.kind, escape(column.about));
        }
        text.push('\n');
    }
    text.trim_end().to_string() + "\n"
}

/// The text with the part between `<!-- generated: NAME -->` and the next `<!-- end -->` replaced.
fn with_part(text: &str, name: &str, part: &str) -> String {
    let open = format!("<!-- generated: {name} -->\n");
    let start = text.find(&open).unwrap_or_else(|| panic!("no {open}")) + open.len();
    let end = start + text[start..].find("<!-- end -->").expect("a generated part ends with <!-- end -->");
    format!("{}{part}{}", &text[..start], &text[end..])
}

fn check(file: &str, parts: &[(&str, String)]) {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../docs").join(file);
    let found = std::fs::read_to_string(&path).expect("docs are beside the stages");
    let expected = parts.iter().fold(found.clone(), |text, (name, part)| with_part(&text, name, part));
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(&path, expected).expect("docs can be written");
        return;
    }
    let differing = found.lines().zip(expected.lines()).find(|(found, expected)| found != expected);
    assert!(
        found == expected,
        "docs/{file} is not what the stages say: {differing:?}; run this test with UPDATE_DOCS=1"
    );
}

#[test]
fn documented_keys_are_the_settings_fields() {
    for stage in STAGES {
        let documented: BTreeSet<&str> = stage.settings.iter().map(|setting| setting.key).collect();
        assert_eq!(documented.len(), stage.settings.len(), "{}: a key is documented twice", stage.name);
        let defaults = (stage.defaults)();
        let fields = defaults.as_object().expect("settings are a table").keys().map(String::as_str);
        assert_eq!(documented, fields.collect(), "{}", stage.name);
        for setting in stage.settings {
            let default = stage.default_of(setting.key);
            assert_ne!(
                default.is_some(),
                setting.example.is_some(),
                "{}.{} needs either a default or an example",
                stage.name,
                setting.key
            );
        }
    }
}

#[test]
fn folders_are_the_bindings_of_the_nodes() {
    let pipeline = pipeline(&["base", "instruct"], &["d", "e"]);
    for (stage, table) in STAGES.iter().filter_map(|stage| Some((stage, stage.table()?))) {
        let nodes = (stage.plan)(&json!({}), &pipeline).expect(stage.name);
        assert!(!nodes.is_empty(), "{} plans no node", stage.name);
        let folders: Vec<&str> = table.folders.iter().map(|folder| folder.name).collect();
        for node in nodes {
            let names: Vec<&str> = node.bindings.iter().map(|(name, _)| *name).collect();
            assert_eq!(names, folders, "{}", stage.name);
        }
        let inside = table.columns.iter().find(|column| folders.contains(&column.name));
        assert!(inside.is_none(), "{}: {inside:?} is a folder and a column", table.name);
    }
}

#[test]
fn every_setting_and_schema_is_documented() {
    check("pipeline.md", &[("dataset keys", dataset_keys()), ("schemas", schemas()), ("stages", stages())]);
}

#[test]
fn every_table_is_documented() {
    check("tables.md", &[("tables", tables())]);
}
