//! `lora-train`: update, evaluate, checkpoint, until the updates are done; then check and write what was learned.
//!
//! The order of rows, the learning rates and the seeds of dropout are pure functions of the parameters and the update's
//! number, so a training that resumes from a checkpoint goes on bit for bit.

mod finish;
mod validate;

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Instant;

use serde_json::{Value, json};
use watershed_engine::{Job, StageError, memory};
use watershed_stages::lora_train::audit::nothing_to_learn;
use watershed_stages::lora_train::memory::Need;
use watershed_stages::lora_train::{Card, Dataset, Every, Files, LoraTrain, LoraTrainRun, Variant, Word};
use watershed_stages::lora_train::{plan, schedule};
use watershed_stages::text::batch::{self, Update};
use watershed_stages::text::order::Order;
use watershed_stages::text::schedule::Schedule;
use watershed_torch::{LossNorm, Model, OptimizerConfig, Row, StepConfig, StepReport, Trainer};

use super::checkpoint::{self, Progress};
use super::curves::UpdateLine;
use super::evaluation::{self, Validation};
use super::room::Room;
use super::start::{self, start};
use super::{base, failed};

/// LoRA+ (Hayou et al. 2024) recommends this ratio of the learning rates of B and A.
const LORA_PLUS_RATIO: f64 = 16.0;

/// Trains an adapter.
///
/// # Errors
/// When the rows or the model cannot be used, or a check fails; [`StageError::Diverged`] when a loss is no longer a number;
/// [`StageError::Cancelled`] after a last checkpoint.
pub fn train(params: &LoraTrain, run: &LoraTrainRun, job: &Job) -> Result<(), StageError> {
    let (val, test) = (job.optional_input("val"), job.optional_input("test"));
    let data = Dataset::open(params, Files { train: job.input("train")?, val, test }, job.input("base")?)?;
    let updates = plan(params).build(&data.lengths());
    if updates.is_empty() {
        let rows = data.train.rows.len();
        return Err(StageError::failed(format!(
            "{rows} training rows give no update of `batch_size: {}`",
            params.batch_size
        )));
    }
    if let Some(why) = nothing_to_learn(&updates, &data.train.rows) {
        return Err(StageError::Failed(why));
    }
    let model = base::load(job, params.dtype)?;
    data.tokenizer.check_fits(model.config().vocab)?;
    if let Some(types) = base::quantised(job)? {
        job.note(format!(
            "the base is quantised ({types}): the adapter is trained on, and belongs to, the numbers that these make"
        ));
    }
    let mut training = Training::new(params, run, job, &data, &model, updates)?;
    training.resume()?;
    training.look_ahead();
    training.run()?;
    training.finish()
}

/// One training in progress.
struct Training<'a> {
    params: &'a LoraTrain,
    job: &'a Job<'a>,
    data: &'a Dataset,
    updates: Vec<Update>,
    schedule: Schedule,
    rows: Vec<Row>,
    lengths: Vec<usize>,
    validation: Validation,
    room: Room,
    /// What fits when nothing is learned.
    reading: Room,
    card: Card,
    trainer: Trainer<'a>,
    progress: Progress,
    started: Instant,
    pace: Pace,
}

/// What the updates of this process took, evaluations left out.
#[derive(Default)]
struct Pace {
    tokens: u64,
    seconds: f64,
}

