//! From what a user calls a remote to the store that it is.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey};
use object_store::azure::{AzureConfigKey, MicrosoftAzureBuilder};
use object_store::client::ReqwestConnector;
use object_store::gcp::{GoogleCloudStorageBuilder, GoogleConfigKey};
use object_store::http::HttpBuilder;
use object_store::local::LocalFileSystem;
use object_store::path::Path as RemotePath;
use object_store::{BackoffConfig, ClientConfigKey, ClientOptions, ObjectStore, RetryConfig};
use url::Url;

use super::bounded::Bounded;
use super::{Kind, Remote};
use crate::manifest::nearest_sibling;
use crate::manifest::remotes::RemoteSetting;
use crate::store::disk::Disk;

const SCHEMES: &str = "a folder, file://, s3://, gs://, az:// or, to read from, https://";

/// A whole answer may take as long as it moves: how long it may stand still is for `transport.rs` to say.
const WHOLE: &str = "24 hours";
const CONNECT: &str = "5 seconds";

impl Remote {
    /// A folder's path, `file://…`, `s3://BUCKET/PREFIX`, `gs://…`, `az://CONTAINER/PREFIX`, or `http(s)://…` to read from.
    /// Credentials and endpoints come from the environment (`AWS_…`, `GOOGLE_…`, `AZURE_…`).
    ///
    /// # Errors
    /// When the text is none of these, or names a folder that is not there.
    pub fn open(setting: &RemoteSetting) -> Result<Remote> {
        let url = setting.url.as_str();
        let (store, prefix, kind): (Arc<dyn ObjectStore>, RemotePath, Kind) = match scheme(url)? {
            Place::Folder(folder) => {
                if !folder.is_dir() {
                    let near =
                        nearest_sibling(&folder).map(|near| format!("; is it {}?", near.display())).unwrap_or_default();
                    bail!("there is no folder {}{near}", folder.display());
                }
                let local = LocalFileSystem::new_with_prefix(&folder)
                    .with_context(|| format!("cannot open {}", folder.display()))?;
                (Arc::new(local), RemotePath::default(), Kind::Folder)
            }
            Place::Url(parsed) => cloud(&parsed).with_context(|| format!("cannot open {url}"))?,
        };
        Ok(Remote::new(url.to_string(), store, prefix, kind, setting.health.clone()))
    }

    /// As [`Remote::open`], to write to: a folder is made.
    ///
    /// # Errors
    /// As there, and for a web server.
    pub fn open_to_write(setting: &RemoteSetting) -> Result<Remote> {
        let url = setting.url.as_str();
        if let Place::Folder(folder) = scheme(url)? {
            Disk::default().create_folders(&folder).with_context(|| format!("cannot write {}", folder.display()))?;
        }
        let remote = Remote::open(setting)?;
        if !remote.can_be_written() {
            bail!("{url} can only be read from: a web server takes no results");
        }
        Ok(remote)
    }
}

enum Place {
    Folder(PathBuf),
    Url(Url),
}

fn scheme(url: &str) -> Result<Place> {
    if !url.contains("://") {
        return Ok(Place::Folder(PathBuf::from(url)));
    }
    let parsed = Url::parse(url).with_context(|| format!("\"{url}\" is not a URL; expected {SCHEMES}"))?;
    if parsed.scheme() == "file" {
        let Ok(folder) = parsed.to_file_path() else { bail!("\"{url}\" names no folder of this machine") };
        return Ok(Place::Folder(folder));
    }
    Ok(Place::Url(parsed))
}

/// What is wrong with the text as a remote's URL; nothing is opened.
pub fn wrong_with(url: &str) -> Option<String> {
    match scheme(url) {
        Err(error) => Some(format!("{error:#}")),
        Ok(Place::Folder(_)) => None,
        Ok(Place::Url(parsed)) => {
            if !["s3", "gs", "az", "http", "https"].contains(&parsed.scheme()) {
                return Some(format!("unknown kind of remote \"{}://\"; expected {SCHEMES}", parsed.scheme()));
            }
            if !parsed.username().is_empty() || parsed.password().is_some() {
                return Some("credentials come from the environment and are not written here".to_string());
            }
            parsed.host_str().is_none_or(str::is_empty).then(|| format!("\"{url}\" names no bucket or server"))
        }
    }
}

