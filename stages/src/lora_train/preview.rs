//! What a training will do, before it does it: the schedule preview, its lints and its time.

use std::path::Path;

use serde_json::{Value, json};
use watershed_engine::StageError;
use watershed_engine::preview::{Preview, PreviewInputs};
use watershed_weights::LlamaConfig;

use super::{
    Audit, Checkpointing, Dataset, Files, Lora, LoraTrain, LoraTrainRun, Origin, cost, lints, memory, plan, rates,
    schedule,
};
use crate::base::Base;
use crate::text::Tokenizer;
use crate::text::schedule::Schedule;

/// What a preview reads once for all cases of a sweep that have the same inputs: the rows encoded.
struct Seen {
    data: Dataset,
    config: LlamaConfig,
    origin: Option<Origin>,
}

/// The same while there are no rows yet.
struct Waiting {
    tokenizer: Tokenizer,
    config: LlamaConfig,
    origin: Option<Origin>,
}

/// Makes the preview out of the inputs that are there already.
///
/// # Errors
/// When an input that is there cannot be read or does not fit; base and adapter are looked at even before there are rows.
pub fn preview(params: &LoraTrain, inputs: &PreviewInputs) -> Result<Preview, StageError> {
    match (inputs.get("base"), inputs.get("train")) {
        (Some(base), Some(train)) => of_rows(params, inputs, base, train),
        (Some(base), None) => of_base(params, inputs, base),
        (None, _) => Ok(known(params, inputs)),
    }
}

fn of_rows(params: &LoraTrain, inputs: &PreviewInputs, base: &Path, train: &Path) -> Result<Preview, StageError> {
    let files = Files { train, val: inputs.get("val"), test: inputs.get("test") };
    let adapter = inputs.get("adapter");
    let (template, system, train_on) = (&params.template, &params.system, params.train_on);
    let question = json!([
        base,
        adapter,
        train,
        files.val,
        files.test,
        template,
        system,
        train_on,
        params.max_len,
        params.overflow
    ]);
    let seen = inputs.once(&question.to_string(), || {
        let base = Base::open(base)?;
        let (config, origin) = (base.config.clone(), opened(adapter, &base.config)?);
        Ok(Seen { data: Dataset::encode(params, files, base)?, config, origin })
    })?;
    let Seen { data, config, origin } = &*seen;
    let mut preview = Preview::default();
    facts(&mut preview, params, data);
    let lora = origin.as_ref().map_or_else(|| params.lora.clone(), Origin::lora);
    tell_size(&mut preview, &lora, config);
    lints::of_rows(&mut preview, params, data, config.max_positions);
    if files.val.is_some() {
        lints::of_empty_val(&mut preview, data);
    }
    lints::of_settings(&mut preview, params, inputs);
    of_model(&mut preview, params, &data.tokenizer, origin.is_none().then_some(config));
    lints::of_opening(&mut preview, data);
    lints::of_signs(&mut preview, data);
    tell_origin(&mut preview, params, inputs, origin.as_ref(), &data.tokenizer)?;
    preview.cost.seconds = Some(cost::seconds(params, data, config));
    preview.cost.bytes =
        (inputs.device != "cuda").then(|| bytes(params, &lora, inputs.run_keys(), config, &data.lengths()));
    Ok(preview)
}

/// Returns the bytes of memory that the training takes on a processor, as `run` says that it goes.
fn bytes(params: &LoraTrain, lora: &Lora, run: LoraTrainRun, config: &LlamaConfig, lengths: &[usize]) -> u64 {
    let tokens = memory::tokens_at_once(params, run.micro_batch, memory::ON_PROCESSOR, lengths);
    let need = memory::Need::of(params.dtype, lora, config, tokens);
    need.fixed + if run.checkpointing == Checkpointing::On { need.recomputed } else { need.kept }
}

fn of_base(params: &LoraTrain, inputs: &PreviewInputs, base: &Path) -> Result<Preview, StageError> {
    let adapter = inputs.get("adapter");
    let seen = inputs.once(&json!([base, adapter]).to_string(), || {
        let Base { config, tokenizer } = Base::open(base)?;
        Ok(Waiting { tokenizer, origin: opened(adapter, &config)?, config })
    })?;
    let mut preview = known(params, inputs);
    of_model(&mut preview, params, &seen.tokenizer, seen.origin.is_none().then_some(&seen.config));
    tell_origin(&mut preview, params, inputs, seen.origin.as_ref(), &seen.tokenizer)?;
    Ok(preview)
}

/// Tells what the base shows without any row; of the rank only where an adapter begins, with the `config` of the base.
fn of_model(preview: &mut Preview, params: &LoraTrain, tokenizer: &Tokenizer, config: Option<&LlamaConfig>) {
    lints::of_ends(preview, tokenizer);
    lints::of_marks(preview, params, tokenizer);
    config.into_iter().for_each(|config| lints::of_rank(preview, &params.lora, config));
}

fn opened(adapter: Option<&Path>, config: &LlamaConfig) -> Result<Option<Origin>, StageError> {
    adapter.map(|folder| Origin::open(folder, config)).transpose()
}

/// Refuses an adapter to go on from that `lora` contradicts, and tells in what else it differs.
fn tell_origin(
    preview: &mut Preview,
    params: &LoraTrain,
    inputs: &PreviewInputs,
    origin: Option<&Origin>,
    tokenizer: &Tokenizer,
) -> Result<(), StageError> {
    let Some(origin) = origin else { return Ok(()) };
    origin.check(&params.lora)?;
    let base = inputs.digest("base").map(|digest| format!("blake3:{digest}"));
    lints::of_origin(preview, origin.mismatches(params, tokenizer, base.as_deref()));
    Ok(())
}

/// Tells what parameters alone decide.
fn known(params: &LoraTrain, inputs: &PreviewInputs) -> Preview {
    let mut preview = Preview::default();
    if let Some(steps) = params.max_steps {
        preview.fact("updates", steps);
        tell_rates(&mut preview, &schedule(params, u64::from(steps)));
    }
    preview.fact("batch_size", params.batch_size).fact("lr", params.lr);
    if params.max_steps.is_none() {
        preview.fact("epochs", params.epochs);
    }
    if inputs.get("train").is_none() {
        preview.waits("rows", "train");
    }
    lints::of_settings(&mut preview, params, inputs);
    preview
}

fn facts(preview: &mut Preview, params: &LoraTrain, data: &Dataset) {
    let train = Audit::of(&data.train);
    let schedule = schedule(params, plan(params).updates(train.rows));
    preview
        .fact("rows", train.rows)
        .fact("updates", schedule.total)
        .fact("warmup_share", rounded(schedule.warmup_share()));
    tell_rates(preview, &schedule);
    preview.fact("rows_cut", train.cut).fact("label_tokens", train.label_tokens);
}

fn tell_size(preview: &mut Preview, lora: &Lora, config: &LlamaConfig) {
    let trainable = config.lora_parameters(lora.r as usize, &lora.target_names());
    preview.fact("trainable", trainable);
    preview.fact("trainable_share", rounded(trainable as f64 / config.parameters() as f64));
}

fn tell_rates(preview: &mut Preview, schedule: &Schedule) {
    preview.fact("max_lr", rounded(rates::max_lr(schedule))).fact("sum_lr", rounded(rates::sum_lr(schedule)));
}

/// Rounds to four digits, so that tables show 7.2e-5 and not 7.199999999999999e-5.
fn rounded(value: f64) -> Value {
    format!("{value:.3e}").parse::<f64>().map_or(Value::Null, Value::from)
}

#[cfg(test)]
mod tests;
