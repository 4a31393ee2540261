//! The adapter that training starts from: a fresh one, or one that was trained before.
//!
//! An adapter brings its own `lora` settings. Taking another rank or scale over its numbers would be another adapter, so a
//! key that the user wrote must be the adapter's; one that was left out is whatever the adapter says.

use std::path::Path;

use watershed_engine::{Job, StageError};
use watershed_stages::lora_train::{self, LoraTrain, Variant};
use watershed_torch::{Init, Lora, LoraConfig, Model, Scaling, Target};

use super::adapter::Card;
use super::{base, failed};

/// Returns the adapter that training starts from: a fresh one, or the one in port `adapter`.
///
/// # Errors
/// When the given adapter does not fit the base, or is not as `lora` was written.
pub fn start(params: &LoraTrain, model: &Model, job: &Job) -> Result<Lora, StageError> {
    let Some(folder) = job.optional_input("adapter") else {
        return Lora::new(model, &config(&params.lora), params.seed).map_err(failed);
    };
    let lora = Lora::load(folder, model).map_err(failed)?;
    let differing = differing(&params.lora, lora.config());
    if !differing.is_empty() {
        return Err(StageError::failed(format!(
            "{}; leave out of `lora` what the adapter to go on from decides",
            differing.join(", ")
        )));
    }
    check_base(folder, job)?;
    Ok(lora)
}

/// Returns an adapter's settings in a line, for the log.
pub fn words(config: &LoraConfig) -> String {
    let LoraConfig { r, alpha, dropout, .. } = config;
    format!("r {r}, alpha {alpha}, dropout {dropout}, {}", targets(config))
}

/// Returns what was written and is not the adapter's, in words.
fn differing(written: &lora_train::Lora, found: &LoraConfig) -> Vec<String> {
    let wanted = config(written);
    let differs = |key: &str, of: &dyn Fn(&LoraConfig) -> String| {
        let (wanted, found) = (of(&wanted), of(found));
        let is_refused = written.is_written(key) && wanted != found;
        is_refused.then(|| format!("`lora.{key}` is {wanted}, the adapter's is {found}"))
    };
    let all = [
        differs("r", &|config| config.r.to_string()),
        differs("alpha", &|config| config.alpha.to_string()),
        differs("dropout", &|config| config.dropout.to_string()),
        differs("targets", &targets),
        differs("variant", &|config| format!("{:?}", config.scaling).to_lowercase()),
        differs("init", &|config| format!("{:?}", config.init).to_lowercase()),
    ];
    all.into_iter().flatten().collect()
}

fn targets(config: &LoraConfig) -> String {
    let mut targets = config.targets.clone();
    targets.sort_unstable();
    targets.iter().map(|target| target.name()).collect::<Vec<_>>().join(" ")
}

/// Warns of an adapter that was trained on other weights; one from elsewhere does not say on which.
fn check_base(folder: &Path, job: &Job) -> Result<(), StageError> {
    let (here, card) = (base::name(job), Card::read(folder)?);
    if let Some(card) = card.filter(|card| card.base != here) {
        let trained = card.base;
        job.warn(format!(
            "the adapter to go on from was trained on another base ({trained}, not {here}), so it may not help"
        ));
    }
    Ok(())
}

fn config(lora: &lora_train::Lora) -> LoraConfig {
    let mut targets: Vec<Target> = lora.targets.iter().filter_map(|target| Target::parse(target.name())).collect();
    targets.sort();
    targets.dedup();
    LoraConfig {
        r: lora.r as usize,
        alpha: lora.alpha(),
        dropout: lora.dropout,
        targets,
        scaling: if lora.variant == Variant::Rslora { Scaling::Rslora } else { Scaling::Lora },
        init: match lora.init {
            lora_train::Init::Kaiming => Init::Kaiming,
            lora_train::Init::Gaussian => Init::Gaussian,
        },
    }
}
