//! The pass itself: the residual stream from layer to layer, edited by interventions, shown to watchers.

use anyhow::{Context, Result, bail};
use candle_core::Tensor;
use rayon::prelude::*;

use super::backward::backward;
use super::compute;
use super::passing::Passing;
use super::transformer::Transformer;
use super::watcher::Watcher;
use crate::contract::intervention::Intervention;
use crate::contract::observer::{Observer, Over, Wants};
use crate::contract::sequences::Sequences;
use crate::contract::site::Site;

/// Where a pass starts.
#[derive(Debug, Clone)]
pub enum Start {
    /// With the embeddings of the sequences' tokens.
    Tokens,
    /// With these states [tokens, D] of the residual stream at a layer.
    Residual(usize, Tensor),
}

/// A part's sequences, and who watches them pass.
pub struct Watched<'a, 'w> {
    pub sequences: &'a Sequences,
    pub watchers: Vec<Watcher<'w>>,
}

/// Passes sequences through the model, as far up as some watcher looks. Whoever runs a model comes in here:
/// interventions edit the states before the watchers see them.
///
/// # Errors
/// When a token is unknown to the model, a state is not finite (naming layer and example), an intervention fails or
/// wants a site that the pass does not come by; a watcher's own error stays with the watcher.
pub fn forward(
    model: &Transformer,
    watched: &mut Watched,
    start: Start,
    interventions: &[&dyn Intervention],
) -> Result<()> {
    let passing = Passing::whole(model, watched.sequences);
    pass(model, &passing, std::slice::from_mut(watched), start, interventions)
}

/// [`forward`] of several parts at once, from their tokens and without interventions: what their sequences begin with alike is
/// computed once.
///
/// # Errors
/// As for [`forward`].
pub fn forward_together(model: &Transformer, watched: &mut [Watched]) -> Result<()> {
    let parts: Vec<&Sequences> = watched.iter().map(|part| part.sequences).collect();
    let passing = Passing::together(model, &parts)?;
    pass(model, &passing, watched, Start::Tokens, &[])
}

fn pass(
    model: &Transformer,
    passing: &Passing,
    watched: &mut [Watched],
    start: Start,
    interventions: &[&dyn Intervention],
) -> Result<()> {
    let (first, mut hidden) = match start {
        Start::Tokens => (0, passing.embed(model)?),
        Start::Residual(layer, states) => (layer, states),
    };
    let layers = model.description.layers;
    let final_norm = Site::final_norm(layers);
    let watchers = || watched.iter().flat_map(|part| &part.watchers);
    let to_the_end = watchers().any(|w| w.wants.states.contains(&final_norm) || !w.wants.predictions.is_empty());
    let lowest = watchers().filter_map(|w| Some(w.gradients.as_ref()?.modules.first()?.layer)).min();
    if let Some(lowest) = lowest
        && (lowest < first || !interventions.is_empty())
    {
        bail!("gradients of a pass that starts at layer {first} or is intervened in are not computed");
    }
    let highest = watchers().flat_map(|w| w.wants.states.iter()).map(|site| site.layer).max();
    let top = if to_the_end || lowest.is_some() { layers } else { highest.unwrap_or(0).min(layers) };
    let mut sites: Vec<Site> = (first..=top).map(Site::residual).collect();
    sites.extend(to_the_end.then_some(final_norm));
    watched.iter_mut().flat_map(|part| &mut part.watchers).for_each(|watcher| watcher.check(&sites));
    check_sites(&sites, interventions)?;

    let mut streams = Vec::new();
    for layer in first..=top {
        let site = Site::residual(layer);
        hidden = edited(site, passing, hidden, interventions)?;
        check_finite(&hidden, site, passing)?;
        show(site, &hidden, passing, watched)?;
        if lowest.is_some_and(|lowest| lowest <= layer) {
            streams.push(hidden.clone());
        }
        if layer < top {
            hidden = model.step(layer, &hidden, &passing.packing)?;
        }
    }
    if to_the_end {
        let normed = model.final_norm(&hidden)?;
        drop(hidden);
        let normed = edited(final_norm, passing, normed, interventions)?;
        show(final_norm, &normed, passing, watched)?;
        show_predictions(model, &normed, passing, watched)?;
    }
    for (part, watched) in watched.iter_mut().enumerate() {
        show_gradients(model, passing, part, &streams, watched)?;
    }
    Ok(())
}