impl<'a> Training<'a> {
    fn new(
        params: &'a LoraTrain,
        run: &LoraTrainRun,
        job: &'a Job<'a>,
        data: &'a Dataset,
        model: &'a Model,
        updates: Vec<Update>,
    ) -> Result<Training<'a>, StageError> {
        let lengths = data.lengths();
        let room = Room::new(params, run, job, &lengths);
        Ok(Training {
            schedule: schedule(params, updates.len() as u64),
            rows: data.train.rows.iter().map(evaluation::row).collect(),
            reading: room.reading(),
            room,
            lengths,
            validation: Validation::new(&data.val.rows),
            card: Card::new(params, &data.tokenizer, base::name(job)),
            trainer: trainer(params, model, data, job)?,
            started: Instant::now(),
            pace: Pace::default(),
            progress: Progress::default(),
            params,
            job,
            data,
            updates,
        })
    }

    /// Goes on where the newest checkpoint that is whole left off, if there is one.
    fn resume(&mut self) -> Result<(), StageError> {
        let (job, trainer, updates) = (self.job, &mut self.trainer, self.updates.len() as u64);
        let restore = |progress: &Progress, state: &Path| {
            if progress.step > updates {
                return Err(format!("it is after update {} of {updates}", progress.step));
            }
            trainer.load_state(state, progress.step).map_err(|e| e.to_string())
        };
        let found = job.checkpoint().map(|folder| checkpoint::take_up(folder, restore, |text| job.warn(text)));
        if let Some((progress, state)) = found.transpose()?.flatten() {
            checkpoint::restore_best(&state, job.output("adapter"))?;
            job.note(format!("resumes after update {}", progress.step));
            self.room.halvings = progress.halvings;
            if progress.numerics != json!(self.numerics()) {
                job.warn("the checkpoint was made with other numerics, so the result may differ from that of one go");
            }
            self.progress = progress;
        }
        self.tell_numerics();
        Ok(())
    }

    /// Makes room before memory ends on a processor; a GPU says itself what it cannot hold.
    fn look_ahead(&mut self) {
        let limits = &self.job.spec().limits;
        if limits.device == "cuda" {
            return;
        }
        let tokens = self.room.tokens(self.params, &self.lengths);
        let lora = start::settings(self.trainer.lora().config());
        let need = Need::of(self.params.dtype, &lora, self.trainer.model().config(), tokens);
        let allowed = limits.memory_bytes.map_or(u64::MAX, |bytes| bytes.saturating_sub(need.fixed));
        let told = self.room.foresee(need, memory::free().min(allowed));
        told.into_iter().for_each(|text| self.job.warn(text));
    }

    fn numerics(&self) -> BTreeMap<String, Value> {
        base::numerics(self.job, &[("micro_batch", self.room.shown()), ("dtype", json!(self.params.dtype))])
    }

    fn tell_numerics(&mut self) {
        let numerics = self.numerics();
        self.progress.numerics = json!(numerics);
        self.job.numerics(numerics);
    }

    fn run(&mut self) -> Result<(), StageError> {
        let ended = self.go_on();
        match ended {
            Err(StageError::Cancelled) => self.save().and(ended).inspect_err(|_| self.tell_kept()),
            Err(StageError::Diverged(what)) => Err(StageError::Diverged(format!("{what}; {}", self.advice()))),
            _ => ended,
        }
    }

    fn tell_kept(&self) {
        if let Some(step) = self.job.checkpoint().and_then(checkpoint::newest) {
            self.job.note(format!("keeps a checkpoint after update {step}; the next run goes on from there"));
        }
    }

    /// Says what to do about numbers that are none, and names the last good state. The one in memory is not saved: its update
    /// may be what spoilt them.
    fn advice(&self) -> String {
        if self.progress.step == 0 {
            return "no update was made yet: are the base's weights damaged, or is `lora.alpha` far too large?".into();
        }
        let kept = match self.job.checkpoint().and_then(checkpoint::newest) {
            Some(step) => format!("the checkpoint after update {step} is kept"),
            None => "there is no checkpoint yet".into(),
        };
        format!("lower `lr`, or train with `dtype: f32`; {kept}")
    }

    fn go_on(&mut self) -> Result<(), StageError> {
        let is_fresh = self.progress.evaluated.is_none();
        self.evaluate_if_due()?;
        if is_fresh {
            self.tell_start();
        }
        while !self.is_over() {
            self.job.check_cancelled()?;
            self.update()?;
            self.evaluate_if_due()?;
            if self.progress.evaluated == Some(self.progress.step) {
                self.tell_progress();
            }
            // the last one too: a check that refuses the result may be softened
            if self.is_over() || checkpoint_cadence(self.job).is_due(self.progress.step, self.ends_epoch()) {
                self.save()?;
            }
        }
        self.tell_early_stop();
        Ok(())
    }

    fn tell_early_stop(&self) {
        let (step, updates) = (self.progress.step, self.updates.len() as u64);
        if let Some(patience) = self.params.early_stop.filter(|_| step < updates) {
            self.job.note(format!("`early_stop: {patience}` ends it after update {step} of {updates}"));
        }
    }

    /// Says whether the last update ended an epoch.
    fn ends_epoch(&self) -> bool {
        self.progress.step.checked_sub(1).is_some_and(|last| self.updates[last as usize].ends_epoch)
    }

    /// Tells what a continued training starts from.
    fn tell_start(&self) {
        if self.job.optional_input("adapter").is_none() {
            return;
        }
        let loss =
            self.progress.curves.evals.first().map(|line| format!("; its validation loss is {:.4}", line.score()));
        let (words, loss) = (start::words(self.trainer.lora().config()), loss.unwrap_or_default());
        self.job.note(format!("goes on from an adapter with {words}{loss}"));
    }

    fn is_over(&self) -> bool {
        let impatient = self.params.early_stop.is_some_and(|patience| self.progress.since_best >= patience);
        self.progress.step >= self.updates.len() as u64 || impatient
    }

    fn update(&mut self) -> Result<(), StageError> {
        let step = self.progress.step + 1;
        let update = &self.updates[self.progress.step as usize];
        let is_micro_mean = self.params.loss_norm == batch::LossNorm::MicroMean;
        let config = StepConfig {
            lr: self.schedule.lr_at(step),
            max_grad_norm: self.params.max_grad_norm,
            loss_norm: if is_micro_mean { LossNorm::MicroMean } else { LossNorm::Token },
            accumulation: is_micro_mean.then_some(update.divisor),
            seed: self.params.seed,
            recompute: false,
        };
        let rows = self.drawn(update);
        let (trainer, lengths, job) = (&mut self.trainer, &self.lengths, self.job);
        let encoded = |micro: &Vec<usize>| micro.iter().map(|&row| self.rows[row].clone()).collect();
        let attempt = |room: &Room| {
            let micros = if is_micro_mean { update.micro.clone() } else { room.cut(&rows, lengths) };
            let config = StepConfig { recompute: room.recompute, ..config };
            trainer.step_unless(&micros.iter().map(encoded).collect::<Vec<Vec<Row>>>(), &config, &|| job.is_cancelled())
        };
        let begun = Instant::now();
        let report = self.room.fit(attempt, |text| job.warn(text))?;
        self.pace.seconds += begun.elapsed().as_secs_f64();
        self.pace.tokens += report.tokens;
        self.note_halvings();
        self.tell(&report, config.lr);
        Ok(())
    }

    /// Returns the rows of an update in the order in which they are cut into micro-batches.
    fn drawn(&self, update: &Update) -> Vec<usize> {
        let mut rows: Vec<usize> = update.rows().collect();
        if self.params.order != Order::Given {
            rows.sort_by_key(|&row| (self.lengths[row], row));
        }
        rows
    }

    /// Keeps with the result, and for a resumed training, that micro-batches became smaller.
    fn note_halvings(&mut self) {
        if self.progress.halvings != self.room.halvings {
            self.progress.halvings = self.room.halvings;
            self.tell_numerics();
        }
    }

    fn tell(&mut self, report: &StepReport, lr: f64) {
        self.progress.step = report.step;
        self.progress.tokens += report.tokens;
        let line = UpdateLine {
            step: report.step,
            epoch: self.epoch(),
            loss: report.loss,
            response_loss: report.response_loss,
            grad_norm: report.grad_norm,
            lr,
            label_tokens: report.label_tokens,
        };
        let mut values = vec![
            ("loss", line.loss),
            ("grad_norm", line.grad_norm),
            ("lr", line.lr),
            ("label_tokens", line.label_tokens as f64),
        ];
        values.extend(line.response_loss.map(|loss| ("response_loss", loss)));
        self.job.metric(line.step, line.epoch, &values);
        self.progress.curves.updates.push(line);
        self.tell_progress();
    }

    /// Tells the number of updates done, and beside it the newest numbers.
    fn tell_progress(&self) {
        if let Some(line) = self.progress.curves.updates.last() {
            self.job.progress(line.step, self.updates.len() as u64, "updates", self.note(line));
        }
    }

    /// Returns what stands beside the number of updates done; what an evaluation of an earlier update found is marked with that
    /// update.
    fn note(&self, line: &UpdateLine) -> String {
        let rate = self.pace.tokens as f64 / self.pace.seconds.max(1e-9);
        let age = self.progress.evaluated.filter(|step| *step < line.step);
        let age = age.map_or(String::new(), |step| format!(" @{step}"));
        let val = self.progress.curves.evals.last().map(|eval| format!(", val {:.3}{age}", eval.score()));
        let parrots = self.parrot_rate(self.progress.evaluated).filter(|rate| *rate > 0.0);
        let parrots = parrots.map(|rate| format!(", parrots {:.0} %{age}", rate * 100.0));
        let seen = val.into_iter().chain(parrots).collect::<String>();
        format!("epoch {:.1}, loss {:.3}{seen}, {rate:.0} tokens/s", line.epoch, line.loss)
    }

    /// Returns the passes over the rows so far.
    fn epoch(&self) -> f64 {
        self.progress.step as f64 / self.updates_per_epoch()
    }

    fn updates_per_epoch(&self) -> f64 {
        plan(self.params).updates_per_epoch(self.rows.len()).max(1) as f64
    }

    fn save(&mut self) -> Result<(), StageError> {
        let Some(folder) = self.job.checkpoint() else { return Ok(()) };
        self.progress.seconds += self.started.elapsed().as_secs_f64();
        self.started = Instant::now();
        let state = |path: &Path| self.trainer.save_state(path).map_err(failed);
        checkpoint::save(folder, &self.progress, self.job.output("adapter"), state)
    }
}

fn trainer<'a>(params: &LoraTrain, model: &'a Model, data: &Dataset, job: &Job) -> Result<Trainer<'a>, StageError> {
    let optimizer = OptimizerConfig {
        betas: (params.betas[0], params.betas[1]),
        eps: params.eps,
        weight_decay: params.weight_decay,
        b_lr_ratio: if params.lora.variant == Variant::LoraPlus { LORA_PLUS_RATIO } else { 1.0 },
    };
    Ok(Trainer::new(model, start(params, model, &data.tokenizer, job)?, optimizer))
}

/// Reads `run.checkpoint`: a number of updates, or `epoch`.
fn checkpoint_cadence(job: &Job) -> Every {
    job.spec().limits.checkpoint.parse().map_or(Every::Word(Word::Epoch), Every::Updates)
}
