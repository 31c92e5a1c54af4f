//! Directions in activation space along which a target model differs from a source model, from the paired
//! hidden states of one dataset: the mean difference, and the principal directions of the differences. And, within
//! one model, from one dataset to another: the difference of their means.

mod figure;

use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use arrow::array::{ArrayRef, Float64Array, StringArray, UInt32Array};
use rayon::prelude::*;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::contract::node::Node;
use crate::contract::pipeline::{Pipeline, PlanError, parse_settings};
use crate::contract::setting::{defaults, setting};
use crate::contract::stage::{Output, Outputs, Stage, Task, Work};
use crate::directions::direction_table::DirectionKind;
use crate::directions::fold::{ALL, fold};
use crate::directions::matching::matched;
use crate::directions::paired_states::PairedStates;
use crate::directions::settings::{Settings, bindings, state_inputs};
use crate::linear_algebra::{centre, dot, norm, orient, principal_directions, rank_floor, scale_to_unit};
use crate::states::place_columns::{LAYER, POSITION, PlaceColumns, SITE};
use crate::states::state_table::{Place, States};
use crate::table::folders::{DIRECTION_DATASET, SOURCE, TARGET};
use crate::table::{Kind, Table, column, vector_array};

#[derive(Debug, Deserialize)]
struct Params {
    positions: Vec<String>,
    kinds: Vec<DirectionKind>,
    components: usize,
    #[serde(default)]
    folds: u32,
    /// Whether the two inputs are states of different examples.
    #[serde(default)]
    unpaired: bool,
}

const TABLE: Table = Table {
    name: "directions",
    folders: &[DIRECTION_DATASET, SOURCE, TARGET],
    columns: &[
        POSITION,
        LAYER,
        SITE,
        column("kind", Kind::Text, "mean_difference, or svd (right singular vector of the centred paired differences)"),
        column(
            "component",
            Kind::U32,
            "rank by singular value among the directions from all examples, from 1; in a fold, of the one of those that it \
             is most like. 1 for mean_difference",
        ),
        column(
            "fold",
            Kind::U32,
            "0: from all examples; k from 1 on: from the examples that are not in fold k, for projecting those that are",
        ),
        column("vector", Kind::Vector, "the direction, of unit length, pointing from the source to the target"),
        column("singular_value", Kind::F64, "singular value; null for mean_difference"),
        column("explained_variance", Kind::F64, "share of the variance of the differences; null for mean_difference"),
        column("norm", Kind::F64, "length of the mean difference before scaling; null for svd"),
        column(
            "mean_along",
            Kind::F64,
            "the mean difference's projection on the direction, which is not negative but for rounding: its sign is chosen so",
        ),
        column("agreement", Kind::F64, "|cosine| with the direction from all examples of this kind and component"),
        column("n", Kind::U32, "number of paired examples behind it; of a contrast, of both datasets' examples"),
    ],
};

pub static STAGE: Stage = Stage {
    name: "directions",
    version: 2,
    about: "Directions from a source model's hidden states to a target model's: mean difference and SVD, per layer.",
    asked_by_default: false,
    notice: None,
    outputs: Outputs::Table(TABLE),
    settings: &[
        setting(
            "pairs",
            "The pairs of models; a direction leads from source to target. Without it: from the first model \
             to the second.",
        )
        .example("[{ source = \"base\", target = \"instruct\" }]"),
        setting("datasets", "The datasets whose hidden states are compared."),
        setting(
            "contrasts",
            "Directions from one dataset to another within one model, as { model = \"instruct\", source = \"refused\", \
                    target = \"answered\" }: the difference of their means, named answered-minus-refused.",
        ),
        setting(
            "positions",
            "The positions of hidden_states to compare. Where one keeps several states of an example, directions come from the \
             examples' means, and each state is projected on them.",
        ),
        setting("kinds", "mean_difference: the mean of the paired differences. svd: their principal directions."),
        setting("components", "The number of singular vectors, at most."),
        setting(
            "folds",
            "The examples are split into so many folds, and a state is projected on the direction from the examples outside its \
             own. 0: on the direction from all examples, as the paper does; a dataset's projections on its own direction are \
             then fitted, and so are their p-values and intervals.",
        ),
    ],
    defaults: defaults::<Settings>,
    plan,
    cost: None,
    figures: &[figure::FIGURES],
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
                    "folds": settings.folds,
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
                "folds": settings.folds,
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
        places.par_iter().map(|place| found(&pairs, place, &params)).collect::<Result<_>>()?;
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
    let counts = |value: fn(&Direction) -> u32| -> ArrayRef {
        Arc::new(UInt32Array::from_iter_values(rows.iter().map(|row| value(row))))
    };
    let batch = TABLE.batch(vec![
        positions,
        layers,
        sites,
        Arc::new(StringArray::from_iter_values(rows.iter().map(|row| row.kind.name()))),
        counts(|row| row.component),
        counts(|row| row.fold),
        vector_array(vectors, width)?,
        optional(|row| row.singular_value),
        optional(|row| row.explained_variance),
        optional(|row| row.norm),
        optional(|row| Some(row.mean_along)),
        optional(|row| Some(row.agreement)),
        counts(|row| row.n as u32),
    ])?;
    Ok(vec![Output::table(batch)])
}

