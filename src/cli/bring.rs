//! Before a run: what pipeline.toml names of the hub is brought here, as far as it is needed.

use anyhow::Result;
use strata_stages::PlanError;
use strata_stages::contract::toml_path::TomlPath;

use super::{Place, Workspace, interrupt};
use crate::graph::{From, NodeSet};
use crate::hub::bring::{Bringing, Brought, Scope};
use crate::hub::environment::Environment;
use crate::hub::snapshot::Pins;
use crate::hub::{Failure, Use};
use crate::manifest::hub::{self, Named};
use crate::manifest::remotes::RemoteSetting;
use crate::manifest::{Manifest, OfHub};
use crate::plan::Plan;
use crate::progress::{Progress, Verbosity};
use crate::remote::lookup::Lookup;
use crate::run::rounds::{self, Work};
use crate::run::{Options, Remotes};
use crate::store::disk::Disk;

/// Which of the pipeline's repositories are brought.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Which {
    All,
    /// But for those of which strata.lock says what every file was: their results may be in the store or in a remote.
    Unknown,
}

/// How the hub is asked.
struct How {
    scope: Scope,
    offline: bool,
    newest: bool,
}

/// Why a repository cannot be had.
pub struct Trouble {
    /// Where it is named.
    pub at: TomlPath,
    pub why: Why,
}

pub enum Why {
    /// What is written of it is wrong.
    Mistake(PlanError),
    /// The hub or the disk fails.
    Failed(anyhow::Error),
}

impl Trouble {
    fn of(named: &Named, failure: Failure) -> Trouble {
        let why = match failure {
            Failure::Wrong { message, help, key } => {
                let mut mistake = PlanError::new(named.at.key(key.unwrap_or(hub::KEY)), message);
                mistake.help = help;
                Why::Mistake(mistake)
            }
            other => Why::Failed(other.into()),
        };
        Trouble { at: named.at.key(hub::KEY), why }
    }

    pub fn into_error(self, manifest: &Manifest) -> anyhow::Error {
        match self.why {
            Why::Mistake(mistake) => manifest.diagnose(&mistake).into(),
            Why::Failed(error) => error,
        }
    }
}

impl Place {
    /// Has the files of the pipeline's repositories here, and strata.lock say what they are, which is given back. `None` where the user
    /// stopped it.
    ///
    /// # Errors
    /// When one cannot be had: at the line that names it, where that is what is wrong.
    pub fn bring(&self, offline: bool, which: Which) -> Result<Option<Pins>> {
        let manifest = Manifest::parse(&self.pipeline)?;
        let mut uses = manifest.hub_uses().map_err(|error| manifest.diagnose(&error))?;
        if which == Which::Unknown {
            uses.retain(|named| !manifest.is_known(&named.asked));
        }
        let how = How { scope: Scope::All, offline, newest: false };
        let Some(brought) = self.ask(&manifest, &uses, how)? else { return Ok(None) };
        self.keep_pins(&manifest, &uses, brought).map(Some)
    }

    /// Opens the pipeline with these pins, whether or not strata.lock could be written.
    ///
    /// # Errors
    /// As for [`Place::open`].
    pub fn open_with_pins(&self, pins: Pins) -> Result<Workspace> {
        let mut manifest = Manifest::parse(&self.pipeline)?;
        manifest.lock.pins = pins;
        self.open_checked(manifest.checked()?)
    }

    /// Pins some of the pipeline's repositories, of `uses`, to what they are on the hub now. False where the user stopped it.
    ///
    /// # Errors
    /// As for [`Place::bring`].
    pub fn update_pins(&self, manifest: &Manifest, uses: &[Named]) -> Result<bool> {
        let how = How { scope: Scope::Configs, offline: false, newest: true };
        let Some(brought) = self.ask(manifest, uses, how)? else { return Ok(false) };
        self.keep_pins(manifest, uses, brought)?;
        Ok(true)
    }

    /// What the hub says of repositories that are not here, whose configurations alone are fetched, and what is wrong with those of which it
    /// says nothing. `None` where the user stopped it.
    ///
    /// # Errors
    /// When the pipeline file cannot be read.
    pub fn ask_hub(&self, offline: bool) -> Result<Option<(OfHub, Vec<Trouble>)>> {
        let manifest = Manifest::parse(&self.pipeline)?;
        // What is no name at all is said when the file is checked.
        let uses = manifest.sound_hub_uses();
        let (mut of_hub, mut troubles) = (OfHub::default(), Vec::new());
        if uses.is_empty() {
            return Ok(Some((of_hub, troubles)));
        }
        interrupt::listen("stopping; what came so far is kept")?;
        let asked: Vec<Use> = uses.iter().map(|named| named.asked.clone()).collect();
        let how = How { scope: Scope::Configs, offline, newest: false };
        let each = self.bringing(how).ask(&asked, &manifest.lock.pins);
        for (named, answer) in uses.iter().zip(each) {
            match answer {
                Ok(Brought { pin, missing }) => {
                    of_hub.pins.insert(named.asked.address(), pin);
                    of_hub.missing.insert(named.asked.address(), missing);
                }
                Err(Failure::Stopped) => return Ok(None),
                Err(failure) => troubles.push(Trouble::of(named, failure)),
            }
        }
        Ok(Some((of_hub, troubles)))
    }

