//! Everything that `evaluate` reads, brought to one form: who was asked what, who answered what, and what was right.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use watershed_engine::{Job, StageError};

use crate::formats;
use crate::metrics::grounding::{Catalogue, Grounding};
use crate::metrics::ranking;
use crate::record::answer::Answer;
use crate::record::example::Example;
use crate::record::ranking::Ranked;
use crate::record::{interaction, item, lines};

/// Name of the system that the labels are.
pub const TEACHER: &str = "teacher";

/// The inputs of one evaluation.
#[derive(Debug, Default)]
pub struct Evidence {
    /// Prompts by id.
    pub prompts: BTreeMap<String, Example>,
    /// Answers by system, sorted by id and sample; the teacher's too, on the ids that the others answered.
    pub answers: BTreeMap<String, Vec<Answer>>,
    /// Ranked items by system and customer.
    pub rankings: BTreeMap<String, BTreeMap<String, Vec<String>>>,
    /// Bought items by customer: the targets.
    pub truth: BTreeMap<String, BTreeSet<String>>,
    /// Titles of the items, where a catalogue was given.
    pub catalogue: Option<Catalogue>,
    /// Number of items in the catalogue.
    pub items: usize,
    /// Customers that count, the same for every system.
    pub customers: BTreeSet<String>,
}

impl Evidence {
    /// Reads the ports of a job.
    ///
    /// # Errors
    /// When nothing is there to evaluate, when answers have no prompts, and when files contradict each other.
    pub fn read(job: &Job, grounding: &Grounding) -> Result<Evidence, StageError> {
        demand_something(job)?;
        let mut evidence = Evidence { prompts: read_prompts(job)?, ..Evidence::default() };
        for input in job.inputs("answers") {
            let answers = read_answers(&input.path, &input.label, &evidence.prompts)?;
            evidence.answers.insert(input.label.clone(), answers);
        }
        if let Some(path) = job.optional_input("teacher") {
            evidence.add_teacher(formats::prompts(path)?)?;
        }
        for input in job.inputs("ranking") {
            evidence.rankings.insert(input.label.clone(), read_ranking(&input.label, &input.path)?);
        }
        if let Some(path) = job.optional_input("truth") {
            for row in interaction::read(path)? {
                evidence.truth.entry(row.user_id).or_default().insert(row.item_id);
            }
        }
        if let Some(path) = job.optional_input("catalogue") {
            let items = item::read(path)?;
            let pairs = items.iter().map(|item| (item.item_id.as_str(), item.title.as_str()));
            evidence.catalogue = Some(Catalogue::new(pairs, grounding));
            evidence.items = items.len();
        }
        evidence.customers = evidence.find_customers();
        evidence.refuse_two_lists()?;
        Ok(evidence)
    }

    /// Adds the labels as answers, on the ids that the systems answered; on all when no system answered.
    fn add_teacher(&mut self, examples: Vec<Example>) -> Result<(), StageError> {
        if self.answers.contains_key(TEACHER) {
            let text =
                "`answers` has a system `teacher`, which is the name of port `teacher`: give the answers another label";
            return Err(StageError::failed(text));
        }
        let asked: BTreeSet<&str> = self.answers.values().flatten().map(|answer| answer.id.as_str()).collect();
        let mut labels: Vec<Answer> = examples
            .into_iter()
            .filter(|example| asked.is_empty() || asked.contains(example.id.as_str()))
            .map(label)
            .collect();
        labels.sort_by(|a, b| a.id.cmp(&b.id));
        self.answers.insert(TEACHER.to_string(), labels);
        Ok(())
    }

    /// Returns whom the answers are about, else whom the labels are about, else whom the rankings are for.
    fn find_customers(&self) -> BTreeSet<String> {
        let of = |answers: &mut dyn Iterator<Item = &Answer>| answers.map(|a| a.group.clone()).collect::<BTreeSet<_>>();
        let systems = of(&mut self.answers.iter().filter(|(system, _)| *system != TEACHER).flat_map(|(_, list)| list));
        if !systems.is_empty() {
            return systems;
        }
        let labelled = of(&mut self.answers.values().flatten());
        if !labelled.is_empty() { labelled } else { self.rankings.values().flat_map(|r| r.keys().cloned()).collect() }
    }

