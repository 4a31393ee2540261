//! Distinct requests and the rows that wait for each: equal prompts are paid for once.

use std::collections::HashMap;

use watershed_engine::Job;

use crate::record::example::Example;

use super::TeacherLabel;
use super::finish::{Policy, SAMPLES};
use super::label::Outcome;
use super::reply::Reply;
use super::request::Request;

/// One distinct request.
#[derive(Debug)]
pub struct Ask {
    /// What is sent.
    pub request: Request,
    /// Id of the first row that waits for it.
    pub row: String,
    /// Rows that wait for it.
    pub rows: Vec<usize>,
}

/// The requests of a stage under one provider.
pub struct Asks<'a> {
    /// The stage's parameters.
    pub params: &'a TeacherLabel,
    /// Name that the memo and `meta` know the teacher by.
    pub provider: String,
    /// The distinct requests, in the order of their first rows.
    pub list: Vec<Ask>,
}

impl<'a> Asks<'a> {
    /// Joins prompts that ask the same.
    pub fn new(params: &'a TeacherLabel, provider: String, prompts: &[Example]) -> Asks<'a> {
        let mut list: Vec<Ask> = Vec::new();
        let mut places: HashMap<String, usize> = HashMap::new();
        for (row, prompt) in prompts.iter().enumerate() {
            let request = Request::new(params, prompt);
            let place = *places.entry(request.body().to_string()).or_insert(list.len());
            if place == list.len() {
                list.push(Ask { request, row: prompt.id.clone(), rows: Vec::new() });
            }
            list[place].rows.push(row);
        }
        Asks { params, provider, list }
    }

    /// Returns what `reply`, answer number `sample`, makes of a row; `None` asks for another answer.
    pub fn settle(&self, reply: &Reply, sample: u32) -> Option<Outcome> {
        match self.params.finish.judge(reply, sample) {
            Policy::Keep if reply.text.is_empty() => {
                Some(Outcome::Failed("the provider filtered the whole answer".into()))
            }
            Policy::Keep => {
                let meta = reply.meta(&self.provider, self.params.model.as_deref().unwrap_or_default());
                Some(Outcome::Label(reply.text.clone(), meta))
            }
            Policy::Drop => Some(Outcome::Failed(format!("finish_reason `{}`", reply.finish_reason))),
            Policy::Retry => None,
        }
    }

    /// Looks every request up in the memo: its outcome, or the sample that must be asked for.
    pub fn recall(&self, job: &Job) -> Vec<Result<Outcome, u32>> {
        self.list.iter().map(|ask| self.recall_one(ask, job)).collect()
    }

    fn recall_one(&self, ask: &Ask, job: &Job) -> Result<Outcome, u32> {
        for sample in 0..SAMPLES {
            let body = job.memo().get(&self.memo_key(ask, sample)).ok_or(sample)?;
            let reply = Reply::parse(&body).map_err(|_| sample)?;
            if let Some(outcome) = self.settle(&reply, sample) {
                return Ok(outcome);
            }
        }
        Err(SAMPLES)
    }

    /// Returns what the memo knows an answer by.
    pub fn memo_key(&self, ask: &Ask, sample: u32) -> String {
        ask.request.memo_key(&self.provider, sample)
    }
}
