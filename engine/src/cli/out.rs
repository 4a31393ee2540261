//! Writing to stdout and stderr.
//!
//! A reader that closes the pipe (`| head`) ends the output, not the program. Output that is lost otherwise, on a full disk, is
//! told once, and the program ends as one whose machine failed. What people read passes [`clean`]: a name, a value or what a
//! stage printed may hold anything, and a terminal obeys it.

use std::borrow::Cow;
use std::fmt::Display;
use std::io::{self, ErrorKind, IsTerminal, Write};
use std::sync::atomic::{AtomicBool, Ordering};

use serde::Serialize;

/// Exit code of a machine that failed.
const ENVIRONMENT: i32 = 6;

/// The styles that [`styled`] knows, as their codes.
const STYLES: [&str; 9] = ["0", "1", "2", "31", "31;1", "32", "33", "33;1", "36"];

/// Whether some of stdout was lost.
static LOST: AtomicBool = AtomicBool::new(false);

/// Writes a line for people to stdout.
pub fn say(text: impl Display) {
    let text = text.to_string();
    raw(clean(&text, has_colour()));
}

/// Writes a line for programs to stdout, whatever is in it.
pub fn raw(text: impl Display) {
    copy(format!("{text}\n").as_bytes());
}

/// Writes bytes to stdout.
pub fn copy(bytes: &[u8]) {
    let mut stdout = io::stdout().lock();
    if let Err(error) = stdout.write_all(bytes).and_then(|()| stdout.flush()) {
        lose(&error);
    }
}

/// Writes a line for people to stderr.
pub fn complain(text: impl Display) {
    let _ = writeln!(io::stderr().lock(), "{}", clean(&text.to_string(), false));
}

/// Writes one JSON document to stdout.
pub fn json(value: &impl Serialize) {
    raw(serde_json::to_string(value).unwrap_or_else(|e| format!("{{\"error\":\"{e}\"}}")));
}

/// Writes what clap says and returns its exit code: 0 for help and version, 2 for a wrong command line.
pub fn usage(error: &clap::Error) -> i32 {
    if let Err(fault) = error.print() {
        lose(&fault);
    }
    error.exit_code()
}

/// Returns the exit code of a command that would end with `code`: another one if some of its stdout was lost.
pub fn ended(code: i32) -> i32 {
    // A wrong command line or pipeline, a damaged store and signals are told by the code, whoever reads the words.
    let told = matches!(code, 2..=4 | 128..);
    if LOST.load(Ordering::Relaxed) && !told { ENVIRONMENT } else { code }
}

/// Notes that some of stdout was lost; nobody misses what a closed pipe did not take.
fn lose(error: &io::Error) {
    if error.kind() != ErrorKind::BrokenPipe && !LOST.swap(true, Ordering::Relaxed) {
        complain(format!("error: cannot write to stdout: {error}"));
    }
}

/// Returns text without what a terminal would obey: line breaks and tabs stay, and our own colours where there are some.
fn clean(text: &str, colours: bool) -> Cow<'_, str> {
    if text.chars().all(|c| visible(c) == c || matches!(c, '\n' | '\t')) {
        return text.into();
    }
    let (mut cleaned, mut rest) = (String::with_capacity(text.len()), text);
    while let Some(first) = rest.chars().next() {
        if let Some(style) = own_style(rest).filter(|_| colours) {
            cleaned.push_str(style);
            rest = &rest[style.len()..];
            continue;
        }
        match first {
            '\r' if rest.starts_with("\r\n") => {}
            '\n' | '\t' => cleaned.push(first),
            _ => cleaned.push(visible(first)),
        }
        rest = &rest[first.len_utf8()..];
    }
    cleaned.into()
}

/// Returns the code of [`styled`] at the beginning of a text.
fn own_style(text: &str) -> Option<&str> {
    let (code, _) = text.strip_prefix("\x1b[")?.split_once('m')?;
    STYLES.contains(&code).then(|| &text[..code.len() + 3])
}

/// Returns a character as a terminal may show it: a sign instead of an escape, a line break or a mark that turns the direction.
pub fn visible(c: char) -> char {
    let turns = matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    if c.is_control() || turns { '\u{fffd}' } else { c }
}

/// Says whether stdout shows colours.
pub fn has_colour() -> bool {
    io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty())
}

