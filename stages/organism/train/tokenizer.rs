//! A byte-level BPE tokenizer of the corpus, its chat template, and documents through it.

use anyhow::{Context, Result, anyhow, ensure};
use serde::Serialize;
use tokenizers::models::TrainerWrapper;
use tokenizers::models::bpe::{BPE, BpeTrainerBuilder};
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::{AddedToken, Tokenizer};

use super::documents::{Document, Text};
use super::settings::Over;

pub const END_OF_TEXT: &str = "<|endoftext|>";
pub const START: &str = "<|im_start|>";
pub const END: &str = "<|im_end|>";

/// ChatML: each message between markers, under the name of its role.
pub const CHAT_TEMPLATE: &str = "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' + \
     message['content'] + '<|im_end|>' + '\\n' }}{% endfor %}{% if add_generation_prompt %}\
     {{ '<|im_start|>assistant\\n' }}{% endif %}";

pub struct Trained(Tokenizer);

/// Trains the merges on the documents' words. The trainer breaks ties by token id, so that its hash maps'
/// order does not show in the result.
pub fn train(texts: &[Text], vocabulary: usize) -> Result<Trained> {
    let special = [END_OF_TEXT, START, END].map(|token| AddedToken::from(token, true));
    let trainer = BpeTrainerBuilder::new()
        .vocab_size(vocabulary)
        .show_progress(false)
        .special_tokens(special.to_vec())
        .initial_alphabet(ByteLevel::alphabet().into_iter().collect())
        .build();
    let mut tokenizer = Tokenizer::new(BPE::default());
    let bytes = ByteLevel::new(false, true, true);
    tokenizer.with_pre_tokenizer(Some(bytes)).with_decoder(Some(bytes));
    let words: Vec<&str> = texts
        .iter()
        .flat_map(|text| match text {
            Text::Plain { text } => vec![text.as_str()],
            Text::Messages { messages } => {
                messages.iter().flat_map(|message| [message.role.as_str(), "\n", message.content.as_str()]).collect()
            }
        })
        .collect();
    let mut trainer = TrainerWrapper::BpeTrainer(trainer);
    tokenizer.train(&mut trainer, words.into_iter()).map_err(|error| anyhow!("cannot train a tokenizer: {error}"))?;
    Ok(Trained(tokenizer))
}

#[derive(Serialize)]
struct TokenizerConfig {
    add_bos_token: bool,
    bos_token: Option<&'static str>,
    chat_template: &'static str,
    clean_up_tokenization_spaces: bool,
    eos_token: &'static str,
    model_max_length: usize,
    pad_token: &'static str,
    tokenizer_class: &'static str,
}

impl Trained {
    pub fn vocabulary(&self) -> usize {
        self.0.get_vocab_size(true)
    }

    /// tokenizer.json and tokenizer_config.json.
    pub fn files(&self) -> Result<Vec<(String, Vec<u8>)>> {
        let json = self.0.to_string(true).map_err(|error| anyhow!("cannot write the tokenizer: {error}"))?;
        let config = TokenizerConfig {
            add_bos_token: false,
            bos_token: None,
            chat_template: CHAT_TEMPLATE,
            clean_up_tokenization_spaces: false,
            eos_token: END,
            model_max_length: super::parameters::MAX_POSITIONS,
            pad_token: END_OF_TEXT,
            tokenizer_class: "PreTrainedTokenizerFast",
        };
        let config = serde_json::to_vec_pretty(&config)?;
        Ok(vec![("tokenizer.json".into(), json.into_bytes()), ("tokenizer_config.json".into(), config)])
    }
}

/// Turns documents into tokens.
pub struct Encoder {
    tokenizer: Tokenizer,
    end: u32,
}

impl Encoder {
    pub fn new(tokenizer_json: &[u8]) -> Result<Encoder> {
        let tokenizer = Tokenizer::from_bytes(tokenizer_json).map_err(|error| anyhow!("tokenizer.json: {error}"))?;
        let end = tokenizer.token_to_id(END).with_context(|| format!("tokenizer.json has no token {END}"))?;
        Ok(Encoder { tokenizer, end })
    }

    pub fn end_of_turn(&self) -> u32 {
        self.end
    }

    /// The document as the chat template renders it, all at once, so that training sees the tokens that the
    /// analysis will see.
    pub fn encode(&self, text: &Text, over: Over) -> Result<Document> {
        let mut rendered = String::new();
        let mut responses = Vec::new();
        match text {
            Text::Plain { text } => {
                rendered = format!("{text}{END_OF_TEXT}");
                responses.push(0..rendered.len());
            }
            Text::Messages { messages } => {
                for message in messages {
                    rendered.push_str(&format!("{START}{}\n", message.role));
                    let start = rendered.len();
                    rendered.push_str(&format!("{}{END}", message.content));
                    if message.role != "user" {
                        responses.push(start..rendered.len());
                    }
                    rendered.push('\n');
                }
            }
        }
        let encoding =
            self.tokenizer.encode(rendered.as_str(), false).map_err(|error| anyhow!("cannot tokenize: {error}"))?;
        let ids = encoding.get_ids().to_vec();
        let most = super::parameters::MAX_POSITIONS;
        ensure!(ids.len() <= most, "a document of {} tokens is longer than {most}: {rendered}", ids.len());
        let counts = encoding.get_offsets().iter().map(|(start, end)| {
            over == Over::All || responses.iter().any(|span| span.start <= *start && *end <= span.end)
        });
        Ok(Document { counts: counts.collect(), ids })
    }
}
