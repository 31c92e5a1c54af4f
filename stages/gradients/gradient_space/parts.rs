//! The parts of `gradient_factors`, sorted by module and read a few rows at a time.

use std::path::Path;

use anyhow::{Result, bail};
use arrow::array::StringArray;

use super::slabs::{self, Slabs};
use super::stored::{Form, Stored};
use crate::contract::node::Part;
use crate::contract::stage::Task;
use crate::gradients::factors::FactorKind;
use crate::table;

/// Numbers of a part that are read at a time.
const READ: usize = 1 << 22;

/// Memory that holding inputs is worth beginning with.
const LEAST: u64 = 64 << 20;

/// A weight matrix and the parts that hold its gradients, in the order of datasets and their parts.
pub struct Module {
    pub name: String,
    parts: Vec<OfModule>,
}

struct OfModule {
    dataset: usize,
    kind: FactorKind,
    part: Part,
}

/// A module's gradients, ready for their products.
pub struct Loaded {
    /// Dataset and example.
    pub examples: Vec<(usize, String)>,
    pub stored: Stored,
    /// Memory in bytes for what of them is held at once.
    pub bytes: u64,
}

/// What a part holds: the examples with the number of rows of each, and the length of its vectors.
struct Outline {
    examples: Vec<(String, usize)>,
    width: usize,
}

/// The gradients of a part, or of two that belong together.
struct Piece<'a> {
    first: &'a Part,
    /// The output gradients, where `first` has the inputs.
    second: Option<&'a Part>,
}

/// Every module that the inputs `factors/0`, `factors/1`, … hold, in the order of the first part that names it.
///
/// # Errors
/// When a part cannot be read or holds an unknown kind.
pub fn modules(task: &Task) -> Result<Vec<Module>> {
    let mut modules: Vec<Module> = Vec::new();
    let mut dataset = 0;
    while let Some(parts) = task.inputs.get(&format!("factors/{dataset}")) {
        for part in parts {
            let Some(first) = table::batches(&part.path, &["module", "kind"], 1)?.next() else { continue };
            let first = first?;
            let name = table::values::<StringArray>(&first, "module")?.value(0);
            let kind = FactorKind::parse(table::values::<StringArray>(&first, "kind")?.value(0))?;
            let of = OfModule { dataset, kind, part: part.clone() };
            match modules.iter_mut().find(|module| module.name == name) {
                Some(module) => module.parts.push(of),
                None => modules.push(Module { name: name.to_string(), parts: vec![of] }),
            }
        }
        dataset += 1;
    }
    Ok(modules)
}

impl Module {
    /// Reads all of the module's gradients; what is beyond the memory that is held goes to scratch.
    ///
    /// # Errors
    /// When a part cannot be read, or inputs and output gradients do not belong together; when not even the products would
    /// fit into the memory that is free, or scratch cannot be written.
    pub fn load(&self) -> Result<Loaded> {
        self.load_as(|beside, gradients| self.memory(beside, gradients), Slabs::new)
    }

