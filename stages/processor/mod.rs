//! Which of the processor's instructions loops may use, found out when the program runs.

mod vectorized;

use std::sync::OnceLock;

pub(crate) use vectorized::vectorized;

/// What makes all loops and products take the path of another processor; gemmkit's own variable, which its products follow.
pub const VARIABLE: &str = "GEMMKIT_REQUIRE_ISA";

/// What a loop is compiled for. Each gives the same bits: nothing is contracted to a fused multiply-add, and sums are written
/// over fixed lanes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Instructions {
    /// What every processor of the architecture has: SSE2, NEON.
    Baseline,
    Avx2,
    Avx512,
}

/// The widest that this processor has and [`VARIABLE`] allows.
#[inline]
pub fn instructions() -> Instructions {
    static FOUND: OnceLock<Instructions> = OnceLock::new();
    *FOUND.get_or_init(|| {
        let allowed = match std::env::var(VARIABLE).unwrap_or_default().trim().to_ascii_lowercase().as_str() {
            "scalar" | "neon" => Instructions::Baseline,
            "fma" | "avx2" => Instructions::Avx2,
            _ => Instructions::Avx512,
        };
        allowed.min(detected())
    })
}

#[cfg(target_arch = "x86_64")]
fn detected() -> Instructions {
    match () {
        _ if is_x86_feature_detected!("avx512f") => Instructions::Avx512,
        _ if is_x86_feature_detected!("avx2") => Instructions::Avx2,
        _ => Instructions::Baseline,
    }
}

#[cfg(not(target_arch = "x86_64"))]
fn detected() -> Instructions {
    Instructions::Baseline
}

/// The values of [`VARIABLE`] whose products this processor can compute, from the simplest on.
pub fn paths() -> Vec<&'static str> {
    let mut found = vec!["scalar"];
    #[cfg(target_arch = "x86_64")]
    {
        let fma = is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma");
        let avx512 = is_x86_feature_detected!("avx512f");
        found.extend(fma.then_some("fma"));
        found.extend(avx512.then_some("avx512f"));
        found.extend((avx512 && is_x86_feature_detected!("avx512bf16")).then_some("avx512bf16"));
    }
    found.extend(cfg!(target_arch = "aarch64").then_some("neon"));
    found
}

/// Whether products of bf16 values use the processor's instructions for them. Intel's take as many products at a time as those of f32 and
/// half as often: there, as where there are none, values are widened and multiplied in f32.
pub fn multiplies_bf16() -> bool {
    static FOUND: OnceLock<bool> = OnceLock::new();
    *FOUND.get_or_init(|| match std::env::var(VARIABLE).unwrap_or_default().as_str() {
        "" | "auto" => cfg!(not(target_arch = "x86_64")) || (paths().contains(&"avx512bf16") && is_amd()),
        asked => ["avx512bf16", "neon"].contains(&asked),
    })
}

#[cfg(target_arch = "x86_64")]
fn is_amd() -> bool {
    let found = std::arch::x86_64::__cpuid(0);
    let vendor = [found.ebx, found.edx, found.ecx].map(u32::to_le_bytes).concat();
    vendor == b"AuthenticAMD"
}

#[cfg(not(target_arch = "x86_64"))]
fn is_amd() -> bool {
    false
}

/// # Errors
/// When [`VARIABLE`] asks for what there is no name for, or what this processor does not have.
pub fn check() -> Result<(), String> {
    let Some(asked) = std::env::var_os(VARIABLE) else { return Ok(()) };
    let (asked, paths) = (asked.to_string_lossy().into_owned(), paths());
    if asked.is_empty() || asked == "auto" || paths.contains(&asked.as_str()) {
        return Ok(());
    }
    Err(format!("{VARIABLE}={asked}: expected auto, or one of what this processor has: {}", paths.join(", ")))
}
