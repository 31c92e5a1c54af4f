//! `strata pin`

use anyhow::Result;
use clap::Args;
use clap_complete::ArgValueCompleter;

use super::say::say;
use super::{Outcome, Place, complete};
use crate::store::Store;
use crate::store::roots::{Pin, PinnedNode};

/// Keep the results of a target under a name, or list what is kept
///
/// What is pinned, with everything behind it, stays in the store whatever the pipeline does next: for the figures of a paper.
#[derive(Args)]
#[command(after_help = "Examples:
  strata pin report paper-v1      the report, and all tables that it was made from
  strata pin                      what is pinned
  strata pin --remove paper-v1    let go of it")]
pub struct PinCommand {
    /// A stage, or STAGE[NAME,NAME…]
    #[arg(add = ArgValueCompleter::new(complete::targets), requires = "name")]
    target: Option<String>,
    name: Option<String>,
    /// Let go of the pin with this name
    #[arg(long, value_name = "NAME", conflicts_with = "target")]
    remove: Option<String>,
}

impl PinCommand {
    pub fn execute(&self, place: &Place) -> Result<Outcome> {
        if let Some(name) = &self.remove {
            let store = Store::at(place.layout()?);
            let _lock = store.lock_shared()?;
            store.unpin(name)?;
            return Ok(Outcome::Done);
        }
        let (Some(target), Some(name)) = (&self.target, &self.name) else {
            for (name, pin) in Store::at(place.layout()?).pins()? {
                let (tasks, pipeline) = (pin.keys.len(), pin.pipeline.display());
                say!("{name:<24} {:<32} {tasks:>6} tasks  {}  {pipeline}", pin.target, pin.at);
            }
            return Ok(Outcome::Done);
        };
        let workspace = place.open()?;
        let store = &workspace.store;
        store.prepare()?;
        let _lock = store.lock_shared()?;
        let (wanted, plan) = workspace.finished(target)?;
        let keys = wanted.iter().flat_map(|id| plan.state(id).done()).map(|key| key.to_string()).collect();
        let node = |id| {
            let (node, keys) = (workspace.graph.node(id), plan.state(id).done());
            let keys = keys.iter().map(ToString::to_string).collect();
            (node.label(), PinnedNode { stage: node.stage.name.to_string(), keys })
        };
        let nodes = wanted.iter().map(node).collect();
        let pipeline = std::path::absolute(place.pipeline())?;
        let at = chrono::Utc::now().to_rfc3339_opts(chrono::SecondsFormat::Secs, true);
        let pin = Pin { target: target.clone(), pipeline, at, keys, nodes };
        store.pin(name, &pin)?;
        place.note(format_args!("{target} is pinned as {name}: {} tasks", pin.keys.len()))?;
        Ok(Outcome::Done)
    }
}
