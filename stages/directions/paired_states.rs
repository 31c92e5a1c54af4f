//! The hidden states of a source and a target, read together.

use anyhow::{Context, Result};

use crate::contract::stage::Task;
use crate::states::state_table::{Place, StateTable, States};

/// The hidden states of two models on one dataset.
pub struct PairedStates {
    pub source: StateTable,
    pub target: StateTable,
}

impl PairedStates {
    /// Opens the inputs `source` and `target`.
    pub fn open(task: &Task) -> Result<PairedStates> {
        let open =
            |role: &str| StateTable::open(task.parts(role)?).with_context(|| format!("states of the {role} model"));
        Ok(PairedStates { source: open("source")?, target: open("target")? })
    }

    /// Source states, and target states in the same order of examples.
    ///
    /// # Errors
    /// When an example has states of one model only, or the models differ in their hidden size.
    pub fn states(&self, place: &Place) -> Result<(States, States)> {
        let source = self.source.load(place).context("the source model")?;
        let target = self.target.load(place).context("the target model")?;
        let rows = source.joined(&target).with_context(|| format!("source and target at {place}"))?;
        let values = rows.iter().flat_map(|&row| target.row(row)).copied().collect();
        let target = States { examples: source.examples.clone(), width: target.width, values };
        Ok((source, target))
    }

    /// Target minus source for each example.
    pub fn differences(&self, place: &Place) -> Result<States> {
        let (source, mut target) = self.states(place)?;
        target.values.iter_mut().zip(&source.values).for_each(|(target, source)| *target -= source);
        Ok(target)
    }
}
