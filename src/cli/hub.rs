//! `strata hub`

use anyhow::Result;
use clap::Args;
use strata_stages::PlanError;

use super::say::say;
use super::{Outcome, Place, bring, usage};
use crate::hub::environment::Environment;
use crate::hub::snapshot::{State, look};
use crate::hub::{Kind, Use};
use crate::manifest::Manifest;
use crate::manifest::hub::Named;

/// Show what the pipeline reads of the Hugging Face hub, or move it on to what is there now
///
/// strata.lock pins each revision to the commit that it was when it was first read. Files lie in the ordinary Hugging Face cache; HF_HOME,
/// HF_HUB_CACHE, HF_ENDPOINT, HF_TOKEN and HF_HUB_OFFLINE mean what they mean to the hub's own programs.
#[derive(Args)]
#[command(after_help = "Examples:
  strata hub                       repositories, revisions, commits, and whether they are here
  strata hub --fetch               bring what is missing, and run nothing
  strata hub --update instruct     pin this model to what its revision is now; the next run fetches it
  strata hub --update              all of them")]
pub struct HubCommand {
    /// Models and datasets of pipeline.toml; all where none is given
    names: Vec<String>,
    /// Pin revisions to what they are on the hub now; with --fetch that is fetched, else the next run does
    #[arg(long)]
    update: bool,
    /// Fetch what is not here, of all models and datasets
    #[arg(long)]
    fetch: bool,
}

impl HubCommand {
    pub fn execute(&self, place: &Place) -> Result<Outcome> {
        let manifest = Manifest::parse(place.pipeline())?;
        let mut uses = manifest.hub_uses().map_err(|error| manifest.diagnose(&error))?;
        for wanted in &self.names {
            if !uses.iter().any(|named| named.name == *wanted) {
                let known = uses.iter().map(|named| named.name.as_str());
                return Err(usage(PlanError::unknown("", "model or dataset of the hub", wanted, known)).into());
            }
        }
        if !self.names.is_empty() {
            // Of one revision there is one commit, whatever is read of it.
            let asked: Vec<Use> =
                uses.iter().filter(|named| self.names.contains(&named.name)).map(|named| named.asked.clone()).collect();
            uses.retain(|named| asked.iter().any(|asked| named.asked.is_with(asked)));
        }
        if self.update && !place.update_pins(&manifest, &uses)? {
            return Ok(Outcome::Interrupted);
        }
        if self.fetch && place.bring(false, bring::Which::All)?.is_none() {
            return Ok(Outcome::Interrupted);
        }
        let manifest = Manifest::parse(place.pipeline())?;
        if uses.is_empty() {
            place
                .note("the pipeline names nothing of the hub; a model or a dataset has hub = \"ORGANISATION/NAME\"")?;
            return Ok(Outcome::Done);
        }
        say!("{:<20} {:<44} {:<12} {:<12}  here", "name", "repository", "revision", "commit");
        for Named { name, asked, .. } in &uses {
            let here = look(asked, &manifest.lock.pins, Environment::own());
            let pinned = manifest.lock.pins.contains_key(&asked.address());
            let commit = here.pin.as_ref().map_or("?", |pin| pin.commit.short());
            let state = match (here.state, pinned) {
                (State::Missing, _) => "no",
                (State::Complete | State::Enough, true) => "yes",
                (State::Complete | State::Enough, false) => "yes, not pinned yet",
            };
            let repository = match asked.kind {
                Kind::Model => asked.name().to_string(),
                Kind::Dataset => format!("datasets/{}", asked.name()),
            };
            say!("{name:<20} {repository:<44} {:<12} {commit:<12}  {state}", asked.revision.as_str());
        }
        Ok(Outcome::Done)
    }
}
