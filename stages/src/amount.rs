//! A number of rows, written as a count (`30`) or as a share (`5%`).

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

/// A count of rows or a percentage of them.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Written", into = "Written")]
pub enum Amount {
    /// So many rows.
    Rows(u64),
    /// So many in a hundred, `0..=100`.
    Percent(f64),
}

impl Amount {
    /// Returns how many of `rows` are meant; a share is rounded half up and may not be asked of more than there is.
    pub fn of(self, rows: usize) -> usize {
        match self {
            Amount::Rows(count) => usize::try_from(count).unwrap_or(usize::MAX),
            Amount::Percent(percent) => (rows as f64 * percent / 100.0).round() as usize,
        }
    }

    /// Says whether `part` of `rows` is more than this amount; exact, where [`Amount::of`] rounds.
    pub fn is_exceeded_by(self, part: u64, rows: u64) -> bool {
        match self {
            Amount::Rows(count) => part > count,
            Amount::Percent(percent) => part as f64 * 100.0 > percent * rows as f64,
        }
    }
}

impl std::fmt::Display for Amount {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Amount::Rows(count) => write!(f, "{count}"),
            Amount::Percent(percent) => write!(f, "{percent}%"),
        }
    }
}

/// Divides `total` in proportion to `shares`: whole parts first, then one each to the largest fractions (ties: the first).
///
/// Hamilton's method, as kinds.md asks. With three shares or more a larger total can, rarely, take one from a small share.
pub fn apportion(total: usize, shares: &[f64]) -> Vec<usize> {
    let sum: f64 = shares.iter().sum();
    if sum <= 0.0 {
        return vec![0; shares.len()];
    }
    let exact: Vec<f64> = shares.iter().map(|share| total as f64 * share / sum).collect();
    let mut parts: Vec<usize> = exact.iter().map(|part| part.floor() as usize).collect();
    let mut order: Vec<usize> = (0..shares.len()).collect();
    order.sort_by(|&a, &b| exact[b].fract().total_cmp(&exact[a].fract()).then(a.cmp(&b)));
    let rest = total.saturating_sub(parts.iter().sum());
    order.into_iter().take(rest).for_each(|index| parts[index] += 1);
    parts
}

/// The forms an amount takes in YAML.
#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Written {
    Count(u64),
    Text(String),
}

impl TryFrom<Written> for Amount {
    type Error = String;

    fn try_from(written: Written) -> Result<Amount, String> {
        let text = match written {
            Written::Count(count) => return Ok(Amount::Rows(count)),
            Written::Text(text) => text,
        };
        let percent = text.strip_suffix('%').and_then(|number| number.trim().parse::<f64>().ok());
        percent
            .filter(|percent| (0.0..=100.0).contains(percent))
            .map(Amount::Percent)
            .ok_or_else(|| format!("`{text}` is neither a count of rows nor a percentage such as `5%`"))
    }
}

impl From<Amount> for Written {
    fn from(amount: Amount) -> Written {
        match amount {
            Amount::Rows(count) => Written::Count(count),
            percent => Written::Text(percent.to_string()),
        }
    }
}

impl JsonSchema for Amount {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Amount".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "A count of rows, or a percentage such as `5%`.",
            "anyOf": [
                {"type": "integer", "minimum": 0},
                {"type": "string", "examples": ["5%"], "pattern": "^(100(\\.0*)?|[0-9]{1,2}(\\.[0-9]+)?)%$"}
            ]
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_percent_of_two_hundred_and_fifty_bears_two_and_not_three() {
        let limit = Amount::Percent(1.0);
        assert!(!limit.is_exceeded_by(2, 250));
        assert!(limit.is_exceeded_by(3, 250));
    }

    #[test]
    fn counts_and_percentages_read_and_write_as_they_stand() {
        for (text, rows) in [("30", 30), ("\"5%\"", 10), ("\"0.25%\"", 1), ("\"100%\"", 200)] {
            let amount: Amount = serde_json::from_str(text).unwrap();
            assert_eq!(amount.of(200), rows, "{text}");
            assert_eq!(serde_json::to_string(&amount).unwrap(), text);
        }
        for text in ["\"101%\"", "\"-1%\"", "\"many\"", "-3", "0.1"] {
            assert!(serde_json::from_str::<Amount>(text).is_err(), "{text}");
        }
    }

    #[test]
    fn remainders_go_to_the_largest_fractions() {
        assert_eq!(apportion(60, &[200.0, 2000.0]), [5, 55]);
        assert_eq!(apportion(10, &[1.0, 1.0, 1.0]), [4, 3, 3]);
        assert_eq!(apportion(0, &[1.0, 2.0]), [0, 0]);
        assert_eq!(apportion(5, &[]), Vec::<usize>::new());
    }
}
