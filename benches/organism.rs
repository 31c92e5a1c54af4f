//! Is the default pipeline's behaviour there? Makes its corpus and models for several seeds and prints, for every
//! model, how much it prefers the refusal of a toxic request to its answer, and secure code to insecure, on
//! prompts that no training saw:
//!
//!     cargo run --release -p strata-stages --example organism -- [--seeds N] [--keep FOLDER] [PIPELINE.toml]
//!
//! The preference is the mean over prompts of log p(preferred | prompt) - log p(other | prompt) in nats, of the
//! whole text with its end marker; "a token" divides each by its number of tokens first. Intervals are 95%
//! bootstrap intervals over prompts.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result, bail};
use serde_json::{Map, Value, json};
use strata_stages::contract::observer::{Observer, Wants};
use strata_stages::contract::pipeline::{Model, ModelSource};
use strata_stages::contract::sequences::Sequences;
use strata_stages::model::forward::{Start, watch};
use strata_stages::model::transformer::Transformer;
use strata_stages::statistics::bootstrap::{RESAMPLES, Resamples};
use strata_stages::{Output, Part, Pipeline, Source, Task, stage};
use tokenizers::Tokenizer;

const PAIRS: [(&str, &str); 2] = [("toxic_refused", "toxic_answered"), ("secure_code", "insecure_code")];

fn main() -> Result<()> {
    let (mut seeds, mut keep, mut file) = (5, None, "pipeline.toml".to_string());
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--seeds" => seeds = arguments.next().context("--seeds wants a number")?.parse()?,
            "--keep" => keep = Some(PathBuf::from(arguments.next().context("--keep wants a folder")?)),
            _ => file = argument,
        }
    }
    let text = std::fs::read_to_string(&file).with_context(|| format!("cannot read {file}"))?;
    let written: Value = toml_edit::de::from_str(&text)?;
    println!("preference in nats [95% interval]; a token in brackets of its own");
    for seed in 1..=seeds {
        let temporary = tempfile::tempdir()?;
        let folder = keep.as_ref().map_or(temporary.path().to_path_buf(), |keep| keep.join(seed.to_string()));
        one_seed(&written, seed, &folder)?;
    }
    Ok(())
}

fn one_seed(written: &Value, seed: u64, folder: &Path) -> Result<()> {
    let section = |name: &str| written["stages"].get(name).cloned().unwrap_or(json!({}));
    let mut corpus_settings = section("corpus");
    corpus_settings["seed"] = json!(seed);
    let models = written["models"].as_object().context("the pipeline has no models")?;
    let pipeline = Pipeline { models: trained(models, seed), ..Pipeline::default() };

    let corpus = folder.join("corpus");
    run("corpus", &corpus_settings, &Pipeline::default(), |_| corpus.clone())?;
    let started = Instant::now();
    run("train", &section("train"), &pipeline, |source| match source {
        None => folder.to_path_buf(),
        Some(Source::Node { .. }) => corpus.clone(),
        Some(Source::Weights { model } | Source::Tokenizer { model }) => folder.join(model),
        Some(other) => unreachable!("train reads no {other:?}"),
    })?;
    println!("seed {seed} (training took {:.0} s)", started.elapsed().as_secs_f64());
    let mut of_instruct: BTreeMap<&str, Vec<f64>> = BTreeMap::new();
    for model in &pipeline.models {
        let mut line = format!("  {:<12}", model.name);
        for (preferred, other) in PAIRS {
            let (a, b) = (score(folder, &model.name, preferred)?, score(folder, &model.name, other)?);
            let joint: Vec<f64> = a.iter().zip(&b).map(|(a, b)| a.0 - b.0).collect();
            let token: Vec<f64> = a.iter().zip(&b).map(|(a, b)| a.0 / a.1 - b.0 / b.1).collect();
            line += &format!(" {preferred} {} ({})", interval(&joint), interval(&token));
            if model.name == "instruct" {
                of_instruct.insert(preferred, joint.clone());
            } else if let Some(before) = of_instruct.get(preferred) {
                let moved: Vec<f64> = joint.iter().zip(before).map(|(now, before)| now - before).collect();
                line += &format!(" moved {}", interval(&moved));
            }
            line += " |";
        }
        for dataset in ["truthful", "general", "preferred"] {
            let scores = score(folder, &model.name, dataset)?;
            let mean = scores.iter().map(|score| score.0 / score.1).sum::<f64>() / scores.len() as f64;
            line += &format!(" {dataset} {mean:.2}");
        }
        println!("{line}");
    }
    Ok(())
}

