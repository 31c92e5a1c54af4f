//! What the fuzz targets do with their bytes. The invariant: no panic, no abort, no path out of the store, and an end.

#[cfg(feature = "engine")]
mod engine;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{LazyLock, Once};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde_json::{Value, json};
use strata_stages::contract::pipeline::{Dataset, DatasetSource};
use strata_stages::model::family;
use strata_stages::model::transformer::Transformer;
use strata_stages::text::chat::{ChatTemplate, ChatTokenizer, Date, Limits, Message};
use strata_stages::{Part, Pipeline, Task, table};

#[cfg(feature = "engine")]
pub use engine::{listing, pipeline, record};

/// A folder in memory, where there is one, with the golden model in it.
static FOLDER: LazyLock<PathBuf> = LazyLock::new(|| {
    let memory = Path::new("/dev/shm");
    let parent = if memory.is_dir() { memory.to_path_buf() } else { std::env::temp_dir() };
    let folder = tempfile::tempdir_in(parent).expect("a folder").keep();
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/golden/models/qwen2");
    fs::create_dir(folder.join("model")).expect("a folder");
    for entry in fs::read_dir(golden).expect("the golden model") {
        let path = entry.expect("an entry").path();
        fs::copy(&path, folder.join("model").join(path.file_name().expect("a name"))).expect("copied");
    }
    fs::write(folder.join("data.jsonl"), "{\"prompt\": \"a\", \"response\": \"b\"}\n").expect("written");
    folder
});

/// The bytes as a file. Its name is a new one each time, as tokenizers are kept by theirs.
pub struct File(PathBuf);

impl File {
    fn new(data: &[u8], ending: &str) -> File {
        // A panic of a library that is caught where the library is called is no finding. libFuzzer's hook would end the process; one that
        // nobody catches ends it all the same.
        static QUIET: Once = Once::new();
        QUIET.call_once(|| std::panic::set_hook(Box::new(|_| ())));
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let path = FOLDER.join(format!("{}.{ending}", NUMBER.fetch_add(1, Ordering::Relaxed)));
        fs::write(&path, data).expect("written");
        File(path)
    }

    fn part(&self, name: &str) -> Part {
        Part { path: self.0.clone(), name: name.to_string() }
    }
}

impl Drop for File {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

fn golden(name: &str) -> Part {
    Part { path: FOLDER.join("model").join(name), name: name.to_string() }
}

/// A table of the store, and a dataset.
pub fn parquet(data: &[u8]) {
    let file = File::new(data, "parquet");
    if let Ok(batch) = table::read(&[&file.0], &[]) {
        let _ = table::column_hashes(&batch);
    }
    let _ = table::read(&[&file.0], &["example", "messages"]);
    let _ = table::stated(&file.0, "strata.table");
    examples(&file.0);
}

pub fn jsonl(data: &[u8]) {
    examples(&File::new(data, "jsonl").0);
    examples(&File::new(data, "json").0);
}

pub fn csv(data: &[u8]) {
    examples(&File::new(data, "csv").0);
}

/// The examples of a dataset, as its task reads them.
fn examples(path: &Path) {
    let stage = strata_stages::stage("examples").expect("a stage");
    let source = DatasetSource::File(path.to_path_buf());
    let dataset = Dataset { name: "d".into(), source, reading: Value::Object(Default::default()) };
    let pipeline = Pipeline { datasets: vec![dataset], ..Pipeline::default() };
    let Ok(nodes) = (stage.plan)(&json!({}), &pipeline) else { return };
    let part = Part { path: path.to_path_buf(), name: "d".into() };
    let inputs = BTreeMap::from([("dataset".to_string(), vec![part])]);
    let task = Task { params: &nodes[0].params, inputs, cancelled: &|| false, progress: &|_, _| () };
    let _ = stage.run(&task);
}

pub fn safetensors(data: &[u8]) {
    let file = File::new(data, "safetensors");
    let _ = Transformer::open(&[golden("config.json"), file.part("model.safetensors")]);
}

pub fn gguf(data: &[u8]) {
    let file = File::new(data, "gguf");
    let _ = Transformer::open(&[file.part("model.gguf")]);
    let _ = ChatTokenizer::open(&[file.part("model.gguf")], None);
    let _ = strata_stages::model::files::config(&file.0);
}

/// A model's config.json, over the golden model's tensors.
pub fn config(data: &[u8]) {
    if let Ok(text) = std::str::from_utf8(data) {
        let _ = family::describe(text);
    }
    let file = File::new(data, "json");
    let _ = Transformer::open(&[file.part("config.json"), golden("model.safetensors")]);
}

pub fn tokenizer(data: &[u8]) {
    let file = File::new(data, "json");
    let parts = [file.part("tokenizer.json"), golden("tokenizer_config.json")];
    let Ok(tokenizer) = ChatTokenizer::open(&parts, Some("qwen2")) else { return };
    let Ok(template) = tokenizer.template(date(), Some("chatml")) else { return };
    let _ = tokenizer.encode(&template, &messages(), 64);
    let _ = tokenizer.piece(7);
}

pub fn chat_template(data: &[u8]) {
    let Ok(source) = std::str::from_utf8(data) else { return };
    // As many instructions as take a moment, and as little memory as a process has for thousands of threads that are given up.
    let limits = Limits { fuel: 20_000, output: 1 << 16, memory: 1 << 20, time: Duration::from_secs(5) };
    let tokens = BTreeMap::from([("bos_token".to_string(), "<s>".to_string())]);
    let Ok(template) = ChatTemplate::limited(source, tokens, date(), limits) else { return };
    for prompt in [false, true] {
        let _ = template.bounded(64, move |template| template.render(&messages(), prompt));
    }
}

fn date() -> Date {
    Date::parse("2024-07-26").expect("a date")
}

fn messages() -> Vec<Message> {
    let message = |role: &str, content: &str| Message::new(role, content);
    vec![
        message("system", "Be kind."),
        message("user", "Ünd 12 \u{1f600}?\n"),
        message("assistant", "<think>a</think> b <|im_end|>"),
    ]
}
