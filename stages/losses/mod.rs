//! What a model predicts: losses, entropies and the likeliest next tokens.

pub mod loss_difference;
pub mod loss_summary;
pub mod loss_vectors;
pub mod next_tokens;
pub mod response_losses;
pub mod token_losses;
pub mod windows;
