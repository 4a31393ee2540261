//! What a user should know before paying for a training: rows that lose their answers, rates that never arrive, settings that do
//! nothing.

use watershed_engine::code;
use watershed_engine::preview::{Lint, Preview, PreviewInputs, Severity};
use watershed_weights::LlamaConfig;

use super::audit::{nothing_left, nothing_to_learn};
use super::overlap::Overlap;
use super::{Audit, Checks, Dataset, Level, Lora, LoraTrain, Select, plan, rates, schedule};
use crate::text::batch::LossNorm;
use crate::text::{Template, Tokenizer};

/// Share of the rows that may lose their answer or their end before a check fails.
const TOLERATED: f64 = 0.01;

/// What `generate` says of the same settings too.
pub const SYSTEM_IS_IDLE: &str =
    "`system` has no effect: the `template` does not use `{{ system }}`; write it there, or leave `system` out";

/// Adds what the rows and the base's `context` in tokens show.
pub fn of_rows(preview: &mut Preview, params: &LoraTrain, data: &Dataset, context: usize) {
    let train = Audit::of(&data.train);
    let can_raise = (params.max_len as usize) < context;
    let held_out = [("val", Audit::of(&data.val)), ("test", Audit::of(&data.test))];
    of_answers(preview, params, &train, can_raise);
    of_labels(preview, params, data, &train);
    for (port, audit) in held_out {
        of_held_out(preview, params, (port, &audit), can_raise);
    }
    of_schedule(preview, params, &train, can_raise);
    of_overflow(preview, params, ("", &train), can_raise);
    for (port, audit) in held_out {
        of_overflow(preview, params, (port, &audit), can_raise);
    }
    of_overlap(preview, params.checks, &data.overlap);
}

/// Adds settings and inputs that do not go together, as far as the inputs are known.
pub fn of_settings(preview: &mut Preview, params: &LoraTrain, inputs: &PreviewInputs) {
    let is_unbound = |port: &str| inputs.ports.get(port).is_some_and(Vec::is_empty);
    let mut tell = |text: &str| push(preview, code::NOT_TOGETHER, Level::Warn, text.into());
    if is_unbound("val") && params.early_stop.is_some() {
        tell("`early_stop` never ends a training without `val`; give `val`, or leave it out");
    }
    if is_unbound("val") && params.select == Some(Select::Best) {
        tell("`select: best` is the last adapter without `val`; give `val`, or leave it out");
    }
    if params.max_steps.is_some() && params.epochs != LoraTrain::default().epochs {
        tell("`epochs` has no effect beside `max_steps`; leave one of them out");
    }
    if params.system.is_some() && !params.template.uses_system() {
        tell(SYSTEM_IS_IDLE);
    }
    if params.loss_norm == LossNorm::Token && params.micro_batch_size.is_some() {
        tell(
            "`micro_batch_size` has no effect under `loss_norm: token`; leave it out: `run.micro_batch` is what goes through the model at once",
        );
    }
}

/// Adds that the base's files know different ends of a text: early LLaMA conversions named the beginning.
pub fn of_ends(preview: &mut Preview, tokenizer: &Tokenizer) {
    if let Some(words) = &tokenizer.special().disagreement {
        let text = format!("{words}: training teaches the tokenizer's; correct the file that is wrong");
        push(preview, code::NOT_TOGETHER, Level::Warn, text);
    }
}

/// Adds that the base has no token for what `chatml` writes after an answer, so that a model has to learn its letters.
pub fn of_marks(preview: &mut Preview, params: &LoraTrain, tokenizer: &Tokenizer) {
    let template = Template::new(&params.template, None, tokenizer.chat().cloned()).ok();
    let Some(mark) = template.and_then(|template| template.stop_text(tokenizer)) else { return };
    let tokens = tokenizer.more(mark).map_or(0, |ids| ids.len());
    let chat = if tokenizer.chat().is_some() { "`template: chat`, or " } else { "" };
    if tokens > 1 {
        let text = format!(
            "the base has no token `{mark}`: the marks of `template: chatml` are learned as ordinary text, this one as {tokens} \
             tokens; use {chat}a base that has them"
        );
        push(preview, code::NOT_TOGETHER, Level::Warn, text);
    }
}