/// Wraps text in an ANSI style when stdout shows colours.
pub fn styled(style: &str, text: &str) -> String {
    debug_assert!(STYLES.contains(&style), "`clean` knows no style {style}");
    if has_colour() { format!("\x1b[{style}m{text}\x1b[0m") } else { text.to_string() }
}

/// Returns a duration as people say it.
pub fn duration(ms: u64) -> String {
    match ms {
        0..1_000 => format!("{ms} ms"),
        1_000..60_000 => format!("{:.1} s", ms as f64 / 1000.0),
        60_000..3_600_000 => format!("{}m{:02}s", ms / 60_000, ms / 1000 % 60),
        _ => format!("{}h{:02}m", ms / 3_600_000, ms / 60_000 % 60),
    }
}

/// Returns a number of bytes as people say it.
pub fn bytes(count: u64) -> String {
    const UNITS: [&str; 4] = ["KiB", "MiB", "GiB", "TiB"];
    let mut value = count as f64 / 1024.0;
    if count < 1024 {
        return format!("{count} B");
    }
    let mut unit = 0;
    while value >= 1023.95 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    format!("{value:.1} {}", UNITS[unit])
}

/// Lays rows out in columns two spaces apart; numbers to the right, if every cell below the head is one.
pub fn table(head: &[String], rows: &[Vec<String>]) -> String {
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|r| r.get(column)).chain(head.get(column));
        cells.map(|c| c.chars().count()).max().unwrap_or(0)
    };
    let numeric = |column: usize| {
        let mut cells = rows.iter().filter_map(|r| r.get(column)).filter(|c| !c.is_empty() && *c != "-").peekable();
        cells.peek().is_some()
            && cells.all(|c| {
                let mean = c.split(" ±").next().unwrap_or(c);
                mean.trim_end_matches(['*', '%']).parse::<f64>().is_ok()
            })
    };
    let columns: Vec<(usize, bool)> = (0..head.len()).map(|c| (width(c), numeric(c))).collect();
    let line = |cells: &[String]| {
        let padded = columns.iter().zip(cells).map(|((width, numeric), cell)| {
            let gap = " ".repeat(width - cell.chars().count());
            let cell: String = cell.chars().map(visible).collect();
            if *numeric { format!("{gap}{cell}") } else { format!("{cell}{gap}") }
        });
        padded.collect::<Vec<_>>().join("  ").trim_end().to_string()
    };
    std::iter::once(line(head)).chain(rows.iter().map(|r| line(r))).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_stand_to_the_right() {
        let cells = |c: &[&str]| c.iter().map(|s| s.to_string()).collect::<Vec<_>>();
        let text = table(&cells(&["case", "lr"]), &[cells(&["a", "1.5"]), cells(&["bbbbb", "10"])]);
        assert_eq!(text, "case    lr\na      1.5\nbbbbb   10");
    }

    #[test]
    fn what_a_terminal_would_obey_is_shown_and_our_colours_survive() {
        let evil = "a\x1b]0;title\x07\x1b[2J\u{9b}31m\rb\r\n\tc\u{202e}";
        assert_eq!(clean(evil, true), "a\u{fffd}]0;title\u{fffd}\u{fffd}[2J\u{fffd}31m\u{fffd}b\n\tc\u{fffd}");
        let ours = "\x1b[33;1mrun\x1b[0m é";
        assert_eq!((clean(ours, true), clean(ours, false)), (ours.into(), "\u{fffd}[33;1mrun\u{fffd}[0m é".into()));
        assert_eq!(clean("\x1b[8mhidden", true), "\u{fffd}[8mhidden");
        assert_eq!(table(&["a".to_string()], &[vec!["1\n2".to_string()]]), "a\n1\u{fffd}2");
    }

    #[test]
    fn sizes_read_as_people_say_them() {
        assert_eq!(
            [bytes(12), bytes(1536), bytes((1 << 20) - 1), bytes(3 << 30)],
            ["12 B", "1.5 KiB", "1.0 MiB", "3.0 GiB"]
        );
    }

    #[test]
    fn durations_read_as_people_say_them() {
        assert_eq!(
            [duration(12), duration(1500), duration(61_000), duration(3_660_000)],
            ["12 ms", "1.5 s", "1m01s", "1h01m"]
        );
    }
}
