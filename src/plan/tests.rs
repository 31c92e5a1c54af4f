//! How far a plan gets without running anything.

use serde_json::json;

use super::*;
use crate::graph::Graph;
use crate::testing::{Bench, target};

/// Of each node, in the graph's order: `-` while it waits, else its done tasks of all.
fn stand(plan: &Plan) -> String {
    let stand = |state: &NodeState| match state {
        NodeState::Waiting => "-".to_string(),
        NodeState::Expanded { tasks } => format!("{}/{}", state.done().len(), tasks.len()),
        NodeState::Finished { tasks, .. } => format!("all {}", tasks.len()),
    };
    plan.states().map(|(_, state)| stand(state)).collect::<Vec<_>>().join(" ")
}

fn expanded<'a>(graph: &'a Graph, store: &'a Store) -> Plan<'a> {
    let mut plan = Plan::new(graph, store);
    plan.expand_all(&graph.all()).expect("expanded");
    plan
}

#[test]
fn a_node_waits_until_what_it_reads_is_finished() {
    let bench = Bench::new(&[("one", "a\nb")]);
    let (graph, store) = (bench.graph(), bench.store());
    let mut plan = expanded(&graph, &store);
    assert_eq!(stand(&plan), "0/1 - - -", "lines, shout, gather, page");
    let [lines, shout] = ["lines", "shout"].map(|stage| graph.find(&target(stage)).expect("one")[0]);
    assert!(!plan.ready(lines) && !plan.ready(shout));
    bench.run(&store).expect("a run");
    let done = expanded(&graph, &store);
    let parts = done.state(lines).outputs().expect("finished").to_vec();
    assert!(plan.finish(lines.task(0), parts));
    assert_eq!(stand(&plan), "all 1 - - -");
    assert!(plan.ready(shout));
    assert_eq!(stand(&done), "all 1 all 2 all 1 all 1");
}

#[test]
fn outputs_are_the_parts_of_all_tasks_in_their_order_whichever_is_done_first() {
    let bench = Bench::new(&[("one", "a\nb\nc")]);
    let (graph, store) = (bench.graph(), bench.store());
    bench.run(&store).expect("a run");
    let done = expanded(&graph, &store);
    let shout = graph.find(&target("shout")).expect("one")[0];
    let parts = done.state(shout).outputs().expect("finished").to_vec();
    let mut plan = Plan::new(&graph, &store);
    plan.expand(graph.find(&target("lines")).expect("one")[0], false).expect("expanded");
    plan.expand(shout, true).expect("expanded");
    assert_eq!(plan.state(shout).stale().count(), 3, "forced tasks are stale whatever the store holds");
    assert!(!plan.finish(shout.task(2), parts[2..].to_vec()));
    assert_eq!((stand(&plan), plan.state(shout).parts().len()), ("all 1 1/3 - -".into(), 1));
    assert!(!plan.finish(shout.task(0), parts[..1].to_vec()));
    assert!(plan.finish(shout.task(1), parts[1..2].to_vec()));
    assert_eq!(plan.state(shout).outputs(), Some(parts.as_slice()));
}

#[test]
fn a_change_reaches_what_reads_it_and_stops_where_the_values_are_the_same() {
    let mut bench = Bench::new(&[("one", "a\nb"), ("two", "c")]);
    let store = bench.store();
    bench.run(&store).expect("a run");
    bench.write("two", "C");
    assert_eq!(stand(&expanded(&bench.graph(), &store)), "all 1 all 2 0/1 - - -");
    bench.run(&store).expect("a run");
    assert_eq!(stand(&expanded(&bench.graph(), &store)), "all 1 all 2 all 1 all 1 all 1 all 1");
    bench.shout_with(json!({ "loud": true }));
    assert_eq!(stand(&expanded(&bench.graph(), &store)), "all 1 0/2 all 1 0/1 - -");
}

#[test]
fn a_record_whose_object_is_missing_or_damaged_does_not_count() {
    let bench = Bench::new(&[("one", "a\nb")]);
    let (graph, store) = (bench.graph(), bench.store());
    bench.run(&store).expect("a run");
    let gather = graph.find(&target("gather")).expect("one")[0];
    let object = store.layout.object(&expanded(&graph, &store).state(gather).outputs().expect("finished")[0]);
    let bytes = std::fs::read(&object).expect("bytes");
    std::fs::write(&object, &bytes[1..]).expect("damaged");
    assert_eq!(stand(&expanded(&graph, &store)), "all 1 all 2 0/1 -");
    std::fs::remove_file(&object).expect("removed");
    assert_eq!(stand(&expanded(&graph, &store)), "all 1 all 2 0/1 -");
    std::fs::write(&object, &bytes).expect("back");
    assert_eq!(stand(&expanded(&graph, &store)), "all 1 all 2 all 1 all 1");
}

#[test]
fn a_pipe_or_a_device_is_no_input() {
    for (target, kind) in [("fifo", "a pipe or a device"), ("/dev/zero", "a pipe or a device"), (".", "a folder")] {
        let bench = Bench::new(&[("one", "a")]);
        let (graph, store, path) = (bench.graph(), bench.store(), bench.path("one"));
        std::fs::remove_file(&path).expect("removed");
        let made = std::process::Command::new("mkfifo").arg(bench.path("fifo")).status();
        assert!(made.expect("mkfifo").success());
        std::os::unix::fs::symlink(target, &path).expect("a link");
        let error = Plan::new(&graph, &store).expand_all(&graph.all()).expect_err("refused");
        let said = format!("{error:#}");
        assert!(said.contains(kind) && said.contains(&path.display().to_string()), "{said}");
    }
}

#[test]
fn a_file_that_is_not_there_is_an_error_that_names_it() {
    let bench = Bench::new(&[("one", "a")]);
    let (graph, store) = (bench.graph(), bench.store());
    std::fs::remove_file(bench.path("one")).expect("removed");
    let error = Plan::new(&graph, &store).expand_all(&graph.all()).expect_err("no file");
    assert!(format!("{error:#}").contains(&bench.path("one").display().to_string()), "{error:#}");
}
