//! One file of a repository into the cache: resumed where it was cut off, and under its name only when its bytes hash to it.

use std::io::{self, Write};
use std::time::Duration;

use reqwest::StatusCode;
use reqwest::header::CONTENT_RANGE;
use ring::digest;
use tokio::time::sleep;

use super::Use;
use super::cache::{Cache, Incoming};
use super::client::{Client, Pauses, Problem, encoded, words};
use super::failure::Failure;
use super::listing::Listed;
use super::names::{Commit, Content, FileName};

/// How often bytes may be wrong before what the hub has counts as wrong.
const TRIES: usize = 2;
/// How often it is looked whether another program that fetches the same file is done.
const LOOK: Duration = Duration::from_millis(100);

/// What is told while a file comes.
pub trait Told {
    /// So many bytes more are here; fewer where a file is begun again.
    fn moved(&self, bytes: i64);
    /// Another program is fetching it.
    fn waits(&self, name: &FileName);
}

/// Makes a file of a commit be there. A blob that the cache has under its hash is taken as it lies.
///
/// # Errors
/// When its bytes are not what the hub said, or the hub or the disk fails. What came so far stays.
pub async fn download(
    client: &Client<'_>,
    cache: &Cache,
    asked: &Use,
    commit: &Commit,
    (name, listed): (&FileName, &Listed),
    told: &dyn Told,
) -> Result<(), Failure> {
    let mut said = false;
    let lock = loop {
        if cache.has_blob(&listed.content) {
            told.moved(listed.size as i64);
            return Ok(cache.link(commit, name, &listed.content)?);
        }
        if let Some(lock) = cache.lock(&listed.content)? {
            break lock;
        }
        if !std::mem::replace(&mut said, true) {
            told.waits(name);
        }
        sleep(LOOK).await;
    };
    // Who held it may have finished between the two looks.
    if !cache.has_blob(&listed.content) {
        let mut file = Arriving::resume(cache.incoming(&listed.content)?, listed, told)?;
        fetch(client, &mut file, asked, commit, (name, listed)).await?;
        file.incoming.adopt()?;
    } else {
        told.moved(listed.size as i64);
    }
    cache.link(commit, name, &listed.content)?;
    drop(lock);
    Ok(())
}

async fn fetch(
    client: &Client<'_>,
    file: &mut Arriving<'_>,
    asked: &Use,
    commit: &Commit,
    (name, listed): (&FileName, &Listed),
) -> Result<(), Failure> {
    let path = format!(
        "{}/{}/resolve/{}/{}",
        asked.kind.prefix(),
        asked.name(),
        commit.as_str(),
        encoded(name.as_str(), true)
    );
    let whole = format!("{} of {}", name.as_str(), asked.name());
    let mut pauses = Pauses::new();
    let mut wrong_bodies = 0;
    loop {
        if file.at == listed.size {
            let found = file.hash();
            if found == listed.content.as_str() {
                return Ok(());
            }
            wrong_bodies += 1;
            if wrong_bodies >= TRIES {
                file.restart()?;
                return Err(Failure::Unreachable(format!(
                    "{whole} is damaged: its bytes hash to {found}, and {} says {}. Nothing of it was kept",
                    client.environment.endpoint,
                    listed.content.as_str()
                )));
            }
            file.restart()?;
            // A file without bytes has one hash, whoever sends it.
            if listed.size == 0 {
                continue;
            }
        }
        let before = file.at;
        let wrong = match stream(client, &path, file, listed.size, &mut pauses).await? {
            End::Whole => continue,
            End::Cut(wrong) => format!("{whole} ended after {} of {} bytes: {wrong}", file.at, listed.size),
            End::TooLong => {
                wrong_bodies += 1;
                file.restart()?;
                if wrong_bodies >= TRIES {
                    let size = listed.size;
                    return Err(Failure::Unreachable(format!(
                        "{whole} is longer than the {size} bytes that {} says. Nothing of it was kept",
                        client.environment.endpoint
                    )));
                }
                "more bytes than there are".to_string()
            }
            End::Refused(refusal) if refusal.status == 404 => {
                return Err(Failure::Unreachable(format!(
                    "{} lists {whole} and does not have it ({refusal})",
                    client.environment.endpoint
                )));
            }
            End::Refused(refusal) => return Err(refusal.of_repository(asked, client.environment)),
        };
        if file.at > before {
            pauses.reset();
        }
        pauses.wait(client, wrong).await?;
    }
}

