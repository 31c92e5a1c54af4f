//! `strata push`, `strata pull` and `strata verify`

use anyhow::Result;
use clap::Args;

use super::say::say;
use super::{Outcome, Place, Workspace};
use crate::key::Key;
use crate::latest;
use crate::plan::Plan;
use crate::remote::{Remote, Transferred};
use crate::store::{ObjectState, views};

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

/// Hash every object of the store and report what is damaged
#[derive(Args)]
#[command(after_help = "Example:\n  strata verify && echo sound")]
pub struct Verify {}

fn report(verb: &str, done: Transferred, absent: &str) -> Result<()> {
    say!(
        "{verb} {} tasks ({} objects, {:.1} MB); {} were there already{absent}",
        done.tasks,
        done.objects,
        done.bytes as f64 / 1e6,
        done.present
    );
    Ok(())
}

fn all(workspace: &Workspace) -> Vec<bool> {
    vec![true; workspace.graph.nodes.len()]
}

impl Push {
    pub fn execute(&self, place: &Place) -> Result<Outcome> {
        let workspace = place.open()?;
        workspace.store.prepare()?;
        let _lock = workspace.store.lock_shared()?;
        let mut plan = Plan::new(&workspace.graph, &workspace.store);
        plan.expand_all(&all(&workspace))?;
        let finished = plan.states.iter().flat_map(|state| &state.tasks).filter(|task| task.outputs.is_some());
        let keys: Vec<Key> = finished.map(|task| task.key).collect();
        let unfinished = plan.states.iter().filter(|state| state.outputs.is_none()).count();
        let done = Remote::open(&self.url)?.push(&workspace.store, &keys)?;
        let rest = if unfinished > 0 { format!("; {unfinished} nodes are not finished here") } else { String::new() };
        report("pushed", done, &rest)?;
        Ok(Outcome::Done)
    }
}

impl Pull {
    pub fn execute(&self, place: &Place) -> Result<Outcome> {
        let workspace = place.open()?;
        workspace.store.prepare()?;
        let _lock = workspace.store.lock_shared()?;
        let mut plan = Plan::new(&workspace.graph, &workspace.store);
        let result = Remote::open(&self.url)?.pull(&mut plan, &all(&workspace));
        for (node, state) in workspace.graph.nodes.iter().zip(&plan.states) {
            let Some(outputs) = &state.outputs else { continue };
            let files = outputs.iter().any(|output| !output.name.is_empty());
            let folder = views::folder(node.node.stage, &node.node.bindings, files);
            if views::show(&workspace.store, &folder, outputs)? {
                let keys: Vec<Key> = state.tasks.iter().map(|task| task.key).collect();
                latest::write(&workspace.store, &node.label(), &keys)?;
            }
        }
        workspace.store.fingerprints.save()?;
        let done = result?;
        let absent = if done.absent > 0 { format!("; {} are not in {}", done.absent, self.url) } else { String::new() };
        report("pulled", done, &absent)?;
        Ok(Outcome::Done)
    }
}

impl Verify {
    pub fn execute(&self, place: &Place) -> Result<Outcome> {
        let store = crate::store::Store::open(&place.store_root()?);
        let (mut objects, mut bad) = (0, 0);
        for key in store.keys()? {
            let Some(record) = store.record(key) else {
                say!("records/{key}.json cannot be read; its task will run again");
                bad += 1;
                continue;
            };
            if record.document.key() != key {
                say!("records/{key}.json is another task's record");
                bad += 1;
            }
            for output in &record.outputs {
                objects += 1;
                store.fingerprints.forget(&store.object_path(output));
                let state = store.check(output);
                if state != ObjectState::Sound {
                    let path = store.object_path(output);
                    say!(
                        "{} is {}; {} will run again",
                        path.display(),
                        format!("{state:?}").to_lowercase(),
                        record.document.stage
                    );
                    bad += 1;
                }
            }
        }
        say!("{objects} objects checked, {bad} problems");
        Ok(if bad == 0 { Outcome::Done } else { Outcome::TaskFailed })
    }
}
