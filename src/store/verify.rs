//! Whether everything that the records name is in the store, byte for byte.
//!
//! What is found, the next run sees: hashes that were remembered are replaced by those of the bytes that lie there, and the
//! shortcut of a run with nothing to do is forgotten.

use std::collections::BTreeSet;
use std::fmt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use strata_stages::{Stage, table};

use super::{Fault, ObjectState, OutputRecord, Record, Store, views};
use crate::key::Key;
use crate::outputs::{columns, unfit};

/// What is wrong with a store.
#[derive(Debug)]
pub struct Problem {
    /// What it is about, relative to the store's root.
    pub path: PathBuf,
    pub wrong: Wrong,
}

#[derive(Debug)]
pub enum Wrong {
    Record(Fault),
    /// A record whose outputs cannot be its stage's.
    Outputs(String),
    /// An object that is missing or damaged, and the stage that makes it.
    Object {
        state: ObjectState,
        stage: String,
    },
    /// A table's part that does not hold what its record says.
    Contents {
        stage: String,
        why: String,
    },
    /// A link of a view to nothing.
    Dangling,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = self.path.display();
        match &self.wrong {
            Wrong::Record(fault) => write!(f, "{path} {fault}; its task will run again"),
            Wrong::Outputs(why) => write!(f, "{path} names {why}; its task will run again"),
            Wrong::Object { state: ObjectState::Missing, stage } => {
                write!(f, "{path} is missing; {stage} will run again")
            }
            Wrong::Object { stage, .. } => write!(f, "{path} is damaged; {stage} will run again"),
            Wrong::Contents { stage, why } => {
                write!(
                    f,
                    "{path} is not what its record says: {why}; `strata verify --repair` sets both aside, and {stage} runs again"
                )
            }
            Wrong::Dangling => write!(f, "{path} leads to nothing; the next run shows it again, or removes it"),
        }
    }
}

#[derive(Debug, Default)]
pub struct Verified {
    pub objects: usize,
    pub problems: Vec<Problem>,
}

impl Store {
    /// Hashes every object that a record names, and reads every table's part. A store that can be written remembers what was found.
    ///
    /// # Errors
    /// When the records cannot be listed.
    pub fn verify(&self, stages: &[&Stage]) -> Result<Verified> {
        let mut verified = Verified::default();
        for key in self.keys()? {
            let problems = match self.examine(key) {
                Ok(Some(record)) => {
                    verified.objects += record.outputs.len();
                    self.wrong_with(&record, stages)
                }
                // Removed since it was listed.
                Ok(None) => Vec::new(),
                Err(fault) => vec![(self.layout.record(key), Wrong::Record(fault))],
            };
            verified
                .problems
                .extend(problems.into_iter().map(|(path, wrong)| Problem { path: self.relative(path), wrong }));
        }
        for layout in self.layout.pipelines() {
            for folder in layout.views(stages) {
                for link in views::links_below(&folder)?.into_iter().filter(|link| !link.exists()) {
                    verified.problems.push(Problem { path: self.relative(link), wrong: Wrong::Dangling });
                }
            }
        }
        self.keep_fingerprints();
        if !verified.problems.is_empty() {
            for unchanged in
                self.layout.pipelines().iter().map(|layout| layout.all_unchanged()).filter(|path| path.exists())
            {
                // In a store that one may only read, nobody's shortcut can be forgotten.
                let _ = self.disk.remove_folder(&unchanged);
            }
        }
        Ok(verified)
    }

    fn wrong_with(&self, record: &Record, stages: &[&Stage]) -> Vec<(PathBuf, Wrong)> {
        let document = &record.document;
        let mut found = Vec::new();
        let stage = stages.iter().find(|stage| stage.name == document.stage && stage.version == document.version);
        if let Some(why) = stage.and_then(|stage| unfit(stage, false, &record.outputs)) {
            found.push((self.layout.record(document.key()), Wrong::Outputs(why)));
        }
        for output in &record.outputs {
            let path = self.layout.object(output);
            self.fingerprints.forget(&path);
            let stage = document.stage.clone();
            match self.check(output) {
                ObjectState::Sound => {
                    if let Err(error) = holds(&path, output) {
                        found.push((path, Wrong::Contents { stage, why: format!("{error:#}") }));
                    }
                }
                state => found.push((path, Wrong::Object { state, stage })),
            }
        }
        found
    }

    fn relative(&self, path: PathBuf) -> PathBuf {
        path.strip_prefix(self.layout.root()).map(PathBuf::from).unwrap_or(path)
    }

    /// Moves what is damaged away, so that no run can meet it, with the records that name it. Returns how much was moved.
    ///
    /// # Errors
    /// When something cannot be moved.
    pub fn set_aside(&self, verified: &Verified) -> Result<usize> {
        let damaged: BTreeSet<PathBuf> =
            verified.problems.iter().map(|problem| self.layout.root().join(&problem.path)).collect();
        let names = |key: Key| {
            let record = self.record(key)?;
            let named = record.outputs.iter().any(|output| damaged.contains(&self.layout.object(output)));
            named.then(|| self.layout.record(key))
        };
        let records: Vec<PathBuf> = self.keys()?.into_iter().filter_map(names).collect();
        let mut moved = 0;
        for path in damaged.iter().chain(&records).filter(|path| path.symlink_metadata().is_ok()) {
            let aside = self.disk.set_aside(path, &self.layout.damaged());
            aside.with_context(|| format!("cannot move {} away", path.display()))?;
            moved += 1;
        }
        Ok(moved)
    }
}

/// Whether a table's part has the rows and the values that its record says; other files are their bytes.
///
/// # Errors
/// What differs.
pub fn holds(path: &Path, output: &OutputRecord) -> Result<()> {
    if output.columns.is_empty() {
        return Ok(());
    }
    let part = strata_stages::Part { path: path.to_path_buf(), name: String::new() };
    let batch = table::read(&[part], &[])?;
    anyhow::ensure!(batch.num_rows() as u64 == output.rows, "{} rows instead of {}", batch.num_rows(), output.rows);
    let found = columns(&batch)?;
    for (name, hash) in &output.columns {
        anyhow::ensure!(found.get(name) == Some(hash), "the column {name:?} has other values");
    }
    Ok(())
}
