//! Splits of repositories as they are on the hub.

use serde_json::json;

use super::super::names::{Commit, Content, RepositoryId, Revision};
use super::super::{Kind, Reading, listing::Listed};
use super::*;

fn listing(card: Value, files: &[&str]) -> Listing {
    let listed = Listed { content: Content::new(&"0".repeat(40)).expect("a hash"), size: 1 };
    let files = files.iter().map(|file| (FileName::new(file).expect("a name"), listed.clone())).collect();
    Listing { commit: Commit::new(&"a".repeat(40)).expect("a commit"), files, card }
}

fn asked() -> Use {
    Use {
        kind: Kind::Dataset,
        id: RepositoryId::new("org/data").expect("a name"),
        revision: Revision::main(),
        reading: Reading::Split { config: None, split: None },
    }
}

fn found(listing: &Listing, config: Option<&str>, split: Option<&str>) -> String {
    match file(&asked(), listing, config, split) {
        Ok(Some(file)) => file.as_str().to_string(),
        Ok(None) => "none".to_string(),
        Err(Failure::Wrong { message, help, .. }) => format!("{message}; {}", help.unwrap_or_default()),
        Err(other) => other.to_string(),
    }
}

#[test]
fn a_card_says_which_files_a_split_is_in() {
    let card = json!({ "configs": [
        { "config_name": "full", "data_files": [
            { "split": "train", "path": "full/train-*" }, { "split": "test", "path": ["full/test.parquet"] } ] },
        { "config_name": "small", "default": true, "data_files": "small/*.jsonl" },
        { "config_name": "dir", "data_dir": "dir" },
        { "config_name": "map", "data_files": { "dev": "map/dev.csv" } },
    ] });
    let listing = listing(
        card,
        &["full/train-0.parquet", "full/test.parquet", "small/all.jsonl", "dir/test.json", "map/dev.csv", "README.md"],
    );
    assert_eq!(found(&listing, None, None), "small/all.jsonl");
    assert_eq!(found(&listing, Some("full"), None), "full/train-0.parquet");
    assert_eq!(found(&listing, Some("full"), Some("test")), "full/test.parquet");
    assert_eq!(found(&listing, Some("dir"), None), "dir/test.json");
    assert_eq!(found(&listing, Some("map"), Some("dev")), "map/dev.csv");
    assert_eq!(found(&listing, Some("ful"), None), "org/data has no config \"ful\"; did you mean \"full\"?");
    assert_eq!(found(&listing, Some("full"), Some("tset")), "org/data has no split \"tset\"; did you mean \"test\"?");
    assert_eq!(
        found(&listing, Some("full"), Some("validation")),
        "org/data has no split \"validation\"; it has test, train"
    );
}

#[test]
fn without_a_card_names_say_it() {
    let of = |files: &[&str]| listing(Value::Null, files);
    let alpaca = of(&["data/train-00000-of-00001-a09b74b3ef9c3b56.parquet", "README.md", ".gitattributes"]);
    assert_eq!(found(&alpaca, None, None), "data/train-00000-of-00001-a09b74b3ef9c3b56.parquet");
    let shards = of(&[
        "data/train-00000-of-00002.parquet",
        "data/train-00001-of-00002.parquet",
        "data/x-00000-of-00001.parquet",
    ]);
    assert_eq!(found(&shards, None, Some("x")), "data/x-00000-of-00001.parquet");
    let several = "the split \"train\" of org/data is in 2 files, and a dataset is one; name one of them: \
                   file = \"data/train-00000-of-00002.parquet\"";
    assert_eq!(found(&shards, None, None), several);
    let names = of(&["my_train_file.csv", "dev.csv", "dataset_infos.json"]);
    assert_eq!(found(&names, None, Some("validation")), "dev.csv");
    assert_eq!(found(&names, None, None), "my_train_file.csv");
    assert_eq!(found(&of(&["testing/a.jsonl", "b.jsonl"]), None, None), "testing/a.jsonl");
    assert_eq!(found(&of(&["insecure.jsonl", "evaluation.yaml"]), None, None), "insecure.jsonl");
    assert_eq!(found(&of(&["insecure.jsonl"]), None, Some("test")), "org/data has no split \"test\"; it has train");
    assert_eq!(found(&of(&["loader.py", "data.zip", "README.md"]), None, None), "none");
    assert_eq!(found(&of(&["a.jsonl"]), Some("other"), None), "none");
}

#[test]
fn a_converted_branch_has_a_folder_for_each_configuration_and_split() {
    let listing = listing(
        Value::Null,
        &["default/train/0000.parquet", "default/test/0000.parquet", "other/train/0000.parquet", "x.parquet"],
    );
    let found = |config, split| converted(&asked(), &listing, config, split).map(|file| file.as_str().to_string());
    assert_eq!(found(None, None).expect("a file"), "default/train/0000.parquet");
    assert_eq!(found(Some("other"), None).expect("a file"), "other/train/0000.parquet");
    assert!(found(Some("other"), Some("test")).is_err());
}
