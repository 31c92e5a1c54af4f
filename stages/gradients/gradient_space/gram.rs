//! Inner products of gradients that are given as factors, exactly, without all of the gradients at once.
//!
//! ⟨G_i, G_j⟩ = Σ_{s,t} (d_s · d_t)(x_s · x_t) needs no gradient at all, but for examples of T tokens it costs T² (out +
//! inputs) where the product of two gradients costs out × inputs: 35 times as much for T = 300 and 5,120 × 5,120. So the gradients
//! are made a slab at a time, for all examples, and the products of these slabs are summed. Each slab is made once; of the factors
//! only what a slab needs is in memory.

use std::sync::mpsc::sync_channel;

use anyhow::{Context, Result};
use gemmkit::{MatMut, MatRef, Parallelism, gemm};
use rayon::prelude::*;

use super::slabs::Slabs;
use super::stored::{Form, Stored};
use crate::model::ops::fix_summation_order;

/// Examples whose products with as many others a thread computes at a time.
const TILE: usize = 256;

/// Examples whose products with those of their own tile a thread computes at a time: of these half are wanted.
const STRIP: usize = 64;

/// Values of each gradient summed in f32 before their sum goes into f64.
const COLUMNS: usize = 4096;

/// Sums of so many values that may be computed at once before they go into f64, in order.
const AT_ONCE: usize = 8;

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
    let slabs = (columns.len() * rows.len()) as f64;
    let finished = std::thread::scope(|scope| {
        // The next output gradients are read while products run.
        let (send, receive) = sync_channel(0);
        scope.spawn(move || {
            for columns in columns {
                let groups = stored.groups(columns.len(), bytes);
                for (rows, group) in rows.iter().flat_map(|rows| groups.iter().map(move |group| (rows, group))) {
                    let read = stored.output_gradients(stored.tokens(group.clone()), rows);
                    if send.send(read).is_err() {
                        return;
                    }
                }
            }
        });
        let mut slice = Vec::new();
        for (block, columns) in columns.iter().enumerate() {
            let groups = stored.groups(columns.len(), bytes);
            let mut x = None;
            for (slab, rows) in rows.iter().enumerate() {
                if !step((block * stored.slabs.rows.len() + slab) as f64 / slabs) {
                    return anyhow::Ok(false);
                }
                let size = rows.len() * columns.len();
                slice.resize(n * size, 0.0);
                for group in &groups {
                    let tokens = stored.tokens(group.clone());
                    if groups.len() > 1 {
                        // What was held goes before its successor comes.
                        x = None;
                    }
                    let x = match &mut x {
                        Some(x) => x,
                        none => none.insert(stored.inputs(tokens.clone(), columns)?),
                    };
                    let d = receive.recv().context("the output gradients ended early")??;
                    let values = &mut slice[group.start * size..group.end * size];
                    let forms = &stored.forms[group.clone()];
                    values.par_chunks_mut(size).zip(forms).try_for_each(|(values, form)| {
                        let (inputs, out) = (columns.len(), rows.len());
                        match form {
                            Form::Whole(index) => stored.whole(*index, columns, rows, values)?,
                            Form::Factors(of) => {
                                let of = of.start - tokens.start..of.end - tokens.start;
                                let x = &x[of.start * inputs..of.end * inputs];
                                make(x, &d[of.start * out..of.end * out], inputs, out, values);
                            }
                        }
                        anyhow::Ok(())
                    })?;
                }
                tiles.par_iter_mut().for_each(|tile| tile.add_products(&slice, size));
            }
        }
        Ok(true)
    })?;
    Ok(finished.then(|| Tile::matrix(tiles, n)))
}

/// dᵀ x [out, inputs].
fn make(x: &[f32], d: &[f32], inputs: usize, out: usize, values: &mut [f32]) {
    let tokens = x.len() / inputs;
    gemm(
        1.0,
        MatRef::new(d, out, tokens, 1, out as isize),
        MatRef::from_row_major(x, tokens, inputs),
        0.0,
        MatMut::from_row_major(values, out, inputs),
        Parallelism::Serial,
    );
}

/// The products of some examples with some that are not before them.
struct Tile {
    first: usize,
    rows: usize,
    second: usize,
    columns: usize,
    /// [rows, columns]
    sums: Vec<f64>,
}

impl Tile {
    fn all(n: usize) -> Vec<Tile> {
        let tile = |first: usize, rows: usize, second: usize, columns: usize| Tile {
            first,
            rows,
            second,
            columns,
            sums: vec![0.0; rows * columns],
        };
        let mut tiles = Vec::new();
        for start in (0..n).step_by(TILE) {
            let end = n.min(start + TILE);
            let strips = (start..end).step_by(STRIP);
            tiles.extend(strips.map(|first| tile(first, STRIP.min(end - first), first, end - first)));
            let others = (end..n).step_by(TILE);
            tiles.extend(others.map(|second| tile(start, end - start, second, TILE.min(n - second))));
        }
        tiles
    }

    /// sums += A Bᵀ, of this tile's rows A and B of the row-major values [n, width].
    fn add_products(&mut self, values: &[f32], width: usize) {
        let &mut Tile { first, rows, second, columns, .. } = self;
        let starts: Vec<usize> = (0..width).step_by(COLUMNS).collect();
        let product = |start: &usize| {
            let count = COLUMNS.min(width - start);
            let mut products = vec![0f32; rows * columns];
            gemm(
                1.0,
                MatRef::new(&values[first * width + start..], rows, count, width as isize, 1),
                MatRef::new(&values[second * width + start..], count, columns, 1, width as isize),
                0.0,
                MatMut::from_row_major(&mut products, rows, columns),
                Parallelism::Serial,
            );
            products
        };
        for starts in starts.chunks(AT_ONCE) {
            let products: Vec<Vec<f32>> = starts.par_iter().map(product).collect();
            for products in products {
                self.sums.iter_mut().zip(products).for_each(|(sum, product)| *sum += f64::from(product));
            }
        }
    }

    /// The symmetric matrix [n, n] of all tiles.
    fn matrix(tiles: Vec<Tile>, n: usize) -> Vec<f64> {
        let mut matrix = vec![0.0; n * n];
        for tile in tiles {
            for (i, sums) in (tile.first..).zip(tile.sums.chunks_exact(tile.columns)) {
                matrix[i * n + tile.second..][..tile.columns].copy_from_slice(sums);
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
