//! Hidden states of every example at chosen positions, single tokens or means over some, at every layer or a choice of them.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use anyhow::{Result, bail};
use arrow::array::{ArrayRef, StringArray, UInt32Array};
use candle_core::Tensor;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::contract::cost::{Cost, Expected, Pass};
use crate::contract::layers::Layers;
use crate::contract::node::Node;
use crate::contract::observer::{Observer, PassContext, Wants};
use crate::contract::pipeline::{Pipeline, PlanError, Selection, parse_settings};
use crate::contract::sequences::Sequences;
use crate::contract::setting::{defaults, setting};
use crate::contract::site::Site;
use crate::contract::stage::{Output, Outputs, Stage, Work};
use crate::contract::toml_path::at;
use crate::model::compute::with_slice;
use crate::model::plan::watching_nodes;
use crate::states::place_columns::TOKEN;
use crate::table::folders::{DATASET, MODEL};
use crate::table::{Kind, Table, column, vector_array};

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Settings {
    models: Selection,
    datasets: Selection,
    positions: Vec<String>,
    layers: Layers,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            models: Selection::default(),
            datasets: Selection::default(),
            positions: vec!["last".into()],
            layers: Layers::default(),
        }
    }
}

#[derive(Serialize, Deserialize)]
struct Params {
    positions: Vec<String>,
    layers: Layers,
}

/// What of an example's states is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Position {
    /// The last token's.
    Last,
    /// The mean over the response's tokens.
    ResponseMean,
    /// The mean over the response's first k tokens, or over all of a shorter response.
    ResponseFirst(u32),
    /// The first k tokens of the assistant's turn from its opening marker on, or from the token after the marker's first on,
    /// which is the role's name in ChatML: each of them, or their mean. An example with fewer has none.
    TurnFirst { after: u32, k: u32, mean: bool },
    /// One token's, by its index, negative ones counted from the end.
    Token(i64),
}

impl Position {
    /// From `last`, `response_mean`, `response_first_8`, `marker_first_10`, `role_first_10_mean` or `token:5`.
    pub fn parse(text: &str) -> Option<Position> {
        let count = |text: &str| text.parse::<u32>().ok().filter(|k| *k > 0);
        let first = |prefix: &str| count(text.strip_prefix(prefix)?);
        let turn = |prefix: &str, after: u32| {
            let text = text.strip_prefix(prefix)?;
            let (k, mean) = text.strip_suffix("_mean").map_or((text, false), |k| (k, true));
            Some(Position::TurnFirst { after, k: count(k)?, mean })
        };
        match text {
            "last" => Some(Position::Last),
            "response_mean" => Some(Position::ResponseMean),
            _ => first("response_first_")
                .map(Position::ResponseFirst)
                .or_else(|| turn("marker_first_", 0))
                .or_else(|| turn("role_first_", 1))
                .or_else(|| text.strip_prefix("token:")?.parse().ok().map(Position::Token)),
        }
    }

    /// How many states it keeps of an example.
    fn states(self) -> usize {
        match self {
            Position::TurnFirst { k, mean: false, .. } => k as usize,
            _ => 1,
        }
    }

    /// The tokens of example `i` whose states' mean is taken; `None` where it has none such.
    fn tokens(self, sequences: &Sequences, i: usize) -> Option<Range<usize>> {
        let len = sequences.ids[i].len();
        let (start, end) = (sequences.response[i].0 as usize, (sequences.response[i].1 as usize).min(len));
        let tokens = match self {
            Position::Last => len.checked_sub(1)?..len,
            Position::ResponseMean => start..end,
            Position::ResponseFirst(k) => start..end.min(start + k as usize),
            Position::TurnFirst { after, k, .. } => {
                let first = (sequences.turn[i] + after) as usize;
                first..first + k as usize
            }
            Position::Token(token) => {
                let token = usize::try_from(if token < 0 { token + len as i64 } else { token }).ok()?;
                token..token + 1
            }
        };
        (tokens.start < tokens.end && tokens.end <= len).then_some(tokens)
    }
}

