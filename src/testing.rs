//! A registry of four small stages, and a folder to run them in, for the tests of the engine.
//!
//! `lines` cuts each dataset's file into a part a line; `shout` makes each part upper case, a task a part; `gather` reads
//! what all datasets were made into; `page` writes a file about that. A line that says `fail`, `panic` or `wait` makes
//! its task of `shout` do so.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::bail;
use arrow::array::{Float64Array, StringArray};
use serde_json::{Value, json};
use strata_stages::contract::pipeline::{Dataset, DatasetSource};
use strata_stages::table::{Kind, Table, column};
use strata_stages::{Input, Node, Output, Outputs, Pipeline, PlanError, Source, Stage, Task, Work, table};
use tempfile::TempDir;

use crate::graph::{Graph, Target};
use crate::plan::Plan;
use crate::progress::{Progress, Verbosity};
use crate::run::{Options, Remotes, Run, Summary};
use crate::store::disk::Disk;
use crate::store::faults::Faults;
use crate::store::{Store, views};
use crate::unchanged;

pub static STAGES: &[&Stage] = &[&LINES, &SHOUT, &GATHER, &PAGE];

const fn stage(name: &'static str, outputs: Outputs, plan: Planned, run: Ran) -> Stage {
    Stage {
        name,
        version: 1,
        about: "",
        asked_by_default: false,
        notice: None,
        outputs,
        settings: &[],
        defaults: || json!({}),
        plan,
        cost: None,
        figures: &[],
        work: Work::Table(run),
    }
}

pub type Planned = fn(&Value, &Pipeline) -> Result<Vec<Node>, PlanError>;
type Ran = fn(&Task) -> anyhow::Result<Vec<Output>>;

/// A stage that is planned and never run.
pub const fn planned(name: &'static str, plan: Planned) -> Stage {
    stage(name, Outputs::Files { open: "" }, plan, |_| bail!("never run"))
}

const LINES_TABLE: Table = Table { name: "lines", folders: &[], columns: &[column("text", Kind::Text, "")] };
const SHOUT_TABLE: Table = Table { name: "shout", folders: &[], columns: &[column("text", Kind::Text, "")] };
const GATHER_TABLE: Table = Table { name: "gather", folders: &[], columns: &[column("characters", Kind::F64, "")] };

static LINES: Stage = stage("lines", Outputs::Table(LINES_TABLE), plan_lines, run_lines);
static SHOUT: Stage = stage("shout", Outputs::Table(SHOUT_TABLE), plan_shout, run_shout);
static GATHER: Stage = stage("gather", Outputs::Table(GATHER_TABLE), plan_gather, run_gather);
static PAGE: Stage = stage("page", Outputs::Files { open: "page.html" }, plan_page, run_page);

