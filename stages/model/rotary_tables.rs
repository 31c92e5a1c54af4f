//! The rotary tables of a model's blocks, each as long as the longest sequence so far.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use super::ops::RotaryTable;
use super::rotary::Rotary;
use crate::contract::per_block::PerBlock;

pub struct RotaryTables {
    of_block: PerBlock<Option<Rotary>>,
    /// The width of a head.
    head: usize,
    made: Mutex<Vec<Made>>,
}

/// Of one kind of block, the tables by [`Rotary::stretch`].
type Made = BTreeMap<usize, Arc<RotaryTable>>;

/// So many tables of one kind of block are kept.
const KEPT: usize = 4;

impl RotaryTables {
    pub fn new(of_block: PerBlock<Option<Rotary>>, head: usize) -> RotaryTables {
        let made = of_block.choices().iter().map(|_| Made::new()).collect();
        RotaryTables { of_block, head, made: Mutex::new(made) }
    }

    /// For sequences of these lengths, a table for each.
    pub fn of(&self, lengths: &[usize]) -> PerBlock<Option<Vec<Arc<RotaryTable>>>> {
        let mut made = self.made.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let mut kinds = made.iter_mut();
        self.of_block.map(|rotary| {
            let made = kinds.next()?;
            let rotary = rotary.as_ref()?;
            let mut longest = BTreeMap::new();
            for length in lengths {
                let positions = longest.entry(rotary.stretch(*length)).or_insert(0);
                *positions = (*positions).max(*length);
            }
            for (stretch, positions) in longest {
                if made.get(&stretch).is_none_or(|table| table.positions() < positions) {
                    let frequencies = rotary.frequencies(self.head, positions);
                    let table = RotaryTable::new(&frequencies, self.head, rotary.factor(), positions);
                    made.insert(stretch, Arc::new(table));
                }
            }
            let tables = lengths.iter().map(|length| made[&rotary.stretch(*length)].clone()).collect();
            while made.len() > KEPT {
                made.pop_last();
            }
            Some(tables)
        })
    }
}