pub const TABLE: Table = Table {
    name: "hidden_states",
    folders: &[MODEL, DATASET],
    columns: &[
        column("example", Kind::Text, "the example's identity"),
        column(
            "position",
            Kind::Text,
            "last, response_mean, response_first_k (mean of the response's first k tokens), marker_first_k or role_first_k \
             (k tokens of the assistant's turn, a row each), the same with _mean (their mean) or token:index; examples \
             without such tokens (an empty response, fewer than k tokens from the marker on) have no row",
        ),
        TOKEN,
        column("layer", Kind::U32, "0 is the embedding output, l the residual stream after block l"),
        column("site", Kind::Text, "residual, or final_norm: the last layer after the final norm"),
        column("vector", Kind::Vector, "the hidden state"),
    ],
};

pub static STAGE: Stage = Stage {
    name: "hidden_states",
    version: 3,
    about: "Keeps each example's hidden states at chosen positions and layers.",
    asked_by_default: false,
    notice: None,
    outputs: Outputs::Table(TABLE),
    settings: &[
        setting("models", "The models to pass the examples through."),
        setting("datasets", "The datasets whose examples are passed."),
        setting(
            "positions",
            "What is kept of an example: \"last\" (its last token), \"response_mean\", \"response_first_8\" \
                    (mean of the response's first 8 tokens, any number), \"marker_first_10\" (each of 10 tokens from the \
                    opening marker of the assistant's turn on; examples with fewer are left out), \"role_first_10\" (the \
                    same from the token after the marker's first on, as Giordani 2025 counts), \"marker_first_10_mean\" and \
                    \"role_first_10_mean\" (their mean), \"token:5\" (\"token:-2\" counts from the end).",
        ),
        setting(
            "layers",
            "Layers from 0 (the embeddings) to the number of blocks, or \"all\"; -1 is the last, which is \
                    kept both before and after the final norm.",
        ),
    ],
    defaults: defaults::<Settings>,
    plan,
    cost: Some(cost),
    figures: &[],
    work: Work::Watch(observer),
};

fn plan(settings: &Value, pipeline: &Pipeline) -> Result<Vec<Node>, PlanError> {
    let settings: Settings = parse_settings(STAGE.name, settings)?;
    for (i, position) in settings.positions.iter().enumerate() {
        if Position::parse(position).is_none() {
            let known = [
                "last",
                "response_mean",
                "response_first_8",
                "marker_first_10",
                "role_first_10",
                "marker_first_10_mean",
                "role_first_10_mean",
                "token:5",
            ];
            let at = at("stages.hidden_states.positions").index(i);
            return Err(PlanError::unknown(at, "position", position, known));
        }
    }
    if settings.positions.is_empty() {
        return Err(PlanError::new("stages.hidden_states.positions", "positions is empty"));
    }
    if let Layers::Name(name) = &settings.layers
        && name != "all"
    {
        return Err(PlanError::unknown("stages.hidden_states.layers", "choice of layers", name, ["all"]));
    }
    let params = json!({ "positions": settings.positions, "layers": settings.layers });
    watching_nodes(STAGE.name, &settings.models, &settings.datasets, pipeline, params, false)
}

fn cost(params: &Value, expected: &Expected) -> Option<Cost> {
    let params = Params::deserialize(params).ok()?;
    let [model] = expected.models.as_slice() else { return None };
    let layers = params.layers.resolve(model.layers()).ok()?;
    let top = *layers.last()?;
    // The last layer is kept before and after the final norm.
    let states: usize = params.positions.iter().filter_map(|name| Some(Position::parse(name)?.states())).sum();
    let vectors = states * (layers.len() + usize::from(top == model.layers()));
    let written = expected.text.examples * vectors as f64 * model.vector_bytes();
    Some(Cost { pass: Pass { blocks: top, ..Pass::default() }, written, ..Cost::default() })
}

