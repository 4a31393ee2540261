//! `random:` of a sweep: seeded draws from typed distributions.
//!
//! A value is a function of seed, path and number of the draw alone, so more draws keep the former ones and another axis moves
//! no value. Numbers are rounded to four digits: the last digits of a logarithm differ between machines, and a rate of
//! `0.0003127` says all that a search can use.

use serde_json::Number;
use watershed_cache::Digest;

use crate::code;
use crate::diagnostic::{Diagnostic, Diagnostics};
use crate::language::nearest::{did_you_mean, listed};
use crate::language::overrides::Override;
use crate::language::pipeline::expect_map;
use crate::node::{Data, Key, Node, Span};

use super::grid;

/// Names of the distributions, in the order of the documentation.
pub const DISTRIBUTIONS: [&str; 6] = ["choice", "int", "log_int", "uniform", "log_uniform", "normal"];

/// Largest whole number that a draw gives: the largest that every reader of JSON keeps.
const MAX_INT: f64 = 9_007_199_254_740_992.0;

/// `random:`, read.
#[derive(Clone, Default)]
pub struct Random {
    /// Number of draws, where it is said.
    pub n: Option<usize>,
    seed: Option<u64>,
    axes: Vec<Axis>,
}

#[derive(Clone)]
struct Axis {
    key: Key,
    span: Span,
    paths: Vec<String>,
    from: Distribution,
}

#[derive(Clone)]
enum Distribution {
    /// One of these points, each with one value a path.
    Choice(Vec<Vec<Node>>),
    /// A number between two ends.
    Between { low: f64, high: f64, whole: bool, log: bool },
    /// A number around a mean.
    Normal { mean: f64, deviation: f64 },
}

impl Random {
    /// Reads `random:`, which stands at `place`.
    pub fn read(place: &Key, node: &Node, faults: &mut Diagnostics) -> Random {
        let mut random = Random::default();
        for (key, value) in expect_map(node, "`random`", faults).unwrap_or_default() {
            match key.text.as_str() {
                "n" => random.n = count(value, "n", 1, faults).map(|n| n as usize),
                "seed" => random.seed = count(value, "seed", 0, faults),
                _ => random.axes.extend(axis(key, value, faults)),
            }
        }
        let says_n = node.get("n").is_some();
        if !says_n && node.get("seed").is_none() && random.axes.is_empty() && faults.is_empty() {
            faults.push(wrong(place.span, "`random` draws nothing".into(), HELP));
        }
        random
    }

    /// Puts what `newer` says over what this one, which it extends, says.
    pub fn replace_by(&mut self, newer: Random) {
        self.n = newer.n.or(self.n);
        self.seed = newer.seed.or(self.seed);
        super::replace_all(&mut self.axes, newer.axes, |axis| axis.key.text.clone());
    }

    /// Says what is missing once all `extends` are in.
    pub fn check(&self, place: &Key, faults: &mut Diagnostics) {
        if self.axes.is_empty() != self.n.is_none() {
            let missing = if self.n.is_none() { "`n`, the number of draws" } else { "a path to draw for" };
            faults.push(wrong(place.span, format!("`random` of sweep `{}` lacks {missing}", place.text), HELP));
        }
    }

    /// Returns the overrides of one draw, counted from 0.
    pub fn draw(&self, number: usize) -> Vec<Override> {
        let seed = self.seed.unwrap_or(0);
        self.axes.iter().flat_map(|axis| axis.draw(seed, number)).collect()
    }
}

const HELP: &str = "for example `random: {n: 20, seed: 1, tuned.lr: {log_uniform: [1.0e-5, 1.0e-3]}}`";

impl Axis {
    fn draw(&self, seed: u64, number: usize) -> Vec<Override> {
        let units = units(seed, &self.key.text, number);
        let made = |path: &String, value: Node| Override { path: path.clone(), span: self.key.span, value };
        match &self.from {
            Distribution::Choice(points) => {
                let point = &points[index(units[0], points.len())];
                self.paths.iter().zip(point).map(|(path, value)| made(path, value.clone())).collect()
            }
            numeric => {
                let value = Node::new(Data::Number(numeric.number(units)), self.span);
                self.paths.iter().map(|path| made(path, value.clone())).collect()
            }
        }
    }
}

impl Distribution {
    fn number(&self, [u, v]: [f64; 2]) -> Number {
        let float = |x: f64| Number::from_f64(rounded(x).clamp(f64::MIN, f64::MAX)).unwrap_or_else(|| 0.into());
        match *self {
            Distribution::Between { low, high, whole: true, log: false } => {
                Number::from((low + (u * (high - low + 1.0)).floor()).min(high) as i64)
            }
            Distribution::Between { low, high, whole: true, log: true } => {
                let x = between((low - 0.5).ln(), (high + 0.5).ln(), u).exp();
                Number::from(x.round().clamp(low, high) as i64)
            }
            Distribution::Between { low, high, log, .. } => {
                let x = if log { between(low.ln(), high.ln(), u).exp() } else { between(low, high, u) };
                float(rounded(x).clamp(low, high))
            }
            // Box and Muller 1958; 1 - u is never 0.
            Distribution::Normal { mean, deviation } => {
                float(mean + deviation * (-2.0 * (1.0 - u).ln()).sqrt() * (std::f64::consts::TAU * v).cos())
            }
            Distribution::Choice(_) => 0.into(),
        }
    }
}