    /// As [`Module::load`], with the memory that `allowed` says for gradients of so many bytes, where so many are needed beside
    /// them, and cut by `slabs`.
    pub fn load_as(
        &self,
        allowed: impl Fn(f64, f64) -> Result<u64>,
        slabs: fn(usize, usize, usize, usize) -> Slabs,
    ) -> Result<Loaded> {
        let (mut examples, mut forms, mut pieces) = (Vec::new(), Vec::new(), Vec::new());
        let (mut inputs, mut out, mut tokens, mut wholes) = (0, 0, 0, 0);
        let mut parts = self.parts.iter();
        while let Some(first) = parts.next() {
            let outline = outline(&first.part)?;
            let of_part: (usize, usize);
            match first.kind {
                FactorKind::Gradient => {
                    of_part = (outline.width, outline.examples.first().map_or(0, |(_, rows)| *rows));
                    for (example, rows) in &outline.examples {
                        if *rows != of_part.1 {
                            bail!(
                                "the gradient of {} has {rows} rows for {example}, {} for others",
                                self.name,
                                of_part.1
                            );
                        }
                        forms.push(Form::Whole(wholes));
                        wholes += 1;
                    }
                    pieces.push(Piece { first: &first.part, second: None });
                }
                FactorKind::Input => {
                    let Some(second) = parts.next().filter(|next| next.kind == FactorKind::OutputGradient) else {
                        bail!("the inputs of {} are not followed by their output gradients", self.name);
                    };
                    let others = self::outline(&second.part)?;
                    of_part = (outline.width, others.width);
                    let alike = outline.examples.iter().zip(&others.examples).find(|(one, other)| one != other);
                    if let Some(((example, _), (other, _))) = alike {
                        bail!("the inputs of {} are of example {example}, their gradients of {other}", self.name);
                    }
                    if outline.examples.len() != others.examples.len() {
                        let (one, other) = (outline.examples.len(), others.examples.len());
                        bail!("the inputs of {} are of {one} examples, their gradients of {other}", self.name);
                    }
                    for (_, rows) in &outline.examples {
                        forms.push(Form::Factors(tokens..tokens + rows));
                        tokens += rows;
                    }
                    pieces.push(Piece { first: &first.part, second: Some(&second.part) });
                }
                FactorKind::OutputGradient => bail!("output gradients of {} come before their inputs", self.name),
            }
            examples.extend(outline.examples.into_iter().map(|(example, _)| (first.dataset, example)));
            if out == 0 {
                (inputs, out) = of_part;
            }
            if (inputs, out) != of_part {
                let (i, o) = of_part;
                bail!("the gradients of {} are {out} x {inputs} in one part and {o} x {i} in another", self.name);
            }
        }
        let gradients = 4.0 * (tokens as f64 * (inputs + out) as f64 + wholes as f64 * (inputs * out) as f64);
        let beside = slabs::memory(gradients, (inputs * out) as f64, forms.len() as f64)
            - gradients.min(4.0 * slabs::HELD as f64);
        let bytes = allowed(beside, gradients)?;
        let slabs = slabs(forms.len(), tokens, inputs, out);
        let mut stored = Stored::new(forms, slabs, inputs, out, bytes)?;
        let (mut token, mut whole) = (0, 0);
        for Piece { first, second } in pieces {
            match second {
                None => whole = put_whole(first, &mut stored, whole, out)?,
                Some(second) => {
                    let start = token;
                    each(first, |values, rows| {
                        stored.put_inputs(token, values)?;
                        token += rows;
                        Ok(())
                    })?;
                    let mut at = start;
                    each(second, |values, rows| {
                        stored.put_output_gradients(at, values)?;
                        at += rows;
                        Ok(())
                    })?;
                }
            }
        }
        Ok(Loaded { examples, stored, bytes })
    }

    /// The memory for gradients of so many bytes where so many are needed beside them.
    fn memory(&self, beside: f64, gradients: f64) -> Result<u64> {
        let most = gradients.min(4.0 * slabs::HELD as f64) as u64;
        let Some(available) = available_memory() else { return Ok(most) };
        match available.saturating_sub(beside as u64) {
            free if free < LEAST.min(most) => bail!(
                "comparing the gradients of {} exactly takes {} of memory, and {} are free: ask for fewer examples \
                 (`limit` of a dataset) or compare the projections in the table gradients",
                self.name,
                gibibytes(beside as u64 + LEAST.min(most)),
                gibibytes(available)
            ),
            free => Ok(most.min(free)),
        }
    }
}

/// Puts a part of gradients that are kept themselves where they belong, from the one of this index on; returns the next index.
fn put_whole(part: &Part, stored: &mut Stored, first: usize, out: usize) -> Result<usize> {
    let mut row = first * out;
    each(part, |values, rows| {
        let width = values.len() / rows.max(1);
        let mut start = 0;
        while start < rows {
            let count = (out - row % out).min(rows - start);
            stored.put_rows(row / out, row % out, &values[start * width..(start + count) * width])?;
            (row, start) = (row + count, start + count);
        }
        Ok(())
    })?;
    Ok(row / out)
}

/// Calls `with(vectors, how many)` for some of a part's rows at a time.
fn each(part: &Part, mut with: impl FnMut(&[f32], usize) -> Result<()>) -> Result<()> {
    let width = width(&part.path)?;
    for batch in table::batches(&part.path, &["vector"], (READ / width.max(1)).max(1))? {
        let batch = batch?;
        let (values, found) = table::vectors(&batch, "vector")?;
        if found != width {
            bail!("{} has vectors of {width} numbers and of {found}", part.path.display());
        }
        with(values, batch.num_rows())?;
    }
    Ok(())
}

fn outline(part: &Part) -> Result<Outline> {
    let batch = table::read(std::slice::from_ref(part), &["example"])?;
    let mut examples: Vec<(String, usize)> = Vec::new();
    for example in table::values::<StringArray>(&batch, "example")?.iter().map(Option::unwrap_or_default) {
        match examples.last_mut() {
            Some((last, rows)) if last == example => *rows += 1,
            _ => examples.push((example.to_string(), 1)),
        }
    }
    Ok(Outline { examples, width: width(&part.path)? })
}

/// The length of a part's vectors.
fn width(path: &Path) -> Result<usize> {
    match table::batches(path, &["vector"], 1)?.next() {
        Some(first) => Ok(table::vectors(&first?, "vector")?.1),
        None => Ok(0),
    }
}

/// What the system says could be used without swapping; unknown outside Linux.
fn available_memory() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    Some(line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? * 1024)
}

fn gibibytes(bytes: u64) -> String {
    format!("{:.1} GiB", bytes as f64 / (1u64 << 30) as f64)
}