pub fn node(
    stage: &'static str,
    bindings: Vec<(&'static str, String)>,
    params: Value,
    inputs: Vec<Input>,
    per_part: Option<&'static str>,
) -> Node {
    Node { stage, bindings, params, inputs, per_part }
}

fn dataset(dataset: &Dataset) -> Vec<(&'static str, String)> {
    vec![("dataset", dataset.name.clone())]
}

fn plan_lines(_: &Value, pipeline: &Pipeline) -> Result<Vec<Node>, PlanError> {
    let lines = |of: &Dataset| {
        let source = Source::Dataset { dataset: of.name.clone() };
        let input = Input { role: "file".into(), source, columns: None, alike: None };
        node("lines", dataset(of), json!({}), vec![input], None)
    };
    Ok(pipeline.datasets.iter().map(lines).collect())
}

fn plan_shout(settings: &Value, pipeline: &Pipeline) -> Result<Vec<Node>, PlanError> {
    let shout = |of: &Dataset| {
        let input = Input::node("lines", "lines", dataset(of)).columns(&["text"]);
        node("shout", dataset(of), settings.clone(), vec![input], Some("lines"))
    };
    Ok(pipeline.datasets.iter().map(shout).collect())
}

fn plan_gather(_: &Value, pipeline: &Pipeline) -> Result<Vec<Node>, PlanError> {
    let read = |(index, of)| Input::node(format!("shout/{index}"), "shout", dataset(of)).columns(&["text"]);
    let inputs = pipeline.datasets.iter().enumerate().map(read).collect();
    Ok(vec![node("gather", Vec::new(), json!({}), inputs, None)])
}

fn plan_page(_: &Value, _: &Pipeline) -> Result<Vec<Node>, PlanError> {
    let input = Input::node("gather", "gather", Vec::new());
    Ok(vec![node("page", Vec::new(), json!({}), vec![input], None)])
}

fn run_lines(task: &Task) -> anyhow::Result<Vec<Output>> {
    let text = fs::read_to_string(&task.parts("file")?[0].path)?;
    text.lines()
        .map(|line| Ok(Output::table(LINES_TABLE.batch(vec![Arc::new(StringArray::from(vec![line]))])?)))
        .collect()
}

fn run_shout(task: &Task) -> anyhow::Result<Vec<Output>> {
    let batch = table::read(task.parts("lines")?, &["text"])?;
    let text = table::values::<StringArray>(&batch, "text")?.value(0).to_string();
    match text.as_str() {
        "fail" => bail!("told to fail"),
        "panic" => panic!("told to panic"),
        "wait" => {
            while !(task.cancelled)() {
                std::thread::yield_now();
            }
            bail!("interrupted");
        }
        text => {
            Ok(vec![Output::table(SHOUT_TABLE.batch(vec![Arc::new(StringArray::from(vec![text.to_uppercase()]))])?)])
        }
    }
}

fn run_gather(task: &Task) -> anyhow::Result<Vec<Output>> {
    let mut counts = Vec::new();
    for role in task.inputs.keys() {
        let batch = table::read(task.parts(role)?, &["text"])?;
        let text: &StringArray = table::values(&batch, "text")?;
        counts.push(text.iter().flatten().map(|text| text.chars().count() as f64).sum::<f64>());
    }
    Ok(vec![Output::table(GATHER_TABLE.batch(vec![Arc::new(Float64Array::from(counts))])?)])
}

fn run_page(task: &Task) -> anyhow::Result<Vec<Output>> {
    let batch = table::read(task.parts("gather")?, &[])?;
    let bytes = format!("<p>{} datasets</p>", batch.num_rows()).into_bytes();
    Ok(vec![Output::File { name: "page.html".into(), bytes }])
}

/// A pipeline over files in a temporary folder, and stores beside them.
pub struct Bench {
    folder: TempDir,
    pub pipeline: Pipeline,
}

impl Bench {
    /// Datasets by name with their text, and a pipeline that asks for the page.
    pub fn new(datasets: &[(&str, &str)]) -> Bench {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let mut bench = Bench { folder, pipeline: Pipeline::default() };
        bench.pipeline.sections = vec![("page".into(), json!({}))];
        for (name, text) in datasets {
            bench.write(name, text);
            let source = DatasetSource::File(bench.path(name));
            bench.pipeline.datasets.push(Dataset { name: name.to_string(), source, reading: Value::Null });
        }
        bench.write("pipeline.toml", "");
        bench
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn write(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).expect("written");
    }

    /// Makes the stage `shout` have these settings.
    pub fn shout_with(&mut self, settings: Value) {
        self.pipeline.sections.retain(|(name, _)| name != "shout");
        self.pipeline.sections.push(("shout".into(), settings));
    }

    pub fn graph(&self) -> Graph {
        Graph::of_stages(STAGES, &self.pipeline, false).expect("a graph")
    }

    pub fn store(&self) -> Store {
        Store::open(&self.path("store"))
    }

    pub fn faulty_store(&self, faults: Faults) -> Store {
        Store::on(Disk { faults: Some(Arc::new(faults)) }, &self.path("store"))
    }

    /// What `strata run` does, one task at a time.
    pub fn run(&self, store: &Store) -> anyhow::Result<Summary> {
        self.run_with(store, |_| ())
    }

    pub fn run_with(&self, store: &Store, change: impl FnOnce(&mut Options)) -> anyhow::Result<Summary> {
        self.run_until(store, change, &|| false)
    }

    pub fn run_until(
        &self,
        store: &Store,
        change: impl FnOnce(&mut Options),
        cancelled: &(dyn Fn() -> bool + Sync),
    ) -> anyhow::Result<Summary> {
        let graph = self.graph();
        let here = graph.all();
        let mut options = Options { jobs: 1, keep_going: false, force: graph.none(), share: None, here, compute: true };
        change(&mut options);
        store.prepare()?;
        let _lock = store.lock_shared()?;
        store.register(&self.path("pipeline.toml"), &graph)?;
        let (mut plan, wanted, progress) = (Plan::new(&graph, store), graph.all(), Progress::new(Verbosity::Quiet));
        let summary =
            Run::start(&mut plan, &wanted, &options, &mut Remotes::default(), &progress)?.finish(cancelled)?;
        if summary.failures.is_empty() && !summary.interrupted {
            views::prune(store, &graph)?;
            if summary.all_fresh() {
                unchanged::remember(&plan, &self.path("pipeline.toml"))?;
            }
        }
        Ok(summary)
    }

    /// Everything that is shown, links followed.
    pub fn shown(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        let root = self.path("store");
        let mut found = BTreeMap::new();
        for folder in ["tables", "page"] {
            read_below(&root.join(folder), &mut found);
        }
        let relative =
            |(path, bytes): (PathBuf, Vec<u8>)| (path.strip_prefix(&root).expect("below").to_path_buf(), bytes);
        found.into_iter().map(relative).collect()
    }
}

fn read_below(folder: &Path, found: &mut BTreeMap<PathBuf, Vec<u8>>) {
    for entry in fs::read_dir(folder).into_iter().flatten() {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            read_below(&path, found);
        } else {
            let bytes = fs::read(&path).expect("what a view shows can be read");
            found.insert(path, bytes);
        }
    }
}

/// Writes to a file that the store made read-only, as a careless program or a bad disk does.
pub fn overwrite(path: &Path, bytes: &[u8]) {
    let mut permissions = fs::metadata(path).expect("a file").permissions();
    std::os::unix::fs::PermissionsExt::set_mode(&mut permissions, 0o644);
    fs::set_permissions(path, permissions).expect("one's own");
    fs::write(path, bytes).expect("written");
}

/// Flips a bit and sets the modification time back.
pub fn flip_unseen(path: &Path, bit: usize) {
    let modified = fs::metadata(path).and_then(|metadata| metadata.modified()).expect("a time");
    let mut bytes = fs::read(path).expect("bytes");
    bytes[bit / 8] ^= 1 << (bit % 8);
    overwrite(path, &bytes);
    fs::File::options().append(true).open(path).expect("a file").set_modified(modified).expect("set");
}

/// How many tasks of a stage ran.
pub fn ran(summary: &Summary, stage: &str) -> usize {
    summary.stages.get(stage).map_or(0, |counts| counts.ran)
}

pub fn target(text: &str) -> Target {
    Target::parse(text).expect("a target")
}
