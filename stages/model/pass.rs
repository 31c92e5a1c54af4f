//! One pass, many observers: a model is opened once and every block that some observer waits for goes
//! through it once, whatever the number of observers.

use anyhow::{Context, Result, anyhow, bail};
use arrow::array::{Array, ListArray, StringArray, UInt32Array};
use candle_core::Tensor;
use serde_json::Value;

use super::backward::{Factors, LossGradients, Over, backward};
use super::compute;
use super::intervention::Intervention;
use super::observer::{Observer, PassContext, Sequences, Site, Wants};
use super::transformer::{Packing, Transformer};
use crate::contract::node::Part;
use crate::contract::stage::{Output, Stage};
use crate::table;

/// A stale task of an observing stage. All tasks of one call share the model.
pub struct PassTask<'a> {
    pub stage: &'a Stage,
    pub params: &'a Value,
    /// The block: one part of a `tokens` table. Tasks with the same path share one pass.
    pub tokens: Part,
    /// The parts of the task's `tokenizer` input, where it has one.
    pub tokenizer: Vec<Part>,
}

/// The columns of a `tokens` table that a pass reads.
pub const TOKEN_COLUMNS: &[&str] = &["example", "ids", "response_start", "response_end"];

/// Opens the model whose files are `model` (config.json and the safetensors), passes every distinct block
/// once, and hands each task's outputs to `done(index, outputs)` as soon as its block is through. A task
/// that fails reports its error through `done` and does not stop the others; `cancelled` is asked between blocks.
///
/// # Errors
/// When the model cannot be opened: then no task was done.
pub fn run(
    model: &[Part],
    tasks: &[PassTask],
    cancelled: &(dyn Fn() -> bool + Sync),
    done: &mut dyn FnMut(usize, Result<Vec<Output>>),
) -> Result<()> {
    let model = Transformer::open(model)?;
    let mut blocks: Vec<(&Part, Vec<usize>)> = Vec::new();
    for (index, task) in tasks.iter().enumerate() {
        match blocks.iter_mut().find(|(part, _)| part.path == task.tokens.path) {
            Some((_, waiting)) => waiting.push(index),
            None => blocks.push((&task.tokens, vec![index])),
        }
    }
    for (part, waiting) in blocks {
        if cancelled() {
            break;
        }
        pass_block(&model, part, tasks, &waiting, done);
    }
    Ok(())
}

fn pass_block(
    model: &Transformer,
    part: &Part,
    tasks: &[PassTask],
    waiting: &[usize],
    done: &mut dyn FnMut(usize, Result<Vec<Output>>),
) {
    let block = match read_block(std::slice::from_ref(part)) {
        Ok(block) => block,
        Err(error) => {
            waiting.iter().for_each(|index| done(*index, Err(anyhow!("{error:#}"))));
            return;
        }
    };
    let mut watching = Vec::new();
    for index in waiting {
        let task = &tasks[*index];
        let context = PassContext {
            block: &block,
            layers: model.config.layers,
            hidden_size: model.config.hidden_size,
            tokenizer: &task.tokenizer,
        };
        match task.stage.observer(task.params, &context) {
            Ok(observer) => watching.push((*index, Watcher::new(observer))),
            Err(error) => done(*index, Err(error)),
        }
    }
    let (indices, mut watchers): (Vec<usize>, Vec<Watcher>) = watching.into_iter().unzip();
    let passed = forward(model, &block, &mut watchers, &[]);
    for (index, watcher) in indices.into_iter().zip(watchers) {
        match &passed {
            Ok(()) => done(index, watcher.finish()),
            Err(error) => done(index, Err(anyhow!("{error:#}"))),
        }
    }
}

