//! `evaluate`: losses, parroting, grounding, ranking and ratings of several systems on the same customers.
//!
//! A system is a label: of answers, of a ranking, of predictions, of curves, and `teacher` for the labels themselves. What the
//! inputs allow is computed; [`names`] says what each number is. Only customers that some answer is about count, the same
//! ones for every system, and who has no answer or no list stays in the denominator: a comparison on the customers that
//! happened to work would flatter the system that fails most.

mod answers;
mod comparison;
mod customer;
mod evidence;
mod leak;
mod losses;
pub mod names;
mod numbers;
mod ranked;
mod ratings;
mod report;

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use watershed_engine::fault::ParamFault;
use watershed_engine::port::RecordType;
use watershed_engine::stage::NoRunKeys;
use watershed_engine::{Job, Ports, Stage, StageError};

use crate::metrics::grounding::Grounding;
use crate::metrics::interval::Bootstrap;
use crate::metrics::parroting::Thresholds;
use crate::record::lines;

use answers::Scored;
use customer::Customers;
use evidence::Evidence;
use leak::Leaks;
use numbers::Numbers;

pub use evidence::customer_of;

/// Measures answers, rankings, ratings and losses on the same customers.
///
/// A number is named `SYSTEM.NUMBER`. Intervals of 95 % stand beside it as `NUMBER_low` and `NUMBER_high`; a comparison is the
/// system `A_vs_B` with `NUMBER_diff`, `NUMBER_p` and, of several, `NUMBER_p_holm`.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Evaluate {
    /// Lengths of the lists that hit rate, NDCG and MRR look at.
    pub k: Vec<usize>,
    /// Names of the metrics to keep, without system; none keeps all that the inputs allow.
    pub metrics: Vec<String>,
    /// How products are found in answers.
    pub grounding: Grounding,
    /// When an answer counts as parroting.
    pub parroting: Thresholds,
    /// How intervals of means are drawn.
    pub bootstrap: Bootstrap,
    /// Pairs of systems to compare on the same customers, as `[[a, b]]`; differences are a - b.
    pub compare: Vec<[String; 2]>,
    /// What to do when a prompt's input names the product to be predicted: `fail` or `warn`. A target among the prompt's
    /// bought products always fails.
    pub leaks: Leaks,
}

impl Default for Evaluate {
    fn default() -> Evaluate {
        Evaluate {
            k: vec![1, 5, 10, 20],
            metrics: Vec::new(),
            grounding: Grounding::default(),
            parroting: Thresholds::default(),
            bootstrap: Bootstrap::default(),
            compare: Vec::new(),
            leaks: Leaks::Fail,
        }
    }
}

impl Stage for Evaluate {
    const KIND: &'static str = "evaluate";
    const VERSION: u32 = 2;
    const NUMBERS: &'static [(&'static str, &'static str)] = names::NAMES;
    type Run = NoRunKeys;

    fn ports(&self) -> Ports {
        Ports::new()
            .may_read_many("answers", &[RecordType::Answers])
            .may_read("prompts", RecordType::Prompts)
            .may_read("teacher", RecordType::Examples)
            .may_read("truth", RecordType::Interactions)
            .may_read("catalogue", RecordType::Items)
            .may_read_many("ranking", &[RecordType::Ranking])
            .may_read_many("predictions", &[RecordType::Predictions])
            .may_read_many("curves", &[RecordType::Curves])
            .writes("metrics", RecordType::Metrics)
            .writes("per_customer", RecordType::Bytes)
            .reports("report")
    }

    fn check(&self) -> Vec<ParamFault> {
        let mut faults = Vec::new();
        if self.k.is_empty() || self.k.contains(&0) {
            faults.push(ParamFault::new("k", "`k` needs numbers from 1 on", "for example `k: [1, 5, 10, 20]`"));
        }
        for name in self.metrics.iter().filter(|name| !names::is_known(name, &self.k)) {
            let help = format!("metrics are {}", names::all(&self.k).join(", "));
            faults.push(ParamFault::new("metrics", format!("no metric is called `{name}`"), help));
        }
        for [a, b] in self.compare.iter().filter(|[a, b]| a == b) {
            faults.push(ParamFault::new("compare", format!("`{a}` is compared with `{b}`"), "name two systems"));
        }
        faults
    }

    fn run(&self, _run: &NoRunKeys, job: &Job) -> Result<(), StageError> {
        let evidence = Evidence::read(job, &self.grounding)?;
        leak::check(&evidence, self.leaks, job)?;
        let scored = self.score(&evidence, job)?;
        let mut numbers = Numbers::default();
        let mut customers = Customers::default();
        for (system, scores) in &scored {
            answers::measure(system, scores, self, &mut numbers, &mut customers);
        }
        answers::compare_with_teacher(&scored, self, &mut numbers, &mut customers);
        job.check_cancelled()?;
        ranked::measure(&evidence, &scored, self, &mut numbers, &mut customers);
        losses::measure(job.inputs("curves"), &mut numbers)?;
        ratings::measure(job.inputs("predictions"), &mut numbers)?;
        numbers.keep_only(&self.metrics)?;
        comparison::measure(&customers, self, &mut numbers)?;
        lines::write(job.output("per_customer"), customers.lines())?;
        numbers.write(job.output("metrics"))?;
        report::write(job.output("report"), &evidence, &scored, &numbers)
    }
}

impl Evaluate {
    /// Scores the answers of every system.
    fn score<'a>(&self, evidence: &'a Evidence, job: &Job) -> Result<BTreeMap<&'a str, Vec<Scored<'a>>>, StageError> {
        let mut scored = BTreeMap::new();
        for (done, (system, answers)) in evidence.answers.iter().enumerate() {
            job.check_cancelled()?;
            job.progress(done as u64, evidence.answers.len() as u64, "systems", system.as_str());
            scored.insert(system.as_str(), answers::score(answers, evidence, &self.parroting));
        }
        Ok(scored)
    }
}

#[cfg(test)]
mod tests;
