//! Attribution by feature ablation: each piece of the prompt is left out in turn, and what that does to the
//! log-probability of a target text is its attribution (as in Captum's `FeatureAblation` for language models).

mod ablation;
mod figure;
mod pieces;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::{Context, Result, anyhow, bail, ensure};
use arrow::array::{ArrayRef, Float32Array, StringArray, UInt32Array};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::contract::cost::{Cost, Expected, Pass};
use crate::contract::example_limit::ExampleLimit;
use crate::contract::node::{Input, Node};
use crate::contract::pipeline::{Dataset, Pipeline, PlanError, Selection, model_dataset, parse_settings};
use crate::contract::setting::{defaults, setting};
use crate::contract::stage::{Output, Outputs, Stage, Task, Work};
use crate::model::transformer::Transformer;
use crate::table::folders::{DATASET, MODEL};
use crate::table::{self, Kind, Table, column};
use crate::text::chat::{ChatTokenizer, Message};
use crate::text::dataset::reading::reading;
use crate::text::dataset::template::Template;
use crate::text::encoding;
use ablation::{Case, target_logprobs};
use pieces::Piece;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Settings {
    models: Selection,
    datasets: Selection,
    pieces: Pieces,
    max_pieces: usize,
    target: Option<String>,
    by: By,
    sign: Sign,
    limit: ExampleLimit,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            models: Selection::default(),
            datasets: Selection::default(),
            pieces: Pieces::Words,
            max_pieces: 32,
            target: None,
            by: By::Target,
            sign: Sign::Change,
            limit: ExampleLimit::First(8),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Pieces {
    Words,
    Lines,
    Slots,
}

/// What of a target a row is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum By {
    #[default]
    Target,
    /// Each of its tokens.
    Token,
}

/// Which way round the two log-probabilities are subtracted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Sign {
    /// Without the piece minus with it.
    #[default]
    Change,
    /// With the piece minus without it, as Captum has it.
    Contribution,
}

impl Sign {
    fn name(self) -> &'static str {
        match self {
            Sign::Change => "change",
            Sign::Contribution => "contribution",
        }
    }

    fn of(self, without: f64, whole: f64) -> f64 {
        match self {
            Sign::Change => without - whole,
            Sign::Contribution => whole - without,
        }
    }
}

#[derive(Serialize, Deserialize)]
struct Params {
    #[serde(default)]
    by: By,
    #[serde(default)]
    sign: Sign,
    pieces: Pieces,
    max_pieces: usize,
    /// The prompt's template, where its slots are the pieces.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    template: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    target: Option<String>,
    limit: ExampleLimit,
    tokens: encoding::Params,
}

const TABLE: Table = Table {
    name: "attribution",
    folders: &[MODEL, DATASET],
    columns: &[
        column("example", Kind::Text, "the example's identity"),
        column("piece", Kind::U32, "the piece's place in the prompt (the last user message), from 0"),
        column("text", Kind::Text, "the piece's text"),
        column("target", Kind::Text, "the text whose log-probability is taken, as the assistant's last message"),
        column(
            "delta_logprob",
            Kind::F32,
            "log-probability of the target without the piece minus that with the whole prompt, in nats: negative where \
             the piece speaks for the target; the other way round where `sign` is contribution",
        ),
        column(
            "logprob",
            Kind::F32,
            "log-probability of the target after the whole prompt, summed over its tokens, in nats; of one token where the row \
             has one",
        ),
        column("n_tokens", Kind::U32, "number of the target's tokens"),
        column(
            "target_token",
            Kind::U32,
            "place of the token in the target, from 0; null where the row is of the target",
        ),
        column("token", Kind::Text, "the token's text; null where the row is of the target"),
        column("sign", Kind::Text, "change, or contribution: which way round delta_logprob is"),
    ],
};

pub static STAGE: Stage = Stage {
    name: "attribution",
    version: 4,
    about: "Attribution by feature ablation: how the log-probability of a target text changes when a piece of the prompt \
     is left out.",
    asked_by_default: false,
    notice: None,
    outputs: Outputs::Table(TABLE),
    settings: &[
        setting("models", "The models whose log-probabilities are taken."),
        setting("datasets", "The datasets whose prompts are ablated."),
        setting(
            "pieces",
            "What is left out of the last user message in turn: \"words\", \"lines\" (those that are not \
                    blank), or \"slots\" (what the slots of the dataset's prompt template hold).",
        ),
        setting("max_pieces", "The most pieces of a prompt. If it has more words or lines, neighbours are joined."),
        setting(
            "target",
            "The text whose log-probability is taken, as the assistant's answer; each example's own response \
                    where none is written.",
        )
        .example("\"I cannot help with that.\""),
        setting(
            "by",
            "What a row is about: the whole \"target\", or each \"token\" of it, which gives a matrix of pieces and tokens.",
        ),
        setting(
            "sign",
            "\"change\": the log-probability without the piece minus that with it; \"contribution\": the other way round, as \
             Captum and Giordani 2025 have it.",
        ),
        setting(
            "limit",
            "How many examples of a dataset are ablated, the first ones, or \"all\". Cost per example: one \
             forward pass for each piece and one for the whole prompt.",
        ),
    ],
    defaults: defaults::<Settings>,
    plan,
    cost: Some(cost),
    figures: &[figure::FIGURES],
    work: Work::Table(run),
};

