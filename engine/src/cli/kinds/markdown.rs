//! The documentation of kinds as Markdown: `docs/kinds.md` is what this writes for all of them.

use super::page::{Page, common_run};
use super::parameter::Parameter;
use crate::port::RecordType;

/// Returns the reference of all kinds.
pub fn reference(pages: &[Page]) -> String {
    let mut text = String::from(
        "# Kinds\n\n\
         Every kind of stage, made from the program by `watershed kinds --format markdown`. \
         In a pipeline, `use` names the kind, `in` fills its inputs, `with` gives its parameters and `run` says how it is \
         executed; `in` and `with` enter the key of a result, `run` never does. A nested parameter is shown under its dotted \
         path, as `--set STAGE.path=value` takes it; in YAML it is written nested: `lora: {r: 16}`.\n\n",
    );
    let rows = pages.iter().map(|p| vec![format!("[`{0}`](#{0})", p.name), p.first_sentence()]).collect();
    text.push_str(&table(&["kind", "what it does"], rows));
    text.push_str(
        "\n## Record types\n\nWhat ports carry. `examples` satisfies `prompts`, both satisfy `customers`, anything \
         satisfies `bytes`, and `bytes` satisfies any type: its reader checks it.\n\n",
    );
    let records = RecordType::ALL.iter().map(|t| vec![format!("`{t}`"), t.on_disk().to_string()]).collect();
    text.push_str(&table(&["type", "what it is on disk"], records));
    text.push_str(
        "\n## run\n\nKeys of `run` that every kind has; a top-level `run:` gives defaults for all stages.\n\n",
    );
    text.push_str(&parameters("key", &common_run()));
    for page in pages {
        text.push('\n');
        text.push_str(&section(page));
    }
    text
}

/// Returns the section of one kind.
pub fn section(page: &Page) -> String {
    let mut text = format!("## {}\n\n{}\n\n{}\n", page.name, page.about.join("\n\n"), page.nature);
    let mut part = |content: String| {
        if !content.is_empty() {
            text.push('\n');
            text.push_str(&content);
        }
    };
    part(ports("reads", &page.inputs));
    part(ports("writes", &page.outputs));
    part(parameters("parameter", &page.with));
    part(parameters("`run` key", &page.run));
    let presets: String =
        page.presets.iter().map(|(name, values)| format!("- `preset: {name}` is `{values}`\n")).collect();
    part(presets);
    part(table(&["number", "what it is"], page.numbers.iter().map(number).collect()));
    text
}

fn ports(verb: &str, ports: &[[String; 3]]) -> String {
    table(&[verb, "type", ""], ports.iter().map(|port| port.to_vec()).collect())
}

fn parameters(noun: &str, parameters: &[Parameter]) -> String {
    let row = |p: &Parameter| {
        let default = p.default.as_ref().map(|value| format!("`{value}`")).unwrap_or_default();
        vec![format!("`{}`", p.path), p.wants.clone(), default, about(p)]
    };
    table(&[noun, "values", "default", "what it does"], parameters.iter().map(row).collect())
}

fn number((name, meaning): &(&str, &str)) -> Vec<String> {
    vec![format!("`{name}`"), meaning.to_string()]
}

fn about(parameter: &Parameter) -> String {
    let forms = parameter.forms.iter().map(|(form, text)| format!("{form}: {text}"));
    std::iter::once(parameter.about.clone())
        .chain(forms)
        .filter(|text| !text.is_empty())
        .collect::<Vec<_>>()
        .join("<br>")
}

/// Returns nothing for no rows.
fn table(head: &[&str], rows: Vec<Vec<String>>) -> String {
    if rows.is_empty() {
        return String::new();
    }
    let line = |cells: Vec<String>| format!("| {} |\n", cells.join(" | ")).replace("|  |", "| |");
    let mut text = line(head.iter().map(|cell| cell.to_string()).collect());
    text.push_str(&format!("|{}\n", "---|".repeat(head.len())));
    text.extend(rows.into_iter().map(|row| line(row.iter().map(|cell| cell.replace('|', "\\|")).collect())));
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bar_in_a_cell_ends_no_cell() {
        let text = table(&["a", ""], vec![vec!["x | y".into(), String::new()]]);
        assert_eq!(text, "| a | |\n|---|---|\n| x \\| y | |\n");
    }
}
