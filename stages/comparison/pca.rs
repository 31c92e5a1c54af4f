//! Principal components of the vectors of a comparison: where its examples lie in the plane of most variance.

mod figure;

use std::sync::Arc;

use anyhow::Result;
use arrow::array::{ArrayRef, Float64Array, StringArray};
use serde::Deserialize;
use serde_json::Value;

use crate::comparison::compared::{Settings as ComparisonSettings, comparisons};
use crate::comparison::groups::{Groups, Reading, SLICE_COLUMNS, pooled, slice_arrays};
use crate::contract::node::Node;
use crate::contract::pipeline::{Pipeline, PlanError, parse_settings};
use crate::contract::setting::{NoSettings, defaults};
use crate::contract::stage::{Output, Outputs, Stage, Task, Work};
use crate::linear_algebra::{centre, largest_entry, norm, principal_directions, products, rank_floor};
use crate::table::folders::{DATASET, MODEL, OF};
use crate::table::{Kind, Table, column};

#[derive(Debug, Deserialize)]
struct Params {
    #[serde(flatten)]
    reading: Reading,
    group: usize,
}

const COMPONENTS: usize = 3;
const TABLE: Table = Table {
    name: "pca",
    folders: &[OF, MODEL, DATASET],
    columns: &[
        SLICE_COLUMNS[0],
        SLICE_COLUMNS[1],
        SLICE_COLUMNS[2],
        SLICE_COLUMNS[3],
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
    version: 1,
    about: "The examples of the comparisons of stages.similarity on their first three principal components.",
    asked_by_default: false,
    notice: None,
    outputs: Outputs::Table(TABLE),
    settings: &[],
    defaults: defaults::<NoSettings>,
    plan,
    cost: None,
    figures: figure::FIGURES,
    work: Work::Table(run),
};

fn plan(settings: &Value, pipeline: &Pipeline) -> Result<Vec<Node>, PlanError> {
    let NoSettings {} = parse_settings(STAGE.name, settings)?;
    let compared: ComparisonSettings = pipeline.section("similarity")?;
    let mut nodes = Vec::new();
    for comparison in comparisons(&compared, pipeline)? {
        for (group, (model, dataset)) in comparison.groups.iter().enumerate() {
            let mut params = comparison.params(&compared);
            params["group"] = group.into();
            nodes.push(Node {
                stage: STAGE.name,
                bindings: vec![
                    ("of", comparison.of.name().to_string()),
                    ("model", model.clone()),
                    ("dataset", dataset.clone()),
                ],
                params,
                inputs: comparison.inputs(),
                per_part: None,
            });
        }
    }
    Ok(nodes)
}

fn run(task: &Task) -> Result<Vec<Output>> {
    let params: Params = task.params()?;
    let groups = Groups::open(task, &params.reading)?;
    let (mut slices, mut examples) = (Vec::new(), Vec::new());
    let mut coordinates: [Vec<Option<f64>>; COMPONENTS] = Default::default();
    let mut shares: [Vec<Option<f64>>; COMPONENTS] = Default::default();
    for slice in groups.slices() {
        let loaded = groups.load(&slice)?;
        let width = loaded[0].width;
        let mut pool = pooled(&loaded, false);
        let floor = rank_floor(norm(&pool));
        centre(&mut pool, width);
        let mut found = principal_directions(&pool, width, COMPONENTS, floor)?;
        found.vectors.iter_mut().for_each(|vector| {
            if largest_entry(vector) < 0.0 {
                vector.iter_mut().for_each(|value| *value = -*value);
            }
        });
        let start: usize = loaded[..params.group].iter().map(|group| group.examples.len()).sum();
        let own = &loaded[params.group].examples;
        let rows = &pool[start * width..(start + own.len()) * width];
        for component in 0..COMPONENTS {
            let share = found.singular_values.get(component).map(|singular| singular * singular / found.total);
            shares[component].extend(std::iter::repeat_n(share, own.len()));
            match found.vectors.get(component) {
                Some(vector) => coordinates[component].extend(products(rows, vector, width).into_iter().map(Some)),
                None => coordinates[component].extend(std::iter::repeat_n(None, own.len())),
            }
        }
        examples.extend(own.iter().cloned());
        slices.push((slice, own.len()));
    }
    let mut arrays = slice_arrays(&slices).to_vec();
    arrays.push(Arc::new(StringArray::from(examples)));
    let numbers = |values: Vec<Option<f64>>| -> ArrayRef { Arc::new(Float64Array::from(values)) };
    arrays.extend(coordinates.into_iter().chain(shares).map(numbers));
    Ok(vec![Output::table(TABLE.batch(arrays)?)])
}
