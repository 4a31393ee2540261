//! What a training will do, before it does it: the schedule preview, its lints and its time.

use serde_json::{Value, json};
use watershed_engine::StageError;
use watershed_engine::code;
use watershed_engine::preview::{Lint, Preview, PreviewInputs, Severity};
use watershed_weights::LlamaConfig;

use super::{Dataset, Files, Level, LoraTrain, plan, schedule};
use crate::base::Base;
use crate::text::labels::Row;

/// Share of the rows that may lose their answer or their end before a check fails.
const TOLERATED: f64 = 0.01;

/// Floating-point operations that one core does in a second of training SmolLM2-135M with libtorch 2.11, measured: 132 tokens
/// per CPU-second in f32, 289 in bf16, at 4 operations a weight.
const FLOPS_PER_CORE: [f64; 2] = [7.1e10, 15.5e10];

/// Makes the preview out of the inputs that are there already.
///
/// # Errors
/// When an input that is there cannot be read or does not fit; the base is looked at even before there are rows.
pub fn preview(params: &LoraTrain, inputs: &PreviewInputs) -> Result<Preview, StageError> {
    let Some(base) = inputs.get("base") else { return Ok(known(params, inputs)) };
    let Some(train) = inputs.get("train") else {
        inputs.once(&json!([base]).to_string(), || Base::open(base))?;
        return Ok(known(params, inputs));
    };
    let files = Files { train, val: inputs.get("val"), test: inputs.get("test") };
    let (template, system, train_on) = (&params.template, &params.system, params.train_on);
    let question =
        json!([base, train, files.val, files.test, template, system, train_on, params.max_len, params.overflow]);
    let seen = inputs.once(&question.to_string(), || {
        let base = Base::open(base)?;
        Ok((Dataset::encode(params, files, base.tokenizer)?, base.config))
    })?;
    let (data, config) = &*seen;
    let mut preview = Preview::default();
    facts(&mut preview, params, data);
    lints(&mut preview, params, data)?;
    preview.cost.seconds = Some(seconds(params, data, config));
    Ok(preview)
}

/// Tells what parameters alone decide.
fn known(params: &LoraTrain, inputs: &PreviewInputs) -> Preview {
    let mut preview = Preview::default();
    if let Some(steps) = params.max_steps {
        preview.fact("updates", steps);
        let schedule = schedule(params, u64::from(steps));
        preview.fact("max_lr", rounded(schedule.max_lr())).fact("sum_lr", rounded(schedule.sum_lr()));
    }
    preview.fact("batch_size", params.batch_size).fact("lr", params.lr);
    if params.max_steps.is_none() {
        preview.fact("epochs", params.epochs);
    }
    if inputs.get("train").is_none() {
        preview.waits("rows", "train");
    }
    preview
}

fn facts(preview: &mut Preview, params: &LoraTrain, data: &Dataset) {
    let rows = data.train.rows.len();
    let schedule = schedule(params, plan(params).updates(rows));
    preview
        .fact("rows", rows)
        .fact("updates", schedule.total)
        .fact("warmup_share", rounded(schedule.warmup_share()))
        .fact("max_lr", rounded(schedule.max_lr()))
        .fact("sum_lr", rounded(schedule.sum_lr()))
        .fact("rows_cut", data.rows_cut())
        .fact("label_tokens", data.label_tokens());
}

/// Rounds to four digits, so that tables show 7.2e-5 and not 7.199999999999999e-5.
fn rounded(value: f64) -> Value {
    format!("{value:.3e}").parse::<f64>().map_or(Value::Null, Value::from)
}

