//! Directions in activation space along which a target model differs from a source model, from the paired
//! hidden states of one dataset: the mean difference, and the principal directions of the differences. And, within
//! one model, from one dataset to another: the difference of their means.

use std::sync::Arc;

use anyhow::{Context, Result, bail, ensure};
use arrow::array::{ArrayRef, Float64Array, StringArray, UInt32Array};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::contract::node::{Bindings, Input, Node};
use crate::contract::pipeline::{Pipeline, PlanError, Selection, model_dataset, parse_settings};
use crate::contract::setting::{defaults, setting};
use crate::contract::stage::{Output, Outputs, Stage, Task, Work};
use crate::contract::toml_path::at;
use crate::linear_algebra::{centre, dot, norm, principal_directions, rank_floor, scale_to_unit};
use crate::states::place_columns::{LAYER, POSITION, PlaceColumns, SITE};
use crate::states::state_table::{Place, STATE_COLUMNS, StateTable, States};
use crate::table::{Kind, Table, column, vector_array};

/// `[stages.directions]`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    pub pairs: Option<Vec<Pair>>,
    pub datasets: Selection,
    pub contrasts: Vec<Contrast>,
    pub positions: Vec<String>,
    pub kinds: Vec<DirectionKind>,
    pub components: u32,
}

/// A direction leads from the source model to the target model.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pair {
    pub source: String,
    pub target: String,
}

/// Within one model, a direction leads from the source dataset to the target dataset.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Contrast {
    pub model: String,
    pub source: String,
    pub target: String,
}

impl Contrast {
    /// What stands for the dataset where the direction is named.
    pub fn name(&self) -> String {
        format!("{}-minus-{}", self.target, self.source)
    }

    /// A direction within a model leads from that model to itself.
    pub fn pair(&self) -> Pair {
        Pair { source: self.model.clone(), target: self.model.clone() }
    }

    fn inputs(&self) -> Vec<Input> {
        let states = |role: &str, dataset: &str| {
            Input::node(role, "hidden_states", model_dataset(&self.model, dataset)).columns(STATE_COLUMNS)
        };
        vec![states("source", &self.source), states("target", &self.target)]
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DirectionKind {
    MeanDifference,
    Svd,
}

impl DirectionKind {
    pub fn name(self) -> &'static str {
        match self {
            DirectionKind::MeanDifference => "mean_difference",
            DirectionKind::Svd => "svd",
        }
    }

    pub fn parse(name: &str) -> Result<DirectionKind> {
        match name {
            "mean_difference" => Ok(DirectionKind::MeanDifference),
            "svd" => Ok(DirectionKind::Svd),
            other => bail!("unknown kind of direction \"{other}\"; expected mean_difference or svd"),
        }
    }
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            pairs: None,
            datasets: Selection::default(),
            contrasts: Vec::new(),
            positions: vec!["last".into()],
            kinds: vec![DirectionKind::MeanDifference, DirectionKind::Svd],
            components: 8,
        }
    }
}

impl Settings {
    /// The pairs that were written, or the first model to the second where none were.
    pub fn pairs(&self, pipeline: &Pipeline) -> Result<Vec<Pair>, PlanError> {
        let Some(pairs) = &self.pairs else {
            let names: Vec<&String> = pipeline.models.iter().map(|model| &model.name).collect();
            return Ok(match names[..] {
                [source, target, ..] => vec![Pair { source: source.clone(), target: target.clone() }],
                _ => Vec::new(),
            });
        };
        for (i, pair) in pairs.iter().enumerate() {
            let at = at("stages.directions.pairs").index(i);
            pipeline.model(&pair.source, at.key("source"))?;
            pipeline.model(&pair.target, at.key("target"))?;
            if pair.source == pair.target {
                return Err(PlanError::new(at, format!("\"{}\" is both source and target", pair.source))
                    .help("a direction is the difference between two models"));
            }
            if pairs[..i].contains(pair) {
                return Err(PlanError::new(at, format!("the pair {} -> {} is there twice", pair.source, pair.target)));
            }
        }
        Ok(pairs.clone())
    }

