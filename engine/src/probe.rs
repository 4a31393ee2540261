//! What a machine says about a program that a stage uses, for example its version: the one thing in a key that is read off
//! the machine, because the user asked for it.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read, Seek};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::fault::StageError;

/// Time that a probe has: a version is told in milliseconds, and `plan` waits for it.
const PATIENCE: Duration = Duration::from_secs(30);

/// Bytes of an answer that count.
const LONGEST: u64 = 1 << 20;

/// A question to a program.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Probe {
    /// What the user calls the program.
    pub tool: String,
    /// Program and arguments.
    pub argv: Vec<String>,
    /// `PATH` to find it on: the stage's own.
    pub path: OsString,
}

impl Probe {
    /// Asks, and returns what the program prints on both streams, without white space around it.
    ///
    /// # Errors
    /// Names the tool and the program when it cannot be started, fails, or does not end.
    pub fn answer(&self) -> Result<String, StageError> {
        let fail = |e: io::Error| self.fault(&format!("cannot start `{}`: {e}", self.program()));
        let home = tempfile::tempdir().map_err(fail)?;
        let mut printed = tempfile::tempfile_in(home.path()).map_err(fail)?;
        let child = self.command(home.path(), &printed).and_then(|mut command| command.spawn());
        let child = child.map_err(|e| match e.kind() {
            io::ErrorKind::NotFound => self.fault(&format!("there is no program `{}`", self.program())),
            _ => fail(e),
        })?;
        let status = wait(child).map_err(fail)?;
        let text = read(&mut printed).map_err(fail)?;
        match status {
            Some(status) if status.success() => Ok(text),
            Some(status) => {
                let first = text.lines().next().unwrap_or("it printed nothing");
                Err(self.fault(&format!("`{}` ended with {status}: {first}", self.argv.join(" "))))
            }
            None => {
                let seconds = PATIENCE.as_secs();
                Err(self.fault(&format!("`{}` did not end within {seconds} s", self.argv.join(" "))))
            }
        }
    }

    fn program(&self) -> &str {
        self.argv.first().map_or("", String::as_str)
    }

    fn command(&self, home: &std::path::Path, printed: &File) -> io::Result<Command> {
        let mut command = Command::new(self.program());
        command.args(self.argv.iter().skip(1)).current_dir(home).process_group(0);
        command.env_clear().env("PATH", &self.path).env("HOME", home).env("LANG", "C.UTF-8");
        command.stdin(Stdio::null()).stdout(printed.try_clone()?).stderr(printed.try_clone()?);
        Ok(command)
    }

    fn fault(&self, what: &str) -> StageError {
        StageError::Environment(format!(
            "`tools.{}`: {what}; install it, put its folder into `run.path`, or mend the probe",
            self.tool
        ))
    }
}

/// Waits for a child as long as patience lasts; `None` when it had to be killed.
fn wait(mut child: Child) -> io::Result<Option<ExitStatus>> {
    let deadline = Instant::now() + PATIENCE;
    while Instant::now() < deadline {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    if let Ok(group) = i32::try_from(child.id()) {
        // SAFETY: `killpg` takes two numbers; the leader is our child and not yet waited for.
        unsafe { libc::killpg(group, libc::SIGKILL) };
    }
    child.wait().map(|_| None)
}

fn read(printed: &mut File) -> io::Result<String> {
    let mut bytes = Vec::new();
    printed.rewind()?;
    printed.take(LONGEST).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).trim().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(argv: &[&str]) -> Result<String, StageError> {
        let argv = argv.iter().map(|word| word.to_string()).collect();
        Probe { tool: "shell".into(), argv, path: "/usr/bin:/bin".into() }.answer()
    }

    #[test]
    fn both_streams_are_the_answer_and_the_environment_is_sealed() {
        assert_eq!(answer(&["sh", "-c", "echo 1.2; echo $LANG$CARGO_PKG_NAME >&2"]).unwrap(), "1.2\nC.UTF-8");
    }

    #[test]
    fn a_probe_that_fails_names_tool_program_and_mend() {
        let missing = answer(&["no-such-program-here", "-V"]).unwrap_err();
        assert!(matches!(missing, StageError::Environment(_)));
        for word in ["`tools.shell`", "no program `no-such-program-here`", "`run.path`"] {
            assert!(missing.to_string().contains(word), "{missing}");
        }
        let failed = answer(&["sh", "-c", "echo bad option; exit 2"]).unwrap_err().to_string();
        assert!(failed.contains("exit status: 2: bad option"), "{failed}");
    }
}
