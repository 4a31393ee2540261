//! Runs the rules about texts over every field, and writes down what they change.

use std::borrow::Cow;
use std::collections::BTreeSet;

use super::ledger::Ledger;
use super::{Clean, markup, prose};
use crate::record::interaction::Interaction;
use crate::record::item::Item;

/// What pages say about shipping and returns instead of the product.
const BOILERPLATE: [&str; 6] = [
    "item can be shipped",
    "ships from",
    "return policy",
    "entering your model number",
    "satisfaction guaranteed or your money back",
    "eligible for international shipping",
];
/// Prices above 100,000 dollars are errors of the page.
const MOST_CENTS: u64 = 10_000_000;

/// A rule about one text.
type Rule = (&'static str, fn(&str) -> Cow<'_, str>);

/// The rules that are on, and where to write down what they do.
pub struct Texts<'a> {
    params: &'a Clean,
    rules: Vec<Rule>,
    ledger: &'a mut Ledger,
}

impl<'a> Texts<'a> {
    /// Takes the rules that are on, in the order in which they must run.
    pub fn new(params: &'a Clean, ledger: &'a mut Ledger) -> Texts<'a> {
        let all: [(bool, Rule); 6] = [
            (params.markers, ("markers", markup::strip_markers)),
            (params.strip_html, ("strip_html", markup::strip_html)),
            (params.unescape, ("unescape", markup::unescape)),
            (params.nfc, ("nfc", prose::compose)),
            (params.whitespace, ("whitespace", prose::mend_whitespace)),
            (params.missing_words, ("missing_words", prose::drop_missing_word)),
        ];
        let rules = all.into_iter().filter(|(is_on, _)| *is_on).map(|(_, rule)| rule).collect();
        Texts { params, rules, ledger }
    }

    /// Mends a row.
    pub fn row(&mut self, row: &mut Interaction) {
        let id = super::rows::id(row);
        self.mend(&id, "title", &mut row.title);
        self.mend(&id, "text", &mut row.text);
        self.mend(&id, "user_name", &mut row.user_name);
        self.mend(&id, "style", &mut row.style);
        if self.params.name_symbols {
            self.apply(("name_symbols", plain_name), &id, "user_name", &mut row.user_name);
        }
        if self.params.mojibake && (prose::is_mojibake(&row.text) || prose::is_mojibake(&row.title)) {
            self.ledger.note("mojibake", &id, "text", &row.text, &row.text);
        }
        let max = self.params.max_chars;
        self.cut("max_chars", &id, "text", &mut row.text, |text| prose::cut_at_sentence(text, max));
    }

    /// Mends a product.
    pub fn item(&mut self, item: &mut Item) {
        let id = item.item_id.clone();
        for (field, text) in [("item.title", &mut item.title), ("item.brand", &mut item.brand)] {
            self.mend_page(&id, field, text);
        }
        self.mend_page(&id, "item.description", &mut item.description);
        item.categories.iter_mut().for_each(|path| self.path(&id, path));
        item.categories.retain(|path| !path.is_empty());
        self.features(&id, &mut item.features);
        self.title(&id, item);
        let max = self.params.max_chars;
        self.cut("max_chars", &id, "item.description", &mut item.description, |text| prose::cut_at_sentence(text, max));
        if self.params.fold_case {
            self.cut("fold_case", &id, "item.brand", &mut item.brand, |text| Cow::Owned(text.to_lowercase()));
        }
        self.price(&id, item);
    }

    fn title(&mut self, id: &str, item: &mut Item) {
        if self.params.title_from_brand && item.title.is_empty() && !item.brand.is_empty() {
            item.title.clone_from(&item.brand);
            self.ledger.note("title_from_brand", id, "item.title", "", &item.title);
        }
        let params = self.params;
        if !params.cut_title_at.is_empty() {
            self.cut("cut_title_at", id, "item.title", &mut item.title, |text| {
                prose::cut_at_marks(text, &params.cut_title_at)
            });
        }
        self.cut("title_max_chars", id, "item.title", &mut item.title, |text| {
            prose::cut_at_word(text, params.title_max_chars)
        });
    }

    fn path(&mut self, id: &str, path: &mut Vec<String>) {
        path.iter_mut().for_each(|name| self.mend_page(id, "item.categories", name));
        let (before, limits) = (path.len(), self.params.categories);
        path.retain(|name| !name.is_empty() && name.chars().count() <= limits.chars);
        path.truncate(limits.levels);
        if path.len() != before {
            self.ledger.note("categories", id, "item.categories", &before.to_string(), &path.len().to_string());
        }
        if self.params.fold_case {
            path.iter_mut().for_each(|name| *name = name.to_lowercase());
        }
    }

    fn features(&mut self, id: &str, features: &mut Vec<String>) {
        let (before, limits) = (features.len(), self.params.features);
        features.iter_mut().for_each(|feature| self.mend_page(id, "item.features", feature));
        let mut seen = BTreeSet::new();
        let is_boilerplate =
            |text: &str| limits.boilerplate && BOILERPLATE.iter().any(|words| text.to_lowercase().contains(words));
        features
            .retain(|feature| !feature.is_empty() && !is_boilerplate(feature) && seen.insert(feature.to_lowercase()));
        features.truncate(limits.n);
        if features.len() != before {
            self.ledger.note("features", id, "item.features", &before.to_string(), &features.len().to_string());
        }
        for feature in features {
            self.cut("features", id, "item.features", feature, |text| prose::cut_at_word(text, limits.chars));
        }
    }

    fn price(&mut self, id: &str, item: &mut Item) {
        let is_plausible = |cents: u64| (2..=MOST_CENTS).contains(&cents);
        if self.params.price && !item.price_cents.is_none_or(is_plausible) {
            let before = item.price_cents.unwrap_or_default().to_string();
            self.ledger.note("price", id, "item.price_cents", &before, "");
            (item.price_cents, item.price_max_cents) = (None, None);
        }
    }

    /// Mends a field of the shop's page, which may hold code.
    fn mend_page(&mut self, id: &str, field: &'static str, text: &mut String) {
        if self.params.scraped_code {
            self.apply(("scraped_code", markup::drop_code), id, field, text);
        }
        self.mend(id, field, text);
    }

    fn mend(&mut self, id: &str, field: &'static str, text: &mut String) {
        for at in 0..self.rules.len() {
            self.apply(self.rules[at], id, field, text);
        }
    }

    fn apply(&mut self, (name, rule): Rule, id: &str, field: &'static str, text: &mut String) {
        self.cut(name, id, field, text, rule);
    }

    /// Runs a rule on a text; what it changes is written down.
    fn cut(
        &mut self,
        name: &'static str,
        id: &str,
        field: &'static str,
        text: &mut String,
        rule: impl Fn(&str) -> Cow<'_, str>,
    ) {
        let after = rule(text);
        if after != text.as_str() {
            self.ledger.note(name, id, field, text, &after);
            *text = after.into_owned();
        }
    }
}

/// Takes double quotes out of a name; an e-mail address is no name.
fn plain_name(name: &str) -> Cow<'_, str> {
    let is_address = name.split_once('@').is_some_and(|(_, host)| host.contains('.'));
    match name.contains(['"', '“', '”']) {
        _ if is_address => Cow::Borrowed(""),
        true => Cow::Owned(name.replace(['"', '“', '”'], "").trim().to_string()),
        false => Cow::Borrowed(name),
    }
}
