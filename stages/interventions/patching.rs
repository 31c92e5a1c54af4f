//! Activation patching: the source model's residual stream at one layer put into the target model.
//!
//! Where the target then behaves like the source, what tells them apart has been computed by that layer (Meng et
//! al. 2022, arXiv:2202.05262, between two models instead of two prompts). Both models read the same token ids,
//! the target's.

mod measure;
mod rows;
mod sweep;
#[cfg(test)]
mod tests;
mod vocabulary;

use std::ops::Range;

use anyhow::{Context, Result, bail, ensure};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::contract::cost::{Cost, Expected, Pass};
use crate::contract::example_limit::ExampleLimit;
use crate::contract::layers::Layers;
use crate::contract::node::{Alike, Input, Node, Source};
use crate::contract::pair::Pair;
use crate::contract::pipeline::{Pipeline, PlanError, Selection, model_dataset, parse_settings};
use crate::contract::sequences::Sequences;
use crate::contract::setting::{defaults, setting};
use crate::contract::stage::{Output, Outputs, Stage, Task, Work};
use crate::contract::toml_path::at;
use crate::interventions::patched::{self, Positions};
use crate::model::block::description::Description;
use crate::model::token_part::{TOKEN_COLUMNS, read_sequences};
use crate::model::transformer::Transformer;
use crate::text::chat::ChatTokenizer;
use crate::text::encoding;
use crate::text::place::Place;
use measure::{Measure, Metric, Over};
use rows::{Rows, TABLE};
use sweep::sweep;
use vocabulary::{check_ids, one_token};

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Settings {
    pairs: Option<Vec<Pair>>,
    datasets: Selection,
    layers: Layers,
    positions: Positions,
    metrics: Vec<Metric>,
    over: Over,
    message_only: Vec<String>,
    target: Target,
    limit: ExampleLimit,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            pairs: None,
            datasets: Selection::default(),
            layers: Layers::default(),
            positions: Positions::All,
            metrics: vec![Metric::Loss, Metric::Logprob, Metric::Entropy],
            over: Over::All,
            message_only: Vec::new(),
            target: Target::default(),
            limit: ExampleLimit::First(32),
        }
    }
}

/// What passes through the models.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Text {
    #[default]
    Conversation,
    /// The tokens of the last assistant message's content, with nothing before or after them.
    Message,
}

impl Text {
    fn is_conversation(&self) -> bool {
        *self == Text::Conversation
    }
}

/// The token whose log-probability is taken, and where.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Target {
    /// Its text; without one it is the token that stands there.
    #[serde(skip_serializing_if = "Option::is_none")]
    token: Option<String>,
    /// A [`Place`].
    at: String,
}

impl Default for Target {
    fn default() -> Target {
        Target { token: None, at: "response".into() }
    }
}

#[derive(Serialize, Deserialize)]
struct Params {
    layers: Layers,
    positions: Positions,
    metrics: Vec<Metric>,
    over: Over,
    #[serde(default, skip_serializing_if = "Text::is_conversation")]
    text: Text,
    target: Target,
    limit: ExampleLimit,
    /// How the target token's text is split, where it is named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    model_type: Option<String>,
}

/// Tokens that move through both models together. A row's values do not depend on the rows beside it.
const GROUP_TOKENS: usize = 4096;

pub static STAGE: Stage = Stage {
    name: "patching",
    version: 4,
    about: "Activation patching: a source model's residual stream put into a target model, one layer at a time, \
            and the target's loss, a token's log-probability and its entropy after it.",
    asked_by_default: false,
    notice: None,
    outputs: Outputs::Table(TABLE),
    settings: &[
        setting(
            "pairs",
            "The pairs of models; the source's stream is put into the target. Both need the same hidden \
             size, number of layers and vocabulary. Without it: the first model into the second.",
        )
        .example("[{ source = \"base\", target = \"instruct\" }]"),
        setting("datasets", "The datasets whose examples are passed."),
        setting(
            "layers",
            "The layers to patch, from 0 (the embeddings) to the number of blocks, or \"all\"; -1 is the last.",
        ),
        setting(
            "positions",
            "Which tokens' states are put in: \"all\", \"response\" (those of the last assistant message's \
                    content), or \"last\" (the last one before the target token, which predicts it).",
        ),
        setting(
            "metrics",
            "What is measured: the loss, the target token's log-probability, and the entropy at its place. \
                    Without \"loss\" the output head runs for one token of an example instead of all.",
        ),
        setting(
            "over",
            "The tokens whose mean the loss is: \"all\" (the whole conversation), \"response\", or \"turn\" (the assistant's \
             turn from its third token on, which follows the role's name in ChatML, to the end, the end marker included; of a \
             message on its own, all).",
        ),
        setting(
            "message_only",
            "Datasets of which the last assistant message passes through the models on its own, as the tokens that it has in \
             the conversation, in place of the conversation.",
        ),
        setting(
            "target",
            "The target token: at = \"response\" is where the response's first token stands, \"token:5\" where \
                    that token of the conversation does (\"token:-1\": the last), \"before:word\" where the first \
                    occurrence of a word begins; token = \"…\" names another than the one that stands there.",
        ),
        setting(
            "limit",
            "How many examples of a dataset are patched, the first ones, or \"all\". Cost per example: about \
             layers / 2 forward passes.",
        ),
    ],
    defaults: defaults::<Settings>,
    plan,
    cost: Some(cost),
    figures: &[],
    work: Work::Table(run),
};

