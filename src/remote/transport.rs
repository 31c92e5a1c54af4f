//! Requests to a remote, with patience that ends.
//!
//! A server that is slow is waited for as long as something moves. One that fails now and then is asked again. One that
//! stands still, or goes on failing, is given up after [`GIVE_UP`]. Bytes go through memory in pieces, whatever the size of a file.

use std::fs::File;
use std::io::{Read, Write};
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use object_store::path::Path as RemotePath;
use object_store::{Error, GetOptions, ObjectStoreExt, PutPayload};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::{Failure, Kind, Remote};
use crate::store::disk::Partial;
use crate::store::names::ObjectHash;

/// How long an answer may take to begin, and its next bytes to come.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long nothing at all may come forward before the remote counts as gone.
const GIVE_UP: Duration = Duration::from_secs(if cfg!(fuzzing) { 0 } else { 10 });
/// How often an answer may be wrong before what is there counts as wrong.
pub(super) const TRIES: usize = 4;
/// The slowest sending that is waited for, in bytes a second.
const SLOWEST: u64 = 50_000;
/// So many names that begin with one digit are taken of a listing: a server need not end it by itself.
const MOST_NAMES: usize = if cfg!(test) { 2500 } else { 1 << 18 };
/// A file that is longer is sent in pieces: servers take one request for a file better than several.
const SHORT: u64 = if cfg!(test) { 500 } else { 64 << 20 };
const PIECE: usize = if cfg!(test) { 300 } else { 8 << 20 };
/// So many pieces, or short files of as many bytes, are in memory and on their way to one remote at once.
pub(super) const PIECES_AT_ONCE: usize = 16;

/// The pauses between attempts.
struct Pauses {
    since: Instant,
    next: Duration,
}

impl Pauses {
    fn new() -> Pauses {
        Pauses { since: Instant::now(), next: Duration::from_millis(100) }
    }

    /// Waits before the next attempt.
    ///
    /// # Errors
    /// When nothing has moved for too long: with what went wrong last.
    async fn wait(&mut self, remote: &Remote, wrong: String) -> Result<(), Failure> {
        if self.since.elapsed() + self.next > GIVE_UP {
            // The first who gives up says why for all.
            let _ = remote.health.0.set(format!("{}: {wrong}", remote.name));
        }
        remote.is_up()?;
        sleep(self.next).await;
        self.next = (self.next * 2).min(Duration::from_secs(2));
        Ok(())
    }

    /// Something moved.
    fn reset(&mut self) {
        *self = Pauses::new();
    }
}

/// An error that asking again does not mend.
fn lasts(error: &Error) -> bool {
    matches!(
        error,
        Error::PermissionDenied { .. }
            | Error::Unauthenticated { .. }
            | Error::InvalidPath { .. }
            | Error::UnknownConfigurationKey { .. }
            | Error::NotSupported { .. }
            | Error::NotImplemented { .. }
    )
}

/// What was wrong, from its deepest cause: the layers above say that a request failed, and of what kind it was.
fn words(error: &Error) -> String {
    if let Error::NotFound { source, .. } = error
        && no_bucket(&**source)
    {
        return "there is no such bucket".to_string();
    }
    let mut deepest: &dyn std::error::Error = error;
    while let Some(source) = deepest.source() {
        deepest = source;
    }
    let (whole, deepest) = (error.to_string(), deepest.to_string());
    let whole = if lasts(error) || deepest.is_empty() { whole } else { deepest };
    whole.split_whitespace().collect::<Vec<_>>().join(" ").chars().take(400).collect()
}

fn still(what: &str) -> String {
    format!("no answer within {} s {what}", PATIENCE.as_secs())
}

impl Remote {
    /// # Errors
    /// When it was given up.
    fn is_up(&self) -> Result<(), Failure> {
        match self.health.0.get() {
            Some(wrong) => Err(Failure::Unreachable(wrong.clone())),
            None => Ok(()),
        }
    }

