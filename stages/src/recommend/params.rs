//! Parameters of kind `baseline`: Surprise's own names, defaults by algorithm.
//!
//! A knob that is not set is `None` and takes the default of the chosen algorithm; one that the algorithm does not read is
//! a fault, because a sweep over it would show equal numbers and teach something false.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::algorithm::Algorithm;

/// Collaborative-filtering baselines: who rated what gives rankings and predicted ratings.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Baseline {
    /// Algorithm; required. Ranking: `popularity`, `item_knn`, `ease`. Rating: `baseline_only`, `svd`, `pmf`, `knn_basic`,
    /// `knn_with_means`, `knn_with_zscore`, `knn_baseline`, `slope_one`.
    pub algorithm: Option<Algorithm>,
    /// Items recommended to each customer.
    #[schemars(range(min = 1))]
    pub top: usize,
    /// Seed of the first factors.
    pub seed: u64,
    /// What is predicted where the algorithm cannot tell: `item_or_user_mean` (item, else user, else global mean),
    /// `global_mean` (Surprise), or `skip`, which leaves such rows out of the metrics. Default `item_or_user_mean`;
    /// `global_mean` under `compat: surprise`.
    pub cold: Option<Cold>,
    /// `surprise` repeats the program's departures from its papers: `cold: global_mean`, and `slope_one` cuts ratings to
    /// whole numbers.
    pub compat: Compat,
    /// Numbers that `svd` and `pmf` compute with; the others always use f64.
    pub precision: Precision,
    /// Lowest and highest rating; predictions are clipped to it.
    pub rating_scale: [f64; 2],
    /// Factors of a user and of an item (100 for `svd`, `pmf`).
    #[schemars(range(min = 1))]
    pub n_factors: Option<usize>,
    /// Passes over the ratings (20 for `svd`, `pmf`).
    pub n_epochs: Option<usize>,
    /// Whether `svd` learns biases (true).
    pub biased: Option<bool>,
    /// Mean of the first factors (0).
    pub init_mean: Option<f64>,
    /// Standard deviation of the first factors (0.1).
    #[schemars(range(min = 0))]
    pub init_std_dev: Option<f64>,
    /// Step size of everything (0.005).
    pub lr_all: Option<f64>,
    /// Penalty of everything (0.02).
    pub reg_all: Option<f64>,
    /// Step size of user biases (`lr_all`).
    pub lr_bu: Option<f64>,
    /// Step size of item biases (`lr_all`).
    pub lr_bi: Option<f64>,
    /// Step size of user factors (`lr_all`).
    pub lr_pu: Option<f64>,
    /// Step size of item factors (`lr_all`).
    pub lr_qi: Option<f64>,
    /// Penalty of user biases (`reg_all`).
    pub reg_bu: Option<f64>,
    /// Penalty of item biases (`reg_all`).
    pub reg_bi: Option<f64>,
    /// Penalty of user factors (`reg_all`).
    pub reg_pu: Option<f64>,
    /// Penalty of item factors (`reg_all`).
    pub reg_qi: Option<f64>,
    /// Neighbours that count (40; 20 for `item_knn`).
    #[schemars(range(min = 1))]
    pub k: Option<usize>,
    /// Neighbours below which there is no estimate from them (1).
    pub min_k: Option<usize>,
    /// How similar two users or items are, for `knn_*`.
    pub sim_options: Option<SimOptions>,
    /// How baselines are found, for `baseline_only`, `knn_baseline` and the similarity `pearson_baseline`.
    pub bsl_options: Option<BslOptions>,
    /// Penalty of `ease` (250).
    #[schemars(range(min = 0))]
    pub l2: Option<f64>,
}

impl Default for Baseline {
    fn default() -> Baseline {
        Baseline {
            algorithm: None,
            top: 100,
            seed: 0,
            cold: None,
            compat: Compat::None,
            precision: Precision::F32,
            rating_scale: [1.0, 5.0],
            n_factors: None,
            n_epochs: None,
            biased: None,
            init_mean: None,
            init_std_dev: None,
            lr_all: None,
            reg_all: None,
            lr_bu: None,
            lr_bi: None,
            lr_pu: None,
            lr_qi: None,
            reg_bu: None,
            reg_bi: None,
            reg_pu: None,
            reg_qi: None,
            k: None,
            min_k: None,
            sim_options: None,
            bsl_options: None,
            l2: None,
        }
    }
}

impl Baseline {
    /// Returns what is predicted where the algorithm cannot tell.
    pub fn cold(&self) -> Cold {
        self.cold.unwrap_or(match self.compat {
            Compat::None => Cold::ItemOrUserMean,
            Compat::Surprise => Cold::GlobalMean,
        })
    }
}

/// What is predicted where an algorithm cannot tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Cold {
    /// Mean of the item, else of the user, else of all ratings.
    ItemOrUserMean,
    /// Mean of all ratings, as Surprise.
    GlobalMean,
    /// Mean of all ratings, and the row is left out of the metrics.
    Skip,
}

/// Whose departures from the papers are repeated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Compat {
    /// Nobody's.
    None,
    /// Surprise 1.1's.
    Surprise,
}

/// Numbers that a fit computes with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Precision {
    /// Single.
    F32,
    /// Double.
    F64,
}

/// How similar two users or items are.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct SimOptions {
    /// Measure (`msd`).
    pub name: Option<Similarity>,
    /// Users as neighbours, else items (true).
    pub user_based: Option<bool>,
    /// Common ratings below which the similarity is 0 (1).
    pub min_support: Option<usize>,
    /// Shrinkage of `pearson_baseline` (100).
    #[schemars(range(min = 0))]
    pub shrinkage: Option<f64>,
}

/// A measure over the ratings that two users or items have in common.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Similarity {
    /// `1 / (mean squared difference + 1)`.
    #[default]
    Msd,
    /// Cosine.
    Cosine,
    /// Correlation.
    Pearson,
    /// Correlation around baselines, shrunk.
    PearsonBaseline,
}

/// How baselines are found.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct BslOptions {
    /// Alternating least squares or gradient descent (`als`).
    pub method: Option<BslMethod>,
    /// Rounds (10 for `als`, 20 for `sgd`).
    pub n_epochs: Option<usize>,
    /// Penalty of users, `als` only (15).
    pub reg_u: Option<f64>,
    /// Penalty of items, `als` only (10).
    pub reg_i: Option<f64>,
    /// Penalty, `sgd` only (0.02).
    pub reg: Option<f64>,
    /// Step size, `sgd` only (0.005).
    pub learning_rate: Option<f64>,
}

/// A way to find baselines.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum BslMethod {
    /// Alternating least squares.
    #[default]
    Als,
    /// Stochastic gradient descent.
    Sgd,
}
