//! What is asked of the machine that the estimate is made on.

/// Its memory in bytes, where it can be asked.
pub fn memory() -> Option<f64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let total = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    Some(total.trim().strip_suffix("kB")?.trim().parse::<f64>().ok()? * 1024.0)
}