/// The block that the parts of a `tokens` table hold.
///
/// # Errors
/// When a part cannot be read or lacks one of [`TOKEN_COLUMNS`].
pub fn read_block(parts: &[Part]) -> Result<Sequences> {
    let batch = table::read(parts, TOKEN_COLUMNS)?;
    let examples: &StringArray = table::values(&batch, "example")?;
    let ids: &ListArray = table::values(&batch, "ids")?;
    let start: &UInt32Array = table::values(&batch, "response_start")?;
    let end: &UInt32Array = table::values(&batch, "response_end")?;
    let mut block = Sequences::default();
    for row in 0..batch.num_rows() {
        let list = ids.value(row);
        let list = list.as_any().downcast_ref::<UInt32Array>().context("the column \"ids\" does not hold u32")?;
        if list.is_empty() {
            bail!("example {} has no tokens", examples.value(row));
        }
        block.examples.push(examples.value(row).to_string());
        block.ids.push(list.values().to_vec());
        block.response.push((start.value(row), end.value(row)));
    }
    Ok(block)
}

/// An observer during a pass. Its first error ends its watching and not the others'.
pub struct Watcher {
    observer: Box<dyn Observer>,
    wants: Wants,
    gradients: Option<LossGradients>,
    failed: Option<anyhow::Error>,
}

impl Watcher {
    pub fn new(observer: Box<dyn Observer>) -> Watcher {
        let mut wants = observer.wants();
        wants.predictions.sort_unstable();
        wants.predictions.dedup();
        let gradients = observer.gradients();
        Watcher { observer, wants, gradients, failed: None }
    }

    pub fn finish(self) -> Result<Vec<Output>> {
        match self.failed {
            Some(error) => Err(error),
            None => self.observer.finish(),
        }
    }

    fn show(&mut self, site: Site, layer: usize, states: &Tensor) {
        let wanted = match site {
            Site::Residual => self.wants.residual.contains(&layer),
            Site::FinalNorm => self.wants.final_norm,
        };
        if wanted && self.failed.is_none() {
            self.failed = self.observer.states(site, layer, states).err();
        }
    }

    fn factors(&mut self, over: Over, factors: &Factors) {
        let wanted = |wanted: &LossGradients| wanted.over == over && wanted.modules.contains(&factors.path);
        if self.gradients.as_ref().is_some_and(wanted) && self.failed.is_none() {
            self.failed = self.observer.factors(factors).err();
        }
    }

    /// Passes on those of the chunk's rows that this observer asked for, in runs that lie together.
    fn predict(&mut self, rows: &[usize], logprobs: &[f32], vocabulary: usize) {
        let mut start = 0;
        while start < rows.len() && self.failed.is_none() {
            let wanted = |row: &usize| self.wants.predictions.binary_search(row).is_ok();
            let end = start + rows[start..].iter().take_while(|row| wanted(row)).count();
            if end > start {
                let part = &logprobs[start * vocabulary..end * vocabulary];
                self.failed = self.observer.predictions(&rows[start..end], part, vocabulary).err();
            }
            start = end.max(start + 1);
        }
    }
}

/// Passes one block through the model, as far up as some watcher looks.
///
/// # Errors
/// When a token is unknown to the model or a state is not finite (naming layer and example), or an intervention
/// fails; a watcher's own error stays with the watcher.
pub fn forward(
    model: &Transformer,
    block: &Sequences,
    watchers: &mut [Watcher],
    interventions: &[&dyn Intervention],
) -> Result<()> {
    let packing = model.pack(block);
    let hidden = model.embed(block)?;
    forward_from(model, block, &packing, 0, hidden, watchers, interventions)
}

