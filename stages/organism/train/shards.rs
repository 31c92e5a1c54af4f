//! A batch's gradient from its shards side by side. The steps of a small model are too short to be worth sharing
//! between threads, so each lane of threads takes whole shards.

use anyhow::{Context, Result};
use rayon::prelude::*;
use rayon::{ThreadPool, ThreadPoolBuilder};

use super::documents::Batch;
use super::parameters::Parameters;
use super::transformer::Transformer;

/// Shards of a batch: a number of its own, so that sums are the same on any number of threads.
pub const SHARDS: usize = 4;
/// Values that a thread adds up at a time.
const PART: usize = 1 << 14;

pub struct Shards {
    /// Empty where one lane has all threads: it needs no pool of its own.
    lanes: Vec<ThreadPool>,
    gradients: Vec<Vec<f32>>,
}

impl Shards {
    /// Lanes for the threads at hand.
    ///
    /// # Errors
    /// When the system gives no threads.
    pub fn new(parameters: &Parameters) -> Result<Shards> {
        let threads = rayon::current_num_threads();
        let lanes = threads.min(SHARDS);
        let lane = |i: usize| {
            let threads = threads / lanes + usize::from(i < threads % lanes);
            ThreadPoolBuilder::new().num_threads(threads).build().context("cannot start the threads of a lane")
        };
        let lanes = if lanes > 1 { (0..lanes).map(lane).collect::<Result<_>>()? } else { Vec::new() };
        Ok(Shards { lanes, gradients: vec![vec![0.0; parameters.values.len()]; SHARDS] })
    }

    /// The mean cross-entropy of the batch's targets in nats, and its gradient, laid out as the parameters are.
    ///
    /// # Errors
    /// When a step of a block fails.
    pub fn loss_and_gradient(
        &mut self,
        model: &Transformer,
        parameters: &Parameters,
        batch: &Batch,
    ) -> Result<(f64, &mut [f32])> {
        let shards = batch.shards(SHARDS);
        let weight = 1.0 / batch.targets.len() as f32;
        let pass = |(shard, gradient): (&Batch, &mut Vec<f32>)| {
            gradient.fill(0.0);
            model.loss_and_gradient(parameters, shard, weight, gradient)
        };
        let work: Vec<_> = shards.iter().zip(&mut self.gradients).collect();
        let used = work.len();
        let losses: Vec<f64> = if self.lanes.is_empty() {
            work.into_iter().map(pass).collect::<Result<_>>()?
        } else {
            let mut lanes: Vec<Vec<_>> = self.lanes.iter().map(|_| Vec::new()).collect();
            for (i, shard) in work.into_iter().enumerate() {
                lanes[i % self.lanes.len()].push(shard);
            }
            let losses = (self.lanes.par_iter().zip(lanes).with_max_len(1))
                .map(|(lane, work)| lane.install(|| work.into_iter().map(pass).collect::<Result<Vec<f64>>>()))
                .collect::<Result<Vec<_>>>()?;
            (0..used).map(|i| losses[i % losses.len()][i / losses.len()]).collect()
        };
        let (sum, rest) = self.gradients.split_first_mut().expect("a batch has at least one shard");
        let rest = &rest[..used - 1];
        sum.par_chunks_mut(PART).enumerate().for_each(|(part, sum)| {
            let at = part * PART..part * PART + sum.len();
            for shard in rest {
                sum.iter_mut().zip(&shard[at.clone()]).for_each(|(sum, g)| *sum += g);
            }
        });
        Ok((losses.iter().sum(), sum))
    }
}
