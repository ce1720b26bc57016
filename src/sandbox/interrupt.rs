//! Ctrl-C: ends with exit code 130, at once or when the caller has put things in order.

use std::sync::atomic::{AtomicBool, Ordering};

/// Exit code of an interrupted run (D16).
const INTERRUPTED: i32 = 130;

static WAITED_FOR: AtomicBool = AtomicBool::new(false);
static CAME: AtomicBool = AtomicBool::new(false);

extern "C" fn on_interrupt(_: libc::c_int) {
    CAME.store(true, Ordering::SeqCst);
    if !WAITED_FOR.load(Ordering::SeqCst) {
        // SAFETY: _exit may be called in a signal handler. What runs inside dies with this process.
        unsafe { libc::_exit(INTERRUPTED) };
    }
}

/// Makes Ctrl-C end the program with 130.
pub fn install() {
    let handler = on_interrupt as extern "C" fn(libc::c_int);
    // SAFETY: the handler only uses atomics and _exit.
    unsafe { libc::signal(libc::SIGINT, handler as libc::sighandler_t) };
}

/// From now on Ctrl-C is only noted: the caller asks [`came`] and ends what it started.
pub fn wait_for_caller() {
    WAITED_FOR.store(true, Ordering::SeqCst);
}

/// Whether Ctrl-C was pressed.
pub fn came() -> bool {
    CAME.load(Ordering::SeqCst)
}
