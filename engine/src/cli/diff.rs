//! `diff`: in what two runs differ, or two cases of runs.

use std::fmt::Display;

use clap::Args;
use serde_json::{Value, json};

use super::pick::{self, Picked};
use super::{Common, Format, out};
use crate::comparison::{Change, Comparison, Output, Pair};
use crate::{metrics, reason};

/// Options of `diff`.
#[derive(Args)]
pub struct Options {
    /// First run: an id, a prefix, `last` or `last~1`; with `@CASE` one case of its sweep.
    #[arg(value_name = "RUN")]
    old: String,
    /// Second run, named likewise.
    #[arg(value_name = "RUN")]
    new: String,
    /// Ends with exit code 1 when the runs differ.
    #[arg(long)]
    exit_code: bool,
}

/// Exit code of runs that differ, where it is asked for.
const DIFFERENT: i32 = 1;

/// Exit code of runs that cannot be compared.
const UNFIT: i32 = 2;

/// Decimals of a number, and those that tell any two numbers of 64 bits above [`SMALL`] apart.
const LEAST_DIGITS: usize = 4;
const MOST_DIGITS: usize = 21;

/// Half of the last of [`LEAST_DIGITS`].
const SMALL: f64 = 0.5e-4;

pub fn diff(options: &Options, common: &Common) -> i32 {
    let picked = pick::run(&options.old, common).and_then(|old| Ok((old, pick::run(&options.new, common)?)));
    let (old, new) = match picked {
        Ok(picked) => picked,
        Err(code) => return code,
    };
    if let Some(error) = unlike(&old, &new).or_else(|| unlike(&new, &old)) {
        out::complain(format!("error: {error}"));
        return UNFIT;
    }
    let comparison = Comparison::of(&old.store, &old.run, &new.run);
    match common.format {
        Format::Json => out::json(&document(&comparison, &old, &new)),
        _ => out::say(text(&comparison, &old, &new)),
    }
    if options.exit_code && !comparison.is_equal() { DIFFERENT } else { 0 }
}

/// A sweep has no stage to compare with that of a plain run: one of its cases has.
fn unlike(sweep: &Picked, plain: &Picked) -> Option<String> {
    let first = sweep.run.cases.first().filter(|_| plain.run.cases.is_empty())?;
    let (id, other) = (&sweep.run.id, &plain.run.id);
    Some(format!("run {id} ran a sweep and run {other} none; name one of its cases, for example `{id}@{}`", first.name))
}

fn text(comparison: &Comparison, old: &Picked, new: &Picked) -> String {
    let (old, new) = (old.title(), new.title());
    if comparison.is_equal() {
        return format!("{old} and {new} are equal: {} stages", comparison.equal);
    }
    let pairs = &comparison.pairs;
    let leaves = |what: &[&str]| -> Vec<Line> {
        pairs
            .iter()
            .flat_map(|p| p.leaves.iter().filter(|l| what.contains(&l.what.as_str())).map(|l| leaf(p, l)))
            .collect()
    };
    let every = |of: fn(&Pair) -> Vec<Line>| pairs.iter().flat_map(of).collect::<Vec<_>>();
    let sections = [
        section("parameters", leaves(&["param"])),
        section("kinds, environment, tools", leaves(&["kind_version", "env", "tool"])),
        section("inputs", leaves(&["input"])),
        section("outcomes", every(outcomes)),
        section("rows and other counts", every(counts)),
        section("metrics", every(numbers)),
        section("outputs", every(outputs)),
        section("numerics", every(numerics)),
        only(&old, &comparison.only_old),
        only(&new, &comparison.only_new),
        gone(pairs),
    ];
    let head = format!("{old} -> {new}");
    let differ = if pairs.len() == 1 { "stage differs" } else { "stages differ" };
    let summary = format!("\n{} {differ}, {} equal", pairs.len(), comparison.equal);
    [head].into_iter().chain(sections.into_iter().flatten()).chain([summary]).collect::<Vec<_>>().join("\n")
}

/// A name and what became of it.
type Line = (String, String);