fn observer(params: &Value, context: &PassContext) -> Result<Box<dyn Observer>> {
    let params = Params::deserialize(params)?;
    let mut positions = Vec::new();
    for name in params.positions {
        let Some(position) = Position::parse(&name) else { bail!("unknown position \"{name}\"") };
        let tokens = (0..context.sequences.ids.len()).map(|i| position.tokens(context.sequences, i)).collect();
        positions.push(Kept { name, states: position.states(), tokens });
    }
    Ok(Box::new(Pooling {
        layers: params.layers.resolve(context.layers)?,
        top: context.layers,
        width: context.hidden_size,
        starts: (0..context.sequences.ids.len()).map(|i| context.sequences.span(i).start).collect(),
        examples: context.sequences.examples.clone(),
        states: positions.iter().map(|_| Vec::new()).collect(),
        positions,
    }))
}

/// What is kept at a position.
struct Kept {
    name: String,
    /// States of an example: one for each of its tokens, or one for all.
    states: usize,
    /// The tokens of each example.
    tokens: Vec<Option<Range<usize>>>,
}

/// Pools the states of a part's sequences as they come by.
struct Pooling {
    examples: Vec<String>,
    /// Each sequence's first packed row.
    starts: Vec<usize>,
    layers: Vec<usize>,
    top: usize,
    width: usize,
    positions: Vec<Kept>,
    /// For each position the sites seen, with their vectors one after another.
    states: Vec<Vec<(Site, Vec<f32>)>>,
}

impl Observer for Pooling {
    fn wants(&self) -> Wants {
        let mut states: Vec<Site> = self.layers.iter().copied().map(Site::residual).collect();
        states.extend(self.layers.contains(&self.top).then_some(Site::final_norm(self.top)));
        Wants { states, predictions: Vec::new() }
    }

    fn states(&mut self, site: Site, states: &Tensor) -> Result<()> {
        for (position, kept) in self.positions.iter().zip(&mut self.states) {
            let mut pooled = Vec::new();
            for (start, tokens) in self.starts.iter().zip(&position.tokens) {
                if let Some(tokens) = tokens {
                    let rows =
                        states.narrow(0, start + tokens.start, tokens.len())?.to_device(&candle_core::Device::Cpu)?;
                    let each = rows.elem_count() / position.states;
                    with_slice(&rows, |rows| {
                        rows.chunks_exact(each).for_each(|rows| mean_into(rows, self.width, &mut pooled));
                    })?;
                }
            }
            kept.push((site, pooled));
        }
        Ok(())
    }

    fn finish(self: Box<Self>) -> Result<Vec<Output>> {
        let (mut examples, mut names, mut tokens, mut layers, mut sites, mut vectors) =
            (vec![], vec![], vec![], vec![], vec![], vec![]);
        let mut metadata = BTreeMap::new();
        for (position, kept) in self.positions.iter().zip(self.states) {
            let present = self.examples.iter().zip(&position.tokens).filter(|(_, tokens)| tokens.is_some());
            let present: Vec<&str> = present.map(|(example, _)| example.as_str()).collect();
            if present.len() < self.examples.len() {
                let skipped = self.examples.len() - present.len();
                metadata.insert(format!("strata.examples_without.{}", position.name), skipped.to_string());
            }
            for (site, pooled) in kept {
                let rows = present.len() * position.states;
                examples.extend(present.iter().flat_map(|example| std::iter::repeat_n(*example, position.states)));
                names.extend(std::iter::repeat_n(position.name.as_str(), rows));
                tokens.extend(present.iter().flat_map(|_| 0..position.states as u32));
                layers.extend(std::iter::repeat_n(site.layer as u32, rows));
                sites.extend(std::iter::repeat_n(site.name(), rows));
                vectors.extend(pooled);
            }
        }
        let batch = TABLE.batch(vec![
            Arc::new(StringArray::from(examples)) as ArrayRef,
            Arc::new(StringArray::from(names)),
            Arc::new(UInt32Array::from(tokens)),
            Arc::new(UInt32Array::from(layers)),
            Arc::new(StringArray::from(sites)),
            vector_array(vectors, self.width)?,
        ])?;
        Ok(vec![Output::Table { batch, metadata }])
    }
}

