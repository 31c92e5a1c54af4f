//! Which nodes a pipeline has, what they read, and what targets select.

use serde_json::json;
use strata_stages::contract::figures::{Drawn, Figures, Level, Reads, Section};
use strata_stages::contract::pipeline::{Model, ModelSource};
use strata_stages::{Input, Pipeline, PlanError, Source, Stage, Work};

use super::*;
use crate::testing::{Bench, node, planned, target};

fn labels(graph: &Graph, ids: impl IntoIterator<Item = NodeId>) -> Vec<String> {
    ids.into_iter().map(|id| graph.node(id).label()).collect()
}

fn selected(graph: &Graph, targets: &[&str]) -> Vec<String> {
    let targets: Vec<Target> = targets.iter().map(|text| target(text)).collect();
    labels(graph, graph.select(&targets).expect("known targets").iter())
}

fn said(error: PlanError) -> String {
    format!("{} at {}; {}", error.message, error.at, error.help.unwrap_or_default())
}

#[test]
fn nodes_come_after_those_they_read_and_know_their_readers() {
    let graph = Bench::new(&[("one", "a"), ("two", "b")]).graph();
    let all = ["lines[one]", "shout[one]", "lines[two]", "shout[two]", "gather", "page"];
    assert_eq!(labels(&graph, graph.ids()), all);
    for (id, node) in graph.nodes() {
        assert!(node.upstream().all(|upstream| upstream < id));
        assert!(node.upstream().all(|upstream| graph.node(upstream).readers.contains(&id)), "{}", node.label());
    }
    let readers: usize = graph.nodes().map(|(_, node)| node.readers.len()).sum();
    assert_eq!(readers, 5, "and no others");
}

#[test]
fn a_target_selects_its_nodes_and_what_they_read() {
    let graph = Bench::new(&[("one", "a"), ("two", "b")]).graph();
    assert_eq!(selected(&graph, &[]).len(), 6);
    assert_eq!(selected(&graph, &["shout[two]"]), ["lines[two]", "shout[two]"]);
    assert_eq!(selected(&graph, &["shout[dataset=one]"]), ["lines[one]", "shout[one]"]);
    assert_eq!(selected(&graph, &["shout[*]", "lines[one]"]).len(), 4);
    assert_eq!(selected(&graph, &["gather"]).len(), 5);
}

#[test]
fn an_unknown_target_is_told_the_nearest() {
    let graph = Bench::new(&[("one", "a")]).graph();
    let error = |text| said(graph.find(&target(text)).expect_err("unknown"));
    assert!(error("shuot").contains("did you mean \"shout\"?"), "{}", error("shuot"));
    assert!(error("shout[ome]").contains("did you mean \"one\"?"), "{}", error("shout[ome]"));
    assert!(error("shout[one,two]").contains("for example shout[one]"), "{}", error("shout[one,two]"));
    assert!(Target::parse("shout[one").is_err_and(|error| said(error).contains("closing bracket")));
}

static CHICKEN: Stage = planned("chicken", |_, _| Ok(vec![reads("chicken", "egg", Vec::new())]));
static EGG: Stage = planned("egg", |_, _| Ok(vec![reads("egg", "chicken", Vec::new())]));
static LOST: Stage = planned("lost", |_, _| Ok(vec![reads("lost", "none", vec![("dataset", "x".to_string())])]));
static NONE: Stage = planned("none", |_, _| Ok(Vec::new()));
static MODEL: Stage = planned("model", |_, _| {
    let source = Source::Weights { model: "own".into() };
    let input = Input { role: "model".into(), source, columns: None, alike: None };
    Ok(vec![node("model", Vec::new(), Value::Null, vec![input], None)])
});
static ODD: &[&Stage] = &[&CHICKEN, &EGG, &LOST, &NONE, &MODEL];

fn reads(stage: &'static str, other: &'static str, bindings: Bindings) -> strata_stages::Node {
    node(stage, Vec::new(), Value::Null, vec![Input::node("other", other, bindings)], None)
}

fn error_of(stage: &str) -> String {
    let own = Model {
        name: "own".into(),
        source: ModelSource::Trained(Value::Null),
        tokenizer: None,
        chat_template: None,
        precision: Default::default(),
    };
    let sections = vec![(stage.to_string(), serde_json::json!({}))];
    let pipeline = Pipeline { sections, models: vec![own], ..Pipeline::default() };
    said(Graph::of_stages(ODD, &pipeline, false).err().expect("no graph"))
}