/// Shows the states at a site to those who asked for them.
fn show(site: Site, states: &Tensor, passing: &Passing, watched: &mut [Watched]) -> Result<()> {
    for (part, watched) in watched.iter_mut().enumerate() {
        if watched.watchers.iter().any(|watcher| watcher.wants.states.contains(&site)) {
            let states = passing.states_of(part, states)?;
            watched.watchers.iter_mut().for_each(|watcher| watcher.show(site, &states));
        }
    }
    Ok(())
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
    let mut watched = Watched { sequences, watchers: vec![Watcher::new(observer)] };
    forward(model, &mut watched, start, interventions)?;
    watched.watchers.into_iter().try_for_each(Watcher::result)
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

/// A pass that would not come by a site at which an intervention is to edit is an error: the intervention would have no effect.
fn check_sites(sites: &[Site], interventions: &[&dyn Intervention]) -> Result<()> {
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
fn edited(site: Site, passing: &Passing, mut states: Tensor, interventions: &[&dyn Intervention]) -> Result<Tensor> {
    let sequences = passing.parts[0];
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

/// The output head at the rows that some watcher wants. Sequence by sequence of all parts, so that what they share is mostly in
/// one chunk, where it is computed once.
fn show_predictions(model: &Transformer, normed: &Tensor, passing: &Passing, watched: &mut [Watched]) -> Result<()> {
    let wanted: Vec<Vec<usize>> = watched
        .iter()
        .map(|part| {
            let mut rows: Vec<usize> =
                part.watchers.iter().flat_map(|watcher| watcher.wants.predictions.iter().copied()).collect();
            rows.sort_unstable();
            rows.dedup();
            rows
        })
        .collect();
    let vocabulary = model.description.vocabulary;
    let mut logprobs = Vec::new();
    for chunk in passing.chunks_of(&wanted, model.head_rows()) {
        model.predictions(normed, &chunk.computed, &mut logprobs)?;
        for run in &chunk.runs {
            let logprobs = &logprobs[run.first * vocabulary..(run.first + run.rows.len()) * vocabulary];
            watched[run.part].watchers.iter_mut().for_each(|watcher| watcher.predict(&run.rows, logprobs, vocabulary));
        }
    }
    Ok(())
}

/// One backward pass of a part for each loss that some watcher takes gradients of. `streams` end at the last layer's.
fn show_gradients(
    model: &Transformer,
    passing: &Passing,
    part: usize,
    streams: &[Tensor],
    Watched { sequences, watchers }: &mut Watched,
) -> Result<()> {
    for over in [Over::All, Over::Response] {
        let of_this = watchers.iter().filter_map(|w| w.gradients.as_ref()).filter(|wanted| wanted.over == over);
        let mut modules: Vec<_> = of_this.flat_map(|wanted| wanted.modules.iter().cloned()).collect();
        modules.sort_unstable();
        modules.dedup();
        let Some(lowest) = modules.first() else { continue };
        if lowest.layer + streams.len() <= model.description.layers {
            bail!("the pass kept no states at layer {}, below which a gradient was asked for", lowest.layer);
        }
        let stream = |layer: usize| {
            let from_the_top = model.description.layers - layer;
            passing.states_of(part, &streams[streams.len() - 1 - from_the_top])
        };
        backward(model, sequences, &model.pack(sequences), over, &modules, &stream, &mut |factors| {
            watchers.iter_mut().for_each(|watcher| watcher.factors(over, factors));
        })?;
    }
    Ok(())
}

fn check_finite(hidden: &Tensor, site: Site, passing: &Passing) -> Result<()> {
    let width = hidden.dim(1)?;
    // x - x is 0 for finite x alone. On a GPU one number comes back instead of the states.
    let finite = match hidden.device().is_cpu() {
        true => compute::with_slice(hidden, |values| {
            values.par_chunks(1 << 16).all(|values| values.iter().all(|x| x.is_finite()))
        })?,
        false => hidden.sub(hidden)?.sum_all()?.to_scalar::<f32>()? == 0.0,
    };
    if finite {
        return Ok(());
    }
    let values = hidden.flatten_all()?.to_vec1::<f32>()?;
    let at = values.iter().position(|x| !x.is_finite()).unwrap_or(0);
    let (example, token) = passing.place(at / width);
    bail!(
        "the hidden states of example {example} are not finite ({}) at token {token} of {site}: the weights are damaged or \
         overflow",
        values[at],
    )
}
