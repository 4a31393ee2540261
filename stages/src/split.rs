//! `split`: divides examples into training, validation and test rows, a customer never in two of them.
//!
//! Groups are ranked by BLAKE3(seed, group) and the smallest are held out: first `test`, then `val`. A rank depends on
//! nothing but the group, so sets of different size are nested, and new customers move no old one between ranks.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use watershed_engine::port::RecordType::Examples;
use watershed_engine::stage::NoRunKeys;
use watershed_engine::{Job, Ports, Stage, StageError};

use crate::amount::{Amount, apportion};
use crate::formats;
use crate::record::example::Example;
use crate::record::lines;
use crate::seeded;

/// Divides rows into `train`, `val` and `test`; each part keeps the order of the input.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Split {
    /// Rows for validation: a count, a percentage, or counts by source such as `{base: 20, alpaca: 10}`. Whole groups are
    /// taken until the count is reached.
    pub val: Size,
    /// Rows for the test, like `val`; taken first, so `val` never moves it.
    pub test: Size,
    /// What stays together: all rows of a `group` (rows without one stand alone), or nothing.
    pub by: By,
    /// Whether each source gives its share of `val` and `test`.
    pub stratify: Stratify,
    /// Chooses the groups.
    pub seed: u64,
}

/// How many rows a part gets.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged, expecting = "`val` and `test` are counts, percentages such as `10%`, or maps of source to these")]
pub enum Size {
    /// Of all rows.
    All(Amount),
    /// Of the rows of each source; sources that are not named give none.
    BySource(BTreeMap<String, Amount>),
}

impl Default for Size {
    fn default() -> Size {
        Size::All(Amount::Rows(0))
    }
}

/// What a split keeps together.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum By {
    /// All rows of a group.
    #[default]
    Group,
    /// Nothing: each row is drawn alone.
    Row,
}

/// What gets its share of each part.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Stratify {
    /// Each source.
    #[default]
    Source,
    /// Nothing: groups are drawn from all rows.
    None,
}

impl Stage for Split {
    const KIND: &'static str = "split";
    const VERSION: u32 = 1;
    type Run = NoRunKeys;

    fn ports(&self) -> Ports {
        Ports::new()
            .reads("examples", Examples)
            .writes("train", Examples)
            .writes("val", Examples)
            .writes("test", Examples)
    }

    fn run(&self, _run: &NoRunKeys, job: &Job) -> Result<(), StageError> {
        let rows = formats::read(job.input("examples")?)?;
        let parts = self.parts(&rows)?;
        job.count("rows_in", rows.len() as f64);
        for (part, name) in [(Part::Train, "train"), (Part::Val, "val"), (Part::Test, "test")] {
            let chosen: Vec<&Example> =
                rows.iter().zip(&parts).filter(|(_, p)| **p == part).map(|(row, _)| row).collect();
            job.count(&format!("rows_{name}"), chosen.len() as f64);
            lines::write(job.output(name), chosen)?;
        }
        Ok(())
    }
}

/// Where a row goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    Train,
    Val,
    Test,
}

/// Rows that stay together.
struct Group {
    rank: (u64, String),
    rows: Vec<usize>,
}

/// The groups of one source (of all rows without `stratify`), smallest rank first.
struct Stratum {
    source: String,
    rows: usize,
    groups: Vec<Group>,
}

impl Split {
    /// Returns the part of each row.
    fn parts(&self, rows: &[Example]) -> Result<Vec<Part>, StageError> {
        let strata = self.strata(rows);
        let tests = quotas("test", &self.test, &strata)?;
        let vals = quotas("val", &self.val, &strata)?;
        let mut parts = vec![Part::Train; rows.len()];
        for ((stratum, test), val) in strata.iter().zip(tests).zip(vals) {
            let mut groups = stratum.groups.iter();
            hold_out(&mut groups, "test", test, stratum)?.for_each(|row| parts[row] = Part::Test);
            hold_out(&mut groups, "val", val, stratum)?.for_each(|row| parts[row] = Part::Val);
        }
        Ok(parts)
    }

