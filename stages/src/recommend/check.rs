//! Knobs that the chosen algorithm does not read: a sweep over one would show equal numbers and teach something false.

use serde_json::Value;
use watershed_engine::fault::ParamFault;

use super::algorithm::Algorithm;
use super::params::{Baseline, BslMethod, Similarity};

/// Parameters that every algorithm takes: a sweep over algorithms may set them for all.
const COMMON: [&str; 7] = ["algorithm", "top", "seed", "cold", "compat", "precision", "rating_scale"];

/// Finds an algorithm that is missing or not available, and knobs that it does not read.
pub fn algorithm(params: &Baseline) -> Vec<ParamFault> {
    let available = Algorithm::available().iter().map(|a| format!("`{}`", a.name())).collect::<Vec<_>>().join(", ");
    let Some(algorithm) = params.algorithm else {
        return vec![ParamFault::new("algorithm", "`algorithm` is missing", format!("one of {available}"))];
    };
    let name = algorithm.name();
    let Some(reads) = algorithm.reads() else {
        let message = format!("algorithm `{name}` is not yet available");
        return vec![ParamFault::new("algorithm", message, format!("there are {available}"))];
    };
    let help = match reads.is_empty() {
        true => format!("`{name}` takes no parameters of its own"),
        false => {
            format!("`{name}` takes {}", reads.iter().map(|r| format!("`{r}`")).collect::<Vec<_>>().join(", "))
        }
    };
    let unread = set_knobs(params).into_iter().filter(|knob| !reads.contains(&knob.as_str()));
    unread.map(|knob| ParamFault::new(&knob, format!("algorithm `{name}` does not use `{knob}`"), &help)).collect()
}

/// Returns the parameters with a value of the user's, but for the common ones.
fn set_knobs(params: &Baseline) -> Vec<String> {
    let Ok(Value::Object(all)) = serde_json::to_value(params) else { return Vec::new() };
    let set = all.into_iter().filter(|(name, value)| !value.is_null() && !COMMON.contains(&name.as_str()));
    set.map(|(name, _)| name).collect()
}

/// Finds knobs inside `sim_options` and `bsl_options` that the method chosen there does not read.
pub fn options(params: &Baseline) -> Vec<ParamFault> {
    let mut faults = Vec::new();
    let mut unused = |path: &str, set: bool, by: &str| {
        if set {
            faults.push(ParamFault::new(path, format!("{by} does not use `{path}`"), "leave it out"));
        }
    };
    let sim = params.sim_options.clone().unwrap_or_default();
    let around_baseline = sim.name == Some(Similarity::PearsonBaseline);
    unused(
        "sim_options.shrinkage",
        sim.shrinkage.is_some() && !around_baseline,
        "only `pearson_baseline` shrinks: this similarity",
    );
    if let Some(bsl) = &params.bsl_options {
        let sgd = bsl.method == Some(BslMethod::Sgd);
        unused("bsl_options.reg_u", bsl.reg_u.is_some() && sgd, "method `sgd`");
        unused("bsl_options.reg_i", bsl.reg_i.is_some() && sgd, "method `sgd`");
        unused("bsl_options.reg", bsl.reg.is_some() && !sgd, "method `als`");
        unused("bsl_options.learning_rate", bsl.learning_rate.is_some() && !sgd, "method `als`");
        use Algorithm::{KnnBasic, KnnWithMeans, KnnWithZscore};
        let plain = matches!(params.algorithm, Some(KnnBasic | KnnWithMeans | KnnWithZscore));
        unused("bsl_options", plain && !around_baseline, "without the similarity `pearson_baseline` this algorithm");
    }
    faults
}
