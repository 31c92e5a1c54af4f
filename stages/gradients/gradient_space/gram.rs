//! Inner products of gradients that are given as factors, exactly, without all of the gradients at once.
//!
//! ⟨G_i, G_j⟩ = Σ_{s,t} (d_s · d_t)(x_s · x_t) needs no gradient at all, but for examples of T tokens it costs T² (out +
//! inputs) where the product of two gradients costs out × inputs: 35 times as much for T = 300 and 5,120 × 5,120. So the gradients
//! are made a slab at a time, for all examples, and the products of these slabs are summed. Each slab is made once; of the factors
//! only what a few slabs need is in memory.

use std::ops::Range;
use std::sync::mpsc::sync_channel;

use anyhow::{Context, Result};
use gemmkit::{MatMut, MatRef, Parallelism, gemm, gemm_packed_b, prepack_rhs};
use rayon::prelude::*;

use super::slabs::Slabs;
use super::stored::{Form, Stored};
use crate::model::ops::fix_summation_order;

/// Examples of a tile, whose products with others are computed together. These few are laid out anew for a product and the others read
/// where they are: 64 x 4,096 x 350 takes three quarters of the time that it takes the other way round.
const STRIP: usize = 64;

/// The others of a tile.
const OTHERS: usize = 1024;

/// Values of each gradient summed in f32 before their sum goes into f64.
const COLUMNS: usize = 4096;

/// Products that are computed side by side, at least.
const TASKS: usize = 32;

/// Numbers of a cache line.
const LINE: usize = 16;

/// The Gram matrix [n, n] of n gradients, with at most so many bytes of their inputs in memory. `step` hears how much is
/// done, from 0 to 1, and answers whether to go on; `None` where it said no.
///
/// # Errors
/// When scratch cannot be read.
pub fn gram(stored: &Stored, bytes: u64, mut step: impl FnMut(f64) -> bool) -> Result<Option<Vec<f64>>> {
    fix_summation_order();
    let n = stored.forms.len();
    let mut tiles = Tile::all(n);
    let Slabs { columns, rows } = &stored.slabs;
    let passes = Pass::all(stored, bytes);
    let (mut done, slabs) = (0, (columns.len() * rows.len()) as f64);
    let finished = std::thread::scope(|scope| {
        // The next output gradients are read while products run.
        let (send, receive) = sync_channel(0);
        let reads = &passes;
        scope.spawn(move || {
            for Pass { groups, .. } in reads {
                for (rows, group) in rows.iter().flat_map(|rows| groups.iter().map(move |group| (rows, group))) {
                    let read = stored.output_gradients(stored.tokens(group.clone()), rows);
                    if send.send(read).is_err() {
                        return;
                    }
                }
            }
        });
        let mut slab = Slab::default();
        for Pass { columns, groups } in &passes {
            let mut held = Vec::new();
            for rows in rows {
                let mut d = None;
                for (place, columns) in columns.iter().enumerate() {
                    if !step(f64::from(done) / slabs) {
                        return anyhow::Ok(false);
                    }
                    done += 1;
                    slab.resize(n, columns, rows);
                    for group in groups {
                        let tokens = stored.tokens(group.clone());
                        if groups.len() > 1 {
                            // What was held goes before its successor comes.
                            (held, d) = (Vec::new(), None);
                        }
                        if held.len() <= place {
                            held.push(stored.inputs(tokens.clone(), columns)?);
                        }
                        let d = match &d {
                            Some(d) => d,
                            None => d.insert(receive.recv().context("the output gradients ended early")??),
                        };
                        slab.make(stored, group.clone(), &held[place], d)?;
                    }
                    add_products(&mut tiles, &slab);
                }
            }
        }
        Ok(true)
    })?;
    Ok(finished.then(|| Tile::matrix(tiles, n)))
}

/// Slabs of columns whose inputs are held together, at all tokens; or one such slab whose inputs come in groups of examples.
struct Pass<'a> {
    columns: &'a [Range<usize>],
    groups: Vec<Range<usize>>,
}

impl Pass<'_> {
    fn all(stored: &Stored, bytes: u64) -> Vec<Pass<'_>> {
        let all = 0..stored.forms.len();
        let pass = |columns: &[Range<usize>]| match columns {
            [one] => stored.groups(one.len(), bytes),
            _ => vec![all.clone()],
        };
        let blocks = stored.blocks(bytes).into_iter().map(|block| &stored.slabs.columns[block]);
        blocks.map(|columns| Pass { columns, groups: pass(columns) }).collect()
    }
}

/// The same columns and rows of all gradients.
#[derive(Default)]
struct Slab {
    columns: Range<usize>,
    rows: Range<usize>,
    /// [examples, stride], of which the first numbers are rows and columns.
    values: Vec<f32>,
    stride: usize,
}

impl Slab {
    fn resize(&mut self, n: usize, columns: &Range<usize>, rows: &Range<usize>) {
        (self.columns, self.rows) = (columns.clone(), rows.clone());
        // An odd number of cache lines: rows at a power of two from each other would share their places in the cache.
        self.stride = (self.size().div_ceil(LINE) | 1) * LINE;
        self.values.resize(n * self.stride, 0.0);
    }

    fn size(&self) -> usize {
        self.columns.len() * self.rows.len()
    }

