//! Dates of the proleptic Gregorian calendar as milliseconds since 1970 UTC.
//!
//! Day counts follow Howard Hinnant's `days_from_civil` and `civil_from_days` ("chrono-compatible low-level date
//! algorithms"), which need no tables and no clock.

/// Milliseconds of one day.
pub const DAY_MS: i64 = 86_400_000;

/// Returns the start of a date, or `None` when there is no such date.
pub fn from_civil(year: i64, month: u32, day: u32) -> Option<i64> {
    if !(1..=9999).contains(&year) || !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return None;
    }
    let y = if month <= 2 { year - 1 } else { year };
    let era = y.div_euclid(400);
    let year_of_era = y - era * 400;
    let month_from_march = i64::from((month + 9) % 12);
    let day_of_year = (153 * month_from_march + 2) / 5 + i64::from(day) - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    let time_ms = (era * 146_097 + day_of_era - 719_468) * DAY_MS;
    (to_civil(time_ms) == (year, month, day)).then_some(time_ms)
}

/// Returns year, month and day of a moment.
pub fn to_civil(time_ms: i64) -> (i64, u32, u32) {
    let days = time_ms.div_euclid(DAY_MS) + 719_468;
    let era = days.div_euclid(146_097);
    let day_of_era = days.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = (day_of_year - (153 * month_from_march + 2) / 5 + 1) as u32;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 } as u32;
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}

/// Returns the date of a moment as `2018-06-17`.
pub fn text(time_ms: i64) -> String {
    let (year, month, day) = to_civil(time_ms);
    format!("{year:04}-{month:02}-{day:02}")
}

/// Returns the moment written as `2018-06-17`, alone or followed by a time of day as ISO 8601 writes it in UTC.
pub fn parse_iso(text: &str) -> Option<i64> {
    let text = text.trim();
    let (date, time) = text.split_at_checked(10)?;
    let mut parts = date.split('-');
    let (year, month, day) = (parts.next()?, parts.next()?, parts.next()?);
    let start = from_civil(year.parse().ok()?, month.parse().ok()?, day.parse().ok()?)?;
    match time.strip_prefix(['T', ' ']) {
        None if time.is_empty() => Some(start),
        None => None,
        Some(time) => Some(start + time_of_day(time.strip_suffix('Z').unwrap_or(time))?),
    }
}

fn time_of_day(text: &str) -> Option<i64> {
    let mut parts = text.split(':');
    let hours: i64 = parts.next()?.parse().ok()?;
    let minutes: i64 = parts.next()?.parse().ok()?;
    let seconds: f64 = parts.next().unwrap_or("0").parse().ok()?;
    let fits = (0..24).contains(&hours)
        && (0..60).contains(&minutes)
        && (0.0..61.0).contains(&seconds)
        && parts.next().is_none();
    fits.then(|| (hours * 60 + minutes) * 60_000 + (seconds * 1000.0).round() as i64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_days_map_both_ways() {
        for (time_ms, date) in [
            (0, "1970-01-01"),
            (1_529_193_600_000, "2018-06-17"),
            (951_782_400_000, "2000-02-29"),
            (-DAY_MS, "1969-12-31"),
        ] {
            assert_eq!(text(time_ms), date);
            assert_eq!(parse_iso(date), Some(time_ms));
        }
    }

    #[test]
    fn impossible_dates_are_refused() {
        assert_eq!(parse_iso("2017-02-29"), None);
        assert_eq!(parse_iso("2017-13-01"), None);
        assert_eq!(parse_iso("soon"), None);
        assert_eq!(parse_iso("2017-01-13x"), None);
    }

    #[test]
    fn a_time_of_day_counts() {
        assert_eq!(parse_iso("1970-01-01T00:01:00.500Z"), Some(60_500));
        assert_eq!(parse_iso("1970-01-02 01:00"), Some(DAY_MS + 3_600_000));
    }
}
