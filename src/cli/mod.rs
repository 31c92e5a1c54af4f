//! The command line: one file a subcommand. Exit codes and the broken-pipe rule are decided here alone.

mod clean;
mod estimate;
mod expected_text;
mod explain;
mod graph;
mod init;
mod query;
mod run;
mod say;
mod share;
mod status;
mod tables;

use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Result;
use clap::{CommandFactory, Parser, Subcommand};
use strata_stages::PlanError;

use crate::diagnostic::Diagnostic;
use crate::graph::{Graph, NodeSet, Target};
use crate::manifest::Manifest;
use crate::store::Store;
use crate::store::layout::Layout;

/// Measures how fine-tuning moves a language model along its alignment directions, layer by layer.
///
/// Reads pipeline.toml, runs the stages whose inputs changed, and keeps every table as Parquet below artifacts/.
#[derive(Parser)]
#[command(name = "strata", version, after_help = EXIT_CODES)]
struct Arguments {
    /// The pipeline file; artifacts/ lies beside it
    #[arg(long, global = true, default_value = "pipeline.toml", value_name = "FILE")]
    pipeline: PathBuf,
    /// Where results are kept [default: artifacts/ beside the pipeline file]
    #[arg(long, global = true, value_name = "DIR", env = "STRATA_STORE")]
    store: Option<PathBuf>,
    #[command(subcommand)]
    command: Command,
}

const EXIT_CODES: &str = "Exit codes: 0 done, 1 a task failed or the store could not be used, \
2 bad usage or a bad pipeline.toml, 130 stopped by Ctrl-C.";

#[derive(Subcommand)]
enum Command {
    Run(run::Run),
    Status(status::Status),
    Explain(explain::Explain),
    Graph(graph::GraphCommand),
    Tables(tables::Tables),
    Query(query::Query),
    Init(init::Init),
    Push(share::Push),
    Pull(share::Pull),
    Verify(share::Verify),
    Clean(clean::Clean),
    /// Print a completion script for a shell
    #[command(after_help = "Example:\n  strata completions bash > ~/.local/share/bash-completion/completions/strata")]
    Completions {
        shell: clap_complete::Shell,
    },
}

/// What a subcommand ends with when nothing is wrong with the command itself.
pub enum Outcome {
    Done,
    TaskFailed,
    Interrupted,
}

/// The pipeline and store that the global options name.
pub struct Workspace {
    pub manifest: Manifest,
    pub graph: Graph,
    pub store: Store,
}

/// Where to look, before anything is read.
pub struct Place {
    pipeline: PathBuf,
    store: Option<PathBuf>,
}

impl Place {
    pub fn open(&self) -> Result<Workspace> {
        let manifest = Manifest::load(&self.pipeline)?;
        let graph = Graph::build(&manifest.pipeline).map_err(|error| manifest.diagnose(&error))?;
        let store = Store::open(&self.store_root()?);
        Ok(Workspace { manifest, graph, store })
    }

    /// As `open`, where all that must be there of a model is its config.json, and of a dataset nothing.
    pub fn open_to_estimate(&self) -> Result<Workspace> {
        let manifest = Manifest::load_to_estimate(&self.pipeline)?;
        let graph = Graph::build_to_estimate(&manifest.pipeline).map_err(|error| manifest.diagnose(&error))?;
        let store = Store::open(&self.store_root()?);
        Ok(Workspace { manifest, graph, store })
    }

    /// The pipeline file as it was named.
    pub fn pipeline(&self) -> &Path {
        &self.pipeline
    }

    /// The paths of the store, which may not be there.
    pub fn layout(&self) -> Result<Layout> {
        Ok(Layout::new(&self.store_root()?))
    }

    fn store_root(&self) -> Result<PathBuf> {
        let beside = || self.pipeline.parent().unwrap_or(Path::new("")).join("artifacts");
        Ok(std::path::absolute(self.store.clone().unwrap_or_else(beside))?)
    }
}

impl Workspace {
    /// The nodes that targets name, and those they read.
    pub fn select(&self, targets: &[String]) -> Result<NodeSet> {
        Ok(self.graph.select(&parse_targets(targets)?).map_err(usage)?)
    }
}

pub fn parse_targets(targets: &[String]) -> Result<Vec<Target>> {
    Ok(targets.iter().map(|text| Target::parse(text)).collect::<Result<_, _>>().map_err(usage)?)
}

/// A complaint about an argument: no file to point at.
pub fn usage(error: PlanError) -> Diagnostic {
    let diagnostic = Diagnostic::plain(error.message);
    match error.help {
        Some(help) => diagnostic.help(help),
        None => diagnostic,
    }
}

pub fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            let _ = error.print();
            return ExitCode::from(if error.use_stderr() { 2 } else { 0 });
        }
    };
    let place = Place { pipeline: arguments.pipeline, store: arguments.store };
    let outcome = match arguments.command {
        Command::Run(command) => command.execute(&place),
        Command::Status(command) => command.execute(&place),
        Command::Explain(command) => command.execute(&place),
        Command::Graph(command) => command.execute(&place),
        Command::Tables(command) => command.execute(&place),
        Command::Query(command) => command.execute(&place),
        Command::Init(command) => command.execute(),
        Command::Push(command) => command.execute(&place),
        Command::Pull(command) => command.execute(&place),
        Command::Verify(command) => command.execute(&place),
        Command::Clean(command) => command.execute(&place),
        Command::Completions { shell } => {
            clap_complete::generate(shell, &mut Arguments::command(), "strata", &mut io::stdout());
            Ok(Outcome::Done)
        }
    };
    match outcome {
        Ok(Outcome::Done) => ExitCode::SUCCESS,
        Ok(Outcome::TaskFailed) => ExitCode::from(1),
        Ok(Outcome::Interrupted) => ExitCode::from(130),
        Err(error) if broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => match error.downcast_ref::<Diagnostic>() {
            Some(diagnostic) => {
                eprintln!("{diagnostic}");
                ExitCode::from(2)
            }
            None => {
                eprintln!("error: {error:#}");
                ExitCode::from(1)
            }
        },
    }
}

/// `strata query … | head` is no error.
fn broken_pipe(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| cause.downcast_ref::<io::Error>().is_some_and(|e| e.kind() == io::ErrorKind::BrokenPipe))
}
