//! Computes finished tasks a second time and holds what comes out against what their records say: whoever signed a false number, and
//! however well, is found by that.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use arrow::array::{Array, ArrayRef, Float32Array, Float64Array, ListArray};
use strata_stages::model::watch_task::MODEL_ROLE;
use strata_stages::{Part, table};

use super::publish::{name, publish};
use super::worker::{compute, run_pass};
use super::{Cancelled, Job};
use crate::graph::TaskId;
use crate::plan::Plan;
use crate::progress::Progress;
use crate::store::{OutputRecord, Store};

/// What a second computation came to.
#[derive(Debug, Clone, PartialEq)]
pub enum Again {
    /// The same values in every column, or the same bytes.
    Same,
    /// Numbers that differ by at most so much of their column's largest: another machine adds up in another order.
    Near(f64),
    /// What differs, in words.
    Differs(String),
}

/// Computes tasks again, into a store of their own, with the first one's inputs. What they read must be here.
///
/// # Errors
/// When a task cannot be computed.
pub fn recompute(
    plan: &mut Plan,
    tasks: &[TaskId],
    scratch: &Store,
    tolerance: f64,
    progress: &Progress,
    cancelled: Cancelled,
) -> Result<Vec<(TaskId, Again)>> {
    let mut passes: BTreeMap<String, Vec<Job>> = BTreeMap::new();
    let mut done = Vec::new();
    for task in tasks {
        let node = plan.graph.node(task.node);
        let inputs = plan.inputs(task.node)?;
        let inputs = plan.task_inputs(*task, &inputs);
        if inputs.values().flatten().any(|part| part.absent) {
            continue;
        }
        let document = plan.document(task.node, &inputs);
        let job = Job {
            task: *task,
            label: plan.task_label(*task),
            stage: node.stage,
            by_part: node.per_part.is_some(),
            stages: plan.graph.stages,
            key: document.key(),
            document,
            inputs,
        };
        if cancelled() {
            bail!("stopped");
        }
        if matches!(node.stage.work, strata_stages::Work::Watch(_)) {
            passes.entry(format!("{:?}", job.document.inputs.get(MODEL_ROLE))).or_default().push(job);
            continue;
        }
        let started = Instant::now();
        let written = compute(scratch, &job, progress, cancelled).and_then(|written| name(scratch, written));
        let outputs = written.and_then(|records| publish(scratch, &job, records, started.elapsed().as_secs_f64()));
        done.push((*task, outputs.with_context(|| job.label.clone())?));
    }
    for jobs in passes.into_values() {
        let jobs: Vec<Arc<Job>> = jobs.into_iter().map(Arc::new).collect();
        let mut results = Vec::new();
        run_pass(scratch, &jobs, cancelled, &mut |at, seconds, written| {
            let records = written.and_then(|written| name(scratch, written));
            results.push((at, records.and_then(|records| publish(scratch, &jobs[at], records, seconds))));
        });
        for (at, outputs) in results {
            done.push((jobs[at].task, outputs.with_context(|| jobs[at].label.clone())?));
        }
    }
    let compared = done.into_iter().map(|(task, again)| {
        let key = plan.state(task.node).done_key(task.index);
        let before = key.and_then(|key| plan.stored(task.node, key)).unwrap_or_default();
        Ok((task, compare((plan.store, &before), (scratch, &again), tolerance)?))
    });
    compared.collect()
}

fn compare(
    (store, before): (&Store, &[OutputRecord]),
    (scratch, again): (&Store, &[OutputRecord]),
    tolerance: f64,
) -> Result<Again> {
    if before.len() != again.len() {
        return Ok(Again::Differs(format!("{} parts instead of {}", before.len(), again.len())));
    }
    let mut most: f64 = 0.0;
    for (before, again) in before.iter().zip(again) {
        if before.object == again.object || (!again.columns.is_empty() && before.columns == again.columns) {
            continue;
        }
        if before.file_name() != again.file_name() || again.columns.is_empty() {
            let name = again.file_name();
            return Ok(Again::Differs(format!(
                "{name} has other bytes: {} instead of {}",
                before.object, again.object
            )));
        }
        let read = |store: &Store, output: &OutputRecord| {
            let part = Part { path: store.layout.object(output), name: String::new() };
            table::read(&[part], &[])
        };
        let (there, here) = (read(store, before)?, read(scratch, again)?);
        if there.num_rows() != here.num_rows() {
            return Ok(Again::Differs(format!("{} rows instead of {}", there.num_rows(), here.num_rows())));
        }
        for (name, _) in again.columns.iter().filter(|(name, hash)| before.columns.get(*name) != Some(hash)) {
            let (Some(a), Some(b)) = (there.column_by_name(name), here.column_by_name(name)) else {
                return Ok(Again::Differs(format!("it has no column {name}")));
            };
            match distance(a, b) {
                Some(distance) if distance <= tolerance => most = most.max(distance),
                Some(distance) => {
                    let text = format!("the column {name} is up to {distance:.1e} of its largest value away");
                    return Ok(Again::Differs(text));
                }
                None => return Ok(Again::Differs(format!("the column {name} has other values"))),
            }
        }
    }
    Ok(if most > 0.0 { Again::Near(most) } else { Again::Same })
}

