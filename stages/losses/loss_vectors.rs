//! An example as the losses of the tokens of a window, such as the first of the assistant's turn (Giordani 2025, Sec. 4.2).

use std::collections::HashMap;
use std::sync::Arc;

use anyhow::{Result, bail};
use arrow::array::{Float32Array, StringArray, UInt32Array};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::contract::node::{Input, Node, Part};
use crate::contract::pipeline::{Pipeline, PlanError, model_dataset};
use crate::contract::setting::{defaults, setting};
use crate::contract::stage::{Output, Outputs, Stage, Task, Work};
use crate::losses::windows::{self, Settings, Start};
use crate::table::folders::{DATASET, MODEL, WINDOW};
use crate::table::{self, Kind, Table, column, list_array, values};

/// The columns of `tokens` that are read, the start's last.
fn columns(start: Start) -> &'static [&'static str] {
    match start {
        Start::Marker | Start::Role => &["example", "turn_start"],
        Start::Content => &["example", "response_start"],
        Start::Conversation => &["example"],
    }
}

#[derive(Debug, Serialize, Deserialize)]
struct Params {
    n: usize,
    start: Start,
}

const TABLE: Table = Table {
    name: "loss_vectors",
    folders: &[MODEL, DATASET, WINDOW],
    columns: &[
        column("example", Kind::Text, "identity of the example"),
        column(
            "vector",
            Kind::F32List,
            "cross-entropies (nats) of the window's tokens; NaN where the conversation has ended",
        ),
        column("missing", Kind::U32, "how many of them are NaN; `fill` of stages.similarity says what becomes of them"),
    ],
};

pub static STAGE: Stage = Stage {
    name: "loss_vectors",
    version: 3,
    about: "The losses of so many tokens from a chosen one on, as one vector per example.",
    asked_by_default: false,
    notice: None,
    outputs: Outputs::Table(TABLE),
    settings: &[
        setting(
            "name",
            "The window's name in the tables, where the pipeline has several, each a `[[stages.loss_vectors]]`; where none is \
             written, its start.",
        )
        .example("\"whole_conversation\""),
        setting("models", "The models whose losses are taken."),
        setting("datasets", "The datasets whose examples get a vector."),
        setting("n", "The number of tokens."),
        setting(
            "start",
            "The first token whose loss counts: the turn's opening \"marker\", the \"role\" after it (Giordani 2025), the \
             first of the message's \"content\", or the second of the whole \"conversation\".",
        ),
    ],
    defaults: defaults::<Settings>,
    plan,
    cost: None,
    figures: &[],
    work: Work::Table(run),
};

fn plan(settings: &Value, pipeline: &Pipeline) -> Result<Vec<Node>, PlanError> {
    let mut nodes = Vec::new();
    for (at, window) in windows::of_section(settings)? {
        for model in pipeline.models(&window.models, at.key("models"))? {
            for dataset in pipeline.datasets(&window.datasets, at.key("datasets"))? {
                let of = model_dataset(&model.name, &dataset.name);
                nodes.push(Node {
                    stage: STAGE.name,
                    bindings: windows::bindings(&model.name, &dataset.name, window.window()),
                    params: json!(Params { n: window.n, start: window.start }),
                    inputs: vec![
                        Input::node("losses", "token_losses", of.clone()).columns(&["example", "token", "logprob"]),
                        Input::node("tokens", "tokens", of).columns(columns(window.start)),
                    ],
                    per_part: None,
                });
            }
        }
    }
    Ok(nodes)
}

fn run(task: &Task) -> Result<Vec<Output>> {
    let params: Params = task.params()?;
    let (examples, starts) = starts(task.parts("tokens")?, params.start)?;
    let rows: HashMap<&str, usize> =
        examples.iter().enumerate().map(|(row, example)| (example.as_str(), row)).collect();
    let losses = table::read(task.parts("losses")?, &["example", "token", "logprob"])?;
    let names: &StringArray = values(&losses, "example")?;
    let tokens: &UInt32Array = values(&losses, "token")?;
    let logprobs: &Float32Array = values(&losses, "logprob")?;
    let mut found: Vec<Option<f32>> = vec![None; examples.len() * params.n];
    for row in 0..losses.num_rows() {
        let Some(&example) = rows.get(names.value(row)) else {
            bail!("example {} has losses and no tokens", names.value(row))
        };
        let Some(index) = tokens.value(row).checked_sub(starts[example]) else { continue };
        if (index as usize) < params.n {
            found[example * params.n + index as usize] = Some(-logprobs.value(row));
        }
    }
    if !found.is_empty() && found.iter().all(Option::is_none) {
        bail!("no example has a token in its window, so there are no losses to make vectors of");
    }
    let missing = |row: &[Option<f32>]| row.iter().filter(|value| value.is_none()).count() as u32;
    let missing: Vec<u32> = found.chunks_exact(params.n).map(missing).collect();
    let vectors = found.into_iter().map(|value| value.unwrap_or(f32::NAN)).collect();
    let batch = TABLE.batch(vec![
        Arc::new(StringArray::from(examples)),
        list_array(vectors, params.n)?,
        Arc::new(UInt32Array::from(missing)),
    ])?;
    Ok(vec![Output::table(batch)])
}

