//! What changes when the pass or the prompt is changed.

pub mod attribution;
pub mod patched;
pub mod patching;
pub mod patching_summary;
