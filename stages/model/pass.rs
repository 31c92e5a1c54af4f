//! One pass, many observers: a model is opened once and every part that some observer waits for goes
//! through it once, whatever the number of observers.

use anyhow::{Context, Result, anyhow, bail};
use arrow::array::{Array, ListArray, StringArray, UInt32Array};
use candle_core::Tensor;
use serde_json::Value;

use super::backward::backward;
use super::block::Packing;
use super::compute;
use super::transformer::Transformer;
use super::watcher::Watcher;
use crate::contract::intervention::Intervention;
use crate::contract::node::Part;
use crate::contract::observer::{Observer, Over, PassContext, Wants};
use crate::contract::sequences::Sequences;
use crate::contract::site::Site;
use crate::contract::stage::{Output, Stage};
use crate::table;

/// A stale task of an observing stage. All tasks of one call share the model.
pub struct PassTask<'a> {
    pub stage: &'a Stage,
    pub params: &'a Value,
    /// One part of a `tokens` table. Tasks with the same path share one pass.
    pub tokens: Part,
    /// The parts of the task's `tokenizer` input, where it has one.
    pub tokenizer: Vec<Part>,
}

/// The columns of a `tokens` table that a pass reads.
pub const TOKEN_COLUMNS: &[&str] = &["example", "ids", "response_start", "response_end", "turn_start"];

/// Opens the model whose files are `model` (config.json and the safetensors), passes every distinct part
/// once, and hands each task's outputs to `done(index, outputs)` as soon as its part is through. A task
/// that fails reports its error through `done` and does not stop the others; `cancelled` is asked between parts.
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
    let mut parts: Vec<(&Part, Vec<usize>)> = Vec::new();
    for (index, task) in tasks.iter().enumerate() {
        match parts.iter_mut().find(|(part, _)| part.path == task.tokens.path) {
            Some((_, waiting)) => waiting.push(index),
            None => parts.push((&task.tokens, vec![index])),
        }
    }
    for (part, waiting) in parts {
        if cancelled() {
            break;
        }
        pass_part(&model, part, tasks, &waiting, done);
    }
    Ok(())
}

fn pass_part(
    model: &Transformer,
    part: &Part,
    tasks: &[PassTask],
    waiting: &[usize],
    done: &mut dyn FnMut(usize, Result<Vec<Output>>),
) {
    let sequences = match read_sequences(std::slice::from_ref(part)) {
        Ok(sequences) => sequences,
        Err(error) => {
            waiting.iter().for_each(|index| done(*index, Err(anyhow!("{error:#}"))));
            return;
        }
    };
    let modules = model.description.modules();
    let mut observers = Vec::new();
    for index in waiting {
        let task = &tasks[*index];
        let context = PassContext {
            sequences: &sequences,
            layers: model.description.layers,
            hidden_size: model.description.hidden_size,
            modules: &modules,
            tokenizer: &task.tokenizer,
        };
        match task.stage.observer(task.params, &context) {
            Ok(observer) => observers.push((*index, observer)),
            Err(error) => done(*index, Err(error)),
        }
    }
    let mut watchers: Vec<Watcher> = observers.iter_mut().map(|(_, observer)| Watcher::new(&mut **observer)).collect();
    let passed = forward(model, &sequences, Start::Tokens, &mut watchers, &[]);
    let watched: Vec<Result<()>> = watchers.into_iter().map(Watcher::result).collect();
    for ((index, observer), watched) in observers.into_iter().zip(watched) {
        match &passed {
            Ok(()) => done(index, watched.and_then(|()| observer.finish())),
            Err(error) => done(index, Err(anyhow!("{error:#}"))),
        }
    }
}