/// The examples in the order of the table, and the index of the first token that counts of each.
fn starts(parts: &[Part], start: Start) -> Result<(Vec<String>, Vec<u32>)> {
    let columns = columns(start);
    let batch = table::read(parts, columns)?;
    let examples: &StringArray = values(&batch, "example")?;
    let first = match start {
        Start::Conversation => vec![1; batch.num_rows()],
        _ => values::<UInt32Array>(&batch, columns[columns.len() - 1])?.values().to_vec(),
    };
    let after = u32::from(start == Start::Role);
    let examples = examples.iter().flatten().map(String::from).collect();
    Ok((examples, first.into_iter().map(|first| first + after).collect()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::tables::{TestTables, f32s, numbers, run, text, texts, u32s};

    /// Losses of example a at tokens 1 to 5, of b at tokens 1 to 3: loss = 10 * example + token.
    fn vectors(n: usize, start: &str) -> Result<arrow::array::RecordBatch> {
        let tables = TestTables::new();
        let tokens = tables.part(vec![
            ("example", text(["b", "a"])),
            ("turn_start", u32s([1, 2])),
            ("response_start", u32s([2, 4])),
        ]);
        let rows: Vec<(&str, u32)> = (1..=5).map(|t| ("a", t)).chain((1..=3).map(|t| ("b", t))).collect();
        let losses = tables.part(vec![
            ("example", text(rows.iter().map(|(example, _)| *example))),
            ("token", u32s(rows.iter().map(|(_, token)| *token))),
            ("logprob", f32s(rows.iter().map(|(e, t)| -(*t as f32) - if *e == "b" { 10.0 } else { 0.0 }))),
        ]);
        run(
            &crate::losses::loss_vectors::STAGE,
            json!({ "n": n, "start": start }),
            &[("tokens", &[tokens]), ("losses", &[losses])],
        )
    }

    #[test]
    fn the_role_is_the_token_after_the_marker_and_a_conversation_begins_with_its_first_loss() {
        let of = |start: &str| table::vectors(&vectors(2, start).unwrap(), "vector").unwrap().0.to_vec();
        assert_eq!(of("role"), [12.0, 13.0, 3.0, 4.0]);
        assert_eq!(of("conversation"), [11.0, 12.0, 1.0, 2.0]);
    }

    #[test]
    fn vectors_start_at_the_marker_or_the_content() {
        let found = vectors(4, "marker").unwrap();
        assert_eq!(texts(&found, "example"), ["b", "a"]);
        let values = table::vectors(&found, "vector").unwrap().0;
        // b has no fourth loss.
        assert!(values[3].is_nan() && values[..3] == [11.0, 12.0, 13.0] && values[4..] == [2.0, 3.0, 4.0, 5.0]);
        assert_eq!(numbers(&found, "missing"), [1.0, 0.0]);
        let content = vectors(2, "content").unwrap();
        assert_eq!(table::vectors(&content, "vector").unwrap().0, [12.0, 13.0, 4.0, 5.0]);
    }

    #[test]
    fn losses_without_a_turn_are_an_error() {
        let tables = TestTables::new();
        let tokens = tables.part(vec![("example", text(["a"])), ("turn_start", u32s([5]))]);
        let losses = tables.part(vec![("example", text(["a"])), ("token", u32s([1])), ("logprob", f32s([-1.0]))]);
        let inputs: [(&str, &[Part]); 2] = [("tokens", &[tokens]), ("losses", &[losses])];
        let params = json!({ "n": 4, "start": "marker" });
        let error = run(&crate::losses::loss_vectors::STAGE, params, &inputs).unwrap_err().to_string();
        assert!(error.contains("no example has a token"), "{error}");
    }
}
