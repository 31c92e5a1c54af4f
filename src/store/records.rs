//! The record of a finished task: which objects came out, from what, in how long.
//!
//! A record seals itself: one hash covers its key and all that it says. The key covers the document. So a run that reads the
//! outputs alone knows that they are this task's and as they were written.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};

use super::layout::object_path;
use super::names::{BadName, Extension, FileName, ObjectHash};
use super::read_regular;
use super::signing::{Distrust, PublicKey, SIGNATURE_LENGTH, Signature, Signer, Trust};
use crate::key::{Key, KeyDocument};

/// The form of a record. A record of another form counts as not there.
pub const FORMAT: u32 = 2;

/// `records/<key>.json`: this as JSON, with the seal as its last field.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Record {
    format: u32,
    pub document: KeyDocument,
    #[serde(deserialize_with = "distinct")]
    pub outputs: Vec<OutputRecord>,
    pub made: Made,
}

/// How, when and where a task was done, for the reader: no key depends on it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Made {
    pub seconds: f64,
    pub program: String,
    /// The time in UTC, as RFC 3339 writes it.
    pub at: String,
    /// The kind of machine: system, architecture and cores, and no name.
    pub host: String,
}

/// What is wrong with the text under a record's name.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    #[error("is no record: {0}")]
    Unreadable(String),
    #[error("is of format {0}, and this Strata reads format {FORMAT}")]
    Format(u64),
    #[error("is another task's record")]
    Misfiled,
    #[error("was changed after it was written: its seal does not cover what it says")]
    Unsealed,
    #[error("{0}")]
    Distrusted(#[from] Distrust),
}

impl Made {
    /// Now, here, by this program.
    pub fn now(seconds: f64) -> Made {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Made {
            seconds: (seconds * 1e4).round() / 1e4,
            program: concat!("strata ", env!("CARGO_PKG_VERSION")).to_string(),
            at: chrono::Utc::now().to_rfc3339_opts(chrono::SecondsFormat::Secs, true),
            host: format!("{} {}, {cores} cores", std::env::consts::OS, std::env::consts::ARCH),
        }
    }
}

impl Record {
    pub fn new(document: KeyDocument, outputs: Vec<OutputRecord>, made: Made) -> Record {
        Record { format: FORMAT, document, outputs, made }
    }

    /// As it lies in a store or a remote, signed where there is a signer.
    pub fn to_text(&self, signer: Option<&Signer>) -> serde_json::Result<Vec<u8>> {
        let mut text = serde_json::to_vec_pretty(self)?;
        text.truncate(text.len() - END.len());
        let key = self.document.key();
        let seal = seal(key, &text).to_hex();
        let signature = signer
            .map_or_else(String::new, |signer| format!("{BEFORE_SIGNATURE}{}{AFTER_TEXT}", signer.sign(key, &seal)));
        text.extend_from_slice(format!("{BEFORE_SEAL}{seal}{AFTER_TEXT}{signature}{END}").as_bytes());
        Ok(text)
    }
}

/// Bytes. No record is longer: one with 100,000 inputs is a tenth of it.
pub const LONGEST_RECORD: u64 = 256 << 20;

const END: &str = "\n}";
const BEFORE_SEAL: &str = ",\n  \"seal\": \"";
const BEFORE_SIGNATURE: &str = ",\n  \"signature\": \"";
const AFTER_TEXT: &str = "\"";

/// The seal of a record's text up to where the seal begins.
fn seal(key: Key, text: &[u8]) -> ObjectHash {
    let mut hasher = blake3::Hasher::new();
    hasher.update(b"strata record 2\n").update(key.to_string().as_bytes()).update(b"\n");
    hasher.update(text).finalize().into()
}

/// The end of a record's text.
struct Ending<'t> {
    /// What is sealed.
    text: &'t [u8],
    seal: &'t str,
    signature: Option<Signature>,
}

/// Takes a quoted text of this length, after this name, off the end.
fn take_last<'t>(text: &'t [u8], before: &str, length: usize) -> Option<(&'t [u8], &'t str)> {
    let text = text.strip_suffix(AFTER_TEXT.as_bytes())?;
    let (text, value) = text.split_at_checked(text.len().checked_sub(length)?)?;
    Some((text.strip_suffix(before.as_bytes())?, std::str::from_utf8(value).ok()?))
}

impl Ending<'_> {
    fn of(text: &[u8]) -> Option<Ending<'_>> {
        let text = text.strip_suffix(END.as_bytes())?;
        let (text, signature) = match take_last(text, BEFORE_SIGNATURE, SIGNATURE_LENGTH) {
            Some((text, signature)) => (text, Some(signature.parse().ok()?)),
            None => (text, None),
        };
        let (text, seal) = take_last(text, BEFORE_SEAL, 64)?;
        Some(Ending { text, seal, signature })
    }
}

