//! Directions as they would come out without what a real direction shows: the nulls that similarities of
//! directions are compared with. They are a table of their own so that each dataset's are drawn once,
//! however many datasets it is compared with.

use std::sync::Arc;

use anyhow::{Result, bail};
use arrow::array::{StringArray, UInt32Array};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::contract::node::Node;
use crate::contract::pipeline::{Pipeline, PlanError, parse_settings};
use crate::contract::setting::{SEED_SETTING, defaults, setting};
use crate::contract::stage::{Output, Outputs, Stage, Task, Work};
use crate::contract::toml_path::at;
use crate::directions::direction_table::DirectionKind;
use crate::directions::null_table::Null;
use crate::directions::paired_states::PairedStates;
use crate::directions::settings::{self, Settings as DirectionSettings};
use crate::linear_algebra::{centre, combinations, norm, principal_directions, rank_floor, scale_to_unit};
use crate::states::place_columns::{LAYER, POSITION, PlaceColumns, SITE};
use crate::states::state_table::{Place, States};
use crate::statistics::random::Random;
use crate::table::folders::{DATASET, SOURCE, TARGET};
use crate::table::{Kind, Table, column, vector_array};

/// `[stages.null_directions]`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Settings {
    draws: u32,
    shuffles: u32,
    seed: u64,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings { draws: 99, shuffles: 39, seed: 0 }
    }
}

#[derive(Debug, Deserialize)]
struct Params {
    positions: Vec<String>,
    kinds: Vec<DirectionKind>,
    components: usize,
    draws: u32,
    shuffles: u32,
    seed: u64,
}

const TABLE: Table = Table {
    name: "null_directions",
    folders: &[DATASET, SOURCE, TARGET],
    columns: &[
        POSITION,
        LAYER,
        SITE,
        column(
            "null",
            Kind::Text,
            "shuffled_pairs (SVD with source and target states of different examples paired) or centred_signs (mean of the \
             centred paired differences under random signs)",
        ),
        column("draw", Kind::U32, "number of the random draw, from 0"),
        column("component", Kind::U32, "rank by singular value, from 1; 1 for centred_signs"),
        column("vector", Kind::Vector, "the direction, of unit length"),
    ],
};

pub static STAGE: Stage = Stage {
    name: "null_directions",
    version: 2,
    about: "Random directions that the similarities of directions are compared with.",
    asked_by_default: false,
    notice: None,
    outputs: Outputs::Table(TABLE),
    settings: &[
        setting(
            "draws",
            "How many times signs are drawn for the null of mean differences; at least 2. The least p-value is 1 / (draws + 1).",
        ),
        setting(
            "shuffles",
            "How many times pairs are shuffled for the null of singular vectors, an SVD each; at least 2.",
        ),
        SEED_SETTING,
    ],
    defaults: defaults::<Settings>,
    plan,
    cost: None,
    figures: &[],
    work: Work::Table(run),
};

fn plan(settings: &Value, pipeline: &Pipeline) -> Result<Vec<Node>, PlanError> {
    let settings: Settings = parse_settings(STAGE.name, settings)?;
    for (key, value) in [("draws", settings.draws), ("shuffles", settings.shuffles)] {
        if value < 2 {
            return Err(PlanError::new(at("stages.null_directions").key(key), format!("{key} must be at least 2")));
        }
    }
    let directions: DirectionSettings = pipeline.section("directions")?;
    let mut nodes = Vec::new();
    for pair in directions.pairs(pipeline)? {
        for dataset in directions.datasets(pipeline)? {
            nodes.push(Node {
                stage: STAGE.name,
                bindings: settings::bindings(&dataset, &pair),
                params: json!({
                    "positions": directions.positions,
                    "kinds": directions.kinds,
                    "components": directions.components,
                    "draws": settings.draws,
                    "shuffles": settings.shuffles,
                    "seed": settings.seed,
                }),
                inputs: settings::state_inputs(&dataset, &pair),
                per_part: None,
            });
        }
    }
    Ok(nodes)
}

