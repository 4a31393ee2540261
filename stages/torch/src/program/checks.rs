//! What must hold of a trained adapter before anybody relies on it.
//!
//! Each check has a case in the field behind it: alpaca-lora's early versions saved adapters of 443 bytes (issues 293, 390,
//! 446), and models that never saw an end token write on until they are cut off.

use std::path::Path;

use serde_json::{Value, json};
use watershed_engine::{Job, StageError};
use watershed_stages::lora_train::{Dataset, Level, LoraTrain};
use watershed_torch::{Lora, Model, Row, divergence, evaluate};

use super::evaluation::row;
use super::failed;

/// Rows that checks look at.
const ROWS: usize = 8;
/// Nats a token by which a tuned model differs from its base at least; bf16 noise stays below.
const LEAST_DIVERGENCE: f64 = 1e-4;
/// Mean probability of the end token at the end of an answer, below which a model has not learned to stop.
const LEAST_END: f64 = 0.01;
/// Largest difference in loss between an adapter in memory and read back.
const RELOAD: f64 = 1e-5;

/// Checks the last adapter, and the chosen one's `B`; returns what was measured.
///
/// # Errors
/// When a check fails that `checks` lets fail.
pub fn check(params: &LoraTrain, model: &Model, lora: &Lora, data: &Dataset, job: &Job) -> Result<Value, StageError> {
    let rows: Vec<Row> =
        data.val.rows.iter().chain(&data.train.rows).map(row).filter(|r| r.label_tokens() > 0).take(ROWS).collect();
    let reload = reloaded(model, lora, &rows, job.output("last"))?;
    let chosen = Lora::load(job.output("adapter"), model).map_err(failed)?;
    let least = [lora, &chosen].map(least_b).into_iter().fold(f64::INFINITY, f64::min);
    let kl = divergence(model, &chosen, &rows).map_err(failed)?;
    let end = end_probability(model, &chosen, &rows, &data.template.stops(&data.tokenizer))?;
    verdict(job, Level::Fail, reload <= RELOAD, || {
        format!("the saved adapter's loss differs from the trained one's by {reload:.1e}")
    })?;
    verdict(job, Level::Fail, least > 0.0, || {
        "the adapter learned nothing: a `B` is zero; is the learning rate above 0 in any update?".into()
    })?;
    verdict(job, params.checks.kl, kl >= LEAST_DIVERGENCE, || {
        let way = softened("kl", params.checks.kl);
        format!("the tuned model answers as the base does (KL {kl:.1e} nats a token); train longer or raise `lr`{way}")
    })?;
    if let Some(end) = end {
        verdict(job, params.checks.eos, end >= LEAST_END, || {
            let way = softened("eos", params.checks.eos);
            format!("the tuned model ends answers with probability {end:.4}, so it may never stop; train longer{way}")
        })?;
    }
    Ok(json!({"reload_loss_difference": reload, "least_b_norm": least, "kl": kl, "end_probability": end}))
}

/// Says how a check is softened that is not yet.
fn softened(name: &str, level: Level) -> String {
    if level == Level::Fail { format!(", or set `checks.{name}: warn`") } else { String::new() }
}

fn verdict(job: &Job, level: Level, holds: bool, message: impl FnOnce() -> String) -> Result<(), StageError> {
    match level {
        _ if holds => Ok(()),
        Level::Fail => Err(StageError::Failed(message())),
        Level::Warn => {
            job.warn(message());
            Ok(())
        }
        Level::Off => Ok(()),
    }
}

fn reloaded(model: &Model, lora: &Lora, rows: &[Row], folder: &Path) -> Result<f64, StageError> {
    let loss = |lora: &Lora| -> Result<f64, StageError> {
        // a row at a time, which every training has had room for
        Ok(evaluate(model, Some(lora), rows, 1).map_err(failed)?.loss().unwrap_or(0.0))
    };
    let again = Lora::load(folder, model).map_err(failed)?;
    Ok((loss(lora)? - loss(&again)?).abs())
}

fn least_b(lora: &Lora) -> f64 {
    lora.b_norms().into_iter().map(|(_, norm)| norm).fold(f64::INFINITY, f64::min)
}

/// Returns the mean probability of a row's own end where it ends, one of `ends`; none when no row is whole.
fn end_probability(model: &Model, lora: &Lora, rows: &[Row], ends: &[u32]) -> Result<Option<f64>, StageError> {
    let is_whole = |row: &&Row| row.ids.len() > 1 && row.ids.last().is_some_and(|id| ends.contains(id));
    let whole: Vec<&Row> = rows.iter().filter(is_whole).collect();
    let mut sum = 0.0;
    for row in &whole {
        let Some((end, before)) = row.ids.split_last() else { continue };
        let next = model.next_logits(Some(lora), before).map_err(failed)?.softmax(-1, tch::Kind::Float);
        sum += next.double_value(&[i64::from(*end)]);
    }
    Ok((!whole.is_empty()).then(|| sum / whole.len() as f64))
}