#[test]
fn what_makes_no_graph_is_said_with_the_section_that_asks_for_it() {
    assert!(error_of("chicken").starts_with("a cycle: chicken reads egg reads chicken at stages.chicken"));
    let error = error_of("lost");
    assert!(error.starts_with("lost reads none[x], which is not in the pipeline at stages.lost"), "{error}");
    assert!(error_of("model").starts_with("no stage makes models at stages.model"), "{}", error_of("model"));
    assert!(error_of("none").contains("nothing to compute"), "{}", error_of("none"));
    let empty = Graph::of_stages(ODD, &Pipeline::default(), false);
    assert!(empty.is_err_and(|error| said(error).contains("asks for no stage")));
}

static SUBJECT: Section = Section { id: "subject", title: "Subject", source: "", intro: "" };
static SEEN: Stage = Stage {
    figures: &[Figures {
        section: &SUBJECT,
        level: Level::Overview,
        reads: &[
            Reads { stage: "seen", columns: &["mean", "n"] },
            Reads { stage: "beside", columns: &["n"] },
            Reads { stage: "absent", columns: &["n"] },
        ],
        draw: |_| Ok(Drawn::default()),
    }],
    ..planned("seen", |_, _| Ok(["a", "b"].map(|name| bound("seen", name)).to_vec()))
};
static BESIDE: Stage = planned("beside", |_, _| Ok(vec![bound("beside", "a")]));
static UNSEEN: Stage = planned("unseen", |_, _| Ok(vec![bound("unseen", "a")]));
static ALBUM: Stage = Stage {
    work: Work::Gather(|_| Ok(Vec::new())),
    ..planned("album", |settings, _| {
        let stages = serde_json::from_value(settings["stages"].clone()).unwrap_or_default();
        let source = Source::Figures { stages, also: &[] };
        let input = Input { role: "tables".into(), source, columns: None, alike: None };
        Ok(vec![node("album", Vec::new(), json!({}), vec![input], None)])
    })
};
// What shows figures comes last, wherever it is registered.
static SHOWING: &[&Stage] = &[&ALBUM, &SEEN, &BESIDE, &UNSEEN];

fn bound(stage: &'static str, name: &str) -> strata_stages::Node {
    node(stage, vec![("dataset", name.to_string())], Value::Null, Vec::new(), None)
}

fn showing(sections: &[&str], stages: Value) -> Result<Graph, PlanError> {
    let mut sections: Vec<(String, Value)> = sections.iter().map(|name| (name.to_string(), json!({}))).collect();
    sections.push(("album".into(), json!({ "stages": stages })));
    Graph::of_stages(SHOWING, &Pipeline { sections, ..Pipeline::default() }, false)
}

#[test]
fn what_shows_figures_reads_the_nodes_that_they_are_drawn_from() {
    let graph = showing(&["seen", "beside", "unseen"], json!("*")).expect("a graph");
    let (_, album) = graph.nodes().last().expect("a node");
    let read: Vec<(&str, Vec<&str>)> = album
        .inputs
        .iter()
        .map(|input| (input.role.as_str(), input.columns.as_deref().unwrap_or_default().to_vec()))
        .collect();
    assert_eq!(read, [("seen/0", vec!["mean", "n"]), ("seen/1", vec!["mean", "n"]), ("beside/2", vec!["n"])]);
    assert_eq!(album.params["tables"][1]["bindings"], json!([["dataset", "b"]]), "the names are printed");
    assert_eq!(album.params["tables"][2]["columns"], json!(["n"]));
    assert_eq!(album.upstream().count(), 3);
}

#[test]
fn a_selected_stage_is_computed_without_a_section_and_one_without_figures_is_named() {
    let graph = showing(&["unseen"], json!(["seen"])).expect("a graph");
    assert_eq!(labels(&graph, graph.ids()), ["unseen[a]", "seen[a]", "seen[b]", "album"]);
    let error = said(showing(&[], json!(["sene"])).err().expect("unknown"));
    assert_eq!(error, "unknown stage with figures \"sene\" at stages.album.stages[0]; did you mean \"seen\"?");
    let error = said(showing(&["unseen"], json!("*")).err().expect("nothing to show"));
    assert!(error.starts_with("no stage of the pipeline has a figure to show at stages.album"), "{error}");
}
