//! Tables that keep to the width there is: what does not fit beside the first column goes into blocks below.

use super::out;

/// Fewest characters of a cell that is cut.
const LEAST: usize = 4;

/// Returns the table in blocks of at most `width` characters a line, each with the first column.
pub fn fitted(head: &[String], rows: &[Vec<String>], width: usize) -> String {
    let Some(first) = head.first() else { return String::new() };
    let longest = |column: usize| cells(head, rows, column).map(|cell| cell.chars().count()).max().unwrap_or(0);
    let all: usize = (0..head.len()).map(|column| longest(column) + 2).sum::<usize>().saturating_sub(2);
    let lead = if all <= width { longest(0) } else { longest(0).min((width * 3 / 5).max(LEAST)) };
    let room = width.saturating_sub(lead + 2).max(LEAST);
    let mut blocks: Vec<Vec<usize>> = vec![Vec::new()];
    let mut used = 0;
    for column in 1..head.len() {
        let needs = longest(column).min(room) + 2;
        if used + needs > room + 2 && used > 0 {
            blocks.push(Vec::new());
            used = 0;
        }
        used += needs;
        blocks.last_mut().into_iter().for_each(|block| block.push(column));
    }
    let line = |first: &String, of: &dyn Fn(usize) -> String, block: &[usize]| -> Vec<String> {
        std::iter::once(cut(first, lead)).chain(block.iter().map(|&column| cut(&of(column), room))).collect()
    };
    let block = |columns: &Vec<usize>| {
        let head = line(first, &|column| head[column].clone(), columns);
        let filled = rows.iter().filter_map(|row| Some((row.first()?, row)));
        let rows: Vec<Vec<String>> = filled
            .map(|(first, row)| line(first, &|column| row.get(column).cloned().unwrap_or_default(), columns))
            .collect();
        out::table(&head, &rows)
    };
    blocks.iter().map(block).collect::<Vec<_>>().join("\n\n")
}

fn cells<'a>(head: &'a [String], rows: &'a [Vec<String>], column: usize) -> impl Iterator<Item = &'a String> {
    rows.iter().filter_map(move |row| row.get(column)).chain(head.get(column))
}

/// Cuts text to `width` characters and takes away what would move the cursor.
pub fn cut(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.chars().map(out::visible).collect();
    }
    text.chars().take(width.saturating_sub(1)).map(out::visible).chain(['…']).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<String> {
        text.split(' ').map(String::from).collect()
    }

    #[test]
    fn what_does_not_fit_goes_below_with_the_first_column() {
        let rows = [words("c1 8 0.1 1.5"), words("c2 16 0.2 2.5")];
        let head = words("case r lr val_loss");
        let wide = "case   r   lr  val_loss\nc1     8  0.1       1.5\nc2    16  0.2       2.5";
        assert_eq!(fitted(&head, &rows, 80), wide);
        let narrow = "case   r   lr\nc1     8  0.1\nc2    16  0.2\n\ncase  val_loss\nc1         1.5\nc2         2.5";
        assert_eq!(fitted(&head, &rows, 20), narrow);
    }

    #[test]
    fn no_line_is_wider_than_asked_and_nothing_moves_the_cursor() {
        let rows = [vec!["a\u{1b}[31m very long name of a case".to_string(), "x".repeat(90), "1".into()]];
        let text = fitted(&words("case much n"), &rows, 20);
        assert!(text.lines().all(|line| line.chars().count() <= 20) && !text.contains('\u{1b}'), "{text}");
    }
}
