//! Makes the files of repositories be here: asks the hub what a revision is, and fetches what is read and not in the cache.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::{self, FuturesUnordered};

use super::cache::Cache;
use super::client::Client;
use super::download::download;
use super::environment::Environment;
use super::failure::Failure;
use super::listing::Listing;
use super::names::{Commit, FileName, Revision};
use super::shown::{Shown, size};
use super::snapshot::{Pins, State, look, pinned_commit, shards};
use super::{Pin, Reading, Use, choose, split};
use crate::progress::Verbosity;
use crate::remote::lookup::runtime;

/// Files on their way at once.
const AT_ONCE: usize = 8;
const LISTINGS_AT_ONCE: usize = 16;
/// How often it is looked whether the user asked to stop.
const LOOK: Duration = Duration::from_millis(50);

/// How much is to be here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    All,
    /// What a pipeline cannot be planned without: the models' configurations.
    Configs,
}

/// What became of a use.
pub struct Brought {
    pub pin: Pin,
    /// Bytes that are not here, for [`Scope::Configs`].
    pub missing: u64,
}

/// Where files come from and how much is said of it.
pub struct Bringing<'e> {
    pub environment: &'e Environment,
    pub scope: Scope,
    pub verbosity: Verbosity,
    /// Nothing is asked of the hub.
    pub offline: bool,
    /// Whether revisions are what they are on the hub now, whatever they were pinned to and whatever is here.
    pub newest: bool,
    pub cancelled: &'e dyn Fn() -> bool,
}

impl Bringing<'_> {
    /// Brings each use, in order; what is complete costs no request. The first that fails ends it, with its place.
    ///
    /// # Errors
    /// See [`Failure`].
    pub fn bring(&self, uses: &[Use], pins: &Pins) -> Result<Vec<Brought>, (usize, Failure)> {
        let each = self.ask(uses, pins).into_iter().enumerate();
        // One that was given up because another failed says nothing of itself.
        let (given_up, failed): (Vec<_>, Vec<_>) = each.partition(|(_, one)| matches!(one, Err(Failure::Stopped)));
        let each = failed.into_iter().chain(given_up).map(|(place, one)| match one {
            Ok(brought) => Ok((place, brought)),
            Err(failure) => Err((place, failure)),
        });
        let mut brought = each.collect::<Result<Vec<_>, _>>()?;
        brought.sort_by_key(|(place, _)| *place);
        Ok(brought.into_iter().map(|(_, brought)| brought).collect())
    }

    /// The same, with what became of each. A large file that fails ends the others: they count as stopped.
    pub fn ask(&self, uses: &[Use], pins: &Pins) -> Vec<Result<Brought, Failure>> {
        let mut each: BTreeMap<usize, Result<Brought, Failure>> = BTreeMap::new();
        let mut absent = Vec::new();
        for (place, asked) in uses.iter().enumerate() {
            let here = look(asked, pins, self.environment);
            match (here.pin, here.state) {
                _ if self.newest => absent.push(place),
                (Some(pin), State::Complete) => drop(each.insert(place, Ok(Brought { pin, missing: 0 }))),
                // Without the hub it is taken as it lies.
                (Some(pin), State::Enough) if self.is_offline() => {
                    each.insert(place, Ok(Brought { pin, missing: 0 }));
                }
                _ => absent.push(place),
            }
        }
        if self.is_offline() {
            each.extend(absent.drain(..).map(|place| (place, Err(self.not_here(&uses[place])))));
        }
        if !absent.is_empty() {
            match runtime() {
                Ok(runtime) => each.extend(runtime.block_on(self.fetch(uses, &absent, pins))),
                Err(error) => drop(each.insert(absent[0], Err(Failure::Here(error)))),
            }
        }
        (0..uses.len()).map(|place| each.remove(&place).unwrap_or(Err(Failure::Stopped))).collect()
    }

    fn is_offline(&self) -> bool {
        self.offline || self.environment.offline
    }

    fn not_here(&self, asked: &Use) -> Failure {
        let (name, revision) = (asked.name(), asked.revision.as_str());
        let why = if self.offline { "--offline" } else { "HF_HUB_OFFLINE" };
        let what = asked.kind.singular();
        let kind = if what == "dataset" { " --repo-type dataset" } else { "" };
        Failure::wrong(format!("the {what} {name} ({revision}) is not whole in {}", self.environment.cache.display()))
            .help(format!(
                "{why} fetches nothing; without it a run fetches it, and `hf download{kind} {name}` does too"
            ))
    }

    /// Of those places that it says nothing of, another's failure or the user stopped the work.
    async fn fetch(&self, uses: &[Use], absent: &[usize], pins: &Pins) -> Vec<(usize, Result<Brought, Failure>)> {
        let shown = Shown::new(self.verbosity);
        let quiet = self.verbosity == Verbosity::Quiet;
        let note = move |text: &str| {
            if !quiet {
                eprintln!("{text}");
            }
        };
        let client = match Client::new(self.environment, &note) {
            Ok(client) => client,
            Err(failure) => return vec![(absent[0], Err(failure))],
        };
        let permits = tokio::sync::Semaphore::new(AT_ONCE);
        let listings = Listings::default();
        let work =
            Work { bringing: self, client: &client, shown: &shown, permits: &permits, pins, listings: &listings };
        let stopped = async {
            while !(self.cancelled)() {
                tokio::time::sleep(LOOK).await;
            }
        };
        let outcome = tokio::select! {
            each = work.all(uses, absent) => each,
            () = stopped => Vec::new(),
        };
        shown.finish();
        outcome
    }
}

