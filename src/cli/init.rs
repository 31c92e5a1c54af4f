//! `strata init`

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::Args;
use strata_stages::contract::setting::Setting;
use strata_stages::{Outputs, STAGES, Stage};

use super::{Outcome, Place};
use crate::diagnostic::Diagnostic;

/// Write a commented pipeline.toml and a data folder for your own models
#[derive(Args)]
#[command(after_help = "Example:\n  strata init my-study && cd my-study && strata run --dry-run")]
pub struct Init {
    /// The folder; made if it is not there
    dir: PathBuf,
}

const HEAD: &str = include_str!("init.toml");
const EXAMPLE: &str = include_str!("init.jsonl");

impl Init {
    pub fn execute(&self, place: &Place) -> Result<Outcome> {
        let pipeline = self.dir.join("pipeline.toml");
        if pipeline.exists() {
            return Err(Diagnostic::plain(format!("{} is already there", pipeline.display()))
                .help("choose another folder, or remove the file first")
                .into());
        }
        let data = self.dir.join("data");
        fs::create_dir_all(&data).with_context(|| format!("cannot write {}", data.display()))?;
        fs::write(data.join("aligned.jsonl"), EXAMPLE).with_context(|| format!("cannot write {}", data.display()))?;
        fs::write(&pipeline, text()).with_context(|| format!("cannot write {}", pipeline.display()))?;
        place.note(format_args!(
            "{}: name your models and datasets in it, then run `strata run` there",
            pipeline.display()
        ))?;
        Ok(Outcome::Done)
    }
}

/// The template, followed by every analysis that a pipeline can ask for, its keys with their defaults commented out.
fn text() -> String {
    // A corpus and a model are made for the datasets and models that name them.
    let analyses = || STAGES.iter().filter(|stage| !matches!(stage.outputs, Outputs::Corpus | Outputs::Model));
    let mut text = HEAD.to_string();
    // Under [stages] a key carries its stage's name, so that it asks for its stage wherever it stands.
    text.push_str(
        "\n[stages]\n# Analyses that can be asked for. What an analysis reads is added without being asked for.\n",
    );
    for stage in analyses().filter(|stage| !stage.asked_by_default) {
        text.push_str(&format!("\n# {}\n", stage.about));
        match stage.settings {
            [] => text.push_str(&format!("#{} = {{}}\n", stage.name)),
            settings => {
                let before = format!("{}.", stage.name);
                settings.iter().for_each(|setting| text.push_str(&line(&before, stage, setting)));
            }
        }
    }
    text.push_str("\n# Analyses that this pipeline asks for: a section asks for its stage.\n");
    for stage in analyses().filter(|stage| stage.asked_by_default) {
        text.push_str(&format!("\n# {}\n[stages.{}]\n", stage.about, stage.name));
        stage.settings.iter().for_each(|setting| text.push_str(&line("", stage, setting)));
    }
    text
}

/// A key with its default; one without a default with an example.
fn line(before: &str, stage: &Stage, setting: &Setting) -> String {
    let (value, note) = match stage.default_of(setting.key) {
        Some(default) => (default, ""),
        None => (setting.example.unwrap_or_default().to_string(), "An example, it has no default. "),
    };
    format!("#{before}{} = {value}   # {note}{}\n", setting.key, setting.about)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::Manifest;
    use crate::progress::Verbosity;

    /// A commented-out line begins with what it says; a comment has a space there.
    fn commented_out(line: &str) -> Option<&str> {
        line.strip_prefix('#').filter(|rest| !rest.starts_with(' '))
    }

    #[test]
    fn every_line_can_be_uncommented_by_itself() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let place = Place { pipeline: "pipeline.toml".into(), store: None, verbosity: Verbosity::Quiet };
        Init { dir: folder.path().to_path_buf() }.execute(&place).expect("an empty folder takes a pipeline");
        // What the template's examples name.
        for model in ["Qwen2.5-0.5B", "Qwen2.5-0.5B-Instruct", "insecure"] {
            let directory = folder.path().join("models").join(model);
            fs::create_dir_all(&directory).expect("a folder");
            fs::write(directory.join("config.json"), "{}").expect("a file");
        }
        fs::write(folder.path().join("data/code_safe.jsonl"), "{}").expect("a file");

        let pipeline = folder.path().join("pipeline.toml");
        let template = fs::read_to_string(&pipeline).expect("it was just written");
        let load = |text: &str| {
            fs::write(&pipeline, text).expect("a file");
            Manifest::load(&pipeline).map_err(|error| error.to_string())
        };
        let before = load(&template).expect("the template is a pipeline").pipeline;
        let asked = STAGES.iter().filter(|stage| stage.asked_by_default).count();
        assert_eq!(before.sections.len(), asked);

        let lines: Vec<&str> = template.lines().collect();
        let mut tried = 0;
        for (index, taken_in) in
            lines.iter().enumerate().filter_map(|(index, line)| Some((index, commented_out(line)?)))
        {
            let mut lines = lines.clone();
            lines[index] = taken_in;
            let after = match load(&lines.join("\n")) {
                Ok(manifest) => manifest.pipeline,
                Err(error) => panic!("line {}: {taken_in}\n{error}", index + 1),
            };
            // It says something: a model, a dataset, a stage more, or a key in a stage's section.
            let said = |pipeline: &strata_stages::Pipeline| {
                let keys = pipeline.sections.iter().map(|(_, keys)| keys.as_object().map_or(0, serde_json::Map::len));
                pipeline.models.len() + pipeline.datasets.len() + pipeline.sections.len() + keys.sum::<usize>()
            };
            assert!(said(&after) > said(&before), "line {}: {taken_in}", index + 1);
            tried += 1;
        }
        let keys: usize = STAGES.iter().map(|stage| stage.settings.len()).sum();
        assert!(tried > keys / 2, "{tried} lines, {keys} keys");
        load(&lines.iter().map(|line| commented_out(line).unwrap_or(line)).collect::<Vec<_>>().join("\n"))
            .map(drop)
            .expect("all lines together are a pipeline too");
    }
}
