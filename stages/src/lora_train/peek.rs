//! A training row as the trainer sees it: what is read, what is learned, what `max_len` took away.

use rayon::prelude::*;
use watershed_engine::StageError;
use watershed_engine::peek::{Fate, Peek, PeekRow, Run};
use watershed_engine::preview::PreviewInputs;

use super::LoraTrain;
use super::dataset::encoder;
use crate::base::Base;
use crate::formats;
use crate::record::example::Example;
use crate::text::labels::{Cut, Encoder, Overflow, Row, Unfit};
use crate::text::{Template, Tokenizer};

/// Shows a row of `train`.
///
/// # Errors
/// When `base` or `train` is not there or cannot be read, or there is no such row.
pub fn peek(params: &LoraTrain, inputs: &PreviewInputs, row: PeekRow) -> Result<Peek, StageError> {
    let input = |port: &str| inputs.get(port).ok_or_else(|| StageError::failed(format!("input `{port}` is not there")));
    let tokenizer = Base::open(input("base")?)?.tokenizer;
    let examples = formats::read(input("train")?)?;
    let template = Template::new(&params.template, params.system.as_deref(), tokenizer.chat().cloned());
    let template = template.map_err(StageError::Failed)?;
    let encoder = encoder(params, &template, &tokenizer);
    let index = match row {
        PeekRow::Number(number) => number - 1,
        PeekRow::Worst => worst(&encoder, &examples),
    };
    let none = || StageError::failed(format!("there is no row {}: `train` has {}", index + 1, examples.len()));
    shown(&encoder, index, examples.get(index).ok_or_else(none)?, examples.len())
}

/// What a row loses that is refused or left out: more than any answer.
const ALL: f64 = 2.0;
/// What one loses that loses of its input alone: less than any answer.
const INPUT: f64 = f64::MIN_POSITIVE;

/// Returns the row that is refused or left out, else the one that loses the largest share of its answer, then one
/// that loses of its input, the longest of equals; the first of equals in that too.
fn worst(encoder: &Encoder<'_>, examples: &[Example]) -> usize {
    let refusing = Encoder {
        overflow: if encoder.overflow == Overflow::Drop { Overflow::Error } else { encoder.overflow },
        ..*encoder
    };
    let loss = |(index, example): (usize, &Example)| match refusing.encode(index, example) {
        Ok(row) => row.map_or((ALL, 0), |row| (lost_share(&row), row.ids.len())),
        Err(Unfit::TooLong(tokens)) => (ALL, tokens),
        Err(Unfit::Refused(_)) => (ALL, usize::MAX),
    };
    let losses: Vec<(f64, usize)> = examples.par_iter().enumerate().map(loss).collect();
    let mut worst = 0;
    for (index, loss) in losses.iter().enumerate() {
        if *loss > losses[worst] {
            worst = index;
        }
    }
    worst
}

fn lost_share(row: &Row) -> f64 {
    let kept = row.ids.len().saturating_sub(row.response_start());
    match row.cut {
        Cut::Answer(lost) => lost as f64 / (lost + kept).max(1) as f64,
        Cut::Input => INPUT,
        Cut::None => 0.0,
    }
}

fn shown(encoder: &Encoder<'_>, index: usize, example: &Example, rows: usize) -> Result<Peek, StageError> {
    let name = |why: &str| StageError::failed(format!("row {} (`{}`): {why}", index + 1, example.id));
    let whole = Encoder { max_len: usize::MAX, ..*encoder }.encode(index, example);
    let whole = whole.map_err(|unfit| name(&told(&unfit)))?.ok_or_else(|| name("it is left out"))?;
    let row = encoder.encode(index, example).map_err(|unfit| match unfit {
        Unfit::TooLong(tokens) => name(&too_long(encoder, tokens)),
        Unfit::Refused(why) => name(&why),
    })?;
    let mut peek = Peek::default();
    peek.fact("row", index + 1).fact("of", rows).fact("id", example.id.as_str());
    let Some(row) = row else {
        peek.fact("tokens", whole.ids.len()).fact("left_out_at", encoder.max_len);
        peek.runs = vec![run(encoder.tokenizer, Fate::Cut, &whole.ids)];
        return Ok(peek);
    };
    peek.fact("tokens", row.ids.len()).fact("learned", row.label_tokens());
    match row.cut {
        Cut::Answer(lost) => peek.fact("answer_tokens_cut", lost),
        Cut::Input => peek.fact("input_tokens_cut", whole.ids.len().saturating_sub(row.ids.len())),
        Cut::None => &mut peek,
    };
    peek.runs = runs(encoder.tokenizer, &row);
    if matches!(row.cut, Cut::Answer(_)) {
        peek.runs.push(run(encoder.tokenizer, Fate::Cut, &whole.ids[row.ids.len()..]));
    }
    Ok(peek)
}

