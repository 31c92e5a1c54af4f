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

/// Rows of every format in which a row is not found by its number alone: over several lines, after a mark, with quotes.
fn rows_in_every_format(n: usize) -> Vec<(&'static str, String)> {
    let texts = ["a\nb", "she said \"no\", and left", "]},{[", "ends with a \\", "naïve 日本語"];
    let row = |i: usize| json!({"prompt": format!("{i} {}", texts[i % 5]), "response": "yes", "kind": i % 3, "deep": [[{"x": "}"}]]});
    let rows: Vec<Value> = (0..n).map(row).collect();
    let lines: Vec<String> = rows.iter().map(Value::to_string).collect();
    let quoted = |text: &Value| format!("\"{}\"", text.as_str().unwrap_or_default().replace('"', "\"\""));
    let csv: Vec<String> = rows
        .iter()
        .map(|row| format!("{},{},{}", quoted(&row["prompt"]), quoted(&row["response"]), row["kind"]))
        .collect();
    vec![
        ("a.jsonl", format!("\u{feff}\n{}", lines.join("\r\n\n"))),
        ("a.json", format!("\u{feff}\n{}\n", serde_json::to_string_pretty(&rows).expect("JSON"))),
        ("b.json", serde_json::to_string(&rows).expect("JSON")),
        ("a.csv", format!("prompt,response,kind\n{}\n", csv.join("\n"))),
    ]
}

#[test]
fn what_is_drawn_is_found_again_in_every_format() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut files: Vec<_> = rows_in_every_format(700)
        .into_iter()
        .map(|(name, text)| {
            std::fs::write(folder.path().join(name), text).expect("written");
            folder.path().join(name)
        })
        .collect();
    // The same as Parquet, of several row groups.
    let all = run(&files[0], json!({"label_column": "kind"})).expect("read");
    let column = |name: &str| Arc::new(StringArray::from(texts(&all, name))) as ArrayRef;
    let columns = [("prompt", column("prompt")), ("response", column("response")), ("kind", column("label"))];
    let batch = RecordBatch::try_from_iter(columns).expect("a batch");
    files.push(folder.path().join("a.parquet"));
    let properties =
        parquet::file::properties::WriterProperties::builder().set_max_row_group_row_count(Some(100)).build();
    let file = std::fs::File::create(&files[4]).expect("a file");
    let mut writer = parquet::arrow::ArrowWriter::try_new(file, batch.schema(), Some(properties)).expect("a writer");
    writer.write(&batch).expect("written");
    writer.close().expect("closed");

    for sample in [json!({"n": 90, "seed": 3}), json!({"n": 90, "seed": 3, "by": "kind"})] {
        let mut draws = Vec::new();
        for path in &files {
            let whole = run(path, json!({})).unwrap_or_else(|error| panic!("{}: {error:#}", path.display()));
            let of: BTreeMap<_, _> = texts(&whole, "example").into_iter().zip(row_numbers(&whole)).collect();
            let drawn = run(path, json!({"sample": sample})).unwrap_or_else(|error| panic!("{error:#}"));
            let identities = texts(&drawn, "example");
            let rows: Vec<u32> = identities.iter().map(|identity| of[identity]).collect();
            assert_eq!(row_numbers(&drawn), rows, "{}", path.display());
            assert!(rows.is_sorted() && rows.len() == 90);
            draws.push(identities);
        }
        assert!(draws.iter().all(|draw| *draw == draws[0]), "{sample}");
    }
}

