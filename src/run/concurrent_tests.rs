//! Several runs at once on one store: each task is computed by one of them, and by another when that one has ended.

use std::path::Path;
use std::thread;

use crate::key::Key;
use crate::run::Summary;
use crate::store::Store;
use crate::testing::{Bench, STAGES};

fn bench() -> Bench {
    let lines = |from: usize| (from..from + 12).map(|line| format!("line {line}\n")).collect::<String>();
    Bench::new(&[("one", &lines(0)), ("two", &lines(8)), ("three", &lines(16))])
}

fn total(summary: &Summary) -> usize {
    summary.stages.values().map(|counts| counts.ran).sum()
}

/// A store in which everything was computed, and the key of one of its tasks of `shout`.
fn finished() -> (Bench, Key) {
    let reference = bench();
    reference.run(&reference.store()).expect("a run");
    let store = reference.store();
    let shout = |key: &Key| store.record(*key).is_some_and(|record| record.document.stage == "shout");
    let key = store.keys().expect("keys").into_iter().find(shout).expect("one");
    (reference, key)
}

#[test]
fn of_eight_runs_at_once_each_task_is_computed_by_one() {
    let reference = bench();
    let alone = reference.run(&reference.store()).expect("a run");
    for _ in 0..5 {
        let bench = bench();
        let runs: Vec<Summary> = thread::scope(|scope| {
            let run = || bench.run_with(&bench.store(), |options| options.jobs = 2).expect("a run");
            let runs: Vec<_> = (0..8).map(|_| scope.spawn(run)).collect();
            runs.into_iter().map(|run| run.join().expect("no panic")).collect()
        });
        assert!(runs.iter().all(|summary| summary.failures.is_empty() && summary.unreached == 0));
        assert_eq!(runs.iter().map(total).sum::<usize>(), total(&alone));
        let planned = |summary: &Summary| summary.stages.values().map(|counts| counts.planned).sum::<usize>();
        let settled =
            |summary: &Summary| summary.stages.values().map(|counts| counts.ran + counts.cached).sum::<usize>();
        assert!(runs.iter().all(|summary| planned(summary) == planned(&alone) && settled(summary) == planned(&alone)));
        assert!(bench.shown() == reference.shown());
        assert!(bench.store().verify(STAGES).expect("verified").problems.is_empty());
    }
}

fn records(store: &Store) -> usize {
    store.keys().map_or(0, |keys| keys.len())
}

fn wait_for(condition: impl Fn() -> bool) {
    while !condition() {
        thread::yield_now();
    }
}

/// All that a run does while another holds the task of `key`: everything but that one, `gather` and `page`. `then` is what
/// becomes of the other. Returns the summary.
fn beside(bench: &Bench, key: Key, all: usize, then: impl FnOnce(&Store)) -> Summary {
    let other = bench.store();
    other.prepare().expect("a store");
    let locks = other.task_locks();
    assert!(locks.take(key));
    thread::scope(|scope| {
        let run = scope.spawn(|| bench.run(&bench.store()).expect("a run"));
        wait_for(|| records(&other) == all - 3);
        then(&other);
        drop(locks);
        run.join().expect("no panic")
    })
}

#[test]
fn a_run_does_other_work_and_then_what_the_dead_left() {
    let (reference, key) = finished();
    let (bench, all) = (bench(), records(&reference.store()));
    let summary = beside(&bench, key, all, |_| ());
    assert_eq!((total(&summary), summary.unreached), (all, 0));
    assert!(bench.shown() == reference.shown());
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to.parent().expect("a folder")).expect("made");
    std::fs::copy(from, to).expect("copied");
}

#[test]
fn what_another_run_finished_is_taken_and_not_computed() {
    let (reference, key) = finished();
    let (bench, all, from) = (bench(), records(&reference.store()), reference.store());
    let summary = beside(&bench, key, all, |to| {
        let record = from.record(key).expect("a record");
        for output in &record.outputs {
            copy(&from.layout.object(output), &to.layout.object(output));
        }
        copy(&from.layout.record(key), &to.layout.record(key));
    });
    assert_eq!((total(&summary), summary.unreached, summary.failures.len()), (all - 1, 0, 0));
    assert!(bench.shown() == reference.shown());
}

#[test]
fn a_stop_ends_the_wait_for_another_run() {
    let (reference, key) = finished();
    let (bench, all) = (bench(), records(&reference.store()));
    let store = bench.store();
    store.prepare().expect("a store");
    let locks = store.task_locks();
    assert!(locks.take(key));
    let summary = bench.run_until(&bench.store(), |_| (), &|| records(&store) == all - 3).expect("a run");
    assert!(summary.interrupted && summary.failures.is_empty() && summary.unreached > 0);
    drop(locks);
    assert_eq!(total(&bench.run(&bench.store()).expect("a run")), 3);
}
