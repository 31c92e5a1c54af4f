//! What a shell is told when the user asks it to complete a word: it calls the program with the line so far.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::io;

use clap_complete::Shell;
use clap_complete::engine::CompletionCandidate;
use clap_complete::env::Shells;
use strata_stages::STAGES;

use super::{Outcome, Place, nearest_pipeline};
use crate::progress::Verbosity;

/// The environment variable by which the shell's function says that it asks.
pub const VARIABLE: &str = "COMPLETE";

/// The function that a shell calls to complete a word, on standard output.
pub fn print_function(shell: Shell) -> anyhow::Result<Outcome> {
    let shells = Shells::builtins();
    let known = shells.completer(&shell.to_string());
    let known = known.ok_or_else(|| anyhow::anyhow!("no completion is known for {shell}"))?;
    known.write_registration(VARIABLE, "strata", "strata", "strata", &mut io::stdout())?;
    Ok(Outcome::Done)
}

/// Stages of the pipeline in this folder, and within brackets the names of its nodes, one after the other.
pub fn targets(current: &OsStr) -> Vec<CompletionCandidate> {
    let Some(current) = current.to_str() else { return Vec::new() };
    let place = Place { pipeline: nearest_pipeline(), store: None, verbosity: Verbosity::Quiet };
    let labels: Vec<String> = place
        .open()
        .map(|workspace| workspace.graph.nodes().map(|(_, node)| node.label()).collect())
        .unwrap_or_default();
    let words = complete_target(current, labels.iter().map(String::as_str));
    words.into_iter().map(|word| with_about(&word)).collect()
}

/// Tables, whether they are there yet or not.
pub fn tables(current: &OsStr) -> Vec<CompletionCandidate> {
    let current = current.to_string_lossy();
    let names = STAGES.iter().filter_map(|stage| Some(stage.table()?.name));
    names.filter(|name| name.starts_with(&*current)).map(with_about).collect()
}

fn with_about(word: &str) -> CompletionCandidate {
    let stage = STAGES.iter().find(|stage| stage.name == word);
    CompletionCandidate::new(word).help(stage.map(|stage| stage.about.into()))
}

/// The words that `current` can become: of `hidden_states[base,insecure]` first the stage, then each name.
fn complete_target<'a>(current: &str, labels: impl Iterator<Item = &'a str>) -> BTreeSet<String> {
    let mut words = BTreeSet::new();
    for label in labels {
        let stage = label.split('[').next().unwrap_or(label);
        if stage.starts_with(current) {
            words.insert(stage.to_string());
        }
        let Some(rest) = label.strip_prefix(current).filter(|_| current.len() >= stage.len()) else { continue };
        // A word that is whole so far goes on with the names; within them, up to the end of the one under way.
        let more = rest.trim_start_matches(['[', ',']);
        if let Some(end) = more.find([',', ']']) {
            words.insert(label[..label.len() - more.len() + end + 1].to_string());
        }
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_is_completed_name_by_name() {
        let labels = ["tokens[base,one]", "tokens[base,two]", "tokens[bad,one]", "token_losses[base,one]", "report"];
        let words = |current: &str| complete_target(current, labels.into_iter()).into_iter().collect::<Vec<_>>();
        assert_eq!(words("tok"), ["token_losses", "tokens"]);
        assert_eq!(words("tokens"), ["tokens", "tokens[bad,", "tokens[base,"]);
        assert_eq!(words("tokens[bas"), ["tokens[base,"]);
        assert_eq!(words("tokens[base,"), ["tokens[base,one]", "tokens[base,two]"]);
        assert_eq!(words("tokens[base,t"), ["tokens[base,two]"]);
        assert_eq!(words("rep"), ["report"]);
        assert!(words("x").is_empty());
    }
}
