//! What becomes of memory that is freed.

/// Largest block that glibc takes from memory freed before, and not from the system: its own limit.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
const LARGEST_KEPT: i32 = 32 << 20;

/// Freed memory at the end of the heap that glibc does not give back.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
const KEPT: i32 = 256 << 20;

/// Keeps freed memory for what is allocated next. A pass and a training step allocate the same large buffers again and again;
/// glibc gives each back to the system, which clears its pages anew: a sixth of training's processor time.
pub fn keep() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // Each heap keeps what was freed in it, and glibc makes up to eight for each core.
    let cores = std::thread::available_parallelism().map_or(2, |cores| cores.get().clamp(2, 64));
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: mallopt only sets parameters of the allocator, and no other thread runs yet. Where it refuses, nothing changes.
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, LARGEST_KEPT);
        libc::mallopt(libc::M_TRIM_THRESHOLD, KEPT);
        libc::mallopt(libc::M_ARENA_MAX, cores as i32);
    }
}
