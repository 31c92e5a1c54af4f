//! Memory that no stage's own arithmetic tells.

/// The process itself, with its threads and what its allocator keeps, in bytes.
pub const PROCESS: f64 = 60e6;