/// What two uses of one repository need is asked for once, unless both ask at once.
type Listings = RefCell<BTreeMap<(String, String), Rc<Listing>>>;

struct Work<'w, 'e> {
    bringing: &'w Bringing<'e>,
    client: &'w Client<'e>,
    shown: &'w Shown,
    permits: &'w tokio::sync::Semaphore,
    pins: &'w Pins,
    listings: &'w Listings,
}

/// A use whose files are known, with the hub's listing of them.
struct Chosen<'u> {
    asked: &'u Use,
    cache: Cache,
    listing: Rc<Listing>,
    files: Vec<FileName>,
    /// Whether the listing is of what the revision is now, which is for other programs to know.
    is_newest: bool,
    /// Whether it is of the branch with the hub's conversion.
    converted: bool,
}

impl Work<'_, '_> {
    async fn all(&self, uses: &[Use], absent: &[usize]) -> Vec<(usize, Result<Brought, Failure>)> {
        // What is wrong with any is known before the first large file comes.
        let each = absent.iter().map(async |place: &usize| (*place, self.choose(&uses[*place]).await));
        let chosen: Vec<_> = stream::iter(each).buffer_unordered(LISTINGS_AT_ONCE).collect().await;
        let mut each = Vec::new();
        let mut ready = Vec::new();
        for (place, chosen) in chosen {
            match chosen {
                Ok(chosen) => ready.push((place, chosen)),
                Err(failure) => each.push((place, Err(failure))),
            }
        }
        let all = self.bringing.scope == Scope::All;
        if all && !each.is_empty() {
            return each;
        }
        let rest = ready.into_iter().map(async |(place, chosen)| (place, self.finish(chosen).await));
        let mut rest = std::pin::pin!(stream::iter(rest).buffer_unordered(LISTINGS_AT_ONCE));
        while let Some((place, done)) = rest.next().await {
            let failed = done.is_err();
            each.push((place, done));
            if failed && all {
                break;
            }
        }
        each
    }

