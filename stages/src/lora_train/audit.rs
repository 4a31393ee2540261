//! What `max_len` and `overflow` left of a file's rows: the same numbers for lints, refusals and the receipt.

use serde::Serialize;

use super::LoraTrain;
use crate::text::batch::Update;
use crate::text::labels::{Cut, Encoded, Row};

/// Rows of one file, counted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Audit {
    /// Rows that are left.
    pub rows: usize,
    /// Rows that `overflow: drop` left out.
    pub dropped: usize,
    /// Rows whose answer lost tokens.
    pub cut: usize,
    /// Rows whose whole answer is lost.
    pub answerless: usize,
    /// Rows whose input lost its middle.
    pub inputs_cut: usize,
    /// Rows without a label.
    pub without_label: usize,
    /// Labels of all rows.
    pub label_tokens: usize,
}

impl Audit {
    /// Counts the rows of a file.
    pub fn of(encoded: &Encoded) -> Audit {
        let count = |holds: fn(&Row) -> bool| encoded.rows.iter().filter(|row| holds(row)).count();
        Audit {
            rows: encoded.rows.len(),
            dropped: encoded.dropped.len(),
            cut: count(|row| matches!(row.cut, Cut::Answer(_))),
            answerless: count(|row| row.ids.len() <= row.response_start() || row.label_tokens() == 0),
            inputs_cut: count(|row| row.cut == Cut::Input),
            without_label: count(|row| row.label_tokens() == 0),
            label_tokens: encoded.rows.iter().map(Row::label_tokens).sum(),
        }
    }

    /// Returns the rows that the file has.
    pub fn given(&self) -> usize {
        self.rows + self.dropped
    }

    /// Says whether the file has rows and nothing to measure or learn is left of them.
    pub fn is_spent(&self) -> bool {
        self.given() > 0 && self.without_label == self.rows
    }
}

/// Says why held-out rows are of no use: without a label, no loss can be measured and no adapter chosen. None where port `port`
/// has no rows at all, or one with a label.
pub fn nothing_left(port: &str, audit: &Audit, params: &LoraTrain) -> Option<String> {
    let Audit { dropped, without_label, .. } = audit;
    audit.is_spent().then(|| {
        format!(
            "none of the {} rows of `{port}` has a label at `max_len: {}` ({dropped} left out, {without_label} with their whole \
             answer cut off), so there is no loss to measure; raise `max_len`, set `overflow: truncate_input`, or leave `{port}` out",
            audit.given(),
            params.max_len
        )
    })
}

/// Names the first update that has nothing to learn, none when every one has.
pub fn nothing_to_learn(updates: &[Update], rows: &[Row]) -> Option<String> {
    let has_label: Vec<bool> = rows.iter().map(|row| row.label_tokens() > 0).collect();
    let place = updates.iter().position(|update| !update.rows().any(|row| has_label[row]))?;
    let bare = has_label.iter().filter(|has| !**has).count();
    Some(format!(
        "update {} has no label: every response of its rows was cut off, as of {bare} of {} rows; raise `max_len`, or set \
         `overflow: truncate_input` or `drop`",
        place + 1,
        rows.len()
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A row of two tokens of prompt and these labels.
    fn row(answer: &[bool], cut: Cut) -> Row {
        let labels = [&[false, false][..], answer].concat();
        let answers = (0..labels.len()).map(|at| at >= 2).collect();
        Row { index: 0, source: String::new(), ids: (0..labels.len() as u32).collect(), labels, answers, cut }
    }

    fn update(rows: &[usize]) -> Update {
        Update { epoch: 0, ends_epoch: false, micro: rows.iter().map(|row| vec![*row]).collect(), divisor: 1 }
    }

    #[test]
    fn rows_are_counted_by_what_they_lost() {
        let rows = vec![
            row(&[true, true], Cut::None),
            row(&[true], Cut::Answer(1)),
            row(&[], Cut::Answer(2)),
            row(&[true], Cut::Input),
        ];
        let audit = Audit::of(&Encoded { rows, dropped: vec!["5".into()] });
        let wanted =
            Audit { rows: 4, dropped: 1, cut: 2, answerless: 1, inputs_cut: 1, without_label: 1, label_tokens: 4 };
        assert_eq!((audit, audit.given()), (wanted, 5));
    }

    #[test]
    fn held_out_rows_of_which_nothing_is_left_are_refused() {
        let params = LoraTrain { max_len: 100, ..LoraTrain::default() };
        let refusal = |audit| nothing_left("val", &audit, &params);
        let dropped = Audit { dropped: 3, ..Audit::default() };
        assert_eq!(
            refusal(dropped).unwrap(),
            "none of the 3 rows of `val` has a label at `max_len: 100` (3 left out, 0 with their whole answer cut off), so there is \
             no loss to measure; raise `max_len`, set `overflow: truncate_input`, or leave `val` out"
        );
        let cut = Audit { rows: 2, cut: 2, answerless: 2, without_label: 2, ..Audit::default() };
        assert!(refusal(cut).unwrap().contains("(0 left out, 2 with their whole answer cut off)"));
        assert_eq!(refusal(Audit { without_label: 1, ..cut }), None);
        assert_eq!(refusal(Audit::default()), None);
    }

    #[test]
    fn first_update_without_a_label_is_named() {
        let rows = [row(&[true], Cut::None), row(&[], Cut::Answer(2)), row(&[], Cut::Answer(1))];
        assert_eq!(nothing_to_learn(&[update(&[0, 1]), update(&[2, 0])], &rows), None);
        let told = nothing_to_learn(&[update(&[0, 1]), update(&[1, 2]), update(&[2])], &rows).unwrap();
        assert!(told.starts_with("update 2 has no label: every response of its rows was cut off, as of 2 of 3 rows"));
    }
}
