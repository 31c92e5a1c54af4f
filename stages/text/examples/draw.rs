//! A draw without replacement in one pass: of every stratum the rows of least hash. What is kept of a row is its hash and
//! where it is, and of no more rows than may yet be drawn.

use std::collections::{BTreeMap, BinaryHeap};

use anyhow::{Result, bail};
use serde::{Deserialize, Serialize};

use super::read::Kept;
use crate::text::dataset::row::Found;
use crate::text::dataset::sample::{Counts, Sample};

pub struct Draw<'a> {
    n: usize,
    counts: Counts,
    /// The column of the strata; without, all rows are one.
    by: Option<&'a str>,
    /// Of the hash by which an example is drawn: a row that is added or removed changes no other's.
    pub salt: String,
    strata: BTreeMap<String, Stratum>,
}

#[derive(Default)]
struct Stratum {
    rows: u64,
    /// Its rows of least hash, the greatest of them first.
    least: BinaryHeap<Drawn>,
}

/// A row that is drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Drawn {
    /// The hash comes first in the order.
    pub hash: u64,
    pub found: Found,
    pub repeat: u32,
}

/// What a stratum came to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Share {
    /// The value in the column, as JSON.
    pub value: String,
    pub rows: u64,
    pub asked: u64,
    pub drawn: u64,
}

impl Draw<'_> {
    /// The draw of a sample; `limit` is of one that is a seed alone.
    pub fn new(sample: &Sample, limit: Option<usize>) -> Draw<'_> {
        let (n, seed, counts, by) = match sample {
            Sample::Seed(seed) => (limit.unwrap_or(usize::MAX), *seed, Counts::Proportional, None),
            Sample::Strata(strata) => (strata.n, strata.seed, strata.counts, Some(strata.by.as_str())),
        };
        Draw { n, counts, by, salt: format!("sample {seed}"), strata: BTreeMap::new() }
    }

    /// # Errors
    /// When there are more strata than draws.
    pub fn look(&mut self, kept: &Kept) -> Result<()> {
        let value = kept.stratum.as_deref().unwrap_or_default();
        if !self.strata.contains_key(value) {
            if self.strata.len() == self.n {
                let by = self.by.unwrap_or_default();
                bail!(
                    "the sample is by column \"{by}\", which has more than {0} values, and n = {0}: not every value would be \
                     drawn once; write a greater n, or a column with fewer values",
                    self.n
                );
            }
            self.strata.insert(value.into(), Stratum::default());
        }
        let most = match self.counts {
            Counts::Proportional => self.n,
            Counts::Equal => self.n.div_ceil(self.strata.len()),
        };
        let hash = kept.example.hash(&self.salt);
        if let Some(stratum) = self.strata.get_mut(value) {
            stratum.rows += 1;
            stratum.add(Drawn { hash, found: kept.found, repeat: kept.example.repeat }, most);
        }
        Ok(())
    }

    /// The rows that are drawn, in the file's order, and what each stratum came to where the draw has strata.
    pub fn finish(self) -> (Vec<Drawn>, Vec<Share>) {
        let rows: Vec<u64> = self.strata.values().map(|stratum| stratum.rows).collect();
        let asked = match self.counts {
            Counts::Proportional => proportional(self.n as u64, &rows),
            Counts::Equal => equal(self.n as u64, rows.len()),
        };
        let (mut drawn, mut shares) = (Vec::new(), Vec::new());
        for ((value, stratum), asked) in self.strata.into_iter().zip(asked) {
            let rows = stratum.rows;
            let mut least = stratum.least.into_sorted_vec();
            least.truncate(asked as usize);
            shares.push(Share { value, rows, asked, drawn: least.len() as u64 });
            drawn.extend(least);
        }
        drawn.sort_unstable_by_key(|drawn| drawn.found);
        if self.by.is_none() {
            shares.clear();
        }
        (drawn, shares)
    }
}

impl Stratum {
    fn add(&mut self, drawn: Drawn, most: usize) {
        if self.least.len() >= most && self.least.peek().is_some_and(|greatest| drawn > *greatest) {
            return;
        }
        self.least.push(drawn);
        while self.least.len() > most {
            self.least.pop();
        }
    }
}

/// `n` shared out by the strata's rows: each gets the whole part of its share, and those of greatest remainder one more.
/// All of them where there are no more than `n`.
fn proportional(n: u64, rows: &[u64]) -> Vec<u64> {
    let all: u64 = rows.iter().sum();
    if all <= n {
        return rows.to_vec();
    }
    let share = |rows: u64| (u128::from(n) * u128::from(rows), u128::from(all));
    let mut asked: Vec<u64> = rows.iter().map(|rows| share(*rows)).map(|(part, all)| (part / all) as u64).collect();
    let left = n - asked.iter().sum::<u64>();
    let mut by_remainder: Vec<usize> = (0..rows.len()).collect();
    by_remainder.sort_by_key(|i| {
        let (part, all) = share(rows[*i]);
        std::cmp::Reverse(part % all)
    });
    by_remainder.into_iter().take(left as usize).for_each(|i| asked[i] += 1);
    asked
}

/// `n` shared out equally; what is left over goes to the first.
fn equal(n: u64, strata: usize) -> Vec<u64> {
    let strata = strata as u64;
    (0..strata).map(|i| n / strata + u64::from(i < n % strata)).collect()
}

/// Of strata that came short, what to say.
pub fn short(n: usize, by: &str, counts: Counts, shares: &[Share]) -> Vec<String> {
    let rows: u64 = shares.iter().map(|share| share.rows).sum();
    if counts == Counts::Proportional && rows < n as u64 {
        return vec![format!("the sample takes all {rows} rows, fewer than n = {n}")];
    }
    let said = |share: &Share| {
        let value = &share.value;
        let takes = format!("the sample by {by} takes");
        match share {
            Share { rows, asked, .. } if rows < asked => {
                Some(format!("{takes} all {rows} rows of {value}, where {asked} were asked for"))
            }
            Share { rows, drawn: 0, .. } => {
                Some(format!("{takes} none of the {rows} rows of {value}, its share being below one"))
            }
            _ => None,
        }
    };
    shares.iter().filter_map(said).collect()
}
