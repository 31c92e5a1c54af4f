//! The engine and the command line know stages by what they declare, not by their names.

use std::fs;
use std::path::{Path, PathBuf};

use strata_stages::STAGES;

/// Files whose text is for tests, whole.
const TESTS: [&str; 4] = ["tests.rs", "crash_tests.rs", "testing.rs", "stage_names.rs"];
/// The estimate, which is on its way to where the costs are known.
const MOVING: [&str; 2] = ["cli/estimate.rs", "cli/expected_text.rs"];

fn sources(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).expect("a folder of sources") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            found.extend(sources(&path));
        } else if path.extension().is_some_and(|ending| ending == "rs")
            && !TESTS.iter().chain(&MOVING).any(|name| path.ends_with(name))
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

#[test]
fn no_stage_is_spelled_in_the_engine_or_the_command_line() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let files = sources(&root);
    assert!(files.len() > 30, "{files:?}");
    for path in files {
        let found = names(&fs::read_to_string(&path).expect("text"));
        assert!(found.is_empty(), "{} spells {found:?}: let the stage declare what is asked of it", path.display());
    }
}

#[test]
fn a_spelled_stage_is_found_in_code_and_not_in_comments_or_tests() {
    assert_eq!(names("if stage == \"report\" {"), ["report"]);
    assert!(names("// \"report\"\nlet x = \"reports\";\n#[cfg(test)]\nmod tests {\n\"report\"").is_empty());
}
