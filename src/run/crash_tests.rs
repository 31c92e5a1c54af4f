//! A run in which any one step on the disk fails, or at which the program dies, leaves a store that the next run makes
//! whole.

use std::io::ErrorKind;

use rayon::prelude::*;

use crate::store::faults::{Fault, Faults};
use crate::testing::Bench;

fn bench() -> Bench {
    Bench::new(&[("one", "a\nb"), ("two", "c\nb")])
}

/// Twice: the second run writes down that nothing is stale. What a fault makes of them is looked at afterwards.
fn run_twice(bench: &Bench, faults: Faults) -> usize {
    let store = bench.faulty_store(faults);
    for _ in 0..2 {
        let _ = bench.run(&store);
    }
    store.disk.faults.as_ref().map_or(0, |faults| faults.steps())
}

#[test]
fn every_step_of_a_run_can_fail_or_be_the_last() {
    let undisturbed = bench();
    let steps = run_twice(&undisturbed, Faults::none());
    let expected = undisturbed.shown();
    assert!(steps > 100 && expected.len() == 2 + 2 + 2 + 2 + 1 + 1, "{steps} steps show {expected:?}");
    let faults = [Fault::Death, Fault::Error(ErrorKind::StorageFull), Fault::Error(ErrorKind::Other)];
    let cases: Vec<(usize, Fault)> = (1..=steps).flat_map(|step| faults.map(|fault| (step, fault))).collect();
    cases.into_par_iter().for_each(|(step, fault)| {
        let bench = bench();
        run_twice(&bench, Faults::at(step, fault));
        let problems = bench.store().verify(crate::testing::STAGES).expect("the records can be listed").problems;
        assert!(problems.is_empty(), "after {fault:?} at step {step}: {problems:?}");
        for (path, bytes) in bench.shown() {
            assert!(expected.get(&path) == Some(&bytes), "after {fault:?} at step {step}: {} differs", path.display());
        }
        let next = bench.run(&bench.store()).expect("a run on a sound disk");
        assert!(next.failures.is_empty(), "after {fault:?} at step {step}");
        assert!(bench.shown() == expected, "after {fault:?} at step {step}: the next run makes other tables");
        assert!(bench.run(&bench.store()).expect("a run").all_fresh(), "after {fault:?} at step {step}");
    });
}