/// How an answer ended.
enum End {
    Whole,
    Cut(String),
    TooLong,
    Refused(super::failure::Refusal),
}

/// Appends what comes of a file from where the arriving one ends.
async fn stream(
    client: &Client<'_>,
    path: &str,
    file: &mut Arriving<'_>,
    size: u64,
    pauses: &mut Pauses,
) -> Result<End, Failure> {
    let mut answer = match client.get(path, file.at, pauses).await {
        Ok(answer) => answer,
        // What is here is longer than what is there.
        Err(Problem::Refused(refusal)) if refusal.status == StatusCode::RANGE_NOT_SATISFIABLE && file.at > 0 => {
            file.restart()?;
            return Ok(End::Cut("the server has no such range".to_string()));
        }
        Err(Problem::Refused(refusal)) => return Ok(End::Refused(refusal)),
        Err(Problem::Failed(failure)) => return Err(failure),
    };
    if file.at > 0 {
        let range = answer.headers().get(CONTENT_RANGE).and_then(|range| range.to_str().ok()).unwrap_or_default();
        let goes_on = range.strip_prefix("bytes ").and_then(|range| range.split('-').next());
        // A server that knows no ranges sends the whole.
        if answer.status() != StatusCode::PARTIAL_CONTENT || goes_on.and_then(|from| from.parse().ok()) != Some(file.at)
        {
            file.restart()?;
        }
    }
    loop {
        match answer.chunk().await {
            Ok(None) if file.at == size => return Ok(End::Whole),
            Ok(None) => return Ok(End::Cut("the answer ended".to_string())),
            Ok(Some(piece)) if file.at + piece.len() as u64 > size => return Ok(End::TooLong),
            Ok(Some(piece)) => file.take(&piece)?,
            Err(error) => return Ok(End::Cut(words(&error))),
        }
    }
}

/// A file with the hash of what is there of it.
struct Arriving<'t> {
    incoming: Incoming,
    hasher: Hasher,
    listed: &'t Listed,
    at: u64,
    told: &'t dyn Told,
}

impl<'t> Arriving<'t> {
    fn resume(mut incoming: Incoming, listed: &'t Listed, told: &'t dyn Told) -> Result<Arriving<'t>, Failure> {
        let mut hasher = Hasher::new(listed);
        let at = incoming.read_to(&mut hasher)?;
        told.moved(at as i64);
        let mut file = Arriving { incoming, hasher, listed, at, told };
        if at > listed.size {
            file.restart()?;
        }
        Ok(file)
    }

    fn restart(&mut self) -> Result<(), Failure> {
        self.incoming.restart()?;
        self.told.moved(-(self.at as i64));
        self.hasher = Hasher::new(self.listed);
        self.at = 0;
        Ok(())
    }

    fn take(&mut self, piece: &[u8]) -> Result<(), Failure> {
        self.incoming.write(piece)?;
        self.hasher.0.update(piece);
        self.at += piece.len() as u64;
        self.told.moved(piece.len() as i64);
        Ok(())
    }

    fn hash(&self) -> String {
        self.hasher.0.clone().finish().as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

/// Of a kind that the hub knows the file by.
struct Hasher(digest::Context);

impl Hasher {
    fn new(listed: &Listed) -> Hasher {
        match listed.content {
            Content::Sha256(_) => Hasher(digest::Context::new(&digest::SHA256)),
            Content::Git(_) => {
                let mut context = digest::Context::new(&digest::SHA1_FOR_LEGACY_USE_ONLY);
                context.update(format!("blob {}\0", listed.size).as_bytes());
                Hasher(context)
            }
        }
    }
}

impl Write for Hasher {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