fn plan(settings: &Value, pipeline: &Pipeline) -> Result<Vec<Node>, PlanError> {
    let settings: Settings = parse_settings(STAGE.name, settings)?;
    settings.check()?;
    for (i, name) in settings.message_only.iter().enumerate() {
        let patched = pipeline.datasets(&settings.datasets, "stages.patching.datasets")?;
        if !patched.iter().any(|dataset| dataset.name == *name) {
            let known = patched.iter().map(|dataset| dataset.name.as_str());
            return Err(PlanError::unknown(
                at("stages.patching.message_only").index(i),
                "patched dataset",
                name,
                known,
            ));
        }
    }
    let mut nodes = Vec::new();
    for pair in patched::pairs(settings.pairs.as_deref(), pipeline)? {
        let target = pipeline.model(&pair.target, "stages.patching.pairs")?;
        let model_type = match &settings.target.token {
            Some(_) => encoding::Params::of(pipeline, target)?.model_type,
            None => None,
        };
        for dataset in pipeline.datasets(&settings.datasets, "stages.patching.datasets")? {
            let input = |role: &str, source| Input { role: role.into(), source, columns: None, alike: None };
            let tokens = model_dataset(&pair.target, &dataset.name);
            nodes.push(Node {
                stage: STAGE.name,
                bindings: patched::bindings(&pair, &dataset.name),
                params: json!(Params {
                    layers: settings.layers.clone(),
                    positions: settings.positions,
                    metrics: settings.metrics.clone(),
                    over: settings.over,
                    text: match settings.message_only.contains(&dataset.name) {
                        true => Text::Message,
                        false => Text::Conversation,
                    },
                    target: settings.target.clone(),
                    limit: settings.limit,
                    model_type: model_type.clone(),
                }),
                inputs: vec![
                    input("source", Source::Weights { model: pair.source.clone() }).alike(Alike::Tokens),
                    input("target", Source::Weights { model: pair.target.clone() }).alike(Alike::Tokens),
                    input("source_tokenizer", Source::Tokenizer { model: pair.source.clone() }),
                    input("target_tokenizer", Source::Tokenizer { model: pair.target.clone() }),
                    Input::node("tokens", "tokens", tokens).columns(TOKEN_COLUMNS),
                ],
                per_part: settings.limit.per_part("tokens"),
            });
        }
    }
    Ok(nodes)
}

/// Both models once, and the target's blocks above every patch again; values are measured after each.
fn cost(params: &Value, expected: &Expected) -> Option<Cost> {
    let params = Params::deserialize(params).ok()?;
    let [source, target] = expected.models.as_slice() else { return None };
    let (top, text) = (target.layers(), expected.text.limited(params.limit));
    let layers = params.layers.resolve(top).ok()?;
    let blocks = top + layers.iter().map(|layer| top - layer).sum::<usize>();
    let whole = params.metrics.contains(&Metric::Loss);
    let predictions = if whole { text.predicted() } else { text.examples };
    let flops = source.pass_flops(text, Pass { blocks: top, predictions, ..Pass::default() })
        + target
            .pass_flops(text, Pass { blocks, predictions: predictions * (layers.len() + 1) as f64, ..Pass::default() });
    let written = 16.0 * text.examples * (layers.len() * params.metrics.len()) as f64;
    Some(Cost { flops, written, ..Cost::default() })
}

