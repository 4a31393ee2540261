//! How long to wait before the next try, by the rules of openai-python 3.54 (`_base_client.py`).

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::seeded::SplitMix;

/// Longest wait that a server may ask for; beyond it the stage ends and keeps what it has.
pub const LONGEST: Duration = Duration::from_secs(120);

/// Returns 0.5 s doubled with each try up to 8 s, minus 0 to 25 % of jitter drawn from the row and the try.
pub fn delay(row: &str, tries: u32) -> Duration {
    let full = 0.5 * f64::from(1u32 << tries.saturating_sub(1).min(4));
    let jitter = SplitMix::new(u64::from(tries), row).unit() * 0.25;
    Duration::from_secs_f64(full * (1.0 - jitter))
}

/// Returns the wait that the server asks for: `retry-after-ms`, else `retry-after` as seconds or as an HTTP date.
pub fn asked(retry_after_ms: Option<&str>, retry_after: Option<&str>, now: SystemTime) -> Option<Duration> {
    let millis = retry_after_ms.and_then(|t| t.trim().parse::<f64>().ok()).map(|ms| ms / 1000.0);
    let seconds = millis.or_else(|| retry_after?.trim().parse::<f64>().ok());
    if let Some(seconds) = seconds {
        return Duration::try_from_secs_f64(seconds.max(0.0)).ok();
    }
    let at = http_date(retry_after?.trim())?;
    Some(at.duration_since(now).unwrap_or_default())
}

/// Reads `Sun, 06 Nov 1994 08:49:37 GMT` (RFC 9110, 5.6.7; the obsolete forms are not sent by anyone we know).
fn http_date(text: &str) -> Option<SystemTime> {
    const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let parts: Vec<&str> = text.split_whitespace().collect();
    let [_, day, month, year, time, "GMT"] = parts[..] else { return None };
    let month = MONTHS.iter().position(|m| *m == month)? as i64 + 1;
    let clock: Vec<u64> = time.split(':').map(|p| p.parse().ok()).collect::<Option<_>>()?;
    let [hours, minutes, seconds] = clock[..] else { return None };
    let days = days_since_1970(year.parse().ok()?, month, day.parse().ok()?);
    let total = u64::try_from(days).ok()?.checked_mul(86_400)?.checked_add(hours * 3600 + minutes * 60 + seconds)?;
    UNIX_EPOCH.checked_add(Duration::from_secs(total))
}

/// Howard Hinnant's `days_from_civil`.
fn days_since_1970(year: i32, month: i64, day: u8) -> i64 {
    let year = i64::from(year) - i64::from(month <= 2);
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + i64::from(day) - 1;
    era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_double_to_a_cap_and_jitter_downwards() {
        for (tries, full) in [(1, 0.5), (2, 1.0), (5, 8.0), (40, 8.0)] {
            let wait = delay("row", tries).as_secs_f64();
            assert!(wait <= full && wait >= full * 0.75, "{tries}: {wait}");
        }
    }

    #[test]
    fn asked_reads_milliseconds_seconds_and_dates() {
        let now = UNIX_EPOCH + Duration::from_secs(784_111_777); // Sun, 06 Nov 1994 08:49:37 GMT, the RFC's example
        assert_eq!(asked(Some("250"), Some("9"), now), Some(Duration::from_millis(250)));
        assert_eq!(asked(None, Some("9"), now), Some(Duration::from_secs(9)));
        assert_eq!(asked(None, Some("Sun, 06 Nov 1994 08:50:00 GMT"), now), Some(Duration::from_secs(23)));
        assert_eq!(asked(None, Some("tomorrow"), now), None);
        assert_eq!(asked(None, Some("-4"), now), Some(Duration::ZERO));
    }
}
