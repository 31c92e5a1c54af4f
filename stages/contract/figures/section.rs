//! The sections of the report, in the order of the paper.

/// A part of the report. A stage may bring one of its own; it comes after these.
#[derive(Debug, PartialEq, Eq)]
pub struct Section {
    /// Its anchor in the page.
    pub id: &'static str,
    pub title: &'static str,
    /// Where the paper has it; empty where it does not.
    pub source: &'static str,
    pub intro: &'static str,
}

pub static PROBABILITY: Section = Section {
    id: "probability",
    title: "Sequence probability and entropy",
    source: "Fig. 1, Sec. 4.1",
    intro: "The same conversation under every model: how likely each token of the response was, and how sure the model was \
            before it.",
};

pub static NEXT_TOKENS: Section = Section {
    id: "next-tokens",
    title: "Next-token distribution",
    source: "Fig. 2",
    intro: "What each model would say next at one place of a conversation.",
};

pub static LOSS_VECTORS: Section = Section {
    id: "loss-vectors",
    title: "Loss vectors",
    source: "Fig. 3",
    intro: "The losses of a response's first tokens, as one vector for each example. Examples that a model finds hard in the \
            same places have vectors that point the same way.",
};

pub static GRADIENTS: Section = Section {
    id: "gradients",
    title: "Gradients",
    source: "Fig. 4",
    intro: "Each example's gradient of its loss for one weight matrix: examples whose gradients point the same way would \
            change the model in the same direction. Whatever the weights' dtype, they are widened without loss and every \
            product is computed in float32: the noise floor of the cosines is a few 1e-6, for a bfloat16 model too. Under precision = \"bf16\" it is that of bf16 (docs/accuracy.md).",
};

pub static PROJECTIONS: Section = Section {
    id: "projections",
    title: "Projections onto alignment directions",
    source: "Fig. 5, Sec. 4.3",
    intro: "A direction is the difference of two models' hidden states on the same examples, or of two datasets' within a \
            model. Each model's states, projected onto it, say how far that model has gone along it at every layer.",
};

pub static SHARED_DIMENSIONS: Section = Section {
    id: "shared-dimensions",
    title: "Shared dimensions",
    source: "Fig. 6, Sec. 4.4",
    intro: "If fine-tuning moves every dataset's states along the same directions, the directions found on different \
            datasets point the same way. A cosine means something only beside what chance gives.",
};

pub static SEPARATION: Section = Section {
    id: "separation",
    title: "Separation and distance",
    source: "Sec. 4.3",
    intro: "Two models are told apart along a direction when their projections differ by more than each of them spreads; two \
            datasets, when their mean hidden states point different ways.",
};

pub static PATCHING: Section = Section {
    id: "patching",
    title: "Activation patching",
    source: "",
    intro: "The residual stream of one model, put into another at one layer. If the other then behaves like the first, the \
            difference between them arises by that layer.",
};

pub static ATTRIBUTION: Section = Section {
    id: "attribution",
    title: "Attribution",
    source: "",
    intro: "Each piece of the prompt is left out in turn. Where the target becomes less likely without it, the piece speaks \
            for the target.",
};

pub static SECTIONS: [&Section; 9] = [
    &PROBABILITY,
    &NEXT_TOKENS,
    &LOSS_VECTORS,
    &GRADIENTS,
    &PROJECTIONS,
    &SHARED_DIMENSIONS,
    &SEPARATION,
    &PATCHING,
    &ATTRIBUTION,
];