/// The pass from the residual stream at `layer` on. Watchers see that layer and those above it.
///
/// # Errors
/// As for [`forward`].
pub fn forward_from(
    model: &Transformer,
    block: &Sequences,
    packing: &Packing,
    layer: usize,
    mut hidden: Tensor,
    watchers: &mut [Watcher],
    interventions: &[&dyn Intervention],
) -> Result<()> {
    let layers = model.config.layers;
    let to_the_end = watchers.iter().any(|w| w.wants.final_norm || !w.wants.predictions.is_empty());
    let highest = watchers.iter().flat_map(|w| w.wants.residual.iter().copied()).max();
    let lowest = watchers.iter().filter_map(|w| Some(w.gradients.as_ref()?.modules.first()?.layer)).min();
    if let Some(lowest) = lowest
        && (lowest < layer || !interventions.is_empty())
    {
        bail!("gradients of a pass that starts at layer {layer} or is intervened in are not computed");
    }
    let top = if to_the_end || lowest.is_some() { layers } else { highest.unwrap_or(0).min(layers) };
    let mut streams = Vec::new();
    for layer in layer..=top {
        for intervention in interventions {
            if let Some(edited) = intervention.edit(Site::Residual, layer, block, &hidden)? {
                hidden = edited;
            }
        }
        check_finite(&hidden, Site::Residual, layer, block, packing)?;
        watchers.iter_mut().for_each(|watcher| watcher.show(Site::Residual, layer, &hidden));
        if lowest.is_some_and(|lowest| lowest <= layer) {
            streams.push(hidden.clone());
        }
        if layer < top {
            hidden = model.block(layer, &hidden, packing)?;
        }
    }
    if to_the_end {
        show_predictions(model, block, hidden, watchers, interventions)?;
    }
    show_gradients(model, block, packing, &streams, watchers)
}

/// The final norm, and the output head at the wanted rows.
fn show_predictions(
    model: &Transformer,
    block: &Sequences,
    hidden: Tensor,
    watchers: &mut [Watcher],
    interventions: &[&dyn Intervention],
) -> Result<()> {
    let layers = model.config.layers;
    let mut normed = model.final_norm(&hidden)?;
    drop(hidden);
    for intervention in interventions {
        if let Some(edited) = intervention.edit(Site::FinalNorm, layers, block, &normed)? {
            normed = edited;
        }
    }
    watchers.iter_mut().for_each(|watcher| watcher.show(Site::FinalNorm, layers, &normed));

    let mut rows: Vec<usize> = watchers.iter().flat_map(|w| w.wants.predictions.iter().copied()).collect();
    rows.sort_unstable();
    rows.dedup();
    model.predictions(&normed, &rows, |rows, logprobs| {
        watchers.iter_mut().for_each(|watcher| watcher.predict(rows, logprobs, model.config.vocabulary));
        Ok(())
    })
}

/// One backward pass for each loss that some watcher takes gradients of. `streams` end at the last layer's.
fn show_gradients(
    model: &Transformer,
    block: &Sequences,
    packing: &Packing,
    streams: &[Tensor],
    watchers: &mut [Watcher],
) -> Result<()> {
    for over in [Over::All, Over::Response] {
        let of_this = watchers.iter().filter_map(|w| w.gradients.as_ref()).filter(|wanted| wanted.over == over);
        let mut modules: Vec<_> = of_this.flat_map(|wanted| wanted.modules.iter().copied()).collect();
        modules.sort_unstable();
        modules.dedup();
        let Some(lowest) = modules.first() else { continue };
        let streams = &streams[streams.len() - 1 - (model.config.layers - lowest.layer)..];
        backward(model, block, packing, over, &modules, streams, &mut |factors| {
            watchers.iter_mut().for_each(|watcher| watcher.factors(over, factors));
        })?;
    }
    Ok(())
}

fn check_finite(hidden: &Tensor, site: Site, layer: usize, block: &Sequences, packing: &Packing) -> Result<()> {
    let width = hidden.dim(1)?;
    // x - x is 0 for finite x alone. On a GPU one number comes back instead of the states.
    let finite = match hidden.device().is_cpu() {
        true => compute::with_slice(hidden, |values| values.iter().all(|x| x.is_finite()))?,
        false => hidden.sub(hidden)?.sum_all()?.to_scalar::<f32>()? == 0.0,
    };
    if finite {
        return Ok(());
    }
    let values = hidden.flatten_all()?.to_vec1::<f32>()?;
    let at = values.iter().position(|x| !x.is_finite()).unwrap_or(0);
    let row = at / width;
    let sequence = packing.sequences.iter().position(|rows| rows.contains(&row)).unwrap_or(0);
    bail!(
        "the hidden states of example {} are not finite ({}) at token {} of layer {layer} ({}): \
         the weights are damaged or overflow",
        block.examples[sequence],
        values[at],
        row - packing.sequences[sequence].start,
        site.name()
    )
}