/// Says why a row is refused and what takes it; without its input, where that may be cut, it has so many tokens.
fn too_long(encoder: &Encoder<'_>, tokens: usize) -> String {
    let (even, others) = match encoder.overflow {
        Overflow::TruncateInput => (" even without its input", "`overflow: drop`"),
        _ => ("", "`overflow: truncate_input` or `drop`"),
    };
    let max_len = encoder.max_len;
    format!(
        "it has {tokens} tokens{even}, more than `max_len: {max_len}`; raise `max_len` to {tokens}, or set {others}"
    )
}

fn told(unfit: &Unfit) -> String {
    match unfit {
        Unfit::TooLong(tokens) => format!("it has {tokens} tokens"),
        Unfit::Refused(why) => why.clone(),
    }
}

/// Returns the tokens in runs of one fate; the first token of a row is read whatever its label says.
fn runs(tokenizer: &Tokenizer, row: &Row) -> Vec<Run> {
    let fate = |at: usize| if at > 0 && row.labels[at] { Fate::Learned } else { Fate::Read };
    let places: Vec<usize> = (0..row.ids.len()).collect();
    let parts = places.chunk_by(|a, b| fate(*a) == fate(*b));
    parts.map(|part| run(tokenizer, fate(part[0]), &row.ids[part[0]..part[0] + part.len()])).collect()
}

fn run(tokenizer: &Tokenizer, fate: Fate, ids: &[u32]) -> Run {
    Run { fate, text: tokenizer.shown(ids), ids: ids.to_vec() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::text::fixture::tiny_llama;

    fn inputs() -> Option<PreviewInputs> {
        let (rows, base) = (tiny_llama("dataset.json")?, tiny_llama("model")?);
        let mut inputs = PreviewInputs::default();
        inputs.ports.insert("train".into(), vec![("train".into(), rows)]);
        inputs.ports.insert("base".into(), vec![("base".into(), base)]);
        Some(inputs)
    }

    /// The fixture's end token.
    fn end() -> String {
        let tokenizer = Tokenizer::open(&tiny_llama("model").unwrap()).unwrap();
        tokenizer.text_of(tokenizer.eos().unwrap())
    }

    fn facts(peek: &Peek) -> Vec<&str> {
        peek.facts.iter().map(|(name, _)| name.as_str()).collect()
    }

    #[test]
    fn prompt_is_read_and_answer_with_its_end_is_learned() {
        let Some(inputs) = inputs() else { return };
        let peek = peek(&LoraTrain::default(), &inputs, PeekRow::Number(2)).unwrap();
        let fates: Vec<Fate> = peek.runs.iter().map(|run| run.fate).collect();
        assert_eq!(fates, [Fate::Read, Fate::Learned]);
        assert!(peek.runs[0].text.ends_with("### Response:\n"), "{:?}", peek.runs[0].text);
        assert!(peek.runs[1].text.ends_with(&end()), "{:?}", peek.runs[1].text);
        assert_eq!(facts(&peek), ["row", "of", "id", "tokens", "learned"]);
    }

    #[test]
    fn worst_row_shows_what_of_its_answer_is_cut() {
        let Some(inputs) = inputs() else { return };
        let params = LoraTrain { max_len: 120, overflow: Overflow::Truncate, ..LoraTrain::default() };
        let worst = peek(&params, &inputs, PeekRow::Worst).unwrap();
        let cut = worst.runs.last().unwrap();
        assert!(cut.fate == Fate::Cut && cut.text.ends_with(&end()), "{cut:?}");
        let total: usize = worst.runs.iter().map(|run| run.ids.len()).sum();
        assert_eq!(total - cut.ids.len(), 120);
        assert_eq!(facts(&worst).last(), Some(&"answer_tokens_cut"));
    }

    #[test]
    fn rows_that_are_not_there_or_not_taken_are_named() {
        let Some(inputs) = inputs() else { return };
        let refusal = |params: &LoraTrain, row| peek(params, &inputs, row).unwrap_err().to_string();
        assert!(refusal(&LoraTrain::default(), PeekRow::Number(1000)).contains("there is no row 1000"));
        let short = LoraTrain { max_len: 20, ..LoraTrain::default() };
        let told = refusal(&short, PeekRow::Number(1));
        let words = " tokens even without its input, more than `max_len: 20`; raise `max_len` to ";
        assert!(told.contains(words) && told.ends_with(", or set `overflow: drop`"), "{told}");
        let whole = LoraTrain { overflow: Overflow::Error, ..short.clone() };
        let told = refusal(&whole, PeekRow::Worst);
        assert!(told.ends_with(", or set `overflow: truncate_input` or `drop`"), "{told}");
        assert!(peek(&LoraTrain::default(), &PreviewInputs::default(), PeekRow::Worst).is_err());
        let dropping = LoraTrain { max_len: 20, overflow: Overflow::Drop, ..LoraTrain::default() };
        assert_eq!(peek(&dropping, &inputs, PeekRow::Number(1)).unwrap().runs[0].fate, Fate::Cut);
    }
}
