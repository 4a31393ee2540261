//! Kind `clean`: mends texts and drops rows by rules that can each be turned off, and shows what each rule did.
//!
//! The rules are those of recsys.md 2.1, in an order that matters: blocks and tags go before references are resolved, since the
//! other order makes tags of `a &lt; b`; repeats are judged after texts are mended; cores are counted last, on what is left.
//! `preset: paper` repeats the paper's own damage: titles cut at the first hyphen or comma.

mod ledger;
mod markup;
mod prose;
mod rows;
mod texts;

use std::collections::{BTreeMap, BTreeSet};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use watershed_engine::fault::ParamFault;
use watershed_engine::port::RecordType::{Interactions, Items};
use watershed_engine::stage::NoRunKeys;
use watershed_engine::{Job, Ports, Stage, StageError};

use self::ledger::Ledger;
use self::texts::Texts;
use crate::ingest::catalogue;
use crate::record::interaction::{self, Interaction};
use crate::record::item::{self, Item};
use crate::record::lines;

/// Cleans reviews and product metadata. The defaults are `preset: careful`.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Clean {
    /// Empty titles, brands and categories that hold page code instead of text.
    pub scraped_code: bool,
    /// Remove `[[VIDEOID:…]]`, and of `[[ASIN:… name]]` all but the name.
    pub markers: bool,
    /// Remove scripts and style sheets, and turn tags into spaces.
    pub strip_html: bool,
    /// Resolve character references (`&amp;`), also those escaped up to three times.
    pub unescape: bool,
    /// Compose accents (Unicode NFC).
    pub nfc: bool,
    /// Turn controls, tabs and line ends into single spaces; remove invisible characters.
    pub whitespace: bool,
    /// Treat fields that only say `nan`, `None`, `null`, `N/A` or `Unknown` as missing.
    pub missing_words: bool,
    /// Count texts that were decoded wrongly (`â€™`); they stay as they are.
    pub mojibake: bool,
    /// Take double quotes out of customers' names, and names that are e-mail addresses away.
    pub name_symbols: bool,
    /// A product without a title takes its brand for one. In Magazine_Subscriptions nearly all titles are page code; `brand`
    /// is the publisher there, so several products may share a title: the report counts them.
    pub title_from_brand: bool,
    /// Cut product titles at the first of these characters; the paper did so at `-,`.
    pub cut_title_at: String,
    /// Longest product title in characters, cut after a word.
    pub title_max_chars: usize,
    /// Longest review and description in characters, cut after a sentence or a word.
    pub max_chars: usize,
    /// Write brands and categories in lower case.
    pub fold_case: bool,
    /// Which of a product's features stay.
    pub features: Features,
    /// Which of a product's categories stay.
    pub categories: Categories,
    /// Treat prices of one cent or less, or above 100,000 dollars, as missing.
    pub price: bool,
    /// Which rows are repeats: the same product by the same customer, or the same text by the same customer as well. The
    /// earliest row stays.
    pub dedup: Dedup,
    /// Fields that a row must have: `title` of its product, `text`, `user_name`.
    pub drop_missing: Vec<Needed>,
    /// Shortest review in characters; 0 keeps all.
    pub min_chars: usize,
    /// Fewest products of a customer and fewest customers of a product, counted after repeats are gone; 0 keeps all.
    pub k_core: KCore,
    /// What customers are called.
    pub names: Names,
}

/// Limits on features.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Features {
    /// Most features of a product.
    pub n: usize,
    /// Longest feature in characters, cut after a word.
    pub chars: usize,
    /// Drop features about shipping and returns.
    pub boilerplate: bool,
}

impl Default for Features {
    fn default() -> Features {
        Features { n: 5, chars: 200, boilerplate: true }
    }
}

/// Limits on category paths.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Categories {
    /// Most levels of a path.
    pub levels: usize,
    /// Longest name of a level in characters; longer ones are sentences and go.
    pub chars: usize,
}

impl Default for Categories {
    fn default() -> Categories {
        Categories { levels: 4, chars: 60 }
    }
}

/// Fewest products and customers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct KCore {
    /// Fewest distinct products of a customer.
    pub user: u64,
    /// Fewest distinct customers of a product; from 1 on, products without a review leave the catalogue too.
    pub item: u64,
    /// Repeat until nothing more goes.
    pub iterate: bool,
}

impl Default for KCore {
    fn default() -> KCore {
        KCore { user: 0, item: 0, iterate: true }
    }
}

/// Which rows are repeats.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Dedup {
    /// The same product by the same customer.
    #[default]
    UserItem,
    /// That, or the same text (20 characters at least) by the same customer.
    Text,
    /// None.
    Off,
}

/// What customers are called.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Names {
    /// As each row says.
    #[default]
    Keep,
    /// The customer's most frequent name; a name of nobody, such as `Amazon Customer`, only for want of another.
    MostFrequent,
    /// A made-up name that depends on the customer's id.
    Pseudonym,
    /// Nothing.
    Drop,
}

/// A field that a row must have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Needed {
    /// The title of the product; counts only where there is metadata.
    Title,
    /// The review.
    Text,
    /// The customer's name.
    UserName,
}

impl Default for Clean {
    fn default() -> Clean {
        Clean {
            scraped_code: true,
            markers: true,
            strip_html: true,
            unescape: true,
            nfc: true,
            whitespace: true,
            missing_words: true,
            mojibake: true,
            name_symbols: true,
            title_from_brand: true,
            cut_title_at: String::new(),
            title_max_chars: 120,
            max_chars: 600,
            fold_case: false,
            features: Features::default(),
            categories: Categories::default(),
            price: true,
            dedup: Dedup::UserItem,
            drop_missing: vec![Needed::Title],
            min_chars: 0,
            k_core: KCore::default(),
            names: Names::Keep,
        }
    }
}

