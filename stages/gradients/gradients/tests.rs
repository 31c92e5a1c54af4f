//! The backward pass held against transformers (tests/golden/gradients.py) and against differences of the loss.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use arrow::array::RecordBatch;
use safetensors::Dtype;
use serde_json::{Value, json};

use super::*;
use crate::contract::node::Part;
use crate::contract::observer::Over;
use crate::contract::pipeline::{Model, ModelSource};
use crate::contract::sequences::Sequences;
use crate::contract::stage::Task;
use crate::model::family::qwen2;
use crate::model::forward::{Start, watch as pass};
use crate::model::ops::weight_gradient_add;
use crate::model::test_model::{LAYERS, TestModel, VOCABULARY, part};
use crate::model::transformer::Transformer;
use crate::table;
use crate::testing::tables::{TestTables, assert_near, numbers, texts};

const LENGTHS: [usize; 5] = [9, 2, 14, 30, 5];

fn watch(model: &Transformer, sequences: &Sequences, mut observer: Box<dyn Observer>) -> Vec<Output> {
    pass(model, sequences, Start::Tokens, &mut *observer, &[]).unwrap();
    observer.finish().unwrap()
}

fn observe(stage: &Stage, params: Value, model: &Transformer, sequences: &Sequences) -> Vec<RecordBatch> {
    let context = PassContext {
        sequences,
        layers: LAYERS,
        hidden_size: model.description.hidden_size,
        modules: &model.description.modules(),
        tokenizer: &[],
    };
    let outputs = watch(model, sequences, stage.observer(&params, &context).unwrap());
    let batch = |output| match output {
        Output::Table { batch, .. } => batch,
        Output::File { name, .. } => panic!("a file {name}"),
    };
    outputs.into_iter().map(batch).collect()
}

fn sketch(model: &Transformer, sequences: &Sequences, over: &str) -> RecordBatch {
    let params = json!({"modules": ["*"], "over": over, "size": 8, "seed": 1});
    observe(&crate::gradients::gradients::STAGE, params, model, sequences).remove(0)
}

/// Some of the sequences.
fn some_of(sequences: &Sequences, some: std::ops::Range<usize>) -> Sequences {
    Sequences {
        examples: sequences.examples[some.clone()].to_vec(),
        ids: sequences.ids[some.clone()].to_vec(),
        response: sequences.response[some.clone()].to_vec(),
        turn: sequences.turn[some].to_vec(),
    }
}

fn golden() -> Value {
    serde_json::from_str(include_str!("../../../tests/golden/gradients.json")).unwrap()
}

/// The coordinates that gradient_space gives to examples in two datasets, by module.
fn coordinates(model: &Transformer, sequences: &Sequences) -> BTreeMap<String, Vec<Vec<f64>>> {
    let tables = TestTables::new();
    let mut inputs = BTreeMap::new();
    for (i, some) in [0..3, 3..5].into_iter().enumerate() {
        let params = json!({"modules": ["*"], "over": "all"});
        let batches = observe(&crate::gradients::gradient_factors::STAGE, params, model, &some_of(sequences, some));
        let parts: Vec<Part> = batches.iter().map(|batch| tables.write(batch)).collect();
        inputs.insert(format!("factors/{i}"), parts);
    }
    let task = Task { params: &json!({}), inputs, cancelled: &|| false, progress: &|_, _| {} };
    let mut found: BTreeMap<String, Vec<Vec<f64>>> = BTreeMap::new();
    for output in crate::gradients::gradient_space::STAGE.run(&task).unwrap() {
        let Output::Table { batch, .. } = output else { panic!("no table") };
        let (vectors, width) = table::vectors(&batch, "vector").unwrap();
        for (name, vector) in texts(&batch, "module").into_iter().zip(vectors.chunks_exact(width)) {
            found.entry(name).or_default().push(vector.iter().map(|x| *x as f64).collect());
        }
    }
    found
}

