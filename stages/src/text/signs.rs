//! Control tokens that stand in a row's own text: a tokenizer takes `</s>` in a review for the end of a sequence, whoever wrote
//! it.

use std::collections::BTreeSet;

use super::Tokenizer;
use crate::record::example::Example;

/// The texts that a tokenizer reads as control tokens.
pub struct Signs {
    /// The longest first.
    texts: Vec<String>,
    /// What they begin with.
    begins: BTreeSet<char>,
}

/// Rows that hold one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signed {
    /// How many rows do.
    pub rows: usize,
    /// Id of the first.
    pub first: String,
    /// What that one holds.
    pub sign: String,
}

impl Signs {
    /// Returns a tokenizer's signs.
    pub fn of(tokenizer: &Tokenizer) -> Signs {
        let mut texts: Vec<String> = tokenizer.signs().filter(|text| !text.trim().is_empty()).collect();
        texts.sort_by(|a, b| b.len().cmp(&a.len()).then_with(|| a.cmp(b)));
        let begins = texts.iter().filter_map(|text| text.chars().next()).collect();
        Signs { texts, begins }
    }

    /// Counts the rows whose text holds a sign, none where no row does.
    pub fn find<'r>(&self, rows: impl IntoIterator<Item = &'r Example>) -> Option<Signed> {
        let signed = |row: &'r Example| Some((row, self.first_of(row)?));
        let mut found = rows.into_iter().filter_map(signed);
        let (row, sign) = found.next()?;
        Some(Signed { rows: 1 + found.count(), first: row.id.clone(), sign: sign.to_string() })
    }

    fn first_of(&self, row: &Example) -> Option<&str> {
        let turns = row.messages.iter().flatten().map(|turn| turn.content.as_str());
        let fields = [Some(row.instruction.as_str()), Some(&row.input), row.output.as_deref(), row.system.as_deref()];
        fields.into_iter().flatten().chain(turns).find_map(|text| self.first_in(text))
    }

    fn first_in(&self, text: &str) -> Option<&str> {
        let begins = text.char_indices().filter(|(_, c)| self.begins.contains(c));
        let at = |(start, _): (usize, char)| self.texts.iter().find(|sign| text[start..].starts_with(sign.as_str()));
        begins.filter_map(at).next().map(String::as_str)
    }
}

impl Signed {
    /// Tells it, and how to mend it.
    pub fn told(&self) -> String {
        let Signed { rows, first, sign } = self;
        let hold =
            if *rows == 1 { "1 row holds control tokens".into() } else { format!("{rows} rows hold control tokens") };
        format!(
            "{hold} of the base in their own text, as row `{first}` does `{sign}`: the model reads it as a mark and not as text; \
             take it out, or write it otherwise"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::example::Message;
    use crate::text::fixture::tiny_llama;

    fn rows(texts: &[&str]) -> Vec<Example> {
        let row = |(at, text): (usize, &&str)| Example {
            id: format!("r{at}"),
            messages: Some(vec![Message { role: "user".into(), content: text.to_string(), train: None }]),
            ..Example::default()
        };
        texts.iter().enumerate().map(row).collect()
    }

    #[test]
    fn rows_that_hold_a_control_token_are_counted_and_the_first_is_named() {
        let Some(base) = tiny_llama("model") else { return };
        let tokenizer = Tokenizer::open(&base).unwrap();
        let end = tokenizer.text_of(tokenizer.eos().unwrap());
        let (held, torn) = (format!("Nice.{end} Really."), end[..end.len() - 1].to_string());
        let signs = Signs::of(&tokenizer);
        assert_eq!(signs.find(&rows(&["a < b", &torn])), None);
        let found = signs.find(&rows(&["Nice.", &torn, &held, &end])).unwrap();
        assert_eq!(found, Signed { rows: 2, first: "r2".into(), sign: end.clone() });
        assert!(found.told().starts_with(&format!(
            "2 rows hold control tokens of the base in their own text, as row `r2` does `{end}`"
        )));
    }
}
