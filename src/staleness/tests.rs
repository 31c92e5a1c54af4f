//! The reason for every way of being stale.

use serde_json::json;

use super::*;
use crate::testing::{Bench, target};

/// A node's standing in words: how it is, and why its first stale task is.
fn said(bench: &Bench, node: &str) -> String {
    let (graph, store) = (bench.graph(), bench.store());
    let mut plan = Plan::new(&graph, &store);
    plan.expand_all(&graph.all()).expect("expanded");
    let id = graph.find(&target(node)).expect("known")[0];
    match standing(&mut plan, id).expect("known") {
        Standing::Fresh { tasks } => format!("fresh {tasks}"),
        Standing::Absent(what) => what,
        Standing::Waits(upstream) => {
            let label = |id: &NodeId| graph.node(*id).label();
            let causes: Vec<String> = causes(&plan, id).iter().map(label).collect();
            let upstream: Vec<String> = upstream.iter().map(label).collect();
            format!("waits for {} because of {}", upstream.join(" "), causes.join(" "))
        }
        Standing::Stale(stale) => {
            format!("{} of {}: {}", stale.stale.len(), stale.tasks, stale.reason(&plan, stale.stale[0]))
        }
    }
}

#[test]
fn each_way_of_being_stale_has_its_reason() {
    let mut bench = Bench::new(&[("one", "a\nb"), ("two", "c")]);
    assert_eq!(said(&bench, "lines[one]"), "1 of 1: never ran");
    assert_eq!(said(&bench, "page"), "waits for gather because of lines[one] lines[two]");
    bench.run(&bench.store()).expect("a run");
    assert_eq!(said(&bench, "shout[one]"), "fresh 2");

    bench.shout_with(json!({ "loud": true, "long": true }));
    assert_eq!(said(&bench, "shout[one]"), "2 of 2: params.long: \"(absent)\" -> true, and 1 more");
    assert_eq!(said(&bench, "gather"), "waits for shout[one] shout[two] because of shout[one] shout[two]");
    assert_eq!(said(&bench, "page"), "waits for gather because of shout[one] shout[two]");
    bench.shout_with(json!({}));

    bench.write("two", "d");
    assert!(said(&bench, "lines[two]").starts_with("1 of 1: inputs.file "), "{}", said(&bench, "lines[two]"));
    assert_eq!(said(&bench, "page"), "waits for gather because of lines[two]", "through every waiting node");
    bench.write("two", "c");
    assert_eq!(said(&bench, "page"), "fresh 1");
}

#[test]
fn a_lost_record_and_a_lost_object_are_told_apart() {
    let bench = Bench::new(&[("one", "a\nb")]);
    let store = bench.store();
    bench.run(&store).expect("a run");
    let (graph, key) = (bench.graph(), latest::read(&store, "shout[one]")[1]);
    assert_eq!(graph.len(), 4);
    let record = store.record(key).expect("a record");
    std::fs::remove_file(store.layout.object(&record.outputs[0])).expect("removed");
    assert_eq!(said(&bench, "shout[one]"), "1 of 2: an object of its record is missing or damaged");
    std::fs::remove_file(store.layout.record(key)).expect("removed");
    std::fs::write(store.layout.record(key), "{").expect("written");
    assert!(
        said(&bench, "shout[one]").starts_with("1 of 2: its record is no record"),
        "{}",
        said(&bench, "shout[one]")
    );
    std::fs::remove_file(store.layout.record(key)).expect("removed");
    assert_eq!(said(&bench, "shout[one]"), "1 of 2: its record is gone");
}

#[test]
fn a_difference_is_traced_to_the_users_file_or_to_the_node_read() {
    let bench = Bench::new(&[("one", "a")]);
    let graph = bench.graph();
    let id = |text| graph.find(&target(text)).expect("known")[0];
    assert_eq!(origin(&graph, id("lines"), "inputs.file txt"), Some(bench.path("one").display().to_string()));
    assert_eq!(origin(&graph, id("shout"), "inputs.lines.text").as_deref(), Some("lines[one]"));
    assert_eq!(origin(&graph, id("shout"), "params.loud"), None);
}
