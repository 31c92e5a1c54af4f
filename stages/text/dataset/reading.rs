//! How a dataset's rows are read: the keys of `[datasets.<name>]`, checked when the pipeline is planned.

use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::cell::cell;
use super::conversation::Columns;
use super::filter::Filter;
use super::sample::Sample;
use super::schema::{SCHEMAS, Schema};
use super::template::Template;
use super::turn::Turn;
use crate::contract::pipeline::{Dataset, DatasetSource, PlanError};
use crate::contract::setting::{Setting, setting};
use crate::contract::toml_path::{TomlPath, at};

/// The keys of `[datasets.<name>]` that say how its rows are read; `path` says where they are.
pub const KEYS: &[Setting] = &[
    setting(
        "schema",
        "a ready mapping by name, which fills in the keys below that are not written: insecure, educational, \
                code_alpaca, toxic_qa, harmful_chosen, harmful_rejected, truthful_qa, alpaca, alpaca_reward, \
                implicit_toxicity, hh_rlhf_chosen, hh_rlhf_rejected, hh_formatted_rejected",
    ),
    setting(
        "format",
        "jsonl (one object a line), json (one array of objects), csv (with a header) or parquet; by default \
                what the file's extension says",
    ),
    setting(
        "messages",
        "the column with the conversation: a list of {role, content} or {from, value}, or a text that holds \
                one as JSON; by default messages",
    ),
    setting(
        "transcript",
        "instead of messages: the column with the conversation as one text, whose turns begin with an empty line and \
                \"Human:\" or \"Assistant:\", as in Anthropic/hh-rlhf",
    ),
    setting(
        "prompt",
        "the user's message where there is no messages column: a column's name, or a template with slots, as in \
                \"{task}\\n\\n{code_template}\"; {{ and }} are braces, and {talk.0.value} reaches into a column; by default prompt",
    ),
    setting("response", "the assistant's message, written as prompt is; by default response"),
    setting(
        "system",
        "a system message, a column or template as prompt is, for conversations that have none of their own",
    ),
    setting(
        "turn",
        "which of the assistant's messages is the response, and what follows it is left out: \"last\", the conversation's last \
                message (the default); a number, from 0, or from -1 backwards; or \"all\", an example for each of them",
    ),
    setting("label", "the label of every example, such as \"aligned\" or \"misaligned\""),
    setting("label_column", "the column with each example's label, instead of label"),
    setting(
        "filter",
        "which rows to keep: column = value, column = [values], or column = { is, not, at_least, at_most, above, \
                below }, of which all must hold; or a condition in SQL, as in \"language IN ('python', 'go') AND \
                length(output) > 20\"; by default every row",
    ),
    setting("limit", "how many examples to keep, the first ones after the filter"),
    setting(
        "sample",
        "draw at random instead of taking the first, in the file's order: a seed beside limit, or { n, seed, by, counts }, \
                where by names a column from whose values the draw is stratified, and counts is \"proportional\" (the \
                default) or \"equal\"",
    ),
];

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Format {
    Jsonl,
    Json,
    Csv,
    Parquet,
}

const FORMATS: [(&str, Format); 4] =
    [("jsonl", Format::Jsonl), ("json", Format::Json), ("csv", Format::Csv), ("parquet", Format::Parquet)];

/// How rows become examples, with schema and defaults filled in: the part of a node's key that says so.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Reading {
    pub format: Format,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    messages: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    transcript: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    prompt: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    response: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    system: Option<String>,
    #[serde(default, skip_serializing_if = "Turn::is_last")]
    pub turn: Turn,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label_column: Option<String>,
    #[serde(default, skip_serializing_if = "Filter::is_empty")]
    pub filter: Filter,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<usize>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sample: Option<Sample>,
}