/// Names `STAGE.thing`, and the cases where there are some.
fn named(pair: &Pair, path: &str) -> String {
    match pair.title().strip_prefix(&format!("{}@", pair.stage)) {
        Some(cases) => format!("{path} ({cases})"),
        None => path.to_string(),
    }
}

fn under(pair: &Pair, name: &str) -> String {
    named(pair, &format!("{}.{name}", pair.stage))
}

fn section(title: &str, lines: Vec<Line>) -> Option<String> {
    let width = lines.iter().map(|(name, _)| name.chars().count()).max()?;
    let line = |(name, text): &Line| format!("  {name:width$}  {text}");
    Some(format!("\n{title}\n{}", lines.iter().map(line).collect::<Vec<_>>().join("\n")))
}

fn only(run: &str, titles: &[String]) -> Option<String> {
    (!titles.is_empty()).then(|| format!("\nonly in {run}\n  {}", titles.join("\n  ")))
}

fn gone(pairs: &[Pair]) -> Option<String> {
    let titles: Vec<String> = pairs.iter().filter(|pair| pair.gone).map(Pair::title).collect();
    let words = "no longer in the store, so only parameters were compared";
    (!titles.is_empty()).then(|| format!("\n{words}\n  {}", titles.join("\n  ")))
}

/// A long answer of a tool differs in the line that its reason's text shows.
fn leaf(pair: &Pair, leaf: &crate::event::Reason) -> Line {
    match leaf.what.as_str() {
        "env" | "tool" | "kind_version" => (named(pair, &pair.stage), leaf.text.clone()),
        _ => (named(pair, &leaf.path), reason::change(&leaf.old, &leaf.new)),
    }
}

fn arrow(old: impl Display, new: impl Display) -> String {
    format!("{old} -> {new}")
}

fn outcomes(pair: &Pair) -> Vec<Line> {
    pair.outcome.iter().map(|(old, new)| (named(pair, &pair.stage), arrow(old, new))).collect()
}

fn counts(pair: &Pair) -> Vec<Line> {
    pair.counts.iter().map(|change| (under(pair, &change.name), number(change))).collect()
}

fn numbers(pair: &Pair) -> Vec<Line> {
    let line = |change: &Change<f64>| {
        let words = match pair.overlaps.get(&change.name) {
            Some(true) => "  intervals overlap",
            Some(false) => "  intervals do not overlap",
            None => "",
        };
        (under(pair, &change.name), format!("{}{words}", number(change)))
    };
    let mut lines: Vec<Line> = pair.numbers.iter().map(line).collect();
    if !lines.is_empty() && pair.equal_numbers > 0 {
        lines.push((named(pair, &pair.stage), format!("{} more equal", pair.equal_numbers)));
    }
    lines
}

/// Returns `0.4 -> 0.3  (-0.1, -25 %)`.
fn number(change: &Change<f64>) -> String {
    let digits = digits(change);
    let side = |value: Option<f64>| value.map_or("none".to_string(), |value| shown(value, digits));
    let by = difference(change).map(|by| {
        let sign = if by > 0.0 { "+" } else { "" };
        let percent = percent(change).map(|p| format!(", {p:+.1} %")).unwrap_or_default();
        format!("  ({sign}{}{percent})", shown(by, LEAST_DIGITS))
    });
    format!("{}{}", arrow(side(change.old), side(change.new)), by.unwrap_or_default())
}

/// Returns how many decimals tell the two numbers apart.
fn digits(change: &Change<f64>) -> usize {
    let (Some(old), Some(new)) = (change.old, change.new) else { return LEAST_DIGITS };
    let told = |value: f64, digits: usize| shown(value, digits).parse::<f64>().ok();
    (LEAST_DIGITS..MOST_DIGITS).find(|digits| told(old, *digits) != told(new, *digits)).unwrap_or(MOST_DIGITS)
}

/// Returns a number as other tables show it, but with so many decimals; one of which [`LEAST_DIGITS`] would leave only noughts in
/// powers of ten.
fn shown(value: f64, digits: usize) -> String {
    match value {
        whole if whole == whole.trunc() => metrics::shown(whole),
        small if small.abs() < SMALL => format!("{small:.digits$e}"),
        other => format!("{other:.digits$}"),
    }
}

