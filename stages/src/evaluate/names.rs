//! What each metric is, and which inputs it needs.
//!
//! One table serves the check of `metrics`, the errors and the documentation. `@k` stands for each length in `k`. Intervals
//! of 95 % stand beside a metric as `METRIC_low` and `METRIC_high`: Wilson's for `parrot_rate` and `hit@k`, drawn over
//! customers for `copy_4`, `rep_4`, `excess_copy`, `ndcg@k`, `mrr@k` and differences. Comparisons of `compare` are systems
//! `A_vs_B` with `METRIC_diff`, `METRIC_p` and, with several comparisons, `METRIC_p_holm`.

/// Metric and its meaning.
pub const NAMES: &[(&str, &str)] = &[
    ("answers", "number of answers (needs `answers` or `teacher`)"),
    (
        "parrot_rate",
        "share of answers that parrot: a long copied run, many copied runs of 4 words, or a loop (needs `answers`)",
    ),
    ("copy_1", "mean share of the answer's words that stand in the prompt's input (needs `answers`)"),
    ("copy_2", "the same for pairs of words (needs `answers`)"),
    ("copy_4", "the same for runs of 4 words (needs `answers`)"),
    ("copy_4_p90", "90th percentile of copy_4 over answers (needs `answers`)"),
    ("copy_8", "the same for runs of 8 words (needs `answers`)"),
    ("longest_copied_span", "mean length in words of the longest run shared with the input (needs `answers`)"),
    ("longest_copied_span_p90", "90th percentile of longest_copied_span over answers (needs `answers`)"),
    ("longest_copied_span_ratio", "mean of that length over the answer's (needs `answers`)"),
    ("lcs_precision", "mean longest common subsequence with the input over the answer's length (needs `answers`)"),
    ("coverage", "mean share of words inside fragments copied from the input (needs `answers`)"),
    ("density", "mean length of the copied fragment that a word stands in (needs `answers`)"),
    ("novel_1", "mean share of words that do not stand in the input (needs `answers`)"),
    ("rep_4", "mean share of runs of 4 words that the answer repeats (needs `answers`)"),
    ("rep_4_p90", "90th percentile of rep_4 over answers (needs `answers`)"),
    ("echo_start_rate", "share of answers that begin with 8 words of the input in a row (needs `answers`)"),
    ("excess_copy", "mean of copy_4 minus the teacher's for the same customer (needs `answers` and `teacher`)"),
    ("template_echo_rate", "share of answers that hold a piece of a prompt template (needs `answers`)"),
    ("instruction_echo_rate", "share of answers that hold 8 words of the instruction in a row (needs `answers`)"),
    ("eos_rate", "share of answers that ended by themselves, not by the limit of tokens (needs `answers`)"),
    ("words", "mean number of words (needs `answers`)"),
    ("words_p90", "90th percentile of the number of words (needs `answers`)"),
    ("distinct_1", "distinct words over all words, of all answers (needs `answers`)"),
    ("distinct_2", "the same for pairs of words (needs `answers`)"),
    ("distinct_3", "the same for runs of 3 words (needs `answers`)"),
    ("unique_fraction", "share of distinct answers (needs `answers`)"),
    (
        "grounding_rate",
        "share of places naming a product whose product the catalogue knows (needs `answers` and `catalogue`)",
    ),
    ("hallucination_rate", "mean over customers of the share of unknown products (needs `answers` and `catalogue`)"),
    ("no_recommendation_rate", "share of customers whose answers name nothing (needs `answers` and `catalogue`)"),
    ("in_history_rate", "share of named products that the prompt shows as bought (needs `answers` and `catalogue`)"),
    ("duplicate_rate", "share of named products that the answer named before (needs `answers` and `catalogue`)"),
    (
        "not_in_candidates_rate",
        "share of named products that the prompt does not offer (needs prompts with candidates)",
    ),
    ("owned_only_rate", "share of answers with products that name bought ones only (needs `answers` and `catalogue`)"),
    ("item_entropy", "entropy of the named products in bits (needs `answers` and `catalogue`)"),
    ("customers", "number of customers in the denominator of ranking metrics (needs `truth`)"),
    ("no_list_rate", "share of those customers without any recommendation, counted as no hit (needs `truth`)"),
    (
        "hit@k",
        "share of customers with a target among the first k (needs `truth` and lists: `ranking`, or `answers` with `catalogue`)",
    ),
    ("ndcg@k", "mean discounted gain among the first k over the best possible (needs `truth` and lists)"),
    ("mrr@k", "mean reciprocal rank of the first target among the first k (needs `truth` and lists)"),
    ("coverage@k", "distinct items among all first k over the catalogue's size (needs `truth`, lists and `catalogue`)"),
    ("rmse", "root of the mean squared error of predicted ratings (needs `predictions`)"),
    ("mae", "mean absolute error of predicted ratings (needs `predictions`)"),
    ("impossible_rate", "share of ratings that the algorithm could not predict (needs `predictions`)"),
    ("updates", "number of optimizer updates (needs `curves`)"),
    ("train_loss", "mean training loss over all updates, as in the paper's Table 2 (needs `curves`)"),
    ("train_response_loss", "the same over response tokens only (needs `curves`)"),
    ("val_loss", "validation loss at the last evaluation; `val_loss.SOURCE` by source (needs `curves`)"),
    ("val_loss_best", "lowest validation loss after step 0 (needs `curves`)"),
    ("val_loss_before", "validation loss before the first update (needs `curves`)"),
    ("val_loss_mean", "mean over the evaluations after step 0, as in the paper's Table 2 (needs `curves`)"),
    ("test_loss", "loss of the chosen adapter on the training's `test` rows (needs `curves`)"),
    ("test_loss_before", "loss of the base on the same rows (needs `curves`)"),
];

/// Says whether a metric of this name exists for these lengths of lists.
pub fn is_known(name: &str, ks: &[usize]) -> bool {
    all(ks).iter().any(|known| known == name)
}

/// Returns all names, `@k` written out.
pub fn all(ks: &[usize]) -> Vec<String> {
    let spread = |name: &str| match name.strip_suffix("@k") {
        Some(metric) => ks.iter().map(|k| format!("{metric}@{k}")).collect(),
        None => vec![name.to_string()],
    };
    NAMES.iter().flat_map(|(name, _)| spread(name)).collect()
}

/// Returns what a metric is and needs.
pub fn describe(name: &str) -> Option<&'static str> {
    let family = name.split_once('@').map(|(metric, _)| format!("{metric}@k"));
    let wanted = family.as_deref().unwrap_or(name);
    NAMES.iter().find(|(known, _)| *known == wanted).map(|(_, text)| *text)
}

/// Says whether the key `system.metric` holds this metric, a bound of it, or its value for one source.
///
/// Systems may have dots in their names, so the key is read from its end.
pub fn is_number_of(key: &str, metric: &str) -> bool {
    let plain = key.strip_suffix("_low").or(key.strip_suffix("_high")).unwrap_or(key);
    let ends = |text: &str| text.strip_suffix(metric).is_some_and(|system| system.ends_with('.') && system.len() > 1);
    ends(plain) || key.match_indices('.').any(|(at, _)| metric == "val_loss" && ends(&key[..at]))
}
