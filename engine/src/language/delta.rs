//! The cases of a sweep beside its first: only what they override is checked again.
//!
//! A stage depends on its own text, on `params` where it has a `${}`, and on the ports of the stages it reads. So a case takes
//! the first one's stages but for those that either overrides, and stages with the same overrides are checked once for all
//! cases. Whatever would touch another stage (a fault, other ports, other edges) sends the case the long way, whole: ten
//! thousand cases cost what their own stages cost, and no case is judged otherwise than it would be alone.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use crate::diagnostic::Diagnostics;
use crate::language::case::{self, Checked, Context, Neighbours};
use crate::language::overrides::{self, Aim, Override};
use crate::language::pipeline::{self, Pipeline};
use crate::node::{Data, Key, Node, Span};
use crate::study::{CaseRef, StageDef};

/// The first case of a sweep, and what the others may take of it.
pub struct Delta<'a> {
    tree: &'a Node,
    context: &'a Context<'a>,
    text: Pipeline<'a>,
    first: &'a Checked,
    first_changes: &'a [Override],
    neighbours: Neighbours<'a>,
    place: HashMap<&'a str, usize>,
    with_references: BTreeSet<&'a str>,
    known: HashMap<(String, String), Option<Arc<StageDef>>>,
}

impl<'a> Delta<'a> {
    /// Prepares for the other cases; `None` where all of them have to go the long way.
    pub fn of(
        tree: &'a Node,
        context: &'a Context<'a>,
        first: &'a Checked,
        changes: &'a [Override],
    ) -> Option<Delta<'a>> {
        let mut faults = Diagnostics::default();
        let text = pipeline::read(tree, &mut faults);
        let is_named = first.edges.iter().any(|edge| matches!(edge.case, CaseRef::Named { .. }));
        if !faults.is_empty() || is_named || text.run.is_some_and(Node::has_reference) {
            return None;
        }
        let stages = tree.get("stages").and_then(Node::as_map)?;
        let with_references = stages.iter().filter(|(_, node)| node.has_reference()).map(|(key, _)| key.text.as_str());
        Some(Delta {
            tree,
            context,
            text,
            first,
            first_changes: changes,
            neighbours: Neighbours::of(first),
            place: first.stages.iter().enumerate().map(|(index, stage)| (stage.name.as_str(), index)).collect(),
            with_references: with_references.collect(),
            known: HashMap::new(),
        })
    }

    /// Returns the stages of another case; `None` when it has to go the long way.
    pub fn stages(&mut self, changes: &[Override]) -> Option<Vec<Arc<StageDef>>> {
        let mut stages = self.first.stages.clone();
        for name in self.touched(changes) {
            let own: Vec<&Override> = changes.iter().filter(|change| self.concerns(change, name)).collect();
            let index = *self.place.get(name)?;
            stages[index] = self.stage(name, &own)?;
        }
        Some(stages)
    }

    /// Returns the stages in which the case may differ from the first.
    fn touched(&self, changes: &[Override]) -> BTreeSet<&'a str> {
        let mut touched = BTreeSet::new();
        for change in self.first_changes.iter().chain(changes) {
            match overrides::aim(&change.path) {
                Aim::Params => touched.extend(&self.with_references),
                Aim::Stage(name) => touched.extend(self.place.get_key_value(name).map(|(name, _)| *name)),
            }
        }
        touched
    }

    fn concerns(&self, change: &Override, stage: &str) -> bool {
        match overrides::aim(&change.path) {
            Aim::Params => self.with_references.contains(stage),
            Aim::Stage(name) => name == stage,
        }
    }

    fn stage(&mut self, name: &str, changes: &[&Override]) -> Option<Arc<StageDef>> {
        let words: Vec<String> = changes.iter().map(|c| format!("{}={}", c.path, c.value.to_json())).collect();
        let question = (name.to_string(), words.join("\n"));
        if let Some(known) = self.known.get(&question) {
            return known.clone();
        }
        let checked = self.check(name, changes);
        self.known.insert(question, checked.clone());
        checked
    }

    fn check(&self, name: &str, changes: &[&Override]) -> Option<Arc<StageDef>> {
        let mut faults = Diagnostics::default();
        let mut tree = self.alone(name)?;
        changes.iter().for_each(|change| overrides::apply(&mut tree, change, &mut faults));
        let mut text = pipeline::read(&tree, &mut faults);
        (text.env, text.run) = (self.text.env.clone(), self.text.run);
        let checked = case::check_alone(&text, self.context, &self.neighbours, &mut faults);
        checked.filter(|_| faults.is_empty()).map(Arc::new)
    }

    /// Returns the pipeline with one of its stages only.
    fn alone(&self, name: &str) -> Option<Node> {
        let stages = self.tree.get("stages")?;
        let stage = stages.as_map()?.iter().find(|(key, _)| key.text == name)?.clone();
        let key = |text: &str| Key { text: text.into(), span: Span::default() };
        let mut entries = vec![(key("stages"), Node::new(Data::Map(vec![stage]), stages.span))];
        entries.extend(self.text.params.map(|params| (key("params"), params.clone())));
        Some(Node::new(Data::Map(entries), self.tree.span))
    }
}
