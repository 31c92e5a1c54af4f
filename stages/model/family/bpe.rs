//! What several tokenizer classes of transformers make of a vocabulary.

use tokenizers::Tokenizer;
use tokenizers::models::ModelWrapper;

/// Characters that the vocabulary lacks become tokens of their bytes, as the classes for SentencePiece's vocabularies have it.
pub fn with_bytes(tokenizer: &mut Tokenizer) {
    if let ModelWrapper::BPE(bpe) = tokenizer.get_model()
        && !(bpe.byte_fallback && bpe.fuse_unk)
    {
        let mut bpe = bpe.clone();
        (bpe.byte_fallback, bpe.fuse_unk) = (true, true);
        tokenizer.with_model(bpe);
    }
}
