//! `name = "…"` at the top of pipeline.toml: what the pipeline is called in a store that others use too.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;

use serde_json::Value;
use strata_stages::PlanError;
use strata_stages::contract::pipeline::check_folder_name;
use strata_stages::contract::toml_path::TomlPath;
use toml_edit::Document;

pub const NAME: &str = "name";

/// What the pipeline whose tables lie at the top of its own store is called there.
const TAKEN: &str = "own";

/// # Errors
/// When the value cannot be a folder's name, or is a name that stores use themselves.
pub fn check(at: &TomlPath, value: &Value) -> Result<(), PlanError> {
    let Some(name) = value.as_str() else {
        return Err(PlanError::new(at.clone(), format!("expected a name in quotes, found {value}")));
    };
    check_folder_name(at, name)?;
    if name == TAKEN {
        return Err(PlanError::new(at.clone(), format!("a store calls a pipeline beside it \"{TAKEN}\""))
            .help("choose another name"));
    }
    Ok(())
}

/// The name that a pipeline file gives itself; none where it gives none or cannot be read, which `Manifest` says. Only what stands
/// above the first table is read, so that a run with nothing to do need not parse ten thousand datasets.
pub fn of_file(path: &Path) -> Option<String> {
    const LONGEST: u64 = 1 << 16;
    if !path.is_file() {
        return None;
    }
    let mut top = String::new();
    for line in BufReader::new(File::open(path).ok()?.take(LONGEST)).lines() {
        let line = line.ok()?;
        if line.trim_start().starts_with('[') {
            break;
        }
        top.push_str(&line);
        top.push('\n');
    }
    // What is written over several lines may hold a bracket; the line of the name is one by itself.
    let name = |text: &str| Some(Document::parse(text.to_string()).ok()?.get(NAME)?.as_str()?.to_string());
    let name = name(&top).or_else(|| top.lines().find_map(name))?;
    check(&TomlPath::default(), &Value::from(name.as_str())).is_ok().then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_stands_above_the_first_table() {
        let folder = tempfile::tempdir().expect("a folder");
        let of = |text: &str| {
            let path = folder.path().join("pipeline.toml");
            std::fs::write(&path, text).expect("written");
            of_file(&path)
        };
        assert_eq!(of("# a comment\nname = \"mine\" # of two\n\n[models]\n").as_deref(), Some("mine"));
        assert_eq!(of("name = 'mine'\ntrust = [\n[\"a\"]\n]\n").as_deref(), Some("mine"));
        for none in
            ["[models]\nname = \"mine\"\n", "name = \"../up\"\n", "name = \"own\"\n", "name = 3\n", "name = ", ""]
        {
            assert_eq!(of(none), None, "{none}");
        }
        assert_eq!(of_file(&folder.path().join("absent")), None);
    }
}