/// Whether results can be read from there and not written.
pub fn is_read_only(url: &str) -> bool {
    url.starts_with("http://") || url.starts_with("https://")
}

/// A remote's text with a folder's relative path below `here`.
pub fn below(here: &Path, url: &str) -> String {
    match scheme(url) {
        Ok(Place::Folder(folder)) => here.join(folder).to_string_lossy().into_owned(),
        _ => url.to_string(),
    }
}

/// Failures that pass by themselves are few in a row; those that last are given back soon.
fn retry() -> RetryConfig {
    let backoff =
        BackoffConfig { init_backoff: Duration::from_millis(50), max_backoff: Duration::from_millis(500), base: 2.0 };
    RetryConfig { backoff, max_retries: 5, retry_timeout: Duration::from_secs(5) }
}

fn cloud(url: &Url) -> Result<(Arc<dyn ObjectStore>, RemotePath, Kind)> {
    if let Some(wrong) = wrong_with(url.as_str()) {
        bail!("{wrong}");
    }
    let client = [(ClientConfigKey::Timeout, WHOLE), (ClientConfigKey::ConnectTimeout, CONNECT)];
    let store: Arc<dyn ObjectStore> = match url.scheme() {
        "s3" => {
            let builder = AmazonS3Builder::from_env().with_url(url.as_str()).with_retry(retry());
            let builder = builder.with_http_connector(Bounded::<ReqwestConnector>::default());
            let set =
                |builder: AmazonS3Builder, (key, value)| builder.with_config(AmazonS3ConfigKey::Client(key), value);
            Arc::new(client.into_iter().fold(builder, set).build()?)
        }
        "gs" => {
            let builder = GoogleCloudStorageBuilder::from_env().with_url(url.as_str()).with_retry(retry());
            let builder = builder.with_http_connector(Bounded::<ReqwestConnector>::default());
            let set = |builder: GoogleCloudStorageBuilder, (key, value)| {
                builder.with_config(GoogleConfigKey::Client(key), value)
            };
            Arc::new(client.into_iter().fold(builder, set).build()?)
        }
        "az" => {
            let builder = MicrosoftAzureBuilder::from_env().with_url(url.as_str()).with_retry(retry());
            let builder = builder.with_http_connector(Bounded::<ReqwestConnector>::default());
            let set =
                |builder: MicrosoftAzureBuilder, (key, value)| builder.with_config(AzureConfigKey::Client(key), value);
            Arc::new(client.into_iter().fold(builder, set).build()?)
        }
        _ => {
            let options =
                client.into_iter().fold(ClientOptions::new(), |options, (key, value)| options.with_config(key, value));
            let options = options.with_allow_http(url.scheme() == "http");
            let store = HttpBuilder::new().with_url(url.as_str()).with_retry(retry()).with_client_options(options);
            let store = store.with_http_connector(Bounded::<ReqwestConnector>::default());
            return Ok((Arc::new(store.build()?), RemotePath::default(), Kind::Web));
        }
    };
    Ok((store, RemotePath::from_url_path(url.path())?, Kind::Bucket))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_remote_is_a_folder_or_a_url_of_a_known_kind_without_credentials() {
        for sound in
            ["/mnt/team", "team", "file:///mnt/team", "s3://bucket/a/b", "gs://b", "az://c/p", "https://x.org/s"]
        {
            assert_eq!(wrong_with(sound), None, "{sound}");
        }
        for (wrong, what) in [
            ("ftp://x", "unknown kind of remote \"ftp://\""),
            ("s3://key:secret@bucket/a", "credentials come from the environment"),
            ("s3:///a", "names no bucket"),
            ("s3://", "names no bucket"),
        ] {
            assert!(wrong_with(wrong).is_some_and(|found| found.contains(what)), "{wrong}: {:?}", wrong_with(wrong));
        }
        assert_eq!(below(Path::new("/here"), "team"), "/here/team");
        assert_eq!(below(Path::new("/here"), "s3://b/team"), "s3://b/team");
    }
}
