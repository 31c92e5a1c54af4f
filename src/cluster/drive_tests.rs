//! A driver with a scheduler of the test's own: what is submitted, what is tried again, what is said.

use std::cell::RefCell;
use std::collections::HashMap;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Result, bail};

use super::drive::{Driver, Ended};
use super::jobs::Jobs;
use super::scheduler::{Scheduler, Submission};
use super::state::JobState;
use super::steps::{Step, steps};
use crate::manifest::{Executor, Resources};
use crate::plan::Plan;
use crate::run::{Shard, Share};
use crate::store::Store;
use crate::testing::Bench;

/// What becomes of jobs: of an array's stage and number, of the job's index.
type Fate = fn(&str, usize) -> JobState;

#[derive(Default)]
struct Made {
    names: Vec<String>,
    after: Vec<Vec<u64>>,
    indices: Vec<Vec<usize>>,
    memory: Vec<Option<u64>>,
    cancelled: Vec<u64>,
    scripts: Vec<String>,
}

/// Jobs end when they are looked at for the second time.
struct Bed {
    made: RefCell<Made>,
    looked: RefCell<HashMap<u64, usize>>,
    fate: Fate,
    /// Refuses all from this submission on.
    full: usize,
}

fn bed(fate: Fate) -> Bed {
    Bed { made: RefCell::default(), looked: RefCell::default(), fate, full: usize::MAX }
}

impl Scheduler for Bed {
    fn submit(&self, submission: &Submission) -> Result<u64> {
        let mut made = self.made.borrow_mut();
        if made.names.len() >= self.full {
            bail!("the queue is full");
        }
        made.names.push(submission.name.to_string());
        made.after.push(submission.after.clone());
        made.indices.push(submission.indices.to_vec());
        made.memory.push(submission.resources.memory);
        made.scripts.push(submission.script.clone());
        Ok(made.names.len() as u64)
    }

    fn states(&self, arrays: &[u64]) -> Result<HashMap<(u64, usize), JobState>> {
        let made = self.made.borrow();
        let mut found = HashMap::new();
        for id in arrays {
            let place = *id as usize - 1;
            let mut all = self.looked.borrow_mut();
            let looked = all.entry(*id).or_default();
            *looked += 1;
            for index in &made.indices[place] {
                let state = match (made.cancelled.contains(id), *looked) {
                    (true, _) => JobState::Cancelled,
                    (false, 1) => JobState::Running,
                    (false, _) => (self.fate)(&made.names[place], *index),
                };
                found.insert((*id, *index), state);
            }
        }
        Ok(found)
    }

    fn find(&self, names: &[&str]) -> Result<HashMap<String, u64>> {
        let made = self.made.borrow();
        let of = |name: &&str| Some((name.to_string(), made.names.iter().position(|known| known == name)? as u64 + 1));
        Ok(names.iter().filter_map(of).collect())
    }

    fn cancel(&self, arrays: &[u64], waiting_only: bool) -> Result<()> {
        let mut made = self.made.borrow_mut();
        let waits = |id: &&u64| (self.fate)(&made.names[**id as usize - 1], 0) == JobState::Pending;
        let cancelled: Vec<u64> = arrays.iter().filter(|id| !waiting_only || waits(id)).copied().collect();
        made.cancelled.extend(cancelled);
        Ok(())
    }
}

fn step(stage: &'static str, shards: usize, after: &[usize]) -> Step {
    let resources = Resources { memory: Some(1024), ..Resources::default() };
    Step { stages: vec![stage], resources, shards, after: after.to_vec() }
}

struct Said(RefCell<Vec<String>>);

impl Said {
    fn has(&self, text: &str) -> bool {
        self.0.borrow().iter().any(|line| line.contains(text))
    }
}

fn with_driver<T>(bed: &Bed, store: &Store, act: impl FnOnce(&Driver, &Said) -> T) -> T {
    let said = Said(RefCell::default());
    let say = |text: String| said.0.borrow_mut().push(text);
    let driver = Driver {
        scheduler: bed,
        store,
        program: PathBuf::from("/bin/it's"),
        pipeline: PathBuf::from("/p/pipeline.toml"),
        targets: vec!["page".to_string()],
        keep_going: false,
        say: &say,
        shortest: Duration::from_millis(1),
    };
    act(&driver, &said)
}

