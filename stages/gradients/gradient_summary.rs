//! The lengths of a dataset's gradients in one line for each weight matrix: their mean and how they spread.

mod figure;

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::Result;
use arrow::array::{Float32Array, Float64Array, StringArray, UInt32Array};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::settings::Settings as Gradients;
use crate::contract::node::{Input, Node};
use crate::contract::pipeline::{Pipeline, PlanError, model_dataset, parse_settings};
use crate::contract::setting::defaults;
use crate::contract::stage::{Output, Outputs, Stage, Task, Work};
use crate::statistics::box_plot::{self, BOX_COLUMNS};
use crate::statistics::moments::mean;
use crate::table::folders::{DATASET, MODEL};
use crate::table::{self, Kind, Table, column, values};

/// `[stages.gradient_summary]` has no keys of its own.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Settings {}

const COLUMNS: &[&str] = &["module", "norm"];

const TABLE: Table = Table {
    name: "gradient_summary",
    folders: &[MODEL, DATASET],
    columns: &[
        column("module", Kind::Text, "the weight matrix, as layers.3.self_attn.o_proj"),
        column("n", Kind::U32, "number of examples"),
        column("mean", Kind::F64, "mean length of the examples' gradients"),
        BOX_COLUMNS[0],
        BOX_COLUMNS[1],
        BOX_COLUMNS[2],
        BOX_COLUMNS[3],
        BOX_COLUMNS[4],
        BOX_COLUMNS[5],
        BOX_COLUMNS[6],
    ],
};

pub static STAGE: Stage = Stage {
    name: "gradient_summary",
    version: 1,
    about: "The lengths of a dataset's gradients under a model, per weight matrix: mean, quartiles and whiskers.",
    asked_by_default: false,
    notice: None,
    outputs: Outputs::Table(TABLE),
    settings: &[],
    defaults: defaults::<Settings>,
    plan,
    cost: None,
    figures: &[figure::FIGURES],
    work: Work::Table(run),
};

fn plan(settings: &Value, pipeline: &Pipeline) -> Result<Vec<Node>, PlanError> {
    let Settings {} = parse_settings(STAGE.name, settings)?;
    let gradients: Gradients = pipeline.section("gradients")?;
    let mut nodes = Vec::new();
    for model in pipeline.models(&gradients.models, "stages.gradients.models")? {
        for dataset in pipeline.datasets(&gradients.datasets, "stages.gradients.datasets")? {
            let bindings = model_dataset(&model.name, &dataset.name);
            let inputs = vec![Input::node("gradients", "gradients", bindings.clone()).columns(COLUMNS)];
            nodes.push(Node { stage: STAGE.name, bindings, params: json!({}), inputs, per_part: None });
        }
    }
    Ok(nodes)
}

fn run(task: &Task) -> Result<Vec<Output>> {
    let batch = table::read(task.parts("gradients")?, COLUMNS)?;
    let modules: &StringArray = values(&batch, "module")?;
    let norms: &Float32Array = values(&batch, "norm")?;
    let mut found: BTreeMap<&str, Vec<f64>> = BTreeMap::new();
    for row in 0..batch.num_rows() {
        found.entry(modules.value(row)).or_default().push(f64::from(norms.value(row)));
    }
    let mut arrays: Vec<arrow::array::ArrayRef> = vec![
        Arc::new(StringArray::from_iter_values(found.keys())),
        Arc::new(UInt32Array::from_iter_values(found.values().map(|norms| norms.len() as u32))),
        Arc::new(Float64Array::from_iter_values(found.values().map(|norms| mean(norms)))),
    ];
    arrays.extend(box_plot::arrays(found.values().map(Vec::as_slice)));
    Ok(vec![Output::table(TABLE.batch(arrays)?)])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::tables::{TestTables, f32s, numbers, run, text, texts};

    #[test]
    fn one_row_for_each_weight_matrix() {
        let tables = TestTables::new();
        let gradients =
            tables.part(vec![("module", text(["b", "a", "b", "b", "b"])), ("norm", f32s([1.0, 5.0, 2.0, 3.0, 4.0]))]);
        let found = run(&STAGE, json!({}), &[("gradients", &[gradients])]).unwrap();
        assert_eq!((texts(&found, "module"), numbers(&found, "n")), (vec!["a".into(), "b".into()], vec![1.0, 4.0]));
        // numpy.percentile([1, 2, 3, 4], [25, 75]) = [1.75, 3.25]
        assert_eq!(numbers(&found, "mean"), [5.0, 2.5]);
        assert_eq!((numbers(&found, "q1"), numbers(&found, "q3")), (vec![5.0, 1.75], vec![5.0, 3.25]));
    }
}
