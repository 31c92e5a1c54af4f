//! Tasks that watch a model, as the engine has them: with their inputs by role.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use serde_json::Value;

use super::pass::{self, PassTask};
use crate::contract::node::Part;
use crate::contract::stage::{Output, Stage};

/// The role of the model's files. Tasks with the same files under it are run together.
pub const MODEL_ROLE: &str = "model";
/// The role of the part of a `tokens` table that passes.
const TOKENS_ROLE: &str = "tokens";
/// The role of the tokenizer's files, which few stages read.
const TOKENIZER_ROLE: &str = "tokenizer";

/// A stale task of a stage that watches a model.
pub struct WatchTask<'a> {
    pub stage: &'a Stage,
    pub params: &'a Value,
    pub inputs: BTreeMap<String, Vec<Part>>,
}

/// Runs tasks that share a model, as [`pass::run`] does; `done(index, outputs)` is called once for each that was reached.
///
/// # Errors
/// When the model cannot be opened: then no task was done.
pub fn run(
    tasks: &[WatchTask],
    cancelled: &(dyn Fn() -> bool + Sync),
    done: &mut dyn FnMut(usize, Result<Vec<Output>>),
) -> Result<()> {
    let parts = |task: &WatchTask, role: &str| task.inputs.get(role).cloned().unwrap_or_default();
    let mut indices = Vec::new();
    let mut passing = Vec::new();
    for (index, task) in tasks.iter().enumerate() {
        let tokens = parts(task, TOKENS_ROLE).into_iter().next();
        match tokens.with_context(|| format!("{} watches a model and has no input \"{TOKENS_ROLE}\"", task.stage.name))
        {
            Ok(tokens) => {
                indices.push(index);
                let tokenizer = parts(task, TOKENIZER_ROLE);
                passing.push(PassTask { stage: task.stage, params: task.params, tokens, tokenizer });
            }
            Err(error) => done(index, Err(error)),
        }
    }
    let Some(first) = indices.first() else { return Ok(()) };
    let model = parts(&tasks[*first], MODEL_ROLE);
    pass::run(&model, &passing, cancelled, &mut |index, outputs| done(indices[index], outputs))
}