    fn refuse_two_lists(&self) -> Result<(), StageError> {
        let both = self.rankings.keys().find(|system| self.answers.contains_key(*system));
        match both {
            Some(system) => Err(StageError::failed(format!(
                "system `{system}` has both answers and a ranking, so `{system}.hit@k` would mean two things: give one of them \
                 another label"
            ))),
            None => Ok(()),
        }
    }

    /// Returns the customers that count and have a target, with their targets.
    pub fn judged_customers(&self) -> impl Iterator<Item = (&str, &BTreeSet<String>)> {
        self.customers.iter().filter_map(|customer| Some((customer.as_str(), self.truth.get(customer)?)))
    }

    /// Returns the items that the customers' prompts show as bought.
    pub fn histories(&self) -> BTreeMap<&str, BTreeSet<&str>> {
        let mut histories: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
        for prompt in self.prompts.values() {
            let history = prompt.history.iter().map(String::as_str);
            histories.entry(customer_of(prompt)).or_default().extend(history);
        }
        histories
    }
}

/// Returns whom a prompt is about; a row without `group` is its own.
pub fn customer_of(prompt: &Example) -> &str {
    if prompt.group.is_empty() { &prompt.id } else { &prompt.group }
}

fn demand_something(job: &Job) -> Result<(), StageError> {
    let given = |port: &str| !job.inputs(port).is_empty();
    if given("answers") && !given("prompts") && !given("teacher") {
        let text = "`answers` needs `prompts` or `teacher`, which tell what the answers answer: give the prompts that \
                    `generate` read";
        return Err(StageError::failed(text));
    }
    if !["answers", "teacher", "ranking", "predictions", "curves"].into_iter().any(given) {
        let text = "nothing to evaluate: give at least one of `answers`, `teacher`, `ranking`, `predictions`, `curves`";
        return Err(StageError::failed(text));
    }
    Ok(())
}

fn read_prompts(job: &Job) -> Result<BTreeMap<String, Example>, StageError> {
    let Some(path) = job.optional_input("prompts").or(job.optional_input("teacher")) else {
        return Ok(BTreeMap::new());
    };
    Ok(formats::prompts(path)?.into_iter().map(|prompt| (prompt.id.clone(), prompt)).collect())
}

fn read_answers(path: &Path, system: &str, prompts: &BTreeMap<String, Example>) -> Result<Vec<Answer>, StageError> {
    let mut answers: Vec<Answer> = lines::read(path)?;
    answers.sort_by(|a, b| (&a.id, a.sample).cmp(&(&b.id, b.sample)));
    if let Some(twice) = answers.windows(2).find(|pair| (&pair[0].id, pair[0].sample) == (&pair[1].id, pair[1].sample))
    {
        let Answer { id, sample, .. } = &twice[0];
        return Err(StageError::failed(format!("answers of `{system}` hold sample {sample} of `{id}` twice")));
    }
    for answer in &mut answers {
        let Some(prompt) = prompts.get(&answer.id) else {
            return Err(StageError::failed(format!(
                "answers of `{system}` hold the id `{}`, which no prompt has: give the prompts that they answer",
                answer.id
            )));
        };
        answer.group = customer_of(prompt).to_string();
    }
    Ok(answers)
}

fn read_ranking(system: &str, path: &Path) -> Result<BTreeMap<String, Vec<String>>, StageError> {
    let rows: Vec<Ranked> = lines::read(path)?;
    let mut lists = BTreeMap::new();
    for row in rows {
        let scored = row.scores.len() == row.items.len();
        let items = if scored { ranking::order(row.items.into_iter().zip(row.scores).collect()) } else { row.items };
        if lists.insert(row.group.clone(), items).is_some() {
            let group = row.group;
            return Err(StageError::failed(format!(
                "ranking `{system}` holds two lists for `{group}`, and metrics are of one list a customer: rank one prompt for each"
            )));
        }
    }
    Ok(lists)
}

fn label(example: Example) -> Answer {
    let said = |turns: Vec<crate::record::example::Message>| {
        turns.into_iter().rfind(|turn| turn.role == "assistant").map(|turn| turn.content)
    };
    let group = customer_of(&example).to_string();
    let finish_reason = example.meta.get("finish_reason").and_then(|v| v.as_str()).unwrap_or("").to_string();
    let text = example.messages.and_then(said).or(example.output).unwrap_or_default();
    Answer { id: example.id, group, text, finish_reason, ..Answer::default() }
}
