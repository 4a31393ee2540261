//! Ids of rows: from the file where it has them, else from the content, so that a row keeps its id when others move.

use std::collections::BTreeSet;

use crate::record::example::Example;

/// Returns the digest (BLAKE3, hex) of what a model learns from a row: everything but id, group, source and provenance.
pub fn content(row: &Example) -> String {
    let parts = (&row.system, &row.instruction, &row.input, &row.output, &row.messages);
    let json = serde_json::to_vec(&parts).expect("texts always serialise");
    blake3::hash(&json).to_hex().to_string()
}

/// Makes ids unique by adding `-2`, `-3`, ... to later rows of equal id; returns how many were changed.
pub fn make_unique(rows: &mut [Example]) -> usize {
    let mut taken: BTreeSet<String> = BTreeSet::new();
    let mut changed = 0;
    for row in rows {
        if !taken.insert(row.id.clone()) {
            let free = (2..).map(|n: usize| format!("{}-{n}", row.id)).find(|id| !taken.contains(id));
            row.id = free.expect("numbers do not end");
            taken.insert(row.id.clone());
            changed += 1;
        }
    }
    changed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_rows_get_numbered_ids() {
        let row = |id: &str| Example { id: id.into(), ..Example::default() };
        let mut rows = [row("a"), row("a-2"), row("a"), row("b"), row("a")];
        assert_eq!(make_unique(&mut rows), 2);
        let ids: Vec<&str> = rows.iter().map(|row| row.id.as_str()).collect();
        assert_eq!(ids, ["a", "a-2", "a-3", "b", "a-4"]);
    }
}
