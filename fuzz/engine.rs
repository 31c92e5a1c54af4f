//! What is read of pipelines and of records.

use std::path::{Component, Path};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use object_store::aws::AmazonS3Builder;
use object_store::client::{HttpClient, HttpConnector, HttpError, HttpRequest, HttpResponse, HttpService};
use object_store::{ClientOptions, RetryConfig};
use strata_parsers::remote::bounded::Bounded;
use strata_parsers::remote::{Remote, lookup};
use strata_parsers::store::signing::Trust;

use strata_parsers::{graph, key, manifest, store};

use crate::File;

/// pipeline.toml, up to the graph of its nodes.
pub fn pipeline(data: &[u8]) {
    let file = File::new(data, "toml");
    for manifest in [manifest::Manifest::load(&file.0), manifest::Manifest::load_to_estimate(&file.0)] {
        match manifest {
            Ok(manifest) => match graph::Graph::build(&manifest.pipeline, &manifest.lock) {
                Ok(graph) => assert!(graph.ids().count() < 1 << 20),
                Err(error) => drop(manifest.diagnose(&error).to_string()),
            },
            Err(diagnostic) => drop(diagnostic.to_string()),
        }
    }
}

/// A record, from a disk or as a remote sends it: its own text, the same without the seal, and as the record of a listed name.
pub fn record(data: &[u8]) {
    let key = "ab".repeat(32).parse::<key::Key>().expect("64 digits");
    assert!(store::parse(data, key, &Trust::default()).is_err(), "no bytes are sealed by chance");
    if let Ok(record) = serde_json::from_slice::<store::Record>(data) {
        for output in &record.outputs {
            assert!(is_within(&output.object_path()) && is_within(Path::new(output.file_name())));
        }
        let text = record.to_text(None).expect("JSON");
        match store::parse(&text, record.document.key(), &Trust::default()) {
            Ok(again) => assert_eq!(again.document.key(), record.document.key()),
            // Of another format, as its own text says.
            Err(fault) => assert!(matches!(fault, store::Fault::Format(_)), "what is written can be read: {fault}"),
        }
        assert!(store::parse(&text, key, &Trust::default()).is_err());
    }
    // Names as a remote lists them.
    for name in String::from_utf8_lossy(data).lines() {
        let stem = name.strip_prefix("records/").and_then(|name| name.strip_suffix(".json")).unwrap_or(name);
        if let Ok(key) = stem.parse::<key::Key>() {
            assert!(is_within(Path::new(&store::layout::record_name(key))));
        }
        let hash = store::names::ObjectHash::try_from(name.to_string());
        assert!(hash.is_err() || name.len() == 64);
        let file = store::names::FileName::try_from(name.to_string());
        assert!(file.is_err() || is_within(Path::new(name)));
        let extension = store::names::Extension::try_from(name.to_string());
        assert!(extension.is_err() || !name.contains(['/', '.', '\0']));
    }
}

/// What an object store answers when it is asked for its names: its pages, with a zero byte between them.
pub fn listing(data: &[u8]) {
    let pages = data.split(|byte| *byte == 0).map(<[u8]>::to_vec).collect();
    let server = Server(Arc::new(Pages { pages, next: AtomicUsize::new(0) }));
    let store = AmazonS3Builder::new()
        .with_bucket_name("test")
        .with_region("none")
        .with_access_key_id("a")
        .with_secret_access_key("b")
        .with_retry(RetryConfig { max_retries: 0, ..RetryConfig::default() })
        .with_http_connector(Bounded(server))
        .build()
        .expect("a client");
    let remote = Remote::over(Arc::new(store));
    drop(lookup::runtime().expect("a runtime").block_on(remote.all_keys()));
}

/// Answers each request with the next page, and with a listing of nothing after the last.
#[derive(Debug, Clone)]
struct Server(Arc<Pages>);

#[derive(Debug)]
struct Pages {
    pages: Vec<Vec<u8>>,
    next: AtomicUsize,
}

impl HttpConnector for Server {
    fn connect(&self, _: &ClientOptions) -> object_store::Result<HttpClient> {
        Ok(HttpClient::new(self.clone()))
    }
}

#[async_trait]
impl HttpService for Server {
    async fn call(&self, _: HttpRequest) -> Result<HttpResponse, HttpError> {
        const NOTHING: &[u8] = b"<ListBucketResult><IsTruncated>false</IsTruncated></ListBucketResult>";
        let page = self.0.pages.get(self.0.next.fetch_add(1, Ordering::Relaxed));
        Ok(HttpResponse::new(page.map_or(NOTHING, Vec::as_slice).to_vec().into()))
    }
}

fn is_within(path: &Path) -> bool {
    path.components().all(|component| matches!(component, Component::Normal(_)))
}