/// The noise floor of a bf16 model's cosines is that of f32, since nothing is computed in bf16.
#[test]
fn gradients_of_a_bf16_file_are_those_of_its_values_in_f32() {
    let sequences = part(&LENGTHS);
    for family in ["qwen2", "llama", "qwen3"] {
        let [narrow, wide] = [Dtype::BF16, Dtype::F32].map(|dtype| TestModel::rounded(family, dtype).open());
        let norms = |model| numbers(&sketch(model, &sequences, "all"), "norm");
        for (narrow, wide) in norms(&narrow).into_iter().zip(norms(&wide)) {
            assert_near(narrow, wide, 1e-6 * wide);
        }
        let (narrow, wide) = (coordinates(&narrow, &sequences), coordinates(&wide, &sequences));
        assert_eq!(narrow.len(), 7 * LAYERS);
        for (name, vectors) in &narrow {
            let cosine = |vectors: &[Vec<f64>], i: usize, j: usize| {
                let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
                let [a, b] = [&vectors[i], &vectors[j]];
                // Two tokens have no gradient for q_proj and k_proj: the first attends to itself alone.
                dot(a, b) / ((dot(a, a) * dot(b, b)).sqrt() + 1e-12)
            };
            for (i, j) in (0..5).flat_map(|i| (0..i).map(move |j| (i, j))) {
                assert_near(cosine(vectors, i, j), cosine(&wide[name], i, j), 2e-6);
            }
        }
    }
}

#[test]
fn inner_products_and_cosines_are_those_of_transformers() {
    let golden = golden();
    let sequences = part(&LENGTHS);
    for family in ["qwen2", "llama", "qwen3"] {
        let model = TestModel::new(family).open();
        let table = sketch(&model, &sequences, "all");
        let (modules, norms) = (texts(&table, "module"), numbers(&table, "norm"));
        let found = coordinates(&model, &sequences);
        assert_eq!(found.len(), 7 * LAYERS);
        for (name, vectors) in found {
            let expected = &golden[family][&name];
            let norms: Vec<f64> =
                modules.iter().zip(&norms).filter(|(m, _)| **m == name).map(|(_, norm)| *norm).collect();
            let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
            let mean: Vec<f64> =
                (0..vectors[0].len()).map(|k| vectors.iter().map(|v| v[k]).sum::<f64>() / 5.0).collect();
            let centred: Vec<Vec<f64>> =
                vectors.iter().map(|v| v.iter().zip(&mean).map(|(x, mean)| x - mean).collect()).collect();
            let (mut in_gram, mut in_centred) = (0, 0);
            for i in 0..5 {
                for j in i..5 {
                    let gram = expected["gram"][in_gram].as_f64().unwrap();
                    in_gram += 1;
                    let scale = norms[i] * norms[j] + 1e-12;
                    assert_near(dot(&vectors[i], &vectors[j]) / scale, gram / scale, 1e-5);
                    if i == j {
                        assert_near(norms[i], gram.sqrt(), 1e-5 * gram.sqrt());
                        continue;
                    }
                    let cosine = expected["centred"][in_centred].as_f64().unwrap();
                    in_centred += 1;
                    let length = |v: &[f64]| dot(v, v).sqrt();
                    let found = dot(&centred[i], &centred[j]) / (length(&centred[i]) * length(&centred[j]));
                    assert_near(found, cosine, 1e-5);
                }
            }
        }
    }
}

/// Makes the gradients that the other observers never make.
struct Whole {
    wanted: LossGradients,
    found: Arc<Mutex<BTreeMap<(ModulePath, usize), Vec<f32>>>>,
}

impl Observer for Whole {
    fn wants(&self) -> Wants {
        Wants::default()
    }

    fn gradients(&self) -> Option<LossGradients> {
        Some(self.wanted.clone())
    }

    fn factors(&mut self, factors: &Factors) -> Result<()> {
        let Factors { path, inputs, out, x, d, .. } = *factors;
        for (rows, i) in factors.rows.iter().zip(factors.sequences.clone()) {
            let mut gradient = vec![0.0; inputs * out];
            let (x, d) = (&x[rows.start * inputs..rows.end * inputs], &d[rows.start * out..rows.end * out]);
            weight_gradient_add(x, d, out, inputs, &mut gradient);
            self.found.lock().unwrap().insert((path.clone(), i), gradient);
        }
        Ok(())
    }
}

/// Each example's mean cross-entropy, by the forward pass alone.
fn losses(model: &Transformer, sequences: &Sequences, over: Over) -> Vec<f64> {
    struct Distributions(Vec<f32>, usize);
    impl Observer for Distributions {
        fn wants(&self) -> Wants {
            Wants { predictions: (0..self.1).collect(), ..Wants::default() }
        }

        fn predictions(&mut self, _rows: &[usize], logprobs: &[f32], _vocabulary: usize) -> Result<()> {
            self.0.extend_from_slice(logprobs);
            Ok(())
        }
    }
    let mut found = Distributions(Vec::new(), sequences.tokens());
    pass(model, sequences, Start::Tokens, &mut found, &[]).unwrap();
    let loss = |i: usize| {
        let tokens = over.tokens(sequences, i);
        let of =
            |t: usize| -found.0[(sequences.span(i).start + t - 1) * VOCABULARY + sequences.ids[i][t] as usize] as f64;
        tokens.clone().map(of).sum::<f64>() / tokens.len() as f64
    };
    (0..sequences.ids.len()).map(loss).collect()
}

