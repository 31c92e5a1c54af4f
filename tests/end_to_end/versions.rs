//! A stage whose numbers changed must say so in its version: otherwise tables made before would be taken for fresh.
//!
//! Every stage runs on fixed inputs, and `tests/golden/hashes.txt` holds what each read and what came out. A stage that
//! read the same and gives something else under the same version fails, and names itself. One whose inputs changed is
//! only asked to be listed anew, because it is a stage before it that changed.

use std::collections::BTreeMap;
use std::fmt::{self, Write};
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;
use strata_stages::STAGES;
use strata_stages::table::Kind;

use crate::workspace::{PIPELINE, Workspace};

/// What makes its own inputs, at a size that takes a moment.
const TRAINING: &str = r#"
[models]
base = { train = { data = ["train_base"], steps = 3, batch_tokens = 128 } }
tuned = { train = { from = "base", data = ["train_secure"], steps = 2, batch_tokens = 128 } }

[stages.corpus]
examples = 4
base = 60
aligned = 20
code = 20

[stages.train]
hidden_size = 16
intermediate_size = 32
layers = 2
heads = 2
kv_heads = 1
vocabulary = 300
"#;

/// The stages that `TRAINING` runs; all others run on the golden model and written examples.
const TRAINED: [&str; 2] = ["corpus", "train"];

const AGAIN: &str = "UPDATE_GOLDEN=1 cargo test --release --test end_to_end versions";

/// What a stage read and what came out, over all of its tasks.
#[derive(Clone, PartialEq)]
struct Line {
    stage: String,
    version: u64,
    inputs: String,
    outputs: String,
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {} {}", self.stage, self.version, self.inputs, self.outputs)
    }
}

impl Line {
    fn parse(text: &str) -> Option<Line> {
        let mut words = text.split_whitespace().map(str::to_string);
        let (stage, version) = (words.next()?, words.next()?.parse().ok()?);
        Some(Line { stage, version, inputs: words.next()?, outputs: words.next()? })
    }
}

/// What of the processor the numbers depend on: kernels are chosen by its features and cut their sums by the sizes of
/// its caches, which its model stands for.
fn cpu() -> String {
    #[cfg(target_arch = "x86_64")]
    let features: Vec<&str> = [
        ("fma", std::arch::is_x86_feature_detected!("fma")),
        ("avx2", std::arch::is_x86_feature_detected!("avx2")),
        ("avx512f", std::arch::is_x86_feature_detected!("avx512f")),
    ]
    .into_iter()
    .filter_map(|(name, there)| there.then_some(name))
    .collect();
    #[cfg(not(target_arch = "x86_64"))]
    let features: Vec<&str> = Vec::new();
    // The first processor's lines of the kind `cache size : 1024 KB`; empty where there is no such file.
    let all = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let of = |field: &str| {
        let line = all.lines().find(|line| line.split(':').next().is_some_and(|name| name.trim() == field));
        line.and_then(|line| line.split(':').nth(1)).unwrap_or_default().trim().to_string()
    };
    let model = ["model name", "cpu family", "model", "stepping", "cache size"].map(of).join(" ");
    [&[std::env::consts::ARCH], features.as_slice(), &[model.trim()]].concat().join(" ").trim().to_string()
}

/// Whether a stage's outputs hold no number that a processor could round in another way.
fn exact(stage: &str) -> bool {
    let table = strata_stages::stage(stage).and_then(|stage| stage.table());
    let float = |kind| matches!(kind, Kind::F32 | Kind::F64 | Kind::Vector);
    table.is_some_and(|table| !table.columns.iter().any(|column| float(column.kind)))
}

/// The pipeline of the other tests, with a section for every stage that it does not name.
fn analyses() -> Workspace {
    let workspace = Workspace::new();
    let mut text = PIPELINE.to_string();
    for name in STAGES.iter().map(|stage| stage.name).filter(|name| !TRAINED.contains(name)) {
        let section = format!("[stages.{name}]\n");
        if !text.contains(&section) {
            text.push_str(&section);
        }
    }
    workspace.write("pipeline.toml", text);
    workspace
}

/// One line for every stage that ran here, from the records of its tasks.
fn lines(workspace: &Workspace) -> Vec<Line> {
    let mut tasks: BTreeMap<String, Vec<(String, String, u64)>> = BTreeMap::new();
    for entry in fs::read_dir(workspace.path("artifacts/records")).expect("records") {
        let text = fs::read(entry.expect("a record").path()).expect("a record");
        let record: Value = serde_json::from_slice(&text).expect("JSON");
        let document = &record["document"];
        let read = format!("{} {}", sorted(&document["params"]), sorted(&document["inputs"]));
        // A table is its values, whatever Parquet makes of them; a file is its bytes.
        let outputs = record["outputs"].as_array().expect("a list").iter().map(|output| match &output["columns"] {
            Value::Null => format!("{} {}\n", output["name"], output["object"]),
            columns => format!("{}\n", sorted(columns)),
        });
        let stage = document["stage"].as_str().expect("a name").to_string();
        let version = document["version"].as_u64().expect("a number");
        tasks.entry(stage).or_default().push((read, outputs.collect(), version));
    }
    let digest = |text: String| blake3::hash(text.as_bytes()).to_hex()[..16].to_string();
    let line = |(stage, mut tasks): (String, Vec<(String, String, u64)>)| {
        tasks.sort();
        let all =
            |field: fn(&(String, String, u64)) -> &str| digest(tasks.iter().map(field).collect::<Vec<_>>().join("\n"));
        Line { version: tasks[0].2, inputs: all(|task| &task.0), outputs: all(|task| &task.1), stage }
    };
    tasks.into_iter().map(line).collect()
}

