//! Which of the tasks are one worker's, where several share them on one store.
//!
//! A task belongs to the same worker whoever asks and whenever, because its place follows from what is hashed into keys: the
//! hash that all tasks of its node have in common, and its number among them. So workers need not talk. Tasks that watch a
//! model have in common the model and the parts that pass, whichever stage they are of: one worker does the whole pass of a
//! part, and the parts of a dataset go to the workers in turn.

use std::time::Duration;

use anyhow::{Result, bail};
use strata_stages::Work;
use strata_stages::model::watch_task::MODEL_ROLE;

use crate::graph::{NodeId, NodeSet};
use crate::plan::{Plan, ResolvedInputs};

/// What of a run is one worker's.
pub struct Share {
    pub shard: Shard,
    /// The nodes whose tasks it does; of others it waits for the results.
    pub nodes: NodeSet,
    /// For how long, with nothing of its own to do, it waits for another worker to finish a task.
    pub patience: Duration,
}

/// One of several equal shares, counted from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shard {
    index: u64,
    of: u64,
}

impl Shard {
    /// The only one.
    pub const WHOLE: Shard = Shard { index: 0, of: 1 };

    pub fn is_first(self) -> bool {
        self.index == 0
    }

    fn owns(self, group: u64) -> bool {
        group % self.of == self.index
    }
}

impl std::str::FromStr for Shard {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Shard> {
        let parsed = text.split_once('/').and_then(|(index, of)| Some((index.parse().ok()?, of.parse().ok()?)));
        match parsed {
            Some((index, of)) if index < of => Ok(Shard { index, of }),
            Some((index, of)) => bail!("shards count from 0, so the last of {of} is {}, not {index}", of.max(1) - 1),
            None => bail!("expected I/N, for example 0/4, the first of four shards"),
        }
    }
}

impl std::fmt::Display for Shard {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.index, self.of)
    }
}

impl Share {
    pub fn owns(&self, id: NodeId, group: u64) -> bool {
        self.nodes.contains(id) && self.shard.owns(group)
    }
}

/// The group of a node's first task; that of each further one is greater by one. Tasks of one group are one worker's.
pub fn first_group(plan: &Plan, id: NodeId, inputs: &ResolvedInputs) -> u64 {
    let node = plan.graph.node(id);
    let document = plan.document(id, inputs);
    let bits = match (&node.stage.work, node.per_part.and_then(|role| inputs.get(role))) {
        (Work::Watch(_), Some(parts)) => {
            let mut hasher = blake3::Hasher::new();
            // What is read of a part differs from stage to stage; its object's name is what all have in common.
            for part in parts {
                hasher.update(part.part.path.file_name().unwrap_or_default().as_encoded_bytes()).update(b"\n");
            }
            for file in document.inputs.get(MODEL_ROLE).into_iter().flatten() {
                hasher.update(format!("{file:?}").as_bytes());
            }
            u64::from_le_bytes(*hasher.finalize().as_bytes().first_chunk().unwrap_or(&[0; 8]))
        }
        _ => document.key().leading_bits(),
    };
    // Room for a task's number to be added.
    bits >> 8
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shard_is_written_as_its_number_and_how_many_there_are() {
        let shard: Shard = "3/8".parse().expect("a shard");
        assert_eq!(shard.to_string(), "3/8");
        assert!((0..32).all(|group| shard.owns(group) == (group % 8 == 3)));
        let error = |text: &str| text.parse::<Shard>().err().map(|error| error.to_string()).unwrap_or_default();
        assert!(error("8/8").contains("the last of 8 is 7"));
        for text in ["", "3", "/8", "3/", "a/b", "-1/2", "1/2/3"] {
            assert!(error(text).contains("expected I/N"), "{text}: {}", error(text));
        }
        assert!(!error("0/0").is_empty());
    }
}
