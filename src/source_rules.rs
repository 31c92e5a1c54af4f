//! What the sources of the engine and the command line may not hold: a stage's name, since a stage declares what is asked
//! of it; a change to a store's files beside `store/disk.rs`, since a test makes each of those fail.

use std::fs;
use std::path::{Path, PathBuf};

use strata_stages::STAGES;

/// Files whose text is for tests, whole.
const TESTS: [&str; 6] =
    ["tests.rs", "concurrent_tests.rs", "crash_tests.rs", "damage_tests.rs", "testing.rs", "source_rules.rs"];
/// Spellings of a change to a file.
const WRITES: [&str; 7] =
    ["fs::write(", "fs::rename(", "fs::remove_", "fs::create_dir", "File::create", "OpenOptions", "fs::symlink("];
/// The store's only way to the disk; a new pipeline's files; a remote's folder; the Hugging Face cache.
const WRITERS: [&str; 5] = ["store/disk.rs", "store/faults.rs", "cli/init.rs", "remote.rs", "hub/cache.rs"];
/// Words of others that are stages' names too: what a dataset's split is called.
const OTHERS_WORDS: [(&str, &str); 1] = [("hub/split.rs", "train")];

fn sources(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).expect("a folder of sources") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            found.extend(sources(&path));
        } else if path.extension().is_some_and(|ending| ending == "rs")
            && !TESTS.iter().any(|name| path.ends_with(name))
        {
            found.push(path);
        }
    }
    found
}

/// The code of a file before its tests, without comments.
fn code(text: &str) -> String {
    let before_tests = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
    before_tests.lines().map(|line| line.split("//").next().unwrap_or_default()).collect::<Vec<_>>().join("\n")
}

/// Quoted names of stages in a file's code.
fn names(text: &str) -> Vec<&'static str> {
    let code = code(text);
    STAGES.iter().map(|stage| stage.name).filter(|name| code.contains(&format!("\"{name}\""))).collect()
}

fn all_sources() -> Vec<PathBuf> {
    let found = sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"));
    assert!(found.len() > 30, "{found:?}");
    found
}

#[test]
fn a_store_is_written_in_one_place() {
    for path in all_sources().into_iter().filter(|path| !WRITERS.iter().any(|name| path.ends_with(name))) {
        let code = code(&fs::read_to_string(&path).expect("text"));
        let found: Vec<&str> = WRITES.into_iter().filter(|write| code.contains(write)).collect();
        assert!(found.is_empty(), "{} has {found:?}: let `Disk` do it", path.display());
    }
}

#[test]
fn no_stage_is_spelled_in_the_engine_or_the_command_line() {
    for path in all_sources() {
        let mut found = names(&fs::read_to_string(&path).expect("text"));
        found.retain(|name| !OTHERS_WORDS.iter().any(|(file, word)| path.ends_with(file) && word == name));
        assert!(found.is_empty(), "{} spells {found:?}: let the stage declare what is asked of it", path.display());
    }
}

#[test]
fn a_spelled_stage_is_found_in_code_and_not_in_comments_or_tests() {
    assert_eq!(names("if stage == \"report\" {"), ["report"]);
    assert!(names("// \"report\"\nlet x = \"reports\";\n#[cfg(test)]\nmod tests {\n\"report\"").is_empty());
}
