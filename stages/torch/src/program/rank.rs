//! `rank`: items by the likelihood of their titles as the answer to each prompt.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use serde::Serialize;
use serde::de::DeserializeOwned;
use watershed_engine::{Job, StageError};
use watershed_stages::evaluate::customer_of;
use watershed_stages::formats;
use watershed_stages::rank::{self, Calibrate, Rank};
use watershed_stages::record::example::Example;
use watershed_stages::record::item::{self, Item};
use watershed_stages::record::lines;
use watershed_stages::record::ranking::Ranked;
use watershed_torch::{Context, Model, Trie, score_titles};

use super::failed;
use super::kept::Kept;
use super::speech::Speech;

/// Scores are rounded to so many parts of 1: what lies nearer is a tie, which the item's id decides, and not the last digits of
/// a sum, which depend on the machine.
const PARTS: f64 = 1e6;

/// The items that some rows choose from.
struct Choice {
    items: Vec<String>,
    /// Tokens of each title.
    lengths: Vec<usize>,
    trie: Trie,
}

/// All rows, ready to be scored.
struct Task {
    choices: Vec<Choice>,
    /// A prompt's tokens, and which choice it has.
    contexts: Vec<(Vec<u32>, usize)>,
    /// The same without the customer's text, under `pmi`; rows that share one name it once.
    neutral: Vec<(Vec<u32>, usize)>,
    /// Place in `neutral` of each row's.
    neutral_of: Vec<usize>,
}

/// Ranks the items for each prompt.
///
/// # Errors
/// When the inputs or the model cannot be used; [`StageError::Cancelled`] when the run is.
pub fn rank(params: &Rank, job: &Job) -> Result<(), StageError> {
    let speech = Speech::open(None, None, job)?;
    let rows = formats::prompts(job.input("prompts")?)?;
    let items = item::read(job.input("items")?)?;
    let task = Task::new(params, &rows, &items, &speech)?;
    let model = speech.model(params.dtype, &[], job)?;
    task.check_room(&rows, model.config().max_positions)?;
    let scorer = Scorer { model: &model, choices: &task.choices, job };
    let neutral = scorer.score(&task.neutral, "neutral", |_, sums| sums)?;
    let ranked = scorer.score(&task.contexts, "ranked", |place, mut sums| {
        if let Some(neutral) = task.neutral_of.get(place).map(|place| &neutral[*place]) {
            sums.iter_mut().zip(neutral).for_each(|(sum, off)| *sum -= off);
        }
        order(params, customer_of(&rows[place]), &task.choices[task.contexts[place].1], &sums)
    })?;
    job.count("prompts", rows.len() as f64);
    lines::write(job.output("ranking"), &ranked)
}

/// What contexts are scored with.
struct Scorer<'a> {
    model: &'a Model,
    choices: &'a [Choice],
    job: &'a Job<'a>,
}

impl Scorer<'_> {
    /// Scores every context's choice and returns what `make` makes of each context's sums; what a run before was cut off at
    /// in this `step` is not scored again.
    fn score<T: Serialize + DeserializeOwned>(
        &self,
        contexts: &[(Vec<u32>, usize)],
        step: &str,
        mut make: impl FnMut(usize, Vec<f64>) -> T,
    ) -> Result<Vec<T>, StageError> {
        let Scorer { model, choices, job } = *self;
        let asked: Vec<Context<'_>> =
            contexts.iter().map(|(ids, choice)| Context { ids, titles: &choices[*choice].trie }).collect();
        let kept = Kept::open(job, step);
        let mut made: Vec<T> = (0..asked.len()).map_while(|place| kept.get(&[place])).collect();
        let known = made.len();
        Kept::tell(job, known, asked.len(), "rankings");
        let mut done = |place, sums| {
            let result = make(place, sums);
            kept.put(&[place], &result);
            made.push(result);
            job.progress(made.len() as u64, asked.len() as u64, "prompts", "");
            if job.is_cancelled() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        };
        score_titles(model, None, &asked, known, &mut done).map_err(failed)?;
        job.check_cancelled()?;
        Ok(made)
    }
}

/// Returns the best items of a row, equal scores by id.
fn order(params: &Rank, customer: &str, choice: &Choice, sums: &[f64]) -> Ranked {
    let normed = sums.iter().zip(&choice.lengths).map(|(sum, length)| sum / (*length as f64).powf(params.length_norm));
    let rounded = normed.map(|score| (score * PARTS).round() / PARTS);
    let mut ranked: Vec<(f64, &String)> = rounded.zip(&choice.items).collect();
    ranked.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(b.1)));
    ranked.truncate(params.k as usize);
    Ranked {
        group: customer.to_string(),
        items: ranked.iter().map(|(_, item)| (*item).clone()).collect(),
        scores: ranked.iter().map(|(score, _)| *score).collect(),
    }
}