    /// The contrasts, checked.
    pub fn contrasts(&self, pipeline: &Pipeline) -> Result<&[Contrast], PlanError> {
        for (i, contrast) in self.contrasts.iter().enumerate() {
            let at = at("stages.directions.contrasts").index(i);
            pipeline.model(&contrast.model, at.key("model"))?;
            pipeline.dataset(&contrast.source, at.key("source"))?;
            pipeline.dataset(&contrast.target, at.key("target"))?;
            let name = contrast.name();
            if contrast.source == contrast.target {
                return Err(PlanError::new(at, format!("\"{}\" is both source and target", contrast.source))
                    .help("a contrast is the difference between two datasets"));
            }
            if self.contrasts[..i].contains(contrast) {
                return Err(PlanError::new(at, format!("the contrast {name} in {} is there twice", contrast.model)));
            }
            if pipeline.datasets.iter().any(|dataset| dataset.name == name) {
                return Err(PlanError::new(at, format!("the contrast would be named {name}, as a dataset is")));
            }
        }
        Ok(&self.contrasts)
    }

    /// The datasets that have directions.
    pub fn datasets(&self, pipeline: &Pipeline) -> Result<Vec<String>, PlanError> {
        let found = pipeline.datasets(&self.datasets, "stages.directions.datasets")?;
        Ok(found.into_iter().map(|dataset| dataset.name.clone()).collect())
    }

    fn check(&self) -> Result<(), PlanError> {
        let empty = |key: &str| PlanError::new(at("stages.directions").key(key), format!("{key} is empty"));
        match () {
            () if self.positions.is_empty() => Err(empty("positions")),
            () if self.kinds.is_empty() => Err(empty("kinds")),
            () if self.components == 0 => {
                Err(PlanError::new("stages.directions.components", "components must be at least 1"))
            }
            () => Ok(()),
        }
    }
}

/// The bindings of the directions from a source to a target model on a dataset.
pub fn bindings(dataset: &str, pair: &Pair) -> Bindings {
    vec![("dataset", dataset.to_string()), ("source", pair.source.clone()), ("target", pair.target.clone())]
}

/// The inputs of a stage that reads the paired states of two models on a dataset.
pub fn state_inputs(dataset: &str, pair: &Pair) -> Vec<Input> {
    let states = |role: &str, model: &str| {
        Input::node(role, "hidden_states", model_dataset(model, dataset)).columns(STATE_COLUMNS)
    };
    vec![states("source", &pair.source), states("target", &pair.target)]
}

#[derive(Debug, Deserialize)]
struct Params {
    positions: Vec<String>,
    kinds: Vec<DirectionKind>,
    components: usize,
    /// Whether the two inputs are states of different examples.
    #[serde(default)]
    unpaired: bool,
}

const TABLE: Table = Table {
    name: "directions",
    columns: &[
        POSITION,
        LAYER,
        SITE,
        column("kind", Kind::Text, "mean_difference, or svd (right singular vector of the centred paired differences)"),
        column("component", Kind::U32, "rank by singular value, from 1; 1 for mean_difference"),
        column("vector", Kind::Vector, "the direction, of unit length, pointing from the source to the target"),
        column("singular_value", Kind::F64, "singular value; null for mean_difference"),
        column("explained_variance", Kind::F64, "share of the variance of the differences; null for mean_difference"),
        column("norm", Kind::F64, "length of the mean difference before scaling; null for svd"),
        column("n", Kind::U32, "number of paired examples; of a contrast, of both datasets' examples"),
    ],
};

