//! A hard cap on money: nothing is sent whose worst case, with that of everything in flight, could pass it.

use watershed_engine::StageError;

use super::TeacherLabel;
use super::reply::Reply;
use super::request::Request;
use super::run_keys::{Price, TeacherRun};

/// What was spent, and what may still come due.
#[derive(Debug)]
pub struct Budget {
    price: Option<Price>,
    cap_usd: Option<f64>,
    max_tokens: u64,
    spent_usd: f64,
    held_usd: f64,
}

impl Budget {
    /// Reads cap and price.
    ///
    /// # Errors
    /// When a cap is given without what it needs: the prices, and `max_tokens` for the worst case.
    pub fn new(params: &TeacherLabel, run: &TeacherRun) -> Result<Budget, StageError> {
        if run.budget_usd.is_some() && run.price.is_none() {
            return Err(StageError::failed(
                "`run.budget_usd` needs prices: add `run.price: {input: …, output: …}` in US dollars per million tokens",
            ));
        }
        if run.budget_usd.is_some() && params.max_tokens.is_none() {
            return Err(StageError::failed(
                "`run.budget_usd` needs `with.max_tokens`: without it an answer has no worst case",
            ));
        }
        let max_tokens = u64::from(params.max_tokens.unwrap_or(0));
        Ok(Budget { price: run.price, cap_usd: run.budget_usd, max_tokens, spent_usd: 0.0, held_usd: 0.0 })
    }

    /// Returns the most that `request` can cost, in US dollars; 0 without a price.
    pub fn worst(&self, request: &Request) -> f64 {
        self.price.map_or(0.0, |p| p.of(request.tokens_in_at_most(), self.max_tokens))
    }

    /// Sets `worst` aside for a request about to leave; `false` when the cap forbids it.
    pub fn hold(&mut self, worst: f64) -> bool {
        let allowed = self.cap_usd.is_none_or(|cap| self.spent_usd + self.held_usd + worst <= cap);
        self.held_usd += if allowed { worst } else { 0.0 };
        allowed
    }

    /// Replaces what was set aside by what the reply cost; by the worst case where the provider counted no tokens.
    pub fn settle(&mut self, worst: f64, reply: &Reply) {
        let counted = self.price.zip(reply.tokens_in).zip(reply.tokens_out);
        self.release(worst);
        self.spent_usd += counted.map_or(worst, |((price, tokens_in), tokens_out)| price.of(tokens_in, tokens_out));
    }

    /// Frees what was set aside for a request that the server refused.
    pub fn release(&mut self, worst: f64) {
        self.held_usd = (self.held_usd - worst).max(0.0);
    }

    /// Counts a request as spent whose reply was lost: it may have been billed.
    pub fn write_off(&mut self, worst: f64) {
        self.release(worst);
        self.spent_usd += worst;
    }

    /// Returns US dollars spent, where a price is known.
    pub fn spent(&self) -> Option<f64> {
        self.price.map(|_| self.spent_usd)
    }

    /// Says why the next request, which may cost `worst`, does not leave.
    pub fn refusal(&self, worst: f64) -> String {
        format!(
            "`run.budget_usd` {} is used up: {:.4} spent, the next request may cost {worst:.4}",
            self.cap_usd.unwrap_or(0.0),
            self.spent_usd
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_in_flight_count_with_their_worst_case() {
        let params = TeacherLabel { max_tokens: Some(100), ..TeacherLabel::default() };
        let price = Price { input: 0.0, output: 10_000.0 };
        let run = TeacherRun { budget_usd: Some(2.5), price: Some(price), ..TeacherRun::default() };
        let mut budget = Budget::new(&params, &run).unwrap();
        assert!(budget.hold(1.0) && budget.hold(1.0) && !budget.hold(1.0));
        budget.settle(1.0, &Reply { tokens_in: Some(5), tokens_out: Some(10), ..Reply::default() });
        assert!(budget.hold(1.0), "the reply cost 0.1, so there is room again");
        budget.write_off(1.0);
        assert!(!budget.hold(1.0), "a lost reply may have been billed");
        assert!(
            Budget::new(&params, &TeacherRun { price: None, ..run }).unwrap_err().to_string().contains("run.price")
        );
    }
}
