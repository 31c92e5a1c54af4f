//! Principal components of the vectors of a comparison: where its examples lie in the plane of most variance.

mod figure;

use std::sync::Arc;

use anyhow::Result;
use arrow::array::{ArrayRef, Float64Array, StringArray};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::comparison::compared::{Fill, Group, nodes};
use crate::comparison::groups::{SLICE_COLUMNS, slice_arrays};
use crate::comparison::task::Comparing;
use crate::contract::node::Node;
use crate::contract::pipeline::{Pipeline, PlanError, parse_settings};
use crate::contract::setting::{defaults, setting};
use crate::contract::stage::{Output, Outputs, Stage, Task, Work};
use crate::linear_algebra::{
    centre, dot, largest_entry, norm, principal_directions, products, rank_floor, scale_to_unit,
};
use crate::table::folders::{COMPARISON, OF, SHARED};
use crate::table::{Kind, Table, column};

/// `[stages.pca]`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Settings {
    robust: bool,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings { robust: true }
    }
}

#[derive(Debug, Deserialize)]
struct Params {
    #[serde(flatten)]
    comparing: Comparing,
    groups: Vec<Group>,
    robust: bool,
}

const COMPONENTS: usize = 3;
const TABLE: Table = Table {
    name: "pca",
    folders: &[OF, COMPARISON, SHARED],
    columns: &[
        SLICE_COLUMNS[0],
        SLICE_COLUMNS[1],
        SLICE_COLUMNS[2],
        SLICE_COLUMNS[3],
        column("model", Kind::Text, "model of the example's group"),
        column("dataset", Kind::Text, "dataset of the example's group"),
        column("example", Kind::Text, "identity of the example"),
        column("pc1", Kind::F64, "coordinate along the first principal component of the comparison"),
        column("pc2", Kind::F64, "coordinate along the second; null where the comparison has fewer dimensions"),
        column("pc3", Kind::F64, "coordinate along the third; null where the comparison has fewer dimensions"),
        column("explained_variance_1", Kind::F64, "share of the comparison's variance along pc1"),
        column("explained_variance_2", Kind::F64, "share of the comparison's variance along pc2"),
        column("explained_variance_3", Kind::F64, "share of the comparison's variance along pc3"),
    ],
};

pub static STAGE: Stage = Stage {
    name: "pca",
    version: 2,
    about: "The examples of the comparisons of stages.similarity on their first three principal components.",
    asked_by_default: false,
    notice: None,
    outputs: Outputs::Table(TABLE),
    settings: &[setting(
        "robust",
        "Whether the components are those of directions from the spatial median, in which an outlier counts as one example and not \
         by its distance (Locantore et al. 1999); false: of the vectors without their mean (the paper's).",
    )],
    defaults: defaults::<Settings>,
    plan,
    cost: None,
    figures: figure::FIGURES,
    work: Work::Table(run),
};

fn plan(settings: &Value, pipeline: &Pipeline) -> Result<Vec<Node>, PlanError> {
    let settings: Settings = parse_settings(STAGE.name, settings)?;
    nodes(STAGE.name, &settings, pipeline)
}

fn run(task: &Task) -> Result<Vec<Output>> {
    let mut params: Params = task.params()?;
    // Components are of whole vectors.
    if params.comparing.fill == Fill::Pairwise {
        params.comparing.fill = Fill::Common;
    }
    let groups = params.comparing.open(task, &params.groups)?;
    let (slices, mut counts) = (groups.slices(), Vec::new());
    let [mut models, mut datasets, mut examples] = [const { Vec::new() }; 3];
    let mut coordinates: [Vec<Option<f64>>; COMPONENTS] = Default::default();
    let mut shares: [Vec<Option<f64>>; COMPONENTS] = Default::default();
    for slice in &slices {
        let filled = params.comparing.load(&groups, slice)?;
        let pool = filled.groups.iter().flat_map(|group| group.values.iter().copied()).collect();
        let found = components(pool, filled.groups[0].width.max(1), params.robust)?;
        let count = filled.groups.iter().map(|group| group.examples.len()).sum();
        for component in 0..COMPONENTS {
            let of_all = found.get(component);
            shares[component].extend(std::iter::repeat_n(of_all.map(|found| found.share), count));
            match of_all {
                Some(found) => coordinates[component].extend(found.coordinates.iter().copied().map(Some)),
                None => coordinates[component].extend(std::iter::repeat_n(None, count)),
            }
        }
        for (group, states) in params.groups.iter().zip(filled.groups) {
            models.extend(std::iter::repeat_n(group.model.clone(), states.examples.len()));
            datasets.extend(std::iter::repeat_n(group.dataset.clone(), states.examples.len()));
            examples.extend(states.examples);
        }
        counts.push(count);
    }
    let mut arrays = slice_arrays(slices.iter().zip(counts.iter().copied()))?.to_vec();
    arrays.extend([models, datasets, examples].map(|texts| -> ArrayRef { Arc::new(StringArray::from(texts)) }));
    let numbers = |values: Vec<Option<f64>>| -> ArrayRef { Arc::new(Float64Array::from(values)) };
    arrays.extend(coordinates.into_iter().chain(shares).map(numbers));
    Ok(vec![Output::table(TABLE.batch(arrays)?)])
}

