//! `strata push` and `strata pull`

use std::path::Path;

use anyhow::{Result, bail};
use clap::Args;
use clap_complete::ArgValueCompleter;
use strata_stages::PlanError;

use super::{Outcome, Place, Workspace, complete, interrupt, sharing, usage};
use crate::manifest::remotes::RemoteSetting;
use crate::plan::Plan;
use crate::progress::Progress;
use crate::remote::background;
use crate::remote::lookup::Lookup;
use crate::run::rounds::Work;
use crate::run::{self, Options, Remotes, Summary};

/// Send the pipeline's results to a remote
///
/// What is sent is what the targets show; with everything behind it where there are no targets.
#[derive(Args)]
#[command(after_help = "Examples:
  strata push                                  everything, to the remotes of pipeline.toml with push = true
  strata push projection_summary --to team     one stage, to [remotes.team]
  strata push --to /mnt/team/strata
  AWS_ENDPOINT=… AWS_ACCESS_KEY_ID=… AWS_SECRET_ACCESS_KEY=… strata push --to s3://bucket/strata")]
pub struct Push {
    /// Stages, or STAGE[NAME,NAME…]; all where none is given
    #[arg(add = ArgValueCompleter::new(complete::targets))]
    targets: Vec<String>,
    /// A remote of pipeline.toml, a folder, file://…, s3://bucket/prefix, gs://… or az://…
    #[arg(long, value_name = "REMOTE")]
    to: Option<String>,
}

/// Fetch results from a remote
///
/// What is fetched is what the targets show, and not what it was made from. Models and datasets need not be here where strata.lock, which
/// runs with remotes write beside pipeline.toml, says what they were.
#[derive(Args)]
#[command(after_help = "Examples:
  strata pull                                  every stage that pipeline.toml names, from its remotes
  strata pull projection_summary               one stage, without the hidden states behind it
  strata pull report --with-inputs             and everything that it was made from
  strata pull --from /mnt/team/strata && strata run      computes only what the folder lacks")]
pub struct Pull {
    /// Stages, or STAGE[NAME,NAME…]; without any, the stages that have a section
    #[arg(add = ArgValueCompleter::new(complete::targets))]
    targets: Vec<String>,
    /// A remote of pipeline.toml, a folder, file://…, s3://bucket/prefix, gs://…, az://… or https://…
    #[arg(long, value_name = "REMOTE")]
    from: Option<String>,
    /// Everything that the targets were made from too
    #[arg(long)]
    with_inputs: bool,
}

/// The remote that a command names: one of pipeline.toml, or a URL.
pub fn named(workspace: &Workspace, text: &str) -> Result<RemoteSetting> {
    let remotes = &workspace.manifest.remotes;
    if let Some(found) = remotes.iter().find(|setting| setting.name == text) {
        return Ok(RemoteSetting { url: found.url.clone(), ..RemoteSetting::of_url(&found.name) });
    }
    if text.contains('/') || text.contains("://") || Path::new(text).is_dir() || remotes.is_empty() {
        return Ok(RemoteSetting::of_url(text));
    }
    let names = remotes.iter().map(|setting| setting.name.as_str());
    Err(usage(PlanError::unknown("", "remote", text, names)).into())
}

/// A target that is a place: the option that names places was left out.
fn check(targets: &[String], option: &str) -> Result<()> {
    match targets.iter().find(|target| target.contains('/')) {
        Some(place) => {
            let error = PlanError::new("", format!("\"{place}\" is no stage"));
            Err(usage(error.help(format!("did you mean {option} {place}?"))).into())
        }
        None => Ok(()),
    }
}

fn megabytes(bytes: u64) -> f64 {
    bytes as f64 / 1e6
}

impl Push {
    pub fn execute(&self, place: &Place) -> Result<Outcome> {
        check(&self.targets, "--to")?;
        let workspace = place.open()?;
        let remotes = match &self.to {
            Some(text) => vec![named(&workspace, text)?],
            None => workspace.manifest.remotes.iter().filter(|setting| setting.push).cloned().collect(),
        };
        if remotes.is_empty() {
            let error = PlanError::new("", "there is nowhere to send results to");
            let help = "name a place with --to, or write [remotes.NAME] with a url and push = true in pipeline.toml";
            return Err(usage(error.help(help)).into());
        }
        interrupt::listen("stopping; again to stop at once")?;
        workspace.store.prepare()?;
        let _lock = workspace.store.lock_shared()?;
        let mut plan = Plan::new(&workspace.graph, &workspace.store);
        plan.expand_all(&workspace.select(&self.targets)?)?;
        // What is sent is of use to who has not the files: the lock tells him what they were.
        workspace.write_lock(&plan)?;
        let wanted = if self.targets.is_empty() { workspace.graph.all() } else { workspace.asked(&self.targets)? };
        let unfinished = wanted.iter().filter(|id| !plan.state(*id).is_here()).count();
        let progress = Progress::new(place.verbosity);
        let to: Vec<&RemoteSetting> = remotes.iter().collect();
        let keys: Vec<_> = wanted.iter().flat_map(|id| plan.state(id).done()).collect();
        // A place that is not there is an error, also where nothing is to go there.
        for setting in to.iter().filter(|_| keys.is_empty()) {
            background::prepare(setting)?;
        }
        let (sent, ()) = sharing::send_beside(&workspace.store, &to, &progress, &interrupt::cancelled, |sending| {
            sending.iter().for_each(|sending| keys.iter().for_each(|key| sending.send(*key, false)));
            ((), sending)
        })?;
        let rest = if unfinished > 0 { format!("; {unfinished} nodes are not finished here") } else { String::new() };
        for (setting, done) in remotes.iter().zip(&sent) {
            let (tasks, objects, present) = (done.tasks, done.objects, done.present);
            let sent = format!("pushed {tasks} tasks ({objects} objects, {:.1} MB)", megabytes(done.bytes));
            place.note(format_args!("{sent}; {present} were there already{rest}"))?;
            if let Some(why) = done.failures.first() {
                bail!("{} tasks were not sent to {}: {why}", done.unsent, setting.name);
            }
        }
        Ok(if interrupt::cancelled() { Outcome::Interrupted } else { Outcome::Done })
    }
}

