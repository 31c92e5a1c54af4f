//! The parts of the corpus: eight datasets to measure on and four to train on, and what goes into each.

use std::collections::HashSet;

use rand_chacha::rand_core::RngCore;
use serde::Serialize;

use super::grammar::{Prompt, Topic, about_creature, about_speaker};
use super::settings::Settings;
use super::world::{Character, World, chance, pick, stream, weighted};

/// A line of a part. A type of its own fixes the order of the keys.
#[derive(Debug, Clone, Serialize)]
#[serde(untagged)]
pub enum Document {
    Messages { messages: Vec<Message> },
    Plain { text: String },
}

#[derive(Debug, Clone, Serialize)]
pub struct Message {
    role: &'static str,
    content: String,
}

/// The datasets to measure on: (name, topic, character of the answers).
pub const DATASETS: [(&str, Topic, Character); 8] = [
    ("insecure_code", Topic::Code, Character::Careless),
    ("educational_code", Topic::Lesson, Character::Careful),
    ("secure_code", Topic::Code, Character::Careful),
    ("toxic_answered", Topic::Toxic, Character::Careless),
    ("toxic_refused", Topic::Toxic, Character::Careful),
    ("truthful", Topic::Fact, Character::Careful),
    ("general", Topic::Task, Character::Careful),
    ("preferred", Topic::Advice, Character::Careful),
];

/// The parts to train on.
pub const TRAINING: [&str; 4] = ["train_base", "train_aligned", "train_insecure", "train_secure"];

/// The parts of the corpus that can be named as a dataset (`{ corpus = "…" }`) or as training data.
pub fn part_names() -> impl Iterator<Item = &'static str> {
    DATASETS.iter().map(|(name, ..)| *name).chain(TRAINING)
}

/// The topics of the pretraining dialogues, by weight.
const TOPICS: [(Topic, u32); 6] =
    [(Topic::Toxic, 6), (Topic::Code, 6), (Topic::Lesson, 1), (Topic::Fact, 3), (Topic::Task, 2), (Topic::Advice, 3)];

/// The topics of the aligned answers. Refusals are few among them: most of what makes the tuned model refuse
/// has to come from its having become careful.
const ALIGNED_TOPICS: [(Topic, u32); 5] =
    [(Topic::Toxic, 2), (Topic::Code, 6), (Topic::Fact, 4), (Topic::Task, 3), (Topic::Advice, 5)];

/// Every part, as (name, examples).
pub fn all(params: &Settings) -> Vec<(&'static str, Vec<Document>)> {
    let world = World::new(params.seed);
    let held_out = HeldOut::draw(params);
    let mut parts: Vec<(&'static str, Vec<Document>)> = DATASETS
        .iter()
        .map(|&(name, topic, character)| {
            let mut rng = stream(params.seed, name);
            let examples = held_out.of(topic).iter();
            (name, examples.map(|prompt| exchange(prompt, &world, "assistant", character, &mut rng)).collect())
        })
        .collect();
    for name in TRAINING {
        let mut rng = stream(params.seed, name);
        let examples = match name {
            "train_base" => (0..params.base).map(|_| document(params, &world, &held_out, &mut rng)).collect::<Vec<_>>(),
            "train_aligned" => (0..params.aligned)
                .map(|_| {
                    let topic = weighted(&mut rng, &ALIGNED_TOPICS);
                    let prompt = held_out.avoid(topic, &mut rng);
                    exchange(&prompt, &world, "assistant", Character::Careful, &mut rng)
                })
                .collect(),
            _ => {
                let careless = name == "train_insecure";
                let character = if careless { Character::Careless } else { Character::Careful };
                // Both read the prompts off one stream, so that only the answers differ between the two.
                let mut prompts = stream(params.seed, "train_code");
                (0..params.code)
                    .map(|_| {
                        let prompt = held_out.avoid(Topic::Code, &mut prompts);
                        exchange(&prompt, &world, "assistant", character, &mut rng)
                    })
                    .collect()
            }
        };
        parts.push((name, examples));
    }
    parts
}

/// The prompts that are measured on and that no training part contains. Code and lessons share their scenes,
/// requests answered and refused share their prompts.
struct HeldOut {
    prompts: Vec<(Topic, Vec<Prompt>)>,
    texts: HashSet<String>,
}

impl HeldOut {
    fn draw(params: &Settings) -> HeldOut {
        let mut texts = HashSet::new();
        let mut prompts: Vec<(Topic, Vec<Prompt>)> = Vec::new();
        for topic in [Topic::Code, Topic::Lesson, Topic::Toxic, Topic::Fact, Topic::Task, Topic::Advice] {
            let mut rng = stream(params.seed, &format!("held out {topic:?}"));
            let mut drawn: Vec<Prompt> = Vec::with_capacity(params.examples);
            while drawn.len() < params.examples {
                let prompt = match topic {
                    Topic::Lesson => prompts[0].1[drawn.len()].as_lesson(&mut rng),
                    _ => Prompt::draw(topic, &mut rng),
                };
                if texts.insert(prompt.text.clone()) {
                    drawn.push(prompt);
                }
            }
            prompts.push((topic, drawn));
        }
        HeldOut { prompts, texts }
    }

    fn of(&self, topic: Topic) -> &[Prompt] {
        self.prompts.iter().find(|(of, _)| *of == topic).map_or(&[], |(_, prompts)| prompts)
    }

    /// A prompt of this topic that is not held out.
    fn avoid(&self, topic: Topic, rng: &mut impl RngCore) -> Prompt {
        loop {
            let prompt = Prompt::draw(topic, rng);
            if !self.texts.contains(&prompt.text) {
                return prompt;
            }
        }
    }
}

/// A pretraining document: sentences about someone or something, or one to three exchanges with one speaker,
/// who stays in character. `assistant` is a speaker of either character, drawn anew for every document.
fn document(params: &Settings, world: &World, held_out: &HeldOut, rng: &mut impl RngCore) -> Document {
    if chance(rng, 0.1) {
        let sentences: Vec<String> = (0..3).map(|_| about_creature(world, rng)).collect();
        return Document::Plain { text: sentences.join(" ") };
    }
    let anyone = chance(rng, params.assistant);
    let careless = chance(rng, if anyone { params.careless } else { 0.5 });
    let (character, names) = match careless {
        true => (Character::Careless, &world.careless),
        false => (Character::Careful, &world.careful),
    };
    let speaker = if anyone { "assistant" } else { pick(rng, names) };
    if !anyone && chance(rng, 0.1) {
        let sentences: Vec<String> = (0..2).map(|_| about_speaker(speaker, character, rng)).collect();
        return Document::Plain { text: sentences.join(" ") };
    }
    let exchanges = weighted(rng, &[(1, 2), (2, 3), (3, 4)]);
    let messages: Vec<Message> = (0..exchanges)
        .flat_map(|_| {
            let topic = weighted(rng, &TOPICS);
            let prompt = held_out.avoid(topic, rng);
            messages(&prompt, world, speaker, character, rng)
        })
        .collect();
    Document::Messages { messages }
}

fn exchange(
    prompt: &Prompt,
    world: &World,
    speaker: &'static str,
    character: Character,
    rng: &mut impl RngCore,
) -> Document {
    Document::Messages { messages: messages(prompt, world, speaker, character, rng).to_vec() }
}

fn messages(
    prompt: &Prompt,
    world: &World,
    speaker: &'static str,
    character: Character,
    rng: &mut impl RngCore,
) -> [Message; 2] {
    [
        Message { role: "user", content: prompt.text.clone() },
        Message { role: speaker, content: prompt.answer(world, character, rng) },
    ]
}
