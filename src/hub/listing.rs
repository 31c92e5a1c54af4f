//! What a repository holds at a revision, as the hub says it.

use std::collections::BTreeMap;

use serde_json::Value;
use strata_stages::contract::pipeline::nearest;

use super::client::{Client, Problem, encoded};
use super::failure::Failure;
use super::names::{Commit, Content, FileName, Revision};
use super::{Kind, Use};

pub struct Listing {
    pub commit: Commit,
    pub files: BTreeMap<FileName, Listed>,
    /// The head of the repository's README.md, which says of a dataset what its configurations are.
    pub card: Value,
}

#[derive(Debug, Clone)]
pub struct Listed {
    pub content: Content,
    /// In bytes.
    pub size: u64,
}

impl Listing {
    /// Of a use's repository at a revision.
    ///
    /// # Errors
    /// When there is none, or not for this user, or the hub cannot be asked.
    pub async fn get(client: &Client<'_>, asked: &Use, revision: &Revision) -> Result<Listing, Failure> {
        let base = format!("/api/{}/{}", asked.kind.plural(), asked.name());
        let path = format!("{base}/revision/{}?blobs=true", encoded(revision.as_str(), false));
        let said = match client.json(&path).await {
            Ok(said) => said,
            Err(Problem::Refused(refusal)) if refusal.status == 404 && refusal.code != "RepoNotFound" => {
                return Err(no_revision(client, asked, revision).await);
            }
            Err(Problem::Refused(refusal)) => return Err(refusal.of_repository(asked, client.environment)),
            Err(Problem::Failed(failure)) => return Err(failure),
        };
        let listing = Listing::parse(&said).map_err(|why| {
            Failure::Unreachable(format!("{} says of {}: {why}", client.environment.endpoint, asked.name()))
        })?;
        match revision.as_commit() {
            Some(commit) if commit != listing.commit => Err(Failure::Unreachable(format!(
                "{} was asked for the commit {} of {} and answers with {}",
                client.environment.endpoint,
                commit.short(),
                asked.name(),
                listing.commit.short()
            ))),
            _ => Ok(listing),
        }
    }

    fn parse(said: &Value) -> Result<Listing, String> {
        let text = |value: &Value, key: &str| value.get(key).and_then(Value::as_str).unwrap_or_default().to_string();
        let commit = Commit::new(&text(said, "sha"))?;
        let siblings = said.get("siblings").and_then(Value::as_array).ok_or("no list of files")?;
        let mut files = BTreeMap::new();
        for sibling in siblings {
            let name = text(sibling, "rfilename");
            if name.starts_with('/') || name.split('/').any(|part| part == "..") {
                let shown: String = name.chars().filter(|c| !c.is_control()).take(120).collect();
                return Err(format!(
                    "it has a file \"{shown}\", which leads out of the repository; nothing of it was kept"
                ));
            }
            // A name that no file of ours can have is of no file that is read.
            let Ok(name) = FileName::new(&name) else { continue };
            let large = sibling.get("lfs").filter(|lfs| lfs.is_object());
            let content = match large {
                Some(large) => Content::new(&text(large, "sha256")),
                None => Content::new(&text(sibling, "blobId")),
            };
            let size = large.and_then(|large| large.get("size")).or(sibling.get("size")).and_then(Value::as_u64);
            let (Some(content), Some(size)) = (content, size) else {
                return Err(format!("of the file {} neither hash nor size", name.as_str()));
            };
            files.insert(name, Listed { content, size });
        }
        Ok(Listing { commit, files, card: said.get("cardData").cloned().unwrap_or(Value::Null) })
    }

    pub fn has(&self, name: &str) -> bool {
        FileName::new(name).is_ok_and(|name| self.files.contains_key(&name))
    }

    /// # Errors
    /// When the repository has no such file: with the name that is most like it.
    pub fn find(&self, asked: &Use, name: &FileName) -> Result<&Listed, Failure> {
        self.files.get(name).ok_or_else(|| {
            let message = format!("{} has no file \"{}\"", asked.name(), name.as_str());
            Failure::wrong(message).at("file").help(self.like(name.as_str()))
        })
    }

    /// Which file was meant, or a few that there are.
    fn like(&self, name: &str) -> String {
        let names: Vec<&str> = self.files.keys().map(FileName::as_str).collect();
        let last = |path: &'_ str| path.rsplit('/').next().unwrap_or_default().to_string();
        let same = names.iter().copied().find(|known| last(known) == last(name));
        match nearest(name, names.iter().copied()).or(same) {
            Some(near) => format!("did you mean \"{near}\"?"),
            None => format!("it has {}", some(&names)),
        }
    }
}

/// The first few of many names.
pub fn some(names: &[&str]) -> String {
    const SHOWN: usize = 8;
    match names {
        [] => "no file".to_string(),
        few if few.len() <= SHOWN => few.join(", "),
        many => format!("{} and {} more", many[..SHOWN].join(", "), many.len() - SHOWN),
    }
}

/// The revision that was meant, among those that there are.
async fn no_revision(client: &Client<'_>, asked: &Use, revision: &Revision) -> Failure {
    let name = asked.name();
    if let Some(commit) = revision.as_commit().filter(|_| asked.revision != *revision) {
        let message = format!(
            "the commit {} of {name}, to which strata.lock pins it, is not on the hub any more",
            commit.short()
        );
        return Failure::wrong(message).help("`strata hub --update` takes what the revision is now");
    }
    let wrong = Failure::wrong(format!("{name} has no revision \"{}\"", revision.as_str())).at("revision");
    let path = format!("/api/{}/{name}/refs", asked.kind.plural());
    let Ok(refs) = client.json(&path).await else { return wrong };
    let kinds = ["branches", "tags", "converts"].into_iter().filter_map(|kind| refs.get(kind)?.as_array());
    let name = |entry: &Value| Some(Revision::new(entry.get("name")?.as_str()?).ok()?.as_str().to_string());
    let known: Vec<String> = kinds.flatten().filter_map(name).collect();
    let known: Vec<&str> = known.iter().map(String::as_str).collect();
    match nearest(revision.as_str(), known.iter().copied()) {
        Some(near) => wrong.help(format!("did you mean \"{near}\"?")),
        None if known.is_empty() => wrong,
        None => wrong.help(format!("it has {}", some(&known))),
    }
}

impl Kind {
    /// Where its files' addresses begin.
    pub fn prefix(self) -> &'static str {
        match self {
            Kind::Model => "",
            Kind::Dataset => "/datasets",
        }
    }
}
