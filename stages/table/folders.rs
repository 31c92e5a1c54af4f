//! The folders of the tables' views, which readers show as columns.

use super::{Folder, folder};

pub const MODEL: Folder = folder("model", "the model");
pub const MODEL_A: Folder = folder("model_a", "the first of the two models that are compared");
pub const MODEL_B: Folder = folder("model_b", "the second of the two models that are compared");
pub const DATASET: Folder = folder("dataset", "the dataset");
pub const DATASET_A: Folder = folder("dataset_a", "the first of the two datasets that are compared");
pub const DATASET_B: Folder = folder("dataset_b", "the second of the two datasets that are compared");
/// Of a table of directions.
pub const DIRECTION_DATASET: Folder =
    folder("dataset", "the dataset that the directions were found on; of a contrast its name, TARGET-minus-SOURCE");
/// Of a table of what was measured along directions.
pub const DIRECTION: Folder = folder(
    "direction",
    "the dataset that the direction was found on, its dataset in directions; of a contrast its name",
);
pub const SOURCE: Folder = folder("source", "the model that the direction leads from");
pub const TARGET: Folder =
    folder("target", "the model that the direction leads to; of a contrast the same as the source");
pub const PATCH_SOURCE: Folder = folder("source", "the model whose states are put into the target");
pub const PATCH_TARGET: Folder = folder("target", "the model that the source's states are put into");
pub const OF: Folder = folder("of", "what the vectors are: hidden_state, loss or gradient");
pub const COMPARISON: Folder = folder("comparison", "the comparison's name in stages.similarity");
pub const SHARED: Folder =
    folder("shared", "the model or dataset that all groups of the comparison share; `all` where they share neither");
pub const WINDOW: Folder = folder("window", "the window's name in stages.loss_vectors");
