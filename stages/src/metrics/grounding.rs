//! Grounding: which products of the catalogue an answer names.
//!
//! Two steps of the protocol are here: [`spans`] cuts the places out, and a title is found when all its words stand in a
//! span one after another, the longest first, without overlap. Short titles ("The Week", "Us") would be found by accident in
//! any sentence, so they must be the whole span. Products that share a title cannot be told apart by text: they are one
//! [`Title`] with several items.

use std::collections::{BTreeMap, HashMap};
use std::ops::Range;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::normalise::{norm, words};
use super::spans::spans;

/// How products are found in text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Grounding {
    /// Titles of fewer words are found only where they are all that is quoted or listed.
    pub min_words: usize,
    /// Titles of fewer characters are found only where they are all that is quoted or listed.
    pub min_chars: usize,
}

impl Default for Grounding {
    fn default() -> Grounding {
        Grounding { min_words: 2, min_chars: 8 }
    }
}

/// A title in normal form and the items that bear it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Title {
    /// The title in normal form.
    pub text: String,
    /// The items, ascending; at least one.
    pub items: Vec<String>,
    whole: bool,
}

/// A place where an answer names a product, or seems to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Span {
    /// The text in normal form.
    pub text: String,
    /// Numbers of the titles found there, in order; empty when the catalogue knows none.
    pub titles: Vec<usize>,
}

/// The titles of a catalogue as a trie over words.
#[derive(Debug, Clone, Default)]
pub struct Catalogue {
    titles: Vec<Title>,
    by_item: HashMap<String, usize>,
    words: HashMap<String, u32>,
    next: HashMap<(u32, u32), u32>,
    ends: HashMap<u32, usize>,
}

impl Catalogue {
    /// Builds the trie from (item, title) pairs; titles without a word are left out.
    pub fn new<'a>(items: impl IntoIterator<Item = (&'a str, &'a str)>, how: &Grounding) -> Catalogue {
        let mut by_words: BTreeMap<Vec<String>, Title> = BTreeMap::new();
        for (item, raw) in items {
            let text = norm(raw);
            let key: Vec<String> = words(&text).map(str::to_string).collect();
            if key.is_empty() {
                continue;
            }
            let whole = key.len() < how.min_words || text.chars().count() < how.min_chars;
            by_words.entry(key).or_insert(Title { text, items: Vec::new(), whole }).items.push(item.to_string());
        }
        let mut catalogue = Catalogue::default();
        for (key, mut title) in by_words {
            title.items.sort();
            catalogue.insert(&key, title);
        }
        catalogue
    }

    fn insert(&mut self, key: &[String], title: Title) {
        let mut node = 0;
        for word in key {
            let fresh = self.words.len() as u32;
            let word = *self.words.entry(word.clone()).or_insert(fresh);
            let fresh = self.next.len() as u32 + 1;
            node = *self.next.entry((node, word)).or_insert(fresh);
        }
        let number = self.titles.len();
        self.ends.insert(node, number);
        self.by_item.extend(title.items.iter().map(|item| (item.clone(), number)));
        self.titles.push(title);
    }

    /// Returns the title with this number.
    pub fn title(&self, number: usize) -> &Title {
        &self.titles[number]
    }

    /// Returns the number of an item's title; `None` for an item without one.
    pub fn title_of(&self, item: &str) -> Option<usize> {
        self.by_item.get(item).copied()
    }

    /// Returns the places where `answer` names products, in order.
    ///
    /// Of nested spans the inner ones count, unless only the outer one holds a known title.
    pub fn ground(&self, answer: &str) -> Vec<Span> {
        let text = norm(answer);
        let found = spans(&text);
        let mut grounded = Vec::new();
        let mut at = 0;
        while at < found.len() {
            let outer = &found[at];
            let nested = found[at + 1..].iter().take_while(|inner| inner.end <= outer.end).count();
            grounded.extend(self.resolve(&text, outer, &innermost(&found[at + 1..at + 1 + nested])));
            at += 1 + nested;
        }
        grounded
    }

    fn resolve(&self, text: &str, outer: &Range<usize>, inner: &[Range<usize>]) -> Vec<Span> {
        let span = |range: &Range<usize>| {
            let text = text[range.clone()].trim();
            Span { text: text.to_string(), titles: self.find(text) }
        };
        let whole = span(outer);
        let parts: Vec<Span> = inner.iter().map(span).collect();
        let parts_known = parts.iter().any(|part| !part.titles.is_empty());
        if parts.is_empty() || !whole.titles.is_empty() && !parts_known { vec![whole] } else { parts }
    }

    /// Returns the numbers of the titles in a text in normal form, in order of place: longest first, no overlap.
    pub fn find(&self, span: &str) -> Vec<usize> {
        let words: Vec<Option<u32>> = words(span).map(|word| self.words.get(word).copied()).collect();
        let mut matches: Vec<(usize, usize, usize)> = Vec::new();
        for start in 0..words.len() {
            let mut node = 0;
            for (length, word) in words[start..].iter().enumerate() {
                let Some(&next) = word.and_then(|word| self.next.get(&(node, word))) else { break };
                node = next;
                let Some(&title) = self.ends.get(&node) else { continue };
                if !self.titles[title].whole || length + 1 == words.len() {
                    matches.push((start, length + 1, title));
                }
            }
        }
        matches.sort_by_key(|&(start, length, _)| (std::cmp::Reverse(length), start));
        let mut kept: Vec<(usize, usize, usize)> = Vec::new();
        for (start, length, title) in matches {
            if kept.iter().all(|&(s, l, _)| start + length <= s || s + l <= start) {
                kept.push((start, length, title));
            }
        }
        kept.sort_unstable();
        kept.into_iter().map(|(_, _, title)| title).collect()
    }
}

