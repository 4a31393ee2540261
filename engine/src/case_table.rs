//! The cases of a sweep side by side: what they vary, what came out, and how far they are.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet, HashMap};

use serde_json::Value;

use crate::archive::{Run, RunNode};
use crate::findings::Findings;
use crate::metrics::is_interval;
use crate::names;
use crate::settings::Settings;

/// Rows and the columns worth showing.
#[derive(Debug, Default)]
pub struct CaseTable {
    /// Paths in which the cases differ.
    pub params: Vec<String>,
    /// Numbers of stages that not all cases share, as `STAGE.NAME`; no ends of intervals.
    pub numbers: Vec<String>,
    /// Numerics in which the cases differ, as `STAGE.NAME`.
    pub numerics: Vec<String>,
    /// One a case, or one a group of cases.
    pub rows: Vec<Row>,
}

/// One case, or the cases that a mean was taken over.
#[derive(Debug, Clone, Default)]
pub struct Row {
    /// Names of the cases.
    pub cases: Vec<String>,
    /// What they set.
    pub set: Settings,
    /// What came out.
    pub numbers: BTreeMap<String, Number>,
    /// Where it was computed.
    pub numerics: Settings,
    /// How far they are.
    pub state: State,
}

/// A number of a case, or the mean over several.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Number {
    /// The number, or the mean.
    pub mean: f64,
    /// Sample standard deviation; `None` for one number.
    pub deviation: Option<f64>,
    /// How many numbers there were.
    pub n: usize,
}

/// How far a case is.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct State {
    /// The word of its stage that matters most: one that failed or runs before one that ran, that before a hit.
    pub word: String,
    /// That stage.
    pub stage: String,
    /// Its progress, while it runs.
    pub progress: Option<String>,
    /// Wall time of all that ran for the case, stages that it shares included.
    pub wall_ms: u64,
}

/// Outcomes of nodes, the most telling last.
const RANKED: [&str; 9] = ["", "hit", "ran", "skipped", "waiting", "unfinished", "running", "failed", "diverged"];

impl CaseTable {
    /// Arranges a run's cases; `findings` are those of its nodes.
    pub fn of(run: &Run, findings: &[Option<Findings>]) -> CaseTable {
        let row = |case: &crate::archive::RunCase| Row {
            cases: vec![case.name.clone()],
            set: case.set.clone(),
            ..Row::default()
        };
        let mut rows: Vec<Row> = run.cases.iter().map(row).collect();
        let places: HashMap<&str, usize> = run.cases.iter().enumerate().map(|(i, c)| (c.name.as_str(), i)).collect();
        for (node, findings) in run.nodes.iter().zip(findings).filter(|(node, _)| node.outcome != "unneeded") {
            let findings = findings.as_ref().filter(|_| !is_shared(run, node));
            for place in node.cases.iter().filter_map(|case| places.get(case.as_str())) {
                rows[*place].take(node, findings);
            }
        }
        let params = differing(&rows, |row| &row.set);
        let numerics = differing(&rows, |row| &row.numerics);
        let all: BTreeSet<&String> = rows.iter().flat_map(|row| row.numbers.keys()).collect();
        let numbers = all.into_iter().filter(|name| !is_interval(name)).cloned().collect();
        CaseTable { params, numbers, numerics, rows }
    }

    /// Returns one row for the cases that differ in nothing but these paths, with means over them.
    ///
    /// # Errors
    /// When a path is none in which the cases differ.
    pub fn mean_over(self, wanted: &[String]) -> Result<CaseTable, String> {
        let over: Vec<String> =
            wanted.iter().map(|path| names::find(&self.params, path).cloned()).collect::<Result<_, _>>()?;
        let params: Vec<String> = self.params.into_iter().filter(|path| !over.contains(path)).collect();
        let mut groups: Vec<Vec<Row>> = Vec::new();
        let mut places: HashMap<String, usize> = HashMap::new();
        for row in self.rows {
            let kept: Vec<Option<&Value>> = params.iter().map(|path| row.set.get(path)).collect();
            let key = serde_json::to_string(&kept).unwrap_or_default();
            let place = *places.entry(key).or_insert(groups.len());
            groups.resize_with(groups.len().max(place + 1), Vec::new);
            groups[place].push(row);
        }
        let rows = groups.into_iter().map(|rows| mean(&rows, &over)).collect();
        Ok(CaseTable { params, numbers: self.numbers, numerics: Vec::new(), rows })
    }

    /// Orders the rows by a parameter or a number; rows without it come last either way.
    ///
    /// # Errors
    /// When there is no such column.
    pub fn sort(&mut self, column: &str, descending: bool) -> Result<(), String> {
        let columns: Vec<String> = self.params.iter().chain(&self.numbers).cloned().collect();
        let column = names::find(&columns, column)?;
        self.rows.sort_by(|a, b| by(a.value(column), b.value(column), descending));
        Ok(())
    }
}

impl Row {
    fn take(&mut self, node: &RunNode, findings: Option<&Findings>) {
        self.state.take(node);
        let Some(findings) = findings else { return };
        let named = |name: &String| format!("{}.{name}", node.stage);
        let one = |number: &f64| Number { mean: *number, deviation: None, n: 1 };
        self.numbers.extend(findings.numbers.iter().map(|(name, number)| (named(name), one(number))));
        self.numerics.extend(findings.provenance.numerics.iter().map(|(name, value)| (named(name), value.clone())));
    }