    /// Makes the gradients of these examples from inputs [_, columns] and output gradients [_, rows] at their tokens.
    fn make(&mut self, stored: &Stored, examples: Range<usize>, x: &[f32], d: &[f32]) -> Result<()> {
        let (size, inputs, out) = (self.size(), self.columns.len(), self.rows.len());
        let first = stored.tokens(examples.clone()).start;
        let values = &mut self.values[examples.start * self.stride..examples.end * self.stride];
        values.par_chunks_mut(self.stride).zip(&stored.forms[examples]).try_for_each(|(values, form)| {
            let values = &mut values[..size];
            match form {
                Form::Whole(index) => stored.whole(*index, &self.columns, &self.rows, values)?,
                Form::Factors(of) => {
                    let of = of.start - first..of.end - first;
                    make(&x[of.start * inputs..of.end * inputs], &d[of.start * out..of.end * out], inputs, out, values);
                }
            }
            Ok(())
        })
    }
}

/// dᵀ x [out, inputs], by way of its transpose. The output gradients are laid out anew first: each is used for all inputs, and read
/// where it is, one token's is far from the next one's.
fn make(x: &[f32], d: &[f32], inputs: usize, out: usize, values: &mut [f32]) {
    let tokens = x.len() / inputs;
    let d = prepack_rhs(MatRef::from_row_major(d, tokens, out));
    gemm_packed_b(
        1.0,
        MatRef::new(x, inputs, tokens, 1, inputs as isize),
        &d,
        0.0,
        MatMut::new(values, inputs, out, 1, inputs as isize),
        Parallelism::Serial,
    );
}

/// Adds a slab's products to those of all tiles. All tiles go over some numbers of it before the next ones, since the slab as a whole is
/// more than a cache holds.
fn add_products(tiles: &mut [Tile], slab: &Slab) {
    let size = slab.size();
    let starts: Vec<usize> = (0..size).step_by(COLUMNS).collect();
    // Few tiles are too few to share evenly among threads.
    for starts in starts.chunks(TASKS.div_ceil(tiles.len().max(1))) {
        let tasks: Vec<(usize, &Tile)> =
            starts.iter().flat_map(|start| tiles.iter().map(move |tile| (*start, tile))).collect();
        let products: Vec<Vec<f32>> = tasks
            .into_par_iter()
            .with_max_len(1)
            .map(|(start, tile)| tile.products(slab, start..size.min(start + COLUMNS)))
            .collect();
        let step = tiles.len();
        tiles.par_iter_mut().enumerate().for_each(|(index, tile)| {
            for products in products.iter().skip(index).step_by(step) {
                tile.sums.iter_mut().zip(products).for_each(|(sum, product)| *sum += f64::from(*product));
            }
        });
    }
}

/// The products of some examples with some that are not before them.
struct Tile {
    strip: Range<usize>,
    others: Range<usize>,
    /// [others, strip]
    sums: Vec<f64>,
}

impl Tile {
    fn all(n: usize) -> Vec<Tile> {
        let mut tiles = Vec::new();
        for strip in (0..n).step_by(STRIP).map(|start| start..n.min(start + STRIP)) {
            let starts = (strip.start..n).step_by(OTHERS);
            tiles.extend(starts.map(|start| start..n.min(start + OTHERS)).map(|others| Tile {
                sums: vec![0.0; strip.len() * others.len()],
                strip: strip.clone(),
                others,
            }));
        }
        tiles
    }

    /// B Aᵀ of the strip's gradients A and the others' B [others, strip], of these numbers of a slab.
    fn products(&self, slab: &Slab, numbers: Range<usize>) -> Vec<f32> {
        let (strip, others) = (self.strip.len(), self.others.len());
        let of = |example: usize| &slab.values[example * slab.stride + numbers.start..];
        let stride = slab.stride as isize;
        let mut products = vec![0f32; others * strip];
        gemm(
            1.0,
            MatRef::new(of(self.others.start), others, numbers.len(), stride, 1),
            MatRef::new(of(self.strip.start), numbers.len(), strip, 1, stride),
            0.0,
            MatMut::from_row_major(&mut products, others, strip),
            Parallelism::Serial,
        );
        products
    }

    /// The symmetric matrix [n, n] of all tiles.
    fn matrix(tiles: Vec<Tile>, n: usize) -> Vec<f64> {
        let mut matrix = vec![0.0; n * n];
        for Tile { strip, others, sums } in tiles {
            for (j, sums) in others.zip(sums.chunks_exact(strip.len())) {
                strip.clone().zip(sums).filter(|(i, _)| *i <= j).for_each(|(i, sum)| matrix[i * n + j] = *sum);
            }
        }
        for i in 0..n {
            for j in 0..i {
                matrix[i * n + j] = matrix[j * n + i];
            }
        }
        matrix
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_pair_has_its_place() {
        for n in [0, 1, 64, 65, OTHERS + STRIP + 7] {
            let mut tiles = Tile::all(n);
            for Tile { strip, others, sums } in &mut tiles {
                let pairs = others.clone().flat_map(|j| strip.clone().map(move |i| (i, j)));
                assert_eq!(sums.len(), pairs.clone().count());
                sums.iter_mut().zip(pairs).for_each(|(sum, (i, j))| *sum = (i.min(j) * n + i.max(j)) as f64);
            }
            let matrix = Tile::matrix(tiles, n);
            let expected = (0..n * n).map(|at| ((at / n).min(at % n) * n + (at / n).max(at % n)) as f64);
            assert!(matrix.into_iter().eq(expected), "{n} examples");
        }
    }
}