#[test]
fn each_turn_of_the_assistants_is_an_example_and_can_be_drawn() {
    let talk = |i: usize| {
        let turns = (0..3).flat_map(|turn| [("user", format!("q{i} {turn}")), ("assistant", format!("a{i} {turn}"))]);
        let messages: Vec<Value> = turns.map(|(role, content)| json!({"role": role, "content": content})).collect();
        json!({"messages": messages})
    };
    let responses = |lines: &str, table: Value| texts(&run_text("a.jsonl", lines, table).unwrap(), "response");
    let lines: String = (0..40).map(|i| format!("{}\n", talk(i))).collect();
    let one = |turn: usize| (0..40).map(|i| Some(format!("a{i} {turn}"))).collect::<Vec<_>>();
    assert_eq!(responses(&lines, json!({"turn": 0})), one(0));
    assert_eq!(responses(&lines, json!({"turn": -2})), one(1));
    assert_eq!(responses(&lines, json!({"turn": "last"})), responses(&lines, json!({})));
    let all: Vec<_> = (0..40).flat_map(|i| (0..3).map(move |turn| Some(format!("a{i} {turn}")))).collect();
    assert_eq!(responses(&lines, json!({"turn": "all"})), all);
    assert_eq!(responses(&lines, json!({"turn": "all", "limit": 5})), all[..5]);
    // Every subset of a row's turns is found again, in every format.
    for (name, text) in [("a.jsonl", lines.clone()), ("a.json", format!("[{}]", lines.trim_end().replace('\n', ",")))] {
        let drawn = |n: usize| {
            let batches = run_text(name, &text, json!({"turn": "all", "limit": n, "sample": 3})).unwrap();
            texts(&batches, "response")
        };
        assert_eq!(drawn(120), all);
        let (some, fewer) = (drawn(60), drawn(59));
        assert_eq!((some.len(), fewer.len()), (60, 59));
        assert_eq!(some, all.iter().filter(|response| some.contains(response)).cloned().collect::<Vec<_>>());
        assert!(fewer.iter().all(|response| some.contains(response)), "one fewer is drawn, and no other");
    }
    let message = error("a.jsonl", &lines, json!({"turn": 3}));
    assert!(message.contains("a.jsonl:1: turn = 3 is not there"), "{message}");
    assert!(error("a.jsonl", &lines, json!({"turn": "first"})).contains("turn is \"last\", \"all\""));
}

#[test]
fn a_row_longer_than_what_is_read_at_once_is_one_row() {
    let long = "x, \"y\" ]".repeat(300_000);
    let rows = [json!({"prompt": "a", "response": long}), json!({"prompt": "b", "response": "c"})];
    let lines = rows.iter().map(Value::to_string).collect::<Vec<_>>().join("\n");
    let csv = format!("prompt,response\na,\"{}\"\nb,c\n", long.replace('"', "\"\""));
    for (name, text) in [("a.jsonl", lines), ("a.json", json!(rows).to_string()), ("a.csv", csv)] {
        for table in [json!({}), json!({"sample": {"n": 2}})] {
            let read = run_text(name, &text, table).unwrap_or_else(|error| panic!("{name}: {error:#}"));
            assert_eq!(texts(&read, "response"), [Some(long.clone()), Some("c".into())], "{name}");
        }
    }
}

/// How often each row was drawn by seeds 0, 1, …
fn inclusions(path: &Path, rows: usize, draws: u64, sample: impl Fn(u64) -> Value) -> Vec<u64> {
    let mut counts = vec![0; rows];
    for seed in 0..draws {
        for row in row_numbers(&run(path, json!({"sample": sample(seed)})).expect("a draw")) {
            counts[row as usize] += 1;
        }
    }
    counts
}

/// Five standard deviations of a binomial count, which one of a few hundred exceeds in a ten thousandth of all cases.
fn bound(draws: u64, chance: f64) -> f64 {
    5.0 * (draws as f64 * chance * (1.0 - chance)).sqrt()
}

#[test]
fn every_row_is_as_likely_to_be_drawn_as_any_other() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("a.jsonl");
    // Half of the rows say the same, which makes none of them likelier.
    let mut lines = numbered_lines(40);
    (0..40).step_by(2).for_each(|i| lines[i] = json!({"prompt": "again", "response": "yes"}).to_string());
    std::fs::write(&path, lines.join("\n")).expect("written");
    const DRAWS: u64 = 1500;
    let counts = inclusions(&path, 40, DRAWS, |seed| json!({"n": 10, "seed": seed}));
    assert_eq!(counts.iter().sum::<u64>(), 10 * DRAWS);
    let expected = DRAWS as f64 * 0.25;
    for (row, count) in counts.iter().enumerate() {
        assert!((*count as f64 - expected).abs() < bound(DRAWS, 0.25), "row {row}: {count} of {DRAWS}");
    }
}

