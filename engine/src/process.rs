//! Runs a job in a worker program and relays what it tells.

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::cancel::Cancel;
use crate::fault::StageError;
use crate::job::{JobSpec, Sink};
use crate::signal::end_with_parent;
use crate::worker::{BUILD, Line, Order, Own, PROTOCOL};

/// What ends a program that way, where nobody has asked for it.
const KILLED: &str = ", as the system ends what needs more memory than there is: give the stage less to do at once (its `run:` \
keys), or run fewer at a time (`--jobs`), and run again: a stage with a checkpoint goes on from there";

/// Time that a cancelled worker has to write its checkpoint.
const GRACE: Duration = Duration::from_secs(120);

/// Executes a job in `watershed-torch`; its stderr goes to `log`.
///
/// # Errors
/// What the job says; [`StageError::Environment`] when the program is missing or does not fit this engine.
pub fn run(spec: JobSpec, sink: &dyn Sink, cancel: &Cancel, log: &Path) -> Result<(), StageError> {
    run_program(&find_program()?, GRACE, spec, sink, cancel, log)
}

fn run_program(
    program: &Path,
    grace: Duration,
    spec: JobSpec,
    sink: &dyn Sink,
    cancel: &Cancel,
    log: &Path,
) -> Result<(), StageError> {
    let mut child = spawn(program, &spec, log)?;
    let (kind, version, pid) = (spec.kind.clone(), spec.version, child.id() as i32);
    let stdin = child.stdin.take().expect("stdin was asked for as a pipe");
    let stdout = child.stdout.take().expect("stdout was asked for as a pipe");
    let ended = AtomicBool::new(false);
    let said = std::thread::scope(|scope| {
        scope.spawn(|| end_when_cancelled(pid, grace, cancel, &ended));
        send(stdin, spec);
        let said = listen(stdout, sink, (&kind, version), pid);
        ended.store(true, Ordering::SeqCst);
        said
    });
    // It has nothing more to say. Nobody of its group may outlive it and write into what is published; until the worker is
    // waited for, the group's number is nobody else's.
    signal(-pid, libc::SIGKILL);
    let status = child.wait().map_err(|e| StageError::Environment(format!("cannot wait for the worker: {e}")))?;
    said.unwrap_or_else(|| Err(abort(program, status, cancel, log)))
}

/// Returns the program beside this one, else the one that `WATERSHED_TORCH` names.
fn find_program() -> Result<PathBuf, StageError> {
    let beside = std::env::current_exe().ok().and_then(|p| Some(p.parent()?.join("watershed-torch")));
    let named = std::env::var_os("WATERSHED_TORCH").map(PathBuf::from);
    [beside, named].into_iter().flatten().find(|p| p.is_file()).ok_or_else(|| {
        StageError::Environment(
            "this stage needs the program `watershed-torch`, which is neither beside `watershed` nor named by \
             WATERSHED_TORCH; build it with `cargo build --release -p watershed-torch`"
                .into(),
        )
    })
}

/// What the program for heavy kinds says of itself.
pub struct Greeting {
    /// Where it lies.
    pub program: PathBuf,
    /// Whether it is of the same build as this program.
    pub fits: bool,
}

/// Starts the program for heavy kinds without an order, to see whether it can start.
///
/// # Errors
/// When it is not there, or ends without a word: a library is missing, for example.
pub fn greet() -> Result<Greeting, StageError> {
    let program = find_program()?;
    let output = Command::new(&program).stdin(Stdio::null()).output();
    let output = output.map_err(|e| StageError::io("start", &program, &e))?;
    let hello = String::from_utf8_lossy(&output.stdout).lines().find_map(|line| serde_json::from_str(line).ok());
    match hello {
        Some(Own::Hello { protocol, build, .. }) => {
            Ok(Greeting { fits: protocol == PROTOCOL && build == BUILD, program })
        }
        _ => {
            let words = String::from_utf8_lossy(&output.stderr);
            let words = words.lines().next().unwrap_or("it said nothing");
            Err(StageError::Environment(format!("`{}` does not start: {words}", program.display())))
        }
    }
}