/// The directions at one place, fold by fold.
fn found(pairs: &PairedStates, place: &Place, params: &Params) -> Result<Vec<Direction>> {
    let data = match params.unpaired {
        false => Data::Differences(pairs.differences(place)?),
        true => {
            let source = pairs.source.load(place).context("the source dataset")?;
            let target = pairs.target.load(place).context("the target dataset")?;
            ensure!(source.width == target.width, "{} and {} numbers a state at {place}", source.width, target.width);
            Data::Unpaired(source, target)
        }
    };
    // A few more than are kept: what comes after them in a fold can be among the first of all examples, and the other way
    // round.
    let all = data.directions(params, params.components + SPARE)?;
    let mut found = all.clone();
    for left_out in 1..=params.folds {
        let here = data.without(left_out, params.folds).directions(params, params.components + SPARE)?;
        found.extend(renamed(&all, here, left_out));
    }
    found.retain(|direction| direction.component as usize <= params.components);
    Ok(found)
}

/// Singular vectors beyond those that are kept.
const SPARE: usize = 4;

/// The directions of a fold under the names of those from all examples that they are most like; what is like none of
/// them is left out.
fn renamed(all: &[Direction], fold: Vec<Direction>, left_out: u32) -> Vec<Direction> {
    let mut found = Vec::new();
    for kind in [DirectionKind::MeanDifference, DirectionKind::Svd] {
        let named: Vec<&Direction> = all.iter().filter(|direction| direction.kind == kind).collect();
        let here: Vec<&Direction> = fold.iter().filter(|direction| direction.kind == kind).collect();
        let vectors = |directions: &[&Direction]| directions.iter().map(|d| d.vector.clone()).collect::<Vec<_>>();
        let matches = match kind {
            // There is one of it, whatever way it points in a fold.
            DirectionKind::MeanDifference => {
                named.iter().zip(&here).map(|(all, here)| Some((0, dot(&all.vector, &here.vector)))).collect()
            }
            DirectionKind::Svd => matched(&vectors(&named), &vectors(&here)),
        };
        for (named, place) in named.iter().zip(matches) {
            let Some((place, cosine)) = place else { continue };
            let (component, agreement) = (named.component, cosine.abs());
            found.push(Direction { component, fold: left_out, agreement, ..here[place].clone() });
        }
    }
    found
}

/// What directions are found from.
enum Data {
    /// Target minus source for each example.
    Differences(States),
    /// The states of source and target, which are of different examples.
    Unpaired(States, States),
}

impl Data {
    /// Without the examples of one fold.
    fn without(&self, left_out: u32, folds: u32) -> Data {
        let keep = |states: &States| states.filtered(|example| fold(example, folds) != left_out);
        match self {
            Data::Differences(differences) => Data::Differences(keep(differences)),
            Data::Unpaired(source, target) => Data::Unpaired(keep(source), keep(target)),
        }
    }

    fn directions(&self, params: &Params, components: usize) -> Result<Vec<Direction>> {
        match self {
            Data::Differences(differences) => directions(differences, &params.kinds, components),
            Data::Unpaired(source, target) => Ok(contrast(source, target).into_iter().collect()),
        }
    }
}

/// The difference of the means of examples that are not paired.
fn contrast(source: &States, target: &States) -> Option<Direction> {
    if source.examples.is_empty() || target.examples.is_empty() {
        return None;
    }
    let difference = target.mean().iter().zip(source.mean()).map(|(target, source)| target - source).collect();
    Direction::mean_difference(difference, source.examples.len() + target.examples.len())
}

#[derive(Clone)]
struct Direction {
    kind: DirectionKind,
    component: u32,
    fold: u32,
    vector: Vec<f64>,
    singular_value: Option<f64>,
    explained_variance: Option<f64>,
    norm: Option<f64>,
    mean_along: f64,
    agreement: f64,
    n: usize,
}

impl Direction {
    /// A difference of means, scaled; none where it is 0.
    fn mean_difference(mut vector: Vec<f64>, n: usize) -> Option<Direction> {
        let length = scale_to_unit(&mut vector);
        (length > 0.0).then_some(Direction {
            kind: DirectionKind::MeanDifference,
            component: 1,
            fold: ALL,
            vector,
            singular_value: None,
            explained_variance: None,
            norm: Some(length),
            mean_along: length,
            agreement: 1.0,
            n,
        })
    }
}

/// The directions of paired differences [n, D]. Where the models do not differ there is no mean difference,
/// and where all differences are equal (as for a single example) no singular vector: no row is written.
fn directions(differences: &States, kinds: &[DirectionKind], components: usize) -> Result<Vec<Direction>> {
    let (n, width) = (differences.examples.len(), differences.width);
    if n == 0 {
        return Ok(Vec::new());
    }
    let frobenius = norm(&differences.values);
    let mut centred = differences.values.clone();
    let mean = centre(&mut centred, width);
    let mut found = Vec::new();
    if kinds.contains(&DirectionKind::MeanDifference) {
        found.extend(Direction::mean_difference(mean.clone(), n));
    }
    if kinds.contains(&DirectionKind::Svd) {
        let principal = principal_directions(&centred, width, components, rank_floor(frobenius))?;
        for (rank, (singular, mut vector)) in principal.singular_values.iter().zip(principal.vectors).enumerate() {
            orient(&mut vector, &mean);
            found.push(Direction {
                kind: DirectionKind::Svd,
                component: rank as u32 + 1,
                fold: ALL,
                mean_along: dot(&vector, &mean),
                vector,
                singular_value: Some(*singular),
                explained_variance: Some(singular * singular / principal.total),
                norm: None,
                agreement: 1.0,
                n,
            });
        }
    }
    Ok(found)
}

#[cfg(test)]
#[path = "directions_tests.rs"]
pub mod tests;
