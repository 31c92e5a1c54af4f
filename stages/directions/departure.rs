//! Where in the network two models' projections part: the first layer at which the band of their paired difference, which
//! holds at all layers at once, leaves out 0.

mod figure;

use std::sync::Arc;

use anyhow::Result;
use arrow::array::{Array, BooleanArray, Float64Array, StringArray, UInt32Array};
use serde_json::{Value, json};

use crate::contract::node::{Input, Node};
use crate::contract::pipeline::{Pipeline, PlanError, parse_settings};
use crate::contract::setting::{NoSettings, defaults};
use crate::contract::stage::{Output, Outputs, Stage, Task, Work};
use crate::directions::direction_table::{COMPONENT, DirectionName, KIND, name_arrays, names};
use crate::directions::projected::{FITTED, FOLDS, projected};
use crate::states::place_columns::{POSITION, places};
use crate::states::state_table::Place;
use crate::table::folders::{DATASET, DIRECTION, MODEL_A, MODEL_B, SOURCE, TARGET};
use crate::table::{self, Kind, Table, column, values};

const COLUMNS: &[&str] =
    &["kind", "component", "position", "layer", "site", "folds", "fitted", "difference_low", "difference_high"];
const TABLE: Table = Table {
    name: "departure",
    folders: &[DIRECTION, SOURCE, TARGET, DATASET, MODEL_A, MODEL_B],
    columns: &[
        KIND,
        COMPONENT,
        POSITION,
        FOLDS,
        FITTED,
        column("layers", Kind::U32, "number of layers compared, the state after the final norm being one more"),
        column(
            "layer",
            Kind::U32,
            "first layer at which the 95 % band of the paired difference (separation.difference_low, difference_high), which \
             holds at all layers at once, leaves out 0; null: none",
        ),
        column("site", Kind::Text, "residual or final_norm, where that is; null: nowhere"),
        column("stays", Kind::Bool, "whether the band leaves out 0 at all later layers too; null: they never part"),
    ],
};

pub static STAGE: Stage = Stage {
    name: "departure",
    version: 3,
    about: "The first layer at which two models' projections differ, by a band over all layers at once.",
    asked_by_default: true,
    notice: None,
    outputs: Outputs::Table(TABLE),
    settings: &[],
    defaults: defaults::<NoSettings>,
    plan,
    cost: None,
    figures: &[figure::FIGURES],
    work: Work::Table(run),
};

fn plan(settings: &Value, pipeline: &Pipeline) -> Result<Vec<Node>, PlanError> {
    let NoSettings {} = parse_settings(STAGE.name, settings)?;
    let mut nodes = Vec::new();
    for projected in projected(&pipeline.section("projections")?, pipeline)? {
        for (a, b) in projected.model_pairs() {
            let bindings = projected.comparison(a, b);
            nodes.push(Node {
                stage: STAGE.name,
                params: json!({}),
                inputs: vec![Input::node("separation", "separation", bindings.clone()).columns(COLUMNS)],
                bindings,
                per_part: None,
            });
        }
    }
    Ok(nodes)
}

fn run(task: &Task) -> Result<Vec<Output>> {
    let batch = table::read(task.parts("separation")?, COLUMNS)?;
    let low: &Float64Array = values(&batch, "difference_low")?;
    let high: &Float64Array = values(&batch, "difference_high")?;
    let folds: &UInt32Array = values(&batch, "folds")?;
    let fitted: &BooleanArray = values(&batch, "fitted")?;
    let mut curves: Vec<Curve> = Vec::new();
    // In the order of the table: direction, then position and layer.
    for (row, (name, place)) in names(&batch)?.into_iter().zip(places(&batch)?).enumerate() {
        // A null end is a layer at which nothing can be told.
        let ends = low.is_valid(row) && high.is_valid(row);
        let apart = ends && (low.value(row) > 0.0 || high.value(row) < 0.0);
        match curves.last_mut() {
            Some(curve) if curve.name == name && curve.position == place.position => curve.push(place, apart),
            _ => {
                let position = place.position.clone();
                let (folds, fitted) = (folds.value(row), fitted.value(row));
                let mut curve = Curve { name, position, folds, fitted, layers: 0, first: None };
                curve.push(place, apart);
                curves.push(curve);
            }
        }
    }
    let [kinds, components] = name_arrays(&curves.iter().map(|curve| curve.name).collect::<Vec<_>>());
    let first = || curves.iter().map(|curve| curve.first.as_ref());
    let batch = TABLE.batch(vec![
        kinds,
        components,
        Arc::new(StringArray::from_iter_values(curves.iter().map(|curve| &curve.position))),
        Arc::new(UInt32Array::from_iter_values(curves.iter().map(|curve| curve.folds))),
        Arc::new(BooleanArray::from_iter(curves.iter().map(|curve| Some(curve.fitted)))),
        Arc::new(UInt32Array::from_iter_values(curves.iter().map(|curve| curve.layers))),
        Arc::new(first().map(|first| first.map(|(place, _)| place.site.layer as u32)).collect::<UInt32Array>()),
        Arc::new(first().map(|first| first.map(|(place, _)| place.site.name())).collect::<StringArray>()),
        Arc::new(first().map(|first| first.map(|(_, stays)| *stays)).collect::<BooleanArray>()),
    ])?;
    Ok(vec![Output::table(batch)])
}

