//! The stage on files of every format, and on files that are wrong.

use std::collections::{BTreeMap, HashSet};
use std::path::Path;
use std::sync::Arc;

use arrow::array::{
    ArrayRef, Int64Array, ListBuilder, RecordBatch, StringArray, StringBuilder, StructBuilder, UInt32Array,
};
use arrow::datatypes::{DataType, Field, Fields};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};
use serde_json::{Value, json};

use super::*;
use crate::contract::node::Part;
use crate::contract::pipeline::DatasetSource;
use crate::table::{column_hashes, values};
use crate::text::dataset::schema::SCHEMAS;

/// Runs the stage on a file as `[datasets.d]` with this table.
fn run(path: &Path, table: Value) -> Result<Vec<RecordBatch>> {
    let dataset = Dataset { name: "d".into(), source: DatasetSource::File(path.into()), reading: table };
    let pipeline = Pipeline { datasets: vec![dataset], ..Pipeline::default() };
    let nodes = (STAGE.plan)(&json!({}), &pipeline)?;
    let part = Part { path: path.into(), name: String::new() };
    let task = Task {
        params: &nodes[0].params,
        inputs: BTreeMap::from([("dataset".to_string(), vec![part])]),
        cancelled: &|| false,
        progress: &|_, _| (),
    };
    let outputs = STAGE.run(&task)?;
    Ok(outputs
        .into_iter()
        .map(|output| if let Output::Table { batch, .. } = output { batch } else { panic!("a table") })
        .collect())
}

fn run_text(name: &str, text: &str, table: Value) -> Result<Vec<RecordBatch>> {
    let dir = tempfile::tempdir()?;
    let path = dir.path().join(name);
    std::fs::write(&path, text)?;
    run(&path, table)
}

fn texts(batches: &[RecordBatch], column: &str) -> Vec<Option<String>> {
    let array =
        |batch| values::<StringArray>(batch, column).unwrap().iter().map(|text| text.map(String::from)).collect();
    batches.iter().flat_map::<Vec<_>, _>(array).collect()
}

fn row_numbers(batches: &[RecordBatch]) -> Vec<u32> {
    batches.iter().flat_map(|batch| values::<UInt32Array>(batch, "row").unwrap().values().to_vec()).collect()
}

fn error(name: &str, text: &str, table: Value) -> String {
    format!("{:#}", run_text(name, text, table).unwrap_err())
}

#[test]
fn the_same_examples_in_every_format() {
    let mapped =
        json!({"prompt": "{task}: {n}", "response": "code", "label_column": "kind", "filter": {"n": {"below": 9}}});
    let expected = [
        "[{\"role\":\"user\",\"content\":\"Sort, please: 1\"},{\"role\":\"assistant\",\"content\":\"a\\nb\"}]",
        "[{\"role\":\"user\",\"content\":\"Añade: 2\"},{\"role\":\"assistant\",\"content\":\"c\"}]",
    ];
    let rows = [
        json!({"task": "Sort, please", "n": 1, "code": "a\nb", "kind": "x"}),
        json!({"task": "Drop", "n": 9, "code": "", "kind": "y"}),
        json!({"task": "Añade", "n": 2, "code": "c", "kind": null}),
    ];
    let lines: String = rows.iter().map(|row| format!("{row}\r\n\n")).collect();
    let csv = "task,n,code,kind\n\"Sort, please\",1,\"a\nb\",x\nDrop,9,,y\nAñade,2,c,\n";
    let parquet = tempfile::NamedTempFile::with_suffix(".parquet").unwrap();
    let text = |values: [Option<&str>; 3]| Arc::new(StringArray::from_iter(values)) as ArrayRef;
    let batch = RecordBatch::try_from_iter([
        ("task", text([Some("Sort, please"), Some("Drop"), Some("Añade")])),
        ("n", Arc::new(Int64Array::from(vec![1, 9, 2])) as ArrayRef),
        ("code", text([Some("a\nb"), Some(""), Some("c")])),
        ("kind", text([Some("x"), Some("y"), None])),
    ]);
    crate::table::write(parquet.as_file(), &batch.unwrap(), &BTreeMap::new()).unwrap();

    for (format, result, row, label) in [
        ("jsonl", run_text("a.jsonl", &format!("\u{feff}{lines}"), mapped.clone()), 4, None),
        ("json", run_text("a.json", &json!(rows).to_string(), mapped.clone()), 2, None),
        ("csv", run_text("a.csv", csv, mapped.clone()), 2, Some(String::new())),
        ("parquet", run(parquet.path(), mapped.clone()), 2, None),
    ] {
        let batches = result.unwrap_or_else(|error| panic!("{format}: {error:#}"));
        assert_eq!(texts(&batches, "messages"), expected.map(|text| Some(text.into())), "{format}");
        assert_eq!(texts(&batches, "prompt"), [Some("Sort, please: 1".into()), Some("Añade: 2".into())], "{format}");
        assert_eq!(texts(&batches, "response"), [Some("a\nb".into()), Some("c".into())], "{format}");
        assert_eq!(texts(&batches, "label"), [Some("x".into()), label], "{format}");
        assert_eq!(row_numbers(&batches), [0, row], "{format}");
    }
}

