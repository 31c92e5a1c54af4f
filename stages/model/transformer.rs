//! A model's weights and the ends of its pass: embeddings, blocks, final norm and output head. [`super::forward`] runs it.

use std::ops::Range;
use std::sync::{Arc, OnceLock};

use anyhow::{Context, Result, bail};
use candle_core::{Device, Tensor};

use super::adapter::{self, Adapter, Target};
use super::block::description::{Description, Head, Norm};
use super::block::{BlockWeights, NormWeights, Packing, Program};
use super::compute::{self, Affine};
use super::ops::{LowRank, NormKind, Precision, RotaryTable};
use super::rotary_tables::RotaryTables;
use super::weights::{Stored, Weights};
use super::{family, files};
use crate::contract::module::Module;
use crate::contract::node::Part;
use crate::contract::per_block::PerBlock;
use crate::contract::sequences::Sequences;

/// A decoder-only transformer with its weights mapped.
pub struct Transformer {
    pub description: Description,
    /// The arithmetic of every block.
    pub program: Program,
    pub weights: Weights,
    pub embedding: Stored,
    embedding_update: Option<StoredLowRank>,
    pub layers: Vec<Layer>,
    pub final_norm: NormWeights<'static>,
    pub head: Linear,
    pub device: Device,
    /// Of the blocks' linear layers.
    pub precision: Precision,
    rotary: RotaryTables,
}

/// One block's tensors, in the order of its program.
pub struct Layer {
    pub modules: Vec<Linear>,
    pub norms: Vec<NormWeights<'static>>,
}

/// Where a linear layer's weight lies, its bias, and an adapter's update of it.
pub struct Linear {
    pub weight: Stored,
    pub bias: Option<Vec<f32>>,
    update: Option<StoredLowRank>,
    resident: OnceLock<Tensor>,
}

/// Where an adapter's matrices A and B lie.
struct StoredLowRank {
    a: Stored,
    b: Stored,
    scale: f32,
}

/// Begins the name of the part without a file that says in which precision a model is computed.
pub const PRECISION_PART: &str = "precision=";

/// The logits of one chunk of rows hold about this many values.
const LOGITS: usize = 1 << 25;

/// The precision that the part `precision=…` asks for: f32, bf16, or auto, which is the files'.
fn chosen_precision(parts: &[Part], stored_in_bf16: bool) -> Result<Precision> {
    match parts.iter().find_map(|part| part.name.strip_prefix(PRECISION_PART)) {
        None | Some("f32") => Ok(Precision::F32),
        Some("auto") if !stored_in_bf16 => Ok(Precision::F32),
        Some("bf16" | "auto") => Ok(Precision::Bf16),
        Some(other) => bail!("the precision \"{other}\" is none of f32, bf16 and auto"),
    }
}

impl Transformer {
    /// Opens the model whose config.json and safetensors files, or whose GGUF file, are among `parts`, with the adapter that is
    /// among them.
    ///
    /// # Errors
    /// When a file is missing, unreadable or damaged, the architecture is not supported, or the tensors are
    /// not exactly those that it has.
    pub fn open(parts: &[Part]) -> Result<Transformer> {
        Transformer::open_on(parts, compute::default_device()?)
    }