fn between(low: f64, high: f64, u: f64) -> f64 {
    low * (1.0 - u) + high * u
}

/// Rounds to four digits.
fn rounded(x: f64) -> f64 {
    format!("{x:.3e}").parse().unwrap_or(x)
}

/// Returns two numbers in `[0, 1)`.
fn units(seed: u64, path: &str, number: usize) -> [f64; 2] {
    let digest = Digest::of(format!("watershed random\0{seed}\0{number}\0{path}").as_bytes());
    let unit = |at: usize| {
        let bytes = digest.as_bytes()[at..at + 8].try_into().expect("a digest has 32 bytes");
        (u64::from_le_bytes(bytes) >> 11) as f64 / (1u64 << 53) as f64
    };
    [unit(0), unit(8)]
}

fn index(u: f64, n: usize) -> usize {
    ((u * n as f64) as usize).min(n - 1)
}

fn axis(key: &Key, node: &Node, faults: &mut Diagnostics) -> Option<Axis> {
    let paths = grid::paths(key);
    let what = format!("`random` of `{}`", key.text);
    let [(name, value)] = node.as_map().unwrap_or_default() else {
        let message = format!("{what}: expected one distribution, found {}", node.describe());
        let help = format!("{}; {HELP}", listed("distributions", DISTRIBUTIONS));
        faults.push(wrong(node.span, message, &help));
        return None;
    };
    let ends = |faults: &mut Diagnostics| pair(&what, name, value, faults);
    let from = match name.text.as_str() {
        "choice" => Distribution::Choice(grid::points(key, value, faults)?),
        "normal" => {
            let (mean, deviation) = ends(faults)?;
            if deviation < 0.0 {
                let message = format!("{what}: a deviation of {deviation} is below 0");
                faults.push(wrong(value.span, message, "write `normal: [MEAN, DEVIATION]`"));
                return None;
            }
            Distribution::Normal { mean, deviation }
        }
        text @ ("int" | "log_int" | "uniform" | "log_uniform") => {
            let (low, high) = ends(faults)?;
            range(&what, text, value, low, high, faults)?
        }
        unknown => {
            let fault = wrong(name.span, format!("{what}: there is no distribution `{unknown}`"), "");
            let near = did_you_mean(unknown, DISTRIBUTIONS);
            faults.push(fault.label(near).help(listed("distributions", DISTRIBUTIONS)));
            return None;
        }
    };
    Some(Axis { key: key.clone(), span: value.span, paths, from })
}

fn pair(what: &str, name: &Key, node: &Node, faults: &mut Diagnostics) -> Option<(f64, f64)> {
    let number = |node: &Node| node.to_json().as_f64();
    let ends = node.as_list().filter(|l| l.len() == 2).and_then(|l| number(&l[0]).zip(number(&l[1])));
    if ends.is_none() {
        let message = format!("{what}: `{}`: expected two numbers, found {}", name.text, node.describe());
        faults.push(wrong(node.span, message, HELP));
    }
    ends
}

fn range(what: &str, name: &str, node: &Node, low: f64, high: f64, faults: &mut Diagnostics) -> Option<Distribution> {
    let (whole, log) = (name.ends_with("int"), name.starts_with("log_"));
    let refusal = if low > high {
        Some(("the ends stand in the wrong order", "write the smaller number first"))
    } else if log && low <= 0.0 {
        Some(("a logarithm needs numbers above 0", "begin above 0, or leave out `log_`"))
    } else if whole && (low.fract() != 0.0 || high.fract() != 0.0 || low.abs() > MAX_INT || high.abs() > MAX_INT) {
        Some(("the ends are no whole numbers", "write whole numbers, or use `uniform`"))
    } else {
        None
    };
    if let Some((why, help)) = refusal {
        faults.push(wrong(node.span, format!("{what}: `{name}`: {why}"), help));
        return None;
    }
    Some(Distribution::Between { low, high, whole, log })
}

fn count(node: &Node, name: &str, least: u64, faults: &mut Diagnostics) -> Option<u64> {
    let count = node.to_json().as_u64().filter(|n| *n >= least);
    if count.is_none() {
        let message = format!("`random.{name}`: expected a whole number from {least}, found {}", node.describe());
        faults.push(wrong(node.span, message, HELP));
    }
    count
}

