//! Sends the requests that the memo could not answer.
//!
//! One loop owns all state; a spawned task does one exchange and hands it back. Concurrency follows AIMD: halved on 429,
//! one more for each round of good answers. On a fault that lasts, the loop stops sending but waits a little for what is in
//! flight: those answers are paid for.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::task::{JoinError, JoinSet};
use watershed_engine::{Job, StageError};

use super::ask::Asks;
use super::backoff;
use super::budget::Budget;
use super::client::Client;
use super::label::{Outcome, Tally};
use super::pace::Pace;
use super::reply::Reply;
use super::run_keys::TeacherRun;
use super::verdict::{Again, Exchange, Sort, Verdict};

/// Tries after the first for a 200 that is no answer.
const GARBAGE_RETRIES: u32 = 3;

/// How often the cancel flag is looked at.
const TICK: Duration = Duration::from_millis(50);

/// How long answers in flight are waited for once the stage has to end.
const LAST_CALL: Duration = Duration::from_secs(2);

/// A request on its way through tries and samples.
#[derive(Debug, Clone)]
struct Ticket {
    ask: usize,
    sample: u32,
    tries: u32,
    garbage: u32,
    ready: Instant,
    /// Set aside in the budget, US dollars.
    worst_usd: f64,
    /// Taken from the token bucket.
    tokens: u64,
}

/// Sends requests until each has an outcome or the stage has to end.
pub struct Dispatch<'a> {
    asks: &'a Asks<'a>,
    run: &'a TeacherRun,
    job: &'a Job<'a>,
    client: Arc<Client>,
    pace: Pace,
    budget: Budget,
    waiting: VecDeque<Ticket>,
    flying: JoinSet<(Ticket, Exchange)>,
    /// Requests allowed in flight; fractional, so that rounds of good answers add up.
    width: f64,
    paused_until: Instant,
    /// One for each request of `asks`; `None` while it has none.
    pub outcomes: Vec<Option<Outcome>>,
    /// What it took so far.
    pub tally: Tally,
}

