//! What the allocator keeps of this process's memory.

/// Has it keep no more pools than there are processors: glibc makes eight times as many, for one thread each, and what is freed
/// stays in its pool. For the start of the process, before there are threads.
pub(crate) fn bound() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    if let Some(processors) = std::thread::available_parallelism().ok().and_then(|all| i32::try_from(all.get()).ok()) {
        // SAFETY: it takes two numbers, and no other thread allocates yet.
        unsafe {
            libc::mallopt(libc::M_ARENA_MAX, processors);
        }
    }
}

/// Gives back to the system what was freed. A start and a reload take much of it for a moment, which would stay otherwise.
pub(crate) fn give_back() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: it is given no pointer, and any thread may call it while others allocate.
    unsafe {
        libc::malloc_trim(0);
    }
}