/// Adds a rank that no update of a projection can have: that of a matrix is at most its smaller side.
pub fn of_rank(preview: &mut Preview, lora: &Lora, config: &LlamaConfig) {
    let widths = config.projections().into_iter().filter_map(|(name, [rows, columns], _)| {
        let target = lora.target_names().into_iter().find(|target| name.ends_with(target))?;
        Some((rows.min(columns), target))
    });
    if let Some((width, target)) = widths.min_by_key(|(width, _)| *width).filter(|(width, _)| lora.r as usize > *width)
    {
        let text = format!(
            "`lora.r` is {}, and no change of `{target}` has a higher rank than its width of {width}; lower `r` to {width}",
            lora.r
        );
        push(preview, code::NOT_TOGETHER, Level::Warn, text);
    }
}

/// Adds that generation will ask with other tokens than those after which answers are learned.
pub fn of_opening(preview: &mut Preview, data: &Dataset) {
    if let Some(id) = &data.asked_otherwise {
        let text = format!(
            "the answer of row `{id}` is learned after other tokens than it will be written after: the template opens answers with \
             what merges with their first word, such as a space; take it out of the template"
        );
        push(preview, code::NOT_TOGETHER, Level::Warn, text);
    }
}

/// Adds rows that hold what the base reads as marks.
pub fn of_signs(preview: &mut Preview, data: &Dataset) {
    data.signed.iter().for_each(|signed| push(preview, code::NOT_TOGETHER, Level::Warn, signed.told()));
}

/// Adds a `val` without any row, which is as none at all.
pub fn of_empty_val(preview: &mut Preview, data: &Dataset) {
    if Audit::of(&data.val).given() == 0 {
        let text = "`val` has no rows: no loss is measured, `early_stop` never ends the training, and `adapter` is the last one; give it rows, or leave it out";
        push(preview, code::NOT_TOGETHER, Level::Warn, text.into());
    }
}

/// Adds in what an adapter to go on from learned otherwise.
pub fn of_origin(preview: &mut Preview, mismatches: Vec<String>) {
    mismatches.into_iter().for_each(|text| push(preview, code::NOT_TOGETHER, Level::Warn, text));
}

fn of_answers(preview: &mut Preview, params: &LoraTrain, train: &Audit, can_raise: bool) {
    let (Audit { rows, cut, answerless, .. }, checks) = (*train, params.checks);
    let mend = keeping_answers(can_raise);
    if cut > 0 {
        let level = if share(cut, rows) > TOLERATED { checks.truncation } else { softened(checks.truncation) };
        let text = format!(
            "{cut} of {rows} rows lose answer tokens at `max_len: {}` ({answerless} of them the whole answer); {mend}",
            params.max_len
        );
        push(preview, code::ANSWERS_CUT, level, text);
    }
    // whole rows end with an end token, and learn it
    if share(cut, rows) > TOLERATED {
        let text = format!("{cut} of {rows} rows teach no end of an answer, so the model may never stop; {mend}");
        push(preview, code::NO_END, checks.eos, text);
    }
}

/// An update that has nothing to learn would end the training when its turn comes. Only rows without a label can make one, so
/// updates are made only then.
fn of_labels(preview: &mut Preview, params: &LoraTrain, data: &Dataset, train: &Audit) {
    if train.without_label > 0 {
        let text = nothing_to_learn(&plan(params).build(&data.lengths()), &data.train.rows);
        text.into_iter().for_each(|text| push(preview, code::ANSWERS_CUT, Level::Fail, text));
    }
}