    /// Asks until there is an answer; none where the remote says that there is nothing of the name.
    async fn patiently<T>(
        &self,
        what: &str,
        within: Duration,
        mut ask: impl AsyncFnMut() -> object_store::Result<T>,
    ) -> Result<Option<T>, Failure> {
        let mut pauses = Pauses::new();
        loop {
            self.is_up()?;
            let wrong = match timeout(within, ask()).await {
                Ok(Ok(answer)) => return Ok(Some(answer)),
                Ok(Err(Error::NotFound { source, .. })) if !no_bucket(&*source) => return Ok(None),
                Ok(Err(error)) if lasts(&error) || matches!(error, Error::NotFound { .. }) => {
                    return Err(Failure::Unreachable(format!("{}: {}", self.name, words(&error))));
                }
                Ok(Err(error)) => words(&error),
                Err(_) => still(what),
            };
            pauses.wait(self, wrong).await?;
        }
    }

    /// The bytes of a small file; none where there is none.
    ///
    /// # Errors
    /// When it is longer than `longest`, or the remote cannot be asked.
    pub(super) async fn read(&self, name: &str, longest: u64) -> Result<Option<Vec<u8>>, Failure> {
        let path = self.at(name);
        let read = async || {
            let found = self.store.get(&path).await?;
            let too_long = found.meta.size > longest;
            let mut bytes = Vec::new();
            let mut stream = found.into_stream();
            while let (false, Some(piece)) = (too_long, stream.next().await) {
                bytes.extend_from_slice(&piece?);
                if bytes.len() as u64 > longest {
                    return Ok(None);
                }
            }
            Ok((!too_long).then_some(bytes))
        };
        let within = PATIENCE;
        match self.patiently(&format!("when {name} was read"), within, read).await? {
            None => Ok(None),
            Some(Some(bytes)) => Ok(Some(bytes)),
            Some(None) => Err(Failure::Refused(format!("{name} of {} is longer than {longest} bytes", self.name))),
        }
    }

    /// How long a file is; none where there is none.
    pub(super) async fn size(&self, name: &str) -> Result<Option<u64>, Failure> {
        let path = self.at(name);
        let what = format!("when {name} was looked for");
        let head = async || self.store.head(&path).await;
        Ok(self.patiently(&what, PATIENCE, head).await?.map(|meta| meta.size))
    }

    /// The names below a folder that holds names of hexadecimal digits, from as many listings as there are digits.
    pub(super) async fn names(&self, folder: &str) -> Result<Vec<String>, Failure> {
        const DIGITS: &str = "0123456789abcdef";
        let listings = DIGITS.chars().map(|digit| self.names_from(folder, digit));
        let found: Vec<Result<Vec<String>, Failure>> = futures_util::future::join_all(listings).await;
        let mut names = Vec::new();
        for listed in found {
            names.extend(listed?);
        }
        Ok(names)
    }

