//! `strata du`

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::SystemTime;

use anyhow::Result;
use clap::Args;
use strata_stages::STAGES;

use super::say::say;
use super::{Outcome, Place};
use crate::store::{Store, views};

/// Say what the store holds, in bytes: by stage, by model and by age
///
/// An object that several stages or models show is counted under the first; one that no pipeline shows under "(not shown)".
#[derive(Args)]
pub struct Du {
    /// Print one JSON object on standard output
    #[arg(long)]
    json: bool,
}

type Bytes = BTreeMap<String, (u64, u64)>;

impl Du {
    pub fn execute(&self, place: &Place) -> Result<Outcome> {
        let store = Store::at(place.layout()?);
        let mut names: BTreeMap<_, (String, String)> = BTreeMap::new();
        for layout in store.layout.pipelines() {
            for folder in layout.views(STAGES) {
                for link in views::links_below(&folder)? {
                    let Ok(object) = std::fs::canonicalize(&link) else { continue };
                    let shown = link.strip_prefix(layout.view_root()).unwrap_or(&link);
                    names.entry(object).or_insert_with(|| shown_as(shown));
                }
            }
        }
        let (mut stages, mut models, mut ages) = (Bytes::new(), Bytes::new(), Bytes::new());
        let mut seen = BTreeSet::new();
        for object in store.objects()? {
            let Ok(path) = std::fs::canonicalize(&object) else { continue };
            let Ok(metadata) = std::fs::metadata(&path) else { continue };
            if !seen.insert(path.clone()) {
                continue;
            }
            let unknown = || ("(not shown)".to_string(), "(not shown)".to_string());
            let (stage, model) = names.get(&path).cloned().unwrap_or_else(unknown);
            let age = metadata.modified().ok().and_then(|time| SystemTime::now().duration_since(time).ok());
            let days = age.unwrap_or_default().as_secs() / 86_400;
            let age = match days {
                0 => "1: less than a day",
                1..7 => "2: less than a week",
                7..30 => "3: less than 30 days",
                _ => "4: 30 days and more",
            };
            for (of, name) in [(&mut stages, stage), (&mut models, model), (&mut ages, age[3..].to_string())] {
                let (files, bytes) = of.entry(name).or_default();
                (*files, *bytes) = (*files + 1, *bytes + metadata.len());
            }
        }
        if self.json {
            let of = |bytes: &Bytes| {
                bytes
                    .iter()
                    .map(|(name, (files, bytes))| (name.clone(), serde_json::json!({ "files": files, "bytes": bytes })))
                    .collect::<serde_json::Map<_, _>>()
            };
            say!("{}", serde_json::json!({ "stage": of(&stages), "model": of(&models), "age": of(&ages) }));
            return Ok(Outcome::Done);
        }
        for (title, of) in [("stage", &stages), ("model", &models), ("age", &ages)] {
            say!("{title:<32} {:>8} {:>12}", "files", "MB");
            let mut rows: Vec<_> = of.iter().collect();
            rows.sort_by_key(|(_, (_, bytes))| std::cmp::Reverse(*bytes));
            for (name, (files, bytes)) in rows {
                say!("  {name:<30} {files:>8} {:>12.2}", *bytes as f64 / 1e6);
            }
        }
        Ok(Outcome::Done)
    }
}

/// The stage and the model that a link's path names.
fn shown_as(link: &Path) -> (String, String) {
    let parts: Vec<&str> = link.iter().filter_map(|part| part.to_str()).collect();
    let part = |index: usize| parts.get(index).copied().unwrap_or_default().to_string();
    let model = parts.iter().find_map(|part| part.strip_prefix("model=")).map(str::to_string);
    match part(0).as_str() {
        "tables" => (part(1), model.unwrap_or_else(|| "(none)".into())),
        "models" => (part(0), part(1)),
        _ => (part(0), "(none)".into()),
    }
}
