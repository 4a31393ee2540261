//! What a person wants to see behind the numbers: the worst parrots, invented products, answers side by side.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::{Value, json};
use watershed_engine::StageError;

use super::answers::Scored;
use super::evidence::{Evidence, customer_of};
use super::numbers::Numbers;

/// Examples of each sort.
const SHOWN: usize = 10;

/// Writes the report as JSON.
///
/// # Errors
/// When the file cannot be written.
pub fn write(
    path: &Path,
    evidence: &Evidence,
    scored: &BTreeMap<&str, Vec<Scored>>,
    numbers: &Numbers,
) -> Result<(), StageError> {
    let by_system = |of: &dyn Fn(&[Scored]) -> Value| -> Value {
        scored.iter().map(|(system, scores)| (system.to_string(), of(scores))).collect::<serde_json::Map<_, _>>().into()
    };
    let report = json!({
        "customers": evidence.customers.len(),
        "customers_with_target": evidence.judged_customers().count(),
        "smallest_detectable_hit_difference": detectable(evidence, scored, numbers),
        "worst_parrots": by_system(&worst_parrots),
        "invented": by_system(&invented),
        "side_by_side": side_by_side(evidence, scored),
    });
    let mut text = serde_json::to_string_pretty(&report).map_err(|e| StageError::failed(e.to_string()))?;
    text.push('\n');
    std::fs::write(path, text).map_err(|e| StageError::io("write", path, &e))
}

/// Returns, by system, the difference of hit@10 that two independent groups of this size would show four times in five
/// (two-sided 5 %): below it, a comparison of so few customers cannot decide.
fn detectable(evidence: &Evidence, scored: &BTreeMap<&str, Vec<Scored>>, numbers: &Numbers) -> Value {
    let n = evidence.judged_customers().count() as f64;
    let systems = scored.keys().copied().chain(evidence.rankings.keys().map(String::as_str));
    let found = systems.filter_map(|system| {
        let p = numbers.get(system, "hit@10")?;
        Some((system.to_string(), json!((1.96 + 0.84) * (2.0 * p * (1.0 - p) / n).sqrt())))
    });
    found.collect::<serde_json::Map<_, _>>().into()
}

fn worst_parrots(scored: &[Scored]) -> Value {
    let mut flagged: Vec<&Scored> = scored.iter().filter(|s| s.parrot).collect();
    let worst = |s: &Scored| s.parroting.copy_4.unwrap_or(0.0).max(s.parroting.rep_4.unwrap_or(0.0));
    flagged.sort_by(|a, b| worst(b).total_cmp(&worst(a)).then_with(|| a.answer.id.cmp(&b.answer.id)));
    let shown = flagged.into_iter().take(SHOWN).map(|s| {
        json!({"id": s.answer.id, "customer": s.answer.group, "sample": s.answer.sample, "input": s.prompt.material(),
            "text": s.answer.text, "parroting": s.parroting})
    });
    shown.collect()
}

/// Lists the spans without a known title, the most frequent first.
fn invented(scored: &[Scored]) -> Value {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for span in scored.iter().filter_map(|s| s.spans.as_ref()).flatten().filter(|span| span.titles.is_empty()) {
        *counts.entry(&span.text).or_default() += 1;
    }
    let mut counts: Vec<(&str, usize)> = counts.into_iter().collect();
    counts.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    counts.into_iter().take(5 * SHOWN).map(|(text, count)| json!({"text": text, "count": count})).collect()
}

fn side_by_side(evidence: &Evidence, scored: &BTreeMap<&str, Vec<Scored>>) -> Value {
    let mut ids: BTreeMap<&str, BTreeMap<&str, &Scored>> = BTreeMap::new();
    for (system, scores) in scored {
        for s in scores.iter().filter(|s| s.answer.sample == 0) {
            ids.entry(s.answer.id.as_str()).or_default().insert(system, s);
        }
    }
    let shown = ids.into_iter().take(SHOWN).filter_map(|(id, answers)| {
        let prompt = evidence.prompts.get(id)?;
        let answers: serde_json::Map<String, Value> = answers
            .into_iter()
            .map(|(system, s)| (system.to_string(), json!({"text": s.answer.text, "parrot": s.parrot})))
            .collect();
        Some(json!({"id": id, "customer": customer_of(prompt), "instruction": prompt.instruction,
            "input": prompt.material(), "target": evidence.truth.get(customer_of(prompt)), "answers": answers}))
    });
    shown.collect()
}
