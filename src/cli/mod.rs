//! The command line: one file a subcommand. Exit codes and the broken-pipe rule are decided here alone.

mod bring;
mod complete;
mod diff;
mod doctor;
mod du;
mod estimate;
mod explain;
mod export;
mod gc;
mod graph;
mod hub;
mod init;
mod interrupt;
mod key;
mod pin;
mod plan;
mod query;
mod run;
mod sample;
mod say;
mod share;
mod sharing;
mod show;
mod slurm;
mod status;
mod tables;
mod verify;
mod work;

use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::SystemTime;

use anyhow::{Result, bail};
use clap::builder::styling::AnsiColor;
use clap::{ColorChoice, CommandFactory, FromArgMatches, Parser, Subcommand, ValueEnum, ValueHint};
use clap_complete::CompleteEnv;
use strata_stages::PlanError;

use self::say::say;
use crate::diagnostic::Diagnostic;
use crate::graph::{From, Graph, NodeSet, Target};
use crate::manifest::{Manifest, OfHub, name};
use crate::plan::Plan;
use crate::progress::Verbosity;
use crate::store::Store;
use crate::store::layout::Layout;
use crate::store::signing::{Signer, Trust};

/// Measures how fine-tuning moves a language model along its alignment directions, layer by layer.
///
/// Reads pipeline.toml, runs the stages whose inputs changed, and keeps every table as Parquet below artifacts/.
#[derive(Parser)]
#[command(name = "strata", version, after_help = EXIT_CODES)]
struct Arguments {
    /// The pipeline file; artifacts/ lies beside it [default: pipeline.toml here, or in the nearest folder above]
    #[arg(long, global = true, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pipeline: Option<PathBuf>,
    /// Where results are kept [default: artifacts/ beside the pipeline file]
    #[arg(long, global = true, value_name = "DIR", env = "STRATA_STORE", value_hint = ValueHint::DirPath)]
    store: Option<PathBuf>,
    /// Print nothing but errors and what was asked for
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    quiet: bool,
    /// Print more: each task as it ends, each node instead of each stage
    #[arg(short, long, global = true)]
    verbose: bool,
    /// Colours on standard error and in help; `auto` also heeds NO_COLOR
    #[arg(long, global = true, value_enum, default_value = "auto", value_name = "WHEN")]
    color: ColorChoice,
    #[command(subcommand)]
    command: Command,
}

const EXIT_CODES: &str = "Exit codes: 0 done, 1 a task failed or the store could not be used, \
2 bad usage or a bad pipeline.toml, 130 stopped by Ctrl-C.";

#[derive(Subcommand)]
enum Command {
    Run(run::Run),
    Status(status::Status),
    Doctor(doctor::Doctor),
    Explain(explain::Explain),
    Show(show::Show),
    Diff(diff::Diff),
    Graph(graph::GraphCommand),
    Plan(plan::PlanCommand),
    Work(work::Work),
    Tables(tables::Tables),
    Query(query::Query),
    Init(init::Init),
    Push(share::Push),
    Pull(share::Pull),
    Verify(verify::Verify),
    Gc(gc::Gc),
    Pin(pin::PinCommand),
    Export(export::Export),
    Du(du::Du),
    Hub(hub::HubCommand),
    Key(key::KeyCommand),
    /// Print what a shell needs to complete commands, stages, tables and names
    #[command(after_help = "Examples:
  source <(strata completions bash)     in ~/.bashrc; likewise zsh
  strata completions fish | source      in ~/.config/fish/config.fish")]
    Completions {
        shell: clap_complete::Shell,
    },
}

/// What a subcommand ends with when nothing is wrong with the command itself.
pub enum Outcome {
    Done,
    TaskFailed,
    /// The pipeline has faults, which were printed.
    Unsound,
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
    pub verbosity: Verbosity,
}

impl Place {
    pub fn open(&self) -> Result<Workspace> {
        self.open_checked(Manifest::load(&self.pipeline)?)
    }

    fn open_checked(&self, manifest: Manifest) -> Result<Workspace> {
        strata_stages::processor::check().map_err(Diagnostic::plain)?;
        let graph = Graph::build(&manifest.pipeline, &manifest.lock).map_err(|error| manifest.diagnose(&error))?;
        graph.check_models(&manifest.pipeline).map_err(|error| manifest.diagnose(&error))?;
        let mut store = Store::at(self.layout()?);
        store.trust = Trust { keys: manifest.trust.clone(), signer: Signer::own()? };
        Ok(Workspace { manifest, graph, store })
    }

