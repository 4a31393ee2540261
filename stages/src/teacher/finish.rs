//! What becomes of an answer that the model did not end by itself.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::reply::Reply;

/// How often an answer is drawn again under [`Policy::Retry`]; each draw is another sample with its own memo.
pub const SAMPLES: u32 = 3;

/// Policy by `finish_reason`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Finish {
    /// The answer reached `max_tokens` (`keep`; `meta.finish_reason` tells which rows).
    pub length: Policy,
    /// The provider cut it out (`drop`).
    pub content_filter: Policy,
}

impl Default for Finish {
    fn default() -> Finish {
        Finish { length: Policy::Keep, content_filter: Policy::Drop }
    }
}

/// What to do with such an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Policy {
    /// Use it; `meta.finish_reason` marks the row.
    Keep,
    /// Leave the row out; it counts against `max_failed`.
    Drop,
    /// Ask again, at most 3 answers a row; then as `drop`.
    Retry,
}

impl Finish {
    /// Returns what to do with `reply`, the answer number `sample` of its row.
    pub fn judge(&self, reply: &Reply, sample: u32) -> Policy {
        let policy = match reply.finish_reason.as_str() {
            "length" => self.length,
            "content_filter" => self.content_filter,
            _ => Policy::Keep,
        };
        if policy == Policy::Retry && sample + 1 >= SAMPLES { Policy::Drop } else { policy }
    }
}