impl Task {
    fn new(params: &Rank, rows: &[Example], items: &[Item], speech: &Speech) -> Result<Task, StageError> {
        let prefix = params.prefix_ids(&speech.tokenizer)?;
        let titles = Titles::new(items, &params.prefix, speech)?;
        let mut task = Task { choices: Vec::new(), contexts: Vec::new(), neutral: Vec::new(), neutral_of: Vec::new() };
        let mut known: BTreeMap<Option<&[String]>, usize> = BTreeMap::new();
        let mut neutral: BTreeMap<(Vec<u32>, usize), usize> = BTreeMap::new();
        for row in rows {
            let wanted = row.candidates.as_deref();
            let choice = match known.get(&wanted) {
                Some(choice) => *choice,
                None => {
                    task.choices.push(titles.choice(wanted, &row.id)?);
                    known.insert(wanted, task.choices.len() - 1);
                    task.choices.len() - 1
                }
            };
            task.contexts.push(([speech.prompt(row)?, prefix.clone()].concat(), choice));
            if params.calibrate == Calibrate::Pmi {
                let context = ([speech.prompt(&without_input(row))?, prefix.clone()].concat(), choice);
                let next = neutral.len();
                let place = *neutral.entry(context.clone()).or_insert(next);
                task.neutral_of.push(place);
                if place == next {
                    task.neutral.push(context);
                }
            }
        }
        Ok(task)
    }

    /// Checks that each row's longest title has room behind its prompt.
    fn check_room(&self, rows: &[Example], context: usize) -> Result<(), StageError> {
        let longest = |choice: &Choice| choice.lengths.iter().copied().max().unwrap_or(0);
        let longest: Vec<usize> = self.choices.iter().map(longest).collect();
        for (row, (ids, choice)) in rows.iter().zip(&self.contexts) {
            if ids.len() + longest[*choice] > context {
                return Err(rank::too_long(&row.id, &format!("{} tokens", ids.len()), longest[*choice], context));
            }
        }
        Ok(())
    }
}

/// Returns the row without what it says of the customer: no input, and of a conversation only the system's turns and an empty
/// turn of the user.
fn without_input(row: &Example) -> Example {
    let mut bare = Example { input: String::new(), ..row.clone() };
    if let Some(messages) = &mut bare.messages {
        let last = messages.iter().rposition(|message| message.role == "user");
        let mut at = 0;
        messages.retain(|message| {
            at += 1;
            message.role == "system" || Some(at - 1) == last
        });
        messages.iter_mut().filter(|message| message.role == "user").for_each(|message| message.content.clear());
    }
    bare
}

/// The tokens of every title.
struct Titles<'a>(BTreeMap<&'a str, Vec<u32>>);

impl<'a> Titles<'a> {
    fn new(items: &'a [Item], prefix: &str, speech: &Speech) -> Result<Titles<'a>, StageError> {
        let gap = &prefix[prefix.trim_end_matches(' ').len()..];
        let mut titles = BTreeMap::new();
        for item in items {
            let title = item.title.trim();
            let tokens = if title.is_empty() { Vec::new() } else { speech.tokenizer.more(&format!("{gap}{title}"))? };
            if titles.insert(item.item_id.as_str(), tokens).is_some() {
                let id = &item.item_id;
                return Err(StageError::failed(format!("`items` holds `{id}` twice: keep one title for each item")));
            }
        }
        if titles.values().all(Vec::is_empty) {
            return Err(StageError::failed("no item of `items` has a title to rank by: give each its `title`"));
        }
        Ok(Titles(titles))
    }

    /// Returns the choice among `candidates`, or among all items; those without a title are left out.
    fn choice(&self, candidates: Option<&[String]>, row: &str) -> Result<Choice, StageError> {
        let mut chosen: BTreeMap<&str, &Vec<u32>> = BTreeMap::new();
        match candidates {
            None => chosen.extend(self.0.iter().map(|(item, tokens)| (*item, tokens))),
            Some(candidates) => {
                for item in candidates {
                    let unknown =
                        || StageError::failed(format!("prompt `{row}`: candidate `{item}` is not in `items`"));
                    chosen.insert(item, self.0.get(item.as_str()).ok_or_else(unknown)?);
                }
            }
        }
        chosen.retain(|_, tokens| !tokens.is_empty());
        let tokens: Vec<Vec<u32>> = chosen.values().map(|tokens| (*tokens).clone()).collect();
        Ok(Choice {
            items: chosen.keys().map(ToString::to_string).collect(),
            lengths: tokens.iter().map(Vec::len).collect(),
            trie: Trie::new(&tokens).map_err(failed)?,
        })
    }
}

#[cfg(test)]
mod tests;