/// Whether a text ends with the seal of what is before it, for this key, and with a signature that is believed.
fn check_ending(text: &[u8], key: Key, trust: &Trust) -> Result<(), Fault> {
    let ending = Ending::of(text).ok_or(Fault::Unsealed)?;
    if seal(key, ending.text).to_hex() != ending.seal {
        return Err(Fault::Unsealed);
    }
    Ok(trust.check(key, ending.seal, ending.signature)?)
}

/// Who signed a record's text, whether or not it holds.
pub fn signed_by(text: &[u8]) -> Option<PublicKey> {
    Ending::of(text)?.signature.map(|signature| signature.by)
}

/// One output of a task. A record is input from outside: one whose names could lead out of the store cannot be read.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct OutputRecord {
    /// The object's name.
    pub object: ObjectHash,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub extension: Option<Extension>,
    /// The file's name in its model or corpus; none for a table part.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<FileName>,
    #[serde(default)]
    pub rows: u64,
    pub bytes: u64,
    /// For a table part, the hash of every column's values; downstream keys hold these.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub columns: BTreeMap<String, String>,
}

impl OutputRecord {
    /// The file's name in its model or corpus; empty for a table part.
    pub fn file_name(&self) -> &str {
        self.name.as_ref().map_or("", FileName::as_str)
    }

    /// Its object's path, relative to the root of a store or of a remote.
    pub fn object_path(&self) -> PathBuf {
        object_path(self.object, self.extension.as_ref())
    }
}

/// Outputs of which no two would be shown under one name, nor one below another.
fn distinct<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<OutputRecord>, D::Error> {
    let outputs = Vec::<OutputRecord>::deserialize(deserializer)?;
    let mut names = BTreeSet::new();
    for name in outputs.iter().filter_map(|output| output.name.as_ref()) {
        if !names.insert(name.as_str()) {
            return Err(D::Error::custom(BadName::new("name", name.as_str(), "another output has it")));
        }
    }
    let folders = |name: &&str| name.match_indices('/').any(|(end, _)| names.contains(&name[..end]));
    match names.iter().copied().find(|name| folders(name)) {
        Some(name) => Err(D::Error::custom(BadName::new("name", name, "another output is named like its folder"))),
        None => Ok(outputs),
    }
}

/// The record that was filed under a key, on a disk or in a remote.
///
/// # Errors
/// What is wrong with it.
pub fn parse(text: &[u8], key: Key, trust: &Trust) -> Result<Record, Fault> {
    let unreadable = |error: serde_json::Error| Fault::Unreadable(error.to_string());
    if let Some(format) = other_format(text) {
        return Err(Fault::Format(format));
    }
    let record: Record = serde_json::from_slice(text).map_err(unreadable)?;
    let own = record.document.key();
    if own != key && check_ending(text, own, &Trust::default()).is_ok() {
        return Err(Fault::Misfiled);
    }
    check_ending(text, own, trust)?;
    Ok(record)
}

/// The format of a record that another Strata wrote. The first wrote none.
fn other_format(text: &[u8]) -> Option<u64> {
    #[derive(Deserialize)]
    struct Format {
        #[serde(default = "first")]
        format: u64,
    }
    fn first() -> u64 {
        1
    }
    let found: Format = serde_json::from_slice(text).ok()?;
    (found.format != u64::from(FORMAT)).then_some(found.format)
}

/// The outputs of a task, when its record is sealed for it. Parsing the documents of a thousand records would be most of a run that
/// does nothing, and the key and the seal stand for them.
pub fn read_outputs(path: &Path, key: Key, trust: &Trust) -> Option<Vec<OutputRecord>> {
    #[derive(Deserialize)]
    struct OutputsOnly {
        format: u32,
        #[serde(deserialize_with = "distinct")]
        outputs: Vec<OutputRecord>,
    }
    let text = read_regular(path).ok().filter(|text| check_ending(text, key, trust).is_ok())?;
    let record: OutputsOnly = serde_json::from_slice(&text).ok()?;
    (record.format == FORMAT).then_some(record.outputs)
}

#[cfg(test)]
mod tests {
    use super::super::signing::tests::signer;
    use super::*;
    use serde_json::{Value, json};

    fn output() -> Value {
        json!({ "object": "ab".repeat(32), "extension": "parquet", "name": "part.jsonl", "rows": 3, "bytes": 1,
            "columns": { "ids": "ab" } })
    }

    fn read(outputs: Value) -> Result<Vec<OutputRecord>, serde_json::Error> {
        let mut written = serde_json::to_value(record())?;
        written["outputs"] = outputs;
        Ok(serde_json::from_value::<Record>(written)?.outputs)
    }

    #[test]
    fn names_that_lead_out_of_the_store_cannot_be_read() {
        assert!(read(json!([output()])).is_ok());
        let long = "n".repeat(300);
        let hostile = ["", "/etc/x", "..", "../x", "x/../../../../NAME", "a//b", "a\\b", "a\0b", ".tmp-1-1", &long];
        for field in ["object", "extension", "name"] {
            for text in hostile {
                let mut bad = output();
                bad[field] = json!(text);
                let error = read(json!([bad])).err().map(|error| error.to_string()).unwrap_or_default();
                assert!(error.contains(&format!("cannot be the {field} of an output")), "{field} {text:?}: {error}");
            }
        }
    }

