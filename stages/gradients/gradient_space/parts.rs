//! The parts of `gradient_factors`, sorted by module and read one module at a time.

use anyhow::{Context, Result, bail};
use arrow::array::{Array, StringArray};

use super::gram::Gradient;
use crate::contract::node::Part;
use crate::contract::stage::Task;
use crate::gradients::factors::FactorKind;
use crate::table;

/// A weight matrix and the parts that hold its gradients, in the order of datasets and their parts.
pub struct Module {
    pub name: String,
    parts: Vec<OfModule>,
}

struct OfModule {
    dataset: usize,
    kind: FactorKind,
    part: Part,
    bytes: u64,
}

/// A module's gradients in memory.
pub struct Loaded {
    /// Dataset and example.
    pub examples: Vec<(usize, String)>,
    pub inputs: usize,
    pub out: usize,
    /// One for each example.
    pub gradients: Vec<Owned>,
}

pub enum Owned {
    Whole(Vec<f32>),
    Factors { x: Vec<f32>, d: Vec<f32> },
}

impl Owned {
    pub fn view(&self) -> Gradient<'_> {
        match self {
            Owned::Whole(values) => Gradient::Whole(values),
            Owned::Factors { x, d } => Gradient::Factors { x, d },
        }
    }
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
            let batch = table::read(std::slice::from_ref(part), &["module", "kind"])?;
            if batch.num_rows() == 0 {
                continue;
            }
            let name = table::values::<StringArray>(&batch, "module")?.value(0);
            let kind = FactorKind::parse(table::values::<StringArray>(&batch, "kind")?.value(0))?;
            let bytes = std::fs::metadata(&part.path).with_context(|| format!("{}", part.path.display()))?.len();
            let of = OfModule { dataset, kind, part: part.clone(), bytes };
            match modules.iter_mut().find(|module| module.name == name) {
                Some(module) => module.parts.push(of),
                None => modules.push(Module { name: name.to_string(), parts: vec![of] }),
            }
        }
        dataset += 1;
    }
    Ok(modules)
}

/// Bytes in memory for the gradients of n examples, of so many entries each, that take so many bytes in their files:
/// these, a slice of the gradients as they are made, and three matrices of their products.
pub fn memory(bytes: f64, entries: f64, n: f64) -> f64 {
    bytes + 4.0 * (super::gram::SLICE as f64).min(n * entries) + 3.0 * 8.0 * n * n
}

impl Module {
    /// # Errors
    /// When the module's gradients would not fit into the memory that is free.
    pub fn check_memory(&self) -> Result<()> {
        // A part is held twice while it is sorted by example; a slice of the gradients comes on top.
        let bytes = self.parts.iter().map(|of| of.bytes).sum::<u64>();
        let largest = self.parts.iter().map(|of| of.bytes).max().unwrap_or(0);
        let needed = bytes + 2 * largest + (1 << 28);
        match available_memory() {
            Some(available) if needed > available => bail!(
                "comparing the gradients of {} exactly takes {} of memory, and {} are free: ask for fewer examples \
                 (`limit` of a dataset) or compare the projections in the table gradients",
                self.name,
                gibibytes(needed),
                gibibytes(available)
            ),
            _ => Ok(()),
        }
    }

    /// Reads all of the module's gradients.
    ///
    /// # Errors
    /// When a part cannot be read, or inputs and output gradients do not belong together.
    pub fn load(&self) -> Result<Loaded> {
        let mut loaded = Loaded { examples: Vec::new(), inputs: 0, out: 0, gradients: Vec::new() };
        let mut parts = self.parts.iter();
        while let Some(first) = parts.next() {
            let (rows, inputs) = read(&first.part)?;
            let out;
            match first.kind {
                FactorKind::Gradient => {
                    out = rows.first().map_or(0, |(_, values)| values.len() / inputs);
                    for (example, values) in rows {
                        loaded.examples.push((first.dataset, example));
                        loaded.gradients.push(Owned::Whole(values));
                    }
                }
                FactorKind::Input => {
                    let Some(second) = parts.next().filter(|next| next.kind == FactorKind::OutputGradient) else {
                        bail!("the inputs of {} are not followed by their output gradients", self.name);
                    };
                    let (output_gradients, width) = read(&second.part)?;
                    out = width;
                    for ((example, x), (other, d)) in rows.into_iter().zip(output_gradients) {
                        if example != other || x.len() / inputs != d.len() / out {
                            bail!("the inputs of {} are of example {example}, their gradients of {other}", self.name);
                        }
                        loaded.examples.push((first.dataset, example));
                        loaded.gradients.push(Owned::Factors { x, d });
                    }
                }
                FactorKind::OutputGradient => bail!("output gradients of {} come before their inputs", self.name),
            }
            if loaded.out == 0 {
                (loaded.inputs, loaded.out) = (inputs, out);
            }
            if (loaded.inputs, loaded.out) != (inputs, out) {
                let Loaded { inputs: i, out: o, .. } = loaded;
                bail!("the gradients of {} are {o} x {i} in one part and {out} x {inputs} in another", self.name);
            }
        }
        Ok(loaded)
    }
}

/// A part's vectors by example, in order, and their length.
fn read(part: &Part) -> Result<(Vec<(String, Vec<f32>)>, usize)> {
    let batch = table::read(std::slice::from_ref(part), &["example", "vector"])?;
    let examples: &StringArray = table::values(&batch, "example")?;
    let (vectors, width) = table::vectors(&batch, "vector")?;
    let mut found: Vec<(String, Vec<f32>)> = Vec::new();
    let mut start = 0;
    while start < examples.len() {
        let example = examples.value(start);
        let end = (start..examples.len()).find(|row| examples.value(*row) != example).unwrap_or(examples.len());
        found.push((example.to_string(), vectors[start * width..end * width].to_vec()));
        start = end;
    }
    Ok((found, width))
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
