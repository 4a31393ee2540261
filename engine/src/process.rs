//! Runs a job in a worker program and relays what it tells.

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::fault::StageError;
use crate::job::{Cancel, JobSpec, Sink};
use crate::worker::{BUILD, Line, Order, Own, PROTOCOL};

/// Time that a cancelled worker has to write its checkpoint.
const GRACE: Duration = Duration::from_secs(120);

/// Executes a job in `watershed-torch`; its stderr goes to `log`.
///
/// # Errors
/// What the job says; [`StageError::Environment`] when the program is missing or does not fit this engine.
pub fn run(spec: JobSpec, sink: &dyn Sink, cancel: &Cancel, log: &Path) -> Result<(), StageError> {
    let program = find_program()?;
    let mut child = spawn(&program, &spec, log)?;
    let (kind, version) = (spec.kind.clone(), spec.version);
    send(&mut child, spec);
    let stdout = child.stdout.take().expect("stdout was asked for as a pipe");
    let ended = AtomicBool::new(false);
    let said = std::thread::scope(|scope| {
        scope.spawn(|| end_when_cancelled(child.id() as i32, cancel, &ended));
        let said = listen(stdout, sink, (&kind, version), child.id() as i32);
        ended.store(true, Ordering::SeqCst);
        said
    });
    let status = child.wait().map_err(|e| StageError::Environment(format!("cannot wait for the worker: {e}")))?;
    said.unwrap_or_else(|| Err(abort(&program, status, cancel, log)))
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
    Command::new(program)
        .env("CUDA_VISIBLE_DEVICES", devices.join(","))
        .env("OMP_NUM_THREADS", &threads)
        .env("RAYON_NUM_THREADS", &threads)
        // By default OpenMP's threads spin while they wait, which on a busy machine takes the core that the thread they wait
        // for needs: measured at a load of 10 to 15 on 2 cores, training cost 25 CPU-seconds per 1000 tokens instead of 7.5.
        .env("OMP_WAIT_POLICY", "passive")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(File::create(log).map_err(fail)?)
        .process_group(0)
        .spawn()
        .map_err(fail)
}

fn send(child: &mut Child, spec: JobSpec) {
    let order = Order { protocol: PROTOCOL, build: BUILD.into(), spec };
    let mut text = serde_json::to_string(&order).expect("an order has no map keys that JSON lacks");
    text.push('\n');
    if let Some(mut stdin) = child.stdin.take() {
        // A worker that died at once closes the pipe; its exit status tells more than this write would.
        let _ = stdin.write_all(text.as_bytes());
    }
}

/// Relays lines until the worker says how it ended; `None` when it ended without a word.
fn listen(stdout: ChildStdout, sink: &dyn Sink, want: (&str, u32), pid: i32) -> Option<Result<(), StageError>> {
    for line in BufReader::new(stdout).lines().map_while(Result::ok) {
        match serde_json::from_str::<Line>(&line) {
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

fn end_when_cancelled(pid: i32, cancel: &Cancel, ended: &AtomicBool) {
    let mut asked: Option<Instant> = None;
    while !ended.load(Ordering::SeqCst) {
        match asked {
            None if cancel.is_cancelled() => {
                signal(pid, libc::SIGTERM);
                asked = Some(Instant::now());
            }
            Some(since) if since.elapsed() > GRACE => {
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
    let message = format!("`{}` ended with {status} without a result:\n{}", program.display(), tail.join("\n"));
    // 127 is the dynamic loader's: a library is missing, which no other input would mend.
    if status.code() == Some(127) { StageError::Environment(message) } else { StageError::Failed(message) }
}
