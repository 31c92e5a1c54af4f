//! What is damaged or exchanged in a store is found by `verify`, not believed by a run, and computed again.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use rayon::prelude::*;
use serde_json::Value;

use crate::key::Key;
use crate::store::{FileState, Made, OutputRecord, Record, Store};
use crate::testing::{Bench, STAGES, flip_unseen, overwrite, ran};

fn bench() -> Bench {
    Bench::new(&[("one", "a\nb\nc"), ("two", "d\nb")])
}

fn run(bench: &Bench) -> super::Summary {
    bench.run(&bench.store()).expect("a run")
}

fn problems(bench: &Bench) -> Vec<String> {
    bench.store().verify(STAGES).expect("verified").problems.iter().map(ToString::to_string).collect()
}

fn files_below(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for path in fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").path()) {
        if path.is_dir() { found.extend(files_below(&path)) } else { found.push(path) }
    }
    found.sort();
    found
}

/// Objects and records, sorted.
fn kept(bench: &Bench) -> Vec<PathBuf> {
    [files_below(&bench.path("store/objects")), files_below(&bench.path("store/records"))].concat()
}

/// Of a store in which something was changed: `verify` finds it, the next run computes what it concerns and shows what an
/// undisturbed one shows, and then all is sound.
fn is_found_and_mended(bench: &Bench, expected: &BTreeMap<PathBuf, Vec<u8>>, what: &str) {
    let found = problems(bench);
    assert!(!found.is_empty(), "{what}: verify finds nothing");
    let summary = run(bench);
    assert!(summary.failures.is_empty() && !summary.all_fresh(), "{what}: the run believes it; {found:?}");
    assert!(bench.shown() == *expected, "{what}: the run shows other tables");
    assert_eq!(problems(bench), Vec::<String>::new(), "{what}");
}

#[test]
fn a_thousand_flipped_bits_are_found_and_a_hundred_mended() {
    const FLIPS: usize = 1000;
    const BENCHES: usize = 8;
    (0..BENCHES).into_par_iter().for_each(|index| {
        let bench = bench();
        run(&bench);
        let expected = bench.shown();
        let mut state = index as u64 + 1;
        for flip in 0..FLIPS / BENCHES {
            // Knuth's linear congruential generator.
            let mut draw = |below: usize| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                (state >> 33) as usize % below
            };
            let files = kept(&bench);
            let path = &files[draw(files.len())];
            let bit = draw(fs::metadata(path).expect("a file").len() as usize * 8);
            let bytes = fs::read(path).expect("bytes");
            flip_unseen(path, bit);
            let what = format!("flip {flip}: bit {bit} of {}", path.display());
            if flip % 10 == 0 {
                is_found_and_mended(&bench, &expected, &what);
            } else {
                assert!(!problems(&bench).is_empty(), "{what}");
                overwrite(path, &bytes);
            }
        }
    });
}

#[test]
fn a_bit_that_was_flipped_under_a_set_back_time_is_seen_without_verify() {
    let bench = bench();
    run(&bench);
    let expected = bench.shown();
    for path in kept(&bench) {
        assert!(run(&bench).all_fresh());
        flip_unseen(&path, 77);
        assert!(!run(&bench).all_fresh(), "{}", path.display());
        assert!(bench.shown() == expected);
    }
}

#[test]
fn what_no_time_shows_is_seen_by_the_run_after_verify() {
    let bench = bench();
    run(&bench);
    let expected = bench.shown();
    for path in files_below(&bench.path("store/objects")) {
        let bytes = fs::read(&path).expect("bytes");
        overwrite(&path, &[&[bytes[0] ^ 1], &bytes[1..]].concat());
        // As a disk does that loses a bit: the file looks as it did when it was hashed.
        std::thread::sleep(std::time::Duration::from_millis(30));
        let (store, hash) = (bench.store(), blake3::hash(&bytes).to_hex());
        store.fingerprints.remember(&path, FileState::of(&path).expect("a file"), hash.as_str());
        store.save_fingerprints().expect("saved");
        assert!(run(&bench).all_fresh(), "no run can know");
        is_found_and_mended(&bench, &expected, &path.display().to_string());
    }
}

/// The records of a stage, as JSON.
fn records(bench: &Bench, stage: &str) -> Vec<(PathBuf, Value)> {
    let read = |path: PathBuf| {
        let record: Value = serde_json::from_slice(&fs::read(&path).expect("bytes")).expect("JSON");
        (record["document"]["stage"] == stage).then_some((path, record))
    };
    files_below(&bench.path("store/records")).into_iter().filter_map(read).collect()
}

fn write(path: &Path, record: &Value) {
    overwrite(path, &serde_json::to_vec_pretty(record).expect("JSON"));
}

#[test]
fn another_tasks_record_is_not_served() {
    let bench = bench();
    run(&bench);
    let expected = bench.shown();
    for stage in ["lines", "shout"] {
        let found = records(&bench, stage);
        for (index, (path, _)) in found.iter().enumerate() {
            write(path, &found[(index + 1) % found.len()].1);
            is_found_and_mended(&bench, &expected, &format!("{stage} {index}"));
        }
    }
}

