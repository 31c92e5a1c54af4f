//! Passes a file of conversations through a model without the engine, and times it:
//!
//!     pass MODEL_DIR FILE.jsonl [--limit N] [--max-tokens N] [--positions a,b] [--losses] [--part N] [--precision f32|bf16|auto]
//!         [--out DIR]
//!
//! FILE has one {"messages": [...]} a line. Prints one JSON line with the seconds of the pass; with `--out` it
//! writes the tables as Parquet, so that they can be compared with another implementation's.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use arrow::array::{ArrayRef, RecordBatch, StringArray};
use serde_json::{Value, json};
use strata_stages::contract::node::Part;
use strata_stages::contract::stage::{Output, Stage, Task};
use strata_stages::losses::token_losses;
use strata_stages::model::pass::{PassTask, run};
use strata_stages::model::transformer::PRECISION_PART;
use strata_stages::states::hidden_states;
use strata_stages::table;
use strata_stages::text::tokens;

struct Arguments {
    model: PathBuf,
    data: PathBuf,
    limit: usize,
    max_tokens: usize,
    positions: Vec<String>,
    losses: bool,
    part: usize,
    precision: String,
    out: Option<PathBuf>,
}

fn arguments() -> Result<Arguments> {
    let mut plain = Vec::new();
    let mut found = Arguments {
        model: PathBuf::new(),
        data: PathBuf::new(),
        limit: usize::MAX,
        max_tokens: 512,
        positions: vec!["last".into(), "response_mean".into()],
        losses: false,
        part: 64,
        precision: "f32".into(),
        out: None,
    };
    let mut given = std::env::args().skip(1);
    while let Some(argument) = given.next() {
        let mut value = || given.next().with_context(|| format!("{argument} wants a value"));
        match argument.as_str() {
            "--limit" => found.limit = value()?.parse()?,
            "--max-tokens" => found.max_tokens = value()?.parse()?,
            "--part" => found.part = value()?.parse()?,
            "--precision" => found.precision = value()?,
            "--positions" => found.positions = value()?.split(',').map(str::to_string).collect(),
            "--out" => found.out = Some(value()?.into()),
            "--losses" => found.losses = true,
            other if other.starts_with("--") => bail!("unknown option {other}"),
            _ => plain.push(PathBuf::from(argument)),
        }
    }
    match <[PathBuf; 2]>::try_from(plain) {
        Ok([model, data]) => Ok(Arguments { model, data, ..found }),
        Err(_) => bail!("usage: pass MODEL_DIR FILE.jsonl [options]"),
    }
}

fn parts(directory: &Path, wanted: impl Fn(&str) -> bool) -> Result<Vec<Part>> {
    let mut parts = Vec::new();
    for entry in std::fs::read_dir(directory)? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if wanted(&name) {
            parts.push(Part { path, name });
        }
    }
    parts.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(parts)
}

fn batch_of(output: Output) -> Result<RecordBatch> {
    match output {
        Output::Table { batch, .. } => Ok(batch),
        Output::File { name, .. } => bail!("a file ({name}) instead of a table"),
    }
}

fn main() -> Result<()> {
    let arguments = arguments()?;
    let text = std::fs::read_to_string(&arguments.data)?;
    let mut messages: Vec<String> = Vec::new();
    for line in text.lines().filter(|line| !line.trim().is_empty()).take(arguments.limit) {
        messages.push(serde_json::from_str::<Value>(line)?["messages"].to_string());
    }
    let ids: Vec<String> = (0..messages.len()).map(|i| format!("{i:04}")).collect();
    let work = std::env::temp_dir().join(format!("strata-pass-{}", std::process::id()));
    std::fs::create_dir_all(&work)?;
    let write = |name: String, batch: &RecordBatch| -> Result<Part> {
        let path = arguments.out.as_ref().unwrap_or(&work).join(name);
        table::write(std::fs::File::create(&path)?, batch, &Default::default())?;
        Ok(Part { path, name: String::new() })
    };
    if let Some(out) = &arguments.out {
        std::fs::create_dir_all(out)?;
    }

    let tokenizer = parts(&arguments.model, |name| name.starts_with("tokenizer") || name.ends_with(".jinja"))?;
    let config: Value = serde_json::from_str(&std::fs::read_to_string(arguments.model.join("config.json"))?)?;
    let mut parts_of_tokens = Vec::new();
    let (mut count, started) = (0, Instant::now());
    for (i, (ids, messages)) in ids.chunks(arguments.part).zip(messages.chunks(arguments.part)).enumerate() {
        let columns: Vec<(&str, ArrayRef)> = vec![
            ("example", Arc::new(StringArray::from(ids.to_vec()))),
            ("messages", Arc::new(StringArray::from(messages.to_vec()))),
        ];
        let examples = write(format!("examples-{i:04}.parquet"), &RecordBatch::try_from_iter(columns)?)?;
        let params = json!({
            "max_tokens": arguments.max_tokens, "date": "2024-07-26", "model_type": config["model_type"],
        });
        let inputs = [("tokenizer".to_string(), tokenizer.clone()), ("examples".to_string(), vec![examples])].into();
        let task = Task { params: &params, inputs, cancelled: &|| false, progress: &|_, _| {} };
        for output in tokens::STAGE.run(&task)? {
            let part = write(format!("tokens-{i:04}.parquet"), &batch_of(output)?)?;
            count += strata_stages::model::token_part::read_sequences(std::slice::from_ref(&part))?.tokens();
            parts_of_tokens.push(part);
        }
    }
    let tokenizing = started.elapsed().as_secs_f64();

    let states = json!({ "positions": arguments.positions, "layers": "all" });
    let mut tasks = Vec::new();
    for tokens in &parts_of_tokens {
        let mut watch = |stage: &'static Stage, params| {
            tasks.push(PassTask { stage, params, tokens: tokens.clone(), tokenizer: tokenizer.clone() });
        };
        watch(&hidden_states::STAGE, &states);
        if arguments.losses {
            watch(&token_losses::STAGE, &Value::Null);
        }
    }
    let mut model = parts(&arguments.model, |name| name == "config.json" || name.ends_with(".safetensors"))?;
    model.push(Part { path: PathBuf::new(), name: format!("{PRECISION_PART}{}", arguments.precision) });
    let started = Instant::now();
    let mut outcome = Ok(());
    run(&model, &tasks, &|| false, &mut |index, outputs| {
        let save = || -> Result<()> {
            for output in outputs? {
                let batch = batch_of(output)?;
                if arguments.out.is_some() {
                    write(format!("{}-{index:04}.parquet", tasks[index].stage.name), &batch)?;
                }
            }
            Ok(())
        };
        if let Err(error) = save() {
            outcome = Err(error);
        }
    })?;
    let seconds = started.elapsed().as_secs_f64();
    std::fs::remove_dir_all(&work)?;
    outcome?;
    let report = json!({
        "examples": messages.len(), "tokens": count, "tokenizing_seconds": tokenizing, "seconds": seconds,
        "tokens_per_second": count as f64 / seconds,
    });
    println!("{report}");
    Ok(())
}
