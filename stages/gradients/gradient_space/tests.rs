//! Products of gradients against sums in f64, with much memory and with hardly any.

use std::collections::BTreeMap;

use serde_json::json;

use super::*;
use crate::contract::node::Part;
use crate::gradients::gradient_factors;
use crate::model::ops::test_values::values;
use crate::testing::tables::{TestTables, text, texts, u32s};

const INPUTS: usize = 70;
const OUT: usize = 90;

/// Examples' gradients as rows of their parts: dataset, examples, whether whole.
const PARTS: [(usize, usize, bool); 4] = [(0, 100, false), (0, 20, true), (0, 1, false), (1, 40, false)];

struct Gradients {
    tables: TestTables,
    inputs: BTreeMap<String, Vec<Part>>,
    /// [out, inputs] in f64.
    whole: Vec<Vec<f64>>,
}

fn tokens(i: usize) -> usize {
    1 + i % 7
}

fn gradients() -> Gradients {
    let mut found = Gradients { tables: TestTables::new(), inputs: BTreeMap::new(), whole: Vec::new() };
    for (dataset, count, whole) in PARTS {
        let examples = found.whole.len()..found.whole.len() + count;
        let (mut x, mut d, mut sums) = (Vec::new(), Vec::new(), Vec::new());
        for i in examples.clone() {
            let of = (values(tokens(i) * INPUTS, i as u64), values(tokens(i) * OUT, 900 + i as u64));
            let entry = |o: usize, k: usize| -> f64 {
                (0..tokens(i)).map(|t| f64::from(of.1[t * OUT + o]) * f64::from(of.0[t * INPUTS + k])).sum()
            };
            let sum: Vec<f64> = (0..OUT * INPUTS).map(|at| entry(at / INPUTS, at % INPUTS)).collect();
            sums.extend(sum.iter().map(|value| *value as f32));
            found.whole.push(sum);
            x.extend(of.0);
            d.extend(of.1);
        }
        let parts = match whole {
            true => vec![part(&found.tables, "gradient", examples, |_| OUT, sums, INPUTS)],
            false => vec![
                part(&found.tables, "input", examples.clone(), tokens, x, INPUTS),
                part(&found.tables, "output_gradient", examples, tokens, d, OUT),
            ],
        };
        found.inputs.entry(format!("factors/{dataset}")).or_default().extend(parts);
    }
    found
}

fn part(
    tables: &TestTables,
    kind: &str,
    examples: std::ops::Range<usize>,
    rows: impl Fn(usize) -> usize,
    vectors: Vec<f32>,
    width: usize,
) -> Part {
    let of = |i: usize| (0..rows(i)).map(move |row| (i, row as u32));
    let rows: Vec<(usize, u32)> = examples.flat_map(of).collect();
    let columns = vec![
        text(rows.iter().map(|(i, _)| format!("example {i}"))),
        text(rows.iter().map(|_| "layers.0.self_attn.o_proj")),
        text(rows.iter().map(|_| kind)),
        u32s(rows.iter().map(|(_, row)| *row)),
        list_array(vectors, width).unwrap(),
    ];
    tables.write(&gradient_factors::TABLE.batch(columns).unwrap())
}

impl Gradients {
    fn task(&self) -> Task<'_> {
        static NONE: Value = Value::Null;
        Task { params: &NONE, inputs: self.inputs.clone(), cancelled: &|| false, progress: &|_, _| {} }
    }

    fn module(&self) -> Module {
        parts::modules(&self.task()).unwrap().remove(0)
    }
}

/// The products with so many bytes for what is held.
fn products(module: &Module, bytes: u64) -> Vec<f64> {
    let loaded = module.load_as(|_, _| Ok(bytes), slabs::Slabs::new).unwrap();
    gram(&loaded.stored, loaded.bytes, |_| true).unwrap().unwrap()
}

#[test]
fn factors_and_whole_gradients_have_the_products_of_their_sums() {
    let gradients = gradients();
    let (whole, found) = (&gradients.whole, products(&gradients.module(), u64::MAX));
    let n = whole.len();
    let product = |i: usize, j: usize| whole[i].iter().zip(&whole[j]).map(|(a, b)| a * b).sum::<f64>();
    for i in 0..n {
        for j in [0, 1, 63, 64, 99, 100, 119, 120, n - 1] {
            let error = (found[i * n + j] - product(i, j)).abs() / (product(i, i) * product(j, j)).sqrt();
            assert!(error < 1e-6, "({i}, {j}): {error:e}");
        }
    }
}