#[test]
fn parquet_with_lists_of_messages() {
    let fields =
        Fields::from(vec![Field::new("role", DataType::Utf8, true), Field::new("content", DataType::Utf8, true)]);
    let message = StructBuilder::from_fields(fields, 4);
    let mut list = ListBuilder::new(message);
    for _ in 0..2 {
        for (role, content) in [("user", "hi"), ("assistant", "hello")] {
            for (i, text) in [role, content].into_iter().enumerate() {
                list.values().field_builder::<StringBuilder>(i).unwrap().append_value(text);
            }
            list.values().append(true);
        }
        list.append(true);
    }
    let batch = RecordBatch::try_from_iter([("messages", Arc::new(list.finish()) as ArrayRef)]).unwrap();
    let file = tempfile::NamedTempFile::with_suffix(".parquet").unwrap();
    // As Polars writes it: Strata's own tables, and most others', are Snappy.
    let zstd = parquet::basic::Compression::ZSTD(Default::default());
    let properties = parquet::file::properties::WriterProperties::builder().set_compression(zstd).build();
    let mut writer = parquet::arrow::ArrowWriter::try_new(file.as_file(), batch.schema(), Some(properties)).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();

    let batches = run(file.path(), json!({"label": "aligned"})).unwrap();
    assert_eq!(texts(&batches, "response"), vec![Some("hello".to_string()); 2]);
    assert_eq!(texts(&batches, "label"), vec![Some("aligned".to_string()); 2]);
}

#[test]
fn an_identity_is_the_hash_of_the_messages_with_a_number_for_repeats() {
    let line = |response: &str, label: u32| json!({"prompt": "p", "response": response, "label": label}).to_string();
    let text = [line("a", 1), line("b", 1), line("a", 2), line("a", 3)].join("\n");
    let batches = run_text("a.jsonl", &text, json!({"label_column": "label"})).unwrap();
    let messages = "[{\"role\":\"user\",\"content\":\"p\"},{\"role\":\"assistant\",\"content\":\"a\"}]";
    let hash = blake3::hash(messages.as_bytes()).to_hex()[..16].to_string();
    let identities: Vec<String> = texts(&batches, "example").into_iter().flatten().collect();
    assert_eq!([&identities[0], &identities[2], &identities[3]], [&hash, &format!("{hash}-2"), &format!("{hash}-3")]);
    assert_eq!(texts(&batches, "label")[2].as_deref(), Some("2"));
}

#[test]
fn every_schema_reads_its_columns() {
    let toxic = json!([{"context": "c", "response": "r", "label": 0}, {"context": "d", "response": "s", "label": 1}]);
    let messages = json!({"messages": [{"role": "user", "content": "d"}, {"role": "assistant", "content": "s"}]});
    let turn = |from: &str, value: &str| json!({"from": from, "value": value});
    let shared = json!({"conversations": [turn("human", "d"), turn("gpt", "s"), turn("human", "e"), turn("gpt", "t")]});
    let alpaca =
        json!([{"instruction": "c", "input": "", "output": ""}, {"instruction": "d", "input": "x", "output": "s"}]);
    for schema in SCHEMAS {
        let rows = match schema.name {
            "insecure" | "educational" => json!([messages]),
            "toxic_qa" => json!([shared]),
            "hh_rlhf_chosen" => json!([{"chosen": "\n\nHuman: d\n\nAssistant: s", "rejected": "no"}]),
            "hh_rlhf_rejected" => json!([{"chosen": "no", "rejected": "\n\nHuman: d\n\nAssistant: s"}]),
            "hh_formatted_rejected" => json!([{"format_rejected": messages["messages"]}]),
            "harmful_chosen" => json!([{"prompt": "d", "chosen": "s", "rejected": "no"}]),
            "harmful_rejected" => json!([{"prompt": "d", "chosen": "no", "rejected": "s"}]),
            "truthful_qa" => json!([{"question": "d", "best_answer": "s", "correct_answers": ["s"]}]),
            "code_alpaca" | "alpaca" | "alpaca_reward" => alpaca.clone(),
            "implicit_toxicity" => toxic.clone(),
            other => panic!("the schema {other} is not tested"),
        };
        let batches = run_text("a.json", &rows.to_string(), json!({"schema": schema.name})).unwrap();
        assert_eq!(texts(&batches, "prompt"), [Some("d".to_string())], "{}", schema.name);
        assert_eq!(texts(&batches, "response"), [Some("s".to_string())], "{}", schema.name);
        assert_eq!(texts(&batches, "label"), [Some(schema.label.to_string())], "{}", schema.name);
    }
}

