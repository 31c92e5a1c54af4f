//! A run from its plan to its end, over again where a remote did not keep what it promised.

use std::collections::HashSet;

use anyhow::{Result, bail};

use super::{Cancelled, Options, Remotes, Run, Summary};
use crate::graph::{Graph, NodeSet};
use crate::manifest::remotes::OnFailure;
use crate::plan::{Plan, Promised};
use crate::progress::Progress;
use crate::remote::Failure;
use crate::store::Store;

/// What a run works on.
#[derive(Clone, Copy)]
pub struct Work<'p> {
    pub graph: &'p Graph,
    pub store: &'p Store,
    pub wanted: &'p NodeSet,
}

/// Runs the wanted nodes. `started` is told of each round's plan before anything of it runs.
///
/// A plan that knows a task's outputs from a remote's record rests on them. When their objects then cannot be had, the round ends, what
/// it finished is kept, and the next one plans without that promise.
///
/// # Errors
/// The engine's own, and a remote's that the pipeline says to stop for; failures of tasks are in the summary.
pub fn run<'p>(
    work: Work<'p>,
    options: &Options,
    remotes: &mut Remotes<'p>,
    progress: &Progress,
    cancelled: Cancelled,
    started: &mut dyn FnMut(&Plan),
) -> Result<(Plan<'p>, Summary)> {
    let Work { graph, store, wanted } = work;
    let mut broken = HashSet::new();
    let mut plan = Plan::new(graph, store);
    let mut earlier: Option<Summary> = None;
    loop {
        let run = Run::start(&mut plan, wanted, options, remotes, progress)?;
        started(run.plan);
        let mut summary = run.finish(cancelled)?;
        let lost = std::mem::take(&mut summary.lost);
        if let Some(earlier) = earlier.take() {
            summary.follow(earlier);
        }
        if lost.is_empty() || summary.interrupted {
            return Ok((plan, summary));
        }
        let gone = lost.iter().any(|(_, failure)| matches!(failure, Failure::Unreachable(_)));
        if let Some((_, failure)) = lost.iter().find(|(_, failure)| !gone || matches!(failure, Failure::Unreachable(_)))
        {
            if gone && remotes.settings.iter().any(|setting| setting.on_failure == OnFailure::Stop) {
                bail!("results could not be fetched: {failure}");
            }
            progress.note(&format!("{failure}; what is missing is computed"));
        }
        for (key, failure) in lost {
            remotes.lookup.iter_mut().for_each(|lookup| lookup.refuse(key, failure.to_string()));
            store.forget_elsewhere(key)?;
            broken.insert(key);
        }
        let promised = match gone {
            true => {
                remotes.lookup.iter_mut().for_each(|lookup| lookup.give_up());
                Promised::None
            }
            false => Promised::AllBut(broken.clone()),
        };
        plan = Plan::promising(graph, store, promised);
        earlier = Some(summary);
    }
}