    /// As `open`, where all that must be there of a model is its config.json, and of a dataset nothing.
    pub fn open_to_estimate(&self) -> Result<Workspace> {
        self.open_to_estimate_with(OfHub::default())
    }

    /// The same, with what the hub said of repositories whose files are not here.
    fn open_to_estimate_with(&self, of_hub: OfHub) -> Result<Workspace> {
        let manifest = Manifest::load_to_estimate(&self.pipeline, of_hub)?;
        let graph = Graph::build_to_estimate(&manifest.pipeline, &manifest.lock);
        let graph = graph.map_err(|error| manifest.diagnose(&error))?;
        graph.check_models(&manifest.pipeline).map_err(|error| manifest.diagnose(&error))?;
        let mut store = Store::at(self.layout()?);
        store.trust = Trust { keys: manifest.trust.clone(), signer: Signer::own()? };
        Ok(Workspace { manifest, graph, store })
    }

    /// Says what was done, unless nothing but errors was asked for.
    pub fn note(&self, text: impl std::fmt::Display) -> Result<()> {
        if self.verbosity != Verbosity::Quiet {
            say!("{text}");
        }
        Ok(())
    }

    /// The pipeline file as it was named or found.
    pub fn pipeline(&self) -> &Path {
        &self.pipeline
    }

    /// The paths of the store, which may not be there, with this pipeline's views.
    pub fn layout(&self) -> Result<Layout> {
        Layout::of_pipeline(&self.store_root()?, &self.pipeline, name::of_file(&self.pipeline).as_deref())
    }

    fn store_root(&self) -> Result<PathBuf> {
        let beside = || self.pipeline.parent().unwrap_or(Path::new("")).join("artifacts");
        Ok(std::path::absolute(self.store.clone().unwrap_or_else(beside))?)
    }
}

impl Workspace {
    /// The plan of a target that is finished, with what it reads.
    ///
    /// # Errors
    /// When some of it is not finished, or its objects are in a remote and not here.
    pub fn finished(&self, target: &str) -> Result<(NodeSet, Plan<'_>)> {
        let wanted = self.select(&[target.to_string()])?;
        let mut plan = Plan::new(&self.graph, &self.store);
        plan.expand_all(&wanted)?;
        if let Some(id) = wanted.iter().find(|id| !plan.state(*id).is_here()) {
            let label = self.graph.node(id).label();
            if plan.state(id).outputs().is_some() {
                bail!("the results of {label} are in a remote; `strata pull {target} --with-inputs` brings them");
            }
            bail!("{label} is not finished; `strata run {target}` finishes it");
        }
        Ok((wanted, plan))
    }

    /// Writes what the files were that a plan read, for who has them not.
    pub fn write_lock(&self, plan: &Plan) -> Result<()> {
        let inputs = self.graph.nodes().flat_map(|(_, node)| node.inputs.iter().flat_map(|input| input.from.each()));
        let files = inputs.filter_map(|from| match from {
            From::Files { files, .. } => Some(files),
            _ => None,
        });
        let known = files.flat_map(|files| files.iter().map(|(_, path)| path.as_path()));
        self.manifest.lock.update(known, &plan.files_read(), &self.store.disk)
    }