    fn value(&self, column: &str) -> Option<Value> {
        let number = self.numbers.get(column).map(|number| Value::from(number.mean));
        number.or_else(|| self.set.get(column).cloned()).filter(|value| !value.is_null())
    }
}

impl State {
    fn take(&mut self, node: &RunNode) {
        let rank = |word: &str| RANKED.iter().position(|known| *known == word);
        if rank(node.word()) > rank(&self.word) {
            self.word = node.word().to_string();
            self.stage.clone_from(&node.stage);
            self.progress.clone_from(&node.progress);
        }
        self.wall_ms += if node.outcome == "ran" { node.wall_ms } else { 0 };
    }

    fn join(mut self, other: &State) -> State {
        let wall_ms = self.wall_ms + other.wall_ms;
        let rank = |state: &State| RANKED.iter().position(|known| *known == state.word);
        if rank(other) > rank(&self) {
            self = other.clone();
        }
        State { wall_ms, ..self }
    }
}

/// Says whether a node is of no case alone: its numbers would be the same in every row.
pub fn is_shared(run: &Run, node: &RunNode) -> bool {
    node.cases.is_empty() || (run.cases.len() > 1 && node.cases.len() == run.cases.len())
}

fn differing(rows: &[Row], of: fn(&Row) -> &Settings) -> Vec<String> {
    let paths: BTreeSet<&String> = rows.iter().flat_map(|row| of(row).keys()).collect();
    let differs = |path: &&String| rows.windows(2).any(|pair| of(&pair[0]).get(*path) != of(&pair[1]).get(*path));
    paths.into_iter().filter(differs).cloned().collect()
}

fn mean(rows: &[Row], over: &[String]) -> Row {
    let mut row = rows.first().cloned().unwrap_or_default();
    row.cases = rows.iter().flat_map(|row| row.cases.clone()).collect();
    row.set.retain(|path, _| !over.contains(path));
    row.numerics.clear();
    row.state = rows.iter().skip(1).fold(row.state, |state, row| state.join(&row.state));
    let names: BTreeSet<&String> = rows.iter().flat_map(|row| row.numbers.keys()).collect();
    let values =
        |name: &String| rows.iter().filter_map(|row| row.numbers.get(name)).map(|n| n.mean).collect::<Vec<_>>();
    // The ends of single intervals say nothing about a mean.
    let kept = names.into_iter().filter(|name| !is_interval(name));
    row.numbers = kept.map(|name| (name.clone(), Number::of(&values(name)))).collect();
    row
}

impl Number {
    /// Returns the mean of numbers, with their sample standard deviation.
    fn of(values: &[f64]) -> Number {
        let n = values.len();
        let mean = values.iter().sum::<f64>() / n.max(1) as f64;
        let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
        Number { mean, deviation: (n > 1).then(|| (squares / (n - 1) as f64).sqrt()), n }
    }
}

fn by(a: Option<Value>, b: Option<Value>, descending: bool) -> Ordering {
    let (Some(a), Some(b)) = (&a, &b) else { return b.is_some().cmp(&a.is_some()) };
    let order = match (a.as_f64(), b.as_f64()) {
        (Some(a), Some(b)) => a.total_cmp(&b),
        (a_number, b_number) => {
            b_number.is_some().cmp(&a_number.is_some()).then_with(|| a.to_string().cmp(&b.to_string()))
        }
    };
    if descending { order.reverse() } else { order }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn row(case: &str, lr: f64, seed: u64, loss: Option<f64>) -> Row {
        let numbers = loss.map(|loss| ("a.loss".to_string(), Number::of(&[loss])));
        Row {
            cases: vec![case.into()],
            set: [("a.lr".to_string(), json!(lr)), ("a.seed".to_string(), json!(seed))].into(),
            numbers: numbers.into_iter().collect(),
            ..Row::default()
        }
    }

    fn four() -> CaseTable {
        let rows = vec![
            row("1", 0.1, 1, Some(3.0)),
            row("2", 0.2, 1, Some(1.0)),
            row("3", 0.1, 2, Some(5.0)),
            row("4", 0.2, 2, None),
        ];
        CaseTable {
            params: vec!["a.lr".into(), "a.seed".into()],
            numbers: vec!["a.loss".into()],
            rows,
            ..CaseTable::default()
        }
    }

    fn order(cases: &CaseTable) -> String {
        cases.rows.iter().map(|row| row.cases.join("+")).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn a_case_without_the_number_is_last_in_either_order() {
        let mut cases = four();
        cases.sort("loss", false).unwrap();
        assert_eq!(order(&cases), "2 1 3 4");
        cases.sort("loss", true).unwrap();
        assert_eq!(order(&cases), "3 1 2 4");
    }

    #[test]
    fn means_are_over_the_cases_that_differ_only_there_and_tell_how_many_had_the_number() {
        let cases = four().mean_over(&["seed".into()]).unwrap();
        assert_eq!((order(&cases).as_str(), cases.params), ("1+3 2+4", vec!["a.lr".to_string()]));
        let number = |row: usize| cases.rows[row].numbers["a.loss"];
        assert_eq!(number(0), Number { mean: 4.0, deviation: Some(2.0_f64.sqrt()), n: 2 });
        assert_eq!(number(1), Number { mean: 1.0, deviation: None, n: 1 });
    }
}