/// The largest difference of two columns of numbers, in units of the largest number; none for columns of anything else, for lists of other
/// lengths, or where one has a number and the other none.
fn distance(a: &ArrayRef, b: &ArrayRef) -> Option<f64> {
    if let (Some(a), Some(b)) = (a.as_any().downcast_ref::<ListArray>(), b.as_any().downcast_ref::<ListArray>()) {
        let lengths = |list: &ListArray| list.offsets().lengths().collect::<Vec<_>>();
        let alike = lengths(a) == lengths(b) && a.nulls() == b.nulls();
        return alike.then(|| distance(a.values(), b.values()))?;
    }
    let (a, b) = (numbers(a)?, numbers(b)?);
    if a.len() != b.len() {
        return None;
    }
    let (mut largest, mut apart) = (0.0f64, 0.0f64);
    for (a, b) in a.iter().zip(&b) {
        match (a, b) {
            (Some(a), Some(b)) if a.is_finite() && b.is_finite() => {
                largest = largest.max(a.abs()).max(b.abs());
                apart = apart.max((a - b).abs());
            }
            (Some(a), Some(b)) if a == b || (a.is_nan() && b.is_nan()) => {}
            (None, None) => {}
            _ => return None,
        }
    }
    Some(if apart == 0.0 { 0.0 } else { apart / largest })
}

fn numbers(column: &ArrayRef) -> Option<Vec<Option<f64>>> {
    if let Some(values) = column.as_any().downcast_ref::<Float64Array>() {
        return Some(values.iter().collect());
    }
    let values = column.as_any().downcast_ref::<Float32Array>()?;
    Some(values.iter().map(|value| value.map(f64::from)).collect())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::StringArray;
    use strata_stages::Output;

    use super::*;
    use crate::progress::Verbosity;
    use crate::run::publish::publish_output;
    use crate::store::{Made, Record};
    use crate::testing::{Bench, STAGES};

    #[test]
    fn a_record_in_form_with_false_values_comes_out_otherwise() {
        let bench = Bench::new(&[("one", "a\nb"), ("two", "c")]);
        bench.run(&bench.store()).expect("a run");
        let again = |bench: &Bench| {
            let (graph, store) = (bench.graph(), bench.store());
            let mut plan = Plan::new(&graph, &store);
            plan.expand_all(&graph.all()).expect("expanded");
            let done = plan.states().map(|(id, state)| (id, state.done_tasks()));
            let tasks: Vec<TaskId> =
                done.flat_map(|(id, tasks)| tasks.into_iter().map(move |(index, _)| id.task(index))).collect();
            let scratch = Store::open(&bench.path("scratch"));
            let progress = Progress::new(Verbosity::Quiet);
            let found = recompute(&mut plan, &tasks, &scratch, 1e-4, &progress, &|| false).expect("computed");
            let words = found.into_iter().map(|(task, again)| (plan.task_label(task), again));
            words.filter(|(_, again)| *again != Again::Same).collect::<Vec<_>>()
        };
        assert_eq!(again(&bench), []);
        let store = bench.store();
        let mut records = store.keys().expect("listed").into_iter().filter_map(|key| store.record(key));
        let gather = records.find(|record| record.document.stage == "gather").expect("gather's");
        let table =
            STAGES.iter().find_map(|stage| stage.table().filter(|table| table.name == "gather")).expect("a table");
        let characters = Arc::new(Float64Array::from(vec![2.0, 1.1]));
        let output = Output::table(table.batch(vec![characters]).expect("a batch"));
        let outputs = vec![publish_output(&store, output).expect("published")];
        store.write_record(&Record::new(gather.document, outputs, Made::now(1.0))).expect("written");
        assert!(store.verify(STAGES).expect("verified").problems.is_empty(), "all is in form");
        let found = again(&bench);
        let [(label, Again::Differs(what))] = found.as_slice() else { panic!("{found:?}") };
        assert!(label == "gather" && what.contains("the column characters is up to 5.0e-2"), "{label}: {what}");
    }

    #[test]
    fn columns_of_numbers_have_a_distance_and_others_none() {
        let numbers = |values: &[f64]| Arc::new(Float64Array::from(values.to_vec())) as ArrayRef;
        assert_eq!(distance(&numbers(&[1.0, -4.0]), &numbers(&[1.0, -4.0])), Some(0.0));
        assert_eq!(distance(&numbers(&[1.0, -4.0]), &numbers(&[1.5, -4.0])), Some(0.125));
        assert_eq!(distance(&numbers(&[f64::NAN]), &numbers(&[f64::NAN])), Some(0.0));
        assert_eq!(distance(&numbers(&[f64::NAN]), &numbers(&[1.0])), None);
        assert_eq!(distance(&numbers(&[1.0]), &numbers(&[1.0, 2.0])), None);
        let missing = Arc::new(Float64Array::from(vec![None])) as ArrayRef;
        assert_eq!(distance(&missing, &numbers(&[0.0])), None);
        let text = Arc::new(StringArray::from(vec!["a"])) as ArrayRef;
        assert_eq!(distance(&text, &text), None);
    }
}
