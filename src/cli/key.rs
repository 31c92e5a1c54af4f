//! `strata key`

use anyhow::{Context, Result};
use clap::{Args, Subcommand};

use super::say::say;
use super::{Outcome, Place};
use crate::store::Store;
use crate::store::signing::{Signer, Trust};

/// Make or show the key that signs what is made here
///
/// With a key, every record is signed. `trust = ["ed25519:…"]` in pipeline.toml names those whose records are believed; one's own are too.
#[derive(Args)]
#[command(after_help = "Examples:
  strata key new      makes a key and prints its public half, for trust = [...] of pipeline.toml
  strata key          prints the public half
  strata key sign     signs the records of this store that nobody signed")]
pub struct KeyCommand {
    #[command(subcommand)]
    action: Option<Action>,
}

#[derive(Subcommand)]
enum Action {
    /// Make a key at STRATA_KEY, or in the folder of configurations
    New,
    /// Sign the records of the store that nobody signed: what they say is yours to answer for then
    Sign,
}

impl KeyCommand {
    pub fn execute(&self, place: &Place) -> Result<Outcome> {
        match &self.action {
            Some(Action::New) => {
                let path = Signer::path()?;
                let signer = Signer::create(&path)?;
                say!("{}", signer.public);
                place.note(format_args!("the secret half is in {}", path.display()))?;
            }
            None => say!("{}", own()?.public),
            Some(Action::Sign) => {
                let mut store = Store::at(place.layout()?);
                store.trust = Trust { keys: None, signer: Some(own()?) };
                let _lock = store.lock_shared()?;
                let (mut signed, mut before) = (0, 0);
                for key in store.keys()? {
                    let Some((record, text)) = store.record_with_text(key) else { continue };
                    if crate::store::signed_by(&text).is_some() {
                        before += 1;
                        continue;
                    }
                    store.write_record(&record)?;
                    signed += 1;
                }
                place.note(format_args!("{signed} records signed; {before} were signed before"))?;
            }
        }
        Ok(Outcome::Done)
    }
}

fn own() -> Result<Signer> {
    let path = Signer::path()?;
    Signer::own()?.with_context(|| format!("there is no key at {}; `strata key new` makes one", path.display()))
}
