//! Each kind of change ends the shortcut.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use super::*;
use crate::testing::{Bench, STAGES};

/// A bench whose last run had nothing to do.
fn at_rest() -> Bench {
    let bench = Bench::new(&[("one", "a\nb"), ("two", "c")]);
    bench.run(&bench.store()).expect("a run");
    // What changed within a tick of the file system's clock is not rested on.
    std::thread::sleep(Duration::from_millis(30));
    assert!(bench.run(&bench.store()).expect("a run").all_fresh());
    assert!(recalled(&bench).is_some(), "nothing has changed");
    bench
}

fn recalled(bench: &Bench) -> Option<Summary> {
    recall(&bench.store().layout, &bench.path("pipeline.toml"), STAGES)
}

fn files_below(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() { found.extend(files_below(&path)) } else { found.push(path) }
    }
    found
}

#[test]
fn it_gives_the_counts_of_the_run_it_stands_for() {
    let bench = at_rest();
    let summary = recalled(&bench).expect("nothing has changed");
    let counts: Vec<_> = summary.stages.iter().map(|(stage, counts)| (*stage, counts.planned, counts.cached)).collect();
    assert_eq!(counts, [("gather", 1, 1), ("lines", 2, 2), ("page", 1, 1), ("shout", 3, 3)]);
    assert!(summary.all_fresh());
}

#[test]
fn every_kind_of_change_ends_it() {
    let one_object = |bench: &Bench| files_below(&bench.path("store/objects")).remove(0);
    let one_record = |bench: &Bench| files_below(&bench.path("store/records")).remove(0);
    let link = |bench: &Bench| bench.path("store/tables/gather/part-00000.parquet");
    type Change<'a> = (&'a str, &'a dyn Fn(&Bench));
    let changes: [Change; 13] = [
        ("the pipeline", &|bench| bench.write("pipeline.toml", "# edited")),
        ("a dataset's text", &|bench| bench.write("one", "a\nb\nc")),
        ("a dataset's text of the same length", &|bench| bench.write("one", "a\nx")),
        ("a dataset's modification time", &|bench| {
            let later = SystemTime::now() + Duration::from_secs(1);
            fs::File::options().append(true).open(bench.path("one")).expect("a file").set_modified(later).expect("set");
        }),
        ("a file is added beside a dataset", &|bench| bench.write("chat_template.jinja", "")),
        ("a dataset is gone", &|bench| fs::remove_file(bench.path("two")).expect("removed")),
        ("an object is damaged", &|bench| crate::testing::overwrite(&one_object(bench), b"x")),
        ("an object is gone", &|bench| fs::remove_file(one_object(bench)).expect("removed")),
        ("a record is gone", &|bench| fs::remove_file(one_record(bench)).expect("removed")),
        ("a record is changed where it lies", &|bench| {
            let path = one_record(bench);
            let mut text = fs::read(&path).expect("bytes");
            text[0] = b'[';
            crate::testing::overwrite(&path, &text);
        }),
        ("an object's byte is flipped under an unchanged time", &|bench| {
            crate::testing::flip_unseen(&one_object(bench), 0)
        }),
        ("a link is gone", &|bench| fs::remove_file(link(bench)).expect("removed")),
        ("a view was changed by another run", &|bench| {
            bench.store().disk.touch(&bench.store().layout.shown()).expect("touched")
        }),
    ];
    for (what, change) in changes {
        let bench = at_rest();
        change(&bench);
        assert!(recalled(&bench).is_none(), "{what}");
    }
}

#[test]
fn another_program_does_not_rely_on_it() {
    let bench = at_rest();
    let path = bench.store().layout.unchanged(&bench.path("pipeline.toml")).expect("a path");
    let own = std::env::current_exe().expect("this program");
    let other = bench.path("pipeline.toml");
    let mut all = AllFresh::parse(&fs::read(&path).expect("bytes")).expect("as it was written");
    let file = all.rests_on.files.iter_mut().find(|file| **file == own).expect("this program");
    *file = other;
    all.states = all.rests_on.states(&bench.store().layout).expect("all are there").hash;
    bench.store().disk.replace(&path, &all.to_bytes().expect("bytes")).expect("written");
    assert!(recalled(&bench).is_none());
}

#[test]
fn a_run_that_did_something_leaves_none_and_another_pipeline_has_its_own() {
    let bench = at_rest();
    assert!(recall(&bench.store().layout, &bench.path("other.toml"), STAGES).is_none());
    bench.write("one", "changed");
    assert!(!bench.run(&bench.store()).expect("a run").all_fresh());
    assert!(recalled(&bench).is_none(), "what it rested on before has changed");
}

#[test]
fn a_file_that_was_just_changed_is_not_rested_on() {
    let bench = Bench::new(&[("one", "a")]);
    bench.run(&bench.store()).expect("a run");
    std::thread::sleep(Duration::from_millis(30));
    fs::File::options()
        .append(true)
        .open(bench.path("one"))
        .expect("a file")
        .set_modified(SystemTime::now())
        .expect("set");
    bench.run(&bench.store()).expect("a run");
    assert!(recalled(&bench).is_none());
}
