//! The language: from the text of a pipeline to a checked [`Study`].
//!
//! ```text
//! text -> Node tree -> overrides of --set -> for each case: overrides, ${}, parameters, inputs -> Study
//! ```
//!
//! Every step goes on behind a fault, so that one load reports them all; a fault never makes a second one downstream of it.

mod case;
mod cycle;
mod delta;
mod expect;
mod fetch;
mod follow;
mod hub;
mod input;
mod interpolate;
mod json_schema;
mod kinds;
mod nearest;
mod origin;
mod overrides;
mod params;
mod pipeline;
mod place;
mod reference;
mod roots;
mod run_keys;
mod shape;
mod sweep;

use std::collections::{BTreeMap, HashSet, VecDeque};
use std::path::PathBuf;
use std::sync::Arc;

pub use hub::folder as hub_folder;
pub use json_schema::json_schema;
pub use kinds::Kinds;
pub(crate) use nearest::listed;
pub use nearest::nearest;
pub use origin::{Origin, Origins, Row};
pub use place::{project_root, root_of};
pub(crate) use run_keys::common_schema;
pub(crate) use shape::{join, range_words, words_or};
pub use sweep::MAX_CASES;

use crate::code;
use crate::diagnostic::{Diagnostic, Diagnostics};
use crate::environment;
use crate::node::Node;
use crate::study::{Case, CaseRef, StageDef, Study};
use crate::yaml;
use case::{Checked, Context, Edge};
use cycle::CaseName;
use delta::Delta;
use nearest::did_you_mean;
use overrides::Override;
use place::Place;
use sweep::Sweep;

/// What to load, as the command line says it.
#[derive(Debug, Clone)]
pub struct LoadRequest {
    /// The pipeline file; `-` takes `text`.
    pub file: PathBuf,
    /// Text to read instead of the file.
    pub text: Option<String>,
    /// The `--set` options, `path=value` each.
    pub overrides: Vec<String>,
    /// The sweep to run.
    pub sweep: Option<String>,
    /// Glob over the names of its cases.
    pub cases: Option<String>,
    /// Most cases that a sweep may have.
    pub max_cases: usize,
    /// Checks every case of every sweep too, not only those that the study holds.
    pub check_all: bool,
    /// Set for an excerpt of a pipeline: its stages whose results are known, so that their inputs are not looked at. Sweeps, which
    /// may name stages left out, are not either.
    pub given: Option<HashSet<String>>,
    /// Reads an environment variable.
    pub env: fn(&str) -> Option<String>,
}

impl LoadRequest {
    /// Returns a request for a file as it stands.
    pub fn new(file: impl Into<PathBuf>) -> LoadRequest {
        let (text, overrides, sweep, cases) = (None, Vec::new(), None, None);
        let max_cases = sweep::MAX_CASES;
        LoadRequest {
            file: file.into(),
            text,
            overrides,
            sweep,
            cases,
            max_cases,
            check_all: false,
            given: None,
            env: environment::read,
        }
    }
}

/// Loads and checks a pipeline.
///
/// # Errors
/// All faults, in file order.
pub fn load(request: &LoadRequest, kinds: &Kinds) -> Result<Study, Diagnostics> {
    let mut faults = Diagnostics::default();
    let text = match read_text(request) {
        Ok(text) => text,
        Err(fault) => {
            faults.push(*fault);
            return Err(faults.finished(&request.file, "", &request.overrides));
        }
    };
    match load_text(request, kinds, &text, &mut faults) {
        Some(study) if faults.is_empty() => Ok(study),
        _ => Err(faults.finished(&request.file, &text, &request.overrides)),
    }
}

fn read_text(request: &LoadRequest) -> Result<String, Box<Diagnostic>> {
    if let Some(text) = &request.text {
        return Ok(text.clone());
    }
    let unreadable = |words: String, help: &str| {
        let message = format!("cannot read `{}`: {words}", request.file.display());
        Box::new(Diagnostic {
            file: Some(request.file.clone()),
            ..Diagnostic::nowhere(code::UNREADABLE, message).help(help)
        })
    };
    let size = std::fs::metadata(&request.file)
        .map_err(|e| unreadable(e.to_string(), "`watershed init` writes a pipeline that runs"))?;
    if !size.is_file() {
        return Err(unreadable("it is not a file".into(), "name a `.yaml` file"));
    }
    if size.len() > yaml::MAX_BYTES as u64 {
        return Err(Box::new(yaml::too_large(size.len())));
    }
    let bytes = std::fs::read(&request.file).map_err(|e| unreadable(e.to_string(), "make it readable"))?;
    String::from_utf8(bytes).map_err(|_| unreadable("it is not UTF-8 text".into(), "save it as UTF-8"))
}

