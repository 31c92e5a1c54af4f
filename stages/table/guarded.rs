//! Libraries that panic on what a damaged file says.

use std::panic::{AssertUnwindSafe, catch_unwind};

use anyhow::{Result, anyhow};

/// What a library gives.
///
/// # Errors
/// Its panic, as the file's fault.
pub fn guarded<T>(library: &str, call: impl FnOnce() -> T) -> Result<T> {
    catch_unwind(AssertUnwindSafe(call)).map_err(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str).or(panic.downcast_ref::<&str>().copied());
        anyhow!("the library {library} gave up on it: {}", text.unwrap_or("it does not say why"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_an_error() {
        assert_eq!(guarded("x", || 3).expect("a number"), 3);
        let error = guarded("x", || panic!("told to")).expect_err("an error");
        assert_eq!(error.to_string(), "the library x gave up on it: told to");
    }
}
