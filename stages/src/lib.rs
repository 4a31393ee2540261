//! The kinds of stage that Watershed ships: one file each, one registration line each.
//!
//! `record/` reads and writes the record types of `docs/kinds.md`; `text/` turns examples into token ids and labels, once,
//! for previews and for training. Kinds that compute on libtorch keep parameters, ports, checks and preview here, so that
//! every build can check, plan and explain them; their work is in `watershed-torch`.

pub mod amount;
pub mod base;
pub mod baseline;
pub mod choose;
pub mod clean;
pub mod command;
pub mod day;
pub mod evaluate;
pub mod examples;
pub mod export;
pub mod fetch;
#[cfg(test)]
#[path = "../../tests/it/fixture.rs"]
mod fixture;
pub mod formats;
pub mod generate;
pub mod holdout;
pub mod html;
pub mod ingest;
pub mod lora_train;
pub mod metrics;
pub mod mix;
pub mod network;
pub mod prompt;
pub mod random_model;
pub mod rank;
pub mod recommend;
pub mod record;
pub mod seeded;
pub mod split;
pub mod synthetic;
pub mod teacher;
pub mod text;

use watershed_engine::Kind;

/// Returns every kind, in the order of the documentation.
pub fn kinds() -> Vec<Kind> {
    vec![
        Kind::of::<synthetic::Synthetic>(),
        Kind::of::<ingest::Ingest>(),
        Kind::of::<examples::Examples>(),
        Kind::of::<clean::Clean>(),
        Kind::of::<holdout::Holdout>(),
        Kind::of::<prompt::Prompt>(),
        Kind::of::<teacher::TeacherLabel>(),
        Kind::of::<mix::Mix>(),
        Kind::of::<split::Split>(),
        Kind::of::<random_model::RandomModel>(),
        Kind::of::<lora_train::LoraTrain>(),
        Kind::of::<generate::Generate>(),
        Kind::of::<rank::Rank>(),
        Kind::of::<baseline::Baseline>(),
        Kind::of::<evaluate::Evaluate>(),
        Kind::of::<choose::Choose>(),
        Kind::of::<export::Export>(),
        Kind::of::<command::Command>(),
        Kind::of::<fetch::Fetch>(),
    ]
}