fn run(task: &Task) -> Result<Vec<Output>> {
    let params: Params = task.params()?;
    let sequences = first(read_sequences(task.parts("tokens")?)?, params.limit);
    let sequences = match params.text {
        Text::Conversation => sequences,
        Text::Message => messages(sequences),
    };
    let source = Transformer::open(task.parts("source")?).context("the source model")?;
    let target = Transformer::open(task.parts("target")?).context("the target model")?;
    check_shapes(&source.description, &target.description)?;
    let tokenizer = ChatTokenizer::open(task.parts("target_tokenizer")?, params.model_type.as_deref())?;
    let token = params.target.token.as_deref().map(|text| one_token(&tokenizer, text)).transpose()?;
    check_ids(&*ChatTokenizer::open(task.parts("source_tokenizer")?, None)?, &tokenizer, &sequences, token)?;

    let over = match (params.text, params.over) {
        // It has no role and no marker.
        (Text::Message, Over::Turn) => Over::All,
        (_, over) => over,
    };
    let at = &params.target.at;
    let place = Place::parse(at).with_context(|| format!("unknown place \"{at}\""))?;
    let layers = params.layers.resolve(target.description.layers)?;
    let groups = groups(&sequences);
    let (mut done, steps) = (0, (groups.len() * layers.len()) as u64);
    let mut rows = Rows::new(&params.metrics, target.description.layers);
    for group in groups {
        let aim = |i: usize| {
            let ids = &group.ids[i];
            place.token(ids, group.response[i], &tokenizer).map(|at| (at, token.unwrap_or(ids[at])))
        };
        let targets: Vec<Option<(usize, u32)>> = (0..group.ids.len()).map(aim).collect();
        let patched: Vec<Range<usize>> =
            targets.iter().enumerate().map(|(i, target)| patched_rows(params.positions, &group, i, *target)).collect();
        let measure = Measure::new(&params.metrics, over, &targets, &group);
        let mut step = || {
            if (task.cancelled)() {
                bail!("stopped");
            }
            done += 1;
            (task.progress)(done, steps);
            Ok(())
        };
        rows.add(&group, &sweep(&source, &target, &group, &layers, &patched, &measure, &mut step)?);
    }
    Ok(vec![rows.output()?])
}

impl Settings {
    fn check(&self) -> Result<(), PlanError> {
        let at = |key: &str| at("stages.patching").key(key);
        if let Layers::Name(name) = &self.layers
            && name != "all"
        {
            return Err(PlanError::unknown(at("layers"), "choice of layers", name, ["all"]));
        }
        for (key, empty) in [
            ("layers", matches!(&self.layers, Layers::Chosen(chosen) if chosen.is_empty())),
            ("metrics", self.metrics.is_empty()),
            ("pairs", self.pairs.as_ref().is_some_and(Vec::is_empty)),
        ] {
            if empty {
                return Err(PlanError::new(at(key), format!("{key} is empty")));
            }
        }
        if let Some(i) = (1..self.metrics.len()).find(|&i| self.metrics[..i].contains(&self.metrics[i])) {
            let message = format!("the metric \"{}\" is there twice", self.metrics[i].name());
            return Err(PlanError::new(at("metrics").index(i), message));
        }
        if self.target.token.as_deref() == Some("") {
            return Err(PlanError::new(at("target").key("token"), "the target token is empty"));
        }
        if Place::parse(&self.target.at).is_none() {
            let known = ["response", "token:12", "before:word"];
            return Err(PlanError::unknown(at("target").key("at"), "place", &self.target.at, known));
        }
        Ok(())
    }
}

/// The packed rows of sequence `i` that are patched.
fn patched_rows(positions: Positions, sequences: &Sequences, i: usize, target: Option<(usize, u32)>) -> Range<usize> {
    let start = sequences.span(i).start;
    let tokens = match positions {
        Positions::All => 0..sequences.ids[i].len(),
        Positions::Last => target.map_or(0..0, |(at, _)| at - 1..at),
        Positions::Response => sequences.response[i].0 as usize..sequences.response[i].1 as usize,
    };
    start + tokens.start..start + tokens.end
}

fn first(mut sequences: Sequences, limit: ExampleLimit) -> Sequences {
    let count = limit.of(sequences.ids.len());
    sequences.examples.truncate(count);
    sequences.ids.truncate(count);
    sequences.response.truncate(count);
    sequences.turn.truncate(count);
    sequences
}

/// The last assistant messages on their own; examples of which nothing is left are left out.
fn messages(sequences: Sequences) -> Sequences {
    let mut found = Sequences::default();
    for (i, ids) in sequences.ids.into_iter().enumerate() {
        let (start, end) = (sequences.response[i].0 as usize, (sequences.response[i].1 as usize).min(ids.len()));
        if start < end {
            found.examples.push(sequences.examples[i].clone());
            found.ids.push(ids[start..end].to_vec());
            found.response.push((0, (end - start) as u32));
            found.turn.push(0);
        }
    }
    found
}

/// The examples in order, in groups of about [`GROUP_TOKENS`] tokens.
fn groups(sequences: &Sequences) -> Vec<Sequences> {
    let mut groups: Vec<Sequences> = Vec::new();
    for (i, ids) in sequences.ids.iter().enumerate() {
        match groups.last() {
            Some(group) if group.tokens() + ids.len() <= GROUP_TOKENS => {}
            _ => groups.push(Sequences::default()),
        }
        if let Some(group) = groups.last_mut() {
            group.examples.push(sequences.examples[i].clone());
            group.ids.push(ids.clone());
            group.response.push(sequences.response[i]);
            group.turn.push(sequences.turn[i]);
        }
    }
    groups
}

fn check_shapes(s: &Description, t: &Description) -> Result<()> {
    for (what, source, target) in
        [("hidden size", s.hidden_size, t.hidden_size), ("number of layers", s.layers, t.layers)]
    {
        ensure!(
            source == target,
            "patching needs two models of one {what}: the source has {source}, the target {target}"
        );
    }
    Ok(())
}
