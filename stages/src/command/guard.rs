//! A shell that outlives the engine by a moment, to end what a killed engine leaves behind.
//!
//! It reads from a pipe that only the engine can write to: `+ GROUP` when a process group starts, `- GROUP` before its leader
//! is reaped. When the pipe ends while groups are still noted, the engine has died without ending them (`kill -9`, out of
//! memory), and the guard kills them, grandchildren included; `PR_SET_PDEATHSIG` would reach the child alone. One guard
//! serves all commands of a process and starts with the first. A kill in the microseconds between the start of a child
//! and its note is not seen.

use std::io::Write;
use std::os::unix::process::CommandExt;
use std::process::{ChildStdin, Command, Stdio};
use std::sync::{Mutex, OnceLock, PoisonError};

/// Keeps the numbers of the groups in `$live`, with spaces around each.
const SCRIPT: &str = r#"live=' '
while read -r sign group; do
  case "$sign$live" in
    +*) live="$live$group " ;;
    -*" $group "*) live="${live%% $group *} ${live#* $group }" ;;
  esac
done
for group in $live; do kill -9 "-$group" 2>/dev/null; done"#;

static GUARD: OnceLock<Mutex<Option<ChildStdin>>> = OnceLock::new();

/// Starts the guard if there is none yet: before a child starts, or a kill while the guard itself starts is not seen.
pub fn ready() {
    GUARD.get_or_init(|| Mutex::new(start()));
}

/// Notes a group that has started.
pub fn watch(group: u32) {
    tell('+', group);
}

/// Forgets a group; its leader must not be reaped yet, or the number might be somebody else's.
pub fn forget(group: u32) {
    tell('-', group);
}

/// Without a guard a command runs all the same: it is missed only after a kill.
fn tell(sign: char, group: u32) {
    let guard = GUARD.get_or_init(|| Mutex::new(start()));
    if let Some(pipe) = guard.lock().unwrap_or_else(PoisonError::into_inner).as_mut() {
        let _ = pipe.write_all(format!("{sign} {group}\n").as_bytes());
    }
}

/// The guard leads a group of its own, so that no signal to the engine's reaches it. Nobody waits for it: it ends after us.
fn start() -> Option<ChildStdin> {
    let mut command = Command::new("/bin/sh");
    command.args(["-c", SCRIPT]).env_clear().current_dir("/").process_group(0);
    command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
    command.spawn().ok()?.stdin
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::child::tests::expect_gone;

    #[test]
    fn guard_kills_the_groups_that_were_not_forgotten() {
        let mut pipe = start().unwrap();
        let sleeper = || Command::new("sleep").arg("1000").process_group(0).spawn().unwrap();
        let mut children = [sleeper(), sleeper(), sleeper()];
        let [first, kept, last] = children.each_ref().map(|child| child.id());
        for group in [first, kept, last] {
            writeln!(pipe, "+ {group}").unwrap();
        }
        writeln!(pipe, "- {kept}").unwrap();
        drop(pipe);
        expect_gone(&first.to_string());
        expect_gone(&last.to_string());
        assert!(children[1].try_wait().unwrap().is_none(), "the forgotten group lives");
        for child in &mut children {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }
}