fn plan(settings: &Value, pipeline: &Pipeline) -> Result<Vec<Node>, PlanError> {
    let settings: Settings = parse_settings(STAGE.name, settings)?;
    if settings.max_pieces == 0 {
        return Err(PlanError::new("stages.attribution.max_pieces", "max_pieces must be at least 1"));
    }
    if settings.target.as_deref() == Some("") {
        let error = PlanError::new("stages.attribution.target", "the target is empty");
        return Err(error.help("leave it out to take each example's own response"));
    }
    let mut nodes = Vec::new();
    for model in pipeline.models(&settings.models, "stages.attribution.models")? {
        for dataset in pipeline.datasets(&settings.datasets, "stages.attribution.datasets")? {
            let examples = vec![("dataset", dataset.name.clone())];
            nodes.push(Node {
                stage: STAGE.name,
                bindings: model_dataset(&model.name, &dataset.name),
                params: json!(Params {
                    by: settings.by,
                    sign: settings.sign,
                    pieces: settings.pieces,
                    max_pieces: settings.max_pieces,
                    template: match settings.pieces {
                        Pieces::Slots => Some(template_with_slots(dataset)?),
                        Pieces::Words | Pieces::Lines => None,
                    },
                    target: settings.target.clone(),
                    limit: settings.limit,
                    tokens: encoding::Params::of(pipeline, model)?,
                }),
                inputs: vec![
                    Input::weights(&model.name),
                    Input::tokenizer(&model.name),
                    Input::node("examples", "examples", examples).columns(&["example", "messages"]),
                ],
                per_part: settings.limit.per_part("examples"),
            });
        }
    }
    Ok(nodes)
}

/// A pass for each piece and one for the whole prompt, at most: a prompt may have fewer pieces.
fn cost(params: &Value, expected: &Expected) -> Option<Cost> {
    let params = Params::deserialize(params).ok()?;
    let [model] = expected.models.as_slice() else { return None };
    let text = expected.text.limited(params.limit);
    let pass = Pass { blocks: model.layers(), predictions: text.predicted(), ..Pass::default() };
    let flops = (params.max_pieces + 1) as f64 * model.pass_flops(text, pass);
    Some(Cost { flops, written: 32.0 * text.examples * params.max_pieces as f64, ..Cost::default() })
}

fn run(task: &Task) -> Result<Vec<Output>> {
    let params: Params = task.params()?;
    let tokenizer = ChatTokenizer::open(task.parts("tokenizer")?, params.tokens.model_type.as_deref())?;
    let chat = params.tokens.template(&tokenizer)?;
    let cut = Cut::new(&params)?;
    let batch = table::read(task.parts("examples")?, &["example", "messages"])?;
    let examples: &StringArray = table::values(&batch, "example")?;
    let conversations: &StringArray = table::values(&batch, "messages")?;

    let (mut cases, mut long, mut whole) = (Vec::new(), 0u64, 0u64);
    for row in 0..params.limit.of(batch.num_rows()) {
        let example = examples.value(row);
        let read = || -> Result<Option<Case>> {
            let mut messages: Vec<Message> = serde_json::from_str(conversations.value(row))
                .context("its messages are no list of role and content")?;
            let answer = messages.last_mut().filter(|last| last.role == "assistant");
            let answer = answer.context("its conversation does not end with the assistant's message")?;
            if let Some(target) = &params.target {
                answer.content.clone_from(target);
            }
            let asked = messages.iter().rposition(|message| message.role == "user");
            let Some((asked, pieces)) = asked.and_then(|asked| Some((asked, cut.apply(&messages[asked].content)?)))
            else {
                return Ok(None);
            };
            Case::new(example, messages, asked, pieces, &tokenizer, &chat).map(Some)
        };
        match read().with_context(|| format!("example {example}"))? {
            Some(case) if case.variants[0].ids.len() > params.tokens.max_tokens => long += 1,
            Some(case) => {
                ensure!(!case.variants[0].response.is_empty(), "example {example}: the target has no tokens");
                cases.push(case);
            }
            None => whole += 1,
        }
    }

    let model = Transformer::open(task.parts("model")?)?;
    let (mut done, total) = (0, cases.iter().map(|case| case.variants.len() as u64).sum());
    let logprobs = target_logprobs(&model, &cases, &mut |passed| {
        if (task.cancelled)() {
            bail!("stopped");
        }
        done += passed as u64;
        (task.progress)(done, total);
        Ok(())
    })?;
    let mut metadata = BTreeMap::new();
    for (what, count) in [("examples_too_long", long), ("examples_without_pieces", whole)] {
        if count > 0 {
            metadata.insert(format!("strata.{what}"), count.to_string());
        }
    }
    let (rows, otherwise) = rows(&cases, &logprobs, params.by);
    if otherwise > 0 {
        metadata.insert("strata.pieces_that_split_the_target_otherwise".into(), otherwise.to_string());
    }
    Ok(vec![Output::Table { batch: to_batch(&rows, params.sign, &tokenizer)?, metadata }])
}