fn load_text(request: &LoadRequest, kinds: &Kinds, text: &str, faults: &mut Diagnostics) -> Option<Study> {
    let mut tree = match yaml::parse(text) {
        Ok(tree) => tree,
        Err(fault) => {
            faults.push(*fault);
            return None;
        }
    };
    for change in overrides::read(&request.overrides, faults) {
        overrides::apply(&mut tree, &change, faults);
    }
    let sweeps = if request.given.is_some() { Vec::new() } else { sweep::expand(&tree, request.max_cases, faults) };
    check_sweep_paths(&tree, &sweeps, faults);
    let mut place = match Place::of(&request.file) {
        Ok(place) => place,
        Err(error) => {
            faults.push(Diagnostic::nowhere(code::UNREADABLE, format!("cannot find the current folder: {error}")));
            return None;
        }
    };
    roots::read(&tree, &mut place, request.env, faults);
    let names: BTreeMap<String, Vec<String>> =
        sweeps.iter().map(|s| (s.key.text.clone(), s.cases.iter().map(|c| c.name.clone()).collect())).collect();
    let given = request.given.clone().unwrap_or_default();
    let context = Context { kinds, place: &place, sweeps: &names, lookup: request.env, given: &given };
    let mut loader = Loader { tree: &tree, context: &context, sweeps: &sweeps, edges: Vec::new(), faults };
    let chosen = loader.choose(request);
    let checked = loader.check_chosen(request, chosen);
    let named = loader.check_named();
    if request.check_all {
        loader.check_rest(&named);
    }
    cycle::find(&loader.edges, loader.faults);
    let (cases, first) = checked;
    let stem = request.file.file_stem().and_then(|s| s.to_str()).filter(|s| *s != "-").unwrap_or("pipeline");
    Some(Study {
        name: first.name.unwrap_or_else(|| stem.to_string()),
        file: request.file.clone(),
        root: place.root.clone(),
        text: text.to_string(),
        sweep: request.sweep.clone(),
        params: tree.get("params").map(Node::to_json).unwrap_or_default(),
        cases,
        named,
        expect: first.expect,
    })
}

/// Looks at the paths of every sweep, run or not: a stale path is better found before its sweep is needed.
fn check_sweep_paths(tree: &Node, sweeps: &[Sweep], faults: &mut Diagnostics) {
    let mut seen = HashSet::new();
    for change in sweeps.iter().flat_map(|s| &s.cases).flat_map(|c| &c.overrides) {
        if seen.insert(change.path.as_str()) {
            overrides::check(tree, &change.path, change.span, faults);
        }
    }
}

/// Checks cases and remembers what they read.
struct Loader<'a> {
    tree: &'a Node,
    context: &'a Context<'a>,
    sweeps: &'a [Sweep],
    edges: Vec<(CaseName, Vec<Edge>)>,
    faults: &'a mut Diagnostics,
}

/// What the first case says of the pipeline as a whole.
#[derive(Default)]
struct Whole {
    name: Option<String>,
    expect: Vec<crate::study::Expectation>,
}

impl<'a> Loader<'a> {
    /// Returns the cases to run: sweep, name, overrides.
    fn choose(&mut self, request: &LoadRequest) -> Vec<(CaseName, &'a [Override])> {
        let Some(name) = &request.sweep else { return vec![(None, &[])] };
        let Some(sweep) = self.sweeps.iter().find(|s| s.key.text == *name) else {
            let names = || self.sweeps.iter().map(|s| s.key.text.as_str());
            let near = did_you_mean(name, names());
            let help =
                [near, listed("sweeps", names())].into_iter().filter(|t| !t.is_empty()).collect::<Vec<_>>().join(" ");
            self.faults
                .push(Diagnostic::nowhere(code::UNKNOWN_SWEEP, format!("there is no sweep `{name}`")).help(help));
            return vec![(None, &[])];
        };
        let pattern = request.cases.as_deref().unwrap_or("*");
        let fitting = sweep.cases.iter().filter(|case| sweep::fits(pattern, &case.name));
        let chosen: Vec<_> = fitting.map(|c| (Some((name.clone(), c.name.clone())), &c.overrides[..])).collect();
        if chosen.is_empty() && !sweep.cases.is_empty() {
            let message = format!("no case of sweep `{name}` fits `{pattern}`");
            let help = listed("cases", sweep.cases.iter().map(|c| c.name.as_str()));
            self.faults.push(Diagnostic::nowhere(code::UNKNOWN_SWEEP, message).help(help));
        }
        chosen
    }

