//! Several workers on one store, each with its share of the tasks.

use std::time::Duration;

use crate::run::{Shard, Share, Summary};
use crate::testing::{Bench, ran};

const SIX: [(&str, &str); 3] = [("one", "a\nb\nc\nd"), ("two", "e\nf"), ("three", "g\nh\ni")];
/// Longer than any of these tests takes.
const LONG: Duration = Duration::from_secs(60);

/// A worker with the share `shard` of everything.
fn work(bench: &Bench, shard: &str, patience: Duration) -> Summary {
    let shard: Shard = shard.parse().expect("a shard");
    let nodes = bench.graph().all();
    let share = Share { shard, nodes, patience };
    bench.run_with(&bench.store(), |options| options.share = Some(share)).expect("a run")
}

fn total(summaries: &[Summary], stage: &str) -> usize {
    summaries.iter().map(|summary| ran(summary, stage)).sum()
}

#[test]
fn workers_together_do_every_task_once_and_show_what_one_run_shows() {
    let alone = Bench::new(&SIX);
    alone.run(&alone.store()).expect("a run");
    for workers in [1, 2, 3, 5] {
        let bench = Bench::new(&SIX);
        let summaries: Vec<Summary> = std::thread::scope(|scope| {
            let start = |index| {
                let bench = &bench;
                scope.spawn(move || work(bench, &format!("{index}/{workers}"), LONG))
            };
            let started: Vec<_> = (0..workers).map(start).collect();
            started.into_iter().map(|worker| worker.join().expect("no panic")).collect()
        });
        assert!(summaries.iter().all(|summary| summary.failures.is_empty() && summary.unreached == 0));
        let done = ["lines", "shout", "gather", "page"].map(|stage| total(&summaries, stage));
        assert_eq!(done, [3, 9, 1, 1], "{workers} workers");
        assert_eq!(bench.shown(), alone.shown(), "{workers} workers");
    }
}

#[test]
fn the_parts_of_a_dataset_go_to_the_workers_in_turn() {
    let mut bench = Bench::new(&[("one", "a\nb\nc\nd\ne\nf\ng\nh")]);
    bench.run(&bench.store()).expect("a run");
    bench.shout_with(serde_json::json!({ "louder": true }));
    let shouted = |shard| ran(&work(&bench, shard, Duration::ZERO), "shout");
    assert_eq!(["0/4", "1/4", "2/4", "3/4", "0/4"].map(shouted), [2, 2, 2, 2, 0]);
}

#[test]
fn without_patience_a_worker_does_what_is_ready_and_ends() {
    let bench = Bench::new(&SIX);
    let summaries: Vec<Summary> = (0..2).map(|index| work(&bench, &format!("{index}/2"), Duration::ZERO)).collect();
    assert!(summaries.iter().all(|summary| summary.failures.is_empty()));
    assert_eq!(total(&summaries, "lines"), 3, "they read nothing that another worker makes");
    assert!(summaries[0].others > 0, "of the first, who found nothing of the second's");
    // Started again and again they come to an end.
    let rounds = (0..6).find(|round| work(&bench, &format!("{}/2", round % 2), Duration::ZERO).unreached == 0);
    assert!(rounds.is_some());
}

#[test]
fn a_worker_that_failed_is_started_again_and_the_others_go_on() {
    let bench = Bench::new(&[("one", "a\nfail\nc\nd")]);
    work(&bench, "0/1", Duration::ZERO);
    let shares = ["0/2", "1/2"].map(|shard| work(&bench, shard, Duration::from_millis(1)));
    assert_eq!(shares.iter().map(|summary| summary.failures.len()).sum::<usize>(), 1, "of the one whose task it is");
    assert!(shares.iter().all(|summary| summary.unreached >= 2), "gather and page");
    bench.write("one", "a\nb\nc\nd");
    std::thread::scope(|scope| {
        for shard in ["0/2", "1/2"] {
            let bench = &bench;
            scope.spawn(move || assert_eq!(work(bench, shard, LONG).unreached, 0));
        }
    });
}