fn wrong(span: Span, message: String, help: &str) -> Diagnostic {
    Diagnostic::at(code::BAD_SWEEP, span, message).help(help)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::yaml;

    fn drawn(text: &str) -> Result<Vec<Vec<serde_json::Value>>, String> {
        let mut faults = Diagnostics::default();
        let tree = yaml::parse(&format!("random: {text}")).unwrap();
        let key = Key { text: "s".into(), span: Span::default() };
        let random = Random::read(&key, tree.get("random").unwrap(), &mut faults);
        random.check(&key, &mut faults);
        if !faults.is_empty() {
            return Err(faults.errors.iter().map(|f| f.message.clone()).collect::<Vec<_>>().join("; "));
        }
        let values = |n| random.draw(n).iter().map(|o| o.value.to_json()).collect();
        Ok((0..random.n.unwrap()).map(values).collect())
    }

    #[test]
    fn draws_stay_in_their_range_and_have_their_type() {
        let text = "{n: 500, a.i: {int: [2, 4]}, a.l: {log_int: [1, 1000]}, a.u: {uniform: [-1, 1]}, \
                    a.lr: {log_uniform: [1.0e-5, 1.0e-3]}, a.c: {choice: [x, true]}, a.n: {normal: [10, 2]}}";
        let all = drawn(text).unwrap();
        let column = |i: usize| all.iter().map(move |row| row[i].as_f64().unwrap()).collect::<Vec<_>>();
        assert!([2, 3, 4].iter().all(|i| all.iter().any(|r| r[0] == *i)) && all.iter().all(|r| r[0].is_i64()));
        assert!(all.iter().all(|r| (1..=1000).contains(&r[1].as_i64().unwrap())));
        let below = |i: usize, bound: f64| column(i).iter().filter(|x| **x < bound).count();
        // Of 500 draws, half lie below the middle of the range, on the axis's own scale; five deviations are 56.
        assert!(
            below(1, 31.6).abs_diff(250) < 56 && below(2, 0.0).abs_diff(250) < 56 && below(3, 1e-4).abs_diff(250) < 56
        );
        assert!(
            column(2).iter().all(|x| (-1.0..=1.0).contains(x)) && column(3).iter().all(|x| (1e-5..=1e-3).contains(x))
        );
        assert!(all.iter().any(|r| r[4] == "x") && all.iter().any(|r| r[4] == true));
        let mean = column(5).iter().sum::<f64>() / 500.0;
        let deviation = (column(5).iter().map(|x| (x - mean).powi(2)).sum::<f64>() / 500.0).sqrt();
        assert!((mean - 10.0).abs() < 0.5 && (deviation - 2.0).abs() < 0.4, "{mean} {deviation}");
    }

    #[test]
    fn more_draws_and_more_axes_keep_the_former_values() {
        let few = drawn("{n: 3, seed: 5, a.x: {uniform: [0, 1]}}").unwrap();
        let more = drawn("{n: 9, seed: 5, a.b: {int: [1, 9]}, a.x: {uniform: [0, 1]}}").unwrap();
        assert!(few.iter().zip(&more).all(|(f, m)| f[0] == m[1]));
        assert_ne!(few, drawn("{n: 3, seed: 6, a.x: {uniform: [0, 1]}}").unwrap());
    }

    #[test]
    fn the_first_draws_are_pinned() {
        let text = "{n: 3, seed: 1, t.lr: {log_uniform: [1.0e-5, 1.0e-3]}, \"t.a, t.b\": {choice: [[1, 2], [3, 4]]}}";
        assert_eq!(serde_json::to_string(&drawn(text).unwrap()).unwrap(), PINNED);
    }

    /// As first printed; another text means that every `random` sweep in the field gets other cases.
    const PINNED: &str = "[[0.00001679,3,4],[0.00009782,1,2],[0.00003211,3,4]]";

    #[test]
    fn wrong_distributions_are_told() {
        for (text, words) in [
            ("{n: 2, a.x: {int: [1.5, 2]}}", "the ends are no whole numbers"),
            ("{n: 2, a.x: {log_uniform: [0, 1]}}", "a logarithm needs numbers above 0"),
            ("{n: 2, a.x: {uniform: [2, 1]}}", "the ends stand in the wrong order"),
            ("{n: 2, a.x: {unifrom: [1, 2]}}", "there is no distribution `unifrom`"),
            ("{n: 2, a.x: {normal: [1, -1]}}", "below 0"),
            ("{n: 2, a.x: {uniform: 3}}", "expected two numbers, found"),
            ("{n: 2, a.x: [1, 2]}", "expected one distribution, found"),
            ("{n: 0, a.x: {int: [1, 2]}}", "expected a whole number from 1"),
            ("{n: 2, seed: -1, a.x: {int: [1, 2]}}", "expected a whole number from 0"),
            ("{a.x: {int: [1, 2]}}", "lacks `n`"),
            ("{n: 2}", "lacks a path"),
            ("{}", "draws nothing"),
        ] {
            let told = drawn(text).expect_err(text);
            assert!(told.contains(words), "{text}: {told}");
        }
    }
}