    /// As [`Transformer::open`], computing on `device`.
    pub fn open_on(parts: &[Part], device: Device) -> Result<Transformer> {
        let (text, path) = files::config_of(parts)?;
        let description = family::describe(&text).with_context(|| format!("reading {}", path.display()))?;
        let mut weights = Weights::open(parts)?;
        let w = &mut weights;
        let (width, vocabulary) = (description.hidden_size, description.vocabulary);
        let program = description.block.compile(width);
        let embedding_name = format!("{}.weight", description.embedding.name);
        let adapter = adapter::among(parts, &description)?.unwrap_or_default();
        let Adapter { updates, replaced, shared_embedding, unread } = &adapter;
        if adapter != Adapter::default() {
            w.add_adapter(parts, unread)?;
        }
        if let Some(tensor) = shared_embedding {
            w.replace(&embedding_name, tensor);
        }
        // What a tied output head reads, also where an adapter has embeddings of its own.
        let base_embedding = w.take_matrix(&embedding_name, vocabulary, width)?;
        replaced.iter().for_each(|(base, tensor)| w.replace(base, tensor));
        let has_own_head = |name: &str| replaced.iter().any(|(base, _)| base.strip_suffix(".weight") == Some(name));
        let embedding = w.take_matrix(&embedding_name, vocabulary, width)?;
        check_layers(w, &description)?;
        let mut layers = (0..description.layers)
            .map(|layer| Layer::take(w, &description, &program, layer))
            .collect::<Result<Vec<_>>>()?;
        let final_norm = take_norm(w, &description.final_norm, description.final_norm.name, width)?;
        let (mut head, tied) = match description.head {
            Head::Tied { copy } if has_own_head(copy) => (Linear::take(w, copy, vocabulary, width, false)?, None),
            Head::Tied { copy } => (Linear::of(base_embedding.clone()), Some(format!("{copy}.weight"))),
            Head::Own(head) => (Linear::take(w, head.name, vocabulary, width, head.bias)?, None),
        };
        let mut embedding_update = None;
        for (target, update) in updates {
            match target {
                Target::Embedding => embedding_update = Some(StoredLowRank::take(w, update, width, vocabulary)?),
                Target::Module { layer, module } => layers[*layer].modules[*module].update(w, update)?,
                Target::Head => head.update(w, update)?,
            }
        }
        w.finish(tied.as_deref().map(|copy| (copy, &base_embedding)), description.unread)?;
        let stored_in_bf16 = layers.iter().flat_map(|layer| &layer.modules).any(|linear| linear.weight.is_bf16());
        let precision = chosen_precision(parts, stored_in_bf16)?;
        let attention = &description.block.attention;
        let rotary = RotaryTables::new(attention.rotary.clone(), attention.heads.dim);
        Ok(Transformer {
            description,
            program,
            weights,
            embedding,
            embedding_update,
            layers,
            final_norm,
            head,
            device,
            precision,
            rotary,
        })
    }

    /// A linear layer as the ops take it, in f32.
    pub fn affine<'a>(&'a self, linear: &'a Linear) -> Affine<'a> {
        Affine {
            weight: self.weights.matrix(&linear.weight),
            bias: linear.bias.as_deref(),
            update: linear.update.as_ref().map(|update| update.of(&self.weights)),
            resident: &linear.resident,
        }
    }

    /// The weights of block `layer` (from 0).
    pub fn block(&self, layer: usize) -> BlockWeights<'_> {
        let Layer { modules, norms } = &self.layers[layer];
        BlockWeights {
            block: layer,
            modules: modules.iter().map(|linear| self.affine(linear).in_precision(self.precision)).collect(),
            norms: norms.iter().map(NormWeights::borrowed).collect(),
        }
    }

    /// Where the sequences lie when packed.
    pub fn pack(&self, sequences: &Sequences) -> Packing {
        let spans = sequences.spans();
        let lengths: Vec<usize> = spans.iter().map(Range::len).collect();
        Packing { sequences: spans, before: Vec::new(), rotary: self.rotary(&lengths) }
    }

    /// The rotations of sequences of these lengths, in the blocks that have rotary embeddings.
    pub(super) fn rotary(&self, lengths: &[usize]) -> PerBlock<Option<Vec<Arc<RotaryTable>>>> {
        self.rotary.of(lengths)
    }

    /// The residual stream at layer 0, [tokens, D], of so many tokens with the examples that they are of.
    ///
    /// # Errors
    /// When there are no tokens or a token id lies outside the vocabulary.
    pub(super) fn embed<'a>(&self, count: usize, tokens: impl Iterator<Item = (u32, &'a str)>) -> Result<Tensor> {
        let Description { vocabulary, hidden_size, ref embedding, .. } = self.description;
        if count == 0 {
            bail!("the examples have no tokens");
        }
        let rows = self.weights.matrix(&self.embedding).values;
        let update = self.embedding_update.as_ref().map(|update| update.of(&self.weights));
        let mut out = vec![0.0; count * hidden_size];
        for (row, (id, example)) in out.chunks_exact_mut(hidden_size).zip(tokens) {
            let id = id as usize;
            if id >= vocabulary {
                bail!(
                    "example {example} has the token id {id}, but the model's vocabulary has {vocabulary} tokens: \
                     the tokenizer is not this model's"
                );
            }
            rows.widen(id * hidden_size, row);
            if let Some(update) = update {
                update.add_column(id, row);
            }
            if embedding.factor != 1.0 {
                row.iter_mut().for_each(|value| *value *= embedding.factor);
            }
        }
        Ok(Tensor::from_vec(out, (count, hidden_size), &self.device)?)
    }

    /// Through block `layer` (from 0): the residual stream at layer `layer` becomes that at `layer + 1`, [tokens, D].
    pub(super) fn step(&self, layer: usize, hidden: &Tensor, packing: &Packing) -> Result<Tensor> {
        self.program.forward(&self.block(layer), hidden, packing)
    }

    /// The last layer's stream after the final norm, [tokens, D].
    pub(super) fn final_norm(&self, hidden: &Tensor) -> Result<Tensor> {
        compute::norm(hidden, self.final_norm.of(&self.description.final_norm))
    }

    /// How many rows' log-probabilities are in memory at once: the whole logits never are.
    pub(super) fn head_rows(&self) -> usize {
        (LOGITS / self.description.vocabulary).clamp(16, 4096)
    }

    /// Next-token log-probabilities [rows, vocabulary], row-major, at the chosen `rows` of the normed stream, in the place of
    /// what `found` held.
    pub(super) fn predictions(&self, normed: &Tensor, rows: &[usize], found: &mut Vec<f32>) -> Result<()> {
        let index: Vec<u32> = rows.iter().map(|row| *row as u32).collect();
        let chosen = normed.index_select(&Tensor::new(index, &self.device)?, 0)?;
        compute::log_probabilities(&chosen, self.affine(&self.head), self.description.logits, found)
    }
}

