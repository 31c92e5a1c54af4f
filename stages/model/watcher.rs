//! An observer during a pass: what it asked for, and its first error, which ends its watching and not the others'.

use anyhow::{Error, Result, anyhow};
use candle_core::Tensor;

use crate::contract::observer::{Factors, LossGradients, Observer, Over, Wants};
use crate::contract::site::Site;

pub struct Watcher<'a> {
    observer: &'a mut dyn Observer,
    pub(super) wants: Wants,
    pub(super) gradients: Option<LossGradients>,
    failed: Option<Error>,
}

impl<'a> Watcher<'a> {
    pub fn new(observer: &'a mut dyn Observer) -> Watcher<'a> {
        let mut wants = observer.wants();
        wants.predictions.sort_unstable();
        wants.predictions.dedup();
        let gradients = observer.gradients();
        Watcher { observer, wants, gradients, failed: None }
    }

    /// The observer's own error, if it had one.
    pub fn result(self) -> Result<()> {
        self.failed.map_or(Ok(()), Err)
    }

    /// Fails the observer if it wants a state at a site that is not among those that the pass comes by.
    pub(super) fn check(&mut self, sites: &[Site]) {
        if let Some(site) = self.wants.states.iter().find(|site| !sites.contains(site)) {
            self.failed = Some(anyhow!("the pass does not come by {site}, whose states were asked for"));
        }
    }

    pub(super) fn show(&mut self, site: Site, states: &Tensor) {
        if self.failed.is_none() && self.wants.states.contains(&site) {
            self.failed = self.observer.states(site, states).err();
        }
    }

    pub(super) fn factors(&mut self, over: Over, factors: &Factors) {
        let wanted = |wanted: &LossGradients| wanted.over == over && wanted.modules.contains(factors.path);
        if self.failed.is_none() && self.gradients.as_ref().is_some_and(wanted) {
            self.failed = self.observer.factors(factors).err();
        }
    }

    /// Passes on those of the chunk's rows that this observer asked for, in runs that lie together.
    pub(super) fn predict(&mut self, rows: &[usize], logprobs: &[f32], vocabulary: usize) {
        let mut start = 0;
        while start < rows.len() && self.failed.is_none() {
            let wanted = |row: &usize| self.wants.predictions.binary_search(row).is_ok();
            let end = start + rows[start..].iter().take_while(|row| wanted(row)).count();
            if end > start {
                let part = &logprobs[start * vocabulary..end * vocabulary];
                self.failed = self.observer.predictions(&rows[start..end], part, vocabulary).err();
            }
            start = end.max(start + 1);
        }
    }
}
