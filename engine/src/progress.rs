//! A run as it goes, for people: a line for each stage that ends, and on a terminal a live line for what runs.

use std::collections::BTreeMap;
use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

use crate::cli::out;
use crate::event::{self, Event, Reason};
use crate::reason;
use crate::runlog::Entry;
use crate::verdict::Verdict;

/// Seconds between progress lines where there is no terminal.
const PACE_S: f64 = 10.0;

/// How far a running stage is.
#[derive(Default)]
struct Note {
    text: String,
    /// When it had first done something, and how much: a stage may resume, and its first step may be slow to come.
    first: Option<(Instant, u64)>,
    /// What it had done last, and of how much.
    last: (u64, u64),
}

impl Note {
    /// Takes what is done of `total` and returns how long the rest takes, where there is a pace. A stage that counts anew has a
    /// new one.
    fn left(&mut self, done: u64, total: u64) -> String {
        if done < self.last.0 || total != self.last.1 {
            self.first = None;
        }
        self.last = (done, total);
        if done == 0 {
            return String::new();
        }
        let (since, before) = *self.first.get_or_insert_with(|| (Instant::now(), done));
        time_left(since.elapsed(), done - before, total.saturating_sub(done))
    }
}

/// Shows the lines of a run log as they come.
pub struct Progress {
    quiet: bool,
    live: bool,
    notes: BTreeMap<String, Note>,
    told: Instant,
    hits: usize,
}

impl Progress {
    /// Returns a display; `quiet` shows failures only.
    pub fn new(quiet: bool) -> Progress {
        let live = !quiet && std::io::stderr().is_terminal();
        Progress { quiet, live, notes: BTreeMap::new(), told: Instant::now(), hits: 0 }
    }

    /// Shows one line of the log.
    pub fn show(&mut self, entry: &Entry) {
        match &entry.event {
            Event::StageStarted { stage, case, reasons, .. } => {
                self.notes.insert(title(stage, case.as_ref()), Note::default());
                self.line(format!("  start  {}{}", title(stage, case.as_ref()), because(reasons)));
            }
            Event::Progress { stage, case, done, total, unit, note } => {
                let kept = self.notes.entry(title(stage, case.as_ref())).or_default();
                let left = kept.left(*done, *total);
                kept.text = event::progress(*done, *total, unit, note) + &left;
                self.tell_progress();
            }
            Event::Log { stage, case, level, text } if level != "info" || is_worth_telling(text) => {
                let word = if level == "warn" { "warning: " } else { "" };
                self.line(format!("         {}: {word}{text}", title(stage, case.as_ref())));
            }
            Event::StageFinished { .. } => self.finished(&entry.event),
            Event::DeterminismChecked { .. } => self.checked(&entry.event),
            Event::Expectation(verdict) => {
                if let Some(text) = verdict_text(verdict) {
                    self.always(text, !verdict.held);
                }
            }
            Event::RunFinished { run, outcome, ran, hit, failed, skipped, wall_ms } => {
                self.clear();
                let counts = format!("{ran} ran, {hit} in the store, {failed} failed, {skipped} skipped");
                self.line(format!("{outcome}: {counts}, {} (run {run})", seconds(*wall_ms)));
            }
            _ => {}
        }
    }

    fn finished(&mut self, event: &Event) {
        let Event::StageFinished { stage, case, outcome, wall_ms, error, cases, .. } = event else { return };
        let name = title(stage, case.as_ref());
        self.notes.remove(&name);
        match (outcome.as_str(), error) {
            ("hit", _) => self.hits += 1,
            ("ran", _) => {
                let shared = if cases.len() > 1 { format!(", for {} cases", cases.len()) } else { String::new() };
                self.line(format!("  ran    {name}  {}{shared}", seconds(*wall_ms)));
            }
            (other, Some(error)) => self.always(format!("  {other:6} {name}: {error}"), other == "failed"),
            _ => {}
        }
    }

