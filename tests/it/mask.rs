//! Output with what differs from run to run masked, so that a test can compare the exact text.

/// Returns text with the ids of runs as `RUN` and durations as `T`.
pub fn masked(text: &str) -> String {
    let lines = text.lines().map(|line| {
        let words: Vec<&str> = line.split(' ').collect();
        let mut out: Vec<String> = Vec::new();
        for (index, word) in words.iter().enumerate() {
            let unit = words.get(index + 1).map(|unit| unit.trim_end_matches([':', ',']));
            match word {
                _ if is_number(word) && matches!(unit, Some("ms" | "s")) => out.push("T".into()),
                &"ms" | &"s" if out.last().is_some_and(|last| last == "T") => {}
                _ => out.push(run_masked(word)),
            }
        }
        out.join(" ")
    });
    lines.collect::<Vec<_>>().join("\n")
}

fn is_number(word: &str) -> bool {
    word.parse::<f64>().is_ok()
}

/// An id is `20261126-072553-174-04432`, maybe with `@CASE` behind it.
fn run_masked(word: &str) -> String {
    if let Some(quoted) = word.strip_prefix('`') {
        return format!("`{}", run_masked(quoted));
    }
    let (id, rest) = word.split_at(word.find(['@', ':', '`', ',']).unwrap_or(word.len()));
    let parts: Vec<&str> = id.split('-').collect();
    let digits = parts.iter().all(|part| part.bytes().all(|b| b.is_ascii_digit()));
    // The last part is a process, of five digits or more.
    let lengths: Vec<usize> = parts.iter().map(|part| part.len()).collect();
    let is_id = digits && matches!(lengths[..], [8, 6, 3, process] if process >= 5);
    if is_id { format!("RUN{rest}") } else { word.to_string() }
}