pub static STAGE: Stage = Stage {
    name: "directions",
    version: 1,
    about: "Directions from a source model's hidden states to a target model's: mean difference and SVD, per layer.",
    asked_by_default: false,
    notice: None,
    outputs: Outputs::Table(TABLE),
    settings: &[
        setting(
            "pairs",
            "The pairs of models; a direction leads from source to target. Without it the first model to the second.",
        )
        .example("[{ source = \"base\", target = \"instruct\" }]"),
        setting("datasets", "The datasets whose hidden states are compared."),
        setting(
            "contrasts",
            "Directions from one dataset to another within one model, as { model = \"instruct\", source = \"refused\", \
                    target = \"answered\" }: the difference of their means, named answered-minus-refused.",
        ),
        setting("positions", "The positions of hidden_states to compare."),
        setting("kinds", "mean_difference: the mean of the paired differences. svd: their principal directions."),
        setting("components", "The number of singular vectors, at most."),
    ],
    defaults: defaults::<Settings>,
    plan,
    cost: None,
    figures: &[],
    work: Work::Table(run),
};

fn plan(settings: &Value, pipeline: &Pipeline) -> Result<Vec<Node>, PlanError> {
    let settings: Settings = parse_settings(STAGE.name, settings)?;
    settings.check()?;
    let mut nodes = Vec::new();
    for pair in settings.pairs(pipeline)? {
        for dataset in settings.datasets(pipeline)? {
            nodes.push(Node {
                stage: STAGE.name,
                bindings: bindings(&dataset, &pair),
                params: json!({
                    "positions": settings.positions,
                    "kinds": settings.kinds,
                    "components": settings.components,
                }),
                inputs: state_inputs(&dataset, &pair),
                per_part: None,
            });
        }
    }
    for contrast in settings.contrasts(pipeline)? {
        nodes.push(Node {
            stage: STAGE.name,
            bindings: bindings(&contrast.name(), &contrast.pair()),
            params: json!({
                "positions": settings.positions,
                "kinds": [DirectionKind::MeanDifference],
                "components": 1,
                "unpaired": true,
            }),
            inputs: contrast.inputs(),
            per_part: None,
        });
    }
    Ok(nodes)
}

fn run(task: &Task) -> Result<Vec<Output>> {
    let params: Params = task.params()?;
    let pairs = PairedStates::open(task)?;
    let places = pairs.source.places_at(&params.positions)?;
    let found: Vec<Vec<Direction>> =
        places.par_iter().map(|place| pairs.directions(place, &params)).collect::<Result<_>>()?;
    let mut width = 0;
    let mut columns = PlaceColumns::default();
    let mut rows: Vec<&Direction> = Vec::new();
    for (place, found) in places.iter().zip(&found) {
        for direction in found {
            columns.push(place);
            rows.push(direction);
            width = direction.vector.len();
        }
    }
    if rows.is_empty() {
        width = pairs.source.load(&places[0])?.width;
    }
    let [positions, layers, sites] = columns.arrays();
    let vectors = rows.iter().flat_map(|row| row.vector.iter().map(|&value| value as f32)).collect();
    let optional = |value: fn(&Direction) -> Option<f64>| -> ArrayRef {
        Arc::new(rows.iter().map(|row| value(row)).collect::<Float64Array>())
    };
    let batch = TABLE.batch(vec![
        positions,
        layers,
        sites,
        Arc::new(StringArray::from_iter_values(rows.iter().map(|row| row.kind.name()))),
        Arc::new(UInt32Array::from_iter_values(rows.iter().map(|row| row.component))),
        vector_array(vectors, width)?,
        optional(|row| row.singular_value),
        optional(|row| row.explained_variance),
        optional(|row| row.norm),
        Arc::new(UInt32Array::from_iter_values(rows.iter().map(|row| row.n as u32))),
    ])?;
    Ok(vec![Output::table(batch)])
}

/// The hidden states of two models on one dataset.
pub struct PairedStates {
    pub source: StateTable,
    pub target: StateTable,
}

impl PairedStates {
    /// Opens the inputs `source` and `target`.
    pub fn open(task: &Task) -> Result<PairedStates> {
        let open =
            |role: &str| StateTable::open(task.parts(role)?).with_context(|| format!("states of the {role} model"));
        Ok(PairedStates { source: open("source")?, target: open("target")? })
    }

