//! Writing to the terminal. A reader that closes the pipe (`| head`) ends the output, not the program.

use std::fmt::Display;
use std::io::{IsTerminal, Write};

use serde::Serialize;

/// Writes a line to stdout.
pub fn say(text: impl Display) {
    let _ = writeln!(std::io::stdout().lock(), "{text}");
}

/// Writes a line to stderr.
pub fn complain(text: impl Display) {
    let _ = writeln!(std::io::stderr().lock(), "{text}");
}

/// Writes one JSON document to stdout.
pub fn json(value: &impl Serialize) {
    say(serde_json::to_string(value).unwrap_or_else(|e| format!("{{\"error\":\"{e}\"}}")));
}

/// Writes what clap says and returns its exit code: 0 for help and version, 2 for a wrong command line.
pub fn usage(error: &clap::Error) -> i32 {
    let _ = error.print();
    error.exit_code()
}

/// Says whether stdout shows colours.
pub fn has_colour() -> bool {
    std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty())
}

/// Wraps text in an ANSI style when stdout shows colours.
pub fn styled(style: &str, text: &str) -> String {
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
