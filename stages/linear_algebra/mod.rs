//! Dense f64 linear algebra on one thread: a stage runs in parallel over layers, and its sums never depend
//! on how many threads there are.

mod principal;
mod products;
mod sign;
mod symmetric;

pub use principal::{Principal, centre, principal_directions, rank_floor, transpose};
pub use products::{combinations, dot, gram, norm, products, scale_to_unit};
pub use sign::{largest_entry, orient};
pub use symmetric::{Eigen, principal_cosines, symmetric_eigen};