    /// The names that begin with a digit.
    async fn names_from(&self, folder: &str, digit: char) -> Result<Vec<String>, Failure> {
        let prefix = self.at(folder);
        // Names come in order and after the offset: the first that begins with a later digit ends the listing.
        let mut offset: RemotePath = prefix.clone().join(digit.to_string());
        let (mut names, mut pauses) = (Vec::new(), Pauses::new());
        'again: loop {
            let mut listing = self.store.list_with_offset(Some(&prefix), &offset);
            loop {
                let wrong = match timeout(PATIENCE, listing.next()).await {
                    Ok(None) => return Ok(names),
                    Ok(Some(Ok(meta))) => {
                        let name = meta.location.filename().unwrap_or_default();
                        if !name.starts_with(digit) {
                            return Ok(names);
                        }
                        if names.len() == MOST_NAMES {
                            let why = format!("{} lists more than {MOST_NAMES} names in a row", self.name);
                            return Err(Failure::Unreachable(why));
                        }
                        names.push(name.to_string());
                        offset = meta.location;
                        pauses.reset();
                        continue;
                    }
                    Ok(Some(Err(error))) if lasts(&error) || matches!(error, Error::NotFound { .. }) => {
                        return Err(Failure::Unreachable(format!("{}: {}", self.name, words(&error))));
                    }
                    Ok(Some(Err(error))) => words(&error),
                    Err(_) => still("when the records were listed"),
                };
                pauses.wait(self, wrong).await?;
                continue 'again;
            }
        }
    }

    /// Fetches a file into an open one, which may hold its beginning already, until the bytes hash to `object`.
    ///
    /// # Errors
    /// When there is none, it has other bytes, or the remote cannot be asked. What came so far stays in the file.
    pub(super) async fn download(
        &self,
        name: &str,
        file: &mut Partial<'_>,
        object: ObjectHash,
        bytes: u64,
    ) -> Result<(), Failure> {
        let mut incoming = Incoming::resume(file, bytes)?;
        let mut pauses = Pauses::new();
        let mut wrong_bodies = 0;
        loop {
            if incoming.at == bytes {
                if incoming.hash() == object {
                    return Ok(());
                }
                // What lay in the file from before, or what one answer said, need not be what the remote holds.
                wrong_bodies += 1;
                if wrong_bodies >= TRIES {
                    let found = incoming.hash();
                    let _ = incoming.restart();
                    return Err(Failure::Refused(format!(
                        "{name} of {} is damaged: its bytes hash to {found}. Nothing of it was kept",
                        self.name
                    )));
                }
                incoming.restart()?;
            }
            self.is_up()?;
            let before = incoming.at;
            let wrong = match self.stream(name, &mut incoming).await {
                Ok(()) if incoming.at == bytes => continue,
                Ok(()) => format!("{name} ended after {} of {bytes} bytes", incoming.at),
                Err(Interrupted::Missing) => {
                    return Err(Failure::Refused(format!("{} has a record but not its {name}", self.name)));
                }
                Err(Interrupted::Lasting(failure)) => return Err(failure),
                Err(Interrupted::TooLong) => {
                    wrong_bodies += 1;
                    if wrong_bodies >= TRIES {
                        let _ = incoming.restart();
                        let why = format!("{name} of {} is longer than its record says", self.name);
                        return Err(Failure::Refused(why));
                    }
                    incoming.restart()?;
                    "more bytes than there are".to_string()
                }
                Err(Interrupted::Wrong(wrong)) => wrong,
            };
            if incoming.at > before {
                pauses.reset();
            }
            pauses.wait(self, wrong).await?;
        }
    }

    /// Appends what comes of a file from where the incoming one ends.
    async fn stream(&self, name: &str, incoming: &mut Incoming<'_, '_>) -> Result<(), Interrupted> {
        let path = self.at(name);
        let options = match incoming.at {
            0 => GetOptions::new(),
            at => GetOptions::new().with_range(Some(at..incoming.whole)),
        };
        let found = match timeout(PATIENCE, self.store.get_opts(&path, options)).await {
            Err(_) => return Err(Interrupted::Wrong(still(&format!("when {name} was read")))),
            Ok(Err(Error::NotFound { source, .. })) if !no_bucket(&*source) => return Err(Interrupted::Missing),
            Ok(Err(error)) if lasts(&error) || matches!(error, Error::NotFound { .. }) => {
                let failure = Failure::Unreachable(format!("{}: {}", self.name, words(&error)));
                return Err(Interrupted::Lasting(failure));
            }
            Ok(Err(error)) => {
                // A server that knows no ranges sends the whole: from its beginning then.
                if incoming.at > 0 {
                    incoming.restart().map_err(Interrupted::Lasting)?;
                }
                return Err(Interrupted::Wrong(words(&error)));
            }
            Ok(Ok(found)) => found,
        };
        let mut stream = found.into_stream();
        loop {
            match timeout(PATIENCE, stream.next()).await {
                Err(_) => return Err(Interrupted::Wrong(still(&format!("in the middle of {name}")))),
                Ok(None) => return Ok(()),
                Ok(Some(Err(error))) => return Err(Interrupted::Wrong(words(&error))),
                Ok(Some(Ok(piece))) => {
                    if incoming.at + piece.len() as u64 > incoming.whole {
                        return Err(Interrupted::TooLong);
                    }
                    incoming.take(&piece).map_err(Interrupted::Lasting)?;
                }
            }
        }
    }

    /// Sends bytes under a name.
    pub(super) async fn write(&self, name: &str, bytes: Vec<u8>) -> Result<(), Failure> {
        let path = self.at(name);
        let within = PATIENCE + Duration::from_secs(bytes.len() as u64 / SLOWEST);
        let payload = PutPayload::from(bytes);
        let put = async || self.store.put(&path, payload.clone()).await;
        match self.patiently(&format!("when {name} was written"), within, put).await? {
            Some(_) => Ok(()),
            None => Err(Failure::Unreachable(format!("{}: there is nowhere to write {name}", self.name))),
        }
    }

    /// Sends a file, which must hash to `object`, in pieces where it is long.
    pub(super) async fn upload(&self, name: &str, path: &std::path::Path, object: ObjectHash) -> Result<(), Failure> {
        let here = |error: std::io::Error| {
            Failure::Here(anyhow::Error::from(error).context(format!("reading {}", path.display())))
        };
        let length = std::fs::metadata(path).map_err(here)?.len();
        if length <= SHORT {
            let _permit = self.pieces.acquire_many(length.div_ceil(PIECE as u64).max(1) as u32).await;
            let bytes = std::fs::read(path).map_err(here)?;
            if ObjectHash::from(blake3::hash(&bytes)) != object {
                return Err(damaged(name));
            }
            return self.write(name, bytes).await;
        }
        let mut pauses = Pauses::new();
        let mut attempts = 0;
        loop {
            attempts += 1;
            self.is_up()?;
            let mut sent = 0;
            let wrong = match self.upload_in_pieces(name, path, object, &mut sent).await {
                Ok(()) => return Ok(()),
                Err(Interrupted::Lasting(failure)) => return Err(failure),
                Err(Interrupted::Missing | Interrupted::TooLong) => return Err(damaged(name)),
                Err(Interrupted::Wrong(wrong)) => wrong,
            };
            // Pieces that went are sent again: so often and no more.
            if attempts == TRIES {
                return Err(Failure::Unreachable(format!("{}: {wrong}", self.name)));
            }
            if sent > 0 {
                pauses.reset();
            }
            pauses.wait(self, wrong).await?;
        }
    }

    async fn upload_in_pieces(
        &self,
        name: &str,
        path: &std::path::Path,
        object: ObjectHash,
        sent: &mut usize,
    ) -> Result<(), Interrupted> {
        let here = |error: std::io::Error| {
            Interrupted::Lasting(Failure::Here(anyhow::Error::from(error).context(format!("reading {name}"))))
        };
        let wrong = |error: Error| match lasts(&error) {
            true => Interrupted::Lasting(Failure::Unreachable(format!("{}: {}", self.name, words(&error)))),
            false => Interrupted::Wrong(words(&error)),
        };
        let late = |_| Interrupted::Wrong(still(&format!("when {name} was written")));
        let piece_within = PATIENCE + Duration::from_secs(PIECE as u64 / SLOWEST);
        let mut file = File::open(path).map_err(here)?;
        let to = self.at(name);
        let upload = timeout(PATIENCE, self.store.put_multipart(&to)).await;
        let mut upload = upload.map_err(late)?.map_err(wrong)?;
        let mut hasher = blake3::Hasher::new();
        let mut parts = JoinSet::new();
        let ended = |part: Result<Option<object_store::Result<()>>, tokio::task::JoinError>| match part {
            Ok(Some(Ok(()))) => Ok(PIECE),
            Ok(Some(Err(error))) => Err(wrong(error)),
            Ok(None) => Err(Interrupted::Wrong(still(&format!("when {name} was written")))),
            Err(panic) => Err(Interrupted::Wrong(panic.to_string())),
        };
        let outcome = async {
            loop {
                // Of the pieces in flight some make room for the next: they go on while this waits.
                let permit = self.pieces.clone().acquire_owned().await;
                while let Some(part) = parts.try_join_next() {
                    *sent += ended(part)?;
                }
                let mut piece = Vec::with_capacity(PIECE);
                (&mut file).take(PIECE as u64).read_to_end(&mut piece).map_err(here)?;
                if piece.is_empty() {
                    break;
                }
                hasher.update(&piece);
                let part = upload.put_part(piece.into());
                parts.spawn(async move {
                    let _permit = permit;
                    timeout(piece_within, part).await.ok()
                });
            }
            while let Some(part) = parts.join_next().await {
                *sent += ended(part)?;
            }
            if ObjectHash::from(hasher.finalize()) == object { Ok(()) } else { Err(Interrupted::Missing) }
        };
        match outcome.await {
            Ok(()) => timeout(piece_within, upload.complete()).await.map_err(late)?.map(drop).map_err(wrong),
            Err(interrupted) => {
                parts.abort_all();
                // Pieces that nobody names are the bucket's rules to remove, where this does not reach it.
                let _ = timeout(PATIENCE, upload.abort()).await;
                Err(interrupted)
            }
        }
    }

    /// Whether this is a folder of this machine, where a question costs nothing.
    pub(super) fn is_near(&self) -> bool {
        self.kind == Kind::Folder
    }
}

