//! The documentation of one kind for a terminal.

use super::page::{Page, common_run};
use super::parameter::Parameter;
use crate::cli::out;

/// Widest line; long ones break between words.
const WIDTH: usize = 110;

/// Returns the documentation of a kind.
pub fn describe(page: &Page) -> String {
    let mut lines = vec![page.name.to_string()];
    lines.extend(page.about.iter().chain([&page.nature]).flat_map(|text| wrapped(text, 0)));
    section(&mut lines, "in", ports(&page.inputs));
    section(&mut lines, "out", ports(&page.outputs));
    section(&mut lines, "with", page.with.iter().flat_map(parameter).collect());
    let presets = page.presets.iter().flat_map(|(name, values)| wrapped(&format!("{name}: {values}"), 2));
    section(&mut lines, "presets", presets.collect());
    let numbers = page.numbers.iter().flat_map(|(name, meaning)| wrapped(&format!("{name}: {meaning}"), 2));
    section(&mut lines, "numbers", numbers.collect());
    section(&mut lines, "run, of this kind", page.run.iter().flat_map(parameter).collect());
    section(&mut lines, "run, of every kind", common_run().iter().flat_map(parameter).collect());
    lines.join("\n")
}

fn section(lines: &mut Vec<String>, title: &str, content: Vec<String>) {
    if !content.is_empty() {
        lines.push(format!("\n{}:", out::styled("1", title)));
        lines.extend(content);
    }
}

fn ports(ports: &[[String; 3]]) -> Vec<String> {
    let line = |[name, types, note]: &[String; 3]| {
        let note = if note.is_empty() { String::new() } else { format!("  ({note})") };
        format!("  {}: {}{note}", name.replace('`', ""), types.replace('`', ""))
    };
    ports.iter().map(line).collect()
}

fn parameter(parameter: &Parameter) -> Vec<String> {
    let default = parameter.default.as_ref().map(|value| format!("; default {value}")).unwrap_or_default();
    let head = wrapped(&format!("{}: {}{default}", parameter.path, parameter.wants), 2);
    let about = wrapped(&parameter.about, 6);
    let forms = parameter.forms.iter().flat_map(|(form, text)| wrapped(&format!("{form}: {text}"), 8));
    head.into_iter().chain(about).chain(forms).collect()
}

/// Breaks text between words; the lines after the first are four further in.
fn wrapped(text: &str, indent: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if line.chars().count() + 1 + word.chars().count() <= WIDTH => {
                line.push(' ');
                line.push_str(word);
            }
            Some(_) if indent > 0 => lines.push(format!("{}{word}", " ".repeat(indent + 4))),
            _ => lines.push(format!("{}{word}", " ".repeat(indent))),
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_lines_break_between_words() {
        let text = "word ".repeat(60);
        let lines = wrapped(&text, 2);
        assert!(lines.len() == 3 && lines.iter().all(|line| line.len() <= WIDTH), "{lines:?}");
        assert!(lines[0].starts_with("  w") && lines[1].starts_with("      w"));
    }
}
