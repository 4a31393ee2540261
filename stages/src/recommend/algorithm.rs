//! The algorithms by name: which parameters each reads, and how each is fitted.
//!
//! To add one: a file with its kernel, its line in [`Algorithm::reads`] and its line in [`Algorithm::fit`].

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use watershed_engine::StageError;

use super::model::{Model, Tick};
use super::params::{Baseline, BslMethod, BslOptions, Compat, Precision};
use super::ratings::Ratings;
use super::{biases, ease, item_knn, knn, popularity, slope_one, svd};

const FACTORS: &[&str] =
    &["n_factors", "n_epochs", "init_mean", "init_std_dev", "lr_all", "reg_all", "lr_pu", "lr_qi", "reg_pu", "reg_qi"];
const BIASES: &[&str] = &["biased", "lr_bu", "lr_bi", "reg_bu", "reg_bi"];
const NEIGHBOURS: &[&str] = &["k", "min_k", "sim_options", "bsl_options"];

/// An algorithm of kind `baseline`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "the names are the field's own; docs/kinds.md says which rank and which rate")]
pub enum Algorithm {
    Popularity,
    RecentPopularity,
    Random,
    LastItem,
    ItemKnn,
    Ease,
    Ials,
    Bpr,
    TitleBm25,
    NormalPredictor,
    BaselineOnly,
    Svd,
    Pmf,
    Svdpp,
    Nmf,
    KnnBasic,
    KnnWithMeans,
    KnnWithZscore,
    KnnBaseline,
    SlopeOne,
    CoClustering,
}

impl Algorithm {
    /// Returns the knobs that the algorithm reads beside the common ones; `None` while it is not available.
    pub fn reads(self) -> Option<Vec<&'static str>> {
        use Algorithm::*;
        Some(match self {
            Popularity | SlopeOne => vec![],
            ItemKnn => vec!["k"],
            Ease => vec!["l2"],
            BaselineOnly => vec!["bsl_options"],
            Svd => [FACTORS, BIASES].concat(),
            Pmf => FACTORS.to_vec(),
            KnnBasic | KnnWithMeans | KnnWithZscore | KnnBaseline => NEIGHBOURS.to_vec(),
            RecentPopularity | Random | LastItem | Ials | Bpr | TitleBm25 | NormalPredictor | Svdpp | Nmf
            | CoClustering => {
                return None;
            }
        })
    }

    /// Fits the algorithm to the training ratings.
    ///
    /// # Errors
    /// When `tick` ends the fit, the data are too large for the algorithm, or the fit fails.
    pub fn fit<'a>(self, params: &Baseline, train: &'a Ratings, tick: Tick) -> Result<Model<'a>, StageError> {
        use Algorithm::*;
        Ok(match self {
            Popularity => Model::ranking(popularity::fit(train)),
            ItemKnn => Model::ranking(item_knn::fit(train, params.k.unwrap_or(20))),
            Ease => Model::ranking(ease::fit(train, params.l2.unwrap_or(250.0), tick)?),
            BaselineOnly => Model::rating(biases::fit(train, method(params))),
            Svd | Pmf => match params.precision {
                Precision::F32 => Model::rating(svd::fit::<f32>(train, &factorisation(self, params), tick)?),
                Precision::F64 => Model::rating(svd::fit::<f64>(train, &factorisation(self, params), tick)?),
            },
            KnnBasic => Model::rating(knn::fit(train, knn::Center::Nothing, &neighbourhood(params))),
            KnnWithMeans => Model::rating(knn::fit(train, knn::Center::Mean, &neighbourhood(params))),
            KnnWithZscore => Model::rating(knn::fit(train, knn::Center::ZScore, &neighbourhood(params))),
            KnnBaseline => Model::rating(knn::fit(train, knn::Center::Baseline, &neighbourhood(params))),
            SlopeOne => Model::rating(slope_one::fit(train, params.compat == Compat::Surprise)?),
            other => return Err(StageError::failed(format!("algorithm `{}` is not yet available", other.name()))),
        })
    }

    /// Returns the name in YAML.
    pub fn name(self) -> String {
        serde_json::to_value(self).ok().and_then(|name| name.as_str().map(str::to_string)).unwrap_or_default()
    }

    /// Returns the algorithms that can be run, in the order of the documentation.
    pub fn available() -> Vec<Algorithm> {
        use Algorithm::*;
        vec![
            Popularity,
            ItemKnn,
            Ease,
            BaselineOnly,
            Svd,
            Pmf,
            KnnBasic,
            KnnWithMeans,
            KnnWithZscore,
            KnnBaseline,
            SlopeOne,
        ]
    }
}

/// Fills in Surprise's defaults of `SVD`; PMF is `SVD(biased=False)`.
fn factorisation(algorithm: Algorithm, p: &Baseline) -> svd::Options {
    let (lr, reg) = (p.lr_all.unwrap_or(0.005), p.reg_all.unwrap_or(0.02));
    let group = |all: f64, [bu, bi, pu, qi]: [Option<f64>; 4]| svd::PerGroup {
        bu: bu.unwrap_or(all),
        bi: bi.unwrap_or(all),
        pu: pu.unwrap_or(all),
        qi: qi.unwrap_or(all),
    };
    svd::Options {
        n_factors: p.n_factors.unwrap_or(100),
        n_epochs: p.n_epochs.unwrap_or(20),
        biased: algorithm == Algorithm::Svd && p.biased.unwrap_or(true),
        init_mean: p.init_mean.unwrap_or(0.0),
        init_std_dev: p.init_std_dev.unwrap_or(0.1),
        lr: group(lr, [p.lr_bu, p.lr_bi, p.lr_pu, p.lr_qi]),
        reg: group(reg, [p.reg_bu, p.reg_bi, p.reg_pu, p.reg_qi]),
        seed: p.seed,
    }
}

/// Fills in Surprise's defaults of `bsl_options`.
fn method(params: &Baseline) -> biases::Method {
    let BslOptions { method, n_epochs, reg_u, reg_i, reg, learning_rate } =
        params.bsl_options.clone().unwrap_or_default();
    match method.unwrap_or_default() {
        BslMethod::Als => biases::Method::Als {
            n_epochs: n_epochs.unwrap_or(10),
            reg_u: reg_u.unwrap_or(15.0),
            reg_i: reg_i.unwrap_or(10.0),
        },
        BslMethod::Sgd => biases::Method::Sgd {
            n_epochs: n_epochs.unwrap_or(20),
            reg: reg.unwrap_or(0.02),
            learning_rate: learning_rate.unwrap_or(0.005),
        },
    }
}

/// Fills in Surprise's defaults of the nearest neighbours.
fn neighbourhood(params: &Baseline) -> knn::Options {
    let sim = params.sim_options.clone().unwrap_or_default();
    knn::Options {
        k: params.k.unwrap_or(40),
        min_k: params.min_k.unwrap_or(1),
        user_based: sim.user_based.unwrap_or(true),
        similarity: sim.name.unwrap_or_default(),
        min_support: sim.min_support.unwrap_or(1),
        shrinkage: sim.shrinkage.unwrap_or(100.0),
        baselines: method(params),
    }
}
