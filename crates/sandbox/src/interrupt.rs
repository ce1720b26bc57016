//! Ctrl-C and SIGTERM: end with exit code 130 or 143, at once or when the caller has put things in order.

use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicUsize, Ordering};

/// Exit code of an interrupted run (D16).
const INTERRUPTED: i32 = 130;

/// Exit code of a run that was asked to end: 128 and the signal's number, as shells have it.
const TERMINATED: i32 = 128 + libc::SIGTERM;

static WAITED_FOR: AtomicBool = AtomicBool::new(false);
static CAME: AtomicBool = AtomicBool::new(false);

/// What is said at the end: a static text, in two words that a signal handler can read.
static LAST_WORDS: AtomicPtr<u8> = AtomicPtr::new(std::ptr::null_mut());
static LENGTH: AtomicUsize = AtomicUsize::new(0);

extern "C" fn on_signal(signal: libc::c_int) {
    CAME.store(true, Ordering::SeqCst);
    if !WAITED_FOR.load(Ordering::SeqCst) {
        let words = LAST_WORDS.load(Ordering::SeqCst);
        if !words.is_null() {
            // SAFETY: write may be called in a signal handler; pointer and length are those of a static text.
            unsafe { libc::write(2, words.cast(), LENGTH.load(Ordering::SeqCst)) };
        }
        let code = if signal == libc::SIGTERM { TERMINATED } else { INTERRUPTED };
        // SAFETY: _exit may be called in a signal handler. What runs inside dies with this process.
        unsafe { libc::_exit(code) };
    }
}

/// Leaves both signals to anyone who takes them next: a server ends in its own way.
pub fn leave_to_others() {
    for signal in [libc::SIGINT, libc::SIGTERM] {
        // SAFETY: the default needs no code.
        unsafe { libc::signal(signal, libc::SIG_DFL) };
    }
}

/// Makes Ctrl-C end the program with 130, and SIGTERM with 143.
pub fn install() {
    let handler = on_signal as extern "C" fn(libc::c_int);
    for signal in [libc::SIGINT, libc::SIGTERM] {
        // SAFETY: the handler only uses atomics, write and _exit.
        unsafe { libc::signal(signal, handler as libc::sighandler_t) };
    }
}

extern "C" fn on_limit(_: libc::c_int) {}

/// Has a limit on the size of files be an error of the write, and not the end of the program. Programs that are started have the
/// signal as it was.
pub fn outlive_limits() {
    let handler = on_limit as extern "C" fn(libc::c_int);
    // SAFETY: the handler does nothing.
    unsafe { libc::signal(libc::SIGXFSZ, handler as libc::sighandler_t) };
}

/// What a signal says to the standard error before it ends the program; said once, before threads start.
pub fn last_words(text: &'static str) {
    LENGTH.store(text.len(), Ordering::SeqCst);
    LAST_WORDS.store(text.as_ptr().cast_mut(), Ordering::SeqCst);
}

/// From now on Ctrl-C is only noted: the caller asks [`came`] and ends what it started.
pub fn wait_for_caller() {
    WAITED_FOR.store(true, Ordering::SeqCst);
}

/// From now on Ctrl-C ends the program again.
pub fn end_at_once() {
    WAITED_FOR.store(false, Ordering::SeqCst);
}

pub fn came() -> bool {
    CAME.load(Ordering::SeqCst)
}
