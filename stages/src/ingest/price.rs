//! Prices as shops print them, in cents: `$1,299.99`, `$9.99 - $29.99`, `from 7.99`.

/// Returns the lower end of a price and, for a range, the upper end; `None` when the text is no price.
pub fn parse(text: &str) -> Option<(u64, Option<u64>)> {
    let text = text.trim();
    let text = text.strip_prefix("from ").or_else(|| text.strip_prefix("From ")).unwrap_or(text);
    match text.split_once('-') {
        None => Some((cents(text)?, None)),
        Some((low, high)) => {
            let (low, high) = (cents(low)?, cents(high)?);
            (low <= high).then_some((low, Some(high)))
        }
    }
}

/// Reads `$1,299.99`, in exact arithmetic.
fn cents(text: &str) -> Option<u64> {
    let digits = text.trim().trim_start_matches('$').trim().replace(',', "");
    let (whole, part) = digits.split_once('.').unwrap_or((&digits, "00"));
    let is_number = |s: &str| !s.is_empty() && s.bytes().all(|b| b.is_ascii_digit());
    if !is_number(whole) || !is_number(part) || part.len() > 2 {
        return None;
    }
    let part: u64 = format!("{part:0<2}").parse().ok()?;
    whole.parse::<u64>().ok()?.checked_mul(100)?.checked_add(part)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prices_of_the_table_are_read() {
        assert_eq!(parse("$7.86"), Some((786, None)));
        assert_eq!(parse("$1,299.99"), Some((129_999, None)));
        assert_eq!(parse("$9.99 - $29.99"), Some((999, Some(2999))));
        assert_eq!(parse("from 7.99"), Some((799, None)));
        assert_eq!(parse("0.01"), Some((1, None)));
        assert_eq!(parse("$25"), Some((2500, None)));
    }

    #[test]
    fn what_is_no_price_is_missing() {
        for text in
            ["", "unknown", ".a-box-inner{background-color:#fff}", "$9.99 - ", "$29.99 - $9.99", "99999999999999999999"]
        {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
