//! A model's tensors, memory-mapped where they lie: one safetensors file or many, in f32, f16 or bf16.
//!
//! Nothing is dropped silently: a tensor that the architecture wants and the files lack, or that the files
//! hold and the architecture does not use, is an error with its name.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::ops::Deref;

use anyhow::{Context, Result, bail};
use candle_core::quantized::GgmlDType;
use memmap2::Mmap;
use safetensors::{Dtype, SafeTensors};

use super::adapter::file_names;
use super::gguf::{self, Change, Gguf};
use super::ops::{Blocks, Fp8, Matrix, Scales, Values};
use crate::contract::node::Part;

/// Buffers that files of older versions of transformers hold: rotary frequencies, and GPT-NeoX' causal mask.
const BUFFERS: [&str; 3] = ["rotary_emb.inv_freq", ".attention.bias", ".attention.masked_bias"];

/// The mapped files, and where in them each tensor lies.
#[derive(Debug)]
pub struct Weights {
    files: Vec<(String, Bytes)>,
    tensors: BTreeMap<String, Location>,
    /// Of FP8 matrices, as f32.
    scales: Vec<Vec<f32>>,
    used: BTreeSet<String>,
}

/// A map, or the few tensors that a file stores in another order.
#[derive(Debug)]
enum Bytes {
    Mapped(Mmap),
    Own(Vec<u8>),
}

impl Deref for Bytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Bytes::Mapped(map) => map,
            Bytes::Own(bytes) => bytes,
        }
    }
}

/// How the values of a tensor are written.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Format {
    Plain(Dtype),
    Blocks(GgmlDType),
}

#[derive(Debug, Clone)]
struct Location {
    file: usize,
    start: usize,
    end: usize,
    format: Format,
    shape: Vec<usize>,
    /// Which of the scales, and the rows and columns of a block.
    scales: Option<(usize, usize, usize)>,
}

/// A matrix [out, inputs] in one of the files.
#[derive(Debug, Clone)]
pub struct Stored {
    pub name: String,
    pub out: usize,
    pub inputs: usize,
    location: Location,
}

impl Stored {
    pub fn is_bf16(&self) -> bool {
        matches!(self.location.format, Format::Plain(Dtype::BF16))
    }
}

impl Weights {
    /// Maps the GGUF file or the safetensors files among `parts`, an adapter's not among them; the other parts are left alone.
    ///
    /// # Errors
    /// When there is none, a file cannot be mapped, is cut short or damaged, two files hold one tensor, or a
    /// tensor has a dtype other than f32, f16 and bf16.
    pub fn open(parts: &[Part]) -> Result<Weights> {
        let mut weights =
            Weights { files: Vec::new(), tensors: BTreeMap::new(), scales: Vec::new(), used: BTreeSet::new() };
        for part in parts {
            let name = file_name(part);
            if name == gguf::FILE {
                weights.add_gguf(part).with_context(|| format!("reading {}", part.path.display()))?;
            }
            if name.ends_with(".safetensors") && name != file_names::WEIGHTS {
                weights.add(part, &name).with_context(|| format!("reading {}", part.path.display()))?;
            }
        }
        if weights.files.is_empty() {
            let found: Vec<String> = parts.iter().map(file_name).collect();
            bail!("the model has no safetensors file; found: {}", found.join(", "));
        }
        Ok(weights)
    }

    fn add(&mut self, part: &Part, name: &str) -> Result<()> {
        let file = File::open(&part.path)?;
        // SAFETY: model files are not written to while a run reads them; the engine checks that they did not change.
        let map = unsafe { Mmap::map(&file)? };
        let tensors = SafeTensors::deserialize(&map)
            .with_context(|| format!("{name} is cut short, damaged or no safetensors file ({} bytes)", map.len()))?;
        for (tensor, view) in tensors.iter() {
            let start = view.data().as_ptr().addr() - map.as_ptr().addr();
            let location = Location {
                file: self.files.len(),
                start,
                end: start + view.data().len(),
                format: Format::Plain(view.dtype()),
                shape: view.shape().to_vec(),
                scales: None,
            };
            if let Some(other) = self.tensors.insert(tensor.to_string(), location) {
                bail!("the tensor \"{tensor}\" is in {} and in {name}", self.files[other.file].0);
            }
        }
        self.files.push((name.to_string(), Bytes::Mapped(map)));
        Ok(())
    }

