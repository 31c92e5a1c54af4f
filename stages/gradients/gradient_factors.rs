//! Each example's gradients without loss of anything: what the exact comparison of gradients is made of.
//!
//! The gradient of a weight matrix is the sum over tokens of output gradient times input. Stored is whichever is
//! smaller: the two factors, a row for each token, or the gradient, a row for each of the layer's outputs. Tokens
//! whose output gradient is 0 (nothing was predicted from them or after them) add nothing and are left out.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::Result;
use arrow::array::{ArrayRef, StringArray, UInt32Array};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::contract::cost::{Cost, Expected, Pass};
use crate::contract::module::ModulePath;
use crate::contract::node::Node;
use crate::contract::observer::{Factors, LossGradients};
use crate::contract::observer::{Observer, PassContext, Wants};
use crate::contract::pipeline::{Pipeline, PlanError, parse_settings};
use crate::contract::setting::{NoSettings, defaults};
use crate::contract::stage::{Output, Outputs, Stage, Work};
use crate::gradients::factors::{FactorKind, Kept, kept};
use crate::gradients::settings::{GradientChoice, Settings};
use crate::model::ops::weight_gradient_add;
use crate::model::plan::watching_nodes;
use crate::table::folders::{DATASET, MODEL};
use crate::table::{Kind, Table, column, list_array};

pub const TABLE: Table = Table {
    name: "gradient_factors",
    folders: &[MODEL, DATASET],
    columns: &[
        column("example", Kind::Text, "the example's identity"),
        column("module", Kind::Text, "the weight matrix, as layers.3.self_attn.o_proj"),
        column(
            "kind",
            Kind::Text,
            "`gradient`: a row of the gradient; `input` and `output_gradient`: the layer's input at a token, and the \
             loss' gradient at its output. A part holds one kind for one module",
        ),
        column("row", Kind::U32, "the layer's output that the row belongs to, or the token, both from 0"),
        column(
            "vector",
            Kind::F32List,
            "as long as the layer is wide at its input, or for output_gradient at its output",
        ),
    ],
};

pub static STAGE: Stage = Stage {
    name: "gradient_factors",
    version: 3,
    about: "Stores each gradient as its factors, x and d, for exact comparisons; `[stages.gradients]` says \
            which.",
    asked_by_default: false,
    notice: None,
    outputs: Outputs::Table(TABLE),
    settings: &[],
    defaults: defaults::<NoSettings>,
    plan,
    cost: Some(cost),
    figures: &[],
    work: Work::Watch(observer),
};

fn plan(settings: &Value, pipeline: &Pipeline) -> Result<Vec<Node>, PlanError> {
    let NoSettings {} = parse_settings(STAGE.name, settings)?;
    let gradients: Settings = pipeline.section("gradients")?;
    gradients.check(pipeline)?;
    let params = json!(gradients.choice());
    watching_nodes(STAGE.name, &gradients.models, &gradients.datasets, pipeline, params, false)
}

/// The passes up and down, which are shared; then the products of the gradients that are kept whole.
fn cost(params: &Value, expected: &Expected) -> Option<Cost> {
    let [model] = expected.models.as_slice() else { return None };
    let modules = kept(params, model, expected.text)?;
    let reversed = model.layers() - modules.iter().map(|kept| kept.layer).min()?;
    let pass = Pass { blocks: model.layers(), predictions: 0.0, reversed };
    let products = |kept: &Kept| if kept.whole { 2.0 * expected.text.tokens * kept.entries } else { 0.0 };
    let flops = modules.iter().map(products).sum();
    let written = modules.iter().map(|kept| kept.bytes).sum();
    Some(Cost { pass, flops, written, memory: 0.0 })
}

fn observer(params: &Value, context: &PassContext) -> Result<Box<dyn Observer>> {
    let wanted = GradientChoice::deserialize(params)?.wanted(context.modules)?;
    let sequences = context.sequences;
    let present = (0..sequences.ids.len()).map(|i| !wanted.over.tokens(sequences, i).is_empty()).collect();
    Ok(Box::new(Collect { examples: sequences.examples.clone(), present, wanted, found: BTreeMap::new() }))
}

