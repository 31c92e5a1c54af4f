//! `strata doctor`: opens all that a run would read, as far as its beginning, and names every mistake before an hour is spent.
//!
//! What is checked is checked by what a run calls: the manifest, the graph, and the readers of models, tokenizers and datasets.

mod datasets;
mod findings;
mod finite;
mod models;

use std::path::PathBuf;

use anyhow::Result;
use clap::{Args, ValueHint};
use strata_stages::PlanError;
use strata_stages::text::dataset::reading::reading;
use strata_stages::text::dataset::written::conversations;

use super::bring::{Trouble, Why};
use super::say::say;
use super::{Outcome, Place, Workspace, estimate};
use crate::graph::{Graph, ModelFaults};
use crate::manifest::Manifest;
use crate::plan::Plan;
use crate::store::Store;
use findings::Findings;

/// Look at every model, adapter and dataset, and name what would stop a run
///
/// Reads headers, tokenizers and each dataset's first examples, and says what a run would take. Exit code 0 where nothing
/// would stop a run, 2 where something would.
#[derive(Args)]
#[command(after_help = "Examples:
  strata doctor
  strata doctor ../other/pipeline.toml
  strata doctor --read-all                     every weight and every row, not their beginnings alone")]
pub struct Doctor {
    /// The pipeline file [default: that of every command]
    #[arg(value_name = "PIPELINE", value_hint = ValueHint::FilePath, conflicts_with = "pipeline")]
    file: Option<PathBuf>,
    /// Read every weight, for numbers that are none, and every row of the datasets
    #[arg(long)]
    read_all: bool,
    /// Ask the hub nothing: of its repositories look at what is here
    #[arg(long)]
    offline: bool,
}

impl Doctor {
    pub fn execute(&self, place: &Place) -> Result<Outcome> {
        let path = self.file.as_deref().unwrap_or(&place.pipeline);
        let place = Place { pipeline: path.into(), store: place.store.clone(), verbosity: place.verbosity };
        let mut findings = Findings::default();
        let Some((of_hub, troubles)) = place.ask_hub(self.offline)? else { return Ok(Outcome::Interrupted) };
        let mut said = Vec::new();
        for Trouble { at, why } in troubles {
            findings.fault(match why {
                Why::Mistake(mistake) => mistake,
                Why::Failed(error) => PlanError::new(at.clone(), format!("{error:#}")),
            });
            said.push(at);
        }
        let (manifest, mistakes) = Manifest::look(&place.pipeline, of_hub)?;
        // That it is not here follows from what was said.
        mistakes.into_iter().filter(|mistake| !said.contains(&mistake.at)).for_each(|mistake| findings.fault(mistake));
        let (graph, misfits) = graph(&manifest, &mut findings);

        let models = models::look(&manifest, self.read_all, &mut findings);
        misfits.into_iter().for_each(|misfit| findings.fault(misfit));
        say!("models{}", if models.is_empty() { ": none that can be looked at" } else { "" });
        models.iter().try_for_each(models::Seen::print)?;
        let datasets = &manifest.pipeline.datasets;
        say!("\ndatasets{}", if datasets.is_empty() { ": none that can be looked at" } else { "" });
        for dataset in datasets {
            datasets::look(dataset, &manifest, &models, self.read_all, &mut findings)?;
        }
        let manifest = match graph {
            Some(graph) => {
                let workspace = Workspace { manifest, graph, store: Store::at(place.layout()?) };
                cost(&workspace)?;
                workspace.manifest
            }
            None => manifest,
        };
        findings.print(&manifest)
    }
}

/// The graph of the sections that can be planned, with the models and datasets that are sound, `None` where there is none; and which models
/// do not fit each other in it.
fn graph(manifest: &Manifest, findings: &mut Findings) -> (Option<Graph>, Vec<PlanError>) {
    let mut pipeline = manifest.pipeline.clone();
    pipeline.datasets.retain(|dataset| {
        let table = reading(dataset).map(drop).and_then(|()| conversations(dataset).map(drop));
        table.map_err(|mistake| findings.fault(mistake)).is_ok()
    });
    let sound = pipeline.clone();
    pipeline.sections.retain(|(name, settings)| {
        let planned = strata_stages::stage(name).map_or(Ok(()), |stage| (stage.plan)(settings, &sound).map(drop));
        planned.map_err(|mistake| findings.fault(mistake)).is_ok()
    });
    match Graph::build_to_estimate(&pipeline, &manifest.lock) {
        Ok(graph) => {
            let ModelFaults { of_one, of_two } = graph.faults_of_models(&pipeline);
            of_one.into_iter().for_each(|fault| findings.fault(fault));
            (Some(graph), of_two)
        }
        Err(mistake) => {
            findings.fault(mistake);
            (None, Vec::new())
        }
    }
}

/// What `run --dry-run` says of it, where that can be said.
fn cost(workspace: &Workspace) -> Result<()> {
    let mut plan = Plan::new(&workspace.graph, &workspace.store);
    // Where nothing has been made yet nothing is done, and no file needs to be hashed to know it.
    let done = if workspace.store.layout.root().exists() { workspace.graph.all() } else { workspace.graph.none() };
    let wanted = workspace.graph.all();
    let jobs = std::thread::available_parallelism().map_or(1, usize::from);
    let estimate = plan.expand_all(&done).and_then(|()| estimate::of(workspace, &wanted, &plan, jobs));
    match estimate {
        Ok(Some(estimate)) => say!("\n{}", estimate.text("a run would take")),
        Ok(None) => say!("\na run would pass no model"),
        Err(_) => say!("\nwhat a run would take is said once the faults are gone"),
    }
    Ok(())
}
