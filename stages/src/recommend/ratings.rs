//! Training ratings as inner numbers: who rated what, by user and by item.
//!
//! Users and items are numbered by first appearance and each list keeps the order of the file, as Surprise's `Trainset`
//! does, because SGD visits ratings in that order and its result depends on it. Values are f32: half stars are exact.

use std::collections::HashMap;
use std::path::Path;

use watershed_engine::StageError;

/// Names numbered by first appearance.
#[derive(Debug, Clone, Default)]
pub struct Ids {
    names: Vec<String>,
    index: HashMap<String, u32>,
}

impl Ids {
    fn intern(&mut self, name: &str) -> u32 {
        if let Some(&id) = self.index.get(name) {
            return id;
        }
        let id = self.names.len() as u32;
        self.names.push(name.to_string());
        self.index.insert(name.to_string(), id);
        id
    }

    /// Returns the number of `name`, if training saw it.
    pub fn find(&self, name: &str) -> Option<usize> {
        self.index.get(name).map(|&id| id as usize)
    }

    /// Returns all names, by number.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// Returns how many names there are.
    pub fn len(&self) -> usize {
        self.names.len()
    }

    /// Says whether there are none.
    pub fn is_empty(&self) -> bool {
        self.names.is_empty()
    }

    /// Returns each number's place in the alphabetical order of the names.
    pub fn places(&self) -> Vec<u32> {
        let mut order: Vec<u32> = (0..self.names.len() as u32).collect();
        order.sort_by(|&a, &b| self.names[a as usize].cmp(&self.names[b as usize]));
        let mut places = vec![0; order.len()];
        for (place, &id) in order.iter().enumerate() {
            places[id as usize] = place as u32;
        }
        places
    }
}

/// Ratings grouped by one side: for each user the `(item, rating)` pairs, or for each item the `(user, rating)` pairs.
#[derive(Debug, Clone, Default)]
pub struct Groups {
    start: Vec<usize>,
    entries: Vec<(u32, f32)>,
}

impl Groups {
    /// Groups rows by `key`, keeping their order (a counting sort).
    fn by(n: usize, rows: &[(u32, u32, f32)], key: impl Fn(&(u32, u32, f32)) -> (u32, u32)) -> Groups {
        let mut start = vec![0usize; n + 1];
        for row in rows {
            start[key(row).0 as usize + 1] += 1;
        }
        for i in 0..n {
            start[i + 1] += start[i];
        }
        let mut next = start.clone();
        let mut entries = vec![(0, 0.0); rows.len()];
        for row in rows {
            let (group, other) = key(row);
            entries[next[group as usize]] = (other, row.2);
            next[group as usize] += 1;
        }
        Groups { start, entries }
    }

    /// Returns the pairs of one group.
    pub fn of(&self, group: usize) -> &[(u32, f32)] {
        &self.entries[self.start[group]..self.start[group + 1]]
    }

    /// Returns the groups in order.
    pub fn iter(&self) -> impl Iterator<Item = &[(u32, f32)]> {
        (0..self.start.len() - 1).map(|group| self.of(group))
    }
}

/// The training set.
#[derive(Debug, Clone)]
pub struct Ratings {
    /// Users by number.
    pub users: Ids,
    /// Items by number.
    pub items: Ids,
    /// For each user, the items rated.
    pub by_user: Groups,
    /// For each item, the users who rated it.
    pub by_item: Groups,
    /// Mean of all ratings.
    pub mean: f64,
    /// Smallest and largest rating.
    pub range: (f64, f64),
}

impl Ratings {
    /// Numbers and groups rows in the order given.
    pub fn from_rows(rows: impl IntoIterator<Item = Row>) -> Ratings {
        let (mut users, mut items) = (Ids::default(), Ids::default());
        let (mut sum, mut range) = (0.0, (f64::INFINITY, f64::NEG_INFINITY));
        let mut numbered = Vec::new();
        for row in rows {
            numbered.push((users.intern(&row.user), items.intern(&row.item), row.rating as f32));
            sum += row.rating;
            range = (range.0.min(row.rating), range.1.max(row.rating));
        }
        let by_user = Groups::by(users.len(), &numbered, |&(user, item, _)| (user, item));
        let by_item = Groups::by(items.len(), &numbered, |&(user, item, _)| (item, user));
        let mean = if numbered.is_empty() { 0.0 } else { sum / numbered.len() as f64 };
        Ratings { users, items, by_user, by_item, mean, range }
    }

