//! The adapter that training starts from: a fresh one, or one that was trained before.

use watershed_engine::{Job, StageError};
use watershed_stages::lora_train::{self, LoraTrain, Origin, Variant};
use watershed_stages::text::Tokenizer;
use watershed_torch::{Init, Lora, LoraConfig, Model, Scaling, Target};

use super::{base, failed};

/// Returns the adapter that training starts from: a fresh one, or the one in port `adapter`. Warns of what that one learned
/// otherwise.
///
/// # Errors
/// When the given adapter does not fit the base, or is not as `lora` was written.
pub fn start(params: &LoraTrain, model: &Model, tokenizer: &Tokenizer, job: &Job) -> Result<Lora, StageError> {
    let Some(folder) = job.optional_input("adapter") else {
        return Lora::new(model, &config(&params.lora), params.seed).map_err(failed);
    };
    let origin = Origin::open(folder, model.config())?;
    origin.check(&params.lora)?;
    let mismatches = origin.mismatches(params, tokenizer, Some(&base::name(job)));
    mismatches.into_iter().for_each(|text| job.warn(text));
    Lora::load(folder, model).map_err(failed)
}

/// Returns an adapter's settings in a line, for the log.
pub fn words(config: &LoraConfig) -> String {
    let LoraConfig { r, alpha, dropout, .. } = config;
    format!("r {r}, alpha {alpha}, dropout {dropout}, {}", targets(config))
}

fn targets(config: &LoraConfig) -> String {
    let mut targets = config.targets.clone();
    targets.sort_unstable();
    targets.iter().map(|target| target.name()).collect::<Vec<_>>().join(" ")
}

/// Returns what of an adapter's settings decides how much memory it takes.
pub fn settings(config: &LoraConfig) -> lora_train::Lora {
    let targets = lora_train::Target::ALL
        .into_iter()
        .filter(|target| Target::parse(target.name()).is_some_and(|target| config.targets.contains(&target)));
    let (r, dropout, targets) = (config.r as u32, config.dropout, targets.collect());
    lora_train::Lora { r, dropout, targets, ..lora_train::Lora::default() }
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
