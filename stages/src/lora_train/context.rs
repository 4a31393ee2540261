//! Rows longer than the sequences that the base was made for, and advice that does not lead into the next refusal.

use rayon::prelude::*;
use watershed_engine::StageError;

use crate::record::example::Example;
use crate::text::labels::{Encoded, Encoder, Overflow, Unfit};

/// Least that `max_len` may be.
const LOWEST_MAX_LEN: usize = 8;

/// Encodes the rows of port `port`, each of which a base of `context` tokens can read.
///
/// # Errors
/// Names the row that does not fit the template; tells how many rows are too long and what takes them.
pub fn encode(encoder: &Encoder<'_>, context: usize, port: &str, examples: &[Example]) -> Result<Encoded, StageError> {
    let encoded = encoder.encode_all(examples);
    let encoded = encoded.map_err(|error| beyond(encoder, context, port, examples).unwrap_or(error))?;
    let longer = encoded.rows.iter().filter(|row| row.ids.len() > context).count();
    let Some(longest) = encoded.rows.iter().map(|row| row.ids.len()).max().filter(|_| longer > 0) else {
        return Ok(encoded);
    };
    Err(StageError::failed(format!(
        "{longer} of {} rows of `{port}` are longer than the {context} tokens that the base was made for, the longest has \
         {longest}; {}take a base with a longer context",
        examples.len(),
        mend(encoder, context, examples)
    )))
}

/// Returns the error of rows that no `max_len` takes, none when a higher one does.
fn beyond(encoder: &Encoder<'_>, context: usize, port: &str, examples: &[Example]) -> Option<StageError> {
    let rows = unfit(encoder, examples);
    let (index, tokens) = *rows.iter().max_by_key(|(index, tokens)| (*tokens, std::cmp::Reverse(*index)))?;
    if tokens <= context {
        return None;
    }
    let (even, others) = match encoder.overflow {
        Overflow::TruncateInput => (" even without their input", "`overflow: drop`"),
        _ => ("", "`overflow: truncate_input` or `drop`"),
    };
    Some(StageError::failed(format!(
        "{} of {} rows of `{port}` are longer than `max_len: {}`{even}, and row {} (`{}`) with {tokens} tokens is longer than the \
         {context} that the base was made for; set {others}, or take a base with a longer context",
        rows.len(),
        examples.len(),
        encoder.max_len,
        index + 1,
        examples[index].id
    )))
}

/// Returns what to set so that no row is longer than `context`; nothing where `max_len` may not be so small.
fn mend(encoder: &Encoder<'_>, context: usize, examples: &[Example]) -> String {
    if context < LOWEST_MAX_LEN {
        return String::new();
    }
    let shorter = Encoder { max_len: context, ..*encoder };
    let others = match encoder.overflow {
        Overflow::Error => " and `overflow: truncate_input` or `drop`",
        Overflow::TruncateInput if !unfit(&shorter, examples).is_empty() => " and `overflow: drop`",
        _ => "",
    };
    format!("set `max_len: {context}`{others}, or ")
}

/// Returns the rows that `overflow` does not shorten enough, and their tokens.
fn unfit(encoder: &Encoder<'_>, examples: &[Example]) -> Vec<(usize, usize)> {
    let tokens = |(index, example): (usize, &Example)| match encoder.encode(index, example) {
        Err(Unfit::TooLong(tokens)) => Some((index, tokens)),
        _ => None,
    };
    examples.par_iter().enumerate().filter_map(tokens).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lora_train::LoraTrain;
    use crate::lora_train::dataset::encoder;
    use crate::text::fixture::tiny_llama;
    use crate::text::{Template, Tokenizer};

    /// What a base of 60 tokens says to a row with a hundred times this in its input and in its output.
    fn told(params: &LoraTrain, input: &str, output: &str) -> Option<String> {
        let tokenizer = Tokenizer::open(&tiny_llama("model")?).unwrap();
        let template = Template::new(&params.template, None, None).unwrap();
        let (input, output) = (format!("a{}", input.repeat(100)), format!("b{}", output.repeat(100)));
        let row = Example { id: "r1".into(), input, output: Some(output), ..Example::default() };
        let found = encode(&encoder(params, &template, &tokenizer), 60, "val", &[row]);
        Some(found.map_or_else(|error| error.to_string(), |_| "fits".into()))
    }

    fn params(max_len: u32, overflow: Overflow) -> LoraTrain {
        let inline = serde_json::json!({"prompt": "{{ input }}", "response": "{{ output }}"});
        LoraTrain { max_len, overflow, template: serde_json::from_value(inline).unwrap(), ..LoraTrain::default() }
    }

    #[test]
    fn row_whose_input_may_be_cut_is_told_the_max_len_that_then_works() {
        let Some(long) = told(&params(1024, Overflow::TruncateInput), "a b ", "") else { return };
        assert!(
            long.contains("1 of 1 rows of `val` are longer than the 60 tokens that the base was made for"),
            "{long}"
        );
        assert!(long.ends_with("; set `max_len: 60`, or take a base with a longer context"), "{long}");
        assert_eq!(told(&params(60, Overflow::TruncateInput), "a b ", "").unwrap(), "fits");
    }

    #[test]
    fn row_that_no_max_len_takes_is_told_to_be_dropped_at_once() {
        let Some(long) = told(&params(1024, Overflow::TruncateInput), "", "a b ") else { return };
        let mend = "; set `max_len: 60` and `overflow: drop`, or take a base with a longer context";
        assert!(long.ends_with(mend), "{long}");
        let half = told(&params(60, Overflow::TruncateInput), "", "a b ").unwrap();
        assert!(half.contains("longer than `max_len: 60` even without their input, and row 1 (`r1`) with"), "{half}");
        assert!(half.contains("longer than the 60 that the base was made for; set `overflow: drop`, or"), "{half}");
        assert_eq!(told(&params(60, Overflow::Drop), "", "a b ").unwrap(), "fits");
    }

    #[test]
    fn row_that_may_not_be_shortened_is_never_told_a_max_len_beyond_the_base() {
        let Some(long) = told(&params(1024, Overflow::Error), "a b ", "") else { return };
        let mend = "; set `max_len: 60` and `overflow: truncate_input` or `drop`, or take a base with a longer context";
        assert!(long.ends_with(mend), "{long}");
        let done = told(&params(60, Overflow::Error), "a b ", "").unwrap();
        assert!(done.contains("; set `overflow: truncate_input` or `drop`, or take a base"), "{done}");
        assert_eq!(told(&params(24, Overflow::Error), "", "").unwrap(), "fits");
    }
}