#[test]
fn the_products_are_the_same_bits_with_any_memory_and_any_number_of_threads() {
    let gradients = gradients();
    let module = gradients.module();
    let all = products(&module, u64::MAX);
    // Nothing held but one example's inputs at a time; some examples'; all inputs, the rest in scratch.
    for bytes in [0, 40_000, 400_000] {
        assert_eq!(products(&module, bytes), all, "{bytes} bytes");
    }
    let loaded = module.load().unwrap();
    assert_eq!(gram(&loaded.stored, loaded.bytes, |_| true).unwrap().unwrap(), all, "what is free");
    for threads in [1, 3] {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        assert_eq!(pool.install(|| products(&module, 40_000)), all, "{threads} threads");
    }
}

/// Cut as large gradients are, which in a test would take long: by columns and by rows, the last ones narrower.
#[test]
fn gradients_in_many_slabs_have_the_products_of_their_sums_too() {
    let gradients = gradients();
    let module = gradients.module();
    let (n, all) = (gradients.whole.len(), products(&module, u64::MAX));
    let products = |bytes: u64| {
        let cut = |_, _, inputs, out| slabs::Slabs::of(32, 25, inputs, out);
        let loaded = module.load_as(|_, _| Ok(bytes), cut).unwrap();
        let mut steps = Vec::new();
        let products = gram(&loaded.stored, bytes, |done| {
            steps.push(done);
            true
        });
        assert_eq!((steps.len(), steps[0], steps[11]), (12, 0.0, 11.0 / 12.0));
        products.unwrap().unwrap()
    };
    let found = products(u64::MAX);
    assert_eq!(products(0), found);
    assert_eq!(products(20_000), found);
    // Two of the three slabs of columns held at once, and the rest in scratch.
    assert_eq!(products(150_000), found);
    let loaded = module.load_as(|_, _| Ok(150_000), |_, _, inputs, out| slabs::Slabs::of(32, 25, inputs, out)).unwrap();
    assert_eq!(loaded.stored.blocks(loaded.bytes), [0..2, 2..3]);
    assert!(loaded.stored.groups(32, 20_000).len() > 1 && loaded.stored.groups(32, 150_000).len() == 1);
    for (i, (found, all)) in found.iter().zip(&all).enumerate() {
        let scale = (all_at(&gradients.whole, i / n) * all_at(&gradients.whole, i % n)).sqrt();
        assert!((found - all).abs() < 1e-6 * scale, "{found} {all}");
    }
    assert!(gram(&module.load().unwrap().stored, 0, |_| false).unwrap().is_none(), "it was told to stop");
}

fn all_at(whole: &[Vec<f64>], i: usize) -> f64 {
    whole[i].iter().map(|value| value * value).sum()
}

#[test]
fn each_dataset_gets_its_examples() {
    let gradients = gradients();
    let outputs = STAGE.run(&gradients.task()).unwrap();
    let examples: Vec<Vec<String>> = outputs
        .iter()
        .map(|output| match output {
            Output::Table { batch, .. } => texts(batch, "example"),
            Output::File { name, .. } => panic!("a file {name}"),
        })
        .collect();
    assert_eq!(examples.iter().map(Vec::len).collect::<Vec<_>>(), [121, 40]);
    assert_eq!(examples[1][0], "example 121");
}

#[test]
fn factors_that_do_not_belong_together_are_errors() {
    let tables = TestTables::new();
    let of = |kind: &str, rows: usize, width: usize| {
        part(&tables, kind, 0..2, move |_| rows, values(2 * rows * width, 1), width)
    };
    let error = |parts: Vec<Part>| {
        let inputs = BTreeMap::from([("factors/0".to_string(), parts)]);
        let params = json!({});
        let task = Task { params: &params, inputs, cancelled: &|| false, progress: &|_, _| {} };
        format!("{:#}", STAGE.run(&task).unwrap_err())
    };
    assert!(error(vec![of("input", 2, 5)]).contains("are not followed by their output gradients"));
    assert!(error(vec![of("output_gradient", 2, 5)]).contains("come before their inputs"));
    assert!(error(vec![of("input", 2, 5), of("output_gradient", 3, 4)]).contains("are of example"));
    let two = error(vec![of("input", 2, 5), of("output_gradient", 2, 4), of("gradient", 4, 6)]);
    assert!(two.contains("are 4 x 5 in one part and 4 x 6 in another"), "{two}");
}
