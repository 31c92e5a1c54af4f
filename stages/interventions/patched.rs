//! Which models are patched on which datasets, as `[stages.patching]` says it to every stage that reads its tables.

use serde::{Deserialize, Serialize};

use crate::contract::node::Bindings;
use crate::contract::pair::Pair;
use crate::contract::pipeline::{Pipeline, PlanError, Selection};
use crate::contract::toml_path::at;

/// The keys of `[stages.patching]` that name its nodes.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Patched {
    pairs: Option<Vec<Pair>>,
    datasets: Selection,
    positions: Positions,
}

/// Which tokens' states are put in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Positions {
    #[default]
    All,
    /// The one before the target token, whose distribution predicts it.
    Last,
    Response,
}

impl Positions {
    pub fn name(self) -> &'static str {
        match self {
            Positions::All => "all",
            Positions::Last => "last",
            Positions::Response => "response",
        }
    }
}

/// The positions that `[stages.patching]` patches.
///
/// # Errors
/// When its section cannot be read.
pub fn positions(pipeline: &Pipeline) -> Result<Positions, PlanError> {
    Ok(pipeline.section::<Patched>("patching")?.positions)
}

/// The names of the nodes of `patching`.
///
/// # Errors
/// When a model or dataset is unknown, or there are no two models.
pub fn all_bindings(pipeline: &Pipeline) -> Result<Vec<Bindings>, PlanError> {
    let patched: Patched = pipeline.section("patching")?;
    let mut all = Vec::new();
    for pair in pairs(patched.pairs.as_deref(), pipeline)? {
        for dataset in pipeline.datasets(&patched.datasets, "stages.patching.datasets")? {
            all.push(bindings(&pair, &dataset.name));
        }
    }
    Ok(all)
}

pub fn bindings(pair: &Pair, dataset: &str) -> Bindings {
    vec![("source", pair.source.clone()), ("target", pair.target.clone()), ("dataset", dataset.to_string())]
}

/// The pairs that were written, or the first model into the second where none were.
///
/// # Errors
/// As [`all_bindings`].
pub fn pairs(written: Option<&[Pair]>, pipeline: &Pipeline) -> Result<Vec<Pair>, PlanError> {
    let Some(pairs) = written else {
        let two = || {
            PlanError::new("stages.patching", "patching needs two models")
                .help("add another under [models]: the first is the source, the second the target")
        };
        return Ok(vec![Pair::first(pipeline).ok_or_else(two)?]);
    };
    let same = "a model's own stream put into it changes nothing";
    Pair::check(pairs, &at("stages.patching.pairs"), pipeline, same)?;
    Ok(pairs.to_vec())
}