#[test]
fn exchanged_or_emptied_outputs_are_not_served() {
    let bench = bench();
    run(&bench);
    let expected = bench.shown();
    for stage in ["lines", "shout", "gather", "page"] {
        let found = records(&bench, stage);
        for (index, (path, record)) in found.iter().enumerate() {
            let mut changed = record.clone();
            changed["outputs"] = found[(index + 1) % found.len()].1["outputs"].clone();
            if changed != *record {
                write(path, &changed);
                is_found_and_mended(&bench, &expected, &format!("exchanged {stage} {index}"));
            }
            changed["outputs"] = Value::Array(Vec::new());
            write(path, &changed);
            is_found_and_mended(&bench, &expected, &format!("emptied {stage} {index}"));
        }
    }
}

/// The keys of a stage's records.
fn keys(store: &Store, stage: &str) -> Vec<Key> {
    let mut found = store.keys().expect("keys");
    found.retain(|key| store.record(*key).is_some_and(|record| record.document.stage == stage));
    found
}

/// Gives a record other outputs and seals it anew, as whoever means harm would.
fn forge(store: &Store, key: Key, change: impl FnOnce(&mut Vec<OutputRecord>)) {
    let record = store.record(key).expect("a record");
    let mut outputs = record.outputs.to_vec();
    change(&mut outputs);
    store.write_record(&Record::new(record.document, outputs, Made::now(0.0))).expect("written");
}

#[test]
fn a_sealed_record_that_cannot_be_its_stages_is_not_served() {
    let bench = bench();
    run(&bench);
    let (store, expected) = (bench.store(), bench.shown());
    let other = store.record(keys(&store, "gather")[0]).expect("a record").outputs.to_vec();
    forge(&store, keys(&store, "shout")[0], |outputs| outputs.clear());
    assert_eq!(ran(&run(&bench), "shout"), 1, "a task of a part has a part");
    forge(&store, keys(&store, "shout")[0], |outputs| *outputs = other.clone());
    is_found_and_mended(&bench, &expected, "another stage's columns");
    forge(&store, keys(&store, "page")[0], |outputs| *outputs = other);
    is_found_and_mended(&bench, &expected, "a table for a page");
}

#[test]
fn a_record_that_says_other_values_than_its_table_holds_is_found_and_set_aside() {
    let bench = bench();
    run(&bench);
    let (store, expected, shout) = (bench.store(), bench.shown(), keys(&bench.store(), "shout"));
    let other = store.record(shout[1]).expect("a record").outputs[0].clone();
    forge(&store, shout[0], |outputs| (outputs[0].object, outputs[0].bytes) = (other.object, other.bytes));
    let verified = store.verify(STAGES).expect("verified");
    assert!(problems(&bench)[0].contains("has other values"), "{:?}", problems(&bench));
    assert!(store.set_aside(&verified).expect("moved") >= 2);
    assert!(!run(&bench).all_fresh());
    assert!(bench.shown() == expected);
    assert_eq!(problems(&bench), Vec::<String>::new());
}

#[test]
fn what_is_no_file_in_a_files_place_makes_way() {
    let bench = bench();
    run(&bench);
    let expected = bench.shown();
    for path in kept(&bench) {
        fs::remove_file(&path).expect("removed");
        fs::create_dir(&path).expect("a folder");
        fs::write(path.join("precious"), b"whose?").expect("written");
        is_found_and_mended(&bench, &expected, &path.display().to_string());
        fs::remove_file(&path).expect("removed");
        let made = std::process::Command::new("mkfifo").arg(&path).status().expect("mkfifo");
        assert!(made.success());
        is_found_and_mended(&bench, &expected, &path.display().to_string());
    }
    let aside = files_below(&bench.path("store/damaged"));
    assert!(aside.iter().any(|path| path.ends_with("precious")), "{aside:?}");
}

#[test]
fn a_file_of_a_terabyte_in_a_records_place_takes_no_memory_and_makes_way() {
    let bench = bench();
    run(&bench);
    let expected = bench.shown();
    let (path, _) = records(&bench, "lines").swap_remove(0);
    fs::remove_file(&path).expect("removed");
    let file = fs::File::create(&path).expect("created");
    file.set_len(1 << 40).expect("a hole");
    is_found_and_mended(&bench, &expected, "a terabyte");
}

#[test]
fn a_view_that_leads_to_nothing_is_found_and_shown_again() {
    let bench = bench();
    run(&bench);
    let expected = bench.shown();
    let link = bench.path("store/tables/gather/part-00000.parquet");
    fs::remove_file(&link).expect("removed");
    std::os::unix::fs::symlink("nowhere", &link).expect("a link");
    assert!(problems(&bench)[0].contains("leads to nothing"), "{:?}", problems(&bench));
    assert!(run(&bench).all_fresh());
    assert!(bench.shown() == expected && problems(&bench).is_empty());
}

#[test]
fn what_is_kept_is_read_only() {
    use std::os::unix::fs::PermissionsExt;
    let bench = bench();
    run(&bench);
    for path in kept(&bench) {
        assert_eq!(fs::metadata(&path).expect("a file").permissions().mode() & 0o222, 0, "{}", path.display());
    }
}
