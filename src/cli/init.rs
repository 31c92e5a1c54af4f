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
    let value = stage.default_of(setting.key).or(setting.example.map(str::to_string)).unwrap_or_default();
    format!("#{before}{} = {value}   # {}\n", setting.key, setting.about)
}
