//! Each example's gradient of its mean cross-entropy for chosen weight matrices: its length, and a random
//! projection small enough to keep.
//!
//! The gradient itself, as large as the matrix, is not kept: the comparisons that need it exactly read
//! `gradient_factors`.

mod norm;
mod projection;

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::Result;
use arrow::array::{ArrayRef, Float32Array, StringArray};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::contract::cost::{Cost, Expected, Pass};
use crate::contract::module::ModulePath;
use crate::contract::node::Node;
use crate::contract::observer::{Factors, LossGradients};
use crate::contract::observer::{Observer, PassContext, Wants};
use crate::contract::pipeline::{Pipeline, PlanError, parse_settings};
use crate::contract::setting::{defaults, setting};
use crate::contract::stage::{Output, Outputs, Stage, Work};
use crate::gradients::settings::{GradientChoice, Settings};
use crate::model::plan::watching_nodes;
use crate::table::folders::{DATASET, MODEL};
use crate::table::{Kind, Table, column, vector_array};
use projection::Projection;

pub const TABLE: Table = Table {
    name: "gradients",
    folders: &[MODEL, DATASET],
    columns: &[
        column("example", Kind::Text, "the example's identity; examples without a token to predict are left out"),
        column("module", Kind::Text, "the weight matrix, as layers.3.self_attn.o_proj"),
        column("norm", Kind::F32, "Euclidean length of the gradient of the example's mean cross-entropy (nats)"),
        column(
            "projected",
            Kind::Vector,
            "random projection of the gradient; its inner products estimate the gradients' without bias",
        ),
    ],
};

#[derive(Serialize, Deserialize)]
struct Params {
    #[serde(flatten)]
    choice: GradientChoice,
    size: usize,
    seed: u64,
}

pub static STAGE: Stage = Stage {
    name: "gradients",
    version: 2,
    about: "Takes each example's loss gradient for chosen weight matrices: its norm and a random projection.",
    asked_by_default: false,
    notice: None,
    outputs: Outputs::Table(TABLE),
    settings: &[
        setting("models", "The models to take gradients of."),
        setting("datasets", "The datasets whose examples give the losses."),
        setting(
            "modules",
            "Weight matrices by name; `*` stands for any text (`layers.*.mlp.down_proj`), -1 for the last \
             block. The exact comparison of gradients uses the same ones.",
        ),
        setting(
            "over",
            "The loss is the mean cross-entropy over all predicted tokens (`all`) or those of the response \
                    (`response`).",
        ),
        setting("size", "How many numbers a gradient is projected to."),
        setting("seed", "The seed of the projection's random signs."),
    ],
    defaults: defaults::<Settings>,
    plan,
    cost: Some(cost),
    figures: &[],
    work: Work::Watch(observer),
};

fn plan(settings: &Value, pipeline: &Pipeline) -> Result<Vec<Node>, PlanError> {
    let settings: Settings = parse_settings(STAGE.name, settings)?;
    settings.check(pipeline)?;
    let params = json!({ "modules": settings.modules, "over": settings.over, "size": settings.size,
        "seed": settings.seed });
    watching_nodes(STAGE.name, &settings.models, &settings.datasets, pipeline, params, false)
}

/// The passes up and down, which are shared; then norms and projections.
fn cost(params: &Value, expected: &Expected) -> Option<Cost> {
    let params = Params::deserialize(params).ok()?;
    let [model] = expected.models.as_slice() else { return None };
    let (top, text) = (model.layers(), expected.text);
    let modules = params.choice.wanted(&model.modules).ok()?.modules;
    let blocks = top - modules.first()?.layer;
    let sketches = modules.iter().map(|path| {
        let (out, inputs) = model.shape(path);
        2.0 * (out + inputs) as f64 * (params.size as f64 * text.tokens + text.squares)
    });
    let written = text.examples * modules.len() as f64 * 4.0 * (params.size + 1) as f64;
    let pass = Pass { blocks: top, predictions: 0.0, reversed: blocks };
    Some(Cost { pass, flops: sketches.sum(), written, memory: 0.0 })
}

fn observer(params: &Value, context: &PassContext) -> Result<Box<dyn Observer>> {
    let params = Params::deserialize(params)?;
    let wanted = params.choice.wanted(context.modules)?;
    let present =
        (0..context.sequences.ids.len()).map(|i| !wanted.over.tokens(context.sequences, i).is_empty()).collect();
    Ok(Box::new(Sketches {
        examples: context.sequences.examples.clone(),
        present,
        wanted,
        params,
        found: BTreeMap::new(),
    }))
}

/// Norms and projections of one part's gradients, as the backward pass comes by their modules.
struct Sketches {
    examples: Vec<String>,
    /// Whether each example has a loss at all.
    present: Vec<bool>,
    wanted: LossGradients,
    params: Params,
    found: BTreeMap<ModulePath, Sketched>,
}

/// A module's projection, and the sketches so far of the examples that are present.
struct Sketched {
    projection: Projection,
    sketches: Vec<(f32, Vec<f32>)>,
}

impl Observer for Sketches {
    fn wants(&self) -> Wants {
        Wants::default()
    }

    fn gradients(&self) -> Option<LossGradients> {
        Some(self.wanted.clone())
    }

    fn factors(&mut self, factors: &Factors) -> Result<()> {
        let Factors { path, inputs, out, .. } = *factors;
        let Params { size, seed, .. } = self.params;
        let sketched = self.found.entry(path.clone()).or_insert_with(|| Sketched {
            projection: Projection::new(size, seed, path, out, inputs),
            sketches: Vec::new(),
        });
        let projection = &sketched.projection;
        let sequences: Vec<_> =
            factors.rows.iter().zip(factors.sequences.clone()).filter(|(_, i)| self.present[*i]).collect();
        sketched.sketches.par_extend(sequences.into_par_iter().map(|(rows, _)| {
            let x = &factors.x[rows.start * inputs..rows.end * inputs];
            let d = &factors.d[rows.start * out..rows.end * out];
            (norm::squared_norm(x, d, inputs, out).sqrt() as f32, projection.project(x, d))
        }));
        Ok(())
    }

    fn finish(self: Box<Self>) -> Result<Vec<Output>> {
        let present: Vec<&str> =
            self.examples.iter().zip(&self.present).filter(|(_, present)| **present).map(|(id, _)| &**id).collect();
        let (mut examples, mut modules, mut norms, mut projected) = (vec![], vec![], vec![], vec![]);
        for (path, sketched) in self.found {
            examples.extend_from_slice(&present);
            modules.extend(std::iter::repeat_n(path.name(), present.len()));
            for (norm, projection) in sketched.sketches {
                norms.push(norm);
                projected.extend(projection);
            }
        }
        let batch = TABLE.batch(vec![
            Arc::new(StringArray::from(examples)) as ArrayRef,
            Arc::new(StringArray::from(modules)),
            Arc::new(Float32Array::from(norms)),
            vector_array(projected, self.params.size)?,
        ])?;
        let skipped = self.examples.len() - present.len();
        let metadata = BTreeMap::from([
            ("strata.projection_size".to_string(), self.params.size.to_string()),
            ("strata.projection_seed".to_string(), self.params.seed.to_string()),
            ("strata.examples_without_loss".to_string(), skipped.to_string()),
        ]);
        Ok(vec![Output::Table { batch, metadata }])
    }
}

#[cfg(test)]
mod tests;