impl Layer {
    fn take(weights: &mut Weights, description: &Description, program: &Program, layer: usize) -> Result<Layer> {
        let linear = |(module, bias): (&Module, &bool)| {
            Linear::take(weights, &description.in_block(layer, &module.name), module.out, module.inputs, *bias)
        };
        let modules = program.modules.iter().zip(&program.biases).map(linear).collect::<Result<_>>()?;
        let norm =
            |(norm, width): &(Norm, usize)| take_norm(weights, norm, &description.in_block(layer, norm.name), *width);
        let norms = program.norms.iter().map(norm).collect::<Result<_>>()?;
        Ok(Layer { modules, norms })
    }
}

/// # Errors
/// When the files have no tensor of the last block that config.json says there is.
fn check_layers(weights: &Weights, description: &Description) -> Result<()> {
    let has = |layer: usize| weights.has_below(&description.in_block(layer, ""));
    let (said, found) = (description.layers, (0..description.layers).take_while(|layer| has(*layer)).count());
    // A gap is one tensor that is missing, which is named by itself.
    if found < said && !has(said - 1) {
        bail!(
            "config.json says that there are {said} layers (\"num_hidden_layers\"), and the model's files have tensors of \
             the first {found}"
        );
    }
    Ok(())
}

fn take_norm(weights: &mut Weights, norm: &Norm, name: &str, width: usize) -> Result<NormWeights<'static>> {
    let weight = weights.take_vector(&format!("{name}.weight"), width)?;
    let bias = match norm.kind {
        NormKind::RootMeanSquare => None,
        NormKind::Layer => Some(weights.take_vector(&format!("{name}.bias"), width)?),
    };
    Ok(NormWeights::new(norm, weight, bias.as_deref()).into_owned())
}

impl Linear {
    fn take(weights: &mut Weights, name: &str, out: usize, inputs: usize, bias: bool) -> Result<Linear> {
        let weight = weights.take_matrix(&format!("{name}.weight"), out, inputs)?;
        let bias = bias.then(|| weights.take_vector(&format!("{name}.bias"), out)).transpose()?;
        Ok(Linear { bias, ..Linear::of(weight) })
    }

    fn of(weight: Stored) -> Linear {
        Linear { weight, bias: None, update: None, resident: OnceLock::new() }
    }

    /// Drops the copy that is on a device, which is of one precision.
    #[cfg(test)]
    pub fn forget(&mut self) {
        self.resident = OnceLock::new();
    }

    /// Puts an adapter's update beside the weight.
    fn update(&mut self, weights: &mut Weights, update: &adapter::LowRank) -> Result<()> {
        if let Some(bias) = &update.bias {
            let added = weights.take_vector(bias, self.weight.out)?;
            let bias = self.bias.get_or_insert_with(|| vec![0.0; self.weight.out]);
            bias.iter_mut().zip(added).for_each(|(bias, added)| *bias += update.scale * added);
        }
        self.update = Some(StoredLowRank::take(weights, update, self.weight.out, self.weight.inputs)?);
        Ok(())
    }
}

impl StoredLowRank {
    fn take(weights: &mut Weights, update: &adapter::LowRank, out: usize, inputs: usize) -> Result<StoredLowRank> {
        let a = weights.take_matrix(&update.a, update.rank, inputs)?;
        let b = weights.take_matrix(&update.b, out, update.rank)?;
        Ok(StoredLowRank { a, b, scale: update.scale })
    }

    fn of<'a>(&self, weights: &'a Weights) -> LowRank<'a> {
        LowRank { a: weights.matrix(&self.a), b: weights.matrix(&self.b), scale: self.scale }
    }
}
