//! Where in the network two models' projections part: the first layer at which their intervals do not meet.

mod figure;

use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use arrow::array::{BooleanArray, Float64Array, StringArray, UInt32Array};
use serde_json::{Value, json};

use crate::contract::node::{Input, Node, Part};
use crate::contract::pipeline::{Pipeline, PlanError, parse_settings};
use crate::contract::setting::{NoSettings, defaults};
use crate::contract::stage::{Output, Outputs, Stage, Task, Work};
use crate::directions::direction_table::{COMPONENT, DirectionName, KIND, name_arrays, names};
use crate::directions::projected::projected;
use crate::states::place_columns::{POSITION, places};
use crate::states::state_table::Place;
use crate::statistics::bootstrap::Interval;
use crate::table::folders::{DATASET, DIRECTION, MODEL_A, MODEL_B, SOURCE, TARGET};
use crate::table::{self, Kind, Table, column, values};

const COLUMNS: &[&str] = &["kind", "component", "position", "layer", "site", "ci_low", "ci_high"];
const TABLE: Table = Table {
    name: "departure",
    folders: &[DIRECTION, SOURCE, TARGET, DATASET, MODEL_A, MODEL_B],
    columns: &[
        KIND,
        COMPONENT,
        POSITION,
        column("layers", Kind::U32, "number of layers compared, the state after the final norm being one more"),
        column(
            "layer",
            Kind::U32,
            "first layer at which the 95 % intervals of the two means do not overlap, layers at which neither has a width \
             apart; null: none",
        ),
        column("site", Kind::Text, "residual or final_norm, where that is; null: nowhere"),
        column("stays", Kind::Bool, "whether they overlap at no later layer either; null: they never part"),
    ],
};

pub static STAGE: Stage = Stage {
    name: "departure",
    version: 2,
    about: "The first layer at which the intervals of two models' mean projections no longer overlap.",
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
            let input = |role: &str, model: &str| {
                Input::node(role, "projection_summary", projected.bindings(model)).columns(COLUMNS)
            };
            nodes.push(Node {
                stage: STAGE.name,
                bindings: projected.comparison(a, b),
                params: json!({}),
                inputs: vec![input("a", a), input("b", b)],
                per_part: None,
            });
        }
    }
    Ok(nodes)
}

fn run(task: &Task) -> Result<Vec<Output>> {
    let a = intervals(task.parts("a")?).context("summary of model a")?;
    let b = intervals(task.parts("b")?).context("summary of model b")?;
    ensure!(
        a.iter().map(|row| (row.0, &row.1)).eq(b.iter().map(|row| (row.0, &row.1))),
        "the two models' projections are on different directions or layers"
    );
    let mut curves: Vec<Curve> = Vec::new();
    for ((name, place, a), (_, _, b)) in a.into_iter().zip(b) {
        // At layer 0 the last token of every chat can be one embedding: any training moves it, by whatever little,
        // and intervals without a width would always part there.
        let apart = !(a.overlaps(&b) || is_point(&a) && is_point(&b));
        match curves.last_mut() {
            Some(curve) if curve.name == name && curve.position == place.position => curve.push(place, apart),
            _ => {
                let mut curve = Curve { name, position: place.position.clone(), layers: 0, first: None };
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
        Arc::new(UInt32Array::from_iter_values(curves.iter().map(|curve| curve.layers))),
        Arc::new(first().map(|first| first.map(|(place, _)| place.site.layer as u32)).collect::<UInt32Array>()),
        Arc::new(first().map(|first| first.map(|(place, _)| place.site.name())).collect::<StringArray>()),
        Arc::new(first().map(|first| first.map(|(_, stays)| *stays)).collect::<BooleanArray>()),
    ])?;
    Ok(vec![Output::table(batch)])
}

/// Two models' intervals over the layers of one direction and position.
struct Curve {
    name: DirectionName,
    position: String,
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

/// Whether all examples had one value, but for rounding.
fn is_point(interval: &Interval) -> bool {
    interval.high - interval.low <= 1e-6 * interval.high.abs().max(interval.low.abs())
}

/// The rows of a `projection_summary` node, in its order: direction, then position and layer.
fn intervals(parts: &[Part]) -> Result<Vec<(DirectionName, Place, Interval)>> {
    let batch = table::read(parts, COLUMNS)?;
    let low: &Float64Array = values(&batch, "ci_low")?;
    let high: &Float64Array = values(&batch, "ci_high")?;
    let rows = names(&batch)?.into_iter().zip(places(&batch)?).enumerate();
    Ok(rows
        .map(|(row, (name, place))| (name, place, Interval { low: low.value(row), high: high.value(row) }))
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::tables::{TestTables, numbers, run, text, texts, u32s};

    /// A summary of one direction at residual layers 0 to n - 2 and the final norm at n - 2.
    fn summary(tables: &TestTables, intervals: &[(f64, f64)]) -> Part {
        let n = intervals.len();
        let top = n as u32 - 2;
        tables.part(vec![
            ("kind", text(vec!["svd"; n])),
            ("component", u32s(vec![1; n])),
            ("position", text(vec!["last"; n])),
            ("layer", u32s((0..n as u32).map(|layer| layer.min(top)))),
            ("site", text((0..n).map(|row| if row == n - 1 { "final_norm" } else { "residual" }))),
            ("ci_low", Arc::new(Float64Array::from_iter_values(intervals.iter().map(|found| found.0)))),
            ("ci_high", Arc::new(Float64Array::from_iter_values(intervals.iter().map(|found| found.1)))),
        ])
    }

    fn departure(a: &[(f64, f64)], b: &[(f64, f64)]) -> (f64, String, String) {
        let tables = TestTables::new();
        let found = run(
            &crate::directions::departure::STAGE,
            json!({}),
            &[("a", &[summary(&tables, a)]), ("b", &[summary(&tables, b)])],
        )
        .unwrap();
        let stays: &BooleanArray = values(&found, "stays").unwrap();
        let stays = stays.iter().next().flatten();
        assert_eq!(numbers(&found, "layers"), [a.len() as f64]);
        (numbers(&found, "layer")[0], texts(&found, "site")[0].clone(), format!("{stays:?}"))
    }

    #[test]
    fn the_first_layer_where_intervals_part() {
        let a = [(0.0, 1.0), (0.0, 1.0), (0.0, 1.0), (0.0, 1.0)];
        let found = departure(&a, &[(0.5, 2.0), (1.5, 2.0), (-2.0, -1.0), (3.0, 4.0)]);
        assert_eq!(found, (1.0, "residual".into(), "Some(true)".into()));
        let found = departure(&a, &[(0.5, 2.0), (1.5, 2.0), (1.0, 2.0), (3.0, 4.0)]);
        assert_eq!(found, (1.0, "residual".into(), "Some(false)".into()));
        let found = departure(&a, &[(0.5, 2.0), (0.5, 2.0), (1.0, 2.0), (3.0, 4.0)]);
        assert_eq!(found, (2.0, "final_norm".into(), "Some(true)".into()));
        // Two points lie apart whatever little moved them, and say nothing; a point and an interval do.
        let found =
            departure(&[(1.0, 1.0), (0.0, 0.0), a[2], a[3]], &[(1.1, 1.1 + 1e-8), (1.5, 2.0), (1.5, 2.0), (3.0, 4.0)]);
        assert_eq!(found, (1.0, "residual".into(), "Some(true)".into()));
        let (layer, site, stays) = departure(&a, &a);
        assert!(layer.is_nan() && site == "null" && stays == "None");
    }
}
