//! Push and pull: the objects and records of a pipeline to and from a folder or an object store.
//!
//! A remote has the store's own layout. Objects go before the record that names them, so a reader never sees
//! a record whose objects are not there. Whatever comes from a remote is hashed before it becomes visible, and
//! a record is believed only when its document hashes to the key it is filed under.

#[cfg(test)]
mod tests;

use std::path::PathBuf;

use anyhow::{Context, Result, anyhow, bail};
use futures_util::StreamExt;
use object_store::{ObjectStore, ObjectStoreExt, PutPayload, path::Path as RemotePath};

use crate::graph::{GraphNode, NodeSet};
use crate::key::Key;
use crate::manifest::nearest_sibling;
use crate::outputs::unfit;
use crate::plan::Plan;
use crate::store::layout::record_name;
use crate::store::names::ObjectHash;
use crate::store::{self, ObjectState, OutputRecord, Store, holds};

pub struct Remote {
    store: Box<dyn ObjectStore>,
    prefix: RemotePath,
    runtime: tokio::runtime::Runtime,
    name: String,
}

/// What a transfer did.
#[derive(Debug, Default, Clone, Copy, PartialEq)]
pub struct Transferred {
    pub tasks: usize,
    pub objects: usize,
    pub bytes: u64,
    /// Tasks that were on both sides already.
    pub present: usize,
    /// Tasks that the source does not have.
    pub absent: usize,
}

impl Remote {
    /// As [`Remote::open`], to read from: a folder that is not there is an error and is not made.
    pub fn open_existing(url: &str) -> Result<Remote> {
        let folder = match url::Url::parse(url) {
            Ok(parsed) if parsed.scheme() == "file" => parsed.to_file_path().ok(),
            Ok(_) => None,
            Err(_) => Some(PathBuf::from(url)),
        };
        if let Some(folder) = folder.filter(|folder| !folder.is_dir()) {
            let near = nearest_sibling(&folder).map(|near| format!("; is it {}?", near.display())).unwrap_or_default();
            bail!("there is no folder {}{near}", folder.display());
        }
        Remote::open(url)
    }