    /// Gathers rows into groups and groups into strata; a group belongs to the source of its first row.
    fn strata(&self, rows: &[Example]) -> Vec<Stratum> {
        let by_source = self.stratify == Stratify::Source || self.by_source();
        let mut groups: BTreeMap<(bool, &str), Group> = BTreeMap::new();
        for (index, row) in rows.iter().enumerate() {
            let alone = self.by == By::Row || row.group.is_empty();
            let name = if alone { &row.id } else { &row.group };
            let rank = || (seeded::draw(self.seed, name), name.clone());
            groups.entry((alone, name)).or_insert_with(|| Group { rank: rank(), rows: Vec::new() }).rows.push(index);
        }
        let mut strata: BTreeMap<&str, Vec<Group>> = BTreeMap::new();
        for group in groups.into_values() {
            let source = if by_source { rows[group.rows[0]].source.as_str() } else { "" };
            strata.entry(source).or_default().push(group);
        }
        strata.into_iter().map(|(source, groups)| Stratum::new(source, groups)).collect()
    }

    fn by_source(&self) -> bool {
        matches!(self.val, Size::BySource(_)) || matches!(self.test, Size::BySource(_))
    }
}

impl Stratum {
    fn new(source: &str, mut groups: Vec<Group>) -> Stratum {
        groups.sort_by(|a, b| a.rank.cmp(&b.rank));
        Stratum { source: source.to_string(), rows: groups.iter().map(|group| group.rows.len()).sum(), groups }
    }
}

/// Returns how many rows of each stratum go to a part.
fn quotas(part: &str, size: &Size, strata: &[Stratum]) -> Result<Vec<usize>, StageError> {
    let all: usize = strata.iter().map(|stratum| stratum.rows).sum();
    match size {
        Size::All(amount) => {
            let wanted = amount.of(all);
            if wanted > all {
                return Err(StageError::failed(format!(
                    "`{part}: {amount}` asks for more than the {all} rows there are"
                )));
            }
            Ok(apportion(wanted, &strata.iter().map(|stratum| stratum.rows as f64).collect::<Vec<_>>()))
        }
        Size::BySource(amounts) => {
            let known: Vec<&str> = strata.iter().map(|stratum| stratum.source.as_str()).collect();
            if let Some(source) = amounts.keys().find(|source| !known.contains(&source.as_str())) {
                let known = known.join("`, `");
                return Err(StageError::failed(format!(
                    "`{part}` names the source `{source}`, but the rows come from `{known}`"
                )));
            }
            Ok(strata.iter().map(|s| amounts.get(&s.source).map_or(0, |amount| amount.of(s.rows))).collect())
        }
    }
}