#[test]
fn a_stratified_draw_has_each_strata_share_and_is_uniform_within() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("a.jsonl");
    // 30 rows of a, 12 of b, 5 of c and 1 of null, mixed.
    let topics: Vec<Value> = (0..48)
        .map(|i| match i {
            _ if i % 8 < 5 => json!("a"),
            7 => Value::Null,
            _ if i % 8 < 7 => json!("b"),
            _ => json!("c"),
        })
        .collect();
    let line =
        |(i, topic): (usize, &Value)| json!({"prompt": format!("{i}"), "response": "r", "topic": topic}).to_string();
    std::fs::write(&path, topics.iter().enumerate().map(line).collect::<Vec<_>>().join("\n")).expect("written");
    let of = |value: Value| -> Vec<usize> { (0..48).filter(|i| topics[*i] == value).collect() };
    let sizes = [json!("a"), json!("b"), json!("c"), Value::Null].map(|value| of(value).len());
    assert_eq!(sizes, [30, 12, 5, 1]);

    // Shares of 16: 10, 4, 5/3 and 1/3, of which the greatest remainder is c's.
    const DRAWS: u64 = 600;
    for (counts, asked) in [("proportional", [10, 4, 2, 0]), ("equal", [4, 4, 4, 1])] {
        let sample = |seed| json!({"n": 16, "seed": seed, "by": "topic", "counts": counts});
        let drawn = inclusions(&path, 48, DRAWS, sample);
        for (value, asked) in [json!("a"), json!("b"), json!("c"), Value::Null].into_iter().zip(asked) {
            let rows = of(value.clone());
            let sum: u64 = rows.iter().map(|row| drawn[*row]).sum();
            assert_eq!(sum, asked * DRAWS, "{counts} {value}");
            let chance = asked as f64 / rows.len() as f64;
            for row in rows {
                let off = (drawn[row] as f64 - chance * DRAWS as f64).abs();
                assert!(off <= bound(DRAWS, chance), "{counts} row {row} of {value}: {} of {DRAWS}", drawn[row]);
            }
        }
    }
}

#[test]
fn a_stratum_that_comes_short_is_said() {
    let line =
        |(i, topic): (usize, &str)| json!({"prompt": format!("{i}"), "response": "r", "topic": topic}).to_string();
    let topics = ["a", "b", "a", "a", "c", "a", "a", "a", "b", "a"];
    let text = topics.into_iter().enumerate().map(line).collect::<Vec<_>>().join("\n");
    let said = |table: Value| {
        let dataset = Dataset { name: "d".into(), source: DatasetSource::File("a.jsonl".into()), reading: table };
        let pipeline = Pipeline { datasets: vec![dataset], ..Pipeline::default() };
        let nodes = (STAGE.plan)(&json!({}), &pipeline).expect("planned");
        let folder = tempfile::tempdir().expect("a folder");
        let file = Part { path: folder.path().join("a.jsonl"), name: String::new() };
        std::fs::write(&file.path, &text).expect("written");
        let inputs = BTreeMap::from([("dataset".to_string(), vec![file])]);
        let task = Task { params: &nodes[0].params, inputs, cancelled: &|| false, progress: &|_, _| () };
        let Output::Table { batch, metadata } = STAGE.run(&task).expect("run").remove(0) else { panic!("a table") };
        let part = Part { path: folder.path().join("part"), name: String::new() };
        crate::table::write(std::fs::File::create(&part.path).expect("a file"), &batch, &metadata).expect("written");
        notice(&[part]).expect("a notice").unwrap_or_default()
    };
    let sample = |n: u64, counts: &str| json!({"sample": {"n": n, "by": "topic", "counts": counts}});
    assert_eq!(said(sample(3, "equal")), "");
    assert_eq!(said(sample(6, "equal")), "the sample by topic takes all 1 rows of \"c\", where 2 were asked for");
    assert_eq!(said(sample(6, "proportional")), "");
    assert_eq!(
        said(sample(3, "proportional")),
        "the sample by topic takes none of the 1 rows of \"c\", its share being below one"
    );
    assert_eq!(said(sample(11, "proportional")), "the sample takes all 10 rows, fewer than n = 11");
}