fn mean_into(rows: &[f32], width: usize, out: &mut Vec<f32>) {
    let mut sum = vec![0f64; width];
    for row in rows.chunks_exact(width) {
        sum.iter_mut().zip(row).for_each(|(sum, x)| *sum += *x as f64);
    }
    let count = (rows.len() / width) as f64;
    out.extend(sum.iter().map(|sum| (sum / count) as f32));
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;
    use crate::contract::module::Modules;
    use crate::table::vectors;
    use crate::testing::tables::{numbers, texts};

    #[test]
    fn a_position_keeps_each_of_its_tokens_or_their_mean() {
        let sequences = Sequences {
            examples: vec!["a".into(), "b".into(), "short".into()],
            ids: vec![vec![1; 4], vec![1; 5], vec![1; 2]],
            response: vec![(2, 4), (3, 5), (1, 2)],
            turn: vec![1, 2, 0],
        };
        let modules = Modules { layers: 2, of_block: Vec::new() };
        let context =
            PassContext { sequences: &sequences, layers: 2, hidden_size: 2, modules: &modules, tokenizer: &[] };
        let params = json!({ "positions": ["role_first_2", "role_first_2_mean"], "layers": [1] });
        let mut observer = observer(&params, &context).unwrap();
        // Row r of the pass is (r, -r).
        let rows: Vec<f32> = (0..11).flat_map(|row| [row as f32, -(row as f32)]).collect();
        observer.states(Site::residual(1), &Tensor::from_vec(rows, (11, 2), &Device::Cpu).unwrap()).unwrap();
        let Some(Output::Table { batch, metadata }) = observer.finish().unwrap().pop() else { panic!("a table") };
        assert_eq!(texts(&batch, "example"), ["a", "a", "b", "b", "a", "b"]);
        assert_eq!(numbers(&batch, "token"), [0.0, 1.0, 0.0, 1.0, 0.0, 0.0]);
        let (found, _) = vectors(&batch, "vector").unwrap();
        let first: Vec<f32> = found.chunks_exact(2).map(|vector| vector[0]).collect();
        // a has rows 0 to 3 and its role at 2, b rows 4 to 8 and its role at 7.
        assert_eq!(first, [2.0, 3.0, 7.0, 8.0, 2.5, 7.5]);
        assert_eq!(metadata["strata.examples_without.role_first_2"], "1");
    }

    #[test]
    fn positions_pick_tokens_and_leave_out_what_is_not_there() {
        let sequences = Sequences {
            examples: vec!["a".into(), "b".into()],
            ids: vec![vec![1; 10], vec![1; 3]],
            response: vec![(4, 9), (3, 3)],
            turn: vec![2, 1],
        };
        let tokens = |text: &str, i| Position::parse(text).unwrap().tokens(&sequences, i);
        assert_eq!(tokens("last", 0), Some(9..10));
        assert_eq!(tokens("response_mean", 0), Some(4..9));
        assert_eq!(tokens("response_mean", 1), None);
        assert_eq!(tokens("response_first_2", 0), Some(4..6));
        assert_eq!(tokens("response_first_99", 0), Some(4..9));
        assert_eq!(tokens("marker_first_8", 0), Some(2..10));
        assert_eq!(tokens("marker_first_9", 0), None);
        assert_eq!(tokens("role_first_7", 0), Some(3..10));
        assert_eq!((tokens("role_first_8", 0), tokens("role_first_1", 1)), (None, Some(2..3)));
        assert_eq!(tokens("role_first_7_mean", 0), Some(3..10));
        let states =
            ["marker_first_9", "marker_first_9_mean", "last"].map(|text| Position::parse(text).unwrap().states());
        assert_eq!(states, [9, 1, 1]);
        assert_eq!(tokens("token:5", 0), Some(5..6));
        assert_eq!(tokens("token:5", 1), None);
        assert_eq!(tokens("token:-3", 1), Some(0..1));
        assert!(
            [
                "first",
                "response_first_0",
                "marker_first_",
                "role_first_0",
                "role_first_mean",
                "last_mean",
                "token:x",
                ""
            ]
            .iter()
            .all(|text| Position::parse(text).is_none())
        );
    }
}