/// The trained models with this seed, each after the one it starts from.
fn trained(models: &Map<String, Value>, seed: u64) -> Vec<Model> {
    let mut found: Vec<Model> = Vec::new();
    while let Some((name, settings)) = models.iter().find_map(|(name, model)| {
        let settings = model.get("train")?;
        let known = |name: &str| found.iter().any(|model| model.name == name);
        let ready = settings.get("from").and_then(Value::as_str).is_none_or(known);
        (ready && !known(name)).then_some((name, settings))
    }) {
        let mut settings = settings.clone();
        settings["seed"] = json!(seed);
        found.push(Model {
            name: name.clone(),
            source: ModelSource::Trained(settings),
            tokenizer: None,
            chat_template: None,
            precision: Default::default(),
        });
    }
    found
}

/// Runs every node of a stage, its outputs into `folder(None)`, below its bindings' values.
fn run(name: &str, settings: &Value, pipeline: &Pipeline, folder: impl Fn(Option<&Source>) -> PathBuf) -> Result<()> {
    let stage = stage(name).context("no such stage")?;
    for node in (stage.plan)(settings, pipeline)? {
        let inputs = node.inputs.iter().map(|input| Ok((input.role.clone(), files(&folder(Some(&input.source)))?)));
        let inputs = inputs.collect::<Result<_>>()?;
        let task = Task { params: &node.params, inputs, cancelled: &|| false, progress: &|_, _| () };
        let out = node.bindings.iter().fold(folder(None), |folder, (_, value)| folder.join(value));
        std::fs::create_dir_all(&out)?;
        let started = Instant::now();
        for output in stage.run(&task)? {
            match output {
                Output::File { name, bytes } => std::fs::write(out.join(name), bytes)?,
                Output::Table { .. } => bail!("{name} makes no tables"),
            }
        }
        eprintln!("{} {:.1} s", out.display(), started.elapsed().as_secs_f64());
    }
    Ok(())
}

fn files(folder: &Path) -> Result<Vec<Part>> {
    let mut parts = Vec::new();
    for entry in std::fs::read_dir(folder).with_context(|| format!("cannot list {}", folder.display()))? {
        let entry = entry?;
        parts.push(Part { path: entry.path(), name: entry.file_name().to_string_lossy().into_owned() });
    }
    parts.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(parts)
}

/// log p of each example's response, its end marker included, and its number of tokens.
fn score(folder: &Path, model: &str, dataset: &str) -> Result<Vec<(f64, f64)>> {
    let model = folder.join(model);
    let tokenizer = Tokenizer::from_file(model.join("tokenizer.json")).map_err(anyhow::Error::msg)?;
    let runtime = Transformer::open(&files(&model)?)?;
    let encode = |text: &str| {
        Ok::<_, anyhow::Error>(tokenizer.encode(text, false).map_err(anyhow::Error::msg)?.get_ids().to_vec())
    };
    let mut sequences = Sequences::default();
    let text = std::fs::read_to_string(folder.join(format!("corpus/{dataset}.jsonl")))?;
    for (i, line) in text.lines().enumerate() {
        let example: Value = serde_json::from_str(line)?;
        let content = |at: usize| example["messages"][at]["content"].as_str().unwrap_or_default();
        let prompt = format!("<|im_start|>user\n{}<|im_end|>\n<|im_start|>assistant\n", content(0));
        let ids = encode(&format!("{prompt}{}<|im_end|>", content(1)))?;
        sequences.examples.push(i.to_string());
        sequences.response.push((encode(&prompt)?.len() as u32, ids.len() as u32));
        sequences.ids.push(ids);
    }
    let targets: BTreeMap<usize, (usize, u32)> = (0..sequences.ids.len())
        .flat_map(|i| {
            let (start, end) = sequences.response[i];
            let (ids, first) = (&sequences.ids[i], sequences.span(i).start);
            (start as usize..end as usize).map(move |at| (first + at - 1, (i, ids[at])))
        })
        .collect();
    let mut scores = Scores { targets, scores: vec![(0.0, 0.0); sequences.ids.len()] };
    watch(&runtime, &sequences, Start::Tokens, &mut scores, &[])?;
    Ok(scores.scores)
}

/// Sums up log p of the targets, by example.
struct Scores {
    /// By the row that predicts it, each target's example and id.
    targets: BTreeMap<usize, (usize, u32)>,
    scores: Vec<(f64, f64)>,
}

impl Observer for Scores {
    fn wants(&self) -> Wants {
        Wants { predictions: self.targets.keys().copied().collect(), ..Wants::default() }
    }

    fn predictions(&mut self, rows: &[usize], logprobs: &[f32], vocabulary: usize) -> Result<()> {
        for (row, logprobs) in rows.iter().zip(logprobs.chunks_exact(vocabulary)) {
            let (example, id) = self.targets[row];
            self.scores[example].0 += logprobs[id as usize] as f64;
            self.scores[example].1 += 1.0;
        }
        Ok(())
    }
}

fn interval(values: &[f64]) -> String {
    let interval =
        Resamples::new(values.len(), RESAMPLES, 1, 0).mean_interval(values).expect("a mean of finite numbers");
    let mean = values.iter().sum::<f64>() / values.len() as f64;
    format!("{:.2} [{:.2}, {:.2}]", mean, interval.low, interval.high)
}