    /// Source states, and target states in the same order of examples.
    ///
    /// # Errors
    /// When an example has states of one model only, or the models differ in their hidden size.
    pub fn states(&self, place: &Place) -> Result<(States, States)> {
        let source = self.source.load(place).context("the source model")?;
        let target = self.target.load(place).context("the target model")?;
        let rows = source.joined(&target).with_context(|| format!("source and target at {place}"))?;
        let values = rows.iter().flat_map(|&row| target.row(row)).copied().collect();
        let target = States { examples: source.examples.clone(), width: target.width, values };
        Ok((source, target))
    }

    fn directions(&self, place: &Place, params: &Params) -> Result<Vec<Direction>> {
        match params.unpaired {
            false => directions(&self.differences(place)?, params),
            true => self.contrast(place),
        }
    }

    /// The difference of the means of examples that are not paired.
    fn contrast(&self, place: &Place) -> Result<Vec<Direction>> {
        let source = self.source.load(place).context("the source dataset")?;
        let target = self.target.load(place).context("the target dataset")?;
        ensure!(source.width == target.width, "{} and {} numbers a state at {place}", source.width, target.width);
        let difference = target.mean().iter().zip(source.mean()).map(|(target, source)| target - source).collect();
        let n = source.examples.len() + target.examples.len();
        Ok(Direction::mean_difference(difference, n).into_iter().collect())
    }

    /// Target minus source for each example.
    pub fn differences(&self, place: &Place) -> Result<States> {
        let (source, mut target) = self.states(place)?;
        target.values.iter_mut().zip(&source.values).for_each(|(target, source)| *target -= source);
        Ok(target)
    }
}

struct Direction {
    kind: DirectionKind,
    component: u32,
    vector: Vec<f64>,
    singular_value: Option<f64>,
    explained_variance: Option<f64>,
    norm: Option<f64>,
    n: usize,
}

impl Direction {
    /// A difference of means, scaled; none where it is 0.
    fn mean_difference(mut vector: Vec<f64>, n: usize) -> Option<Direction> {
        let length = scale_to_unit(&mut vector);
        (length > 0.0).then_some(Direction {
            kind: DirectionKind::MeanDifference,
            component: 1,
            vector,
            singular_value: None,
            explained_variance: None,
            norm: Some(length),
            n,
        })
    }
}

/// The directions of paired differences [n, D]. Where the models do not differ there is no mean difference,
/// and where all differences are equal (as for a single example) no singular vector: no row is written.
fn directions(differences: &States, params: &Params) -> Result<Vec<Direction>> {
    let (n, width) = (differences.examples.len(), differences.width);
    let frobenius = norm(&differences.values);
    let mut centred = differences.values.clone();
    let mean = centre(&mut centred, width);
    let mut found = Vec::new();
    if params.kinds.contains(&DirectionKind::MeanDifference) {
        found.extend(Direction::mean_difference(mean.clone(), n));
    }
    if params.kinds.contains(&DirectionKind::Svd) {
        let principal = principal_directions(&centred, width, params.components, rank_floor(frobenius))?;
        for (rank, (singular, mut vector)) in principal.singular_values.iter().zip(principal.vectors).enumerate() {
            orient(&mut vector, &mean);
            found.push(Direction {
                kind: DirectionKind::Svd,
                component: rank as u32 + 1,
                vector,
                singular_value: Some(*singular),
                explained_variance: Some(singular * singular / principal.total),
                norm: None,
                n,
            });
        }
    }
    Ok(found)
}

/// Fixes the sign of a unit vector: the mean difference has a non-negative projection on it, or, where that
/// is below 1e-6 of the mean's length, its entry of largest magnitude is positive.
pub fn orient(vector: &mut [f64], mean: &[f64]) {
    let along = dot(vector, mean);
    let sign = if along.abs() >= 1e-6 * norm(mean) && along != 0.0 { along } else { largest_entry(vector) };
    if sign < 0.0 {
        vector.iter_mut().for_each(|value| *value = -*value);
    }
}

/// The entry of largest magnitude, the first of equals.
pub fn largest_entry(vector: &[f64]) -> f64 {
    vector.iter().fold(0.0, |largest: f64, &value| if value.abs() > largest.abs() { value } else { largest })
}

#[cfg(test)]
#[path = "directions_tests.rs"]
pub mod tests;