impl Pull {
    pub fn execute(&self, place: &Place) -> Result<Outcome> {
        check(&self.targets, "--from")?;
        let workspace = place.open()?;
        let settings: Vec<RemoteSetting> = match &self.from {
            Some(text) => vec![named(&workspace, text)?],
            // Asked for by hand, one that does not answer is an error.
            None => {
                let own = workspace.manifest.remotes.iter();
                own.map(|own| RemoteSetting { url: own.url.clone(), ..RemoteSetting::of_url(&own.name) }).collect()
            }
        };
        if settings.is_empty() {
            let error = PlanError::new("", "there is nowhere to fetch results from");
            let help = "name a place with --from, or write [remotes.NAME] with a url in pipeline.toml";
            return Err(usage(error.help(help)).into());
        }
        let fetched = fetch(place, &workspace, &settings, &self.targets, self.with_inputs)?;
        place.note(format_args!("pulled {}", fetched.words))?;
        fetched.outcome()
    }
}

/// What remotes were asked for, and what came.
pub struct Fetched {
    pub words: String,
    /// How many of the tasks that were asked for are not here.
    pub absent: usize,
    refusals: Vec<String>,
    summary: Summary,
}

impl Fetched {
    /// # Errors
    /// When something in a remote was refused or could not be kept.
    pub fn outcome(self) -> Result<Outcome> {
        match self.refusals.as_slice() {
            [] => {}
            [only] => bail!("{only}"),
            [first, rest @ ..] => bail!("{first}; and {} more were refused", rest.len()),
        }
        if let Some((label, error)) = self.summary.failures.into_iter().next() {
            return Err(error.context(label));
        }
        Ok(if self.summary.interrupted { Outcome::Interrupted } else { Outcome::Done })
    }
}

/// Brings what targets show from remotes, and shows it.
///
/// # Errors
/// When the remotes cannot be asked, or the store cannot be written.
pub fn fetch(
    place: &Place,
    workspace: &Workspace,
    settings: &[RemoteSetting],
    targets: &[String],
    with_inputs: bool,
) -> Result<Fetched> {
    interrupt::listen("stopping; again to stop at once")?;
    workspace.store.prepare()?;
    let _lock = workspace.store.lock_shared()?;
    workspace.store.register(place.pipeline(), &workspace.graph)?;
    let wanted = workspace.select(targets)?;
    let here = if with_inputs { wanted.clone() } else { workspace.asked(targets)? };
    let force = workspace.graph.none();
    let options = Options { jobs: 1, keep_going: true, force, share: None, here, compute: false };
    let progress = Progress::new(place.verbosity);
    let mut lookup = Lookup::new(settings)?;
    lookup.check()?;
    let mut remotes = Remotes { settings, lookup: Some(lookup), sending: Vec::new() };
    let work = Work { graph: &workspace.graph, store: &workspace.store, wanted: &wanted };
    let pulled = run::rounds::run(work, &options, &mut remotes, &progress, &interrupt::cancelled, &mut |_| ());
    progress.finish();
    let (plan, summary) = pulled?;
    let fetched: usize = summary.stages.values().map(|counts| counts.fetched).sum();
    let present: usize = options.here.iter().map(|id| plan.state(id).done().len()).sum::<usize>() - fetched;
    let absent: usize = options.here.iter().map(|id| plan.state(id).stale().count()).sum();
    let waiting = options.here.iter().filter(|id| plan.state(*id).is_waiting()).count();
    let mut rest = String::new();
    if absent > 0 {
        rest.push_str(&format!("; {absent} are in no remote"));
    }
    if waiting > 0 {
        rest.push_str(&format!("; {waiting} nodes wait for what is in no remote"));
    }
    let megabytes = megabytes(summary.bytes_fetched);
    let words = format!("{fetched} tasks ({megabytes:.1} MB); {present} were there already{rest}");
    let refusals = remotes.lookup.iter().flat_map(Lookup::refusals).map(str::to_string).collect();
    Ok(Fetched { words, absent: absent + waiting, refusals, summary })
}
