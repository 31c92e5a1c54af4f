//! Every path of the kernels that this processor can take, forced in a process of its own and held against the one it chooses.

use std::path::Path;
use std::process::Command;

use anyhow::Result;

use super::forward::{Start, watch};
use super::ops::test_values::values;
use super::ops::{
    Activation, Matrix, Precision, activate_backward, entropy, gate, gate_backward, layer_norm_backward_add,
    linear_backward, linear_new, log_softmax, rms_norm_backward_add, rms_norm_new, softmax_prefix,
};
use super::test_model::{LAYERS, TestModel, part};
use crate::contract::observer::{Factors, LossGradients, Observer, Over, Wants};
use crate::model::family::qwen2;
use crate::processor::{Instructions, VARIABLE, instructions, paths};

/// Where a process that takes a forced path writes its numbers.
const OUT: &str = "STRATA_TEST_PATH_OUT";

/// What no two paths sum in one order.
const LINEAR: &str = "linear";

/// Numbers of one kind, and how far from this process' another path's may be, relative to the largest of them.
struct Found {
    what: &'static str,
    tolerance: f32,
    values: Vec<f32>,
}

fn found() -> Vec<Found> {
    let mut all = Vec::new();
    let mut keep = |what, tolerance, values| all.push(Found { what, tolerance, values });
    let (rows, inputs, out) = (37, 1100, 130);
    let (x, w, d) = (values(rows * inputs, 1), values(out * inputs, 2), values(rows * out, 3));
    // f32 products sum in another order, with or without fused multiply-adds; bf16 ones are rounded to 8 bits, to either
    // neighbour where f32 sums differ.
    for (precision, names, tolerance) in [
        (Precision::F32, [LINEAR, "linear's reverse"], 4e-6),
        (Precision::Bf16, ["linear in bf16", "linear's reverse in bf16"], 8e-3),
    ] {
        let weight = Matrix::of(&w, out, inputs).in_precision(precision);
        keep(names[0], tolerance, linear_new(&x, weight, None));
        let mut dx = vec![0.0; x.len()];
        linear_backward(&d, weight, false, &mut dx);
        keep(names[1], tolerance, dx);
    }
    // Loops over slices: the same bits everywhere.
    let width = 301;
    let rows = |seed| values(7 * width, seed);
    let weight = values(width, 4);
    keep("rms norm", 0.0, rms_norm_new(&rows(5), &weight, 1e-6));
    let mut dx = rows(6);
    rms_norm_backward_add(&rows(5), &weight, 1e-6, &rows(7), &mut dx);
    keep("rms norm's reverse", 0.0, dx);
    let mut dx = rows(6);
    layer_norm_backward_add(&rows(5), &weight, 1e-6, &rows(7), &mut dx);
    keep("layer norm's reverse", 0.0, dx);
    for kind in [Activation::Silu, Activation::Gelu, Activation::GeluTanh] {
        let (mut x, mut up, mut gated) = (rows(8), rows(9), rows(8));
        gate(kind, &mut gated, &up);
        keep("gate", 0.0, gated);
        gate_backward(kind, &mut x, &mut up, &rows(10));
        keep("gate's reverse", 0.0, x);
        let mut x = rows(8);
        activate_backward(kind, &mut x, &rows(10));
        keep("activation's reverse", 0.0, x);
    }
    let mut x = rows(12);
    log_softmax(&mut x, width);
    keep("log-softmax", 0.0, x.clone());
    keep("entropy", 0.0, vec![entropy(&x[..width])]);
    let mut x = rows(13);
    softmax_prefix(&mut x, 200, 0.3);
    keep("softmax", 0.0, x);
    for (precision, names, tolerance) in [
        (Precision::F32, ["log-probabilities of a model", "factors of its gradients"], 1e-5),
        (Precision::Bf16, ["log-probabilities in bf16", "factors in bf16"], 3e-2),
    ] {
        let (logprobs, gradients) = passed(precision);
        keep(names[0], tolerance, logprobs);
        keep(names[1], tolerance, gradients);
    }
    all
}