/// Cut answers of held-out rows spoil what is measured and not what is learned.
fn of_held_out(preview: &mut Preview, params: &LoraTrain, (port, audit): (&str, &Audit), can_raise: bool) {
    if let Some(text) = nothing_left(port, audit, params) {
        push(preview, code::NO_ROWS, Level::Fail, text);
    } else if audit.cut > 0 {
        let text = format!(
            "{} of {} rows of `{port}` lose answer tokens at `max_len: {}` ({} of them the whole answer), so the loss leaves those \
             out; {}",
            audit.cut,
            audit.rows,
            params.max_len,
            audit.answerless,
            keeping_answers(can_raise)
        );
        push(preview, code::ANSWERS_CUT, softened(params.checks.truncation), text);
    }
}

fn keeping_answers(can_raise: bool) -> &'static str {
    if can_raise { "raise `max_len`, or set `overflow: truncate_input`" } else { "set `overflow: truncate_input`" }
}

fn of_schedule(preview: &mut Preview, params: &LoraTrain, train: &Audit, can_raise: bool) {
    if train.rows == 0 {
        return push(preview, code::NO_ROWS, Level::Fail, no_rows(params, train, can_raise));
    }
    let schedule = schedule(params, plan(params).updates(train.rows));
    if schedule.total == 0 {
        let (rows, batch) = (train.rows, params.batch_size);
        let text = format!("{rows} rows give no update of `batch_size: {batch}` under `tail: carry`; lower it");
        return push(preview, code::NEVER_WARM, Level::Fail, text);
    }
    let max_lr = rates::max_lr(&schedule);
    if schedule.warmup >= schedule.total {
        // a share is rounded up, so it takes all of a single update
        let mend = if schedule.total < 2 { "0" } else { "0.05" };
        let text = format!(
            "warm-up takes {} updates and there are {}: the highest learning rate reached is {max_lr:.1e}, not {:.1e}; set `warmup: {mend}`",
            schedule.warmup, schedule.total, schedule.lr
        );
        // at a rate of 0 nothing is learned, which fails in any case, but after the training
        let level = if max_lr > 0.0 { params.checks.warmup } else { Level::Fail };
        push(preview, code::NEVER_WARM, level, text);
    }
}

fn no_rows(params: &LoraTrain, train: &Audit, can_raise: bool) -> String {
    let (dropped, max_len) = (train.dropped, params.max_len);
    let mend = if can_raise { "raise `max_len`" } else { "set `overflow: truncate_input`" };
    match dropped {
        0 => "`train` has no rows; give it some".into(),
        _ => format!(
            "no training row is left: `overflow: drop` leaves out all {dropped} at `max_len: {max_len}`; {mend}"
        ),
    }
}

/// What `overflow` takes away is wanted, and told. Training rows have no port's name.
fn of_overflow(preview: &mut Preview, params: &LoraTrain, (port, audit): (&str, &Audit), can_raise: bool) {
    let of = if port.is_empty() { String::new() } else { format!(" of `{port}`") };
    let mend = if can_raise { "raise it to keep them whole" } else { "the base was made for no longer rows" };
    let mut tell = |count: usize, what: &str| {
        if count > 0 {
            let text = format!("{count} of {} rows{of} {what} at `max_len: {}`; {mend}", audit.given(), params.max_len);
            push(preview, code::ROWS_SHORTENED, Level::Warn, text);
        }
    };
    tell(audit.inputs_cut, "lose the middle of their input");
    tell(audit.dropped, "are left out");
}

fn of_overlap(preview: &mut Preview, checks: Checks, overlap: &Overlap) {
    let kinds = [
        (&overlap.groups, "share their customer or other `group` with `train`", "split by group"),
        (&overlap.texts, "have the same text as a row of `train`", "take the repeated rows out"),
    ];
    for (rows, what, mend) in kinds {
        if let Some(first) = rows.first() {
            let text = format!("{} held-out rows {what}, for example `{first}`; {mend}", rows.len());
            push(preview, code::LEAK, checks.overlap, text);
        }
    }
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

#[cfg(test)]
mod tests;