/// Leaves out the ranges that hold another one.
fn innermost(ranges: &[Range<usize>]) -> Vec<Range<usize>> {
    let holds =
        |outer: &Range<usize>| ranges.iter().any(|r| r != outer && outer.start <= r.start && r.end <= outer.end);
    ranges.iter().filter(|range| !holds(range)).cloned().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::reference;

    const ITEMS: [(&str, &str); 6] = [
        ("i1", "Black &amp; Decker Drill"),
        ("i2", "Black & Decker"),
        ("i3", "OXO Slicer, Green"),
        ("i4", "The Week"),
        ("i5", "Kindle"),
        ("i0", "oxo SLICER green"),
    ];

    fn named(answer: &str) -> Vec<Vec<&'static str>> {
        let catalogue = Catalogue::new(ITEMS, &Grounding::default());
        let id = |number: &usize| {
            let first = &catalogue.title(*number).items[0];
            ITEMS.iter().find(|(item, _)| item == first).unwrap().0
        };
        catalogue.ground(answer).iter().map(|span| span.titles.iter().map(id).collect()).collect()
    }

    #[test]
    fn the_longest_title_wins_and_titles_do_not_overlap() {
        assert_eq!(named("You should buy the BLACK & DECKER drill and an oxo slicer (green)."), [vec!["i1", "i0"]]);
    }

    #[test]
    fn short_titles_need_the_whole_span() {
        assert!(named("I read on my Kindle at home").concat().is_empty());
        assert_eq!(named("1. Kindle\n2. Kindle cover"), [vec!["i5"], vec![]]);
    }

    #[test]
    fn inner_spans_count_unless_only_the_outer_one_is_known() {
        assert_eq!(
            named("I recommend 'Kindle', 'OXO Slicer, Green' and 'Magic Pan'."),
            [vec!["i5"], vec!["i0"], vec![]]
        );
        assert_eq!(named("I recommend the OXO Slicer, Green, the 'best' one."), [vec!["i0"]]);
    }

    #[test]
    fn an_invented_product_is_a_span_without_title() {
        assert_eq!(named("I suggest the Patagonia Down Jacket since it is warm."), [Vec::<&str>::new()]);
        assert!(named("").is_empty());
    }

    #[test]
    fn items_of_one_title_are_one_title() {
        let catalogue = Catalogue::new(ITEMS, &Grounding::default());
        assert_eq!(catalogue.title_of("i0"), catalogue.title_of("i3"));
        assert_eq!(catalogue.title(catalogue.title_of("i3").unwrap()).items, ["i0", "i3"]);
    }

    #[test]
    fn every_title_of_the_reference_catalogue_is_found_when_quoted() {
        let Some(all) = reference::load() else { return };
        let titles = reference::list(&all, "/grounding/titles");
        let pairs: Vec<(String, &str)> =
            titles.iter().enumerate().map(|(i, t)| (format!("t{i:02}"), t.as_str().unwrap())).collect();
        let catalogue = Catalogue::new(pairs.iter().map(|(id, title)| (id.as_str(), *title)), &Grounding::default());
        for (id, title) in &pairs {
            let spans = catalogue.ground(&format!("I recommend the {title} because it is good."));
            let found: Vec<usize> = spans.into_iter().flat_map(|span| span.titles).collect();
            assert_eq!(found, [catalogue.title_of(id).unwrap()], "{title}");
        }
    }
}
