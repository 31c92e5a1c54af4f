//! An open GGUF file: its metadata, and its tensors as a checkpoint calls them.

use std::collections::HashMap;
use std::io::Cursor;
use std::path::Path;

use anyhow::{Context, Result, bail};
use candle_core::quantized::GgmlDType;
use candle_core::quantized::gguf_file::{Content, Value};
use memmap2::Mmap;

use super::names;
use crate::contract::file;

/// An open file.
pub struct Gguf {
    pub map: Mmap,
    content: Content,
}

/// A tensor as a checkpoint has it.
#[derive(Debug)]
pub struct Tensor {
    pub name: String,
    pub shape: Vec<usize>,
    pub dtype: GgmlDType,
    /// Its bytes in the file.
    pub start: usize,
    pub end: usize,
    pub change: Change,
}

/// In what a tensor of the file differs from the checkpoint's beside its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    None,
    /// The two halves of each of so many heads lie alternately, row by row: llama.cpp rotates neighbours.
    Interleaved {
        heads: usize,
    },
    /// 1 was added: the family's norms are stored by their distance from it.
    PlusOne,
}

impl Gguf {
    /// # Errors
    /// When the file cannot be mapped, is cut short or no GGUF file, or is one of several that hold one model.
    pub fn open(path: &Path) -> Result<Gguf> {
        let file = file::open(path).with_context(|| format!("reading {}", path.display()))?;
        // SAFETY: model files are not written to while a run reads them; the engine checks that they did not change.
        let map = unsafe { Mmap::map(&file) }.with_context(|| format!("reading {}", path.display()))?;
        let content = Content::read(&mut Cursor::new(&map[..])).map_err(|error| {
            // candle adds a backtrace to what it prints in full.
            let reason = error.to_string();
            let reason = reason.lines().next().unwrap_or_default();
            anyhow::anyhow!("{} is cut short, damaged or no GGUF file ({} bytes): {reason}", path.display(), map.len())
        })?;
        let gguf = Gguf { map, content };
        if let Some(count) = gguf.number("split.count").filter(|count| *count > 1.0) {
            bail!(
                "{} is one of {count} files that hold a model; `llama-gguf-split --merge FIRST OUT` makes one of them",
                path.display()
            );
        }
        Ok(gguf)
    }

    fn metadata(&self) -> &HashMap<String, Value> {
        &self.content.metadata
    }

    pub fn text(&self, key: &str) -> Option<&str> {
        text(self.metadata().get(key)?)
    }

    pub fn flag(&self, key: &str) -> Option<bool> {
        match self.metadata().get(key)? {
            Value::Bool(flag) => Some(*flag),
            _ => None,
        }
    }

    pub fn number(&self, key: &str) -> Option<f64> {
        number(self.metadata().get(key)?)
    }

    pub fn list(&self, key: &str) -> Option<&[Value]> {
        match self.metadata().get(key)? {
            Value::Array(values) => Some(values),
            _ => None,
        }
    }

    pub fn texts(&self, key: &str) -> Option<Vec<&str>> {
        self.list(key)?.iter().map(text).collect()
    }

    pub fn architecture(&self) -> Result<&str> {
        self.text("general.architecture").context("the GGUF file has no \"general.architecture\"")
    }

    /// A tensor's rows and columns by its name in the file.
    pub fn shape(&self, name: &str) -> Option<&[usize]> {
        Some(self.content.tensor_infos.get(name)?.shape.dims())
    }

    /// The values of a vector of f32 by its name in the file.
    pub fn vector(&self, name: &str) -> Result<Option<Vec<f32>>> {
        let Some(info) = self.content.tensor_infos.get(name) else { return Ok(None) };
        if info.ggml_dtype != GgmlDType::F32 {
            bail!("the tensor \"{name}\" is {:?}, expected F32", info.ggml_dtype);
        }
        let (start, end) = self.range(name)?;
        Ok(Some(self.map[start..end].as_chunks::<4>().0.iter().map(|word| f32::from_le_bytes(*word)).collect()))
    }

    fn range(&self, name: &str) -> Result<(usize, usize)> {
        let info = &self.content.tensor_infos[name];
        let dtype = info.ggml_dtype;
        let count = info.shape.dims().iter().try_fold(1_usize, |count, size| count.checked_mul(*size));
        let place = || {
            let count = count?;
            let bytes = (count / dtype.block_size()).checked_mul(dtype.type_size())?;
            let start = usize::try_from(self.content.tensor_data_offset.checked_add(info.offset)?).ok()?;
            let end = start.checked_add(bytes)?;
            (end <= self.map.len() && count % dtype.block_size() == 0).then_some((start, end))
        };
        place().with_context(|| {
            format!("the tensor \"{name}\" goes beyond the end of the file ({} bytes): it is cut short", self.map.len())
        })
    }

    /// Every tensor that is computed with, named as in a checkpoint.
    ///
    /// # Errors
    /// When a tensor has no name in the architecture or lies outside the file.
    pub fn tensors(&self) -> Result<Vec<Tensor>> {
        let architecture = self.architecture()?;
        let mut tensors = Vec::new();
        for (name, info) in &self.content.tensor_infos {
            let (start, end) = self.range(name)?;
            if names::IN_CONFIG.contains(&name.as_str()) {
                continue;
            }
            let Some(own) = names::in_checkpoint(architecture, name) else {
                bail!("the tensor \"{name}\" is not used by the architecture \"{architecture}\"");
            };
            let heads = |key: &str| {
                let key = format!("{architecture}.attention.{key}");
                self.number(&key).with_context(|| format!("the GGUF file has no \"{key}\""))
            };
            let change = match names::change(architecture, &own) {
                names::Kind::Queries => Change::Interleaved { heads: heads("head_count")? as usize },
                names::Kind::Keys => {
                    Change::Interleaved { heads: heads("head_count_kv").or_else(|_| heads("head_count"))? as usize }
                }
                names::Kind::Norm => Change::PlusOne,
                names::Kind::Other => Change::None,
            };
            tensors.push(Tensor {
                name: own,
                shape: info.shape.dims().to_vec(),
                dtype: info.ggml_dtype,
                start,
                end,
                change,
            });
        }
        // A header's order is not kept by candle.
        tensors.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(tensors)
    }
}

fn text(value: &Value) -> Option<&str> {
    match value {
        Value::String(text) => Some(text),
        _ => None,
    }
}

pub fn number(value: &Value) -> Option<f64> {
    Some(match value {
        Value::U8(number) => f64::from(*number),
        Value::I8(number) => f64::from(*number),
        Value::U16(number) => f64::from(*number),
        Value::I16(number) => f64::from(*number),
        Value::U32(number) => f64::from(*number),
        Value::I32(number) => f64::from(*number),
        Value::U64(number) => *number as f64,
        Value::I64(number) => *number as f64,
        // The decimal that was rounded to f32, as in a config.json.
        Value::F32(number) => number.to_string().parse().ok()?,
        Value::F64(number) => *number,
        _ => return None,
    })
}