fn damaged(name: &str) -> Failure {
    Failure::Here(anyhow::anyhow!(
        "{name} is damaged and was not sent; `strata verify` says what is, and a run mends it"
    ))
}

/// Object stores answer a missing bucket as they do a missing object.
fn no_bucket(source: &(dyn std::error::Error + 'static)) -> bool {
    let text = format!("{source:?}");
    ["NoSuchBucket", "ContainerNotFound", "The specified bucket does not exist"].iter().any(|code| text.contains(code))
}

/// Why a file did not come whole.
enum Interrupted {
    /// There is none.
    Missing,
    /// More came than there is.
    TooLong,
    /// Asking again may help.
    Wrong(String),
    Lasting(Failure),
}

/// A file that is coming in.
struct Incoming<'f, 'd> {
    file: &'f mut Partial<'d>,
    hasher: blake3::Hasher,
    at: u64,
    whole: u64,
}

impl<'f, 'd> Incoming<'f, 'd> {
    /// Goes on where the file ends.
    fn resume(file: &'f mut Partial<'d>, whole: u64) -> Result<Incoming<'f, 'd>, Failure> {
        let mut hasher = blake3::Hasher::new();
        let at = file.hash(&mut hasher).map_err(disk)?;
        let mut incoming = Incoming { file, hasher, at, whole };
        if at > whole {
            incoming.restart()?;
        }
        Ok(incoming)
    }

    fn restart(&mut self) -> Result<(), Failure> {
        self.file.restart().map_err(disk)?;
        self.hasher.reset();
        self.at = 0;
        Ok(())
    }

    fn take(&mut self, piece: &[u8]) -> Result<(), Failure> {
        self.file.write_all(piece).map_err(disk)?;
        self.hasher.update(piece);
        self.at += piece.len() as u64;
        Ok(())
    }

    fn hash(&self) -> ObjectHash {
        self.hasher.finalize().into()
    }
}

fn disk(error: std::io::Error) -> Failure {
    Failure::Here(anyhow::Error::from(error).context("cannot write what was fetched"))
}
