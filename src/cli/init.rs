//! `strata init`

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::Args;
use strata_stages::STAGES;

use super::Outcome;
use super::say::say;
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
    pub fn execute(&self) -> Result<Outcome> {
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
        say!("{}: name your models and datasets in it, then run `strata run` there", pipeline.display());
        Ok(Outcome::Done)
    }
}

/// The analyses that a new pipeline asks for.
const ASKED: [&str; 7] = [
    "loss_summary",
    "projection_summary",
    "separation",
    "departure",
    "direction_similarity",
    "similarity_summary",
    "report",
];

/// The template, followed by every stage's keys with their defaults, commented out.
fn text() -> String {
    let mut text = HEAD.to_string();
    for stage in STAGES.iter().filter(|stage| !matches!(stage.name, "corpus" | "train")) {
        let head = if ASKED.contains(&stage.name) { "" } else { "#" };
        text.push_str(&format!("\n# {}\n{head}[stages.{}]\n", stage.about, stage.name));
        for setting in stage.settings {
            text.push_str(&format!("#{} = {}   # {}\n", setting.key, setting.default, setting.about));
        }
    }
    text
}