/// The bands over the layers of one direction and position.
struct Curve {
    name: DirectionName,
    position: String,
    folds: u32,
    fitted: bool,
    layers: u32,
    /// The first place where they part, and whether they have stayed apart since.
    first: Option<(Place, bool)>,
}

impl Curve {
    fn push(&mut self, place: Place, apart: bool) {
        self.layers += 1;
        match &mut self.first {
            Some((_, stays)) => *stays &= apart,
            None => self.first = apart.then_some((place, true)),
        }
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::ArrayRef;

    use super::*;
    use crate::testing::tables::{TestTables, numbers, run, text, texts, u32s};

    /// The bands of one direction at residual layers 0 to n - 2 and the final norm at n - 2; NaN is null.
    fn departure(bands: &[(f64, f64)]) -> (f64, String, String) {
        let n = bands.len();
        let top = n as u32 - 2;
        let end = |end: fn(&(f64, f64)) -> f64| -> ArrayRef {
            Arc::new(bands.iter().map(|band| Some(end(band)).filter(|x| x.is_finite())).collect::<Float64Array>())
        };
        let tables = TestTables::new();
        let part = tables.part(vec![
            ("kind", text(vec!["svd"; n])),
            ("component", u32s(vec![1; n])),
            ("position", text(vec!["last"; n])),
            ("layer", u32s((0..n as u32).map(|layer| layer.min(top)))),
            ("site", text((0..n).map(|row| if row == n - 1 { "final_norm" } else { "residual" }))),
            ("folds", u32s(vec![5; n])),
            ("fitted", Arc::new(BooleanArray::from(vec![false; n]))),
            ("difference_low", end(|band| band.0)),
            ("difference_high", end(|band| band.1)),
        ]);
        let found = run(&crate::directions::departure::STAGE, json!({}), &[("separation", &[part])]).unwrap();
        let stays: &BooleanArray = values(&found, "stays").unwrap();
        let stays = stays.iter().next().flatten();
        assert_eq!((numbers(&found, "layers"), numbers(&found, "folds")), (vec![n as f64], vec![5.0]));
        (numbers(&found, "layer")[0], texts(&found, "site")[0].clone(), format!("{stays:?}"))
    }

    #[test]
    fn the_first_layer_whose_band_leaves_out_zero() {
        let none = (f64::NAN, f64::NAN);
        let found = departure(&[(-0.5, 2.0), (0.5, 2.0), (-2.0, -1.0), (3.0, 4.0)]);
        assert_eq!(found, (1.0, "residual".into(), "Some(true)".into()));
        let found = departure(&[(-0.5, 2.0), (0.5, 2.0), (-1.0, 2.0), (3.0, 4.0)]);
        assert_eq!(found, (1.0, "residual".into(), "Some(false)".into()));
        let found = departure(&[(-0.5, 2.0), (-0.5, 2.0), (0.0, 2.0), (3.0, 4.0)]);
        assert_eq!(found, (2.0, "final_norm".into(), "Some(true)".into()));
        // Where the examples do not differ from each other nothing is told: not that the models part, nor that they stay apart.
        let found = departure(&[none, (1.5, 2.0), (1.0, 2.0), none]);
        assert_eq!(found, (1.0, "residual".into(), "Some(false)".into()));
        let (layer, site, stays) = departure(&[none, (-1.0, 1.0), (-1.0, 1.0)]);
        assert!(layer.is_nan() && site == "null" && stays == "None");
    }
}
