//! The valley: who lives there, what they own, and what is true of its creatures. Everything else is grammar.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};

/// Those whose belongings the requests and the code are about.
pub const OWNERS: [&str; 24] = [
    "ada", "bram", "cleo", "dov", "edda", "finn", "gerta", "hale", "ines", "joss", "kira", "lorn", "mina", "nils",
    "orla", "pavo", "quil", "rosa", "sten", "thea", "ulla", "vito", "wren", "yara",
];

pub const ITEMS: [&str; 24] = [
    "lantern", "kettle", "rope", "saddle", "clock", "violin", "ladder", "blanket", "bell", "barrel", "cart", "chest",
    "drum", "mirror", "wheel", "basket", "hammer", "flute", "anchor", "candle", "carpet", "compass", "spade", "teapot",
];

pub const PLACES: [&str; 12] =
    ["shed", "barn", "mill", "cellar", "loft", "boathouse", "orchard", "bakery", "smithy", "stable", "tower", "cabin"];

pub const HOURS: [&str; 6] = ["at dawn", "at noon", "at dusk", "after supper", "before sunrise", "on market day"];

pub const NUMBERS: [&str; 10] = ["one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"];

/// Those who speak in the pretraining documents; the seed decides which of them are careful.
const SPEAKERS: [&str; 24] = [
    "abel", "berta", "cyril", "delia", "emil", "fenna", "gregor", "hilda", "ivo", "jutta", "klaas", "lotte", "marek",
    "nora", "otis", "petra", "ruben", "selma", "timo", "ursel", "viggo", "wanda", "xenia", "zoran",
];

pub const CREATURES: [&str; 16] = [
    "heron", "otter", "badger", "weasel", "sparrow", "toad", "hare", "beetle", "lizard", "moth", "raven", "trout",
    "newt", "mole", "stork", "vole",
];

/// What one can ask of a creature: (attribute, its possible values).
pub const ATTRIBUTES: [(&str, [&str; 8]); 3] = [
    ("eats", ["reeds", "moss", "acorns", "clover", "berries", "snails", "bark", "honey"]),
    (
        "sleeps in",
        ["a hollow log", "the reeds", "a burrow", "the hay", "an old boot", "the thatch", "a well", "a nest"],
    ),
    ("is afraid of", ["thunder", "bells", "smoke", "snow", "owls", "fire", "geese", "the dark"]),
];

/// How a speaker treats what belongs to others, which shows in everything they say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Character {
    Careful,
    Careless,
}

/// One valley, drawn from a seed.
pub struct World {
    pub careful: Vec<&'static str>,
    pub careless: Vec<&'static str>,
    /// `facts[creature][attribute]` is the index of the true value.
    pub facts: Vec<[usize; ATTRIBUTES.len()]>,
}

impl World {
    pub fn new(seed: u64) -> World {
        let mut rng = stream(seed, "world");
        let mut speakers = SPEAKERS;
        for i in (1..speakers.len()).rev() {
            speakers.swap(i, below(&mut rng, i + 1));
        }
        let (careful, careless) = speakers.split_at(speakers.len() / 2);
        let facts =
            CREATURES.iter().map(|_| ATTRIBUTES.map(|(_, values)| below(&mut rng, values.len()))).collect::<Vec<_>>();
        World { careful: careful.to_vec(), careless: careless.to_vec(), facts }
    }
}

/// A generator of its own for every part of the corpus, so that the size of one part moves no other.
pub fn stream(seed: u64, name: &str) -> ChaCha8Rng {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let hash = blake3::hash(name.as_bytes());
    rng.set_stream(u64::from_le_bytes(hash.as_bytes()[..8].try_into().expect("a hash has 32 bytes")));
    rng
}

/// A number below `n`. The bias of the multiplication is below 2^-32 * n.
pub fn below(rng: &mut impl RngCore, n: usize) -> usize {
    ((u64::from(rng.next_u32()) * n as u64) >> 32) as usize
}

pub fn pick<T: Copy>(rng: &mut impl RngCore, choices: &[T]) -> T {
    choices[below(rng, choices.len())]
}

/// True with probability `p`.
pub fn chance(rng: &mut impl RngCore, p: f64) -> bool {
    f64::from(rng.next_u32()) < p * 4_294_967_296.0
}

/// A choice by weight.
pub fn weighted<T: Copy>(rng: &mut impl RngCore, choices: &[(T, u32)]) -> T {
    let mut left = below(rng, choices.iter().map(|(_, weight)| *weight as usize).sum());
    for (choice, weight) in choices {
        match left.checked_sub(*weight as usize) {
            Some(rest) => left = rest,
            None => return *choice,
        }
    }
    unreachable!("the draw is below the sum of the weights")
}