    /// A folder's path, `file://…` or `s3://bucket/prefix` (credentials and endpoint from the AWS_ variables).
    pub fn open(url: &str) -> Result<Remote> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (store, prefix): (Box<dyn ObjectStore>, RemotePath) = if url.contains("://") {
            let parsed = url::Url::parse(url).with_context(|| format!("\"{url}\" is not a URL"))?;
            let (store, prefix) = object_store::parse_url_opts(&parsed, std::env::vars())
                .with_context(|| format!("cannot open {url}; expected a folder, file:// or s3://bucket/prefix"))?;
            (store, prefix)
        } else {
            std::fs::create_dir_all(url).with_context(|| format!("cannot write {url}"))?;
            let local = object_store::local::LocalFileSystem::new_with_prefix(url)?;
            (Box::new(local), RemotePath::default())
        };
        Ok(Remote { store, prefix, runtime, name: url.to_string() })
    }

    fn at(&self, relative: &str) -> RemotePath {
        relative.split('/').fold(self.prefix.clone(), |path, part| path.join(part))
    }

    fn object(output: &OutputRecord) -> String {
        output.object_path().to_string_lossy().into_owned()
    }

    /// The bytes at a path of the remote; `None` where there are none.
    fn get(&self, relative: &str) -> Result<Option<Vec<u8>>> {
        let path = self.at(relative);
        let fetched = self.runtime.block_on(async {
            match self.store.get(&path).await {
                Ok(found) => {
                    let mut bytes = Vec::new();
                    let mut stream = found.into_stream();
                    while let Some(chunk) = stream.next().await {
                        bytes.extend_from_slice(&chunk?);
                    }
                    Ok(Some(bytes))
                }
                Err(object_store::Error::NotFound { .. }) => Ok(None),
                Err(error) => Err(error),
            }
        });
        fetched.with_context(|| format!("reading {relative} from {}", self.name))
    }

    fn has(&self, relative: &str, bytes: u64) -> Result<bool> {
        let path = self.at(relative);
        match self.runtime.block_on(self.store.head(&path)) {
            Ok(meta) => Ok(meta.size == bytes),
            Err(object_store::Error::NotFound { .. }) => Ok(false),
            Err(error) => Err(error).with_context(|| format!("looking for {relative} in {}", self.name)),
        }
    }

    fn put(&self, relative: &str, bytes: Vec<u8>) -> Result<()> {
        let path = self.at(relative);
        let put = self.runtime.block_on(self.store.put(&path, PutPayload::from(bytes)));
        put.map(drop).with_context(|| format!("writing {relative} to {}", self.name))
    }

    /// Sends every finished task of the plan that the remote lacks.
    pub fn push(&self, store: &Store, keys: &[Key]) -> Result<Transferred> {
        let mut done = Transferred::default();
        for key in keys {
            let Some(record) = store.record(*key) else { continue };
            let text = record.to_text()?;
            let name = record_name(*key);
            // Another's record of the same task says another time and may have another length.
            if self.get(&name)?.is_some_and(|there| store::parse(&there, *key).is_ok()) {
                done.present += 1;
                continue;
            }
            for output in &record.outputs {
                let object = Remote::object(output);
                if !self.has(&object, output.bytes)? {
                    let bytes =
                        std::fs::read(store.layout.object(output)).with_context(|| format!("reading {object}"))?;
                    if ObjectHash::from(blake3::hash(&bytes)) != output.object {
                        bail!("{object} is damaged and was not pushed; `strata run` makes it again");
                    }
                    done.bytes += output.bytes;
                    done.objects += 1;
                    self.put(&object, bytes)?;
                }
            }
            self.put(&name, text)?;
            done.tasks += 1;
        }
        Ok(done)
    }

    /// Fetches what the remote has of a pipeline, following it from node to node: a task's key is known once
    /// what it reads is.
    pub fn pull(&self, plan: &mut Plan, wanted: &NodeSet) -> Result<Transferred> {
        let mut done = Transferred::default();
        for id in wanted.iter() {
            if !plan.ready(id) {
                continue;
            }
            plan.expand(id, false)?;
            let stale: Vec<(usize, Key)> = plan.state(id).stale().collect();
            done.present += plan.state(id).tasks() - stale.len();
            for (index, key) in stale {
                match self.fetch(plan.store, plan.graph.node(id), key, &mut done)? {
                    Some(outputs) => drop(plan.finish(id.task(index), outputs)),
                    None => done.absent += 1,
                }
            }
        }
        Ok(done)
    }

    fn fetch(
        &self,
        store: &Store,
        node: &GraphNode,
        key: Key,
        done: &mut Transferred,
    ) -> Result<Option<Vec<OutputRecord>>> {
        let name = record_name(key);
        let Some(text) = self.get(&name)? else { return Ok(None) };
        let refused = || format!("{name} of {} is refused, and nothing of it was kept", self.name);
        let record = store::parse(&text, key).map_err(|fault| anyhow!("{}: it {fault}", refused()))?;
        if let Some(why) = unfit(node.stage, node.per_part.is_some(), &record.outputs) {
            bail!("{}: it names {why}", refused());
        }
        for output in &record.outputs {
            if store.check(output) == ObjectState::Sound {
                continue;
            }
            let object = Remote::object(output);
            let bytes = self.get(&object)?;
            let bytes = bytes.with_context(|| format!("{} has the record {name} but not {object}", self.name))?;
            let found = ObjectHash::from(blake3::hash(&bytes));
            if found != output.object {
                bail!("{object} of {} is damaged: its bytes hash to {found}. Nothing of it was kept", self.name);
            }
            store.publish(output.extension.as_ref(), |out| Ok(out.write_all(&bytes)?))?;
            // An object that is what it is called need not be what its record says.
            holds(&store.layout.object(output), output).with_context(|| format!("{}: {object}", refused()))?;
            done.objects += 1;
            done.bytes += output.bytes;
        }
        store.write_record(&record)?;
        done.tasks += 1;
        Ok(Some(record.outputs))
    }
}
