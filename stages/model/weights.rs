//! A model's tensors, memory-mapped where they lie: one safetensors file or many, in f32, f16 or bf16.
//!
//! Nothing is dropped silently: a tensor that the architecture wants and the files lack, or that the files
//! hold and the architecture does not use, is an error with its name.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;

use anyhow::{Context, Result, bail};
use memmap2::Mmap;
use safetensors::{Dtype, SafeTensors};

use super::adapter::file_names;
use super::ops::{Matrix, Values};
use crate::contract::node::Part;

/// Buffers that files of older versions of transformers hold: rotary frequencies, and GPT-NeoX' causal mask.
const BUFFERS: [&str; 3] = ["rotary_emb.inv_freq", ".attention.bias", ".attention.masked_bias"];

/// The mapped files, and where in them each tensor lies.
#[derive(Debug)]
pub struct Weights {
    files: Vec<(String, Mmap)>,
    tensors: BTreeMap<String, Location>,
    used: BTreeSet<String>,
}

#[derive(Debug, Clone)]
struct Location {
    file: usize,
    start: usize,
    end: usize,
    dtype: Dtype,
    shape: Vec<usize>,
}

/// A matrix [out, inputs] in one of the files.
#[derive(Debug, Clone)]
pub struct Stored {
    pub name: String,
    pub out: usize,
    pub inputs: usize,
    location: Location,
}

impl Weights {
    /// Maps the safetensors files among `parts`, an adapter's not among them; the other parts are left alone.
    ///
    /// # Errors
    /// When there is none, a file cannot be mapped, is cut short or damaged, two files hold one tensor, or a
    /// tensor has a dtype other than f32, f16 and bf16.
    pub fn open(parts: &[Part]) -> Result<Weights> {
        let mut weights = Weights { files: Vec::new(), tensors: BTreeMap::new(), used: BTreeSet::new() };
        for part in parts {
            let name = file_name(part);
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
                dtype: view.dtype(),
                shape: view.shape().to_vec(),
            };
            if let Some(other) = self.tensors.insert(tensor.to_string(), location) {
                bail!("the tensor \"{tensor}\" is in {} and in {name}", self.files[other.file].0);
            }
        }
        self.files.push((name.to_string(), map));
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

    pub fn has(&self, name: &str) -> bool {
        self.tensors.contains_key(name)
    }

    /// The matrix of this name.
    ///
    /// # Errors
    /// When there is no such tensor, or it has another shape or a dtype that is not computed with.
    pub fn take_matrix(&mut self, name: &str, out: usize, inputs: usize) -> Result<Stored> {
        let location = self.take(name, &[out, inputs])?;
        Ok(Stored { name: name.to_string(), out, inputs, location })
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
        if !matches!(location.dtype, Dtype::F32 | Dtype::F16 | Dtype::BF16) {
            bail!("the tensor \"{name}\" in {file} is {:?}; supported are F32, F16 and BF16", location.dtype);
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
            if head.dtype != embedding.location.dtype || self.bytes(head) != self.bytes(&embedding.location) {
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
        match location.dtype {
            Dtype::F16 => Values::F16(bytes),
            Dtype::BF16 => Values::Bf16(bytes),
            _ => Values::f32(bytes),
        }
    }
}

/// The name a part has in its model directory.
pub fn file_name(part: &Part) -> String {
    match part.name.as_str() {
        "" => part.path.file_name().unwrap_or_default().to_string_lossy().into_owned(),
        name => name.to_string(),
    }
}
