//! The columns that name two groups in the tables of a comparison.

use std::sync::Arc;

use arrow::array::{ArrayRef, StringArray};

use crate::comparison::compared::Group;
use crate::table::{Column, Kind, column};

pub const GROUP_COLUMNS: [Column; 4] = [
    column("model_a", Kind::Text, "model of the first group"),
    column("dataset_a", Kind::Text, "dataset of the first group"),
    column("model_b", Kind::Text, "model of the second group"),
    column("dataset_b", Kind::Text, "dataset of the second group"),
];

/// [`GROUP_COLUMNS`] of these pairs of groups.
pub fn group_arrays(groups: &[Group], pairs: &[(usize, usize)]) -> [ArrayRef; 4] {
    let texts = |name: fn(&Group) -> &str, end: fn(&(usize, usize)) -> usize| -> ArrayRef {
        Arc::new(StringArray::from_iter_values(pairs.iter().map(|pair| name(&groups[end(pair)]))))
    };
    [
        texts(model, |pair| pair.0),
        texts(dataset, |pair| pair.0),
        texts(model, |pair| pair.1),
        texts(dataset, |pair| pair.1),
    ]
}

fn model(group: &Group) -> &str {
    &group.model
}

fn dataset(group: &Group) -> &str {
    &group.dataset
}
