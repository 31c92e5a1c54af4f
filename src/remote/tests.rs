//! Push and pull over a local folder.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::AtomicBool;

use anyhow::{Result, bail};

use super::background::{Transferred, send_all, sending};
use super::lookup::Lookup;
use crate::graph::Graph;
use crate::key::Key;
use crate::manifest::remotes::RemoteSetting;
use crate::plan::Plan;
use crate::progress::{Progress, Verbosity};
use crate::run::Summary;
use crate::run::rounds::{self, Work};
use crate::run::{Options, Remotes};
use crate::store::Store;
use crate::store::faults::{Fault, Faults};
use crate::testing::{Bench, target};

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

fn setting(bench: &Bench) -> RemoteSetting {
    RemoteSetting::of_url(&bench.path("remote").to_string_lossy())
}

fn push_keys(bench: &Bench, keys: &[Key]) -> Transferred {
    let (sending, outbox) = sending(&setting(bench));
    keys.iter().for_each(|key| sending.send(*key, false));
    drop(sending);
    let done = Mutex::default();
    send_all(&bench.store(), outbox, &done, &AtomicBool::new(false)).expect("a runtime");
    done.into_inner().expect("no panic")
}

fn push(bench: &Bench) -> Transferred {
    let (graph, store) = (bench.graph(), bench.store());
    let mut plan = Plan::new(&graph, &store);
    plan.expand_all(&graph.all()).expect("expanded");
    let keys: Vec<Key> = plan.states().flat_map(|(_, state)| state.done()).collect();
    let done = push_keys(bench, &keys);
    assert_eq!((done.unsent, done.failures.len()), (0, 0), "{done:?}");
    done
}

/// What a pull did.
#[derive(Debug, Default, PartialEq)]
struct Pulled {
    tasks: usize,
    bytes: u64,
    absent: usize,
    /// Nodes.
    unfinished: usize,
}

/// Into the store of the bench.
fn pull(bench: &Bench) -> Result<Pulled> {
    let store = bench.store();
    pull_to(bench, &store, |_| ())
}

/// Into a store, with other options.
fn pull_to(bench: &Bench, store: &Store, change: impl FnOnce(&mut Options)) -> Result<Pulled> {
    let graph = bench.graph();
    let (settings, wanted) = ([setting(bench)], graph.all());
    let mut options =
        Options { jobs: 1, keep_going: true, force: graph.none(), share: None, here: graph.all(), compute: false };
    change(&mut options);
    let lookup = Some(Lookup::new(&settings)?);
    let mut remotes = Remotes { settings: &settings, lookup, sending: Vec::new() };
    let work = Work { graph: &graph, store, wanted: &wanted };
    let progress = Progress::new(Verbosity::Quiet);
    let (plan, summary) = rounds::run(work, &options, &mut remotes, &progress, &|| false, &mut |_| ())?;
    if let Some(lookup) = &remotes.lookup
        && !lookup.refusals().is_empty()
    {
        bail!("{}", lookup.refusals().join("\n"));
    }
    let fetched = summary.stages.values().map(|counts| counts.fetched).sum();
    let absent = plan.states().map(|(_, state)| state.stale().count()).sum();
    let unfinished = plan.states().filter(|(_, state)| state.outputs().is_none()).count();
    Ok(Pulled { tasks: fetched, bytes: summary.bytes_fetched, absent, unfinished })
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
    let fetched = pull(&bench).expect("pulled");
    assert_eq!(fetched, Pulled { tasks: 7, bytes: sent.bytes, absent: 0, unfinished: 0 });
    assert!(bench.run(&bench.store()).expect("a run").all_fresh());
    assert!(bench.store().verify(crate::testing::STAGES).expect("verified").problems.is_empty());
    assert_eq!(push(&bench), Transferred { present: 7, ..Transferred::default() }, "all is there already");
    assert_eq!(pull(&bench).expect("pulled"), Pulled::default());
}