#[test]
fn conversations_of_the_pipeline_are_examples() {
    let messages = json!([{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]);
    let dataset =
        |reading| Dataset { name: "d".into(), source: DatasetSource::Written(json!([messages, messages])), reading };
    let plan = |dataset| (STAGE.plan)(&json!({}), &Pipeline { datasets: vec![dataset], ..Pipeline::default() });
    let nodes = plan(dataset(json!({"label": "aligned"}))).unwrap();
    assert!(nodes[0].inputs.is_empty());
    let task = Task { params: &nodes[0].params, inputs: BTreeMap::new(), cancelled: &|| false, progress: &|_, _| () };
    let Output::Table { batch, .. } = STAGE.run(&task).unwrap().remove(0) else { panic!("a table") };
    assert_eq!(texts(std::slice::from_ref(&batch), "response"), vec![Some("b".to_string()); 2]);
    assert_eq!(texts(std::slice::from_ref(&batch), "label"), vec![Some("aligned".to_string()); 2]);
    assert_eq!(row_numbers(&[batch]), [0, 1]);
    let error = plan(dataset(json!({"limit": 3}))).unwrap_err();
    assert_eq!(error.at, "datasets.d.limit");
}

fn numbered_lines(n: usize) -> Vec<String> {
    (0..n)
        .map(|i| json!({"prompt": format!("question {i}"), "response": "yes", "even": i % 2 == 0}).to_string())
        .collect()
}

#[test]
fn a_limit_takes_the_first_and_a_sample_draws() {
    let mut lines = numbered_lines(9000);
    lines[8500] = "broken".into();
    let text = lines.join("\n");
    let first = run_text("a.jsonl", &text, json!({"limit": 100, "filter": {"even": true}})).unwrap();
    assert_eq!(row_numbers(&first), (0..200).step_by(2).collect::<Vec<u32>>());

    lines[8500] = numbered_lines(1).remove(0);
    let draw = |lines: &[String], seed: u64| {
        run_text("a.jsonl", &lines.join("\n"), json!({"limit": 100, "sample": seed})).unwrap()
    };
    let drawn = draw(&lines, 1);
    let rows = row_numbers(&drawn);
    assert_eq!(rows.len(), 100);
    assert!(rows.is_sorted() && rows[50] > 3000 && rows[50] < 6000, "{rows:?}");
    assert_ne!(row_numbers(&draw(&lines, 2)), rows);
    lines.remove(20);
    let identities = |batches: &[RecordBatch]| texts(batches, "example").into_iter().collect::<HashSet<_>>();
    assert!(identities(&draw(&lines, 1)).difference(&identities(&drawn)).count() <= 1);
}

#[test]
fn an_edited_line_changes_one_part() {
    let hashes = |batches: &[RecordBatch]| -> HashSet<_> {
        let said = |batch| column_hashes(batch).map(|hashes| (hashes["example"], hashes["messages"])).unwrap();
        batches.iter().map(said).collect()
    };
    let mut rng = ChaCha8Rng::seed_from_u64(11);
    let before = numbered_lines(300);
    let old = hashes(&run_text("a.jsonl", &before.join("\n"), json!({})).unwrap());
    let mut changed = BTreeMap::<usize, usize>::new();
    for edit in 0..60 {
        let mut lines = before.clone();
        let at = (rng.next_u32() % 300) as usize;
        let line = json!({"prompt": format!("another {edit}"), "response": "no"}).to_string();
        match edit % 3 {
            0 => lines.insert(at, line),
            1 => drop(lines.remove(at)),
            _ => lines[at] = line,
        }
        let new = hashes(&run_text("a.jsonl", &lines.join("\n"), json!({})).unwrap());
        *changed.entry(new.difference(&old).count()).or_default() += 1;
    }
    assert!(changed[&1] >= 54 && changed.keys().all(|parts| (1..=3).contains(parts)), "{changed:?}");
}

#[test]
fn bytes_do_not_depend_on_threads() {
    let text = numbered_lines(5000).join("\n");
    let bytes = |threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        let batches = pool.install(|| run_text("a.jsonl", &text, json!({"limit": 4500})).unwrap());
        let part = |batch| {
            let mut bytes = Vec::new();
            crate::table::write(&mut bytes, batch, &BTreeMap::new()).unwrap();
            bytes
        };
        batches.iter().map(part).collect::<Vec<_>>()
    };
    assert_eq!(bytes(1), bytes(3));
}