fn lints(preview: &mut Preview, params: &LoraTrain, data: &Dataset) -> Result<(), StageError> {
    let rows = data.train.rows.len();
    let checks = params.checks;
    let cut = data.rows_cut();
    if cut > 0 {
        let level = if share(cut, rows) > TOLERATED { checks.truncation } else { softened(checks.truncation) };
        let untaught = data.train.rows.iter().filter(|row| row.label_tokens() == 0 || answerless(row)).count();
        push(
            preview,
            code::ANSWERS_CUT,
            level,
            format!(
                "{cut} of {rows} rows lose answer tokens at `max_len: {}` ({untaught} of them the whole answer); raise `max_len`, or set `overflow: truncate_input`",
                params.max_len
            ),
        );
    }
    let endless = data.rows_without_end()?;
    if share(endless, rows) > TOLERATED {
        push(
            preview,
            code::NO_END,
            checks.eos,
            format!(
                "{endless} of {rows} rows teach no end of an answer, so the model may never stop; raise `max_len`, or set `overflow: truncate_input`"
            ),
        );
    }
    lint_schedule(preview, params, rows);
    lint_overflow(preview, params, data);
    if !data.overlap.is_empty() {
        let first = &data.overlap[0];
        push(
            preview,
            code::LEAK,
            checks.overlap,
            format!(
                "{} held-out rows share their customer or text with `train`, for example `{first}`; split by group",
                data.overlap.len()
            ),
        );
    }
    Ok(())
}

/// What `overflow` takes away is wanted, and told.
fn lint_overflow(preview: &mut Preview, params: &LoraTrain, data: &Dataset) {
    let (cut, dropped) = (data.inputs_cut(), data.train.dropped.len());
    let all = data.train.rows.len() + dropped;
    let mut tell = |count: usize, what: &str| {
        if count > 0 {
            let text =
                format!("{count} of {all} rows {what} at `max_len: {}`; raise it to keep them whole", params.max_len);
            push(preview, code::ROWS_SHORTENED, Level::Warn, text);
        }
    };
    tell(cut, "lose the middle of their input");
    tell(dropped, "are left out");
}

fn lint_schedule(preview: &mut Preview, params: &LoraTrain, rows: usize) {
    let schedule = schedule(params, plan(params).updates(rows));
    if rows == 0 {
        return push(
            preview,
            code::NEVER_WARM,
            Level::Fail,
            "no training row is left: raise `max_len`, or give more rows".into(),
        );
    }
    if schedule.total == 0 {
        let text =
            format!("{rows} rows give no update of `batch_size: {}` under `tail: carry`; lower it", params.batch_size);
        return push(preview, code::NEVER_WARM, Level::Fail, text);
    }
    if schedule.warmup >= schedule.total {
        // a share is rounded up, so it takes all of a single update
        let mend = if schedule.total < 2 { "0" } else { "0.05" };
        let text = format!(
            "warm-up takes {} updates and there are {}: the highest learning rate reached is {:.1e}, not {:.1e}; set `warmup: {mend}`",
            schedule.warmup,
            schedule.total,
            schedule.max_lr(),
            schedule.lr
        );
        push(preview, code::NEVER_WARM, params.checks.warmup, text);
    }
}

fn answerless(row: &Row) -> bool {
    row.ids.len() <= row.response_start
}

fn share(part: usize, whole: usize) -> f64 {
    part as f64 / whole.max(1) as f64
}

fn softened(level: Level) -> Level {
    if level == Level::Fail { Level::Warn } else { level }
}

fn push(preview: &mut Preview, code: &str, level: Level, message: String) {
    let severity = match level {
        Level::Fail => Severity::Fail,
        Level::Warn => Severity::Warn,
        Level::Off => return,
    };
    preview.lints.push(Lint { code: code.into(), severity, message });
}

