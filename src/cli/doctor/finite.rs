//! Whether a model's weights are numbers.

use rayon::prelude::*;
use strata_stages::model::ops::Matrix;
use strata_stages::model::transformer::{Linear, Transformer};

/// The first tensor that holds what is no number, in words: of every tensor the first and the last row, or all rows.
pub fn not_finite(model: &Transformer, every_row: bool) -> Option<String> {
    let linear = |linear: &Linear| {
        let affine = model.affine(linear);
        let updates =
            affine.update.iter().flat_map(|update| [update.a, update.b]).any(|matrix| !rows(matrix, every_row));
        let sound = rows(affine.weight, every_row) && affine.bias.is_none_or(finite) && !updates;
        (!sound).then(|| format!("the tensor \"{}\", or what an adapter adds to it,", linear.weight.name))
    };
    let embedding = || {
        let sound = rows(model.weights.matrix(&model.embedding), every_row);
        (!sound).then(|| format!("the tensor \"{}\"", model.embedding.name))
    };
    let norms = || {
        let of = |norms: &[strata_stages::model::block::NormWeights]| {
            norms.iter().any(|norm| !finite(&norm.weight) || norm.bias.as_ref().is_some_and(|bias| !finite(bias)))
        };
        let block =
            model.layers.iter().position(|layer| of(&layer.norms)).map(|block| format!("a norm of block {block}"));
        block.or_else(|| of(std::slice::from_ref(&model.final_norm)).then(|| "the final norm".to_string()))
    };
    let modules = || model.layers.iter().flat_map(|layer| &layer.modules).find_map(linear);
    let what = norms().or_else(modules).or_else(embedding).or_else(|| linear(&model.head))?;
    Some(format!("{what} holds NaN or an infinity"))
}

fn finite(values: &[f32]) -> bool {
    values.iter().all(|value| value.is_finite())
}

/// Whether rows of a matrix are finite: the first and the last, or every one.
fn rows(matrix: Matrix, every_row: bool) -> bool {
    let row = |row: usize| {
        let mut values = vec![0.0; matrix.inputs];
        matrix.values.widen(row * matrix.inputs, &mut values);
        finite(&values)
    };
    match every_row {
        true => (0..matrix.out).into_par_iter().all(row),
        false => [0, matrix.out.saturating_sub(1)].into_iter().take(matrix.out).all(row),
    }
}
