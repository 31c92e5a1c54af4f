//! A stage whose numbers changed must say so in its version: otherwise tables made before would be taken for fresh.
//!
//! Every stage runs on fixed inputs. `tests/golden/hashes.txt` holds what each read and what came out of whole numbers and
//! texts, as hashes, and `tests/golden/values/` the floats, which may lie as far from those found as another processor's
//! sums do (`tolerance.rs`). A stage that read the same and gives something else under the same version fails, and names
//! itself. One whose inputs changed is only asked to be listed anew, because it is a stage before it that changed.

mod outputs;
mod tolerance;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{self, Write};
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;
use strata_stages::STAGES;

use self::outputs::{BY_FLOATS, Floats, Found, is_float};
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
    /// Of parameters and of what was read, but for floats: these are what a stage before it gave.
    inputs: String,
    /// [`Found::exact`].
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

/// A pipeline that has run, and what its stages made there.
struct Ran {
    lines: Vec<Line>,
    floats: BTreeMap<String, Vec<Floats>>,
    /// The stages that each stage reads.
    upstream: BTreeMap<String, BTreeSet<String>>,
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

/// Runs the pipeline and collects what each stage read and gave.
fn ran(workspace: &Workspace) -> Ran {
    workspace.run(&[]);
    let mut tasks: BTreeMap<String, (u64, Vec<String>)> = BTreeMap::new();
    for entry in fs::read_dir(workspace.path("artifacts/records")).expect("records") {
        let text = fs::read(entry.expect("a record").path()).expect("a record");
        let record: Value = serde_json::from_slice(&text).expect("JSON");
        let document = &record["document"];
        let stage = document["stage"].as_str().expect("a name").to_string();
        let version = document["version"].as_u64().expect("a number");
        let read = format!("{} {}", sorted(&document["params"]), sorted(&without_floats(&document["inputs"], &stage)));
        tasks.entry(stage).or_insert((version, Vec::new())).1.push(read);
    }
    let (mut lines, mut floats) = (Vec::new(), BTreeMap::new());
    for (name, (version, mut read)) in tasks {
        read.sort();
        let stage = strata_stages::stage(&name).expect("a stage that ran");
        let Found { exact, floats: values } = outputs::read(&workspace.path("artifacts"), stage).expect("outputs");
        let inputs = blake3::hash(read.join("\n").as_bytes()).to_hex()[..16].to_string();
        floats.insert(name.clone(), values);
        lines.push(Line { stage: name, version, inputs, outputs: exact });
    }
    let graph: Value = serde_json::from_str(&workspace.ok(&["graph", "--format", "json"])).expect("JSON");
    let mut upstream: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for edge in graph["edges"].as_array().expect("edges") {
        let name = |i: usize| edge[i].as_str().expect("a stage").to_string();
        if name(0) != name(1) {
            upstream.entry(name(1)).or_default().insert(name(0));
        }
    }
    Ran { lines, floats, upstream }
}

/// A task's inputs without the hashes of floats: of columns, and of the models that `train` made.
fn without_floats(inputs: &Value, stage: &str) -> Value {
    let columns = STAGES.iter().filter_map(|stage| stage.table()).flat_map(|table| table.columns);
    let mut floats: BTreeSet<&str> = columns.filter(|column| is_float(column.kind)).map(|column| column.name).collect();
    floats.extend(BY_FLOATS.map(|(_, column)| column));
    let mut inputs = inputs.clone();
    for part in inputs.as_object_mut().into_iter().flat_map(|roles| roles.values_mut()).filter_map(Value::as_array_mut)
    {
        part.retain(|file| {
            !(stage == "train" && file["name"].as_str().is_some_and(|name| name.ends_with(".safetensors")))
        });
        for columns in part.iter_mut().filter_map(|part| part.get_mut("columns")?.as_object_mut()) {
            columns.retain(|name, _| !floats.contains(name.as_str()));
        }
    }
    inputs
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

/// What differs between the floats listed and those found by more than its tolerance, and the largest deviation of all in
/// units of the tolerance.
fn differences(stage: &str, listed: &[Floats], found: &[Floats]) -> (Vec<String>, f64) {
    let (mut differences, mut most) = (Vec::new(), 0.0f64);
    let named = |floats: &[Floats], of: &Floats| {
        floats.iter().find(|floats| (&floats.file, &floats.column) == (&of.file, &of.column)).cloned()
    };
    for floats in found {
        let at = format!("{stage}.{} in {}", floats.column, floats.file);
        match named(listed, floats) {
            None => differences.push(format!("{at} is not listed")),
            Some(before) => match tolerance::deviation(tolerance::rule(stage, &floats.column), &before, floats) {
                Err(why) => differences.push(format!("{at}: {why}")),
                Ok(deviation) => {
                    most = most.max(deviation);
                    if deviation > 1.0 {
                        differences.push(format!("{at} lies {deviation:.1} tolerances from what is listed"));
                    }
                }
            },
        }
    }
    let gone = listed.iter().filter(|floats| named(found, floats).is_none());
    differences
        .extend(gone.map(|floats| format!("{stage}.{} in {} is listed, and is not there", floats.column, floats.file)));
    (differences, most)
}

/// What is wrong with the lines found, given those listed. `differences` are those of the floats, `upstream` names the
/// stages that a stage reads.
fn complaints(
    listed: &[Line],
    found: &[Line],
    differences: &BTreeMap<String, Vec<String>>,
    upstream: &BTreeMap<String, BTreeSet<String>>,
) -> Vec<Complaint> {
    let by_name = |lines: &[Line], name: &str| lines.iter().find(|line| line.stage == name).cloned();
    let differs = |name: &str| differences.get(name).is_some_and(|found| !found.is_empty());
    let changed = |name: &str| by_name(listed, name) != by_name(found, name) || differs(name);
    let mut complaints = Vec::new();
    for line in found {
        let name = &line.stage;
        let Some(before) = by_name(listed, name) else {
            complaints.push(Complaint::List(format!("{name} is not listed")));
            continue;
        };
        if !changed(name) {
            continue;
        }
        let inputs = before.inputs != line.inputs || above(name, upstream).iter().any(|name| changed(name));
        complaints.push(if before.version != line.version {
            let text = format!("{name} is listed with version {}, and has version {}", before.version, line.version);
            Complaint::List(text)
        } else if inputs {
            Complaint::List(format!("{name} reads other inputs or parameters than before"))
        } else {
            let what = differences.get(name).and_then(|found| found.first()).cloned().unwrap_or_default();
            Complaint::Version(format!(
                "{name} read the same as before and gives something else, under the same version {}: bump its version. {what}",
                line.version
            ))
        });
    }
    let gone = listed.iter().filter(|line| by_name(found, &line.stage).is_none());
    complaints.extend(gone.map(|line| Complaint::List(format!("{} is listed, and did not run", line.stage))));
    complaints
}

/// Every stage that this one reads, directly or through others.
fn above(name: &str, upstream: &BTreeMap<String, BTreeSet<String>>) -> BTreeSet<String> {
    let (mut found, mut pending) = (BTreeSet::new(), vec![name]);
    while let Some(name) = pending.pop() {
        for above in upstream.get(name).into_iter().flatten() {
            if found.insert(above.clone()) {
                pending.push(above);
            }
        }
    }
    found
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
    let (training, mut ran) = (ran(&training), ran(&analyses));
    ran.lines.extend(training.lines);
    ran.floats.extend(training.floats);
    training.upstream.into_iter().for_each(|(name, above)| ran.upstream.entry(name).or_default().extend(above));
    ran.lines.sort_by_key(|line| STAGES.iter().position(|stage| stage.name == line.stage));
    for stage in STAGES {
        let name = stage.name;
        assert!(
            ran.lines.iter().any(|line| line.stage == name),
            "{name} ran no task here: give it one in this file's pipelines"
        );
    }

    let golden: PathBuf = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let text = fs::read_to_string(golden.join("hashes.txt")).unwrap_or_default();
    let listed: Vec<Line> = text.lines().filter(|line| !line.starts_with('#')).filter_map(Line::parse).collect();
    let values = |stage: &str| golden.join("values").join(format!("{stage}.parquet"));
    let mut all = BTreeMap::new();
    for (stage, found) in &ran.floats {
        let path = values(stage);
        let before = if path.exists() { outputs::load(&path).expect("values written before") } else { Vec::new() };
        let (differences, most) = differences(stage, &before, found);
        println!("{stage}: the largest deviation is {most:.1e} of its tolerance");
        all.insert(stage.clone(), differences);
    }
    let complaints = complaints(&listed, &ran.lines, &all, &ran.upstream);
    let versions: Vec<_> = complaints.iter().filter(|complaint| matches!(complaint, Complaint::Version(_))).collect();
    assert!(versions.is_empty(), "{versions:#?}");
    if std::env::var_os("UPDATE_GOLDEN").is_none() {
        assert!(complaints.is_empty(), "{complaints:#?}\nwrite the list anew: {AGAIN}");
        return;
    }
    // Values within their tolerance are left as they are, so that a change shows which stages it reached.
    fs::write(golden.join("hashes.txt"), list(&ran.lines)).expect("the list can be written");
    fs::create_dir_all(golden.join("values")).expect("a folder");
    for (stage, found) in ran.floats.iter().filter(|(stage, _)| !all[*stage].is_empty()) {
        match found.is_empty() {
            true => fs::remove_file(values(stage)).expect("no more values"),
            false => outputs::write(&values(stage), found).expect("values can be written"),
        }
    }
}

fn list(lines: &[Line]) -> String {
    let mut text = format!(
        "# Every stage on the fixed inputs of tests/end_to_end/versions.rs: its version, what it read, what came out but for\n\
         # floats, which are in values/. Written by: {AGAIN}\n"
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
    let upstream = BTreeMap::from([
        ("projections".to_string(), BTreeSet::from(["directions".to_string()])),
        ("separation".to_string(), BTreeSet::from(["projections".to_string()])),
    ]);
    let none = BTreeMap::new();
    let listed = [line("directions", 1, "a", "b"), line("projections", 1, "b", "c"), line("separation", 1, "c", "d")];
    assert_eq!(complaints(&listed, &listed, &none, &upstream), []);
    // Other numbers from the same inputs, and readers that only follow.
    let other = |stages: &[&str]| stages.iter().map(|stage| (stage.to_string(), vec!["vector".into()])).collect();
    let found = complaints(&listed, &listed, &other(&["directions", "separation"]), &upstream);
    let [Complaint::Version(first), Complaint::List(second)] = found.as_slice() else { panic!("{found:?}") };
    assert!(first.starts_with("directions") && first.ends_with("bump its version. vector"), "{first}");
    assert!(second.starts_with("separation"), "{second}");
    let found = [line("directions", 1, "a", "x"), listed[1].clone(), listed[2].clone()];
    assert!(matches!(complaints(&listed, &found, &none, &upstream).as_slice(), [Complaint::Version(_)]));
    // With its version raised, only the list is behind.
    let found = [line("directions", 2, "a", "x"), line("projections", 1, "b", "y"), listed[2].clone()];
    let found = complaints(&listed, &found, &other(&["separation"]), &upstream);
    assert!(found.len() == 3 && found.iter().all(|complaint| matches!(complaint, Complaint::List(_))), "{found:?}");
    let gone = complaints(&listed, &listed[..2], &none, &upstream);
    assert_eq!(gone, [Complaint::List("separation is listed, and did not run".into())]);
}
