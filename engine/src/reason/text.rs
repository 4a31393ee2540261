//! How a reason tells two values: on one line, and short.
//!
//! A script of thirty lines in which one word changed is told by that word's line. The values themselves stay whole in the
//! [`crate::event::Reason`], for programs.

use serde_json::Value;

use super::shown;

/// Characters of a value that are told.
const LONGEST: usize = 60;

/// Characters told before the first difference of long values.
const BEFORE: usize = 20;

/// Returns `old -> new`; of texts with line breaks `line 3: old -> new`, the first line that differs.
pub fn change(old: &Value, new: &Value) -> String {
    let (Value::String(was), Value::String(is)) = (old, new) else { return arrow(&one_line(old), &one_line(new)) };
    if !was.contains('\n') && !is.contains('\n') {
        return arrow(&shown(old), &shown(new));
    }
    match first_difference(was, is) {
        Some((line, text)) => format!("line {line}: {text}"),
        None => "differs in its line ends".into(),
    }
}

/// Returns the number of the first line that differs, from 1, and `old -> new` of it; `None` where only line ends differ.
pub fn first_difference(old: &str, new: &str) -> Option<(usize, String)> {
    let (was, is): (Vec<&str>, Vec<&str>) = (old.lines().collect(), new.lines().collect());
    let at = (0..was.len().max(is.len())).find(|&at| was.get(at) != is.get(at))?;
    let line = |lines: &[&str]| lines.get(at).map_or("none".to_string(), |line| line.to_string());
    Some((at + 1, arrow(&line(&was), &line(&is))))
}

/// Returns a value that stands beside one of another sort: of a text with line breaks the first line.
fn one_line(value: &Value) -> String {
    let Some((first, _)) = value.as_str().and_then(|text| text.split_once('\n')) else { return shown(value) };
    match value.as_str().map_or(0, |text| text.lines().count()) {
        1 => first.to_string(),
        lines => format!("{first} … ({lines} lines)"),
    }
}

/// Returns `old -> new`, of long texts the part in which they differ first.
fn arrow(old: &str, new: &str) -> String {
    let common = old.chars().zip(new.chars()).take_while(|(was, is)| was == is).count();
    let from = common.saturating_sub(BEFORE);
    format!("{} -> {}", part(old, from), part(new, from))
}

/// Returns a text as it is if it is short, else what of it fits from character `from` on.
fn part(text: &str, from: usize) -> String {
    let count = text.chars().count();
    if text.is_empty() {
        return "\"\"".into();
    }
    if count <= LONGEST {
        return text.into();
    }
    let (lead, room) = if from > 0 { ("…", LONGEST - 1) } else { ("", LONGEST) };
    let rest: String = text.chars().skip(from).collect();
    if count - from <= room {
        return format!("{lead}{rest}");
    }
    format!("{lead}{}…", rest.chars().take(room - 1).collect::<String>())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn of_texts_with_lines_the_first_that_differs_is_told() {
        let told = |old: &str, new: &str| change(&json!(old), &json!(new));
        assert_eq!(told("set -e\necho a\n", "set -e\necho b\n"), "line 2: echo a -> echo b");
        assert_eq!(told("a\n", "a\nb\n"), "line 2: none -> b");
        assert_eq!(told("a\n\nb", "a\nb"), "line 2: \"\" -> b");
        assert_eq!(told("a\r\nb\r\n", "a\nb"), "differs in its line ends");
        assert_eq!(change(&Value::Null, &json!("set -e\necho")), "none -> set -e … (2 lines)");
        assert_eq!(change(&json!("echo\n"), &json!(3)), "echo -> 3");
    }

    #[test]
    fn of_long_values_the_part_that_differs_is_told() {
        let told = |old: &str, new: &str| change(&json!(old), &json!(new));
        let long = "x".repeat(100);
        assert_eq!(told("a", ""), "a -> \"\"");
        assert_eq!(
            told(&format!("{long}a"), &format!("{long}b")),
            format!("…{0}a -> …{0}b", "x".repeat(20)),
            "what is alike is left out before"
        );
        assert_eq!(
            told(&format!("a{long}"), &format!("b{long}")),
            format!("a{0}… -> b{0}…", "x".repeat(58)),
            "and behind"
        );
        assert_eq!(told("é", &"é".repeat(61)), format!("é -> {}…", "é".repeat(59)));
    }
}
