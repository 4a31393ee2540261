//! `show --watch`: the run again whenever its log has grown, until it ends.
//!
//! On a terminal each picture is written over the last one in a single write, line by line, so nothing flickers. The cursor
//! stays shown and no mode of the terminal is changed: whatever ends the program leaves it as it was.

use std::time::{Duration, Instant};

use crate::cli::pick::Picked;
use crate::cli::{columns, out, terminal};
use crate::runlog;

/// How often the log is looked at.
const TICK: Duration = Duration::from_millis(200);

/// Least time between two pictures where they are written below each other.
const PACE: Duration = Duration::from_secs(2);

/// Shows what `view` makes of the run until it ends; `put` writes it where there is no terminal.
///
/// # Errors
/// When the log can no longer be read, or what `view` says.
pub fn watch(
    picked: &mut Picked,
    put: fn(&str),
    view: &mut dyn FnMut(&Picked) -> Result<String, String>,
) -> Result<(), String> {
    let mut screen = Screen { live: terminal::is_there(), put, lines: 0, last: String::new() };
    let (mut read, mut shown, mut told) = (0, None, Instant::now());
    while picked.run.outcome == "running" {
        let due = screen.live || shown.is_none() || told.elapsed() >= PACE;
        if shown != Some(read) && due {
            (shown, told) = (Some(read), Instant::now());
            screen.draw(&view(picked)?);
        }
        std::thread::sleep(TICK);
        if runlog::size(&picked.folder) != read || !runlog::is_live(&picked.folder) {
            read = runlog::size(&picked.folder);
            picked.read_again()?;
        }
    }
    screen.finish(&view(picked)?);
    Ok(())
}

/// What is on the screen.
struct Screen {
    live: bool,
    put: fn(&str),
    lines: usize,
    last: String,
}

impl Screen {
    /// Writes a picture over the last one, cut to the screen; without a terminal below it, if it differs.
    fn draw(&mut self, text: &str) {
        if !self.live {
            if self.last != text {
                (self.put)(&format!("{text}\n"));
                self.last = text.to_string();
            }
            return;
        }
        let size = terminal::size();
        let all = text.lines().count();
        let shown = if all < size.lines { all } else { size.lines.saturating_sub(2) };
        let mut lines: Vec<String> = text.lines().take(shown).map(|line| columns::cut(line, size.columns)).collect();
        if shown < all {
            lines.push(format!("… and {} more lines", all - shown));
        }
        self.over(&lines);
        self.lines = lines.len();
    }

    /// Writes the last picture, whole.
    fn finish(&mut self, text: &str) {
        match self.live {
            true => self.over(&text.lines().map(|line| columns::cut(line, usize::MAX)).collect::<Vec<_>>()),
            false => (self.put)(text),
        }
    }

    fn over(&self, lines: &[String]) {
        let up = if self.lines > 0 { format!("\x1b[{}A\r", self.lines) } else { String::new() };
        let body: String = lines.iter().map(|line| format!("{line}\x1b[K\n")).collect();
        out::copy(format!("{up}{body}\x1b[J").as_bytes());
    }
}
