//! The terminal behind stdout: whether there is one, and its size.

use std::io::IsTerminal;

/// Columns where nothing says how many there are.
const COLUMNS: usize = 80;

/// Lines where nothing says how many there are.
const LINES: usize = 24;

/// Columns and lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size {
    /// Characters a line.
    pub columns: usize,
    /// Lines.
    pub lines: usize,
}

/// Says whether stdout is a terminal.
pub fn is_there() -> bool {
    std::io::stdout().is_terminal()
}

/// Returns the size of the terminal; without one what `COLUMNS` says, else 80.
pub fn size() -> Size {
    let asked = std::env::var("COLUMNS").ok().and_then(|text| text.parse().ok()).filter(|columns| *columns > 0);
    let found = is_there().then(ask).flatten();
    let columns = found.map(|size| size.columns).or(asked).unwrap_or(COLUMNS);
    Size { columns, lines: found.map_or(LINES, |size| size.lines) }
}

fn ask() -> Option<Size> {
    let mut size = libc::winsize { ws_row: 0, ws_col: 0, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: TIOCGWINSZ writes one `winsize` to the address given, which lives until the call returns.
    let answer = unsafe { libc::ioctl(libc::STDOUT_FILENO, libc::TIOCGWINSZ, &raw mut size) };
    let (columns, lines) = (usize::from(size.ws_col), usize::from(size.ws_row));
    (answer == 0 && columns > 0 && lines > 0).then_some(Size { columns, lines })
}
