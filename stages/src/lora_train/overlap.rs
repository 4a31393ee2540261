//! Held-out rows that are no test of anything, because training knows something of them.

use std::collections::BTreeSet;

use crate::record::example::Example;

/// Ids of held-out rows of which training knows something.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Overlap {
    /// Rows whose group is trained on.
    pub groups: Vec<String>,
    /// Other rows, whose whole text is.
    pub texts: Vec<String>,
}

impl Overlap {
    /// Looks for the group, then for the text of each row of `held` in `train`.
    pub fn of<'a>(train: &[Example], held: impl Iterator<Item = &'a Example>) -> Overlap {
        let groups = train.iter().map(|row| row.group.as_str()).filter(|group| !group.is_empty());
        let groups: BTreeSet<&str> = groups.collect();
        let texts: BTreeSet<String> = train.iter().map(text).collect();
        let mut overlap = Overlap::default();
        for row in held {
            if groups.contains(row.group.as_str()) {
                overlap.groups.push(row.id.clone());
            } else if texts.contains(&text(row)) {
                overlap.texts.push(row.id.clone());
            }
        }
        overlap
    }
}

fn text(row: &Example) -> String {
    let messages = serde_json::to_string(&row.messages).unwrap_or_default();
    [row.instruction.as_str(), &row.input, row.output.as_deref().unwrap_or_default(), &messages].join("\u{1f}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(id: &str, group: &str, input: &str) -> Example {
        Example { id: id.into(), group: group.into(), input: input.into(), ..Example::default() }
    }

    #[test]
    fn a_customer_or_a_text_on_both_sides_is_overlap() {
        let train = [row("1", "ann", "x"), row("2", "", "y")];
        let val =
            [row("3", "ann", "z"), row("4", "", "y"), row("5", "bob", "w"), row("6", "", "v"), row("7", "ann", "y")];
        let Overlap { groups, texts } = Overlap::of(&train, val.iter());
        assert_eq!((groups, texts), (vec!["3".to_string(), "7".into()], vec!["4".to_string()]));
    }
}
