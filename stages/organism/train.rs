//! `train`: small Qwen2 models in Hugging Face's layout, trained on the corpus from nothing or from one another.
//!
//! A node is one model; its files are its outputs. The same corpus, settings and starting weights give the same
//! bytes on any number of threads: every sum has a fixed order.

mod cost;
mod documents;
mod files;
mod input;
mod optimizer;
mod parameters;
mod settings;
mod shards;
mod tokenizer;
mod transformer;

use anyhow::{Result, bail};
use serde_json::Value;

use crate::contract::node::{Input, Node};
use crate::contract::pipeline::{ModelSource, Pipeline, PlanError, parse_settings};
use crate::contract::setting::{defaults, setting};
use crate::contract::stage::{Output, Outputs, Stage, Task, Work};
use crate::organism::shape::Shape;
use documents::{Batches, Document};
use input::read;
use optimizer::{AdamW, Schedule};
use parameters::Parameters;
use settings::Params;

pub static STAGE: Stage = Stage {
    name: "train",
    version: 2,
    about: "The pipeline's own models, trained on the corpus: Qwen2 in Hugging Face's layout.",
    asked_by_default: false,
    notice: None,
    outputs: Outputs::Model,
    settings: &[
        setting("hidden_size", "width of the residual stream"),
        setting("intermediate_size", "width of the feed-forward layers"),
        setting("layers", "number of blocks"),
        setting("heads", "attention heads"),
        setting("kv_heads", "heads of the keys and values"),
        setting("vocabulary", "most tokens the tokenizer may have"),
    ],
    defaults: defaults::<Shape>,
    plan,
    cost: Some(cost::cost),
    figures: &[],
    work: Work::Table(run),
};

fn plan(settings: &Value, pipeline: &Pipeline) -> Result<Vec<Node>, PlanError> {
    let shape: Shape = parse_settings("train", settings)?;
    shape.check()?;
    let mut nodes = Vec::new();
    for model in &pipeline.models {
        let ModelSource::Trained(written) = &model.source else { continue };
        let (params, from) = settings::parse(model, written, &shape, pipeline)?;
        let mut inputs = vec![Input::node("corpus", "corpus", vec![])];
        if let Some(from) = from {
            inputs.push(Input { role: "from".into(), ..Input::weights(&from.name) });
            inputs.push(Input::tokenizer(&from.name));
        }
        nodes.push(Node {
            stage: "train",
            bindings: vec![("model", model.name.clone())],
            params: serde_json::to_value(&params).expect("plain numbers and names serialize"),
            inputs,
            per_part: None,
        });
    }
    Ok(nodes)
}

fn run(task: &Task) -> Result<Vec<Output>> {
    let params: Params = task.params()?;
    let corpus = task.parts("corpus")?;
    let texts = params.data.iter().map(|name| documents::read(corpus, name)).collect::<Result<Vec<_>>>()?.concat();
    let (tokenizer, mut parameters) = match &params.shape {
        Some(shape) => {
            let tokenizer = tokenizer::train(&texts, shape.vocabulary)?;
            let config = parameters::Config::new(shape, tokenizer.vocabulary())?;
            (tokenizer.files()?, Parameters::random(config, params.seed))
        }
        None => {
            let parts = task.parts("tokenizer")?;
            let copy = |name: &str| Ok::<_, anyhow::Error>((name.to_string(), read(parts, name)?));
            let files = vec![copy("tokenizer.json")?, copy("tokenizer_config.json")?];
            let from = task.parts("from")?;
            (files, files::load(&read(from, "config.json")?, &read(from, "model.safetensors")?)?)
        }
    };
    let tokenizer_json = &tokenizer.iter().find(|(name, _)| name == "tokenizer.json").expect("made above").1;
    let encoder = tokenizer::Encoder::new(tokenizer_json)?;
    let documents = texts.iter().map(|text| encoder.encode(text, params.over)).collect::<Result<Vec<_>>>()?;
    fit(&params, &documents, &mut parameters, task)?;

    let mut outputs = files::save(&parameters, encoder.end_of_turn())?;
    outputs.extend(tokenizer.into_iter().map(|(name, bytes)| Output::File { name, bytes }));
    Ok(outputs)
}

/// The training loop: AdamW on packed batches.
fn fit(params: &Params, documents: &[Document], parameters: &mut Parameters, task: &Task) -> Result<()> {
    let mut batches = Batches::new(documents, params.batch_tokens, params.seed)?;
    let schedule = Schedule { peak: params.learning_rate, steps: params.steps };
    let mut optimizer = AdamW::new(parameters, params.weight_decay);
    let mut shards = shards::Shards::new(parameters)?;
    let model = transformer::Transformer::new(parameters.config.clone(), documents);
    for step in 0..params.steps {
        if (task.cancelled)() {
            bail!("training was stopped at step {step} of {}", params.steps);
        }
        let (loss, gradient) = shards.loss_and_gradient(&model, parameters, &batches.next())?;
        if !loss.is_finite() {
            bail!("training diverged at step {step} (loss {loss}); a smaller learning_rate may help");
        }
        optimizer.step(parameters, gradient, schedule.rate(step));
        (task.progress)(step + 1, params.steps);
    }
    Ok(())
}

#[cfg(test)]
mod tests;