#[test]
fn what_is_there_is_not_sent_again_however_the_tasks_come() {
    let (bench, _) = pushed();
    pull(&bench).expect("pulled");
    let (store, keys) = (bench.store(), bench.store().keys().expect("listed"));
    let (sending, outbox) = sending(&setting(&bench));
    let (done, stop) = (Mutex::default(), AtomicBool::new(false));
    std::thread::scope(|scope| {
        scope.spawn(|| send_all(&store, outbox, &done, &stop).expect("a runtime"));
        for key in &keys {
            sending.send(*key, false);
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        drop(sending);
    });
    let done = done.into_inner().expect("no panic");
    assert_eq!((done.present, done.tasks), (7, 0), "{done:?}");
}

#[test]
fn a_part_that_the_remote_lacks_is_counted_and_can_be_run() {
    let (bench, _) = pushed();
    let record = remote_files(&bench, "records")
        .into_iter()
        .find(|path| fs::read_to_string(path).expect("text").contains("\"stage\": \"gather\""));
    fs::remove_file(record.expect("gather's")).expect("removed");
    let fetched = pull(&bench).expect("pulled");
    assert_eq!((fetched.absent, fetched.unfinished), (1, 2), "gather, and page, which reads it");
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
    assert!(error.contains("has a record but not its objects/"), "{error}");
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
    let done = push_keys(&bench, &keys[..1]);
    assert!(
        done.tasks == 0 && done.unsent == 1 && done.failures[0].contains("is damaged and was not sent"),
        "{done:?}"
    );
}

#[test]
fn a_pull_that_is_cut_short_anywhere_leaves_a_sound_store() {
    let (bench, _) = pushed();
    let pull = |faults| {
        let _ = fs::remove_dir_all(bench.path("store"));
        let store = bench.faulty_store(faults);
        let result = pull_to(&bench, &store, |_| ());
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

/// A run that looks into the bench's remote and sends nothing.
fn run_with_remote(bench: &Bench, change: impl FnOnce(&Graph, &mut Options)) -> Summary {
    let (graph, store) = (bench.graph(), bench.store());
    let (settings, wanted, progress) = ([setting(bench)], graph.all(), Progress::new(Verbosity::Quiet));
    let mut options =
        Options { jobs: 1, keep_going: false, force: graph.none(), share: None, here: graph.all(), compute: true };
    change(&graph, &mut options);
    let lookup = Some(Lookup::new(&settings).expect("a runtime"));
    let mut remotes = Remotes { settings: &settings, lookup, sending: Vec::new() };
    let work = Work { graph: &graph, store: &store, wanted: &wanted };
    store.prepare().expect("prepared");
    rounds::run(work, &options, &mut remotes, &progress, &|| false, &mut |_| ()).expect("a run").1
}

/// How many tasks of a stage were computed, and how many came from the remote.
fn counts(summary: &Summary, stage: &str) -> (usize, usize) {
    summary.stages.get(stage).map_or((0, 0), |counts| (counts.ran, counts.fetched))
}

/// Only the page is to be here.
fn page_alone(graph: &Graph, options: &mut Options) {
    options.here = graph.none();
    graph.find(&target("page")).expect("the page").into_iter().for_each(|id| options.here.insert(id));
}

#[test]
fn a_run_computes_nothing_that_the_remote_has() {
    let (bench, _) = pushed();
    let summary = run_with_remote(&bench, |_, _| ());
    let of = |stage| counts(&summary, stage);
    assert_eq!(["lines", "shout", "gather", "page"].map(of), [(0, 2), (0, 3), (0, 1), (0, 1)]);
    assert!(bench.run(&bench.store()).expect("a run").all_fresh(), "without the remote too");
}

#[test]
fn what_is_not_shown_stays_in_the_remote_until_a_task_reads_it() {
    let (bench, _) = pushed();
    let summary = run_with_remote(&bench, page_alone);
    assert_eq!((counts(&summary, "page"), counts(&summary, "gather")), ((0, 1), (0, 0)));
    assert_eq!(bench.shown().len(), 1, "the page alone");
    assert_eq!(bench.store().objects().expect("listed").len(), 1);
    // Another line changes what `gather` reads: it needs the other parts too, and they come.
    bench.write("two", "changed");
    let summary = run_with_remote(&bench, page_alone);
    assert_eq!(["lines", "shout", "gather"].map(|stage| counts(&summary, stage)), [(1, 0), (1, 2), (1, 0)]);
    assert!(bench.store().verify(crate::testing::STAGES).expect("verified").problems.is_empty());
}

#[test]
fn a_view_whose_new_results_are_elsewhere_shows_nothing_old() {
    let bench = Bench::new(&[("one", "a\nb"), ("two", "c")]);
    bench.run(&bench.store()).expect("a run");
    push(&bench);
    fs::rename(bench.path("store"), bench.path("mine")).expect("moved");
    bench.write("two", "changed");
    bench.run(&bench.store()).expect("a run");
    push(&bench);
    fs::remove_dir_all(bench.path("store")).expect("removed");
    fs::rename(bench.path("mine"), bench.path("store")).expect("moved");
    let old = bench.shown();
    run_with_remote(&bench, page_alone);
    let gather = |path: &PathBuf| path.starts_with("tables/gather");
    assert!(old.keys().any(gather) && !bench.shown().keys().any(gather), "{:?}", bench.shown().keys());
    let summary = run_with_remote(&bench, |_, _| ());
    assert_eq!((counts(&summary, "gather"), counts(&summary, "page")), ((0, 1), (0, 0)));
    assert!(bench.shown().keys().any(gather));
}

#[test]
fn what_a_remote_promised_and_does_not_give_is_computed() {
    let bench = Bench::new(&[("one", "a\nb"), ("two", "c")]);
    bench.run(&bench.store()).expect("a run");
    let undisturbed = bench.shown();
    push(&bench);
    fs::remove_dir_all(bench.path("store")).expect("removed");
    // The page is computed from `gather`, whose object the remote does not have after all.
    let all = remote_files(&bench, "records");
    let stage = |path: &PathBuf, name: &str| {
        fs::read_to_string(path).expect("text").contains(&format!("\"stage\": \"{name}\""))
    };
    fs::remove_file(all.iter().find(|path| stage(path, "page")).expect("the page's")).expect("removed");
    let gather = all.iter().find(|path| stage(path, "gather")).expect("gather's");
    let record: serde_json::Value = serde_json::from_slice(&fs::read(gather).expect("bytes")).expect("JSON");
    let object = record["outputs"][0]["object"].as_str().expect("a hash").to_string();
    let named = |path: &&PathBuf| path.to_string_lossy().contains(&object);
    fs::remove_file(remote_files(&bench, "objects").iter().find(named).expect("its object")).expect("removed");
    let summary = run_with_remote(&bench, page_alone);
    assert!(summary.failures.is_empty());
    assert_eq!((counts(&summary, "gather"), counts(&summary, "page")), ((1, 0), (1, 0)));
    assert_eq!(counts(&summary, "shout"), (0, 3), "what `gather` reads came from the remote");
    let shown = bench.shown();
    assert!(shown.iter().all(|(path, bytes)| undisturbed.get(path) == Some(bytes)) && shown.len() > 1);
}

#[test]
fn a_partial_file_is_gone_on_with_and_a_wrong_one_is_begun_again() {
    for begin in ["right", "wrong", "too long"] {
        let (bench, _) = pushed();
        let object = remote_files(&bench, "objects").remove(0);
        let hash = object.file_stem().expect("a name").to_owned();
        let mut bytes = fs::read(&object).expect("bytes");
        match begin {
            "right" => bytes.truncate(bytes.len() / 2),
            "wrong" => bytes = vec![7; bytes.len() / 2],
            _ => bytes.push(0),
        }
        let partial = bench.path("store/cache/partial");
        fs::create_dir_all(&partial).expect("a folder");
        fs::write(partial.join(hash), &bytes).expect("written");
        let fetched = pull(&bench).expect("pulled");
        assert_eq!((fetched.tasks, fetched.unfinished), (7, 0), "{begin}");
        assert!(bench.store().verify(crate::testing::STAGES).expect("verified").problems.is_empty(), "{begin}");
        assert_eq!(fs::read_dir(&partial).expect("listed").count(), 0, "{begin}");
    }
}
