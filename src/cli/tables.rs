//! `strata tables`

use std::path::{Path, PathBuf};
use std::time::SystemTime;

use anyhow::Result;
use clap::Args;
use clap_complete::ArgValueCompleter;
use strata_stages::{PlanError, STAGES, table};

use super::say::say;
use super::{Outcome, Place, complete, usage};

/// List the tables with their rows, bytes and when they were computed; of one table, its columns and what they mean
#[derive(Args)]
#[command(after_help = "Examples:
  strata tables
  strata tables hidden_states")]
pub struct Tables {
    /// Describe this table
    #[arg(add = ArgValueCompleter::new(complete::tables))]
    name: Option<String>,
    /// Print one JSON object on standard output
    #[arg(long)]
    json: bool,
}

struct Contents {
    parts: usize,
    rows: u64,
    bytes: u64,
    /// When the newest of its parts was computed.
    newest: Option<SystemTime>,
}

impl Tables {
    pub fn execute(&self, place: &Place) -> Result<Outcome> {
        let layout = place.layout()?;
        let described: Vec<_> = STAGES.iter().filter_map(|stage| Some((*stage, stage.table()?))).collect();
        let wanted = match &self.name {
            Some(name) if !described.iter().any(|(_, table)| table.name == name) => {
                let known = described.iter().map(|(_, table)| table.name);
                return Err(usage(PlanError::unknown("", "table", name, known)).into());
            }
            name => name.as_deref(),
        };
        let mut objects = serde_json::Map::new();
        for (stage, table) in described.iter().filter(|(_, table)| wanted.is_none_or(|name| name == table.name)) {
            let contents = contents(&layout.table(table.name))?;
            let computed = contents.newest.map(super::when);
            let columns =
                || table.columns.iter().map(|column| (column.name, format!("{:?}", column.kind), column.about));
            if self.json {
                let folders: Vec<_> = table
                    .folders
                    .iter()
                    .map(|folder| serde_json::json!({ "name": folder.name, "about": folder.about }))
                    .collect();
                let columns: Vec<_> = columns()
                    .map(|(name, kind, about)| serde_json::json!({ "name": name, "type": kind, "about": about }))
                    .collect();
                let object = serde_json::json!({ "about": stage.about, "parts": contents.parts,
                    "rows": contents.rows, "bytes": contents.bytes, "computed": computed, "folders": folders,
                    "columns": columns });
                objects.insert(table.name.to_string(), object);
                continue;
            }
            let megabytes = contents.bytes as f64 / 1e6;
            let when = computed.unwrap_or_default();
            say!("{:<24} {:>9} rows {megabytes:>9.2} MB  {when:<16}  {}", table.name, contents.rows, stage.about);
            if wanted.is_some() {
                say!("  {}", layout.table(table.name).display());
                for folder in table.folders {
                    say!("  {:<20} {:<8} {}", folder.name, "folder", folder.about);
                }
                for (name, kind, about) in columns() {
                    say!("  {name:<20} {kind:<8} {about}");
                }
            }
        }
        if self.json {
            say!("{}", serde_json::Value::Object(objects));
        }
        Ok(Outcome::Done)
    }
}

fn contents(folder: &Path) -> Result<Contents> {
    let mut total = Contents { parts: 0, rows: 0, bytes: 0, newest: None };
    let mut pending: Vec<PathBuf> = vec![folder.to_path_buf()];
    while let Some(folder) = pending.pop() {
        for entry in std::fs::read_dir(&folder).into_iter().flatten() {
            let path = entry?.path();
            if path.is_dir() {
                pending.push(path);
            } else if path.extension().is_some_and(|extension| extension == "parquet") {
                total.parts += 1;
                total.rows += table::row_count(&path)?;
                // Of the object behind the link: a view may be older or younger.
                let metadata = std::fs::metadata(&path)?;
                total.bytes += metadata.len();
                total.newest = total.newest.max(metadata.modified().ok());
            }
        }
    }
    Ok(total)
}
