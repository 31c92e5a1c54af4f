//! A stage with a figure that is not in the registry: what CONTRIBUTING.md shows, and what a new stage takes.

mod response_length;

use serde_json::json;

pub use response_length::STAGE;

use crate::testing::tables::{TestTables, numbers, run, u32s};

#[test]
fn it_runs_as_it_stands() {
    let tables = TestTables::new();
    let tokens = tables.part(vec![("response_start", u32s([3, 5])), ("response_end", u32s([7, 15]))]);
    let found = run(&STAGE, json!({}), &[("tokens", &[tokens])]).unwrap();
    assert_eq!((numbers(&found, "n"), numbers(&found, "mean")), (vec![2.0], vec![7.0]));
    assert_eq!((numbers(&found, "ci_low"), numbers(&found, "ci_high")), (vec![4.0], vec![10.0]));
}

#[test]
fn contributing_quotes_its_files() {
    let text = include_str!("../../CONTRIBUTING.md");
    for file in
        [include_str!("sample_stage/response_length.rs"), include_str!("sample_stage/response_length/figure.rs")]
    {
        assert!(text.contains(&format!("```rust\n{file}```\n")), "CONTRIBUTING.md is not what this file says:\n{file}");
    }
}
