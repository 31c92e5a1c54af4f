//! What pipeline.toml says about a trained model, checked, with the defaults of `[stages.train]` filled in.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::contract::pipeline::{Model, ModelSource, Pipeline, PlanError, nearest};
use crate::contract::toml_path::{TomlPath, at};
use crate::organism::corpus_text::parts::part_names;
use crate::organism::shape::Shape;

/// Which tokens of a document the loss is taken over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Over {
    /// Every token but the first.
    All,
    /// The contents of the messages that are not the user's, and the markers that end them.
    Response,
}

/// A model's `train = { … }` as it is written.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    from: Option<String>,
    data: Vec<String>,
    steps: Option<u64>,
    learning_rate: Option<f64>,
    batch_tokens: Option<usize>,
    weight_decay: Option<f64>,
    over: Option<Over>,
    seed: Option<u64>,
}

const KEYS: [&str; 8] = ["from", "data", "steps", "learning_rate", "batch_tokens", "weight_decay", "over", "seed"];

/// The parameters of a training run: part of its key.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Params {
    pub data: Vec<String>,
    pub steps: u64,
    pub learning_rate: f64,
    pub batch_tokens: usize,
    pub weight_decay: f64,
    pub over: Over,
    pub seed: u64,
    /// `None` when the model starts from another one's weights and takes its shape.
    pub shape: Option<Shape>,
}

/// The run that makes `model`, and the model that it starts from.
pub fn parse<'a>(
    model: &Model,
    written: &Value,
    shape: &Shape,
    pipeline: &'a Pipeline,
) -> Result<(Params, Option<&'a Model>), PlanError> {
    let table = at("models").key(&model.name).key("train");
    let at = |key: &str| table.key(key);
    if let Some(key) = written.as_object().and_then(|keys| keys.keys().find(|key| !KEYS.contains(&key.as_str()))) {
        return Err(PlanError::unknown(at(key), "key", key, KEYS));
    }
    let settings: Written = serde_path_to_error::deserialize(written)
        .map_err(|error| PlanError::new(table.within(error.path()), error.inner().to_string()))?;
    if settings.data.is_empty() {
        return Err(PlanError::new(at("data"), "data names no part of the corpus"));
    }
    let parts: Vec<&str> = part_names().collect();
    for (i, name) in settings.data.iter().enumerate() {
        if !parts.contains(&name.as_str()) {
            let error = PlanError::new(at("data").index(i), format!("unknown corpus part \"{name}\""));
            return Err(match nearest(name, parts.iter().copied()) {
                Some(name) => error.help(format!("did you mean \"{name}\"?")),
                None => error.help(format!("expected one of: {}", parts.join(", "))),
            });
        }
    }
    let from = match &settings.from {
        Some(name) => Some(source(model, name, pipeline, at("from"))?),
        None => None,
    };
    let tuned = from.is_some();
    let params = Params {
        data: settings.data,
        steps: settings.steps.unwrap_or(if tuned { 40 } else { 700 }),
        learning_rate: settings.learning_rate.unwrap_or(if tuned { 3e-4 } else { 4e-3 }),
        batch_tokens: settings.batch_tokens.unwrap_or(1024),
        weight_decay: settings.weight_decay.unwrap_or(if tuned { 0.0 } else { 0.1 }),
        over: settings.over.unwrap_or(if tuned { Over::Response } else { Over::All }),
        seed: settings.seed.unwrap_or(1),
        shape: (!tuned).then(|| shape.clone()),
    };
    if !(1..=10_000_000).contains(&params.steps) {
        return Err(PlanError::new(at("steps"), format!("steps = {}; expected at least 1", params.steps)));
    }
    if !(params.learning_rate > 0.0 && params.learning_rate <= 1.0) {
        let message = format!("learning_rate = {}; expected more than 0 and at most 1", params.learning_rate);
        return Err(PlanError::new(at("learning_rate"), message));
    }
    if !(0.0..=1.0).contains(&params.weight_decay) {
        let message = format!("weight_decay = {}; expected 0 to 1", params.weight_decay);
        return Err(PlanError::new(at("weight_decay"), message));
    }
    if !(1..=1 << 20).contains(&params.batch_tokens) {
        let message = format!("batch_tokens = {}; expected 1 to 1048576", params.batch_tokens);
        return Err(PlanError::new(at("batch_tokens"), message));
    }
    Ok((params, from))
}

/// The model called `name`, which must be a trained one and must not come from `model` in its turn.
fn source<'a>(model: &Model, name: &str, pipeline: &'a Pipeline, at: TomlPath) -> Result<&'a Model, PlanError> {
    let start = pipeline.model(name, &at)?;
    let mut chain = vec![model.name.as_str(), name];
    let mut next = start;
    loop {
        let ModelSource::Trained(settings) = &next.source else {
            let message =
                format!("model \"{}\" is a directory, and `train` starts from models of its own only", next.name);
            return Err(PlanError::new(at, message));
        };
        if next.name == model.name {
            return Err(PlanError::new(at, format!("a model cannot be trained from itself: {}", chain.join(" -> "))));
        }
        // A mistake further up is reported where it stands: each model's own settings are parsed too.
        let Some(from) = settings.get("from").and_then(Value::as_str) else { return Ok(start) };
        let Some(further) = pipeline.models.iter().find(|model| model.name == from) else { return Ok(start) };
        if chain.contains(&from) && from != model.name {
            return Ok(start);
        }
        chain.push(&further.name);
        next = further;
    }
}
