//! What must hold of a trained adapter before anybody relies on it.
//!
//! Each check has a case in the field behind it: alpaca-lora's early versions saved adapters of 443 bytes (issues 293, 390,
//! 446), and models that never saw an end token write on until they are cut off.

use std::path::Path;

use serde_json::{Value, json};
use watershed_engine::{Job, StageError};
use watershed_stages::lora_train::{CHECKED_ROWS, Checks, Dataset, Level, LoraTrain};
use watershed_torch::{Lora, Model, Row, divergence, evaluate};

use super::evaluation::row;
use super::failed;

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
    let rows = data.val.rows.iter().chain(&data.train.rows).map(row).filter(|r| r.label_tokens() > 0);
    let rows: Vec<Row> = rows.take(CHECKED_ROWS).collect();
    let tell = |done, note: &str| job.progress(done, 3, "checks", note);
    tell(0, "reads the adapter back");
    let reload = reloaded(model, lora, &rows, job.output("last"))?;
    let chosen = Lora::load(job.output("adapter"), model).map_err(failed)?;
    let least_b = [lora, &chosen].map(least_b).into_iter().fold(f64::INFINITY, f64::min);
    tell(1, "compares its answers with the base's");
    let kl = divergence(model, &chosen, &rows).map_err(failed)?;
    tell(2, "looks whether its answers end");
    let end = end_probability(model, &chosen, &rows, &data.template.stops(&data.tokenizer))?;
    tell(3, "");
    let found = Found { reload, least_b, kl, end };
    found.judge(params.checks, job)?;
    Ok(json!({"reload_loss_difference": reload, "least_b_norm": least_b, "kl": kl, "end_probability": end}))
}

/// What the checks measured.
struct Found {
    /// Difference in loss between the adapter in memory and read back.
    reload: f64,
    /// The least norm of a `B`.
    least_b: f64,
    /// Nats a token between the tuned model and its base.
    kl: f64,
    /// Mean probability of the end token at the end of an answer; none when no row is whole.
    end: Option<f64>,
}

impl Found {
    /// Warns of what `checks` only warn of.
    ///
    /// # Errors
    /// Tells everything at once that lets the stage fail.
    fn judge(&self, checks: Checks, job: &Job) -> Result<(), StageError> {
        let (broken, poor) = (self.broken(), self.poor(checks));
        let of = |wanted: Level| poor.iter().filter(move |(level, _)| *level == wanted).map(|(_, text)| text.clone());
        of(Level::Warn).for_each(|text| job.warn(text));
        let refused: Vec<String> = broken.iter().cloned().chain(of(Level::Fail)).collect();
        if refused.is_empty() {
            return Ok(());
        }
        let is_kept = broken.is_empty() && job.checkpoint().is_some();
        let kept = if is_kept { "; the trained weights are kept, so a softened check costs no training" } else { "" };
        Err(StageError::Failed(refused.join("; ") + kept))
    }

    /// Tells what no setting makes good.
    fn broken(&self) -> Vec<String> {
        let mut told = Vec::new();
        if self.reload.is_nan() || self.reload > RELOAD {
            told.push(format!("the saved adapter's loss differs from the trained one's by {:.1e}", self.reload));
        }
        if self.least_b.is_nan() || self.least_b <= 0.0 {
            told.push("the adapter learned nothing: a `B` is zero; is the learning rate above 0 in any update?".into());
        }
        told
    }

    /// Tells what `checks` weigh, each with its level.
    fn poor(&self, checks: Checks) -> Vec<(Level, String)> {
        let mut told = Vec::new();
        if self.kl.is_nan() || self.kl < LEAST_DIVERGENCE {
            let (kl, way) = (self.kl, softened("kl", checks.kl));
            let text = format!(
                "the tuned model answers as the base does (KL {kl:.1e} nats a token); train longer or raise `lr`{way}"
            );
            told.push((checks.kl, text));
        }
        if let Some(end) = self.end.filter(|end| end.is_nan() || *end < LEAST_END) {
            let way = softened("eos", checks.eos);
            let text = format!(
                "the tuned model ends answers with probability {end:.4}, so it may never stop; train longer{way}"
            );
            told.push((checks.eos, text));
        }
        told
    }
}

/// Says how a check is softened that is not yet.
fn softened(name: &str, level: Level) -> String {
    if level == Level::Fail { format!(", or set `checks.{name}: warn`") } else { String::new() }
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

#[cfg(test)]
mod tests {
    use watershed_engine::JobSpec;
    use watershed_engine::job::{Cancel, Silent};

    use super::*;

    fn refusal(found: Found, checks: Checks, spec: JobSpec) -> Option<String> {
        found.judge(checks, &Job::new(spec, &Silent, Cancel::default())).err().map(|error| error.to_string())
    }

    const POOR: Found = Found { reload: 0.0, least_b: 1.0, kl: 1e-9, end: Some(0.001) };

    fn kept(folder: &Path) -> JobSpec {
        JobSpec { checkpoint: Some(folder.join("checkpoint")), ..JobSpec::default() }
    }

    #[test]
    fn all_checks_that_fail_are_told_at_once_with_what_a_softer_one_costs() {
        let folder = tempfile::tempdir().unwrap();
        let text = refusal(POOR, Checks::default(), kept(folder.path())).unwrap();
        let ways = [
            "or set `checks.kl: warn`; the tuned model ends",
            "or set `checks.eos: warn`; the trained weights are kept",
        ];
        assert!(ways.iter().all(|way| text.contains(way)), "{text}");
        let text = refusal(POOR, Checks { kl: Level::Warn, ..Checks::default() }, JobSpec::default()).unwrap();
        assert!(text.starts_with("the tuned model ends") && text.ends_with("or set `checks.eos: warn`"), "{text}");
        let soft = Checks { kl: Level::Off, eos: Level::Warn, ..Checks::default() };
        assert_eq!(refusal(POOR, soft, JobSpec::default()), None);
    }

    #[test]
    fn what_no_check_softens_says_nothing_of_softer_ones() {
        let folder = tempfile::tempdir().unwrap();
        let text = refusal(Found { least_b: 0.0, ..POOR }, Checks::default(), kept(folder.path())).unwrap();
        assert!(text.starts_with("the adapter learned nothing") && !text.contains("are kept"), "{text}");
        assert_eq!(refusal(Found { kl: 1.0, end: None, ..POOR }, Checks::default(), JobSpec::default()), None);
        assert!(refusal(Found { kl: f64::NAN, ..POOR }, Checks::default(), JobSpec::default()).is_some());
    }
}