/// Collects one part's factors.
struct Collect {
    examples: Vec<String>,
    /// Whether each example has a loss at all.
    present: Vec<bool>,
    wanted: LossGradients,
    found: BTreeMap<ModulePath, Collected>,
}

/// A module's factors so far.
struct Collected {
    inputs: usize,
    out: usize,
    examples: Vec<OfExample>,
}

struct OfExample {
    index: usize,
    tokens: Vec<u32>,
    x: Vec<f32>,
    d: Vec<f32>,
}

impl Observer for Collect {
    fn wants(&self) -> Wants {
        Wants::default()
    }

    fn gradients(&self) -> Option<LossGradients> {
        Some(self.wanted.clone())
    }

    fn factors(&mut self, factors: &Factors) -> Result<()> {
        let Factors { path, inputs, out, .. } = *factors;
        let collected =
            self.found.entry(path.clone()).or_insert_with(|| Collected { inputs, out, examples: Vec::new() });
        for (rows, index) in factors.rows.iter().zip(factors.sequences.clone()) {
            if !self.present[index] {
                continue;
            }
            let mut of = OfExample { index, tokens: Vec::new(), x: Vec::new(), d: Vec::new() };
            for row in rows.clone() {
                let d = &factors.d[row * out..(row + 1) * out];
                // An example whose gradient is 0 keeps a row that says so.
                let last_chance = of.tokens.is_empty() && row + 1 == rows.end;
                if last_chance || d.iter().any(|value| *value != 0.0) {
                    of.tokens.push((row - rows.start) as u32);
                    of.d.extend_from_slice(d);
                    of.x.extend_from_slice(&factors.x[row * inputs..(row + 1) * inputs]);
                }
            }
            collected.examples.push(of);
        }
        Ok(())
    }

    fn finish(self: Box<Self>) -> Result<Vec<Output>> {
        let mut outputs = Vec::new();
        for (path, collected) in &self.found {
            let Collected { inputs, out, examples } = collected;
            let tokens: usize = examples.iter().map(|of| of.tokens.len()).sum();
            if examples.len() * inputs * out <= tokens * (inputs + out) {
                let outs: Vec<u32> = (0..*out as u32).collect();
                let gradients: Vec<Vec<f32>> = examples
                    .iter()
                    .map(|of| {
                        let mut gradient = vec![0.0; inputs * out];
                        weight_gradient_add(&of.x, &of.d, *out, *inputs, &mut gradient);
                        gradient
                    })
                    .collect();
                let rows = examples.iter().zip(&gradients).map(|(of, gradient)| (of.index, &outs, gradient));
                outputs.push(self.part(path, FactorKind::Gradient, *inputs, rows)?);
            } else {
                let rows = |of: fn(&OfExample) -> &Vec<f32>| {
                    examples.iter().map(move |example| (example.index, &example.tokens, of(example)))
                };
                outputs.push(self.part(path, FactorKind::Input, *inputs, rows(|of| &of.x))?);
                outputs.push(self.part(path, FactorKind::OutputGradient, *out, rows(|of| &of.d))?);
            }
        }
        Ok(outputs)
    }
}

impl Collect {
    /// One kind's rows (example's index, what each row belongs to, values) for one module.
    fn part<'a>(
        &self,
        path: &ModulePath,
        kind: FactorKind,
        width: usize,
        of_examples: impl Iterator<Item = (usize, &'a Vec<u32>, &'a Vec<f32>)>,
    ) -> Result<Output> {
        let (mut examples, mut rows, mut vectors) = (Vec::new(), Vec::new(), Vec::new());
        for (index, of, values) in of_examples {
            examples.extend(std::iter::repeat_n(self.examples[index].as_str(), of.len()));
            rows.extend_from_slice(of);
            vectors.extend_from_slice(values);
        }
        let repeat = |text: String| Arc::new(StringArray::from(vec![text; rows.len()])) as ArrayRef;
        let columns = vec![
            Arc::new(StringArray::from(examples)) as ArrayRef,
            repeat(path.name()),
            repeat(kind.name().into()),
            Arc::new(UInt32Array::from(rows.clone())),
            list_array(vectors, width)?,
        ];
        Ok(Output::table(TABLE.batch(columns)?))
    }
}
