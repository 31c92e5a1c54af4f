//! The columns of gradients as vectors.

use crate::table::{Column, Kind, column};

pub const VECTOR_COLUMNS: &[Column] = &[
    column("example", Kind::Text, "the example's identity; the parts are the datasets, in the pipeline's order"),
    column("module", Kind::Text, "the weight matrix, as layers.3.self_attn.o_proj"),
    column(
        "vector",
        Kind::F32List,
        "the gradient's coordinates in the space of all gradients of this matrix: their inner products are those \
             of the gradients",
    ),
];
