//! Push and pull over a local folder.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use super::*;
use crate::store::faults::{Fault, Faults};
use crate::testing::Bench;

/// What is in a bench's remote, by the folder it is in.
fn remote_files(bench: &Bench, folder: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut pending = vec![bench.path("remote").join(folder)];
    while let Some(folder) = pending.pop() {
        for entry in fs::read_dir(folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() { pending.push(path) } else { found.push(path) }
        }
    }
    found.sort();
    found
}

fn remote(bench: &Bench) -> Remote {
    Remote::open(&bench.path("remote").to_string_lossy()).expect("a folder")
}

fn push(bench: &Bench) -> Transferred {
    let (graph, store) = (bench.graph(), bench.store());
    let mut plan = Plan::new(&graph, &store);
    plan.expand_all(&graph.all()).expect("expanded");
    let keys: Vec<Key> = plan.states().flat_map(|(_, state)| state.done()).collect();
    remote(bench).push(&store, &keys).expect("pushed")
}

/// Into the store of the bench, with what is not finished after it.
fn pull(bench: &Bench) -> Result<(Transferred, usize)> {
    let (graph, store) = (bench.graph(), bench.store());
    let mut plan = Plan::new(&graph, &store);
    let done = remote(bench).pull(&mut plan, &graph.all())?;
    Ok((done, plan.states().filter(|(_, state)| state.outputs().is_none()).count()))
}

/// A pipeline that was run and pushed, and whose own store is gone.
fn pushed() -> (Bench, Transferred) {
    let bench = Bench::new(&[("one", "a\nb"), ("two", "c")]);
    bench.run(&bench.store()).expect("a run");
    let done = push(&bench);
    fs::remove_dir_all(bench.path("store")).expect("removed");
    (bench, done)
}

#[test]
fn what_is_pushed_can_be_pulled_and_then_nothing_is_left_to_run() {
    let (bench, sent) = pushed();
    assert_eq!((sent.tasks, sent.present), (7, 0));
    let (fetched, unfinished) = pull(&bench).expect("pulled");
    assert_eq!((fetched.tasks, fetched.objects, fetched.bytes, unfinished), (7, sent.objects, sent.bytes, 0));
    assert!(bench.run(&bench.store()).expect("a run").all_fresh());
    assert!(bench.store().verify(crate::testing::STAGES).expect("verified").problems.is_empty());
    assert_eq!(push(&bench), Transferred { present: 7, ..Transferred::default() }, "all is there already");
    assert_eq!(pull(&bench).expect("pulled").0, Transferred { present: 7, ..Transferred::default() });
}

#[test]
fn a_part_that_the_remote_lacks_is_counted_and_can_be_run() {
    let (bench, _) = pushed();
    let record = remote_files(&bench, "records")
        .into_iter()
        .find(|path| fs::read_to_string(path).expect("text").contains("\"stage\": \"gather\""));
    fs::remove_file(record.expect("gather's")).expect("removed");
    let (fetched, unfinished) = pull(&bench).expect("pulled");
    assert_eq!((fetched.absent, unfinished), (1, 2), "gather, and page, which reads it");
    let summary = bench.run(&bench.store()).expect("a run");
    assert_eq!(["shout", "gather"].map(|stage| crate::testing::ran(&summary, stage)), [0, 1]);
}

/// The error of a pull after a change to every object or record of the remote, and that nothing of it was kept.
fn error_after(folder: &str, change: impl Fn(&PathBuf)) -> String {
    let (bench, _) = pushed();
    remote_files(&bench, folder).iter().for_each(change);
    let error = format!("{:#}", pull(&bench).expect_err("refused"));
    assert!(bench.store().verify(crate::testing::STAGES).expect("verified").problems.is_empty());
    assert_eq!(bench.store().keys().expect("listed").len(), 0);
    error
}

#[test]
fn a_damaged_object_is_refused() {
    let flip = |path: &PathBuf| {
        let mut bytes = fs::read(path).expect("bytes");
        bytes[0] ^= 1;
        fs::write(path, bytes).expect("written");
    };
    let error = error_after("objects", flip);
    assert!(error.contains("is damaged: its bytes hash to"), "{error}");
}

#[test]
fn a_record_without_its_object_is_refused() {
    let error = error_after("objects", |path| fs::remove_file(path).expect("removed"));
    assert!(error.contains("has the record") && error.contains("but not objects/"), "{error}");
}

#[test]
fn another_tasks_record_is_refused() {
    let (bench, _) = pushed();
    let records = remote_files(&bench, "records");
    let texts: Vec<Vec<u8>> = records.iter().map(|path| fs::read(path).expect("bytes")).collect();
    for (index, path) in records.iter().enumerate() {
        fs::remove_file(path).expect("removed");
        fs::write(path, &texts[(index + 1) % texts.len()]).expect("written");
    }
    let error = format!("{:#}", pull(&bench).expect_err("refused"));
    assert!(error.contains("is another task's record"), "{error}");
    assert_eq!(bench.store().keys().expect("listed").len(), 0);
}

#[test]
fn a_record_that_was_changed_is_refused() {
    let error = error_after("records", |path| {
        let text = fs::read_to_string(path).expect("text").replace("\"bytes\": ", "\"bytes\": 1");
        fs::remove_file(path).expect("removed");
        fs::write(path, text).expect("written");
    });
    assert!(error.contains("was changed after it was written"), "{error}");
}

