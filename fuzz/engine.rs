//! What is read of pipelines and of records.

use std::path::{Component, Path};

use strata_parsers::{graph, key, manifest, store};

use crate::File;

/// pipeline.toml, up to the graph of its nodes.
pub fn pipeline(data: &[u8]) {
    let file = File::new(data, "toml");
    for manifest in [manifest::Manifest::load(&file.0), manifest::Manifest::load_to_estimate(&file.0)] {
        match manifest {
            Ok(manifest) => match graph::Graph::build(&manifest.pipeline) {
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
    assert!(store::parse(data, key).is_err(), "no bytes are sealed by chance");
    if let Ok(record) = serde_json::from_slice::<store::Record>(data) {
        for output in &record.outputs {
            assert!(is_within(&output.object_path()) && is_within(Path::new(output.file_name())));
        }
        let text = record.to_text().expect("JSON");
        let again = store::parse(&text, record.document.key()).expect("what is written can be read");
        assert_eq!(again.document.key(), record.document.key());
        assert!(store::parse(&text, key).is_err());
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

fn is_within(path: &Path) -> bool {
    path.components().all(|component| matches!(component, Component::Normal(_)))
}