fn spawn(program: &Path, spec: &JobSpec, log: &Path) -> Result<Child, StageError> {
    let fail = |e: std::io::Error| StageError::Environment(format!("cannot start `{}`: {e}", program.display()));
    let devices: Vec<String> = spec.limits.gpus.iter().map(u32::to_string).collect();
    let threads = spec.limits.cpus.to_string();
    let mut command = Command::new(program);
    command
        .env("CUDA_VISIBLE_DEVICES", devices.join(","))
        .env("OMP_NUM_THREADS", &threads)
        .env("RAYON_NUM_THREADS", &threads)
        // By default OpenMP's threads spin while they wait, which on a busy machine takes the core that the thread they wait
        // for needs: measured at a load of 10 to 15 on 2 cores, training cost 25 CPU-seconds per 1000 tokens instead of 7.5.
        .env("OMP_WAIT_POLICY", "passive")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(File::create(log).map_err(fail)?)
        .process_group(0);
    end_with_parent(&mut command);
    command.spawn().map_err(fail)
}

fn send(mut stdin: ChildStdin, spec: JobSpec) {
    let order = Order { protocol: PROTOCOL, build: BUILD.into(), spec };
    let mut text = serde_json::to_string(&order).expect("an order has no map keys that JSON lacks");
    text.push('\n');
    // A worker that died at once closes the pipe; its exit status tells more than this write would.
    let _ = stdin.write_all(text.as_bytes());
}

/// Relays lines until the worker says how it ended; `None` when it ended without a word.
fn listen(stdout: ChildStdout, sink: &dyn Sink, want: (&str, u32), pid: i32) -> Option<Result<(), StageError>> {
    for line in BufReader::new(stdout).split(b'\n').map_while(Result::ok) {
        match serde_json::from_slice::<Line>(&line) {
            Ok(Line::Job(event)) => sink.emit(event),
            Ok(Line::Own(Own::Done)) => return Some(Ok(())),
            Ok(Line::Own(Own::Error { class, message })) => return Some(Err(Own::to_error(&class, message))),
            Ok(Line::Own(Own::Hello { protocol, build, kinds })) => {
                let knows = kinds.iter().any(|(k, v)| (k.as_str(), *v) == want);
                if protocol != PROTOCOL || build != BUILD || !knows {
                    signal(pid, libc::SIGKILL);
                    return Some(Err(StageError::Environment(format!(
                        "`watershed-torch` is another build ({build}, protocol {protocol}) than this program ({BUILD}, \
                         protocol {PROTOCOL}) or does not know `{}` version {}; build both together",
                        want.0, want.1
                    ))));
                }
            }
            Err(_) => {}
        }
    }
    None
}

fn end_when_cancelled(pid: i32, grace: Duration, cancel: &Cancel, ended: &AtomicBool) {
    let mut asked: Option<Instant> = None;
    while !ended.load(Ordering::SeqCst) {
        match asked {
            None if cancel.is_cancelled() => {
                signal(pid, libc::SIGTERM);
                asked = Some(Instant::now());
            }
            Some(since) if since.elapsed() > grace => {
                signal(-pid, libc::SIGKILL);
                return;
            }
            _ => std::thread::sleep(Duration::from_millis(20)),
        }
    }
}

fn signal(pid: i32, number: libc::c_int) {
    // SAFETY: kill takes two integers; the process is our child and not yet waited for.
    unsafe { libc::kill(pid, number) };
}