    #[test]
    fn two_outputs_cannot_have_one_place_in_a_view() {
        let named = |names: [&str; 2]| {
            let of = |name: &str| {
                let mut output = output();
                output["name"] = json!(name);
                output
            };
            read(json!([of(names[0]), of(names[1])]))
        };
        assert!(named(["a", "b"]).is_ok() && named(["a/x", "a/y"]).is_ok());
        assert!(named(["a", "a"]).is_err() && named(["a/x", "a"]).is_err() && named(["a/b", "a/b/c"]).is_err());
    }

    #[test]
    fn an_output_is_read_as_it_was_written() {
        let output: OutputRecord = serde_json::from_value(output()).expect("an output");
        let text = serde_json::to_string(&output).expect("JSON");
        assert_eq!(serde_json::from_str::<OutputRecord>(&text).expect("own JSON"), output);
        let part = OutputRecord { name: None, extension: None, ..output };
        let text = serde_json::to_string(&part).expect("JSON");
        assert!(!text.contains("name") && !text.contains("extension"), "{text}");
        assert_eq!(serde_json::from_str::<OutputRecord>(&text).expect("own JSON"), part);
    }

    fn record() -> Record {
        let document =
            KeyDocument { stage: "x".into(), version: 1, params: json!({ "a": 0.1 }), inputs: BTreeMap::new() };
        let outputs = vec![serde_json::from_value(output()).expect("an output")];
        Record::new(document, outputs, Made::now(0.25))
    }

    #[test]
    fn a_record_is_believed_as_it_was_written_and_under_its_key_alone() {
        let (record, other) = (record(), Key::of_text("other"));
        let (key, text) = (record.document.key(), record.to_text(None).expect("JSON"));
        assert_eq!(parse(&text, key, &Trust::default()).expect("its own"), record);
        assert!(matches!(parse(&text, other, &Trust::default()), Err(Fault::Misfiled)));
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("record");
        std::fs::write(&path, &text).expect("written");
        assert_eq!(read_outputs(&path, key, &Trust::default()), Some(record.outputs));
        assert_eq!(
            read_outputs(&path, other, &Trust::default()),
            None,
            "another task's record, though its seal is right for that one"
        );
    }

    #[test]
    fn every_flipped_bit_of_a_record_is_noticed() {
        let (record, signer) = (record(), signer(1));
        for signer in [None, Some(&signer)] {
            let keys = signer.map(|signer| vec![signer.public]);
            let trust = Trust { keys, signer: None };
            let (key, text) = (record.document.key(), record.to_text(signer).expect("JSON"));
            assert_eq!(parse(&text, key, &trust).expect("its own"), record);
            for bit in 0..text.len() * 8 {
                let mut changed = text.clone();
                changed[bit / 8] ^= 1 << (bit % 8);
                assert!(parse(&changed, key, &trust).is_err(), "{}", String::from_utf8_lossy(&changed));
                assert!(check_ending(&changed, key, &trust).is_err());
            }
        }
    }

    #[test]
    fn a_signed_record_names_the_outputs_that_were_signed() {
        let (alice, mallory) = (signer(1), signer(2));
        let trust = Trust { keys: Some(vec![alice.public]), signer: None };
        let (record, key) = (record(), record().document.key());
        let signed = record.to_text(Some(&alice)).expect("JSON");
        let mut other = record.clone();
        other.outputs[0].rows += 1;
        let forged = other.to_text(Some(&alice)).expect("JSON");
        // Other outputs, sealed anew, under the signature of the old ones.
        let at = signed.len() - SIGNATURE_LENGTH - AFTER_TEXT.len() - END.len();
        let moved = [&forged[..forged.len() - (signed.len() - at)], &signed[at..]].concat();
        assert!(matches!(parse(&moved, key, &trust), Err(Fault::Distrusted(Distrust::Wrong(_)))));
        let strange = record.to_text(Some(&mallory)).expect("JSON");
        assert!(matches!(parse(&strange, key, &trust), Err(Fault::Distrusted(Distrust::Stranger(_)))));
        let unsigned = record.to_text(None).expect("JSON");
        assert!(matches!(parse(&unsigned, key, &trust), Err(Fault::Distrusted(Distrust::Unsigned))));
        assert_eq!((signed_by(&signed), signed_by(&unsigned)), (Some(alice.public), None));
    }

    #[test]
    fn a_record_of_another_format_is_refused_by_name() {
        let key = record().document.key();
        let mut old = serde_json::to_value(record()).expect("JSON");
        old.as_object_mut().expect("an object").remove("format");
        let error = parse(old.to_string().as_bytes(), key, &Trust::default()).expect_err("refused");
        assert_eq!(error.to_string(), "is of format 1, and this Strata reads format 2");
        old["format"] = json!(3);
        assert!(matches!(parse(old.to_string().as_bytes(), key, &Trust::default()), Err(Fault::Format(3))));
    }
}
