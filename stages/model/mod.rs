//! The instrumented transformer: one config-driven forward pass that observers watch and interventions edit.

pub mod adapter;
pub mod affine;
pub mod backward;
pub mod block;
mod composed;
mod composed_loss;
mod composed_reverse;
pub mod compute;
pub mod family;
pub mod files;
pub mod forward;
pub mod gguf;
pub mod ops;
pub mod pass;
mod passing;
pub mod plan;
mod predictions;
mod prefixes;
pub mod rotary;
pub mod rotary_tables;
pub mod shape;
pub mod size;
mod together;
pub mod token_part;
pub mod transformer;
pub mod watch_task;
pub mod watcher;
pub mod weights;

#[cfg(test)]
mod composed_tests;
#[cfg(test)]
mod damaged_tests;
#[cfg(test)]
pub(crate) mod families_tests;
#[cfg(test)]
pub(crate) mod golden_tests;
#[cfg(test)]
mod portable_tests;
#[cfg(test)]
pub(crate) mod test_model;
#[cfg(test)]
mod weights_tests;