fn abort(program: &Path, status: std::process::ExitStatus, cancel: &Cancel, log: &Path) -> StageError {
    if cancel.is_cancelled() {
        return StageError::Cancelled;
    }
    let text = std::fs::read_to_string(log).unwrap_or_default();
    let tail: Vec<&str> = text.lines().rev().take(12).collect();
    let tail: Vec<&str> = tail.into_iter().rev().collect();
    let (program, tail) = (program.display(), tail.join("\n"));
    let cause = if status.signal() == Some(libc::SIGKILL) { KILLED } else { "" };
    let message = format!("`{program}` ended with {status} without a result{cause}:\n{tail}")
        .trim_end_matches([':', '\n'])
        .to_string();
    // 127 is the dynamic loader's: a library is missing, which no other input would mend.
    if status.code() == Some(127) { StageError::Environment(message) } else { StageError::Failed(message) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::Silent;

    /// A program that greets as a worker does, reads its order, and then does what `script` says.
    fn worker(folder: &Path, script: &str) -> PathBuf {
        let hello = Own::Hello { protocol: PROTOCOL, build: BUILD.into(), kinds: vec![("work".into(), 1)] };
        let path = folder.join("worker");
        let text = format!("#!/bin/sh\necho '{}'\nread -r order\n{script}\n", serde_json::to_string(&hello).unwrap());
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        path
    }

    fn run(script: &str, cancel: &Cancel) -> (Result<(), StageError>, tempfile::TempDir) {
        let folder = tempfile::tempdir().unwrap();
        let spec = JobSpec { kind: "work".into(), version: 1, ..JobSpec::default() };
        let script = format!("cd {}\n{script}", folder.path().display());
        let (program, log) = (worker(folder.path(), &script), folder.path().join("log"));
        (run_program(&program, Duration::from_millis(100), spec, &Silent, cancel, &log), folder)
    }

    /// Waits until a killed process is gone; one that nobody waits for stays as a zombie where init does not.
    fn expect_gone(folder: &Path) {
        let pid = std::fs::read_to_string(folder.join("pid")).unwrap();
        let state = || std::fs::read_to_string(format!("/proc/{}/stat", pid.trim())).unwrap_or_default();
        let begun = Instant::now();
        while !state().is_empty() && !state().contains(") Z ") {
            assert!(begun.elapsed() < Duration::from_secs(20), "{}", state());
            std::thread::yield_now();
        }
    }

    #[test]
    fn a_worker_that_ignores_the_polite_signal_is_killed_with_its_children() {
        let cancel = Cancel::default().within(Some(Duration::from_millis(300)));
        let (result, folder) = run("trap '' TERM; sleep 1000 & echo $! > pid; wait; wait", &cancel);
        assert!(matches!(result, Err(StageError::Cancelled)), "{result:?}");
        expect_gone(folder.path());
    }

    #[test]
    fn a_worker_that_does_not_read_its_order_is_ended_too() {
        let folder = tempfile::tempdir().unwrap();
        let (program, log) = (worker(folder.path(), ""), folder.path().join("log"));
        std::fs::write(&program, "#!/bin/sh\nexec sleep 1000\n").unwrap();
        let params = serde_json::Value::from("more than a pipe holds ".repeat(1 << 14));
        let spec = JobSpec { kind: "work".into(), version: 1, params, ..JobSpec::default() };
        let cancel = Cancel::default().within(Some(Duration::from_millis(300)));
        let result = run_program(&program, Duration::from_millis(100), spec, &Silent, &cancel, &log);
        assert!(matches!(result, Err(StageError::Cancelled)), "{result:?}");
    }

    #[test]
    fn a_line_that_is_no_text_is_passed_over() {
        let (result, _) = run("printf '\\377\\n'; echo '{\"worker\": \"done\"}'", &Cancel::default());
        assert!(result.is_ok(), "{result:?}");
    }

    #[test]
    fn no_child_outlives_a_worker_that_is_done() {
        let (result, folder) =
            run("sleep 1000 >&- 2>&- & echo $! > pid; echo '{\"worker\": \"done\"}'", &Cancel::default());
        assert!(result.is_ok(), "{result:?}");
        expect_gone(folder.path());
    }

    #[test]
    fn a_worker_that_dies_fails_its_stage_with_the_end_of_its_log() {
        for (death, status) in
            [("kill -9 $$", "signal: 9"), ("kill -ABRT $$", "signal: 6"), ("exit 3", "exit status: 3")]
        {
            let (result, _) = run(&format!("echo 'out of memory' >&2; {death}"), &Cancel::default());
            let Err(StageError::Failed(text)) = result else { panic!("{death}: {result:?}") };
            assert!(text.contains(status) && text.ends_with(":\nout of memory"), "{death}: {text}");
            assert_eq!(text.contains("more memory than there is"), status == "signal: 9", "{death}: {text}");
        }
        let (result, _) = run("exit 127", &Cancel::default());
        assert!(matches!(result, Err(StageError::Environment(_))), "{result:?}");
    }
}