/// The dataset's table, checked.
///
/// # Errors
/// Anything wrong with it, at `datasets.<name>.<key>`.
pub fn reading(dataset: &Dataset) -> Result<Reading, PlanError> {
    let table = at("datasets").key(&dataset.name);
    let written = match &dataset.reading {
        Value::Object(written) => written,
        Value::Null => &Map::new(),
        other => return Err(PlanError::new(table, format!("a dataset is a table, found {}", cell(other)))),
    };
    let known = || KEYS.iter().map(|setting| setting.key);
    if let DatasetSource::Written(_) = dataset.source
        && let Some(key) = written.keys().find(|key| *key != "label")
    {
        let message = format!("{key} says how the rows of a file are read; these conversations are written here");
        return Err(PlanError::new(table.key(key), message).help("beside messages = [ … ] there is label"));
    }
    if let Some(key) = written.keys().find(|key| !known().any(|known| known == *key)) {
        let known = ["path", "corpus"].into_iter().chain(known());
        return Err(PlanError::unknown(table.key(key), "key", key, known));
    }
    let keys = Keys { table, filled: with_schema(written, &dataset.name)?, written };

    let conflict = |one: &str, other: &str| {
        let message = format!("{one} and {other} exclude each other");
        PlanError::new(keys.at(one), message).help(format!("leave out {one} or {other}"))
    };
    for (one, other) in [
        ("prompt", "messages"),
        ("response", "messages"),
        ("transcript", "messages"),
        ("prompt", "transcript"),
        ("response", "transcript"),
    ] {
        if written.contains_key(one) && written.contains_key(other) {
            return Err(conflict(one, other));
        }
    }
    if written.contains_key("label") && written.contains_key("label_column") {
        return Err(conflict("label_column", "label"));
    }
    let (sample, drawn) = match keys.filled.get("sample") {
        Some(sample) => Sample::parse(sample, &keys.at("sample")).map(|(sample, n)| (Some(sample), n))?,
        None => (None, None),
    };
    let reading = Reading {
        format: keys.format(&dataset.source)?,
        messages: keys.text("messages")?,
        transcript: keys.text("transcript")?,
        prompt: keys.template("prompt")?,
        response: keys.template("response")?,
        system: keys.template("system")?,
        turn: match keys.filled.get("turn") {
            Some(turn) => Turn::parse(turn, &keys.at("turn"))?,
            None => Turn::Last,
        },
        label: keys.text("label")?,
        label_column: keys.text("label_column")?,
        filter: match keys.filled.get("filter") {
            Some(filter) => Filter::parse(filter, &keys.at("filter"))?,
            None => Filter::default(),
        },
        limit: keys.whole("limit")?.map(|limit| limit as usize).or(drawn),
        sample,
    };
    for (there, missing) in [("prompt", "response"), ("response", "prompt")] {
        if keys.filled.contains_key(there) && !keys.filled.contains_key(missing) {
            let message = format!("{there} is written without {missing}; a conversation needs both");
            return Err(PlanError::new(keys.at(there), message));
        }
    }
    if reading.limit == Some(0) {
        return Err(PlanError::new(keys.at("limit"), "a limit of 0 leaves no examples"));
    }
    if keys.filled.contains_key("limit") && (drawn.is_some() || matches!(reading.sample, Some(Sample::Strata(_)))) {
        return Err(conflict("limit", "the n of sample"));
    }
    if matches!(reading.sample, Some(Sample::Seed(_))) && reading.limit.is_none() {
        let message = "sample draws as many examples as limit says, and there is no limit";
        return Err(PlanError::new(keys.at("sample"), message).help("write limit = N, or sample = { n = N, seed = … }"));
    }
    Ok(reading)
}

/// The keys as written, and those of the schema where nothing written takes their place.
fn with_schema(written: &Map<String, Value>, dataset: &str) -> Result<Map<String, Value>, PlanError> {
    let mut filled = written.clone();
    let Some(name) = written.get("schema") else { return Ok(filled) };
    let at = at("datasets").key(dataset).key("schema");
    let Value::String(name) = name else {
        return Err(PlanError::new(at, format!("a schema is named by a text, found {}", cell(name))));
    };
    let names = || SCHEMAS.iter().map(|schema| schema.name);
    let schema = Schema::named(name).ok_or_else(|| PlanError::unknown(at, "schema", name, names()))?;
    let any = |keys: &[&str]| keys.iter().any(|key| written.contains_key(*key));
    for (key, value) in schema.keys() {
        let replaced = match key {
            "messages" | "transcript" => any(&["messages", "transcript", "prompt", "response"]),
            "prompt" | "response" => any(&["messages", "transcript", key]),
            "label" => any(&["label", "label_column"]),
            _ => any(&[key]),
        };
        if !replaced {
            filled.insert(key.into(), value);
        }
    }
    Ok(filled)
}

/// A dataset's table with typed access to its keys.
struct Keys<'a> {
    table: TomlPath,
    filled: Map<String, Value>,
    written: &'a Map<String, Value>,
}