fn run(task: &Task) -> Result<Vec<Output>> {
    let params: Params = task.params()?;
    let pairs = PairedStates::open(task)?;
    let places = pairs.source.places_at(&params.positions)?;
    let found: Vec<Vec<Draw>> =
        places.par_iter().map(|place| draws(task, &pairs, place, &params)).collect::<Result<_>>()?;
    let mut columns = PlaceColumns::default();
    let mut rows = Vec::new();
    for (place, found) in places.iter().zip(&found) {
        for draw in found {
            columns.push(place);
            rows.push(draw);
        }
    }
    let width = match rows.first() {
        Some(row) => row.vector.len(),
        None => pairs.source.load(&places[0])?.width,
    };
    let [positions, layers, sites] = columns.arrays();
    let batch = TABLE.batch(vec![
        positions,
        layers,
        sites,
        Arc::new(StringArray::from_iter_values(rows.iter().map(|row| row.null.name()))),
        Arc::new(UInt32Array::from_iter_values(rows.iter().map(|row| row.draw))),
        Arc::new(UInt32Array::from_iter_values(rows.iter().map(|row| row.component))),
        vector_array(rows.iter().flat_map(|row| row.vector.iter().copied()).collect(), width)?,
    ])?;
    Ok(vec![Output::table(batch)])
}

struct Draw {
    null: Null,
    draw: u32,
    component: u32,
    vector: Vec<f32>,
}

fn draws(task: &Task, pairs: &PairedStates, place: &Place, params: &Params) -> Result<Vec<Draw>> {
    let (source, target) = pairs.states(place)?;
    let (n, width) = (source.examples.len(), source.width);
    let mut found = Vec::new();
    let mut keep = |null, draw, component, vector: Vec<f64>| {
        let vector = vector.into_iter().map(|value| value as f32).collect();
        found.push(Draw { null, draw, component, vector });
    };
    let mut centred = difference(&source, &target, &(0..n).collect::<Vec<_>>());
    let floor = rank_floor(norm(&centred));
    centre(&mut centred, width);
    if norm(&centred) > floor {
        let signs = |draw: u32| {
            let mut random = Random::new(params.seed, Null::CentredSigns.stream(draw));
            (0..n).map(move |_| if random.coin() { 1.0 } else { -1.0 })
        };
        let signs: Vec<f64> = (0..params.draws).flat_map(signs).collect();
        for (draw, sum) in combinations(&signs, &centred, width).chunks_exact(width).enumerate() {
            let mut vector = sum.to_vec();
            if scale_to_unit(&mut vector) > 0.0 {
                keep(Null::CentredSigns, draw as u32, 1, vector);
            }
        }
    }
    if params.kinds.contains(&DirectionKind::Svd) {
        for draw in 0..params.shuffles {
            if (task.cancelled)() {
                bail!("cancelled");
            }
            let order = Random::new(params.seed, Null::ShuffledPairs.stream(draw)).permutation(n);
            let mut shuffled = difference(&source, &target, &order);
            let floor = rank_floor(norm(&shuffled));
            centre(&mut shuffled, width);
            let principal = principal_directions(&shuffled, width, params.components, floor)?;
            for (rank, vector) in principal.vectors.into_iter().enumerate() {
                keep(Null::ShuffledPairs, draw, rank as u32 + 1, vector);
            }
        }
    }
    found.sort_by_key(|draw| (draw.null, draw.draw, draw.component));
    Ok(found)
}

/// Row i is the target's state of example `order[i]` minus the source's of example i.
fn difference(source: &States, target: &States, order: &[usize]) -> Vec<f64> {
    let pairs = order.iter().enumerate().map(|(row, &other)| (source.row(row), target.row(other)));
    pairs.flat_map(|(source, target)| target.iter().zip(source).map(|(target, source)| target - source)).collect()
}
