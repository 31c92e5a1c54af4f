//! `strata push` and `strata pull`

use anyhow::Result;
use clap::Args;

use super::{Outcome, Place};
use crate::key::Key;
use crate::latest;
use crate::plan::Plan;
use crate::remote::{Remote, Transferred};

/// Send the pipeline's results to a folder or an object store
#[derive(Args)]
#[command(after_help = "Examples:
  strata push /mnt/team/strata
  AWS_ENDPOINT=… AWS_ACCESS_KEY_ID=… AWS_SECRET_ACCESS_KEY=… strata push s3://bucket/strata")]
pub struct Push {
    /// A folder, file://… or s3://bucket/prefix
    url: String,
}

/// Fetch the pipeline's results from where a colleague pushed them
#[derive(Args)]
#[command(after_help = "Examples:
  strata pull /mnt/team/strata && strata run      computes only what the folder lacks")]
pub struct Pull {
    /// A folder, file://… or s3://bucket/prefix
    url: String,
}

fn report(place: &Place, verb: &str, done: Transferred, absent: &str) -> Result<()> {
    place.note(format_args!(
        "{verb} {} tasks ({} objects, {:.1} MB); {} were there already{absent}",
        done.tasks,
        done.objects,
        done.bytes as f64 / 1e6,
        done.present
    ))
}

impl Push {
    pub fn execute(&self, place: &Place) -> Result<Outcome> {
        let workspace = place.open()?;
        workspace.store.prepare()?;
        let _lock = workspace.store.lock_shared()?;
        let mut plan = Plan::new(&workspace.graph, &workspace.store);
        plan.expand_all(&workspace.graph.all())?;
        let keys: Vec<Key> = plan.states().flat_map(|(_, state)| state.done()).collect();
        let unfinished = plan.states().filter(|(_, state)| state.outputs().is_none()).count();
        let done = Remote::open(&self.url)?.push(&workspace.store, &keys)?;
        let rest = if unfinished > 0 { format!("; {unfinished} nodes are not finished here") } else { String::new() };
        report(place, "pushed", done, &rest)?;
        Ok(Outcome::Done)
    }
}

impl Pull {
    pub fn execute(&self, place: &Place) -> Result<Outcome> {
        let workspace = place.open()?;
        let remote = Remote::open_existing(&self.url)?;
        workspace.store.prepare()?;
        let _lock = workspace.store.lock_shared()?;
        workspace.store.register(place.pipeline(), &workspace.graph)?;
        let mut plan = Plan::new(&workspace.graph, &workspace.store);
        let result = remote.pull(&mut plan, &workspace.graph.all());
        for id in workspace.graph.ids() {
            latest::show(&plan, id)?;
        }
        workspace.store.save_fingerprints()?;
        let done = result?;
        let absent = if done.absent > 0 { format!("; {} are not in {}", done.absent, self.url) } else { String::new() };
        report(place, "pulled", done, &absent)?;
        Ok(Outcome::Done)
    }
}