    /// Finds out which files are read. A model's configuration comes for that.
    async fn choose<'u>(&self, asked: &'u Use) -> Result<Chosen<'u>, Failure> {
        let old = !self.bringing.newest;
        let pinned = self.pins.get(&asked.address()).filter(|_| old);
        let (revision, is_newest) = match pinned_commit(asked, self.pins).filter(|_| old) {
            Some(commit) => (Revision::new(commit.as_str()).map_err(Failure::wrong)?, false),
            None => (asked.revision.clone(), true),
        };
        let listing = self.listing(asked, &revision).await?;
        let cache = Cache::of(&self.bringing.environment.cache, asked);
        let files = match (&asked.reading, pinned) {
            (Reading::Whole, _) => self.of_model(asked, &cache, &listing).await?,
            // What was chosen when it was pinned is not chosen again.
            (_, Some(pin)) => pin.files.clone(),
            (Reading::File(file), None) => vec![file.clone()],
            (Reading::Split { config, split }, None) => {
                let (config, split) = (config.as_deref(), split.as_deref());
                match split::file(asked, &listing, config, split)? {
                    Some(file) => vec![file],
                    None => {
                        let listing = self.converted(asked, &listing).await?;
                        let files = vec![split::converted(asked, &listing, config, split)?];
                        return Ok(Chosen { asked, cache, listing, files, is_newest: false, converted: true });
                    }
                }
            }
        };
        files.iter().try_for_each(|file| listing.find(asked, file).map(drop))?;
        let converted = pinned.is_some_and(|pin| pin.converted);
        Ok(Chosen { asked, cache, listing, files, is_newest, converted })
    }

    async fn of_model(&self, asked: &Use, cache: &Cache, listing: &Listing) -> Result<Vec<FileName>, Failure> {
        let chosen = choose::whole(asked, listing)?;
        self.get(cache, asked, listing, &chosen.configs).await?;
        for name in &chosen.absent {
            cache.note_absent(&listing.commit, name)?;
        }
        let mut files = [chosen.configs, chosen.rest].concat();
        if let Some(index) = &chosen.index {
            let path = cache.snapshot(&listing.commit).join(index.path());
            let what = format!("{} of {}", index.as_str(), asked.name());
            let shards = shards(&path).map_err(|why| Failure::wrong(format!("{what}: {why}")))?;
            if let Some(missing) = shards.iter().find(|shard| !listing.files.contains_key(shard)) {
                let missing = missing.as_str();
                return Err(Failure::wrong(format!("{what} names {missing}, which the repository does not have")));
            }
            files.extend(shards);
        }
        Ok(files)
    }

    async fn finish(&self, chosen: Chosen<'_>) -> Result<Brought, Failure> {
        let Chosen { asked, cache, listing, files, is_newest, converted } = chosen;
        let mut missing = 0;
        if self.bringing.scope == Scope::All {
            self.get(&cache, asked, &listing, &files).await?;
        } else {
            let snapshot = cache.snapshot(&listing.commit);
            let absent = files.iter().filter(|file| !snapshot.join(file.path()).is_file());
            missing = absent.filter_map(|file| Some(listing.files.get(file)?.size)).sum();
        }
        if is_newest {
            cache.note_revision(&asked.revision, &listing.commit)?;
        }
        Ok(Brought { pin: Pin { commit: listing.commit.clone(), files, converted }, missing })
    }

    async fn listing(&self, asked: &Use, revision: &Revision) -> Result<Rc<Listing>, Failure> {
        let key = (format!("{}/{}", asked.kind.plural(), asked.name()), revision.as_str().to_string());
        if let Some(known) = self.listings.borrow().get(&key) {
            return Ok(known.clone());
        }
        let listing = Rc::new(Listing::get(self.client, asked, revision).await?);
        self.listings.borrow_mut().insert(key, listing.clone());
        Ok(listing)
    }

    /// The Parquet files that the hub made of a dataset.
    async fn converted(&self, asked: &Use, listing: &Listing) -> Result<Rc<Listing>, Failure> {
        let revision = Revision::new(split::CONVERTED).map_err(Failure::wrong)?;
        match self.listing(asked, &revision).await {
            Err(Failure::Wrong { .. }) => {
                let names: Vec<&str> = listing.files.keys().map(FileName::as_str).collect();
                let message = format!(
                    "no file of {} can be read (Parquet, JSON lines, JSON or CSV), and the hub has not converted it to Parquet",
                    asked.name()
                );
                Err(Failure::wrong(message).help(format!("it has {}", super::listing::some(&names))))
            }
            other => other,
        }
    }

    /// Fetches those of some files that are not here.
    async fn get(&self, cache: &Cache, asked: &Use, listing: &Listing, files: &[FileName]) -> Result<(), Failure> {
        let commit: &Commit = &listing.commit;
        let snapshot = cache.snapshot(commit);
        let missing: Vec<_> = files
            .iter()
            .filter(|file| !snapshot.join(file.path()).is_file())
            .filter_map(|file| listing.files.get_key_value(file))
            .collect();
        if missing.is_empty() {
            return Ok(());
        }
        let bytes = missing.iter().map(|(_, listed)| listed.size).sum();
        let revision = asked.revision.as_str();
        self.shown.expect(&format!("{} ({revision}, {})", asked.name(), commit.short()), missing.len(), bytes);
        let mut underway: FuturesUnordered<_> = missing
            .into_iter()
            .map(async |(name, listed)| {
                let _permit = self.permits.acquire().await;
                download(self.client, cache, asked, commit, (name, listed), self.shown).await?;
                self.shown.came(asked.name(), name, listed.size);
                Ok::<(), Failure>(())
            })
            .collect();
        while let Some(done) = underway.next().await {
            done?;
        }
        Ok(())
    }
}

/// What is said of a use whose files are on the hub and not here.
pub fn waiting(asked: &Use, missing: Option<u64>) -> String {
    let bytes = missing.map_or_else(String::new, |bytes| format!(" ({})", size(bytes)));
    format!("{} is on the hub and not here yet: `strata run` fetches it{bytes}", asked.name())
}