/// What the parts of a `tokens` table hold.
///
/// # Errors
/// When a part cannot be read or lacks one of [`TOKEN_COLUMNS`].
pub fn read_sequences(parts: &[Part]) -> Result<Sequences> {
    let batch = table::read(parts, TOKEN_COLUMNS)?;
    let examples: &StringArray = table::values(&batch, "example")?;
    let ids: &ListArray = table::values(&batch, "ids")?;
    let start: &UInt32Array = table::values(&batch, "response_start")?;
    let end: &UInt32Array = table::values(&batch, "response_end")?;
    let turn: &UInt32Array = table::values(&batch, "turn_start")?;
    let mut sequences = Sequences::default();
    for row in 0..batch.num_rows() {
        let list = ids.value(row);
        let list = list.as_any().downcast_ref::<UInt32Array>().context("the column \"ids\" does not hold u32")?;
        if list.is_empty() {
            bail!("example {} has no tokens", examples.value(row));
        }
        sequences.examples.push(examples.value(row).to_string());
        sequences.ids.push(list.values().to_vec());
        sequences.response.push((start.value(row), end.value(row)));
        sequences.turn.push(turn.value(row));
    }
    Ok(sequences)
}

/// Where a pass starts.
#[derive(Debug, Clone)]
pub enum Start {
    /// With the embeddings of the sequences' tokens.
    Tokens,
    /// With these states [tokens, D] of the residual stream at a layer.
    Residual(usize, Tensor),
}

/// Passes sequences through the model, as far up as some watcher looks. Whoever runs a model comes in here:
/// interventions edit the states before the watchers see them.
///
/// # Errors
/// When a token is unknown to the model, a state is not finite (naming layer and example), an intervention fails or
/// wants a site that the pass does not come by; a watcher's own error stays with the watcher.
pub fn forward(
    model: &Transformer,
    sequences: &Sequences,
    start: Start,
    watchers: &mut [Watcher],
    interventions: &[&dyn Intervention],
) -> Result<()> {
    let packing = model.pack(sequences);
    let (first, mut hidden) = match start {
        Start::Tokens => (0, model.embed(sequences)?),
        Start::Residual(layer, states) => (layer, states),
    };
    let layers = model.description.layers;
    let final_norm = Site::final_norm(layers);
    let to_the_end = watchers.iter().any(|w| w.wants.states.contains(&final_norm) || !w.wants.predictions.is_empty());
    let lowest = watchers.iter().filter_map(|w| Some(w.gradients.as_ref()?.modules.first()?.layer)).min();
    if let Some(lowest) = lowest
        && (lowest < first || !interventions.is_empty())
    {
        bail!("gradients of a pass that starts at layer {first} or is intervened in are not computed");
    }
    let highest = watchers.iter().flat_map(|w| w.wants.states.iter()).map(|site| site.layer).max();
    let top = if to_the_end || lowest.is_some() { layers } else { highest.unwrap_or(0).min(layers) };
    let mut sites: Vec<Site> = (first..=top).map(Site::residual).collect();
    sites.extend(to_the_end.then_some(final_norm));
    check_sites(&sites, watchers, interventions)?;

    let mut streams = Vec::new();
    for layer in first..=top {
        let site = Site::residual(layer);
        hidden = edited(site, sequences, hidden, interventions)?;
        check_finite(&hidden, site, sequences, &packing)?;
        watchers.iter_mut().for_each(|watcher| watcher.show(site, &hidden));
        if lowest.is_some_and(|lowest| lowest <= layer) {
            streams.push(hidden.clone());
        }
        if layer < top {
            hidden = model.step(layer, &hidden, &packing)?;
        }
    }
    if to_the_end {
        let normed = model.final_norm(&hidden)?;
        drop(hidden);
        let normed = edited(final_norm, sequences, normed, interventions)?;
        watchers.iter_mut().for_each(|watcher| watcher.show(final_norm, &normed));
        show_predictions(model, &normed, watchers)?;
    }
    show_gradients(model, sequences, &packing, &streams, watchers)
}

/// [`forward`] with one observer, whose error is the pass'.
///
/// # Errors
/// As for [`forward`], and when the observer fails.
pub fn watch(
    model: &Transformer,
    sequences: &Sequences,
    start: Start,
    observer: &mut dyn Observer,
    interventions: &[&dyn Intervention],
) -> Result<()> {
    let mut watchers = [Watcher::new(observer)];
    forward(model, sequences, start, &mut watchers, interventions)?;
    let [watcher] = watchers;
    watcher.result()
}

