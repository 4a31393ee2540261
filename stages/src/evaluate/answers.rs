//! Metrics of a system's texts: parroting, diversity, and the products they name.

use std::collections::{BTreeMap, HashSet};

use rayon::prelude::*;

use super::Evaluate;
use super::customer::Customers;
use super::evidence::{Evidence, TEACHER};
use super::numbers::{Numbers, flag, mean, p90};
use crate::metrics::diversity::{distinct, unique_fraction};
use crate::metrics::grounding::{Catalogue, Span};
use crate::metrics::interval::{bootstrap, wilson};
use crate::metrics::normalise::{norm, tokens};
use crate::metrics::parroting::{Parroting, Thresholds, longest_shared_run, parroting};
use crate::record::answer::Answer;
use crate::record::example::Example;

/// Pieces of prompt templates that no answer should hold.
const TEMPLATE_MARKS: [&str; 6] =
    ["### Instruction", "### Input", "### Response", "Below is an instruction", "<|im_start|>", "<|im_end|>"];

/// Words of the instruction in a row that make an answer an echo of it.
const INSTRUCTION_ECHO_WORDS: usize = 8;

/// One answer with what was measured about it.
#[derive(Debug)]
pub struct Scored<'a> {
    /// The answer.
    pub answer: &'a Answer,
    /// Its prompt.
    pub prompt: &'a Example,
    /// How it repeats the prompt's input.
    pub parroting: Parroting,
    /// Whether that counts as parroting.
    pub parrot: bool,
    /// The places that name products; `None` without a catalogue.
    pub spans: Option<Vec<Span>>,
    /// The products it names, in order of place.
    pub mentions: Vec<Mention>,
}

/// One product that an answer names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mention {
    /// Number of its title.
    pub title: usize,
    /// The prompt shows it as bought.
    pub bought: bool,
    /// The answer named it before.
    pub repeated: bool,
    /// Whether the prompt offers it; `None` without candidates.
    pub offered: Option<bool>,
}

/// Scores a system's answers, in their order.
pub fn score<'a>(answers: &'a [Answer], evidence: &'a Evidence, thresholds: &Thresholds) -> Vec<Scored<'a>> {
    answers
        .par_iter()
        .filter_map(|answer| {
            let prompt = evidence.prompts.get(&answer.id)?;
            let parroting = parroting(prompt.material(), &answer.text);
            let parrot = parroting.is_parrot(thresholds);
            let mut scored = Scored { answer, prompt, parroting, parrot, spans: None, mentions: Vec::new() };
            if let Some(catalogue) = &evidence.catalogue {
                let spans = catalogue.ground(&answer.text);
                scored.mentions = mentions(answer, &spans, prompt, catalogue);
                scored.spans = Some(spans);
            }
            Some(scored)
        })
        .collect()
}

/// Returns the products that an answer names.
///
/// An answer whose marked places hold nothing known is read as a whole: a copied input quotes the customer's name and lists
/// the bought products without any mark, and that it names only these is what must be seen.
fn mentions(answer: &Answer, spans: &[Span], prompt: &Example, catalogue: &Catalogue) -> Vec<Mention> {
    let mut titles: Vec<usize> = spans.iter().flat_map(|span| span.titles.iter().copied()).collect();
    if titles.is_empty() {
        titles = catalogue.find(&norm(&answer.text));
    }
    let mut seen = HashSet::new();
    let bears = |items: &[String], title: usize| items.iter().any(|item| catalogue.title_of(item) == Some(title));
    let mention = |title| Mention {
        title,
        bought: bears(&prompt.history, title),
        repeated: !seen.insert(title),
        offered: prompt.candidates.as_ref().map(|offered| bears(offered, title)),
    };
    titles.into_iter().map(mention).collect()
}

/// Sets all text metrics of a system.
pub fn measure(system: &str, scored: &[Scored], how: &Evaluate, numbers: &mut Numbers, customers: &mut Customers) {
    fill_rows(system, scored, customers);
    measure_copying(system, scored, numbers);
    measure_form(system, scored, numbers);
    if scored.iter().any(|s| s.spans.is_some()) {
        measure_products(system, scored, numbers);
    }
    let drawn = ["copy_4", "rep_4"];
    for (metric, bounds) in drawn.iter().zip(bootstrap(&customers.columns(system, &drawn), &how.bootstrap)) {
        numbers.put_bounds(system, metric, bounds);
    }
}

fn fill_rows(system: &str, scored: &[Scored], customers: &mut Customers) {
    for (customer, own) in by_customer(scored) {
        let row = &mut customers.row(system, customer).values;
        row.insert("answers".into(), own.len() as f64);
        let mut set = |name: &str, value: Option<f64>| value.map(|value| row.insert(name.into(), value));
        set("parrot", mean(own.iter().map(|s| flag(s.parrot))));
        set("copy_4", mean(own.iter().map(|s| s.parroting.copy_4)));
        set("rep_4", mean(own.iter().map(|s| s.parroting.rep_4)));
        set("longest_copied_span", mean(own.iter().map(|s| Some(s.parroting.longest_copied_span as f64))));
    }
}

/// Gathers the answers of each customer, in their order.
pub fn by_customer<'s, 'a>(scored: &'s [Scored<'a>]) -> BTreeMap<&'a str, Vec<&'s Scored<'a>>> {
    let mut own: BTreeMap<&str, Vec<&Scored>> = BTreeMap::new();
    for s in scored {
        own.entry(s.answer.group.as_str()).or_default().push(s);
    }
    own
}

/// A number of one answer, where it is defined.
type Column = fn(&Parroting) -> Option<f64>;

