//! One pass, many observers: a model is opened once and every part that some observer waits for goes
//! through it once, whatever the number of observers.

use anyhow::{Result, anyhow};
use serde_json::Value;

use super::forward::{Watched, forward_together};
use super::together::groups;
use super::token_part::read_sequences;
use super::transformer::Transformer;
use super::watcher::Watcher;
use crate::contract::node::Part;
use crate::contract::observer::{Observer, PassContext};
use crate::contract::stage::{Output, Stage};

/// A stale task of an observing stage. All tasks of one call share the model.
pub struct PassTask<'a> {
    pub stage: &'a Stage,
    pub params: &'a Value,
    /// One part of a `tokens` table. Tasks with the same path share one pass.
    pub tokens: Part,
    /// The parts of the task's `tokenizer` input, where it has one.
    pub tokenizer: Vec<Part>,
}

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
    let of_part: Vec<&Part> = parts.iter().map(|(part, _)| *part).collect();
    for group in groups(&of_part) {
        if cancelled() {
            break;
        }
        let group: Vec<_> = group.into_iter().map(|i| (parts[i].0, parts[i].1.as_slice())).collect();
        // What one part's pass fails at fails it alone.
        if group.len() == 1 || pass_parts(&model, &group, tasks, done).is_err() {
            for part in group {
                if let Err(error) = pass_parts(&model, &[part], tasks, done) {
                    part.1.iter().for_each(|index| done(*index, Err(anyhow!("{error:#}"))));
                }
            }
        }
    }
    Ok(())
}

/// Passes parts together, each with the tasks that wait for it.
///
/// # Errors
/// When a part cannot be read or the pass fails: then no task was done.
fn pass_parts(
    model: &Transformer,
    parts: &[(&Part, &[usize])],
    tasks: &[PassTask],
    done: &mut dyn FnMut(usize, Result<Vec<Output>>),
) -> Result<()> {
    let sequences =
        parts.iter().map(|(part, _)| read_sequences(std::slice::from_ref(*part))).collect::<Result<Vec<_>>>()?;
    let modules = model.description.modules();
    let (mut failed, mut observers) = (Vec::new(), Vec::new());
    for ((_, waiting), sequences) in parts.iter().zip(&sequences) {
        let mut of_part: Vec<(usize, Box<dyn Observer>)> = Vec::new();
        for index in *waiting {
            let task = &tasks[*index];
            let context = PassContext {
                sequences,
                layers: model.description.layers,
                hidden_size: model.description.hidden_size,
                modules: &modules,
                tokenizer: &task.tokenizer,
            };
            match task.stage.observer(task.params, &context) {
                Ok(observer) => of_part.push((*index, observer)),
                Err(error) => failed.push((*index, error)),
            }
        }
        observers.push(of_part);
    }
    let mut watched: Vec<Watched> = Vec::new();
    for (observers, sequences) in observers.iter_mut().zip(&sequences) {
        let watchers = observers.iter_mut().map(|(_, observer)| Watcher::new(&mut **observer)).collect();
        watched.push(Watched { sequences, watchers });
    }
    forward_together(model, &mut watched)?;
    let watched: Vec<Result<()>> = watched.into_iter().flat_map(|part| part.watchers).map(Watcher::result).collect();
    failed.into_iter().for_each(|(index, error)| done(index, Err(error)));
    for ((index, observer), watched) in observers.into_iter().flatten().zip(watched) {
        done(index, watched.and_then(|()| observer.finish()));
    }
    Ok(())
}