    fn check_chosen(&mut self, request: &LoadRequest, chosen: Vec<(CaseName, &'a [Override])>) -> (Vec<Case>, Whole) {
        if request.sweep.is_some() && request.check_all {
            self.check_case(None, &[]);
        }
        self.check_cases(chosen)
    }

    /// Checks cases of one sweep: the first whole, the others where they differ from it.
    fn check_cases(&mut self, chosen: Vec<(CaseName, &'a [Override])>) -> (Vec<Case>, Whole) {
        let mut chosen = chosen.into_iter();
        let Some((name, changes)) = chosen.next() else { return (Vec::new(), Whole::default()) };
        let before = self.faults.errors.len();
        let first = self.check_whole(changes);
        let is_sound = self.faults.errors.len() == before;
        let mut delta = Delta::of(self.tree, self.context, &first, changes).filter(|_| is_sound);
        let mut cases = vec![case_of(&name, changes, first.stages.clone())];
        for (name, changes) in chosen {
            let case = match delta.as_mut().and_then(|delta| delta.stages(changes)) {
                Some(stages) => {
                    let case = case_of(&name, changes, stages);
                    // It reads what the first one reads.
                    self.edges.push((name, Vec::new()));
                    case
                }
                None => self.check_case(name, changes),
            };
            cases.push(case);
        }
        drop(delta);
        self.edges.push((name, first.edges));
        (cases, Whole { name: first.name, expect: first.expect })
    }

    fn check_case(&mut self, name: CaseName, changes: &[Override]) -> Case {
        let checked = self.check_whole(changes);
        let case = case_of(&name, changes, checked.stages);
        self.edges.push((name, checked.edges));
        case
    }

    fn check_whole(&mut self, changes: &[Override]) -> Checked {
        if changes.is_empty() {
            return case::check(self.tree, self.context, self.faults);
        }
        let mut tree = self.tree.clone();
        changes.iter().for_each(|change| overrides::apply(&mut tree, change, self.faults));
        case::check(&tree, self.context, self.faults)
    }

    /// Checks the cases that inputs name, and those that they name in turn.
    fn check_named(&mut self) -> BTreeMap<(String, String), Case> {
        let mut named = BTreeMap::new();
        let mut waiting: VecDeque<(String, String)> =
            self.edges.iter().flat_map(|(_, edges)| named_by(edges)).collect();
        while let Some(name) = waiting.pop_front() {
            if named.contains_key(&name) {
                continue;
            }
            let sweep = self.sweeps.iter().find(|s| s.key.text == name.0);
            let Some(text) = sweep.and_then(|s| s.cases.iter().find(|c| c.name == name.1)) else { continue };
            let case = self.check_case(Some(name.clone()), &text.overrides);
            waiting.extend(self.edges.last().map(|(_, edges)| named_by(edges)).unwrap_or_default());
            named.insert(name, case);
        }
        named
    }

    fn check_rest(&mut self, named: &BTreeMap<(String, String), Case>) {
        let run: HashSet<CaseName> = self.edges.iter().map(|(name, _)| name.clone()).collect();
        for sweep in self.sweeps {
            let name = |case: &str| (sweep.key.text.clone(), case.to_string());
            let all = sweep.cases.iter().map(|text| (name(&text.name), &text.overrides[..]));
            let rest = all.filter(|(name, _)| !named.contains_key(name) && !run.contains(&Some(name.clone())));
            self.check_cases(rest.map(|(name, changes)| (Some(name), changes)).collect());
        }
    }
}

fn case_of(name: &CaseName, changes: &[Override], stages: Vec<Arc<StageDef>>) -> Case {
    let overrides = changes.iter().map(|change| (change.path.clone(), change.value.to_json())).collect();
    Case { name: name.as_ref().map(|(_, case)| case.clone()), overrides, stages }
}

fn named_by(edges: &[Edge]) -> Vec<(String, String)> {
    let name = |edge: &Edge| match &edge.case {
        CaseRef::Named { sweep, case } => Some((sweep.clone(), case.clone())),
        CaseRef::Same | CaseRef::All => None,
    };
    edges.iter().filter_map(name).collect()
}