fn failures(ended: Ended) -> Vec<String> {
    match ended {
        Ended::Over(failures) => {
            failures.into_iter().map(|failure| format!("{}: {}", failure.label, failure.why)).collect()
        }
        Ended::Cancelled => panic!("nobody cancelled"),
    }
}

fn store(bench: &Bench) -> Store {
    let store = bench.store();
    store.prepare().expect("a store");
    store
}

#[test]
fn steps_wait_for_those_that_they_read_from() {
    let bench = Bench::new(&[("one", "a\nb"), ("two", "c")]);
    let (graph, store) = (bench.graph(), store(&bench));
    let mut plan = Plan::new(&graph, &store);
    plan.expand_all(&graph.all()).expect("planned");
    let found = steps(&mut plan, &graph.all(), &Executor::default()).expect("steps");
    let short: Vec<_> = found.iter().map(|step| (&step.stages[..], step.shards, &step.after[..])).collect();
    // How many parts `lines` will have is not known, so `shout` has as many jobs as a step may.
    let expected: [(&[&str], usize, &[usize]); 4] =
        [(&["lines"], 2, &[]), (&["shout"], 8, &[0]), (&["gather"], 1, &[1]), (&["page"], 1, &[2])];
    assert_eq!(short, expected);
    bench.run(&store).expect("a run");
    let mut plan = Plan::new(&graph, &store);
    plan.expand_all(&graph.all()).expect("planned");
    assert_eq!(steps(&mut plan, &graph.all(), &Executor::default()).expect("steps"), []);
    // Where one dataset is further than the other, a stage's nodes are in one step all the same.
    bench.write("two", "d");
    bench.write("one", "a\nb\nnew");
    bench.run_until(&store, |options| options.share = Some(only(&graph, "lines[one]")), &|| false).expect("a run");
    let mut plan = Plan::new(&graph, &store);
    plan.expand_all(&graph.all()).expect("planned");
    let again = steps(&mut plan, &graph.all(), &Executor::default()).expect("steps");
    assert_eq!(again.iter().map(|step| &step.stages[..]).collect::<Vec<_>>(), expected.map(|(stages, ..)| stages));
    assert_eq!(again[1].shards, 8, "of the second dataset it is still not known");
}

/// A worker that does nothing but one target.
fn only(graph: &crate::graph::Graph, target: &str) -> Share {
    let mut nodes = graph.none();
    graph.find(&crate::testing::target(target)).expect("a node").into_iter().for_each(|id| nodes.insert(id));
    Share { shard: Shard::WHOLE, nodes, patience: Duration::ZERO }
}

