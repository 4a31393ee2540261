//! `sample-customers`: a smaller study from the same reviews, for trying a pipeline before running it whole.
//!
//! Customers are ranked by BLAKE3(seed, customer) and the smallest ranks are kept, so a larger sample holds a smaller one.

use std::collections::BTreeSet;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use watershed_engine::fault::ParamFault;
use watershed_engine::port::RecordType::Interactions;
use watershed_engine::preview::{Preview, PreviewInputs};
use watershed_engine::stage::NoRunKeys;
use watershed_engine::{Job, Ports, Stage, StageError};
use watershed_stages::record::interaction::{self, Interaction};
use watershed_stages::seeded;

/// Keeps some of the customers, with all their rows.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct SampleCustomers {
    /// How many customers to keep; all of them where there are fewer.
    #[schemars(range(min = 1))]
    pub customers: usize,
    /// Keeps only customers with at least so many rows.
    pub min_rows: usize,
    /// Chooses which customers are kept.
    pub seed: u64,
}

impl Default for SampleCustomers {
    fn default() -> SampleCustomers {
        SampleCustomers { customers: 100, min_rows: 1, seed: 0 }
    }
}

impl Stage for SampleCustomers {
    const KIND: &'static str = "sample-customers";
    const VERSION: u32 = 1;
    // Part of the kind's identity in keys: your organisation, so that no kind of ours is taken for yours.
    const HOUSE: &'static str = "example";
    type Run = NoRunKeys;

    fn ports(&self) -> Ports {
        Ports::new().reads("interactions", Interactions).writes("interactions", Interactions)
    }

    fn check(&self) -> Vec<ParamFault> {
        let fault = || ParamFault::new("min_rows", "no customer has 1000 rows", "use 1 to 999");
        (self.min_rows >= 1000).then(fault).into_iter().collect()
    }

    fn preview(&self, inputs: &PreviewInputs) -> Result<Preview, StageError> {
        let mut preview = Preview::default();
        match inputs.get("interactions") {
            Some(path) => preview.fact("customers", self.chosen(&interaction::read(path)?).len()),
            None => preview.waits("customers", "interactions"),
        };
        Ok(preview)
    }

    fn run(&self, _run: &NoRunKeys, job: &Job) -> Result<(), StageError> {
        let mut rows = interaction::read(job.input("interactions")?)?;
        let chosen = self.chosen(&rows);
        if chosen.is_empty() {
            return Err(StageError::failed(format!("no customer has {} rows; lower `min_rows`", self.min_rows)));
        }
        rows.retain(|row| chosen.contains(&row.user_id));
        job.count("customers", chosen.len() as f64);
        job.count("rows_out", rows.len() as f64);
        interaction::write(job.output("interactions"), rows)
    }
}

impl SampleCustomers {
    fn chosen(&self, rows: &[Interaction]) -> BTreeSet<String> {
        // Interactions are sorted by customer, so the rows of one stand together.
        let customers = rows.chunk_by(|a, b| a.user_id == b.user_id).filter(|own| own.len() >= self.min_rows);
        let mut ranked: Vec<(u64, &str)> =
            customers.map(|own| (seeded::draw(self.seed, &own[0].user_id), own[0].user_id.as_str())).collect();
        ranked.sort_unstable();
        ranked.into_iter().take(self.customers).map(|(_, customer)| customer.to_string()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(customers: usize) -> Vec<Interaction> {
        let row = |i: usize| Interaction { user_id: format!("u{i:03}"), ..Interaction::default() };
        (0..customers).flat_map(|i| std::iter::repeat_n(row(i), i + 1)).collect()
    }

    #[test]
    fn a_larger_sample_holds_a_smaller_one() {
        let chosen = |customers| SampleCustomers { customers, min_rows: 3, seed: 7 }.chosen(&rows(40));
        assert_eq!((chosen(5).len(), chosen(100).len()), (5, 38));
        assert!(chosen(5).is_subset(&chosen(9)));
    }
}