/// A small model's log-probabilities, and the factors of the gradients of all its matrices.
fn passed(precision: Precision) -> (Vec<f32>, Vec<f32>) {
    struct All {
        rows: usize,
        wanted: LossGradients,
        logprobs: Vec<f32>,
        factors: Vec<f32>,
    }
    impl Observer for All {
        fn wants(&self) -> Wants {
            Wants { predictions: (0..self.rows).collect(), ..Wants::default() }
        }

        fn predictions(&mut self, _rows: &[usize], logprobs: &[f32], _vocabulary: usize) -> Result<()> {
            self.logprobs.extend_from_slice(logprobs);
            Ok(())
        }

        fn gradients(&self) -> Option<LossGradients> {
            Some(self.wanted.clone())
        }

        fn factors(&mut self, factors: &Factors) -> Result<()> {
            self.factors.extend_from_slice(factors.d);
            Ok(())
        }
    }
    let sequences = part(&[9, 2, 14, 30, 5]);
    let modules = qwen2::modules(LAYERS).resolve(&["*".into()]).unwrap();
    let wanted = LossGradients { modules, over: Over::All };
    let mut all = All { rows: sequences.tokens(), wanted, logprobs: Vec::new(), factors: Vec::new() };
    let mut model = TestModel::new("qwen2").open();
    model.precision = precision;
    watch(&model, &sequences, Start::Tokens, &mut all, &[]).unwrap();
    (all.logprobs, all.factors)
}

fn bytes(found: &[Found]) -> Vec<u8> {
    found.iter().flat_map(|found| &found.values).flat_map(|value| value.to_le_bytes()).collect()
}

fn forced(path: &str, out: &Path) -> Vec<f32> {
    let name = module_path!().split_once("::").unwrap().1;
    let mut child = Command::new(std::env::current_exe().unwrap());
    child.args(["--exact", &format!("{name}::every_path_gives_the_same_within_rounding")]);
    let output = child.env(VARIABLE, path).env(OUT, out).output().unwrap();
    assert!(output.status.success(), "{path}: {}", String::from_utf8_lossy(&output.stdout));
    let written = std::fs::read(out).unwrap();
    written.chunks_exact(4).map(|bytes| f32::from_le_bytes(bytes.try_into().unwrap())).collect()
}

#[test]
fn every_path_gives_the_same_within_rounding() {
    if let Some(out) = std::env::var_os(OUT) {
        let baseline = std::env::var(VARIABLE).unwrap() == "scalar";
        assert!(!baseline || instructions() == Instructions::Baseline, "loops follow the variable");
        return std::fs::write(out, bytes(&found())).unwrap();
    }
    let folder = tempfile::tempdir().unwrap();
    let here = found();
    for path in paths() {
        let other = forced(path, &folder.path().join(path));
        let mut at = 0;
        for Found { what, tolerance, values } in &here {
            let (values, other) = (values.as_slice(), &other[at..at + values.len()]);
            at += values.len();
            let largest = values.iter().fold(0f32, |largest, value| largest.max(value.abs()));
            let worst =
                values.iter().zip(other).map(|(a, b)| if a.to_bits() == b.to_bits() { 0.0 } else { (a - b).abs() });
            let worst = worst.fold(0f32, |worst, d| if d.is_nan() { f32::INFINITY } else { worst.max(d) }) / largest;
            println!("{path:10} {what:30} {worst:.1e}");
            assert!(worst <= *tolerance, "{path}: {what} is off by {worst:e} of the largest");
            let other_path = path == "scalar" && *what == LINEAR && paths().len() > 1;
            assert!(!other_path || worst > 0.0, "products follow the variable");
        }
        assert_eq!(at, other.len());
    }
}
