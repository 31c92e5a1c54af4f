//! The pairs of datasets whose directions are compared, and what a comparison reads.

use std::collections::HashSet;

use crate::contract::node::{Bindings, Input};
use crate::contract::pair::Pair;
use crate::contract::pipeline::{Pipeline, PlanError, Selection};
use crate::contract::toml_path::at;
use crate::directions::direction_table::DIRECTION_COLUMNS;
use crate::directions::null_table::NULL_COLUMNS;
use crate::directions::settings::{self, Settings};

/// Every pair of datasets whose directions are compared, under every pair of models.
pub fn dataset_pairs(
    stage: &str,
    datasets: &Selection,
    pipeline: &Pipeline,
) -> Result<Vec<(Pair, String, String)>, PlanError> {
    let directions: Settings = pipeline.section("directions")?;
    let with_directions: HashSet<String> = directions.datasets(pipeline)?.into_iter().collect();
    let at = at("stages").key(stage).key("datasets");
    let chosen = pipeline.datasets(datasets, &at)?;
    let mut names = Vec::new();
    for dataset in chosen {
        if with_directions.contains(&dataset.name) {
            names.push(&dataset.name);
        } else if !matches!(datasets, Selection::One(name) if name == "*") {
            return Err(PlanError::new(at, format!("dataset \"{}\" has no directions", dataset.name))
                .help("add it to stages.directions.datasets"));
        }
    }
    let mut found = Vec::new();
    for pair in directions.pairs(pipeline)? {
        for (i, a) in names.iter().enumerate() {
            found.extend(names[i + 1..].iter().map(|b| (pair.clone(), a.to_string(), b.to_string())));
        }
    }
    Ok(found)
}

pub fn bindings(pair: &Pair, a: &str, b: &str) -> Bindings {
    vec![
        ("source", pair.source.clone()),
        ("target", pair.target.clone()),
        ("dataset_a", a.to_string()),
        ("dataset_b", b.to_string()),
    ]
}

/// The directions of both datasets, and their nulls.
pub fn inputs(pair: &Pair, a: &str, b: &str) -> Vec<Input> {
    let input = |role: &str, stage, columns, dataset: &str| {
        Input::node(role, stage, settings::bindings(dataset, pair)).columns(columns)
    };
    vec![
        input("a", "directions", DIRECTION_COLUMNS, a),
        input("b", "directions", DIRECTION_COLUMNS, b),
        input("null_a", "null_directions", NULL_COLUMNS, a),
        input("null_b", "null_directions", NULL_COLUMNS, b),
    ]
}
