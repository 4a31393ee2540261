//! When a review was written: Unix seconds or milliseconds, or a date as text, whichever is plausible.

use serde_json::Value;

use crate::day;

/// Reviews from before 1994, when the shop opened, are errors of the file. There is no clock in data, so the upper end is
/// a fixed one as well.
const PLAUSIBLE_MS: std::ops::Range<i64> = 757_382_400_000..4_102_444_800_000;
/// Numbers from here on are milliseconds: as seconds this would be the year 5138.
const FIRST_MS: i64 = 100_000_000_000;

/// Returns the moment of a review from `unixReviewTime`, else from `reviewTime` (`06 17, 2018`).
pub fn of_review(unix: Option<&Value>, date: Option<&str>) -> Result<i64, String> {
    let number = match unix {
        Some(Value::String(text)) => text.trim().parse().ok(),
        Some(number) => number.as_f64(),
        None => None,
    };
    let from_unix = number.map(from_number).filter(|ms| PLAUSIBLE_MS.contains(ms));
    let from_date = || date.and_then(us_date).filter(|ms| PLAUSIBLE_MS.contains(ms));
    from_unix.or_else(from_date).ok_or_else(|| match number {
        Some(number) => format!("time `{number}` is outside 1994 to 2099"),
        None => "no time".to_string(),
    })
}

/// Returns the moment of a cell: Unix seconds or milliseconds, ISO 8601, or `06 17, 2018`.
pub fn of_cell(cell: &str) -> Result<i64, String> {
    let number = cell.trim().parse::<f64>().ok().map(from_number);
    let time_ms = number.or_else(|| day::parse_iso(cell)).or_else(|| us_date(cell));
    match time_ms {
        Some(ms) if PLAUSIBLE_MS.contains(&ms) => Ok(ms),
        Some(_) => Err(format!("time `{}` is outside 1994 to 2099", cell.trim())),
        None => Err(format!("time `{}` is neither Unix seconds nor a date like 2018-06-17", cell.trim())),
    }
}

fn from_number(number: f64) -> i64 {
    let whole = number as i64;
    if whole.abs() < FIRST_MS { (number * 1000.0) as i64 } else { whole }
}

/// Reads `06 17, 2018`; the day may have one digit.
fn us_date(text: &str) -> Option<i64> {
    let (month_day, year) = text.trim().split_once(',')?;
    let (month, day) = month_day.split_once(' ')?;
    day::from_civil(year.trim().parse().ok()?, month.parse().ok()?, day.trim().parse().ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_milliseconds_and_dates_agree() {
        let ms = 1_529_193_600_000;
        assert_eq!(of_review(Some(&Value::from(1_529_193_600)), None), Ok(ms));
        assert_eq!(of_review(Some(&Value::from(ms)), None), Ok(ms));
        assert_eq!(of_review(None, Some("06 17, 2018")), Ok(ms));
        assert_eq!(of_cell("2018-06-17"), Ok(ms));
        assert_eq!(of_cell("1529193600"), Ok(ms));
    }

    #[test]
    fn an_implausible_number_gives_way_to_the_date() {
        assert_eq!(of_review(Some(&Value::from(0)), Some("06 2, 2013")), Ok(1_370_131_200_000));
        assert_eq!(of_review(Some(&Value::from(-5)), None).unwrap_err(), "time `-5` is outside 1994 to 2099");
        assert_eq!(of_review(None, None).unwrap_err(), "no time");
    }
}