    /// Returns the number of ratings.
    pub fn len(&self) -> usize {
        self.by_user.entries.len()
    }

    /// Says whether there are no ratings.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns the items of one user, ascending, each once.
    pub fn bought(&self, user: usize) -> Vec<u32> {
        distinct(self.by_user.of(user))
    }
}

/// Returns the other side of the pairs, ascending, each once.
pub fn distinct(pairs: &[(u32, f32)]) -> Vec<u32> {
    let mut others: Vec<u32> = pairs.iter().map(|&(other, _)| other).collect();
    others.sort_unstable();
    others.dedup();
    others
}

/// Returns the mean rating of some pairs; `NaN` without any.
pub fn mean(pairs: &[(u32, f32)]) -> f64 {
    pairs.iter().map(|&(_, rating)| f64::from(rating)).sum::<f64>() / pairs.len() as f64
}

/// One rating as it stands in the file.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    /// Customer.
    pub user: String,
    /// Product.
    pub item: String,
    /// Stars.
    pub rating: f64,
}

/// Reads the three columns that count from a file of interactions, in file order; the reviews' text is passed over.
///
/// # Errors
/// Names the file, and the column that is missing or the line whose rating is no number.
pub fn read(path: &Path) -> Result<Vec<Row>, StageError> {
    let fail = |e: csv::Error| StageError::failed(format!("`{}` is not interactions: {e}", path.display()));
    let mut reader = csv::Reader::from_path(path).map_err(fail)?;
    let header = reader.headers().map_err(fail)?.clone();
    let column = |name: &str| {
        header.iter().position(|h| h == name).ok_or_else(|| {
            StageError::failed(format!(
                "`{}` is not interactions: its first line has no column `{name}`",
                path.display()
            ))
        })
    };
    let (user, item, rating) = (column("user_id")?, column("item_id")?, column("rating")?);
    let mut rows = Vec::new();
    let mut record = csv::StringRecord::new();
    while reader.read_record(&mut record).map_err(fail)? {
        let line = record.position().map_or(0, csv::Position::line);
        let rating = parse_rating(&record[rating]).ok_or_else(|| {
            StageError::failed(format!(
                "`{}` line {line}: rating `{}` is not a number",
                path.display(),
                &record[rating]
            ))
        })?;
        rows.push(Row { user: record[user].to_string(), item: record[item].to_string(), rating });
    }
    Ok(rows)
}

fn parse_rating(text: &str) -> Option<f64> {
    text.trim().parse().ok().filter(|rating: &f64| rating.is_finite())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(user: &str, item: &str, rating: f64) -> Row {
        Row { user: user.into(), item: item.into(), rating }
    }

    #[test]
    fn numbers_follow_first_appearance_and_lists_follow_the_file() {
        let train = Ratings::from_rows([row("b", "y", 1.0), row("a", "x", 2.0), row("b", "x", 4.5)]);
        assert_eq!((train.users.find("b"), train.items.find("x"), train.items.find("z")), (Some(0), Some(1), None));
        assert_eq!(train.by_user.of(0), &[(0, 1.0), (1, 4.5)]);
        assert_eq!(train.by_item.of(1), &[(1, 2.0), (0, 4.5)]);
        assert_eq!((train.mean, train.range), (2.5, (1.0, 4.5)));
        assert_eq!(train.items.places(), vec![1, 0]);
    }

    #[test]
    fn a_rating_that_is_no_number_names_its_line() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "user_id,item_id,rating\na,x,5\nb,y,good\n").unwrap();
        let error = read(file.path()).unwrap_err().to_string();
        assert!(error.contains("line 3: rating `good` is not a number"), "{error}");
    }
}