#[test]
fn gradients_are_the_slopes_of_the_losses() {
    let sequences = part(&LENGTHS);
    // Each weight matrix is moved along a fixed pattern of signs.
    let sign = |i: usize| if (i * 2654435761) >> 7 & 1 == 0 { 1.0 } else { -1.0 };
    // The norms of small heads bend the loss of a Qwen3 within a larger step.
    for (family, over, h) in [("qwen2", Over::All, 0.01), ("llama", Over::Response, 0.01), ("qwen3", Over::All, 0.001)]
    {
        let wanted = GradientChoice { modules: vec!["*".into()], over }.wanted(&qwen2::modules(LAYERS)).unwrap();
        let found = Arc::new(Mutex::new(BTreeMap::new()));
        watch(
            &TestModel::new(family).open(),
            &sequences,
            Box::new(Whole { wanted: wanted.clone(), found: found.clone() }),
        );
        let found = found.lock().unwrap();
        for path in wanted.modules {
            let moved = |step: f32| {
                let name = format!("model.{}.weight", path.name());
                let model = TestModel::with(family, |tensor, values| {
                    if tensor == name {
                        values.iter_mut().enumerate().for_each(|(i, value)| *value += step * sign(i));
                    }
                });
                losses(&model.open(), &sequences, over)
            };
            let (above, below) = (moved(h), moved(-h));
            for i in 0..sequences.ids.len() {
                let slope = (above[i] - below[i]) / (2.0 * h as f64);
                let gradient = &found[&(path.clone(), i)];
                let along: f64 = gradient.iter().enumerate().map(|(k, g)| (*g * sign(k)) as f64).sum();
                let scale = gradient.iter().map(|g| (*g as f64).powi(2)).sum::<f64>().sqrt() * 4.0 + 0.01;
                assert!((slope - along).abs() < 0.01 * scale, "{family} {} {i}: {slope} {along}", path.name());
            }
        }
    }
}

#[test]
fn an_example_has_the_same_gradient_alone_and_among_others_on_any_number_of_threads() {
    let sequences = part(&LENGTHS);
    let model = TestModel::new("qwen2").open();
    let together = sketch(&model, &sequences, "all");
    for i in 0..LENGTHS.len() {
        let alone = sketch(&model, &some_of(&sequences, i..i + 1), "all");
        for row in 0..alone.num_rows() {
            assert_eq!(alone.slice(row, 1), together.slice(row * LENGTHS.len() + i, 1));
        }
    }
    for threads in [1, 3] {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        assert_eq!(pool.install(|| sketch(&model, &sequences, "all")), together);
    }
}

#[test]
fn examples_without_a_loss_are_left_out() {
    let mut sequences = part(&LENGTHS);
    sequences.response[2] = (14, 14);
    let model = TestModel::new("llama").open();
    let table = sketch(&model, &sequences, "response");
    assert_eq!(table.num_rows(), 4 * 7 * LAYERS);
    assert!(!texts(&table, "example").contains(&sequences.examples[2]));
    assert!(sketch(&model, &some_of(&sequences, 2..3), "response").num_rows() == 0);
    // One token: nothing is predicted.
    let mut short = some_of(&sequences, 0..2);
    short.ids[1].truncate(1);
    assert_eq!(sketch(&model, &short, "all").num_rows(), 7 * LAYERS);
}

#[test]
fn a_pattern_that_names_nothing_is_found_when_planning() {
    let model = TestModel::new("llama");
    let folder = model.parts[0].path.parent().unwrap().to_path_buf();
    let pipeline = Pipeline {
        models: vec![Model {
            name: "base".into(),
            source: ModelSource::Directory(folder),
            tokenizer: None,
            chat_template: None,
            precision: Default::default(),
        }],
        ..Pipeline::default()
    };
    let plan = |modules: Value| (crate::gradients::gradients::STAGE.plan)(&json!({ "modules": modules }), &pipeline);
    assert!(plan(json!(["layers.2.mlp.*", "layers.-1.self_attn.o_proj"])).is_ok());
    let error = plan(json!(["*", "layers.3.self_attn.o_proj"])).unwrap_err();
    assert_eq!(error.at, "stages.gradients.modules[1]");
    assert!(error.help.unwrap().contains("layers.0 to layers.2"));
    assert!(plan(json!([])).is_err());
}