    fn checked(&mut self, event: &Event) {
        let Event::DeterminismChecked { stage, case, outcome, wall_ms, error, .. } = event else { return };
        let Event::DeterminismChecked { reproducible, as_stored, difference, .. } = event else { return };
        let stored = match as_stored {
            Some(true) => ", as in the store",
            Some(false) => ", but the store holds other bytes",
            None => "",
        };
        let found = match (difference, error) {
            (Some(difference), _) => format!("{difference}{stored}"),
            (None, Some(error)) => error.clone(),
            (None, None) => format!("twice the same bytes{stored}"),
        };
        let declared = format!("reproducible: {}", reproducible.name());
        let (name, wall) = (title(stage, case.as_ref()), seconds(*wall_ms));
        let bad = matches!(outcome.as_str(), "differs" | "failed");
        self.always(format!("  {outcome:7} {name}: {found} ({declared}, {wall})"), bad);
    }

    fn line(&mut self, text: String) {
        self.always(text, false);
    }

    fn always(&mut self, text: String, even_quiet: bool) {
        if self.quiet && !even_quiet {
            return;
        }
        self.clear();
        if even_quiet {
            out::complain(text)
        } else {
            out::say(text)
        }
        self.draw();
    }

    fn tell_progress(&mut self) {
        let pace = if self.live { 0.1 } else { PACE_S };
        if self.quiet || self.told.elapsed().as_secs_f64() < pace {
            return;
        }
        self.told = Instant::now();
        if self.live {
            self.clear();
            self.draw();
        } else {
            out::say(format!("         {}", self.now()));
        }
    }

    fn now(&self) -> String {
        let parts: Vec<String> = self.notes.iter().map(|(name, note)| format!("{name} {}", note.text)).collect();
        parts.join(" | ")
    }

    fn draw(&self) {
        if self.live && !self.notes.is_empty() {
            let text: String = self.now().chars().take(100).map(out::visible).collect();
            let _ = write!(std::io::stderr().lock(), "\r  {text}").and_then(|()| std::io::stderr().flush());
        }
    }

    fn clear(&self) {
        if self.live {
            let _ = write!(std::io::stderr().lock(), "\r\x1b[2K");
        }
    }
}

/// Tells a line of `expect:` that was compared while nothing ran.
pub fn tell_verdict(verdict: &Verdict) {
    match verdict_text(verdict) {
        Some(text) if verdict.held => out::say(text),
        Some(text) => out::complain(text),
        None => {}
    }
}

/// In a sweep of thousands only what was missed is worth a line; `show` counts the rest.
fn verdict_text(verdict: &Verdict) -> Option<String> {
    let is_worth_a_line = !verdict.held || verdict.cases.is_empty();
    is_worth_a_line.then(|| format!("  expect {}: {}", verdict.subject(), verdict.finding()))
}

/// Returns how long so much more takes at the pace so far, where there is one.
fn time_left(elapsed: Duration, done: u64, more: u64) -> String {
    if done == 0 || more == 0 {
        return String::new();
    }
    let seconds = (elapsed.as_secs_f64() * more as f64 / done as f64).max(1.0);
    format!(", {} left", out::duration(seconds as u64 * 1000))
}

/// Says whether the engine itself logged a line that explains what people see: what comes, or why nothing does.
fn is_worth_telling(text: &str) -> bool {
    ["preview:", "waits for another process"].iter().any(|begin| text.starts_with(begin))
}

fn title(stage: &str, case: Option<&String>) -> String {
    case.map_or_else(|| stage.to_string(), |c| format!("{stage}@{c}"))
}

fn because(reasons: &[Reason]) -> String {
    if reasons.is_empty() { String::new() } else { format!("  ({})", reason::told(reasons)) }
}

fn seconds(ms: u64) -> String {
    if ms < 1000 { format!("{ms} ms") } else { format!("{:.1} s", ms as f64 / 1000.0) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_left_is_told_once_there_is_a_pace() {
        assert_eq!(time_left(Duration::from_secs(9), 0, 7), "");
        assert_eq!(time_left(Duration::from_secs(600), 10, 5), ", 5m00s left");
        assert_eq!(time_left(Duration::from_secs(600), 10, 0), "");
        // bytes, many a millisecond
        assert_eq!(time_left(Duration::from_secs(10), 20_000_000, 40_000_000), ", 20.0 s left");
        let mut note = Note::default();
        assert!([(0, 9), (3, 9)].into_iter().all(|(done, total)| note.left(done, total).is_empty()));
        assert_eq!(note.left(4, 9), ", 1.0 s left");
        assert!(note.left(1, 9).is_empty() && note.left(2, 5).is_empty(), "it counts anew");
    }
}
