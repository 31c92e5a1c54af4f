//! The transformer's arithmetic on the CPU, as functions of f32 slices. Each op parallelises over rows or
//! (sequence, head) pairs that do not touch each other, so its result does not depend on the thread count,
//! and a row's result does not depend on the rows beside it.

mod activation;
mod add_rows;
mod add_scaled;
mod attention;
mod attention_backward;
mod bf16;
mod bf16_product;
mod blocks;
mod columns;
mod cross_entropy;
mod exp;
mod fp8;
mod gate;
mod gate_backward;
mod layer_norm;
mod layer_norm_backward;
mod linear;
mod linear_backward;
mod logits;
mod low_rank;
mod matrix;
mod norm;
mod precision;
mod rms_norm;
mod rms_norm_backward;
mod rope;
mod router;
mod scores;
mod softmax;
mod spans;
mod tanh;
mod widened;

pub use activation::Activation;
pub use add_rows::add_rows;
pub use add_scaled::add_scaled;
pub use attention::{HeadShape, attention};
pub use attention_backward::attention_backward;
pub use blocks::Blocks;
pub use columns::{add_to_columns, columns};
pub use cross_entropy::cross_entropy_backward;
pub use exp::exp;
pub use fp8::{Fp8, Scales};
pub use gate::{activate, gate};
pub use gate_backward::{activate_backward, gate_backward};
pub use layer_norm::layer_norm;
pub use layer_norm_backward::{layer_norm_backward_add, layer_norm_weight_gradient_add};
pub use linear::{linear, linear_add, linear_new, linear_replacing};
pub use linear_backward::{bias_gradient_add, linear_backward, linear_backward_rounding, weight_gradient_add};
pub use logits::Logits;
pub use low_rank::LowRank;
pub use matrix::{Matrix, Values};
pub use norm::{Norm, NormKind};
pub use precision::Precision;
pub use rms_norm::{rms_norm, rms_norm_new};
pub use rms_norm_backward::{rms_norm_backward_add, rms_norm_weight_gradient_add};
pub use rope::{RotaryTable, rope};
pub use router::{route, route_backward};
pub use scores::Scores;
pub use softmax::{entropy, log_softmax, log_sum_exp, softmax_prefix};
pub use spans::Spans;
pub use tanh::tanh;

#[cfg(test)]
pub(crate) mod test_values;

use gemmkit::Parallelism;

pub(crate) use crate::processor::vectorized;

/// The lanes that sums are spread over: as many as the widest vectors hold, on every machine.
pub(crate) const LANES: usize = 16;

/// How many threads a matrix product may use: those of the rayon pool it is called in.
pub(crate) fn threads() -> Parallelism {
    match rayon::current_num_threads() {
        1 => Parallelism::Serial,
        n => Parallelism::Rayon(n),
    }
}

/// The side of a product that vectors are loaded from is packed where more rows than this use it. Read in place across long strides it
/// takes half of the time again (512 x 325 x 5,120: 106 GFLOP/s instead of 167). The blocks of attention have 64 rows and are read in place.
const PACKED_BEYOND: usize = 128;

/// gemmkit takes special routes for products with few rows, whose sums run in another order. Without them a
/// row's result depends on the row and the weights alone, whatever other rows share the product.
pub(crate) fn fix_summation_order() {
    static ONCE: std::sync::Once = std::sync::Once::new();
    ONCE.call_once(|| {
        gemmkit::tuning::set_gemv_threshold(0);
        gemmkit::tuning::set_small_mn_dim(0);
        gemmkit::tuning::set_tiny_block_dim(0);
        gemmkit::tuning::set_lhs_pack_threshold(PACKED_BEYOND);
    });
}

/// A pointer that several threads may write through, each to elements that no other touches.
#[derive(Clone, Copy)]
pub(crate) struct Shared<T>(pub *mut T);

// SAFETY: only a pointer; whoever writes through it keeps the writes disjoint.
unsafe impl<T> Send for Shared<T> {}
unsafe impl<T> Sync for Shared<T> {}

impl<T> Shared<T> {
    /// The pointer itself; a method, so that closures capture the whole wrapper.
    pub(crate) fn get(&self) -> *mut T {
        self.0
    }
}
