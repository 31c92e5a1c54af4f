//! One block, whose arithmetic is written once: a family's description becomes a short list of steps on named
//! values, and the forward pass, what it records, its reverse and its cost all come from these steps.
//!
//! ```text
//! description ──compile──▶ steps ──┬── forward: values are freed after their last use
//!                                  ├── record:  those that the reverse reads are kept
//!                                  ├── reverse: from the gradient at the output down to what is wanted
//!                                  └── cost:    FLOPs, and values in memory
//! ```
//!
//! Packed as everywhere: all steps run row by row, but attention, which runs over each sequence.

mod compile;
pub mod description;
mod frame;
mod program;
#[cfg(test)]
mod reference;
mod reverse;
mod steps;
#[cfg(test)]
mod tests;
mod weights;

pub use program::{Packing, Program, Tape};
pub use reverse::Watch;
pub use weights::{BlockWeights, NormWeights};
