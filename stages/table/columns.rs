//! Columns that several tables have.

use super::{Column, Kind, column};

/// The lower and upper end of a 95 % bootstrap interval.
pub const CI_LOW: Column = column("ci_low", Kind::F64, "lower end of the 95 % bootstrap interval over examples");
pub const CI_HIGH: Column = column("ci_high", Kind::F64, "upper end of the 95 % bootstrap interval over examples");