/// The report port of `clean`.
#[derive(Debug, Serialize)]
struct Report<'a> {
    rows_in: usize,
    rows_out: usize,
    items_in: usize,
    items_out: usize,
    customers: usize,
    /// Products that share their title with another one: they cannot be told apart by title.
    items_sharing_a_title: usize,
    rules: &'a Ledger,
}

impl Stage for Clean {
    const KIND: &'static str = "clean";
    const VERSION: u32 = 1;
    type Run = NoRunKeys;

    fn ports(&self) -> Ports {
        Ports::new()
            .reads("interactions", Interactions)
            .reads("items", Items)
            .writes("interactions", Interactions)
            .writes("items", Items)
            .reports("report")
    }

    fn presets() -> Vec<(&'static str, Value)> {
        let paper = json!({"cut_title_at": "-,", "fold_case": true, "k_core": {"user": 5}});
        vec![("careful", json!({})), ("paper", paper)]
    }

    fn check(&self) -> Vec<ParamFault> {
        let limits = [
            ("max_chars", self.max_chars),
            ("title_max_chars", self.title_max_chars),
            ("features.chars", self.features.chars),
        ];
        let too_small = limits.into_iter().filter(|(_, limit)| *limit == 0);
        too_small.map(|(name, _)| ParamFault::new(name, format!("`{name}` must be at least 1"), "")).collect()
    }

    fn run(&self, _: &NoRunKeys, job: &Job) -> Result<(), StageError> {
        let rows = interaction::read(job.input("interactions")?)?;
        let items = item::read(job.input("items")?)?;
        let (rows_in, items_in) = (rows.len(), items.len());
        let mut ledger = Ledger::default();
        let (rows, items) = self.clean(rows, items, &mut ledger);
        if rows.is_empty() {
            return Err(StageError::failed(nothing_left(rows_in, &ledger)));
        }
        let report = Report {
            rows_in,
            rows_out: rows.len(),
            items_in,
            items_out: items.len(),
            customers: rows.iter().map(|row| &row.user_id).collect::<BTreeSet<_>>().len(),
            items_sharing_a_title: sharing_a_title(&items),
            rules: &ledger,
        };
        job.count("rows_in", rows_in as f64);
        job.count("rows_out", report.rows_out as f64);
        if report.items_sharing_a_title * 10 > items.len() {
            job.warn(format!(
                "{} of {} products share their title with another",
                report.items_sharing_a_title,
                items.len()
            ));
        }
        lines::write(job.output("report"), [&report])?;
        interaction::write(job.output("interactions"), rows)?;
        item::write(job.output("items"), items)
    }
}

impl Clean {
    fn clean(
        &self,
        mut rows: Vec<Interaction>,
        items: Vec<Item>,
        ledger: &mut Ledger,
    ) -> (Vec<Interaction>, Vec<Item>) {
        let (mut items, repeats) = catalogue::one_each(items);
        (0..repeats).for_each(|_| ledger.note("dedup", "", "item", "", ""));
        let mut texts = Texts::new(self, ledger);
        items.iter_mut().for_each(|item| texts.item(item));
        rows.iter_mut().for_each(|row| texts.row(row));
        let mut rows = rows::dedup(rows, self.dedup, ledger);
        self.drop_rows(&mut rows, &mut items, ledger);
        let mut rows = rows::k_core(rows, self.k_core, ledger);
        if self.k_core.item > 0 {
            let bought: BTreeSet<&str> = rows.iter().map(|row| row.item_id.as_str()).collect();
            items.retain(|item| bought.contains(item.item_id.as_str()));
        }
        rows::names(&mut rows, self.names, ledger);
        (rows, items)
    }

    fn drop_rows(&self, rows: &mut Vec<Interaction>, items: &mut Vec<Item>, ledger: &mut Ledger) {
        for field in &self.drop_missing {
            match field {
                Needed::Title => rows::drop_untitled(rows, items, ledger),
                Needed::Text => drop_where(rows, "drop_missing", |row| row.text.is_empty(), ledger),
                Needed::UserName => drop_where(rows, "drop_missing", |row| row.user_name.is_empty(), ledger),
            }
        }
        drop_where(rows, "min_chars", |row| row.text.chars().count() < self.min_chars, ledger);
    }
}

fn drop_where(
    rows: &mut Vec<Interaction>,
    rule: &'static str,
    is_bad: impl Fn(&Interaction) -> bool,
    ledger: &mut Ledger,
) {
    rows.retain(|row| {
        let bad = is_bad(row);
        if bad {
            ledger.note(rule, &rows::id(row), "row", &row.text, "");
        }
        !bad
    });
}

fn sharing_a_title(items: &[Item]) -> usize {
    let mut counts: BTreeMap<&str, usize> = Default::default();
    items.iter().for_each(|item| *counts.entry(&item.title).or_default() += 1);
    counts.values().filter(|count| **count > 1).sum()
}

fn nothing_left(rows_in: usize, ledger: &Ledger) -> String {
    let dropped: Vec<String> = ["dedup", "drop_missing", "min_chars", "k_core"]
        .into_iter()
        .filter(|rule| ledger.count(rule) > 0)
        .map(|rule| format!("`{rule}` {}", ledger.count(rule)))
        .collect();
    format!("no row is left of {rows_in}; dropped by rule: {}; loosen these rules", dropped.join(", "))
}

#[cfg(test)]
mod tests;
