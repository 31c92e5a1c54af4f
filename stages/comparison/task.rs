//! What a task that compares groups is given: the parameters that say how its vectors are compared, and the vectors.

use anyhow::Result;
use serde::Deserialize;

use crate::comparison::compared::{Centring, Fill, Group, LEAST, SameExample};
use crate::comparison::fill::{Filled, filled};
use crate::comparison::groups::{Groups, Reading, Slice};
use crate::contract::stage::Task;

/// The parameters that [`crate::comparison::compared::Comparison::params`] gave.
#[derive(Debug, Deserialize)]
pub struct Comparing {
    #[serde(flatten)]
    pub reading: Reading,
    #[serde(default)]
    pub centring: Centring,
    #[serde(default)]
    pub same_example: SameExample,
    #[serde(default)]
    pub fill: Fill,
    #[serde(default = "least")]
    pub least: usize,
}

fn least() -> usize {
    LEAST
}

impl Comparing {
    /// The vectors of one slice, with what `fill` says in place of missing ones.
    ///
    /// # Errors
    /// When they cannot be read, or differ in length.
    pub fn load(&self, groups: &Groups, slice: &Slice) -> Result<Filled> {
        Ok(filled(groups.load(slice)?, self.fill, self.least))
    }

    /// The groups of a task, with their names.
    ///
    /// # Errors
    /// When there are not as many names as groups, or a group lacks a position or layer.
    pub fn open(&self, task: &Task, names: &[Group]) -> Result<Groups> {
        let groups = Groups::open(task, &self.reading)?;
        let given = (0..).take_while(|i| task.inputs.contains_key(&format!("group/{i}"))).count();
        anyhow::ensure!(given == names.len(), "{given} groups were given, and names for {}", names.len());
        Ok(groups)
    }
}