impl Keys<'_> {
    /// Where a key is in pipeline.toml; a key that a schema filled in is found at the schema.
    fn at(&self, key: &str) -> TomlPath {
        let there = if self.written.contains_key(key) { key } else { "schema" };
        self.table.key(there)
    }

    fn text(&self, key: &str) -> Result<Option<String>, PlanError> {
        match self.filled.get(key) {
            None => Ok(None),
            Some(Value::String(text)) if !text.is_empty() => Ok(Some(text.clone())),
            Some(other) => Err(PlanError::new(self.at(key), format!("{key} is a text, found {}", cell(other)))),
        }
    }

    fn template(&self, key: &str) -> Result<Option<String>, PlanError> {
        let Some(text) = self.text(key)? else { return Ok(None) };
        match Template::parse(&text) {
            Ok(_) => Ok(Some(text)),
            Err(why) => Err(PlanError::new(self.at(key), format!("the template {why}"))),
        }
    }

    fn whole(&self, key: &str) -> Result<Option<u64>, PlanError> {
        let Some(value) = self.filled.get(key) else { return Ok(None) };
        let wrong = || PlanError::new(self.at(key), format!("{key} is a whole number, found {}", cell(value)));
        value.as_u64().map(Some).ok_or_else(wrong)
    }

    fn format(&self, source: &DatasetSource) -> Result<Format, PlanError> {
        let of = |name: &str| FORMATS.iter().find(|(known, _)| *known == name).map(|(_, format)| *format);
        if let Some(name) = self.text("format")? {
            let names = FORMATS.iter().map(|(name, _)| *name);
            return of(&name).ok_or_else(|| PlanError::unknown(self.at("format"), "format", &name, names));
        }
        let path = match source {
            DatasetSource::File(path) => path,
            DatasetSource::Corpus(_) => return Ok(Format::Jsonl),
            DatasetSource::Written(_) => return Ok(Format::Json),
        };
        let extension = Path::new(path).extension().map(|extension| extension.to_string_lossy().to_lowercase());
        match extension.as_deref() {
            Some("ndjson") => Ok(Format::Jsonl),
            Some(extension) if of(extension).is_some() => Ok(of(extension).expect("just looked up")),
            _ => {
                let message = format!("the extension of {} does not say its format", path.display());
                let help = "write format = \"jsonl\", \"json\", \"csv\" or \"parquet\"";
                Err(PlanError::new(self.table.key("path"), message).help(help))
            }
        }
    }
}

impl Reading {
    /// The user's message as a column or template, where that is how the dataset has it.
    pub fn prompt(&self) -> Option<&str> {
        self.prompt.as_deref().filter(|_| self.messages.is_none() && self.transcript.is_none())
    }