    /// The nodes whose tables a command is to show: those that targets name; without targets, those of the stages that have a section.
    pub fn asked(&self, targets: &[String]) -> Result<NodeSet> {
        let mut asked = self.graph.none();
        if targets.is_empty() {
            let sections = &self.manifest.pipeline.sections;
            let nodes = self.graph.nodes().filter(|(_, node)| sections.iter().any(|(name, _)| name == node.stage.name));
            nodes.for_each(|(id, _)| asked.insert(id));
            return Ok(asked);
        }
        for target in parse_targets(targets)? {
            self.graph.find(&target).map_err(usage)?.into_iter().for_each(|id| asked.insert(id));
        }
        Ok(asked)
    }

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
    // A shell that asks for the next word is answered, and the program ends here.
    CompleteEnv::with_factory(Arguments::command).var(complete::VARIABLE).complete();
    let color = color_before_parsing(std::env::args_os());
    let parsed = Arguments::command().color(color).try_get_matches();
    let arguments = match parsed.and_then(|matches| Arguments::from_arg_matches(&matches)) {
        Ok(arguments) => arguments,
        Err(error) => {
            let _ = error.print();
            return ExitCode::from(if error.use_stderr() { 2 } else { 0 });
        }
    };
    match arguments.color {
        ColorChoice::Auto => anstream::ColorChoice::Auto,
        ColorChoice::Always => anstream::ColorChoice::Always,
        ColorChoice::Never => anstream::ColorChoice::Never,
    }
    .write_global();
    let verbosity = match (arguments.quiet, arguments.verbose) {
        (true, _) => Verbosity::Quiet,
        (_, true) => Verbosity::Verbose,
        _ => Verbosity::Usual,
    };
    let pipeline = arguments.pipeline.unwrap_or_else(nearest_pipeline);
    let place = Place { pipeline, store: arguments.store, verbosity };
    let outcome = match arguments.command {
        Command::Run(command) => command.execute(&place),
        Command::Status(command) => command.execute(&place),
        Command::Doctor(command) => command.execute(&place),
        Command::Explain(command) => command.execute(&place),
        Command::Diff(command) => command.execute(&place),
        Command::Export(command) => command.execute(&place),
        Command::Show(command) => command.execute(&place),
        Command::Graph(command) => command.execute(&place),
        Command::Plan(command) => command.execute(&place),
        Command::Work(command) => command.execute(&place),
        Command::Tables(command) => command.execute(&place),
        Command::Query(command) => command.execute(&place),
        Command::Init(command) => command.execute(&place),
        Command::Push(command) => command.execute(&place),
        Command::Pull(command) => command.execute(&place),
        Command::Verify(command) => command.execute(&place),
        Command::Gc(command) => command.execute(&place),
        Command::Pin(command) => command.execute(&place),
        Command::Du(command) => command.execute(&place),
        Command::Hub(command) => command.execute(&place),
        Command::Key(command) => command.execute(&place),
        Command::Completions { shell } => complete::print_function(shell),
    };
    match outcome {
        Ok(Outcome::Done) => ExitCode::SUCCESS,
        Ok(Outcome::TaskFailed) => ExitCode::from(1),
        Ok(Outcome::Unsound) => ExitCode::from(2),
        Ok(Outcome::Interrupted) => ExitCode::from(130),
        Err(error) if broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => match error.downcast_ref::<Diagnostic>() {
            Some(diagnostic) => {
                anstream::eprintln!("{}", diagnostic.styled());
                ExitCode::from(2)
            }
            None => {
                complain(format_args!("{error:#}"));
                ExitCode::from(1)
            }
        },
    }
}

/// `error: …` on standard error, in colour where that is wanted.
pub fn complain(text: impl std::fmt::Display) {
    let red = AnsiColor::BrightRed.on_default().bold();
    anstream::eprintln!("{red}error{red:#}: {text}");
}

/// What `--color` says, for help and for errors in the arguments themselves.
fn color_before_parsing(arguments: impl Iterator<Item = OsString>) -> ColorChoice {
    let words: Vec<String> = arguments.map(|word| word.to_string_lossy().into_owned()).collect();
    let apart = words.windows(2).find(|pair| pair[0] == "--color").map(|pair| pair[1].as_str());
    let said = apart.or_else(|| words.iter().find_map(|word| word.strip_prefix("--color=")));
    said.and_then(|said| ColorChoice::from_str(said, true).ok()).unwrap_or_default()
}

/// pipeline.toml in this folder or in the nearest one above that has it; of this folder where none does.
fn nearest_pipeline() -> PathBuf {
    let here = PathBuf::from("pipeline.toml");
    if here.exists() {
        return here;
    }
    let above = std::env::current_dir().ok().and_then(|folder| {
        folder.ancestors().skip(1).map(|above| above.join("pipeline.toml")).find(|pipeline| pipeline.is_file())
    });
    above.unwrap_or(here)
}

/// A time for people, by this machine's clock: `2026-11-24 20:13`.
pub fn when(time: SystemTime) -> String {
    chrono::DateTime::<chrono::Local>::from(time).format("%Y-%m-%d %H:%M").to_string()
}

/// `strata query … | head` is no error.
fn broken_pipe(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| cause.downcast_ref::<io::Error>().is_some_and(|e| e.kind() == io::ErrorKind::BrokenPipe))
}
