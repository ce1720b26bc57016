//! What the process is given to work with: memory that runs out with a message, and a stack that is large enough.

use std::alloc::{GlobalAlloc, Layout};

/// musl's own allocator is slow where several threads work.
#[cfg(target_env = "musl")]
use mimalloc::MiMalloc as System;
#[cfg(not(target_env = "musl"))]
use std::alloc::System;

use rustix::process::{Resource, getrlimit};

use base::failure::{MEMORY_REMEDY, OUT_OF_MEMORY};

/// The exit code of a machine that lacks something (D16).
pub(crate) const OUT_OF_MEMORY_STATUS: i32 = 3;

/// Smallest stack that the main thread works in, in bytes; the package managers inside want as much.
const STACK_LEAST: u64 = 1 << 20;

/// The system's allocator, which says so when there is no memory, and ends the process without a core file.
#[derive(Debug)]
pub struct Memory;

// SAFETY: every call goes to the system's allocator as it came; a null pointer is never given back.
unsafe impl GlobalAlloc for Memory {
    // SAFETY: the caller's promises are the system's.
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as above.
        given(unsafe { System.alloc(layout) }, layout.size())
    }

    // SAFETY: the caller's promises are the system's.
    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(pointer, layout) }
    }

    // SAFETY: the caller's promises are the system's.
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as above.
        given(unsafe { System.alloc_zeroed(layout) }, layout.size())
    }

    // SAFETY: the caller's promises are the system's.
    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: as above.
        given(unsafe { System.realloc(pointer, layout, size) }, size)
    }
}

fn given(pointer: *mut u8, size: usize) -> *mut u8 {
    if pointer.is_null() {
        ended(size);
    }
    pointer
}

/// Ends the process; nothing here takes memory.
#[cold]
fn ended(size: usize) -> ! {
    let mut digits = [0u8; 20];
    let mut at = digits.len();
    let mut left = size;
    loop {
        at -= 1;
        digits[at] = b'0' + (left % 10) as u8;
        left /= 10;
        if left == 0 {
            break;
        }
    }
    let parts: [&[u8]; 6] = [
        b"error: ",
        OUT_OF_MEMORY.as_bytes(),
        b": ",
        &digits[at..],
        b" more bytes cannot be allocated\n  help: ",
        MEMORY_REMEDY.as_bytes(),
    ];
    for part in parts.into_iter().chain([&b"\n"[..]]) {
        // SAFETY: a plain system call with a live buffer.
        unsafe { libc::write(2, part.as_ptr().cast(), part.len()) };
    }
    // SAFETY: ends the process at once; nothing of it is still needed.
    unsafe { libc::_exit(OUT_OF_MEMORY_STATUS) }
}

/// Lets the allocator give memory back at once: what packs a large image holds much of it for a short time. The system's own does so.
#[cfg(target_env = "musl")]
pub fn give_back_at_once() {
    /// Milliseconds that it waits otherwise. Source: mimalloc.h, `mi_option_purge_delay`.
    const PURGE_DELAY: libc::c_int = 15;
    // SAFETY: as mimalloc.h declares it.
    unsafe extern "C" {
        fn mi_option_set(option: libc::c_int, value: libc::c_long);
    }
    // SAFETY: sets a number; no thread has started.
    unsafe { mi_option_set(PURGE_DELAY, 0) }
}

/// The system's allocator gives memory back as it is.
#[cfg(not(target_env = "musl"))]
pub fn give_back_at_once() {}

/// Whether the main thread's stack is large enough.
/// Errors: A text with what there is and what to do.
pub fn check_stack() -> Result<(), String> {
    match getrlimit(Resource::Stack).current {
        Some(bytes) if bytes < STACK_LEAST => Err(format!(
            "the stack limit is {} KiB; imgbuild and distribution tools need {} KiB: ulimit -s 8192",
            bytes / 1024,
            STACK_LEAST / 1024
        )),
        _ => Ok(()),
    }
}
