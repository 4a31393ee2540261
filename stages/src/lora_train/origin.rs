//! The adapter that training goes on from, as a preview and the start of the training see it.
//!
//! An adapter brings its own `lora` settings. Taking another rank or scale over its numbers would be another adapter, so a
//! key that the user wrote must be the adapter's; one that was left out is whatever the adapter says.

use std::path::Path;

use serde_json::json;
use watershed_engine::StageError;
use watershed_weights::{Adapter, LlamaConfig};

use super::{Card, Init, Lora, LoraTrain, Target, Variant};
use crate::text::Tokenizer;

/// An adapter that fits the base.
pub struct Origin {
    settings: Settings,
    card: Option<Card>,
}

/// What `lora` and `adapter_config.json` both say.
struct Settings {
    r: usize,
    alpha: f64,
    dropout: f64,
    targets: Vec<Target>,
    is_rslora: bool,
    init: Init,
}

impl Origin {
    /// Opens an adapter folder; its numbers are read too, because one that is not finite fails the training.
    ///
    /// # Errors
    /// When the adapter is damaged, not supported or another model's.
    pub fn open(folder: &Path, model: &LlamaConfig) -> Result<Origin, StageError> {
        let adapter = Adapter::open(folder, model).map_err(|e| StageError::failed(e.to_string()))?;
        Ok(Origin { settings: Settings::found(&adapter), card: Card::read(folder)? })
    }

    /// Checks that the adapter is as `lora` was written.
    ///
    /// # Errors
    /// Names every key that differs, with both values.
    pub fn check(&self, written: &Lora) -> Result<(), StageError> {
        let differing = differing(written, &self.settings);
        if differing.is_empty() {
            return Ok(());
        }
        Err(StageError::failed(format!(
            "{}; leave out of `lora` what the adapter to go on from decides",
            differing.join(", ")
        )))
    }

    /// Returns the adapter's settings as `lora` would say them.
    pub fn lora(&self) -> Lora {
        let Settings { r, alpha, dropout, targets, is_rslora, init } = &self.settings;
        let variant = if *is_rslora { Variant::Rslora } else { Variant::Lora };
        let (r, alpha, targets) = (*r as u32, Some(*alpha), targets.clone());
        Lora { r, alpha, dropout: *dropout, targets, variant, init: *init, ..Lora::default() }
    }

    /// Returns in what the adapter learned otherwise, as [`Card::mismatches`]; one from elsewhere does not say.
    pub fn mismatches(&self, params: &LoraTrain, tokenizer: &Tokenizer, base: Option<&str>) -> Vec<String> {
        self.card.as_ref().map_or_else(Vec::new, |card| card.mismatches(params, tokenizer, base))
    }
}

impl Settings {
    fn written(lora: &Lora) -> Settings {
        let mut targets = lora.targets.clone();
        targets.sort_unstable();
        targets.dedup();
        Settings {
            r: lora.r as usize,
            alpha: lora.alpha(),
            dropout: lora.dropout,
            targets,
            is_rslora: lora.variant == Variant::Rslora,
            init: lora.init,
        }
    }

    fn found(adapter: &Adapter) -> Settings {
        let (json, pairs) = (&adapter.config, &adapter.pairs);
        let mut targets: Vec<Target> = pairs.iter().map(|pair| Target::ALL[pair.projection]).collect();
        targets.sort_unstable();
        targets.dedup();
        let is_gaussian = json["init_lora_weights"] == json!("gaussian");
        Settings {
            r: json["r"].as_u64().map_or(pairs[0].r, |r| r as usize),
            alpha: json["lora_alpha"].as_f64().unwrap_or(pairs[0].alpha),
            dropout: json["lora_dropout"].as_f64().filter(|p| (0.0..1.0).contains(p)).unwrap_or(0.0),
            targets,
            is_rslora: adapter.is_rslora(),
            init: if is_gaussian { Init::Gaussian } else { Init::Kaiming },
        }
    }

    fn targets(&self) -> String {
        self.targets.iter().map(|target| target.name()).collect::<Vec<_>>().join(" ")
    }

    fn variant(&self) -> String {
        if self.is_rslora { "rslora" } else { "lora" }.into()
    }
}

/// Returns a variant as it is written in YAML.
fn name_of(variant: Variant) -> String {
    serde_json::to_value(variant).ok().and_then(|name| name.as_str().map(String::from)).unwrap_or_default()
}

/// Returns what was written and is not the adapter's, in words.
fn differing(written: &Lora, found: &Settings) -> Vec<String> {
    let wanted = Settings::written(written);
    let differs = |key: &str, of: &dyn Fn(&Settings) -> String| {
        let (wanted, found) = (of(&wanted), of(found));
        let is_refused = written.is_written(key) && wanted != found;
        let said = if key == "variant" { name_of(written.variant) } else { wanted };
        is_refused.then(|| format!("`lora.{key}` is {said}, the adapter's is {found}"))
    };
    let all = [
        differs("r", &|settings| settings.r.to_string()),
        differs("alpha", &|settings| settings.alpha.to_string()),
        differs("dropout", &|settings| settings.dropout.to_string()),
        differs("targets", &Settings::targets),
        differs("variant", &Settings::variant),
        differs("init", &|settings| format!("{:?}", settings.init).to_lowercase()),
    ];
    all.into_iter().flatten().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Base;
    use crate::text::fixture::tiny_llama;

    #[test]
    fn written_keys_must_be_the_adapters_and_others_are_what_it_says() {
        let (Some(model), Some(adapter)) = (tiny_llama("model"), tiny_llama("adapter_a_qv_token_mean")) else { return };
        let origin = Origin::open(&adapter, &Base::open(&model).unwrap().config).unwrap();
        let found = &origin.settings;
        let lora = Lora { r: found.r as u32 + 1, targets: Target::ALL.to_vec(), ..Lora::default() };
        assert!(origin.check(&lora).is_ok(), "nothing was written");
        let written = Lora { written: vec!["r".into(), "targets".into()], ..lora };
        let wanted = format!(
            "`lora.r` is {}, the adapter's is {}, `lora.targets` is q_proj k_proj v_proj o_proj gate_proj up_proj down_proj, the \
             adapter's is q_proj v_proj; leave out of `lora` what the adapter to go on from decides",
            found.r + 1,
            found.r
        );
        assert_eq!(origin.check(&written).unwrap_err().to_string(), wanted);
        let same = Lora { r: found.r as u32, targets: vec![Target::VProj, Target::QProj], ..written };
        assert!(origin.check(&same).is_ok());
    }
}
