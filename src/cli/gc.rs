//! `strata gc`

use std::time::Duration;

use anyhow::Result;
use clap::Args;
use strata_stages::PlanError;

use super::say::say;
use super::{Outcome, Place, usage};
use crate::store::Store;

/// Remove what no pipeline uses any more: by default, say what would go
///
/// Kept is what any pipeline that was run on this store shows, what is pinned, what a pipeline reads, and what is younger than
/// --keep. A pipeline whose file is gone keeps what it used until it is forgotten.
#[derive(Args)]
#[command(after_help = "Examples:
  strata gc                      what would go, and how many bytes
  strata gc --delete             remove it
  strata gc --keep 0 --delete    remove what nobody uses, however young
  strata gc --forget NAME        let go of a pipeline that is gone")]
pub struct Gc {
    /// Remove it
    #[arg(long)]
    delete: bool,
    /// Keep what is younger: a number with s, min, h or d
    #[arg(long, value_name = "AGE", default_value = "7d")]
    keep: String,
    /// Let go of what this pipeline keeps, and remove its views
    #[arg(long, value_name = "NAME")]
    forget: Option<String>,
}

impl Gc {
    pub fn execute(&self, place: &Place) -> Result<Outcome> {
        let keep = age(&self.keep).ok_or_else(|| {
            usage(PlanError::new("", format!("\"{}\" is no age", self.keep)).help("write 0, 90s, 30min, 12h or 7d"))
        })?;
        let layout = place.layout()?;
        if !layout.cache().exists() {
            place.note(format_args!("nothing to remove: there is no store at {}", layout.root().display()))?;
            return Ok(Outcome::Done);
        }
        let store = Store::at(layout);
        if let Some(name) = &self.forget {
            let _lock = store.lock_exclusive()?;
            store.forget(name)?;
            place.note(format_args!("\"{name}\" is forgotten; `strata gc` says what nobody uses now"))?;
            return Ok(Outcome::Done);
        }
        for (name, root) in store.roots()?.iter().filter(|(_, root)| root.is_gone()) {
            say!("{} is gone; what it used is kept until `strata gc --forget {name}`", root.pipeline.display());
        }
        // A run that starts meanwhile waits; one that is under way is waited for by no one, and nothing is removed.
        let _lock = if self.delete { Some(store.lock_exclusive()?) } else { None };
        let garbage = store.garbage(keep)?;
        if self.delete {
            store.collect(&garbage)?;
        }
        let verb = if self.delete { "removed" } else { "would remove" };
        say!("{verb} {} files, {:.1} MB", garbage.files.len(), garbage.bytes() as f64 / 1e6);
        if !self.delete && !garbage.files.is_empty() {
            place.note("`strata gc --delete` removes them")?;
        }
        Ok(Outcome::Done)
    }
}

/// `7d`, `12h`, `30min`, `90s`, and a number alone in days.
fn age(text: &str) -> Option<Duration> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let seconds = match unit {
        "" | "d" => 86_400,
        "h" => 3_600,
        "min" => 60,
        "s" => 1,
        _ => return None,
    };
    Some(Duration::from_secs(number.parse::<u64>().ok()?.checked_mul(seconds)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_age_has_a_unit() {
        let seconds = |text| age(text).map(|age| age.as_secs());
        let said = ["7d", "0", "90s", "30min", "12h"].map(seconds);
        assert_eq!(said, [Some(604_800), Some(0), Some(90), Some(1_800), Some(43_200)]);
        assert_eq!(["", "d", "-1d", "1w", "99999999999999999999d", "18446744073709551615d"].map(seconds), [None; 6]);
    }
}