/// Takes whole groups until `wanted` rows are reached; returns the rows.
fn hold_out<'a>(
    groups: &mut impl Iterator<Item = &'a Group>,
    part: &str,
    wanted: usize,
    stratum: &Stratum,
) -> Result<impl Iterator<Item = usize>, StageError> {
    let mut taken: Vec<usize> = Vec::new();
    while taken.len() < wanted {
        let Some(group) = groups.next() else {
            let (source, rows, left) = (&stratum.source, stratum.rows, taken.len());
            let of = if source.is_empty() { String::new() } else { format!(" of source `{source}`") };
            return Err(StageError::failed(format!(
                "`{part}` asks for {wanted} of the {rows} rows{of}, but only {left} are left: lower `val` or `test`"
            )));
        };
        taken.extend(&group.rows);
    }
    Ok(taken.into_iter())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde_json::{Value, json};
    use watershed_engine::{Kind, job::run_alone};

    use super::*;

    fn row(id: usize, group: &str, source: &str) -> Example {
        let (id, group, source) = (format!("r{id}"), group.into(), source.into());
        Example { id, group, source, instruction: "q".into(), output: Some("a".into()), ..Example::default() }
    }

    fn split(rows: &[Example], params: Value) -> Result<[Vec<Example>; 3], StageError> {
        let folder = tempfile::tempdir().unwrap();
        let input = folder.path().join("in");
        lines::write(&input, rows)?;
        run_alone(&Kind::of::<Split>(), params, &[("examples", "e", &input)], folder.path())?;
        let part = |name: &str| lines::read(&folder.path().join(name));
        Ok([part("train")?, part("val")?, part("test")?])
    }

    fn names(rows: &[Example]) -> BTreeSet<String> {
        rows.iter().map(|row| row.id.clone()).collect()
    }

    #[test]
    fn table_1_divides_as_the_paper_says() {
        let people: Vec<Example> = (0..200).map(|i| row(i, &format!("u{i}"), "base")).collect();
        for (val, train) in [(30, 170), (40, 160), (32, 168)] {
            let [t, v, _] = split(&people, json!({"val": val, "seed": 42})).unwrap();
            assert_eq!((t.len(), v.len()), (train, val));
        }
        let mixed: Vec<Example> = people.into_iter().chain((200..2200).map(|i| row(i, "", "alpaca"))).collect();
        let [train, val, _] = split(&mixed, json!({"val": 60, "seed": 42})).unwrap();
        assert_eq!((train.len(), val.len()), (2140, 60));
        assert_eq!(val.iter().filter(|row| row.source == "base").count(), 5);
    }

    #[test]
    fn larger_sets_contain_smaller_ones_and_new_rows_move_no_old_one() {
        let rows: Vec<Example> = (0..100).map(|i| row(i, &format!("u{}", i / 2), "base")).collect();
        let test = |rows: &[Example], size: usize| names(&split(rows, json!({"test": size, "seed": 3})).unwrap()[2]);
        let (small, large) = (test(&rows, 10), test(&rows, 30));
        assert!(small.is_subset(&large) && small.len() == 10 && large.len() == 30);
        let fewer = test(&rows[..90], 10);
        let kept = small.iter().filter(|id| rows[..90].iter().any(|row| row.id == **id)).cloned().collect();
        assert!(fewer.is_superset(&kept));
    }

    #[test]
    fn no_group_is_in_two_parts_and_every_row_is_in_one() {
        let rows: Vec<Example> = (0..120).map(|i| row(i, &format!("u{}", i % 17), "base")).collect();
        let parts = split(&rows, json!({"val": 20, "test": "15%"})).unwrap();
        assert!(parts[1].len() >= 20 && parts[2].len() >= 18);
        assert_eq!(parts.iter().map(Vec::len).sum::<usize>(), 120);
        let groups: Vec<BTreeSet<&str>> =
            parts.iter().map(|p| p.iter().map(|row| row.group.as_str()).collect()).collect();
        assert!(
            groups[0].is_disjoint(&groups[1]) && groups[0].is_disjoint(&groups[2]) && groups[1].is_disjoint(&groups[2])
        );
        let [_, val, _] = split(&rows, json!({"val": 20, "by": "row"})).unwrap();
        assert_eq!(val.len(), 20);
    }

    #[test]
    fn sources_give_what_they_are_asked_for() {
        let rows: Vec<Example> = (0..30).map(|i| row(i, "", if i < 10 { "base" } else { "alpaca" })).collect();
        let [_, val, _] = split(&rows, json!({"val": {"base": 4, "alpaca": "10%"}})).unwrap();
        let base = val.iter().filter(|row| row.source == "base").count();
        assert_eq!((base, val.len() - base), (4, 2));
        let wrong = split(&rows, json!({"val": {"alpacca": 4}})).unwrap_err().to_string();
        assert!(wrong.contains("names the source `alpacca`, but the rows come from `alpaca`, `base`"), "{wrong}");
    }

    #[test]
    fn too_large_a_part_is_refused() {
        let rows: Vec<Example> = (0..10).map(|i| row(i, "", "")).collect();
        assert!(split(&rows, json!({"val": 11})).unwrap_err().to_string().contains("more than the 10 rows"));
        let both = split(&rows, json!({"val": 6, "test": 6})).unwrap_err().to_string();
        assert!(both.contains("`val` asks for 6 of the 10 rows, but only 4 are left"), "{both}");
    }
}