impl<'a> Dispatch<'a> {
    /// Prepares to send what has no outcome in `recalled`. Sends nothing.
    ///
    /// # Errors
    /// When the budget lacks its prices.
    pub fn new(
        asks: &'a Asks,
        recalled: Vec<Result<Outcome, u32>>,
        run: &'a TeacherRun,
        client: Client,
        job: &'a Job,
    ) -> Result<Dispatch<'a>, StageError> {
        let now = Instant::now();
        let budget = Budget::new(asks.params, run)?;
        let max_tokens = u64::from(asks.params.max_tokens.unwrap_or(0));
        let ticket = |(ask, outcome): (usize, &Result<Outcome, u32>)| {
            let request = &asks.list[ask].request;
            let (worst_usd, tokens) = (budget.worst(request), request.tokens_in_likely() + max_tokens);
            Some(Ticket {
                ask,
                sample: outcome.as_ref().err().copied()?,
                tries: 0,
                garbage: 0,
                ready: now,
                worst_usd,
                tokens,
            })
        };
        Ok(Dispatch {
            waiting: recalled.iter().enumerate().filter_map(ticket).collect(),
            outcomes: recalled.into_iter().map(Result::ok).collect(),
            pace: Pace::new(run.requests_per_minute, run.tokens_per_minute, now),
            client: Arc::new(client),
            width: f64::from(run.concurrency.max(1)),
            paused_until: now,
            flying: JoinSet::new(),
            tally: Tally::default(),
            asks,
            run,
            job,
            budget,
        })
    }

    /// Sends until done.
    ///
    /// # Errors
    /// When the stage has to end; what arrived is in `outcomes` and in the memo.
    pub async fn run(&mut self) -> Result<(), StageError> {
        let ended = self.send_all().await;
        if ended.is_err() {
            let _ = tokio::time::timeout(LAST_CALL, self.land_all()).await;
        }
        self.tally.usd = self.budget.spent();
        ended
    }

    async fn send_all(&mut self) -> Result<(), StageError> {
        loop {
            self.job.check_cancelled()?;
            let nap = self.launch()?;
            if self.flying.is_empty() && self.waiting.is_empty() {
                return Ok(());
            }
            tokio::select! {
                Some(landed) = self.flying.join_next() => self.land(landed)?,
                () = tokio::time::sleep(nap) => {}
            }
        }
    }

    async fn land_all(&mut self) {
        while let Some(landed) = self.flying.join_next().await {
            // The stage ends with its first fault; later ones add nothing.
            let _ = self.land(landed);
        }
    }

    /// Starts every request that may leave now; returns how long to wait before looking again.
    fn launch(&mut self) -> Result<Duration, StageError> {
        while self.flying.len() < self.width as usize {
            let now = Instant::now();
            let Some(next) = self.waiting.iter().position(|t| t.ready <= now) else { break };
            if now < self.paused_until {
                return Ok(TICK.min(self.paused_until - now));
            }
            let (worst_usd, tokens) = (self.waiting[next].worst_usd, self.waiting[next].tokens);
            if !self.budget.hold(worst_usd) {
                // What is in flight may come in cheaper than its worst case.
                return if self.flying.is_empty() { Err(self.over_budget(worst_usd)) } else { Ok(TICK) };
            }
            let wait = self.pace.take(tokens, now);
            if !wait.is_zero() {
                self.budget.release(worst_usd);
                return Ok(TICK.min(wait));
            }
            let ticket = self.waiting.remove(next).expect("the position was just found");
            self.launch_one(ticket);
        }
        Ok(TICK)
    }

    fn launch_one(&mut self, ticket: Ticket) {
        self.tally.attempts += 1;
        let client = self.client.clone();
        let body = self.asks.list[ticket.ask].request.body().to_string();
        self.flying.spawn(async move {
            let exchange = client.exchange(&body).await;
            (ticket, exchange)
        });
    }

    fn land(&mut self, landed: Result<(Ticket, Exchange), JoinError>) -> Result<(), StageError> {
        let (ticket, exchange) = landed.map_err(|e| StageError::failed(format!("the teacher client broke: {e}")))?;
        let verdict = exchange.verdict();
        match (&verdict, exchange.may_be_billed()) {
            (Verdict::Reply(reply), _) => self.budget.settle(ticket.worst_usd, reply),
            (_, true) => self.budget.write_off(ticket.worst_usd),
            (_, false) => self.budget.release(ticket.worst_usd),
        }
        match (verdict, exchange) {
            (Verdict::Reply(reply), Exchange::Answer(answer)) => self.keep(ticket, &reply, &answer.body)?,
            (Verdict::Again(again), _) => self.again(ticket, again)?,
            (Verdict::Row(why), _) => self.end(&ticket, Outcome::Failed(why)),
            (Verdict::Stop(why), _) => return Err(StageError::Failed(why)),
            (Verdict::Reply(_), Exchange::Lost { .. }) => unreachable!("a lost exchange has no reply"),
        }
        Ok(())
    }

    /// Remembers a reply before anything else is done with it: it is paid for.
    fn keep(&mut self, ticket: Ticket, reply: &Reply, body: &[u8]) -> Result<(), StageError> {
        let key = self.asks.memo_key(&self.asks.list[ticket.ask], ticket.sample);
        let folder = self.job.spec().memo.clone().unwrap_or_default();
        self.job.memo().put(&key, body).map_err(|e| StageError::io("write", &folder, &e))?;
        self.tally.calls += 1;
        self.tally.tokens_in += reply.tokens_in.unwrap_or(0);
        self.tally.tokens_out += reply.tokens_out.unwrap_or(0);
        if let Some(used) = reply.tokens_in.zip(reply.tokens_out).map(|(i, o)| i + o) {
            self.pace.give_back(ticket.tokens.saturating_sub(used));
        }
        self.width = (self.width + 1.0 / self.width).min(f64::from(self.run.concurrency.max(1)));
        match self.asks.settle(reply, ticket.sample) {
            Some(outcome) => self.end(&ticket, outcome),
            None => self.waiting.push_front(Ticket { sample: ticket.sample + 1, tries: 0, garbage: 0, ..ticket }),
        }
        Ok(())
    }

    fn end(&mut self, ticket: &Ticket, outcome: Outcome) {
        self.outcomes[ticket.ask] = Some(outcome);
        let note = self.budget.spent().map_or_else(String::new, |usd| format!("{usd:.4} USD"));
        self.job.progress(self.rows_done(), self.rows_total(), "rows", note);
    }

    fn again(&mut self, ticket: Ticket, again: Again) -> Result<(), StageError> {
        let now = Instant::now();
        let (tries, row) = (ticket.tries + 1, self.asks.list[ticket.ask].row.clone());
        let garbage = ticket.garbage + u32::from(matches!(again.sort, Sort::Garbage | Sort::Empty));
        if tries > self.run.request_retries || garbage > GARBAGE_RETRIES {
            return self.give_up(&ticket, &again, tries, &row);
        }
        let wait = again.wait.unwrap_or_else(|| backoff::delay(&row, tries));
        if again.sort == Sort::Limit {
            self.pause(now, wait);
        }
        self.job.log(format!(
            "row `{row}`, try {tries}: the teacher {}; again in {:.1} s",
            again.why,
            wait.as_secs_f64()
        ));
        // Before the rows that were not asked yet: a server that hangs is given up after the tries of a few rows, not of all.
        self.waiting.push_front(Ticket { tries, garbage, ready: now + wait, ..ticket });
        Ok(())
    }

    /// Holds everybody back; a burst of 429s that left together halves the width once.
    fn pause(&mut self, now: Instant, wait: Duration) {
        if now >= self.paused_until {
            self.width = (self.width / 2.0).max(1.0);
        }
        self.paused_until = self.paused_until.max(now + wait);
    }

    fn give_up(&mut self, ticket: &Ticket, again: &Again, tries: u32, row: &str) -> Result<(), StageError> {
        let text = format!("{} (row `{row}`, {tries} {})", again.why, if tries == 1 { "try" } else { "tries" });
        match again.sort {
            Sort::Empty => {
                self.end(ticket, Outcome::Failed(format!("the teacher sends an empty answer, {tries} times")));
                Ok(())
            }
            Sort::Garbage => {
                Err(StageError::Failed(format!("{text}; is `with.endpoint` an OpenAI-compatible server?")))
            }
            Sort::Passing => Err(StageError::Retry(format!("{text}; run again once the server is well"))),
            Sort::Limit => Err(StageError::Retry(format!(
                "{text}; run again later, with a lower `run.concurrency` or with `run.requests_per_minute`"
            ))),
        }
    }

    fn over_budget(&self, worst_usd: f64) -> StageError {
        StageError::failed(format!("costs too much: {}; raise it and run again", self.budget.refusal(worst_usd)))
    }

    /// Returns the rows that have an outcome.
    pub fn rows_done(&self) -> u64 {
        let done = self.asks.list.iter().zip(&self.outcomes).filter(|(_, outcome)| outcome.is_some());
        done.map(|(ask, _)| ask.rows.len() as u64).sum()
    }

    fn rows_total(&self) -> u64 {
        self.asks.list.iter().map(|ask| ask.rows.len() as u64).sum()
    }
}