/// Texts that a record's names could be, each of which would lead a careless reader out of the store.
fn hostile(bench: &Bench) -> Vec<String> {
    let absolute = bench.path("mine").display().to_string();
    let up = ["..", "../mine", "x/../../../../mine", "figures/../../../mine", "./mine", "a//b", "a\\b"];
    let other = ["a\0b", "a\nb", ".tmp-1-1", ""];
    up.into_iter().chain(other).map(String::from).chain([absolute, "n".repeat(300)]).collect()
}

const NAMES: [&str; 3] = ["object", "extension", "name"];

/// Every record below a folder gets this field in its first output.
fn poison(folder: &Path, field: &str, text: &str) {
    for path in fs::read_dir(folder).expect("records").map(|entry| entry.expect("an entry").path()) {
        let mut record: serde_json::Value = serde_json::from_slice(&fs::read(&path).expect("bytes")).expect("JSON");
        record["outputs"][0][field] = text.into();
        fs::remove_file(&path).expect("removed");
        fs::write(path, record.to_string()).expect("written");
    }
}

#[test]
fn no_name_in_a_pulled_record_leads_out_of_the_store() {
    for field in NAMES {
        let (bench, _) = pushed();
        bench.write("mine", "my only copy");
        for text in &hostile(&bench) {
            poison(&bench.path("remote/records"), field, text);
            let before = everything(&bench, "store");
            let error = format!("{:#}", pull(&bench).expect_err("refused"));
            let refused = error.contains(&format!("cannot be the {field} of an output"));
            assert!(refused && error.contains("is refused"), "{field} {text:?}: {error}");
            assert!(everything(&bench, "store") == before, "{field} {text:?} changed what is not the store's");
            assert_eq!(bench.store().keys().expect("listed").len(), 0, "{field} {text:?} was kept");
        }
    }
}

#[test]
fn no_name_in_a_record_that_is_read_leads_out_of_the_store() {
    for field in NAMES {
        let bench = Bench::new(&[("one", "a\nb"), ("two", "c")]);
        bench.write("mine", "my only copy");
        bench.run(&bench.store()).expect("a run");
        let shown = bench.shown();
        for text in &hostile(&bench) {
            poison(&bench.path("store/records"), field, text);
            let before = everything(&bench, "store");
            assert!(
                !bench.store().verify(crate::testing::STAGES).expect("verified").problems.is_empty(),
                "{field} {text:?}"
            );
            let summary = bench.run(&bench.store()).expect("a run");
            assert!(summary.failures.is_empty() && crate::testing::ran(&summary, "page") == 1, "{field} {text:?}");
            assert!(everything(&bench, "store") == before, "{field} {text:?} changed what is not the store's");
            assert!(
                bench.shown() == shown
                    && bench.store().verify(crate::testing::STAGES).expect("verified").problems.is_empty()
            );
        }
    }
}

/// What lies in a bench's folder beside one of its folders, with the bytes.
fn everything(bench: &Bench, but: &str) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut pending = vec![bench.path("")];
    while let Some(folder) = pending.pop() {
        for path in fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").path()) {
            if path.is_dir() && !path.is_symlink() {
                pending.extend((path != bench.path(but)).then_some(path));
            } else {
                let bytes = fs::read_link(&path).map(|link| link.as_os_str().as_encoded_bytes().to_vec());
                let bytes = bytes.or_else(|_| fs::read(&path)).expect("bytes");
                found.insert(path, bytes);
            }
        }
    }
    found
}

#[test]
fn a_damaged_object_is_not_pushed() {
    let bench = Bench::new(&[("one", "a")]);
    bench.run(&bench.store()).expect("a run");
    let keys = bench.store().keys().expect("keys");
    let record = bench.store().record(keys[0]).expect("a record");
    let object = bench.store().layout.object(&record.outputs[0]);
    let mut bytes = fs::read(&object).expect("bytes");
    bytes[0] ^= 1;
    fs::write(&object, bytes).expect("written");
    let error = remote(&bench).push(&bench.store(), &keys).expect_err("refused");
    assert!(format!("{error:#}").contains("is damaged and was not pushed"), "{error:#}");
}

#[test]
fn a_pull_that_is_cut_short_anywhere_leaves_a_sound_store() {
    let (bench, _) = pushed();
    let pull = |faults| {
        let _ = fs::remove_dir_all(bench.path("store"));
        let (graph, store) = (bench.graph(), bench.faulty_store(faults));
        let result = remote(&bench).pull(&mut Plan::new(&graph, &store), &graph.all());
        (result.is_ok(), store.disk.faults.as_ref().map_or(0, |faults| faults.steps()))
    };
    let (whole, steps) = pull(Faults::none());
    assert!(whole && steps > 50, "{steps} steps");
    for step in 1..=steps {
        assert!(!pull(Faults::at(step, Fault::Death)).0, "at step {step} of {steps}");
        let problems = bench.store().verify(crate::testing::STAGES).expect("the records can be listed").problems;
        assert!(problems.is_empty(), "at step {step} of {steps}: {problems:?}");
    }
}
