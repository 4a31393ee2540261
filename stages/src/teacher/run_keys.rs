//! `run` keys of `teacher-label`: how fast, how long, how dear, with which key. None of them enters the action key.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use watershed_engine::StageError;

/// How the teacher is asked.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct TeacherRun {
    /// The variable that holds the key, as `{env: NAME}`; read only when a request is sent, never written anywhere.
    pub api_key: Option<KeySource>,
    /// Tries after the first for a request that failed in passing (10, as curator).
    pub request_retries: u32,
    /// Longest wait for one answer, in seconds or like `10m` (600 s, as openai-python).
    pub request_timeout: Span,
    /// Requests a minute (no limit).
    #[schemars(range(min = 1))]
    pub requests_per_minute: Option<u32>,
    /// Tokens a minute, prompt and longest answer together (no limit).
    #[schemars(range(min = 1))]
    pub tokens_per_minute: Option<u32>,
    /// Requests in flight at once (8); halved whenever the server says 429.
    #[schemars(range(min = 1))]
    pub concurrency: u32,
    /// US dollars that one execution may spend; requests in flight count with their worst case. Needs `price`.
    #[schemars(range(min = 0.0))]
    pub budget_usd: Option<f64>,
    /// US dollars per million tokens.
    pub price: Option<Price>,
    /// `online` sends requests one by one; `batch` is not here yet.
    pub mode: Mode,
    /// Lets the endpoint be an address of a private network.
    pub allow_private: bool,
}

impl Default for TeacherRun {
    fn default() -> TeacherRun {
        TeacherRun {
            api_key: None,
            request_retries: 10,
            request_timeout: Span::Seconds(600.0),
            requests_per_minute: None,
            tokens_per_minute: None,
            concurrency: 8,
            budget_usd: None,
            price: None,
            mode: Mode::Online,
            allow_private: false,
        }
    }
}

/// Where the key comes from.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct KeySource {
    /// Name of an environment variable.
    pub env: String,
}

/// US dollars per million tokens.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Price {
    /// Of the prompt.
    #[schemars(range(min = 0.0))]
    pub input: f64,
    /// Of the answer.
    #[schemars(range(min = 0.0))]
    pub output: f64,
}

impl Price {
    /// Returns the price of one request in US dollars.
    pub fn of(self, tokens_in: u64, tokens_out: u64) -> f64 {
        (tokens_in as f64 * self.input + tokens_out as f64 * self.output) / 1e6
    }
}

/// How requests travel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// One by one.
    Online,
    /// As one file, at half the price, within a day.
    Batch,
}

/// A length of time: seconds, or a number with `s`, `m` or `h`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Span {
    /// Seconds.
    Seconds(f64),
    /// For example `90s`, `10m`, `1h`.
    Text(String),
}

impl Span {
    /// Returns the length of time.
    ///
    /// # Errors
    /// When the text is no positive length of time.
    pub fn duration(&self) -> Result<Duration, StageError> {
        let seconds = match self {
            Span::Seconds(seconds) => Some(*seconds),
            Span::Text(text) => parse_seconds(text.trim()),
        };
        seconds.filter(|s| *s > 0.0).and_then(|s| Duration::try_from_secs_f64(s).ok()).ok_or_else(|| {
            StageError::failed("`run.request_timeout` is no length of time: write `600`, `90s`, `10m` or `1h`")
        })
    }
}

fn parse_seconds(text: &str) -> Option<f64> {
    let units = [("ms", 0.001), ("s", 1.0), ("m", 60.0), ("h", 3600.0), ("", 1.0)];
    units.iter().find_map(|(unit, factor)| Some(text.strip_suffix(unit)?.trim_end().parse::<f64>().ok()? * factor))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_read_seconds_and_units() {
        let read = |t: &str| Span::Text(t.into()).duration().ok();
        assert_eq!(read("90s"), Some(Duration::from_secs(90)));
        assert_eq!(read("10m"), Some(Duration::from_secs(600)));
        assert_eq!(read("250ms"), Some(Duration::from_millis(250)));
        assert_eq!(read("7"), Some(Duration::from_secs(7)));
        assert_eq!(read("soon"), None);
        assert_eq!(read("-1s"), None);
    }
}
