//! What runs, what does not, and what is kept when something fails.

use crate::testing::{Bench, ran};

const TWO: [(&str, &str); 2] = [("one", "a\nb\nc"), ("two", "d\nb")];

fn failures(summary: &super::Summary) -> Vec<String> {
    summary.failures.iter().map(|(label, error)| format!("{label}: {error:#}")).collect()
}

#[test]
fn a_task_runs_once_and_then_when_what_it_reads_changes() {
    let bench = Bench::new(&TWO);
    let first = bench.run(&bench.store()).expect("a run");
    assert_eq!(["lines", "gather", "page"].map(|stage| ran(&first, stage)), [2, 1, 1]);
    assert!(bench.run(&bench.store()).expect("a run").all_fresh());
    bench.write("one", "a\nB\nc");
    let second = bench.run(&bench.store()).expect("a run");
    assert_eq!(["lines", "shout"].map(|stage| ran(&second, stage)), [1, 1]);
    assert_eq!(ran(&second, "gather"), 0, "b and B are shouted alike, so the change stops there");
    bench.write("one", "a\nbb\nc");
    let third = bench.run(&bench.store()).expect("a run");
    assert_eq!(["lines", "shout", "gather", "page"].map(|stage| ran(&third, stage)), [1, 1, 1, 1]);
}

#[test]
fn tasks_with_one_key_run_once() {
    let bench = Bench::new(&TWO);
    let summary = bench.run(&bench.store()).expect("a run");
    let shout = summary.stages["shout"];
    assert_eq!((shout.planned, shout.ran, shout.cached), (5, 4, 1), "both datasets have a part \"b\"");
    assert_eq!(bench.shown().len(), 3 + 3 + 2 + 2 + 1 + 1, "and both show it");
}

#[test]
fn a_failure_stops_the_run_and_keeps_what_was_done() {
    let bench = Bench::new(&[("one", "a\nfail\nc"), ("two", "d")]);
    let summary = bench.run(&bench.store()).expect("a run");
    assert_eq!(failures(&summary), ["shout[one] part 2/3: told to fail"]);
    // The disk may have had part 1 of two before one's.
    let done = ran(&summary, "shout");
    assert_eq!((done.clamp(1, 2), summary.stages["shout"].failed), (done, 1), "part 3 was not begun");
    assert_eq!(summary.unreached, 4 - done, "gather, page and, where it did not run, shout[two]");
    bench.write("one", "a\nb\nc");
    let next = bench.run(&bench.store()).expect("a run");
    assert_eq!((ran(&next, "shout"), next.stages["shout"].cached), (4 - done, done));
}

#[test]
fn keep_going_runs_what_does_not_depend_on_the_failure() {
    let bench = Bench::new(&[("one", "a\nfail\nc"), ("two", "d")]);
    let summary = bench.run_with(&bench.store(), |options| options.keep_going = true).expect("a run");
    assert_eq!(failures(&summary).len(), 1);
    assert_eq!(ran(&summary, "shout"), 3);
    assert_eq!(summary.unreached, 2, "gather and page");
}

#[test]
fn tasks_that_wait_for_one_that_fails_fail_with_it() {
    let bench = Bench::new(&[("one", "fail"), ("two", "fail")]);
    let summary = bench.run_with(&bench.store(), |options| options.keep_going = true).expect("a run");
    assert_eq!((failures(&summary).len(), summary.stages["shout"].failed), (1, 2));
    assert_eq!(summary.unreached, 2, "both nodes of shout failed; gather and page were not reached");
}

#[test]
fn a_panic_is_its_tasks_failure() {
    let bench = Bench::new(&[("one", "panic"), ("two", "d")]);
    let summary = bench.run_with(&bench.store(), |options| options.keep_going = true).expect("a run");
    assert_eq!(failures(&summary), ["shout[one]: a defect in Strata: told to panic"]);
    assert_eq!(ran(&summary, "shout"), 1);
}

#[test]
fn a_file_that_cannot_be_read_fails_its_node() {
    let bench = Bench::new(&TWO);
    std::fs::remove_file(bench.path("one")).expect("removed");
    let summary = bench.run_with(&bench.store(), |options| options.keep_going = true).expect("a run");
    assert!(failures(&summary)[0].starts_with("lines[one]: cannot read"), "{:?}", failures(&summary));
    assert_eq!((ran(&summary, "shout"), summary.unreached), (2, 3));
}

#[test]
fn a_stop_is_no_failure() {
    let bench = Bench::new(&[("one", "a\nwait\nc")]);
    let store = bench.store();
    // The user stops once the first part is done.
    let cancelled = || store.keys().is_ok_and(|keys| keys.len() > 1);
    let summary = bench.run_until(&store, |_| (), &cancelled).expect("a run");
    assert!(summary.interrupted && summary.failures.is_empty(), "{:?}", failures(&summary));
    assert_eq!((ran(&summary, "lines"), ran(&summary, "page")), (1, 0));
    assert_eq!(summary.unreached, 3);
}

#[test]
fn force_runs_again_what_is_forced() {
    let bench = Bench::new(&TWO);
    bench.run(&bench.store()).expect("a run");
    let gather = bench.graph().find(&crate::testing::target("gather")).expect("one")[0];
    let summary = bench.run_with(&bench.store(), |options| options.force.insert(gather)).expect("a run");
    assert_eq!(["lines", "shout", "gather", "page"].map(|stage| ran(&summary, stage)), [0, 0, 1, 0]);
}