/// The states [tokens, D] at one site of a pass.
///
/// # Errors
/// As for [`forward`], and when the pass does not come by the site.
pub fn states_at(model: &Transformer, sequences: &Sequences, start: Start, site: Site) -> Result<Tensor> {
    struct Keep {
        site: Site,
        states: Option<Tensor>,
    }
    impl Observer for Keep {
        fn wants(&self) -> Wants {
            Wants { states: vec![self.site], ..Wants::default() }
        }

        fn states(&mut self, _site: Site, states: &Tensor) -> Result<()> {
            self.states = Some(states.clone());
            Ok(())
        }
    }
    let mut keep = Keep { site, states: None };
    watch(model, sequences, start, &mut keep, &[])?;
    keep.states.with_context(|| format!("the states at {site}"))
}

/// A pass that would not come by a site that someone asked for is an error: of the pass for an intervention, which
/// would have no effect, and of the watcher alone for an observer.
fn check_sites(sites: &[Site], watchers: &mut [Watcher], interventions: &[&dyn Intervention]) -> Result<()> {
    watchers.iter_mut().for_each(|watcher| watcher.check(sites));
    for intervention in interventions {
        let wanted = intervention.sites();
        if wanted.is_empty() {
            bail!("an intervention names no site, so that it would never edit a state");
        }
        if let Some(site) = wanted.iter().find(|site| !sites.contains(site)) {
            let passed = match (sites.first(), sites.last()) {
                (Some(first), Some(last)) => format!("it goes from {first} to {last}"),
                _ => "it goes nowhere".to_string(),
            };
            bail!("an intervention is to edit the states at {site}, which the pass does not come by: {passed}");
        }
    }
    Ok(())
}

/// The states after those interventions that edit this site, in their order.
fn edited(
    site: Site,
    sequences: &Sequences,
    mut states: Tensor,
    interventions: &[&dyn Intervention],
) -> Result<Tensor> {
    for intervention in interventions.iter().filter(|intervention| intervention.sites().contains(&site)) {
        if let Some(edited) = intervention.edit(site, sequences, &states)? {
            if edited.dims() != states.dims() {
                let (found, expected) = (edited.dims(), states.dims());
                bail!("an intervention at {site} gave states of the shape {found:?}, expected {expected:?}");
            }
            states = edited;
        }
    }
    Ok(states)
}

/// The output head at the rows that some watcher wants.
fn show_predictions(model: &Transformer, normed: &Tensor, watchers: &mut [Watcher]) -> Result<()> {
    let mut rows: Vec<usize> = watchers.iter().flat_map(|w| w.wants.predictions.iter().copied()).collect();
    rows.sort_unstable();
    rows.dedup();
    model.predictions(normed, &rows, |rows, logprobs| {
        watchers.iter_mut().for_each(|watcher| watcher.predict(rows, logprobs, model.description.vocabulary));
        Ok(())
    })
}

/// One backward pass for each loss that some watcher takes gradients of. `streams` end at the last layer's.
fn show_gradients(
    model: &Transformer,
    sequences: &Sequences,
    packing: &Packing,
    streams: &[Tensor],
    watchers: &mut [Watcher],
) -> Result<()> {
    for over in [Over::All, Over::Response] {
        let of_this = watchers.iter().filter_map(|w| w.gradients.as_ref()).filter(|wanted| wanted.over == over);
        let mut modules: Vec<_> = of_this.flat_map(|wanted| wanted.modules.iter().cloned()).collect();
        modules.sort_unstable();
        modules.dedup();
        let Some(lowest) = modules.first() else { continue };
        let streams = &streams[streams.len() - 1 - (model.description.layers - lowest.layer)..];
        backward(model, sequences, packing, over, &modules, streams, &mut |factors| {
            watchers.iter_mut().for_each(|watcher| watcher.factors(over, factors));
        })?;
    }
    Ok(())
}

fn check_finite(hidden: &Tensor, site: Site, sequences: &Sequences, packing: &Packing) -> Result<()> {
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
        "the hidden states of example {} are not finite ({}) at token {} of {site}: the weights are \
         damaged or overflow",
        sequences.examples[sequence],
        values[at],
        row - packing.sequences[sequence].start
    )
}