    fn add_gguf(&mut self, part: &Part) -> Result<()> {
        let gguf = Gguf::open(&part.path)?;
        let (mapped, tensors) = (self.files.len(), gguf.tensors()?);
        let mut own = Vec::new();
        for gguf::Tensor { name, shape, dtype, start, end, change } in tensors {
            let format = match dtype {
                GgmlDType::F32 => Format::Plain(Dtype::F32),
                GgmlDType::F16 => Format::Plain(Dtype::F16),
                GgmlDType::BF16 => Format::Plain(Dtype::BF16),
                other => Format::Blocks(other),
            };
            let bytes = &gguf.map[start..end];
            let bytes = match change {
                Change::None => None,
                Change::PlusOne if format == Format::Plain(Dtype::F32) => {
                    let minus_one = |word: &[u8; 4]| (f32::from_le_bytes(*word) - 1.0).to_le_bytes();
                    Some(bytes.as_chunks::<4>().0.iter().flat_map(minus_one).collect())
                }
                Change::PlusOne => bail!("the tensor \"{name}\" is {dtype:?}, expected F32"),
                Change::Interleaved { heads } => Some(halves_apart(bytes, shape.first().copied().unwrap_or(0), heads)?),
            };
            let location = match bytes {
                None => Location { file: mapped, start, end, format, shape, scales: None },
                Some(bytes) => {
                    own.push(bytes);
                    Location { file: mapped + own.len(), start: 0, end: end - start, format, shape, scales: None }
                }
            };
            self.tensors.insert(name, location);
        }
        let name = part.path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        self.files.push((name.clone(), Bytes::Mapped(gguf.map)));
        self.files.extend(own.into_iter().map(|bytes| (name.clone(), Bytes::Own(bytes))));
        Ok(())
    }

    /// Maps an adapter's file too. Its tensors have their own names.
    ///
    /// # Errors
    /// As for [`Weights::open`].
    pub fn add_adapter(&mut self, parts: &[Part], unread: &[String]) -> Result<()> {
        let part = parts.iter().find(|part| file_name(part) == file_names::WEIGHTS);
        let part = part.with_context(|| format!("the adapter has no {}", file_names::WEIGHTS))?;
        self.add(part, file_names::WEIGHTS).with_context(|| format!("reading {}", part.path.display()))?;
        self.used.extend(unread.iter().cloned());
        Ok(())
    }

    /// Puts the tensor `by` in the place of `name`.
    pub fn replace(&mut self, name: &str, by: &str) {
        if let Some(location) = self.tensors.remove(by) {
            self.tensors.insert(name.to_string(), location);
        }
    }

    /// Whether there is a tensor whose name begins so.
    pub fn has_below(&self, prefix: &str) -> bool {
        self.tensors.range(prefix.to_string()..).next().is_some_and(|(name, _)| name.starts_with(prefix))
    }

    pub fn has(&self, name: &str) -> bool {
        self.tensors.contains_key(name)
    }

    /// The matrix of this name.
    ///
    /// # Errors
    /// When there is no such tensor, or it has another shape or a dtype that is not computed with.
    pub fn take_matrix(&mut self, name: &str, out: usize, inputs: usize) -> Result<Stored> {
        let mut location = self.take(name, &[out, inputs])?;
        if location.format == Format::Plain(Dtype::F8_E4M3) {
            location.scales = Some(self.take_scales(name, out, inputs)?);
        }
        Ok(Stored { name: name.to_string(), out, inputs, location })
    }

    /// The scales of an FP8 matrix, which stand beside it: one for each block of a grid that its shape gives.
    fn take_scales(&mut self, name: &str, out: usize, inputs: usize) -> Result<(usize, usize, usize)> {
        let of = format!("{name}_scale_inv");
        let Some(shape) = self.tensors.get(&of).map(|location| location.shape.clone()) else {
            bail!("the tensor \"{name}\" is F8_E4M3, and the model's files have no \"{of}\" with its scales");
        };
        let (rows, columns) = match shape.as_slice() {
            [rows, columns] if *rows > 0 && *columns > 0 => (*rows, *columns),
            [] | [1] => (1, 1),
            _ => bail!("the scales \"{of}\" have the shape {shape:?}, expected those of a grid over {out} x {inputs}"),
        };
        // Blocks are 128 wide but at the ends, unless the grid divides the matrix evenly, which is how transformers reads it.
        let block = |size: usize, blocks: usize| match size.is_multiple_of(blocks) {
            true => Some(size / blocks),
            false => (size.div_ceil(128) == blocks).then_some(128),
        };
        let (Some(block_rows), Some(block_columns)) = (block(out, rows), block(inputs, columns)) else {
            bail!("the scales \"{of}\" have the shape {shape:?}, which divides {out} x {inputs} into no blocks");
        };
        let location = self.take(&of, &shape)?;
        self.scales.push(self.values(&location).to_f32());
        Ok((self.scales.len() - 1, block_rows, block_columns))
    }

    /// The vector of this name, as f32.
    ///
    /// # Errors
    /// As for [`Weights::take_matrix`].
    pub fn take_vector(&mut self, name: &str, len: usize) -> Result<Vec<f32>> {
        let location = self.take(name, &[len])?;
        Ok(self.values(&location).to_f32())
    }