    fn bringing(&self, how: How) -> Bringing<'static> {
        let How { scope, offline, newest } = how;
        let (environment, cancelled) = (Environment::own(), &interrupt::cancelled);
        Bringing { environment, scope, verbosity: self.verbosity, offline, newest, cancelled }
    }

    fn ask(&self, manifest: &Manifest, uses: &[Named], how: How) -> Result<Option<Vec<Brought>>> {
        if uses.is_empty() {
            return Ok(Some(Vec::new()));
        }
        interrupt::listen("stopping; what came so far is kept")?;
        let asked: Vec<Use> = uses.iter().map(|named| named.asked.clone()).collect();
        match self.bringing(how).bring(&asked, &manifest.lock.pins) {
            Ok(brought) => Ok(Some(brought)),
            Err((_, Failure::Stopped)) => Ok(None),
            Err((place, failure)) => Err(Trouble::of(&uses[place], failure).into_error(manifest)),
        }
    }

    /// Writes what is pinned, and says what is news. Pins of what pipeline.toml does not name any more go.
    fn keep_pins(&self, manifest: &Manifest, uses: &[Named], brought: Vec<Brought>) -> Result<Pins> {
        let known = &manifest.lock.pins;
        let named = manifest.hub_uses().map_err(|error| manifest.diagnose(&error))?;
        let named = named.iter().map(|named| named.asked.address());
        let mut pins: Pins =
            named.filter_map(|address| known.get(&address).cloned().map(|pin| (address, pin))).collect();
        let mut news = Vec::new();
        for (Named { asked, .. }, Brought { pin, .. }) in uses.iter().zip(brought) {
            let now = pin.commit.clone();
            let before = pins.insert(asked.address(), pin).map(|pin| pin.commit);
            if before.as_ref() != Some(&now) {
                let (name, revision, commit) = (asked.name(), asked.revision.as_str(), now.short());
                let before = before.map_or_else(String::new, |before| format!(", and was {}", before.short()));
                news.push(format!("{name}: {revision} is {commit}{before}"));
            }
        }
        // A colleague's pipeline may lie where one cannot write.
        let kept = match manifest.lock.pin(pins.clone(), &Disk::default()) {
            Ok(()) => "strata.lock keeps it".to_string(),
            Err(error) => format!("strata.lock does not keep it: {error:#}"),
        };
        if self.verbosity != Verbosity::Quiet {
            news.iter().for_each(|text| eprintln!("{text}; {kept}"));
        }
        Ok(pins)
    }

    /// Opens the pipeline to run it, with what it needs of the hub. Of repositories that strata.lock knows file by file, nothing is fetched
    /// until a task has to run that reads them. `None` where the user stopped it.
    ///
    /// # Errors
    /// As for [`Place::bring`] and [`Place::open`].
    pub fn open_to_run(
        &self,
        targets: &[String],
        offline: bool,
        settings: impl Fn(&Workspace) -> Vec<RemoteSetting>,
    ) -> Result<Option<Workspace>> {
        let manifest = Manifest::parse(&self.pipeline)?;
        if manifest.hub_uses().map_err(|error| manifest.diagnose(&error))?.is_empty() {
            // A file that names ten thousand datasets is read once.
            return Ok(Some(self.open_checked(manifest.checked()?)?));
        }
        let Some(pins) = self.bring(offline, Which::Unknown)? else { return Ok(None) };
        let workspace = self.open_with_pins(pins)?;
        if !workspace.waits_for_hub(&workspace.graph.all(), None) {
            return Ok(Some(workspace));
        }
        let wanted = workspace.select(targets)?;
        if workspace.needs_hub(self, &wanted, &settings(&workspace))? {
            let Some(pins) = self.bring(offline, Which::All)? else { return Ok(None) };
            return Ok(Some(self.open_with_pins(pins)?));
        }
        Ok(Some(workspace))
    }
}

impl Workspace {
    /// Whether some nodes read files of the hub's that are not here; with a plan, whether some that are not finished do.
    fn waits_for_hub(&self, nodes: &NodeSet, plan: Option<&Plan>) -> bool {
        let cache = &Environment::own().cache;
        let unfinished = nodes.iter().filter(|id| plan.is_none_or(|plan| plan.state(*id).outputs().is_none()));
        let mut inputs = unfinished.flat_map(|id| &self.graph.node(id).inputs);
        inputs.any(|input| {
            input.from.each().iter().any(|from| match from {
                From::Files { files, .. } => files.iter().any(|(_, path)| path.starts_with(cache) && !path.exists()),
                _ => false,
            })
        })
    }

    /// Whether tasks that read what is not here are to run, after all that remotes have is known.
    fn needs_hub(&self, place: &Place, wanted: &NodeSet, settings: &[RemoteSetting]) -> Result<bool> {
        self.store.prepare()?;
        let _lock = self.store.lock_shared()?;
        let (none, progress) = (self.graph.none(), Progress::new(place.verbosity));
        let options =
            Options { jobs: 1, keep_going: true, force: none.clone(), share: None, here: none, compute: false };
        let lookup = if settings.is_empty() { None } else { Some(Lookup::new(settings)?) };
        let mut remotes = Remotes { settings, lookup, sending: Vec::new() };
        let work = Work { graph: &self.graph, store: &self.store, wanted };
        let (plan, _) = rounds::run(work, &options, &mut remotes, &progress, &interrupt::cancelled, &mut |_| ())?;
        progress.finish();
        Ok(self.waits_for_hub(wanted, Some(&plan)))
    }
}
