//! `schema`: the JSON Schema of pipelines, made from the structs that decode them.

use super::out;
use crate::language::{Kinds, json_schema};
use crate::stage::Kind;

pub fn schema(kinds: fn() -> Vec<Kind>) -> i32 {
    let schema = json_schema(&Kinds::new(kinds()));
    out::raw(serde_json::to_string_pretty(&schema).unwrap_or_default());
    0
}