#[test]
fn every_step_becomes_an_array_that_depends_on_those_before() {
    let (bench, bed) = (Bench::new(&[]), bed(|_, _| JobState::Completed));
    let store = store(&bench);
    with_driver(&bed, &store, |driver, said| {
        let mut jobs = Jobs::new();
        driver
            .submit_all(&mut jobs, vec![step("a", 3, &[]), step("b", 1, &[0]), step("c", 2, &[0, 1])])
            .expect("submitted");
        let kept = Jobs::load(&store, &Executor::default()).expect("what is under way can be read back");
        assert_eq!((kept.nonce, kept.steps[2].arrays[0].id), (jobs.nonce.clone(), Some(3)));
        assert_eq!(failures(driver.follow(&mut jobs, &|| false).expect("followed")), Vec::<String>::new());
        assert!(said.has("a: submitted as job 1, 3 jobs of 1 CPU, 1 GiB") && said.has("3 running of 3"));
    });
    let made = bed.made.borrow();
    assert_eq!(made.after, [vec![], vec![1], vec![1, 2]]);
    assert!(made.scripts[0].contains(r#"exec '/bin/it'\''s' --pipeline '/p/pipeline.toml'"#), "{}", made.scripts[0]);
    assert!(made.scripts[0].contains("work --shard \"$SLURM_ARRAY_TASK_ID/3\" --jobs 1 --stages 'a' -- 'page'"));
}

#[test]
fn what_ran_out_of_memory_is_tried_again_with_more_and_so_is_what_waits_for_it() {
    let fate: Fate = |name, index| match name.ends_with("-0.0") && index == 1 {
        true => JobState::OutOfMemory,
        false if name.ends_with("-1.0") => JobState::Blocked,
        false => JobState::Completed,
    };
    let (bench, bed) = (Bench::new(&[]), bed(fate));
    let store = store(&bench);
    with_driver(&bed, &store, |driver, said| {
        let mut jobs = Jobs::new();
        driver.submit_all(&mut jobs, vec![step("a", 3, &[]), step("b", 1, &[0])]).expect("submitted");
        assert_eq!(failures(driver.follow(&mut jobs, &|| false).expect("followed")), Vec::<String>::new());
        assert!(said.has("a: 1_1 ran out of 1 GiB of memory; trying again"), "{:?}", said.0);
    });
    let made = bed.made.borrow();
    assert_eq!(made.indices, [vec![0, 1, 2], vec![0], vec![1], vec![0]]);
    assert_eq!(made.memory, [Some(1024), Some(1024), Some(2048), Some(1024)]);
    assert_eq!(made.after[3], [3], "on the new array, not on the old");
}

#[test]
fn a_job_that_never_ends_well_is_given_up_and_named_with_its_log() {
    let (bench, bed) = (Bench::new(&[]), bed(|_, _| JobState::OutOfMemory));
    let store = store(&bench);
    with_driver(&bed, &store, |driver, _| {
        let mut jobs = Jobs::new();
        driver.submit_all(&mut jobs, vec![step("a", 1, &[])]).expect("submitted");
        let failed = failures(driver.follow(&mut jobs, &|| false).expect("followed"));
        assert_eq!(failed.len(), 1);
        assert!(failed[0].contains("a: job 3_0 ran out of memory") && failed[0].contains("with 4 GiB, tried 3 times"));
        assert!(failed[0].contains("logs/3_0.log"), "{failed:?}");
    });
    assert_eq!(bed.made.borrow().memory, [1024, 2048, 4096].map(Some));
}

#[test]
fn a_job_that_fails_is_named_with_what_it_said() {
    let fate: Fate = |name, index| match (name.contains("-0."), index) {
        (true, 1) => JobState::Failed(1),
        (true, _) => JobState::Completed,
        (false, _) => JobState::Blocked,
    };
    let (bench, bed) = (Bench::new(&[]), bed(fate));
    let store = store(&bench);
    with_driver(&bed, &store, |driver, _| {
        let mut jobs = Jobs::new();
        driver.submit_all(&mut jobs, vec![step("a", 2, &[]), step("b", 1, &[0])]).expect("submitted");
        bench.write("store/cache/slurm/logs/1_1.log", "fine\nerror: x: told to fail\n");
        let failed = failures(driver.follow(&mut jobs, &|| false).expect("followed"));
        assert_eq!(failed.len(), 1, "what never began is no failure of its own: {failed:?}");
        assert!(
            failed[0].contains("a: job 1_1 failed with exit code 1") && failed[0].contains("error: x: told to fail")
        );
    });
    assert_eq!(bed.made.borrow().names.len(), 2, "nothing is tried again");
}

#[test]
fn what_is_cancelled_because_of_a_failure_is_no_failure_itself() {
    let fate: Fate = |name, _| if name.contains("-0.") { JobState::Failed(2) } else { JobState::Pending };
    let (bench, bed) = (Bench::new(&[]), bed(fate));
    let store = store(&bench);
    with_driver(&bed, &store, |driver, _| {
        let mut jobs = Jobs::new();
        driver.submit_all(&mut jobs, vec![step("a", 1, &[]), step("c", 2, &[])]).expect("submitted");
        let failed = failures(driver.follow(&mut jobs, &|| false).expect("followed"));
        assert!(failed.len() == 1 && failed[0].starts_with("a: "), "{failed:?}");
    });
    assert_eq!(bed.made.borrow().cancelled, [2]);
}

#[test]
fn of_many_jobs_that_fail_the_first_few_are_named() {
    let (bench, bed) = (Bench::new(&[]), bed(|_, _| JobState::Failed(2)));
    let store = store(&bench);
    with_driver(&bed, &store, |driver, _| {
        let mut jobs = Jobs::new();
        driver.submit_all(&mut jobs, vec![step("a", 9, &[])]).expect("submitted");
        bench.write("store/cache/slurm/logs/1_2.log", "one\ntwo\n\nthree\nsh: no such module\n");
        let failed = failures(driver.follow(&mut jobs, &|| false).expect("followed"));
        assert_eq!((failed.len(), &failed[3][..]), (4, "a: 6 more of its jobs failed"));
        assert!(failed[2].ends_with("    two\n    three\n    sh: no such module"), "the end of its log: {failed:?}");
    });
}

#[test]
fn a_run_that_is_started_again_goes_on_with_what_is_under_way() {
    let (bench, bed) = (Bench::new(&[]), bed(|_, _| JobState::Completed));
    let store = store(&bench);
    with_driver(&bed, &store, |driver, _| {
        let mut jobs = Jobs::new();
        driver.submit_all(&mut jobs, vec![step("a", 2, &[]), step("b", 1, &[0])]).expect("submitted");
        // Killed before it wrote down the second id.
        jobs.steps[1].arrays[0].id = None;
        jobs.save(&store).expect("saved");
        let mut found = Jobs::load(&store, &Executor::default()).expect("kept");
        assert_eq!(driver.attach(&mut found).expect("attached"), 2);
        assert_eq!(found.open_ids(), [1, 2]);
        assert!(failures(driver.follow(&mut found, &|| false).expect("followed")).is_empty());
        assert_eq!(Jobs::load(&store, &Executor::default()).expect("kept").open().count(), 0);
        // One that was written down and never submitted.
        found.steps[0].arrays[0].settled = false;
        found.steps[0].arrays[0].id = None;
        found.steps[0].arrays[0].name = "never".to_string();
        assert_eq!(driver.attach(&mut found).expect("attached"), 0);
    });
    assert_eq!(bed.made.borrow().names.len(), 2, "nothing is submitted again");
}

#[test]
fn what_is_kept_of_jobs_runs_nothing_and_cancels_no_other_job() {
    let (bench, bed) = (Bench::new(&[]), bed(|_, _| JobState::Running));
    let store = store(&bench);
    with_driver(&bed, &store, |driver, _| {
        let mut jobs = Jobs::new();
        let mut step = step("a", 2, &[]);
        step.resources.setup = "echo mine".to_string();
        driver.submit_all(&mut jobs, vec![step]).expect("submitted");
        let text = std::fs::read_to_string(bench.path("store/cache/slurm/jobs.json")).expect("kept");
        assert!(!text.contains("setup") && !text.contains("echo"), "{text}");
        // Somebody else's number.
        let other = jobs.steps[0].arrays[0].name.replace("-0.0", "-9.0");
        jobs.steps[0].arrays[0].name = other;
        assert_eq!(driver.attach(&mut jobs).expect("attached"), 0);
        assert!(matches!(driver.follow(&mut jobs, &|| true).expect("stopped"), Ended::Cancelled));
    });
    assert_eq!(bed.made.borrow().cancelled, Vec::<u64>::new());
}

#[test]
fn stopping_cancels_what_is_under_way() {
    let (bench, bed) = (Bench::new(&[]), bed(|_, _| JobState::Running));
    let store = store(&bench);
    with_driver(&bed, &store, |driver, said| {
        let mut jobs = Jobs::new();
        driver.submit_all(&mut jobs, vec![step("a", 2, &[]), step("b", 1, &[0])]).expect("submitted");
        assert!(matches!(driver.follow(&mut jobs, &|| true).expect("stopped"), Ended::Cancelled));
        assert!(said.has("cancelled the jobs 1, 2"));
        assert_eq!(Jobs::load(&store, &Executor::default()).expect("kept").open().count(), 0);
    });
    assert_eq!(bed.made.borrow().cancelled, [1, 2]);
}

#[test]
fn a_refused_submission_leaves_nothing_behind() {
    let (bench, mut bed) = (Bench::new(&[]), bed(|_, _| JobState::Running));
    bed.full = 1;
    let store = store(&bench);
    with_driver(&bed, &store, |driver, _| {
        let mut jobs = Jobs::new();
        let refused = driver.submit_all(&mut jobs, vec![step("a", 2, &[]), step("b", 1, &[0])]);
        let error = refused.err().map(|error| format!("{error:#}")).unwrap_or_default();
        assert_eq!(error, "cannot submit b: the queue is full");
    });
    assert_eq!(bed.made.borrow().cancelled, [1]);
}