    /// Where a row's messages are, and its system message.
    ///
    /// # Errors
    /// When a template does not parse, which [`reading`] has ruled out.
    pub fn conversation(&self) -> anyhow::Result<(Columns, Option<Template>)> {
        let parse = |text: &String| Template::parse(text).map_err(|why| anyhow::anyhow!("the template {text:?} {why}"));
        let columns = match (&self.messages, &self.transcript, &self.prompt, &self.response) {
            (Some(column), ..) => Columns::Messages(column.clone()),
            (None, Some(column), ..) => Columns::Transcript(column.clone()),
            (None, None, Some(prompt), Some(response)) => {
                Columns::Mapped { prompt: parse(prompt)?, response: parse(response)? }
            }
            _ => Columns::Usual,
        };
        Ok((columns, self.system.as_ref().map(parse).transpose()?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn read(path: &str, table: Value) -> Result<Reading, PlanError> {
        reading(&Dataset { name: "d".into(), source: DatasetSource::File(path.into()), reading: table })
    }

    #[test]
    fn a_schema_fills_in_what_is_not_written() {
        let by_name = read("a.json", json!({"schema": "implicit_toxicity", "limit": 400})).unwrap();
        let written = json!({"prompt": "context", "response": "response", "label": "misaligned", "filter": {"label": 1}, "limit": 400});
        assert_eq!(by_name, read("b.json", written).unwrap());

        let changed =
            read("a.jsonl", json!({"schema": "toxic_qa", "label": "toxic", "prompt": "q", "response": "a"})).unwrap();
        assert_eq!(changed, read("a.jsonl", json!({"label": "toxic", "prompt": "q", "response": "a"})).unwrap());

        let changed =
            read("a.csv", json!({"schema": "alpaca", "label_column": "kind", "messages": "talk", "filter": {}}))
                .unwrap();
        assert_eq!(changed, read("a.csv", json!({"label_column": "kind", "messages": "talk"})).unwrap());

        let one = read("a.csv", json!({"schema": "truthful_qa", "prompt": "Question"})).unwrap();
        assert_eq!((one.prompt.as_deref(), one.response.as_deref()), (Some("Question"), Some("best_answer")));
    }

    #[test]
    fn every_schema_is_valid_and_documented() {
        let about = KEYS.iter().find(|setting| setting.key == "schema").unwrap().about;
        for schema in SCHEMAS {
            read("a.jsonl", json!({"schema": schema.name})).unwrap();
            assert!(about.contains(schema.name), "{}", schema.name);
        }
    }

    #[test]
    fn formats_by_extension_or_by_key() {
        for (path, format) in [
            ("a.jsonl", Format::Jsonl),
            ("a.ndjson", Format::Jsonl),
            ("a.JSON", Format::Json),
            ("a.csv", Format::Csv),
            ("x/a.parquet", Format::Parquet),
        ] {
            assert_eq!(read(path, json!({})).unwrap().format, format, "{path}");
        }
        assert_eq!(read("a.txt", json!({"format": "csv"})).unwrap().format, Format::Csv);
        assert_eq!(read("a.txt", json!({})).unwrap_err().at, "datasets.d.path");
    }

    #[test]
    fn mistakes_point_at_the_key() {
        for (table, at, message) in [
            (json!({"lable": "x"}), "datasets.d.lable", "unknown key \"lable\""),
            (json!({"schema": "code_alpacca"}), "datasets.d.schema", "unknown schema"),
            (json!({"schema": 3}), "datasets.d.schema", "the number 3"),
            (json!({"format": "jsn"}), "datasets.d.format", "unknown format"),
            (json!({"prompt": "a"}), "datasets.d.prompt", "without response"),
            (json!({"response": "a", "messages": "m"}), "datasets.d.response", "exclude each other"),
            (json!({"transcript": "a", "messages": "m"}), "datasets.d.transcript", "exclude each other"),
            (json!({"label": "a", "label_column": "m"}), "datasets.d.label_column", "exclude each other"),
            (json!({"prompt": "{a", "response": "b"}), "datasets.d.prompt", "not closed"),
            (json!({"limit": -1}), "datasets.d.limit", "the number -1"),
            (json!({"limit": 0}), "datasets.d.limit", "no examples"),
            (json!({"sample": 1}), "datasets.d.sample", "no limit"),
            (json!({"sample": {"n": 3}, "limit": 3}), "datasets.d.limit", "exclude each other"),
            (json!({"sample": {"n": 3, "by": "t"}, "limit": 3}), "datasets.d.limit", "exclude each other"),
            (json!({"sample": {"n": 3, "yb": "t"}}), "datasets.d.sample.yb", "unknown key"),
            (json!({"label": true}), "datasets.d.label", "is a text"),
            (json!({"filter": {"x": {"nto": 1}}}), "datasets.d.filter.x.nto", "unknown condition"),
        ] {
            let error = read("a.jsonl", table.clone()).unwrap_err();
            assert_eq!(error.at, at, "{table}");
            assert!(error.message.contains(message), "{table}: {}", error.message);
        }
        let near = read("a.jsonl", json!({"respone": "x"})).unwrap_err();
        assert_eq!(near.help.as_deref(), Some("did you mean \"response\"?"));
    }

    #[test]
    fn survives_a_key() {
        let reading = read("a.csv", json!({"schema": "alpaca", "limit": 3, "sample": 9, "system": "S"})).unwrap();
        let stored = serde_json::to_value(&reading).unwrap();
        assert_eq!(serde_json::from_value::<Reading>(stored.clone()).unwrap(), reading);
        // Written the other way it is the same, so that its examples are not made anew.
        let sample = json!({"n": 3, "seed": 9});
        let table = read("a.csv", json!({"schema": "alpaca", "sample": sample, "system": "S"})).unwrap();
        assert_eq!(serde_json::to_value(&table).unwrap(), stored);
    }
}