/// How prompts are cut.
struct Cut {
    pieces: Pieces,
    most: usize,
    template: Option<Template>,
}

impl Cut {
    fn new(params: &Params) -> Result<Cut> {
        let parse = |text: &String| Template::parse(text).map_err(|why| anyhow!("the template {text:?} {why}"));
        let template = params.template.as_ref().map(parse).transpose()?;
        Ok(Cut { pieces: params.pieces, most: params.max_pieces, template })
    }

    /// The pieces of a prompt; `None` where it has none.
    fn apply(&self, prompt: &str) -> Option<Vec<Piece>> {
        let pieces = match self.pieces {
            Pieces::Words => pieces::words(prompt, self.most),
            Pieces::Lines => pieces::lines(prompt, self.most),
            Pieces::Slots => pieces::slots(self.template.as_ref()?.find_slots(prompt)?),
        };
        (!pieces.is_empty()).then_some(pieces)
    }
}

/// The dataset's prompt template, if its slots can be found again in a prompt.
fn template_with_slots(dataset: &Dataset) -> Result<String, PlanError> {
    let at = "stages.attribution.pieces";
    let reading = reading(dataset)?;
    let prompt = reading.prompt().map(|text| (text, Template::parse(text)));
    match prompt {
        Some((text, Ok(template))) if !template.slots().is_empty() => match template.has_touching_slots() {
            false => Ok(text.to_string()),
            true => {
                let message =
                    format!("the prompt template of \"{}\" has slots with no text between them", dataset.name);
                Err(PlanError::new(at, message).help("a prompt does not show where the one ends and the other begins"))
            }
        },
        _ => Err(PlanError::new(at, format!("the dataset \"{}\" has no prompt template with slots", dataset.name))
            .help("write its prompt as in prompt = \"{task}\\n\\n{code}\", or take pieces = \"words\" or \"lines\"")),
    }
}

/// A piece left out, and what that does to the target or to one of its tokens.
struct Row<'a> {
    case: &'a Case,
    piece: usize,
    token: Option<usize>,
    whole: f64,
    without: f64,
}

/// The rows, and how many pieces have none because the target's tokens are others without them.
fn rows<'a>(cases: &'a [Case], logprobs: &[Vec<Vec<f64>>], by: By) -> (Vec<Row<'a>>, u64) {
    let (mut rows, mut otherwise) = (Vec::new(), 0);
    for (case, found) in cases.iter().zip(logprobs) {
        for piece in 0..case.pieces.len() {
            let (whole, without) = (&found[0], &found[piece + 1]);
            match by {
                By::Target => {
                    let (whole, without) = (whole.iter().sum(), without.iter().sum());
                    rows.push(Row { case, piece, token: None, whole, without });
                }
                By::Token if case.variants[piece + 1].target() == case.variants[0].target() => {
                    let tokens = whole.iter().zip(without).enumerate();
                    rows.extend(tokens.map(|(token, (&whole, &without))| Row {
                        case,
                        piece,
                        token: Some(token),
                        whole,
                        without,
                    }));
                }
                By::Token => otherwise += 1,
            }
        }
    }
    (rows, otherwise)
}

fn to_batch(rows: &[Row], sign: Sign, tokenizer: &ChatTokenizer) -> Result<arrow::array::RecordBatch> {
    let text =
        |of: &dyn Fn(&Row) -> String| -> ArrayRef { Arc::new(StringArray::from_iter_values(rows.iter().map(of))) };
    let number = |of: &dyn Fn(&Row) -> f64| -> ArrayRef {
        Arc::new(Float32Array::from_iter_values(rows.iter().map(|row| of(row) as f32)))
    };
    let piece_of = |row: &Row| Some(tokenizer.piece(row.case.variants[0].target()[row.token?]));
    TABLE.batch(vec![
        text(&|row| row.case.example.clone()),
        Arc::new(UInt32Array::from_iter_values(rows.iter().map(|row| row.piece as u32))),
        text(&|row| row.case.prompt[row.case.pieces[row.piece].text.clone()].to_string()),
        text(&|row| row.case.target.clone()),
        number(&|row| sign.of(row.without, row.whole)),
        number(&|row| row.whole),
        Arc::new(UInt32Array::from_iter_values(rows.iter().map(|row| row.case.variants[0].target().len() as u32))),
        Arc::new(UInt32Array::from_iter(rows.iter().map(|row| row.token.map(|token| token as u32)))),
        Arc::new(StringArray::from_iter(rows.iter().map(piece_of))),
        text(&|_| sign.name().to_string()),
    ])
}
