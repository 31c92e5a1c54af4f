//! What was found: faults, which would stop a run, and doubts, which would not.

use std::collections::BTreeSet;

use anyhow::Result;
use strata_stages::PlanError;
use strata_stages::contract::toml_path::{Segment, TomlPath};

use crate::cli::Outcome;
use crate::cli::say::say;
use crate::manifest::Manifest;

#[derive(Default)]
pub struct Findings {
    faults: Vec<PlanError>,
    doubts: Vec<PlanError>,
    /// Models whose template or tokenizer failed on an example, which was said.
    pub cannot_read: BTreeSet<String>,
}

impl Findings {
    /// A fault, unless it only follows from one that is known: a name of what was left out for its own fault, or the same again.
    pub fn fault(&mut self, fault: PlanError) {
        let repeats = |known: &PlanError| known.at == fault.at && known.message == fault.message;
        let empty = fault.at.is_root() && !self.faults.is_empty();
        if !empty && !self.faults.iter().any(repeats) && !self.follows(&fault) {
            self.faults.push(fault);
        }
    }

    pub fn doubt(&mut self, at: TomlPath, text: String) {
        self.doubts.push(PlanError::new(at, text));
    }

    /// What a reader said of a model or dataset. What it advises, after a semicolon, is the help.
    pub fn of_reader(&mut self, at: TomlPath, error: &anyhow::Error) {
        if let Some(mistake) = error.downcast_ref::<PlanError>() {
            return self.fault(mistake.clone());
        }
        let message = format!("{error:#}");
        let advises = |help: &str| {
            ["did you mean", "write", "supported", "peft", "say"].iter().any(|word| help.starts_with(word))
        };
        self.fault(match message.split_once("; ").filter(|(_, help)| advises(help)) {
            Some((found, help)) => PlanError::new(at, found).help(help),
            None => PlanError::new(at, message),
        });
    }

    /// Whether a fault of this entry, `models` and its name, is known.
    pub fn has(&self, kind: &str, name: &str) -> bool {
        self.faults.iter().any(|fault| entry(&fault.at) == Some((kind, name)))
    }

    /// Whether it is of a name that is unknown because what has it was left out.
    fn follows(&self, fault: &PlanError) -> bool {
        let of = |kind: &str, section: &str| {
            let name = fault.message.strip_prefix(kind)?.strip_prefix(" \"")?.strip_suffix('"')?;
            Some(self.has(section, name))
        };
        of("unknown model", "models").or_else(|| of("unknown dataset", "datasets")).unwrap_or(false)
    }

    /// All of it, with the lines of pipeline.toml.
    pub fn print(self, manifest: &Manifest) -> Result<Outcome> {
        let count = |list: &[PlanError], what: &str| match list.len() {
            1 => format!("1 {what}"),
            many => format!("{many} {what}s"),
        };
        for doubt in &self.doubts {
            say!("\n{}", manifest.diagnose(doubt).doubt());
        }
        for fault in &self.faults {
            say!("\n{}", manifest.diagnose(fault));
        }
        let doubts = if self.doubts.is_empty() { String::new() } else { format!(", {}", count(&self.doubts, "doubt")) };
        match self.faults.is_empty() {
            true => say!("\nsound: nothing that was looked at would stop a run{doubts}"),
            false => say!("\n{} that would stop a run{doubts}", count(&self.faults, "fault")),
        }
        Ok(if self.faults.is_empty() { Outcome::Done } else { Outcome::Unsound })
    }
}

/// `models` or `datasets`, and the name, of what a path leads into.
fn entry(at: &TomlPath) -> Option<(&str, &str)> {
    match at.segments() {
        [Segment::Key(kind), Segment::Key(name), ..] => Some((kind, name)),
        _ => None,
    }
}
