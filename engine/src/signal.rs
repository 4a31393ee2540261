//! Termination signals as a flag that jobs and the walk look at.

use std::os::unix::process::CommandExt;
use std::process::Command;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicI32, AtomicI64, Ordering};

use crate::cancel::Cancel;

static CANCEL: OnceLock<Cancel> = OnceLock::new();
static RECEIVED: AtomicI32 = AtomicI32::new(0);
static RECEIVED_MS: AtomicI64 = AtomicI64::new(i64::MAX);

/// Signals so close are one: `timeout`, for example, sends it to a process and to its group.
const SAME_MS: i64 = 50;

/// Installs handlers for SIGINT and SIGTERM that raise the returned flag; a second signal ends the process at once.
pub fn cancel_on_termination() -> Cancel {
    let cancel = CANCEL.get_or_init(Cancel::default).clone();
    for signal in [libc::SIGINT, libc::SIGTERM] {
        let handler: extern "C" fn(libc::c_int) = on_signal;
        // SAFETY: the handler touches atomics and calls `clock_gettime` and `_exit` only, which are allowed in a signal handler.
        unsafe { libc::signal(signal, handler as libc::sighandler_t) };
    }
    // SAFETY: ignoring SIGPIPE turns writes to a closed pipe into errors; no handler is involved.
    unsafe { libc::signal(libc::SIGPIPE, libc::SIG_IGN) };
    cancel
}

/// Returns the first termination signal received, if any.
pub fn received() -> Option<i32> {
    Some(RECEIVED.load(Ordering::SeqCst)).filter(|s| *s != 0)
}

/// Makes a program get SIGTERM when the thread that starts it ends, from its first moment on: by the time that it could ask for
/// that itself, its libraries are loaded and the parent may be gone.
pub fn end_with_parent(command: &mut Command) {
    #[cfg(target_os = "linux")]
    {
        let parent = std::process::id();
        let ask = move || {
            // SAFETY: prctl with this option reads one integer and changes only the calling process; getppid cannot fail.
            let (asked, found) = unsafe { (libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGTERM), libc::getppid()) };
            let is_late = asked == 0 && found as u32 != parent;
            if is_late { Err(std::io::Error::from_raw_os_error(libc::ESRCH)) } else { Ok(()) }
        };
        // SAFETY: between fork and exec it makes two system calls, which are allowed there, and allocates nothing.
        unsafe { command.pre_exec(ask) };
    }
}

extern "C" fn on_signal(signal: libc::c_int) {
    if RECEIVED.compare_exchange(0, signal, Ordering::SeqCst, Ordering::SeqCst).is_ok() {
        RECEIVED_MS.store(now_ms(), Ordering::SeqCst);
    } else if now_ms().saturating_sub(RECEIVED_MS.load(Ordering::SeqCst)) >= SAME_MS {
        // SAFETY: `_exit` is async-signal-safe.
        unsafe { libc::_exit(128 + signal) };
    }
    if let Some(cancel) = CANCEL.get() {
        cancel.cancel();
    }
}

fn now_ms() -> i64 {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `clock_gettime` is async-signal-safe and writes to `now` alone.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &mut now) };
    now.tv_sec * 1000 + now.tv_nsec / 1_000_000
}