fn difference(change: &Change<f64>) -> Option<f64> {
    Some(change.new? - change.old?)
}

fn percent(change: &Change<f64>) -> Option<f64> {
    let old = change.old.filter(|old| *old != 0.0)?;
    Some(difference(change)? / old.abs() * 100.0)
}

fn outputs(pair: &Pair) -> Vec<Line> {
    let size = |output: Option<Output>| output.map_or("none".to_string(), |output| out::bytes(output.bytes));
    let line = |change: &Change<Output>| {
        let words = match change.old == change.new {
            true => format!("equal    {}", size(change.old)),
            false => format!("differs  {}", arrow(size(change.old), size(change.new))),
        };
        (under(pair, &change.name), words)
    };
    pair.outputs.iter().map(line).collect()
}

fn numerics(pair: &Pair) -> Vec<Line> {
    let side = |value: &Option<Value>| value.as_ref().map_or("none".to_string(), reason::shown);
    let line = |change: &Change<Value>| (under(pair, &change.name), arrow(side(&change.old), side(&change.new)));
    pair.numerics.iter().map(line).collect()
}

fn document(comparison: &Comparison, old: &Picked, new: &Picked) -> Value {
    json!({
        "old": old.title(), "new": new.title(), "equal": comparison.is_equal(),
        "stages": comparison.pairs.iter().map(pair_document).collect::<Vec<_>>(), "equal_stages": comparison.equal,
        "only_old": comparison.only_old, "only_new": comparison.only_new,
    })
}

fn pair_document(pair: &Pair) -> Value {
    let only = if let [only] = pair.cases.as_slice() { Some(only) } else { None };
    let counts = pair.counts.iter().map(number_document);
    let metrics = pair.numbers.iter().map(|change| {
        let mut document = number_document(change);
        document["intervals_overlap"] = json!(pair.overlaps.get(&change.name));
        document
    });
    let outputs = pair.outputs.iter().map(|change| {
        let side = |output: Option<Output>| output.map(|o| json!({"digest": o.digest.hex(), "bytes": o.bytes}));
        json!({"port": change.name, "equal": change.old == change.new, "old": side(change.old), "new": side(change.new)})
    });
    let numerics = pair.numerics.iter().map(|c| json!({"name": c.name, "old": c.old, "new": c.new}));
    json!({
        "stage": pair.stage, "case": only, "cases": pair.cases, "differences": pair.leaves,
        "outcome": pair.outcome.as_ref().map(|(old, new)| json!({"old": old, "new": new})),
        "counts": counts.collect::<Vec<_>>(), "metrics": metrics.collect::<Vec<_>>(),
        "outputs": outputs.collect::<Vec<_>>(), "numerics": numerics.collect::<Vec<_>>(), "records_gone": pair.gone,
    })
}

fn number_document(change: &Change<f64>) -> Value {
    json!({
        "name": change.name, "old": change.old, "new": change.new, "difference": difference(change),
        "percent": percent(change),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(old: f64, new: f64) -> String {
        number(&Change { name: "loss".into(), old: Some(old), new: Some(new) })
    }

    #[test]
    fn numbers_that_differ_are_shown_as_ones_that_differ() {
        assert_eq!(told(0.4, 0.3), "0.4000 -> 0.3000  (-0.1000, -25.0 %)");
        assert_eq!(told(2.384e-7, 3.716e-7), "2.3840e-7 -> 3.7160e-7  (+1.3320e-7, +55.9 %)");
        assert_eq!(told(0.0, 2.384e-7), "0 -> 2.3840e-7  (+2.3840e-7)");
        assert_eq!(told(7.152911, 7.152912), "7.152911 -> 7.152912  (+1.0000e-6, +0.0 %)");
        assert_eq!(told(5.0, 5.000001), "5 -> 5.000001  (+1.0000e-6, +0.0 %)");
        assert_eq!(told(0.3, 0.1 + 0.2), "0.29999999999999999 -> 0.30000000000000004  (+5.5511e-17, +0.0 %)");
    }
}
