//! Examples as token ids under a model's tokenizer and chat template.

use std::sync::Arc;

use anyhow::{Context, Result};
use arrow::array::{Array, ArrayRef, BooleanArray, ListBuilder, StringArray, UInt32Array, UInt32Builder};
use rayon::prelude::*;
use serde_json::{Value, json};

use crate::contract::node::{Input, Node, Part};
use crate::contract::pipeline::{Pipeline, PlanError, model_dataset, parse_settings};
use crate::contract::setting::{defaults, setting};
use crate::contract::stage::{Output, Outputs, Stage, Task, Work};
use crate::table::folders::{DATASET, MODEL};
use crate::table::{self, Kind, Table, column};
use crate::text::chat::{ChatTokenizer, Date, Encoded, Message};
use crate::text::encoding::{Params, Settings};

pub const TABLE: Table = Table {
    name: "tokens",
    folders: &[MODEL, DATASET],
    columns: &[
        column("example", Kind::Text, "the example's identity"),
        column("ids", Kind::U32List, "token ids of the whole conversation after the chat template"),
        column(
            "response_start",
            Kind::U32,
            "index of the first token of the last assistant message's content; the number of tokens where there is none",
        ),
        column("response_end", Kind::U32, "index after the last token of that content"),
        column("turn_start", Kind::U32, "index of the first token of that message's turn, its opening marker included"),
        column("truncated", Kind::Bool, "whether tokens beyond max_tokens were cut off"),
    ],
};

pub static STAGE: Stage = Stage {
    name: "tokens",
    version: 3,
    about: "Renders each example with the model's chat template and tokenizes it.",
    asked_by_default: false,
    notice: Some(cut),
    outputs: Outputs::Table(TABLE),
    settings: &[
        setting("models", "The models whose tokenizers are used."),
        setting("datasets", "The datasets to tokenize."),
        setting("max_tokens", "Longer examples are cut here and marked as truncated."),
        setting(
            "date",
            "The date given to chat templates that ask for today's (strftime_now), so that a table does not \
             depend on when it was made.",
        ),
    ],
    defaults: defaults::<Settings>,
    plan,
    cost: None,
    figures: &[],
    work: Work::Table(run),
};

fn plan(settings: &Value, pipeline: &Pipeline) -> Result<Vec<Node>, PlanError> {
    let settings: Settings = parse_settings(STAGE.name, settings)?;
    if settings.max_tokens == 0 {
        return Err(PlanError::new("stages.tokens.max_tokens", "max_tokens must be at least 1"));
    }
    if let Err(error) = Date::parse(&settings.date) {
        return Err(PlanError::new("stages.tokens.date", error.to_string()));
    }
    let mut nodes = Vec::new();
    for model in pipeline.models(&settings.models, "stages.tokens.models")? {
        let params = Params::new(&settings, pipeline, model);
        for dataset in pipeline.datasets(&settings.datasets, "stages.tokens.datasets")? {
            let examples = vec![("dataset", dataset.name.clone())];
            nodes.push(Node {
                stage: STAGE.name,
                bindings: model_dataset(&model.name, &dataset.name),
                params: json!(params),
                inputs: vec![
                    Input::tokenizer(&model.name),
                    Input::node("examples", "examples", examples).columns(&["example", "messages"]),
                ],
                per_part: Some("examples"),
            });
        }
    }
    Ok(nodes)
}

fn run(task: &Task) -> Result<Vec<Output>> {
    let params: Params = task.params()?;
    let tokenizer = ChatTokenizer::open(task.parts("tokenizer")?, params.model_type.as_deref())?;
    let template = params.template(&tokenizer)?;
    let batch = table::read(task.parts("examples")?, &["example", "messages"])?;
    let examples: &StringArray = table::values(&batch, "example")?;
    let messages: &StringArray = table::values(&batch, "messages")?;
    let encode = |row: usize| -> Result<Encoded> {
        let messages: Vec<Message> =
            serde_json::from_str(messages.value(row)).context("its messages are no list of role and content")?;
        tokenizer.encode(&template, &messages, params.max_tokens)
    };
    let encoded = (0..batch.num_rows())
        .into_par_iter()
        .map(|row| encode(row).with_context(|| format!("example {}", examples.value(row))))
        .collect::<Result<Vec<_>>>()?;
    Ok(vec![Output::table(to_batch(examples, &encoded)?)])
}

/// How many examples of these parts were longer than max_tokens.
fn cut(parts: &[Part]) -> Result<Option<String>> {
    let mut cut = 0;
    for part in parts {
        let batch = table::read(std::slice::from_ref(part), &["truncated"])?;
        cut += table::values::<BooleanArray>(&batch, "truncated")?.true_count();
    }
    Ok((cut > 0)
        .then(|| format!("{cut} examples were longer than max_tokens and are cut (column `truncated` of tokens)")))
}

/// The table of these encodings, in their order.
pub fn to_batch(examples: &StringArray, encoded: &[Encoded]) -> Result<arrow::array::RecordBatch> {
    let mut ids = ListBuilder::new(UInt32Builder::new());
    for row in encoded {
        ids.append_value(row.ids.iter().map(|id| Some(*id)));
    }
    let numbers =
        |of: fn(&Encoded) -> u32| -> ArrayRef { Arc::new(UInt32Array::from_iter_values(encoded.iter().map(of))) };
    TABLE.batch(vec![
        Arc::new(StringArray::from_iter_values((0..examples.len()).map(|row| examples.value(row)))),
        Arc::new(ids.finish()),
        numbers(|row| row.response.start),
        numbers(|row| row.response.end),
        numbers(|row| row.turn_start),
        Arc::new(BooleanArray::from_iter(encoded.iter().map(|row| Some(row.truncated)))),
    ])
}
