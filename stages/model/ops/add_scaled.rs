//! What a layer adds to the residual stream where a norm or a factor stands between.

use rayon::prelude::*;

/// x becomes base + factor * x.
pub fn add_scaled(base: &[f32], x: &mut [f32], factor: f32) {
    assert_eq!(base.len(), x.len(), "add_scaled: lengths");
    const PART: usize = 1 << 13;
    x.par_chunks_mut(PART).zip(base.par_chunks(PART)).for_each(|(x, base)| {
        x.iter_mut().zip(base).for_each(|(x, base)| *x = base + factor * *x);
    });
}