struct Component {
    /// One for each example.
    coordinates: Vec<f64>,
    /// Of the sum of squared distances from the centre.
    share: f64,
}

/// The first components of row-major vectors.
fn components(mut pool: Vec<f64>, width: usize, robust: bool) -> Result<Vec<Component>> {
    let mut floor = rank_floor(norm(&pool));
    let mut directed = Vec::new();
    if robust {
        let middle = spatial_median(&pool, width);
        pool.chunks_exact_mut(width).for_each(|row| row.iter_mut().zip(&middle).for_each(|(x, m)| *x -= m));
        directed = pool.clone();
        for row in directed.chunks_exact_mut(width) {
            if norm(row) <= floor {
                row.fill(0.0);
            }
            scale_to_unit(row);
        }
        floor = rank_floor(norm(&directed));
    } else {
        centre(&mut pool, width);
    }
    let found = principal_directions(if robust { &directed } else { &pool }, width, COMPONENTS, floor)?;
    let total = dot(&pool, &pool);
    let component = |mut vector: Vec<f64>| {
        if largest_entry(&vector) < 0.0 {
            vector.iter_mut().for_each(|value| *value = -*value);
        }
        let coordinates = products(&pool, &vector, width);
        let share = dot(&coordinates, &coordinates) / total;
        Component { coordinates, share }
    };
    Ok(found.vectors.into_iter().map(component).collect())
}

/// The point with the least sum of distances to the rows (Weiszfeld 1937), to 1e-9 of their spread.
fn spatial_median(rows: &[f64], width: usize) -> Vec<f64> {
    const ROUNDS: usize = 200;
    let count = (rows.len() / width).max(1) as f64;
    let mut middle = vec![0.0; width];
    rows.chunks_exact(width).for_each(|row| middle.iter_mut().zip(row).for_each(|(m, x)| *m += x / count));
    let distance =
        |row: &[f64], middle: &[f64]| row.iter().zip(middle).map(|(x, m)| (x - m) * (x - m)).sum::<f64>().sqrt();
    let spread = rows.chunks_exact(width).map(|row| distance(row, &middle)).sum::<f64>() / count;
    for _ in 0..ROUNDS {
        let (mut next, mut weight) = (vec![0.0; width], 0.0);
        for row in rows.chunks_exact(width) {
            // A row at the middle itself would count without limit.
            let closeness = 1.0 / distance(row, &middle).max(1e-6 * spread).max(f64::MIN_POSITIVE);
            next.iter_mut().zip(row).for_each(|(next, x)| *next += closeness * x);
            weight += closeness;
        }
        next.iter_mut().for_each(|next| *next /= weight);
        let moved = distance(&next, &middle);
        middle = next;
        if moved <= 1e-9 * spread {
            break;
        }
    }
    middle
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::statistics::random::Random;

    #[test]
    fn the_median_of_a_triangle_sees_its_sides_under_equal_angles() {
        let rows = [0.0, 0.0, 4.0, 0.0, 1.0, 3.0];
        let middle = spatial_median(&rows, 2);
        let unit = |i: usize| {
            let mut to = vec![rows[2 * i] - middle[0], rows[2 * i + 1] - middle[1]];
            scale_to_unit(&mut to);
            to
        };
        for (i, j) in [(0, 1), (1, 2), (0, 2)] {
            assert!((dot(&unit(i), &unit(j)) + 0.5).abs() < 1e-6, "{middle:?}");
        }
    }

    #[test]
    fn an_outlier_does_not_turn_the_components() {
        let mut random = Random::new(1, 0);
        let mut pool: Vec<f64> = (0..60).flat_map(|_| [3.0 * random.normal(), 0.3 * random.normal(), 0.1]).collect();
        pool.extend([0.0, 1000.0, 0.1]);
        let first = |robust: bool| components(pool.clone(), 3, robust).unwrap().remove(0).coordinates;
        // Along the first axis the outlier is one of many, along the second it is all.
        let (robust, plain) = (first(true), first(false));
        assert!(robust[60].abs() < 60.0 && plain[60].abs() > 900.0, "{} {}", robust[60], plain[60]);
        assert!((robust[0] - robust[1] - pool[0] + pool[3]).abs() < 0.3);
    }
}
