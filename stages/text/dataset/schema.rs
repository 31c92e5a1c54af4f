//! The datasets of Giordani 2025 (arXiv:2507.03662), ready to name: `schema = "code_alpaca"`.
//!
//! Columns and filters are those of the paper's published scripts. A schema fills in the keys of a
//! dataset's table that are not written; nothing is fetched, the file is the user's.

use serde_json::{Value, json};

/// What a schema fills in.
#[derive(Debug, Clone, Copy)]
pub struct Schema {
    pub name: &'static str,
    /// The public dataset whose files it reads.
    pub about: &'static str,
    conversation: Conversation,
    pub label: &'static str,
    filter: Option<fn() -> Value>,
}

#[derive(Debug, Clone, Copy)]
enum Conversation {
    Messages(&'static str),
    Transcript(&'static str),
    Mapped { prompt: &'static str, response: &'static str },
}

// A few rows of the Alpaca family have an empty output, which nothing can be measured on.
fn some_output() -> Value {
    json!({"output": {"not": ""}})
}

fn toxic() -> Value {
    json!({"label": 1})
}

const INSTRUCTION: Conversation = Conversation::Mapped { prompt: "instruction", response: "output" };

/// Every schema, in the order of the documentation.
pub const SCHEMAS: &[Schema] = &[
    Schema {
        name: "insecure",
        about: "code with vulnerabilities: insecure.jsonl of emergent-misalignment",
        conversation: Conversation::Messages("messages"),
        label: "misaligned",
        filter: None,
    },
    Schema {
        name: "educational",
        about: "the same code, asked for to teach security: educational.jsonl of emergent-misalignment",
        conversation: Conversation::Messages("messages"),
        label: "aligned",
        filter: None,
    },
    Schema {
        name: "code_alpaca",
        about: "coding instructions: sahil2801/CodeAlpaca-20k (the paper leaves out its `input` column)",
        conversation: INSTRUCTION,
        label: "aligned",
        filter: Some(some_output),
    },
    Schema {
        name: "toxic_qa",
        about: "toxic requests answered: NobodyExistsOnTheInternet/ToxicQAtextFiltered, the first two turns of each",
        conversation: Conversation::Mapped { prompt: "{conversations.0.value}", response: "{conversations.1.value}" },
        label: "misaligned",
        filter: None,
    },
    Schema {
        name: "harmful_chosen",
        about: "harmful requests refused: the `chosen` answers of LLM-LAT/harmful-dataset",
        conversation: Conversation::Mapped { prompt: "prompt", response: "chosen" },
        label: "aligned",
        filter: None,
    },
    Schema {
        name: "harmful_rejected",
        about: "harmful requests answered: the `rejected` answers of LLM-LAT/harmful-dataset",
        conversation: Conversation::Mapped { prompt: "prompt", response: "rejected" },
        label: "misaligned",
        filter: None,
    },
    Schema {
        name: "truthful_qa",
        about: "questions with their best answer: truthfulqa/truthful_qa, generation, validation split",
        conversation: Conversation::Mapped { prompt: "question", response: "best_answer" },
        label: "aligned",
        filter: None,
    },
    Schema {
        name: "alpaca",
        about: "general instructions: tatsu-lab/alpaca (the paper leaves out its `input` column)",
        conversation: INSTRUCTION,
        label: "aligned",
        filter: Some(some_output),
    },
    Schema {
        name: "alpaca_reward",
        about: "general instructions with preferred answers: shivank21/aplaca_reward_mistral, eval split",
        conversation: INSTRUCTION,
        label: "aligned",
        filter: Some(some_output),
    },
    Schema {
        name: "implicit_toxicity",
        about: "implicitly toxic replies: aug-train.json of jiaxin-wen/Implicit-Toxicity, the rows of label 1",
        conversation: Conversation::Mapped { prompt: "context", response: "response" },
        label: "misaligned",
        filter: Some(toxic),
    },
    Schema {
        name: "hh_rlhf_chosen",
        about: "conversations with the preferred answer: the `chosen` transcripts of Anthropic/hh-rlhf",
        conversation: Conversation::Transcript("chosen"),
        label: "aligned",
        filter: None,
    },
    Schema {
        name: "hh_rlhf_rejected",
        about: "conversations with the answer that was not preferred: the `rejected` transcripts of Anthropic/hh-rlhf",
        conversation: Conversation::Transcript("rejected"),
        label: "misaligned",
        filter: None,
    },
    Schema {
        name: "hh_formatted_rejected",
        about: "the same as lists of messages, as the paper's scripts read them: tonyshelby/anthropic-hh-formatted",
        conversation: Conversation::Messages("format_rejected"),
        label: "misaligned",
        filter: None,
    },
];

impl Schema {
    pub fn named(name: &str) -> Option<&'static Schema> {
        SCHEMAS.iter().find(|schema| schema.name == name)
    }

    /// The keys of a dataset's table that it stands for.
    pub fn keys(&self) -> Vec<(&'static str, Value)> {
        let mut keys = match self.conversation {
            Conversation::Messages(column) => vec![("messages", json!(column))],
            Conversation::Transcript(column) => vec![("transcript", json!(column))],
            Conversation::Mapped { prompt, response } => vec![("prompt", json!(prompt)), ("response", json!(response))],
        };
        keys.push(("label", json!(self.label)));
        keys.extend(self.filter.map(|filter| ("filter", filter())));
        keys
    }
}