    fn take(&mut self, name: &str, shape: &[usize]) -> Result<Location> {
        let Some(location) = self.tensors.get(name) else {
            let near = crate::contract::pipeline::nearest(name, self.tensors.keys().map(String::as_str));
            let near = near.map(|near| format!("; the nearest name is \"{near}\"")).unwrap_or_default();
            bail!("the model's files have no tensor \"{name}\"{near}");
        };
        let file = &self.files[location.file].0;
        if location.shape != shape {
            bail!(
                "the tensor \"{name}\" in {file} has the shape {:?}, expected {shape:?} by config.json",
                location.shape
            );
        }
        match location.format {
            Format::Plain(Dtype::F32 | Dtype::F16 | Dtype::BF16) => {}
            Format::Plain(Dtype::F8_E4M3) if shape.len() == 2 => {}
            Format::Plain(dtype) => {
                bail!(
                    "the tensor \"{name}\" in {file} is {dtype:?}; supported are F32, F16, BF16 and, of matrices, F8_E4M3"
                )
            }
            Format::Blocks(dtype) => {
                let row = shape.last().copied().unwrap_or(1);
                if !row.is_multiple_of(dtype.block_size()) {
                    bail!(
                        "the rows of the tensor \"{name}\" in {file}, of {row} values, are no whole blocks of {dtype:?}"
                    );
                }
                if Blocks::new(self.bytes(location), dtype).is_none() {
                    bail!("the tensor \"{name}\" in {file} is {dtype:?}, which is not supported");
                }
            }
        }
        self.used.insert(name.to_string());
        Ok(location.clone())
    }

    /// Accepts the tensors that files may hold without being used: buffers that are computed anew, an output head
    /// beside a tied embedding, if it holds the same values, and those whose names begin as one of `unread`.
    ///
    /// # Errors
    /// Names the tensors that nothing used.
    pub fn finish(&mut self, tied_head: Option<(&str, &Stored)>, unread: &[&str]) -> Result<()> {
        if let Some((name, embedding)) = tied_head
            && let Some(head) = self.tensors.get(name)
        {
            if head.format != embedding.location.format || self.bytes(head) != self.bytes(&embedding.location) {
                bail!(
                    "config.json ties the output head to the embeddings, but \"{name}\" differs from \"{}\"",
                    embedding.name
                );
            }
            self.used.insert(name.to_string());
        }
        let buffer = |name: &str| BUFFERS.iter().any(|end| name.ends_with(end));
        let unread = |name: &str| unread.iter().any(|start| name.starts_with(start));
        let unused: Vec<&str> = self
            .tensors
            .keys()
            .filter(|name| !self.used.contains(*name) && !buffer(name) && !unread(name))
            .map(String::as_str)
            .collect();
        if let Some(first) = unused.first() {
            let file = &self.files[self.tensors[*first].file].0;
            let more = if unused.len() > 1 { format!(" and {} more", unused.len() - 1) } else { String::new() };
            bail!("the tensor \"{first}\" in {file}{more} is not used by this architecture");
        }
        Ok(())
    }

    /// The matrix in the memory map.
    pub fn matrix(&self, stored: &Stored) -> Matrix<'_> {
        Matrix::new(self.values(&stored.location), stored.out, stored.inputs)
    }

    fn bytes(&self, location: &Location) -> &[u8] {
        &self.files[location.file].1[location.start..location.end]
    }

    fn values(&self, location: &Location) -> Values<'_> {
        let bytes = self.bytes(location);
        match location.format {
            Format::Plain(Dtype::F16) => Values::F16(bytes),
            Format::Plain(Dtype::BF16) => Values::Bf16(bytes),
            Format::Plain(Dtype::F8_E4M3) => match location.scales {
                Some((scales, block_rows, block_columns)) => {
                    let scales = Scales { values: &self.scales[scales], block_rows, block_columns };
                    Values::Fp8(Fp8::new(bytes, location.shape[1], scales))
                }
                None => Values::F16(&[]),
            },
            Format::Plain(_) => Values::f32(bytes),
            // `take` has seen that these blocks are known.
            Format::Blocks(dtype) => Blocks::new(bytes, dtype).map_or(Values::F16(&[]), Values::Blocks),
        }
    }
}

/// The rows of each of so many heads, stored alternately from its two halves, one half after the other.
fn halves_apart(bytes: &[u8], rows: usize, heads: usize) -> Result<Vec<u8>> {
    if heads == 0 || rows == 0 || !rows.is_multiple_of(2 * heads) {
        bail!("{rows} rows are not those of {heads} heads with two halves each");
    }
    let (row, of_head) = (bytes.len() / rows, rows / heads);
    let mut out = Vec::with_capacity(bytes.len());
    for head in bytes.chunks_exact(of_head * row) {
        for half in 0..2 {
            (0..of_head / 2).for_each(|i| out.extend_from_slice(&head[(2 * i + half) * row..][..row]));
        }
    }
    Ok(out)
}

/// The name a part has in its model directory.
pub fn file_name(part: &Part) -> String {
    match part.name.as_str() {
        "" => part.path.file_name().unwrap_or_default().to_string_lossy().into_owned(),
        name => name.to_string(),
    }
}