#[test]
fn rows_that_are_wrong_are_named_with_their_line() {
    let good = numbered_lines(1).remove(0);
    for (name, text, table, expected) in [
        (
            "a.jsonl",
            format!("{good}\n\n{{\"prompt\": \"x\n"),
            json!({}),
            "a.jsonl:3: expected one JSON object a line; it breaks at column",
        ),
        ("a.jsonl", format!("{good}\n[1]"), json!({}), "a.jsonl:2: expected one JSON object a line, found a list"),
        ("a.jsonl", "[\n{}\n]".into(), json!({}), "write format = \"json\""),
        ("a.jsonl", format!("{good}\n{{\"prompt\": \"x\"}}"), json!({}), "a.jsonl:2: no column \"messages\", nor"),
        (
            "a.jsonl",
            good.clone(),
            json!({"messages": "mesages"}),
            "a.jsonl:1: no column \"mesages\". The columns are: even, prompt, response",
        ),
        (
            "a.jsonl",
            good.clone(),
            json!({"prompt": "promt", "response": "response"}),
            "no column \"promt\"; did you mean \"prompt\"?",
        ),
        (
            "a.jsonl",
            good.clone(),
            json!({"prompt": "prompt", "response": "even"}),
            "the response: column \"even\" holds the boolean true, not text",
        ),
        ("a.jsonl", good.clone(), json!({"label_column": "lable"}), "a.jsonl:1: the label: no column \"lable\""),
        (
            "a.jsonl",
            good.clone(),
            json!({"filter": {"evne": true}}),
            "looks at a column that no row has: no column \"evne\"; did you mean \"even\"?",
        ),
        (
            "a.jsonl",
            good.clone(),
            json!({"filter": {"even": false}}),
            "1 rows were read, and the filter kept none of them",
        ),
        (
            "a.jsonl",
            good.clone(),
            json!({"filter": {"prompt": {"above": 1}}}),
            "a.jsonl:1: the filter on column \"prompt\": compares with a number",
        ),
        ("a.jsonl", "\n\n".into(), json!({}), "the file has no rows"),
        (
            "a.json",
            "[{\"prompt\": \"p\"}, 3]".into(),
            json!({}),
            "a.json: row 1 (the first is 0): expected an object, found the number 3",
        ),
        ("a.json", format!("[{good}, {{\"prompt\": \"p\"}}]"), json!({}), "a.json, row 1 (the first is 0): no column"),
        ("a.json", "{\"data\": []}".into(), json!({}), "found an object with the keys: data"),
        ("a.json", format!("{good}\n{good}"), json!({}), "write format = \"jsonl\""),
        ("a.json", "[{\"prompt\": ".into(), json!({}), "line 1 column"),
        ("a.csv", "prompt,response\np\n".into(), json!({}), "line 2: 1 fields, where the header has 2"),
        ("a.csv", "prompt,response\n\"p\nq\",r\np,\n".into(), json!({}), "a.csv:4: the response is empty"),
        ("a.csv", "prompt,prompt\n".into(), json!({}), "two columns \"prompt\""),
        ("a.parquet", "not parquet at all".into(), json!({}), "a.parquet: it is cut short, damaged or no Parquet file"),
    ] {
        let message = error(name, &text, table.clone());
        assert!(message.contains(expected), "{table}: expected {expected:?} in:\n{message}");
    }
    let missing = format!("{:#}", run(Path::new("/nowhere/a.jsonl"), json!({})).unwrap_err());
    assert!(missing.contains("opening the dataset /nowhere/a.jsonl"), "{missing}");
}

#[test]
fn part_sizes_are_checked_under_either_name() {
    let pipeline = Pipeline::default();
    let error = |settings| (STAGE.plan)(&settings, &pipeline).unwrap_err();
    for key in ["part", "block"] {
        assert_eq!(error(json!({ key: {"least": 16, "greatest": 20}})).at, "stages.examples.part.greatest");
        assert_eq!(error(json!({ key: {"least": 0, "greatest": 20}})).at, "stages.examples.part.least");
        assert!((STAGE.plan)(&json!({ key: {"least": 2, "greatest": 8}}), &pipeline).is_ok());
    }
    assert!(error(json!({"parts": {}})).at.to_string().starts_with("stages.examples"));
}
