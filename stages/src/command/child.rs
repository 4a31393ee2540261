//! The child process, its group, and its end.
//!
//! The child leads a process group of its own. However it ends, what is left of the group is killed: a grandchild must not
//! outlive the stage and write into what was published. `guard.rs` does the same where the engine itself is killed.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command as Process, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use watershed_engine::{Job, StageError};

use super::guard;
use super::logfile::LogFile;

/// Time between the polite signal and the other one.
const GRACE: Duration = Duration::from_secs(10);

/// How often cancel flag and log are looked at.
const TICK: Duration = Duration::from_millis(50);

/// How a child ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// By itself.
    Exit(i32),
    /// By a signal.
    Signal(i32),
}

/// Starts the child, waits for it, and passes on what it prints.
///
/// # Errors
/// When it cannot be started, or the job is cancelled; the whole group is gone then.
pub fn run(mut process: Process, program: &str, log: &mut LogFile, job: &Job) -> Result<Ended, StageError> {
    process.stdin(Stdio::null()).stdout(log.stdio()?).stderr(log.stdio()?).process_group(0);
    guard::ready();
    let child = process.spawn().map_err(|e| cannot_start(program, &e))?;
    guard::watch(child.id());
    let mut group = Group { exit: ExitWatch::of(&child), child };
    let ended = wait(&mut group, log, job);
    log.finish(job);
    ended
}

/// Returns the error for a program that cannot be started.
pub fn cannot_start(program: &str, error: &io::Error) -> StageError {
    match error.kind() {
        io::ErrorKind::NotFound => StageError::Environment(format!(
            "there is no program `{program}`: install it, or put its folder into `run.path`"
        )),
        _ => StageError::Environment(format!("cannot start `{program}`: {error}")),
    }
}

fn wait(group: &mut Group, log: &mut LogFile, job: &Job) -> Result<Ended, StageError> {
    while !group.exit.within(TICK) {
        log.follow(job);
        if job.is_cancelled() {
            group.stop(GRACE);
            return Err(StageError::Cancelled);
        }
    }
    let status = group.reap().map_err(|e| StageError::Environment(format!("cannot wait for the command: {e}")))?;
    Ok(status.code().map_or_else(|| Ended::Signal(status.signal().unwrap_or(0)), Ended::Exit))
}

/// A child that leads its process group.
struct Group {
    child: Child,
    exit: ExitWatch,
}

impl Group {
    /// Asks the group to end, and ends it after `grace`.
    fn stop(&mut self, grace: Duration) {
        self.signal(libc::SIGTERM);
        let deadline = Instant::now() + grace;
        while Instant::now() < deadline && !self.exit.within(TICK) {}
        // Whether it went or not; an error would only say that nobody is left.
        let _ = self.reap();
    }

    /// Kills what is left of the group, then takes the child's status. In this order the group's number cannot have gone to
    /// somebody else: an unreaped leader holds it.
    fn reap(&mut self) -> io::Result<ExitStatus> {
        self.signal(libc::SIGKILL);
        // Ended but not reaped, the leader holds the number until the guard has forgotten it.
        while !self.exit.within(TICK) {}
        guard::forget(self.child.id());
        self.child.wait()
    }

    fn signal(&self, signal: i32) {
        if let Ok(group) = i32::try_from(self.child.id()) {
            // SAFETY: `killpg` takes two numbers and touches no memory of ours.
            unsafe { libc::killpg(group, signal) };
        }
    }
}

/// Tells when a child has ended, without reaping it.
enum ExitWatch {
    /// A descriptor that becomes readable (Linux 5.3).
    Descriptor(OwnedFd),
    /// The child's number, asked about from time to time.
    Number(u32),
}

impl ExitWatch {
    fn of(child: &Child) -> ExitWatch {
        #[cfg(target_os = "linux")]
        {
            // SAFETY: `pidfd_open` takes two numbers and returns a descriptor that nobody else owns, or -1.
            let raw = unsafe { libc::syscall(libc::SYS_pidfd_open, child.id(), 0) };
            if let Some(raw) = i32::try_from(raw).ok().filter(|raw| *raw >= 0) {
                // SAFETY: just opened, see above.
                return ExitWatch::Descriptor(unsafe { OwnedFd::from_raw_fd(raw) });
            }
        }
        ExitWatch::Number(child.id())
    }

    /// Waits at most `longest` and says whether the child has ended.
    fn within(&self, longest: Duration) -> bool {
        match self {
            ExitWatch::Descriptor(descriptor) => {
                let mut poll = libc::pollfd { fd: descriptor.as_raw_fd(), events: libc::POLLIN, revents: 0 };
                // SAFETY: one valid `pollfd`, and its count.
                unsafe { libc::poll(&mut poll, 1, longest.as_millis() as i32) > 0 }
            }
            ExitWatch::Number(id) => {
                has_ended(*id) || {
                    std::thread::sleep(longest.min(Duration::from_millis(5)));
                    has_ended(*id)
                }
            }
        }
    }
}

fn has_ended(id: u32) -> bool {
    // SAFETY: `siginfo_t` is plain data, for which zeroes are a value; `waitid` fills it in.
    unsafe {
        let mut info: libc::siginfo_t = std::mem::zeroed();
        let options = libc::WEXITED | libc::WNOWAIT | libc::WNOHANG;
        libc::waitid(libc::P_PID, id, &mut info, options) != 0 || info.si_signo == libc::SIGCHLD
    }
}

#[cfg(test)]
pub mod tests {
    use super::*;

    fn group(script: &str) -> Group {
        let child =
            Process::new("/bin/sh").args(["-c", script]).stdout(Stdio::piped()).process_group(0).spawn().unwrap();
        Group { exit: ExitWatch::of(&child), child }
    }

    /// Waits for a killed process to be gone: the kernel delivers the signal when the process next runs. A zombie counts.
    pub fn expect_gone(pid: &str) {
        let state = || std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let is_gone = || state().is_empty() || state().contains(") Z ");
        let deadline = Instant::now() + Duration::from_secs(20);
        while !is_gone() && Instant::now() < deadline {
            std::thread::yield_now();
        }
        assert!(is_gone(), "{}", state());
    }

    #[test]
    fn child_that_ignores_the_polite_signal_is_killed_with_its_children() {
        let mut group = group("trap '' TERM; sleep 1000 & echo $!; wait; wait");
        let mut line = String::new();
        let mut printed = io::BufReader::new(group.child.stdout.take().unwrap());
        io::BufRead::read_line(&mut printed, &mut line).unwrap();
        group.stop(Duration::from_millis(100));
        // The pipe closes when its last holder is gone.
        let mut rest = String::new();
        io::Read::read_to_string(&mut printed, &mut rest).unwrap();
        expect_gone(line.trim());
    }

    #[test]
    fn both_ways_of_watching_agree() {
        let mut group = group("exit 3");
        assert!(group.exit.within(Duration::from_secs(20)));
        assert!(has_ended(group.child.id()));
        assert_eq!(group.reap().unwrap().code(), Some(3));
    }
}