/// Estimates the seconds of work: 4 operations a weight and trained token (no gradients of the base), 2 an evaluated one.
fn seconds(params: &LoraTrain, data: &Dataset, config: &LlamaConfig) -> f64 {
    let rows = data.train.rows.len().max(1);
    let tokens: usize = data.lengths().iter().sum();
    let updates = plan(params).updates(data.train.rows.len());
    let passes = updates as f64 / plan(params).updates_per_epoch(rows).max(1) as f64;
    let val: usize = data.val.rows.iter().map(|row| row.ids.len()).sum();
    let weights = config.matmul_parameters() as f64;
    let work = weights * (4.0 * tokens as f64 * passes + 2.0 * val as f64 * (passes.ceil() + 1.0));
    let cores = std::thread::available_parallelism().map_or(1, usize::from) as f64;
    (work / (cores * FLOPS_PER_CORE[params.dtype as usize])).ceil()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lora_train::Checks;
    use crate::text::fixture::tiny_llama;

    /// The fixture's rows for training; the same rows as validation where `overlaps`.
    fn inputs(overlaps: bool) -> Option<PreviewInputs> {
        let (rows, base) = (tiny_llama("dataset.json")?, tiny_llama("model")?);
        let mut inputs = PreviewInputs::default();
        inputs.ports.insert("train".into(), vec![("train".into(), rows.clone())]);
        inputs.ports.insert("base".into(), vec![("base".into(), base)]);
        if overlaps {
            inputs.ports.insert("val".into(), vec![("val".into(), rows)]);
        }
        Some(inputs)
    }

    fn codes(preview: &Preview) -> Vec<(&str, Severity)> {
        preview.lints.iter().map(|lint| (lint.code.as_str(), lint.severity)).collect()
    }

    #[test]
    fn facts_stand_in_the_order_of_the_table() {
        let Some(inputs) = inputs(false) else { return };
        let params = LoraTrain { max_len: 256, epochs: 5, batch_size: 32, warmup: 100.0, ..LoraTrain::default() };
        let preview = preview(&params, &inputs).unwrap();
        let names: Vec<&str> = preview.facts.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["rows", "updates", "warmup_share", "max_lr", "sum_lr", "rows_cut", "label_tokens"]);
        assert_eq!(codes(&preview), [("L003", Severity::Fail)]);
        assert!(preview.cost.seconds.is_some_and(|s| s >= 1.0));
    }

    #[test]
    fn alpaca_loras_cut_is_seen_and_weighed_by_checks() {
        let Some(inputs) = inputs(true) else { return };
        let warn = Checks { truncation: Level::Warn, eos: Level::Off, ..Checks::default() };
        let params = LoraTrain {
            max_len: 64,
            overflow: crate::text::labels::Overflow::Truncate,
            checks: warn,
            ..LoraTrain::default()
        };
        let preview = preview(&params, &inputs).unwrap();
        assert_eq!(codes(&preview), [("L001", Severity::Warn), ("L004", Severity::Fail)]);
    }

    #[test]
    fn rows_longer_than_max_len_without_their_input_are_counted_and_refused() {
        let Some(inputs) = inputs(false) else { return };
        let error = preview(&LoraTrain { max_len: 30, ..LoraTrain::default() }, &inputs).unwrap_err();
        let message = error.to_string();
        assert!(message.contains("even without their input") && message.contains("`overflow: drop`"), "{message}");
    }

    #[test]
    fn what_overflow_takes_away_is_told() {
        let Some(inputs) = inputs(false) else { return };
        let dropping = LoraTrain { max_len: 64, overflow: crate::text::labels::Overflow::Drop, ..LoraTrain::default() };
        let preview = preview(&dropping, &inputs).unwrap();
        let lint = preview.lints.iter().find(|lint| lint.code == "L005").unwrap();
        assert!(lint.message.contains("rows are left out at `max_len: 64`"), "{}", lint.message);
    }

    #[test]
    fn base_that_cannot_be_used_is_told_before_there_are_rows() {
        let folder = tempfile::tempdir().unwrap();
        let base = folder.path().join("noise.gguf");
        std::fs::write(&base, "noise").unwrap();
        let mut inputs = PreviewInputs::default();
        inputs.ports.insert("base".into(), vec![("base".into(), base)]);
        let message = preview(&LoraTrain::default(), &inputs).unwrap_err().to_string();
        assert_eq!(message.matches("noise.gguf").count(), 1, "{message}");
    }

    #[test]
    fn without_rows_the_parameters_speak_alone() {
        let preview = preview(&LoraTrain { max_steps: Some(25), ..LoraTrain::default() }, &PreviewInputs::default());
        assert_eq!(preview.unwrap().facts[0], ("updates".to_string(), 25.into()));
    }
}
