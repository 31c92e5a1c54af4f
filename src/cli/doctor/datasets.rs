//! What `strata doctor` says of each dataset: its first example as a model reads it, and how many tokens that is under each tokenizer.

use std::ops::Range;

use anyhow::Result;
use strata_stages::PlanError;
use strata_stages::contract::pipeline::{Dataset, DatasetSource};
use strata_stages::contract::toml_path::at;
use strata_stages::first;
use strata_stages::text::chat::{Encoded, Message};

use super::findings::Findings;
use super::models::{Reader, Seen};
use crate::cli::say::say;
use crate::manifest::{Manifest, nearest_sibling};

/// Characters of a text that are shown of its beginning, and of its end.
const SHOWN: usize = 700;

/// How many examples of a dataset are tokenized.
const EXAMPLES: usize = 64;

pub fn look(
    dataset: &Dataset,
    manifest: &Manifest,
    models: &[Seen],
    read_all: bool,
    findings: &mut Findings,
) -> Result<()> {
    let name = &dataset.name;
    let path = match &dataset.source {
        DatasetSource::Corpus(part) => {
            say!("  {name:<16} \"{part}\" of the corpus, made by the run");
            return Ok(());
        }
        DatasetSource::File(path) if !path.exists() => {
            let said =
                manifest.lock.awaited(path).or(manifest.lock.knows(path).then_some("strata.lock says what it was"));
            say!("  {name:<16} not here{}", said.map_or_else(String::new, |said| format!(": {said}")));
            if said.is_none() {
                let message = format!("no such file or folder: {}", path.display());
                let fault = PlanError::new(at("datasets").key(name).key("path"), message);
                findings.fault(match nearest_sibling(path) {
                    Some(near) => fault.help(format!("did you mean {}?", near.display())),
                    None => fault,
                });
            }
            return Ok(());
        }
        DatasetSource::File(path) => path.display().to_string(),
        DatasetSource::Written(_) => "written in the pipeline".into(),
    };
    // What planning has said of its table is said.
    if findings.has("datasets", name) {
        say!("  {name:<16} {path}");
        return Ok(());
    }
    let here = at("datasets").key(name);
    let found = match first(dataset, EXAMPLES, read_all) {
        Ok(found) => found,
        Err(error) => {
            say!("  {name:<16} {path}");
            findings.of_reader(here, &error);
            return Ok(());
        }
    };
    if let Some(doubt) = found.doubt {
        findings.doubt(here, format!("of the rows looked at: {doubt}"));
    }
    let Some((place, messages)) = found.examples.first() else { return Ok(()) };
    say!("  {name:<16} {place}");
    let readers: Vec<(&str, &Reader)> =
        models.iter().filter_map(|model| Some((model.name.as_str(), model.reader.as_ref()?))).collect();
    let mut encoded: Vec<(Encoded, Vec<&str>)> = Vec::new();
    for (model, reader) in &readers {
        // Once is enough of a template or a tokenizer that fails.
        if findings.cannot_read.contains(*model) {
            continue;
        }
        match encode(reader, messages) {
            Ok(ids) => match encoded.iter_mut().find(|(known, _)| *known == ids) {
                Some((_, models)) => models.push(model),
                None => encoded.push((ids, vec![model])),
            },
            Err(error) => {
                findings.cannot_read.insert(model.to_string());
                findings.of_reader(at("models").key(*model), &error.context(format!("{place} under {model}")));
            }
        }
    }
    for (ids, models) in &encoded {
        let response = ids.response.len();
        say!("  {:<16} {} tokens, {response} of them the response ({})", "", ids.ids.len(), models.join(", "));
    }
    if readers.is_empty() {
        print_messages(messages)?;
    }
    let shown = readers.iter().find(|(model, _)| encoded.iter().any(|(_, models)| models.contains(model)));
    if let Some((model, reader)) = shown {
        let (text, turn) = reader.tokenizer.rendered(&reader.template, messages)?;
        say!("  {:<16} as {model} reads it, the response between « and »:", "");
        print_marked(&text, turn.content)?;
    }
    lengths(dataset, &readers, &found.examples, findings);
    Ok(())
}

fn encode(reader: &Reader, messages: &[Message]) -> Result<Encoded> {
    let encoded = reader.tokenizer.encode(&reader.template, messages, reader.max_tokens)?;
    if let Some(vocabulary) = reader.vocabulary
        && let Some(id) = encoded.ids.iter().find(|id| **id as usize >= vocabulary)
    {
        anyhow::bail!(
            "the token id {id} is beyond the model's vocabulary of {vocabulary} tokens: the tokenizer is not this model's"
        );
    }
    Ok(encoded)
}

/// Says of examples that are cut at `max_tokens`, for the first model that reads them.
fn lengths(
    dataset: &Dataset,
    readers: &[(&str, &Reader)],
    examples: &[(String, Vec<Message>)],
    findings: &mut Findings,
) {
    let Some((model, reader)) = readers.iter().find(|(model, _)| !findings.cannot_read.contains(*model)) else {
        return;
    };
    let (mut cut, mut lost) = (Vec::new(), 0);
    for (place, messages) in examples {
        match encode(reader, messages) {
            Ok(encoded) => {
                if encoded.truncated {
                    cut.push(place);
                    lost += usize::from(encoded.response.is_empty());
                }
            }
            Err(error) => {
                findings.cannot_read.insert(model.to_string());
                let error = error.context(format!("{place} under {model}"));
                return findings.of_reader(at("models").key(*model), &error);
            }
        }
    }
    let Some(first) = cut.first() else { return };
    let most = reader.max_tokens;
    let lost = if lost > 0 { format!(", and of {lost} nothing of the response is left") } else { String::new() };
    let text = format!(
        "{} of the {} examples looked at are longer than max_tokens = {most} under {model} and are cut, {first} first{lost}",
        cut.len(),
        examples.len()
    );
    findings.doubt(at("datasets").key(&dataset.name), text);
}

/// The example as the dataset has it.
fn print_messages(messages: &[Message]) -> Result<()> {
    let last = messages.len().saturating_sub(1);
    for (i, Message { role, content, .. }) in messages.iter().enumerate() {
        let (open, close) = if i == last { ("«", "»") } else { ("", "") };
        for line in format!("{role}: {open}{}{close}", short(content)).lines() {
            say!("  {:<16} | {line}", "");
        }
    }
    Ok(())
}

fn print_marked(text: &str, response: Range<usize>) -> Result<()> {
    let (before, within, after) = (&text[..response.start], &text[response.clone()], &text[response.end..]);
    let marked = format!("{}«{}»{}", short(before), short(within), short(after));
    for line in marked.lines() {
        say!("  {:<16} | {line}", "");
    }
    Ok(())
}

/// A text's beginning and end.
fn short(text: &str) -> String {
    let characters = text.chars().count();
    if characters <= 2 * SHOWN {
        return text.to_string();
    }
    let beginning: String = text.chars().take(SHOWN).collect();
    let end: String = text.chars().skip(characters - SHOWN).collect();
    format!("{beginning} … {} characters … {end}", characters - 2 * SHOWN)
}