fn measure_copying(system: &str, scored: &[Scored], numbers: &mut Numbers) {
    let parrots = scored.iter().filter(|s| s.parrot).count();
    numbers.put(system, "parrot_rate", mean(scored.iter().map(|s| flag(s.parrot))));
    numbers.put_bounds(system, "parrot_rate", wilson(parrots as f64, scored.len()));
    let columns: [(&str, Column); 11] = [
        ("copy_1", |p| p.copy_1),
        ("copy_2", |p| p.copy_2),
        ("copy_4", |p| p.copy_4),
        ("copy_8", |p| p.copy_8),
        ("longest_copied_span", |p| Some(p.longest_copied_span as f64)),
        ("longest_copied_span_ratio", |p| p.longest_copied_span_ratio),
        ("lcs_precision", |p| p.lcs_precision),
        ("coverage", |p| p.coverage),
        ("density", |p| p.density),
        ("novel_1", |p| p.novel_1),
        ("rep_4", |p| p.rep_4),
    ];
    for (name, value) in columns {
        numbers.put(system, name, mean(scored.iter().map(|s| value(&s.parroting))));
    }
    for (name, value) in [columns[2], columns[4], columns[10]] {
        numbers.put(system, &format!("{name}_p90"), p90(scored.iter().map(|s| value(&s.parroting))));
    }
    numbers.put(system, "echo_start_rate", mean(scored.iter().map(|s| flag(s.parroting.echo_start))));
}

fn measure_form(system: &str, scored: &[Scored], numbers: &mut Numbers) {
    let texts: Vec<&str> = scored.iter().map(|s| s.answer.text.as_str()).collect();
    let template = |text: &str| TEMPLATE_MARKS.iter().any(|mark| text.contains(mark));
    numbers.put(system, "answers", scored.len() as f64);
    numbers.put(system, "words", mean(scored.iter().map(|s| Some(s.parroting.words as f64))));
    numbers.put(system, "words_p90", p90(scored.iter().map(|s| Some(s.parroting.words as f64))));
    numbers.put(system, "template_echo_rate", mean(texts.iter().map(|text| flag(template(text)))));
    let echoes: Vec<bool> = scored.par_iter().map(echoes_instruction).collect();
    numbers.put(system, "instruction_echo_rate", mean(echoes.into_iter().map(flag)));
    let ended = |s: &Scored| Some(&s.answer.finish_reason).filter(|r| !r.is_empty()).map(|r| f64::from(r != "length"));
    numbers.put(system, "eos_rate", mean(scored.iter().map(ended)));
    let words: Vec<Vec<String>> = texts.par_iter().map(|text| tokens(text)).collect();
    for n in 1..=3 {
        numbers.put(system, &format!("distinct_{n}"), distinct(&words, n));
    }
    numbers.put(system, "unique_fraction", unique_fraction(&texts));
}

fn echoes_instruction(scored: &Scored) -> bool {
    longest_shared_run(&scored.prompt.instruction, &scored.answer.text) >= INSTRUCTION_ECHO_WORDS
}

fn measure_products(system: &str, scored: &[Scored], numbers: &mut Numbers) {
    let spans = || scored.iter().filter_map(|s| s.spans.as_ref()).flatten();
    numbers.put(system, "grounding_rate", mean(spans().map(|span| flag(!span.titles.is_empty()))));
    let invented = by_customer(scored).into_values().map(|own| {
        let known = own.iter().filter_map(|s| s.spans.as_ref()).flatten().map(|span| flag(span.titles.is_empty()));
        mean(known)
    });
    let invented: Vec<Option<f64>> = invented.collect();
    numbers.put(system, "hallucination_rate", mean(invented.iter().copied()));
    numbers.put(system, "no_recommendation_rate", mean(invented.iter().map(|share| flag(share.is_none()))));
    let mentions = || scored.iter().flat_map(|s| &s.mentions);
    numbers.put(system, "in_history_rate", mean(mentions().map(|m| flag(m.bought))));
    numbers.put(system, "duplicate_rate", mean(mentions().map(|m| flag(m.repeated))));
    numbers.put(system, "not_in_candidates_rate", mean(mentions().map(|m| m.offered.map(|o| f64::from(!o)))));
    let owned = scored.iter().filter(|s| !s.mentions.is_empty()).map(|s| flag(s.mentions.iter().all(|m| m.bought)));
    numbers.put(system, "owned_only_rate", mean(owned));
    let titles: Vec<usize> = mentions().map(|m| m.title).collect();
    numbers.put(system, "item_entropy", entropy(titles));
}

/// Returns the entropy of the named products, in bits.
fn entropy(mut titles: Vec<usize>) -> Option<f64> {
    titles.sort_unstable();
    let all = titles.len() as f64;
    let share = |group: &[usize]| group.len() as f64 / all;
    // `0.0 -` instead of a sign, so that a single product has entropy 0 and not -0.
    (!titles.is_empty()).then(|| 0.0 - titles.chunk_by(|a, b| a == b).map(|g| share(g) * share(g).log2()).sum::<f64>())
}

/// Sets `excess_copy` of each system: how much more of the input it copies than the teacher does for the same customers.
pub fn compare_with_teacher(
    scored: &BTreeMap<&str, Vec<Scored>>,
    how: &Evaluate,
    numbers: &mut Numbers,
    customers: &mut Customers,
) {
    if !scored.contains_key(TEACHER) {
        return;
    }
    for system in scored.keys().filter(|system| **system != TEACHER) {
        let pairs = customers.pairs(system, TEACHER, "copy_4");
        let excess: Vec<Vec<f64>> = pairs.iter().map(|(own, teacher)| vec![own - teacher]).collect();
        numbers.put(system, "excess_copy", mean(excess.iter().map(|row| Some(row[0]))));
        numbers.put_bounds(system, "excess_copy", bootstrap(&excess, &how.bootstrap).into_iter().next().flatten());
    }
}