#[test]
fn a_filter_in_sql_is_told_each_column_in_one_type() {
    use crate::contract::row_sql::{Column, RowSql, Values, provide};
    // Stands in for the program's engine: keeps the rows whose first column is true, or a whole number above 1.
    fn columns(sql: &str) -> Result<Vec<String>, String> {
        if sql.contains('?') { Err("a question".into()) } else { Ok(sql.split(' ').map(String::from).collect()) }
    }
    fn is_true(_: &str, columns: &[Column]) -> Result<Vec<bool>, String> {
        match &columns[0].values {
            Values::Whole(values) => Ok(values.iter().map(|value| value.is_some_and(|value| value > 1)).collect()),
            Values::Numbers(values) => Ok(values.iter().map(|value| value.is_some_and(|value| value > 1.0)).collect()),
            Values::Booleans(values) => Ok(values.iter().map(|value| *value == Some(true)).collect()),
            other => Err(format!("the first column is {}", other.kind())),
        }
    }
    provide(RowSql { columns, is_true });
    let kept = |rows: &str, sql: &str| run_text("a.jsonl", rows, json!({"filter": sql})).map(|kept| row_numbers(&kept));
    let row = |value: Value| json!({"prompt": "p", "response": "r", "x": value, "y": [1]}).to_string();
    let rows = |values: &[Value]| values.iter().cloned().map(row).collect::<Vec<_>>().join("\n");
    assert_eq!(kept(&rows(&[json!(1), json!(2), Value::Null, json!(3)]), "x").expect("kept"), [1, 3]);
    assert_eq!(kept(&rows(&[json!(1), json!(2.5)]), "x").expect("kept"), [1]);
    assert_eq!(kept(&rows(&[json!(true), json!(false), json!(true)]), "x").expect("kept"), [0, 2]);
    let why = |rows: &str, sql: &str| format!("{:#}", kept(rows, sql).expect_err("refused"));
    for (found, expected) in [
        (
            why(&rows(&[json!(2), json!("a")]), "x"),
            "a.jsonl:2: the filter looks at column \"x\": it holds the text \"a\", and numbers in rows before",
        ),
        (why(&rows(&[json!(2)]), "y"), "a.jsonl:1: the filter looks at column \"y\": it holds a list"),
        (why(&rows(&[json!("a")]), "x"), "the filter \"x\": the first column is text"),
        (
            why(&rows(&[json!(2)]), "x promt"),
            "the filter looks at a column that no row has: no column \"promt\"; did you mean \"prompt\"?",
        ),
        (why(&rows(&[json!(2)]), "?"), "the filter is no SQL condition on a row: a question"),
    ] {
        assert!(found.contains(expected), "{found}");
    }
    // A row that is wrong is not noticed where the limit is reached before it.
    let limited = json!({"filter": "x", "limit": 1});
    let text = rows(&[json!(2), json!("a")]);
    assert_eq!(row_numbers(&run_text("a.jsonl", &text, limited).expect("one row")), [0]);
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
            format!("[{good}, 3]"),
            json!({}),
            "a.json, row 1 (the first is 0): expected an object, found the number 3",
        ),
        ("a.json", format!("[{good}, {{\"prompt\": \"p\"}}]"), json!({}), "a.json, row 1 (the first is 0): no column"),
        ("a.json", "{\"data\": []}".into(), json!({}), "found an object with the keys: data"),
        ("a.json", format!("{good}\n{good}"), json!({}), "write format = \"jsonl\""),
        (
            "a.json",
            "[\n{\"prompt\": ".into(),
            json!({}),
            "row 0 (the first is 0), which begins in line 2: the file ends within the array",
        ),
        (
            "a.json",
            format!("[{good},\n{{\"prompt\":\n x}}]"),
            json!({}),
            "a.json, row 1 (the first is 0): expected an object; it breaks in line 3: expected value",
        ),
        ("a.json", format!("[{good},\n]"), json!({}), "line 2: expected another object after the comma"),
        ("a.json", format!("[{good}]\n[]"), json!({}), "expected one JSON array, found more after it, at line 2"),
        ("a.json", format!("[{good},,{good}]"), json!({}), "row 1 (the first is 0): expected an object; it breaks"),
        ("a.json", " 3".into(), json!({}), "expected a JSON array of objects, found something else at line 1"),
        ("a.json", "".into(), json!({}), "found an empty file"),
        ("a.json", "[ ]".into(), json!({}), "the file has no rows"),
        (
            "a.jsonl",
            good.clone(),
            json!({"sample": {"n": 1, "by": "evn"}}),
            "the sample looks at a column that no row has: no column \"evn\"; did you mean \"even\"?",
        ),
        (
            "a.jsonl",
            format!("{good}\n{{\"prompt\": \"p\", \"response\": \"r\", \"even\": [1]}}"),
            json!({"sample": {"n": 1, "by": "even"}}),
            "a.jsonl:2: the sample is by column \"even\", which holds a list",
        ),
        (
            "a.jsonl",
            numbered_lines(5).join("\n"),
            json!({"sample": {"n": 4, "by": "prompt"}}),
            "\"prompt\", which has more than 4 values, and n = 4",
        ),
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
