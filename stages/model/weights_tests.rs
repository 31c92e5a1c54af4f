//! FP8 matrices in a checkpoint: each with its scales, or an error that names what is missing.

use std::collections::BTreeMap;

use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors, serialize};

use super::test_model::TestModel;
use super::transformer::Transformer;

const NAME: &str = "model.layers.1.self_attn.q_proj.weight";

/// The test model with one matrix [16, 16] in FP8, all ones, and scales of this shape: 1, 2, 3 and so on.
fn with_scales(shape: Option<&[usize]>, vector: bool) -> Result<Transformer, String> {
    let model = TestModel::new("llama");
    let path = &model.parts[1].path;
    let file = std::fs::read(path).unwrap();
    let tensors = SafeTensors::deserialize(&file).unwrap();
    let mut all: BTreeMap<String, TensorView> = tensors.iter().map(|(name, view)| (name.to_string(), view)).collect();
    let (ones, scales) = ([0x38; 256], shape.map(|shape| (1..=shape.iter().product()).map(|n: usize| n as f32)));
    let scales: Vec<u8> = scales.into_iter().flatten().flat_map(f32::to_le_bytes).collect();
    all.insert(NAME.into(), TensorView::new(Dtype::F8_E4M3, vec![16, 16], &ones).unwrap());
    if let Some(shape) = shape {
        all.insert(format!("{NAME}_scale_inv"), TensorView::new(Dtype::F32, shape.to_vec(), &scales).unwrap());
    }
    if vector {
        all.insert("model.norm.weight".into(), TensorView::new(Dtype::F8_E4M3, vec![16], &ones[..16]).unwrap());
    }
    std::fs::write(path, serialize(all, None).unwrap()).unwrap();
    Transformer::open_on(&model.parts, candle_core::Device::Cpu).map_err(|error| format!("{error:#}"))
}

#[test]
fn an_fp8_matrix_is_its_values_times_the_scales_of_its_blocks() {
    let model = with_scales(Some(&[2, 4]), false).unwrap();
    let block = model.block(1);
    let query = model.program.modules.iter().position(|module| &*module.name == "self_attn.q_proj").unwrap();
    let expected: Vec<f32> = (0..256).map(|at| (at / 16 / 8 * 4 + at % 16 / 4 + 1) as f32).collect();
    assert_eq!(block.modules[query].weight.values.to_f32(), expected);
    assert_eq!(block.modules[query].weight.rows(5, 9).values.to_f32(), expected[5 * 16..9 * 16]);
    // One for all of it.
    let model = with_scales(Some(&[]), false).unwrap();
    assert_eq!(model.block(1).modules[query].weight.values.to_f32(), [1.0; 256]);
}

#[test]
fn an_fp8_tensor_that_cannot_be_used_is_named() {
    let error = |shape, vector| with_scales(shape, vector).err().unwrap();
    let text = error(None, false);
    assert!(text.contains(NAME) && text.contains("q_proj.weight_scale_inv"), "{text}");
    let text = error(Some(&[3, 4]), false);
    assert!(text.contains("[3, 4]") && text.contains("16 x 16"), "{text}");
    let text = error(Some(&[2, 4]), true);
    assert!(text.contains("model.norm.weight") && text.contains("F8_E4M3"), "{text}");
}