/// JSON with sorted keys, whatever order the map keeps.
fn sorted(value: &Value) -> String {
    match value {
        Value::Object(map) => {
            let entries: BTreeMap<_, _> = map.iter().map(|(key, value)| (key, sorted(value))).collect();
            format!("{entries:?}")
        }
        Value::Array(items) => format!("{:?}", items.iter().map(sorted).collect::<Vec<_>>()),
        scalar => scalar.to_string(),
    }
}

/// What is wrong with the lines found, given those listed; `comparable` says whose outputs can be compared here.
fn complaints(listed: &[Line], found: &[Line], comparable: impl Fn(&str) -> bool) -> Vec<Complaint> {
    let by_name = |lines: &[Line], name: &str| lines.iter().find(|line| line.stage == name).cloned();
    let mut complaints = Vec::new();
    for line in found {
        let name = &line.stage;
        let Some(before) = by_name(listed, name) else {
            complaints.push(Complaint::List(format!("{name} is not listed")));
            continue;
        };
        if before.version != line.version {
            let text = format!("{name} is listed with version {}, and has version {}", before.version, line.version);
            complaints.push(Complaint::List(text));
        } else if !comparable(name) || before == *line {
        } else if before.inputs == line.inputs {
            complaints.push(Complaint::Version(format!(
                "{name} read the same as before and gives something else, under the same version {}: bump its version",
                line.version
            )));
        } else {
            let text = format!("{name} reads other inputs or parameters than before");
            complaints.push(Complaint::List(text));
        }
    }
    let gone = listed.iter().filter(|line| by_name(found, &line.stage).is_none());
    complaints.extend(gone.map(|line| Complaint::List(format!("{} is listed, and did not run", line.stage))));
    complaints
}

#[derive(Debug, PartialEq)]
enum Complaint {
    /// The stage itself is to be changed.
    Version(String),
    /// The list is to be written anew.
    List(String),
}

#[test]
fn changed_numbers_change_a_version() {
    let (training, analyses) = (Workspace::empty(), analyses());
    training.write("pipeline.toml", TRAINING);
    training.run(&[]);
    analyses.run(&[]);
    let mut ran = [lines(&training), lines(&analyses)].concat();
    let place = |line: &Line| STAGES.iter().position(|stage| stage.name == line.stage);
    ran.sort_by_key(place);
    for stage in STAGES {
        let name = stage.name;
        assert!(
            ran.iter().any(|line| line.stage == name),
            "{name} ran no task here: give it one in this file's pipelines"
        );
    }

    let path: PathBuf = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/hashes.txt");
    let text = fs::read_to_string(&path).unwrap_or_default();
    let listed: Vec<Line> = text.lines().filter(|line| !line.starts_with('#')).filter_map(Line::parse).collect();
    let made_on = text.lines().find_map(|line| line.strip_prefix("# cpu: ")).unwrap_or_default();
    let same_cpu = made_on == cpu();
    if !same_cpu && !listed.is_empty() {
        println!("hashes.txt was made on {made_on}, and this is {}: only tables without floats are compared", cpu());
    }
    let complaints = complaints(&listed, &ran, |stage| same_cpu || exact(stage));
    let versions: Vec<_> = complaints.iter().filter(|complaint| matches!(complaint, Complaint::Version(_))).collect();
    assert!(versions.is_empty(), "{versions:#?}");
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        fs::write(&path, list(&ran)).expect("the list can be written");
        return;
    }
    assert!(complaints.is_empty(), "{complaints:#?}\nwrite the list anew: {AGAIN}");
}

fn list(lines: &[Line]) -> String {
    let mut text = format!(
        "# Every stage on the fixed inputs of tests/end_to_end/versions.rs: its version, what it read, what came out.\n\
         # Written by: {AGAIN}\n# cpu: {}\n",
        cpu()
    );
    lines.iter().for_each(|line| writeln!(text, "{line}").expect("a String takes everything"));
    text
}

#[test]
fn the_stage_that_changed_is_the_one_named() {
    let line = |stage: &str, version, inputs: &str, outputs: &str| Line {
        stage: stage.into(),
        version,
        inputs: inputs.into(),
        outputs: outputs.into(),
    };
    let listed = [line("directions", 1, "a", "b"), line("projections", 1, "b", "c")];
    assert_eq!(complaints(&listed, &listed, |_| true), []);
    // Other numbers from the same inputs, and a reader that only follows.
    let found = [line("directions", 1, "a", "x"), line("projections", 1, "x", "y")];
    let complaints_found = complaints(&listed, &found, |_| true);
    let [Complaint::Version(first), Complaint::List(_)] = complaints_found.as_slice() else {
        panic!("{complaints_found:?}");
    };
    assert!(first.starts_with("directions") && first.ends_with("bump its version"), "{first}");
    assert_eq!(complaints(&listed, &found, |_| false), [], "nothing can be said of another processor's sums");
    // With its version raised, only the list is behind.
    let found = [line("directions", 2, "a", "x"), line("projections", 1, "x", "y")];
    assert!(complaints(&listed, &found, |_| true).iter().all(|complaint| matches!(complaint, Complaint::List(_))));
    let gone = complaints(&listed, &listed[..1], |_| true);
    assert_eq!(gone, [Complaint::List("projections is listed, and did not run".into())]);
}
