//! Log-likelihoods of many titles after a prompt.
//!
//! The prompt is fed once. Behind it the titles are fed as a tree: each token sees the prompt and its own ancestors, so a
//! beginning that many titles share is computed once, and a whole catalogue is one or a few passes instead of one a title
//! (tree attention, Miao et al. 2024, "SpecInfer", section 4.2).

use std::ops::ControlFlow;

use tch::{Kind, Tensor};

use crate::attention::{Attention, attend_grouped};
use crate::kv_cache::KvCache;
use crate::lora::Active;
use crate::memory::caught;
use crate::reader::Reader;
use crate::trie::{Part, Trie};
use crate::writing::to_f32;
use crate::{Error, Lora, Model, Result};

/// Largest number of logits at once: 64 MiB of f32.
const LOGITS: usize = 1 << 24;

/// A prompt, and the titles to score after it.
pub struct Context<'a> {
    /// The prompt's tokens.
    pub ids: &'a [u32],
    /// The titles.
    pub titles: &'a Trie,
}

/// A part of the tree behind a prompt.
struct Behind<'a> {
    prompt: &'a KvCache,
    /// `[fed, prompt + fed]`, true where a node may look.
    mask: Tensor,
}

/// Gives `done` the place of each context, those before `first` left out, and the sums of its titles' log-probabilities in
/// nats, in the order of the titles, as f64; `Break` ends the call.
///
/// # Errors
/// [`Error::Input`] for a prompt that with the longest title is longer than the model takes, or for ids that it lacks;
/// [`Error::NotFinite`] when the model's logits are no numbers; [`Error::OutOfMemory`] where a prompt and a part of the titles
/// do not fit.
pub fn score_titles(
    model: &Model,
    lora: Option<&Lora>,
    contexts: &[Context<'_>],
    first: usize,
    done: &mut dyn FnMut(usize, Vec<f64>) -> ControlFlow<()>,
) -> Result<()> {
    caught(|| score_all(model, lora, contexts, first, done)).map_err(with_mend)
}

fn score_all(
    model: &Model,
    lora: Option<&Lora>,
    contexts: &[Context<'_>],
    first: usize,
    done: &mut dyn FnMut(usize, Vec<f64>) -> ControlFlow<()>,
) -> Result<()> {
    let _guard = tch::no_grad_guard();
    for context in contexts {
        check(model, context)?;
    }
    let prompts: Vec<&[u32]> = contexts.iter().map(|context| context.ids).collect();
    let reader = Reader::new(model, lora.map(Active::still), &prompts);
    for (place, context) in contexts.iter().enumerate().skip(first) {
        let (cache, hidden) = reader.read(&[context.ids], 0);
        let mut sums = vec![0.0; context.titles.titles];
        for part in &context.titles.parts {
            score_part(&reader, &cache, &hidden, part, &mut sums);
        }
        if sums.iter().any(|sum| !sum.is_finite()) {
            return Err(Error::not_finite(&(place + 1).to_string()));
        }
        if done(place, sums).is_break() {
            break;
        }
    }
    Ok(())
}

/// Says how to need less: prompts are fed one at a time already.
fn with_mend(error: Error) -> Error {
    match error {
        Error::OutOfMemory(why) => Error::OutOfMemory(format!(
            "{why}, with one prompt and a part of the titles at once; shorter prompts and `dtype: bf16` need less"
        )),
        other => other,
    }
}

fn check(model: &Model, context: &Context<'_>) -> Result<()> {
    model.check(context.ids, "a prompt")?;
    model.check(&[context.titles.largest], "a title")?;
    let (prompt, title, longest) = (context.ids.len(), context.titles.longest, model.config().max_positions);
    if prompt + title > longest {
        return Err(Error::Input(format!(
            "a prompt of {prompt} tokens and a title of {title} are more than the {longest} that the model takes"
        )));
    }
    Ok(())
}

/// Fills in the sums of the titles that end in `part`; `hidden` `[1, hidden]` is the state at the prompt's last token.
fn score_part(reader: &Reader<'_>, cache: &KvCache, hidden: &Tensor, part: &Part, sums: &mut [f64]) {
    let all = match feed(reader, cache, part) {
        Some(fed) => Tensor::cat(&[hidden, &fed], 0),
        None => hidden.shallow_clone(),
    };
    let source = |parent: Option<usize>| parent.map_or(0, |parent| part.nodes[parent].fed.map_or(0, |fed| fed + 1));
    let edges: Vec<(usize, u32)> = part.nodes.iter().map(|node| (source(node.parent), node.token)).collect();
    let steps = log_probabilities(reader.model, &all, &edges);
    let mut so_far: Vec<f64> = Vec::with_capacity(steps.len());
    for (node, step) in part.nodes.iter().zip(steps) {
        so_far.push(node.parent.map_or(0.0, |parent| so_far[parent]) + step);
    }
    for (title, node) in &part.ends {
        sums[*title] = so_far[*node];
    }
}

/// Returns the hidden states `[fed, hidden]` of the nodes that something follows, none when there are none.
fn feed(reader: &Reader<'_>, cache: &KvCache, part: &Part) -> Option<Tensor> {
    if part.fed == 0 {
        return None;
    }
    let (fed, prompt, model) = (part.fed as i64, cache.filled(), reader.model);
    let mut nodes: Vec<_> = part.nodes.iter().filter(|node| node.fed.is_some()).collect();
    nodes.sort_by_key(|node| node.fed);
    let ids = model.index(nodes.iter().map(|node| i64::from(node.token)));
    let positions = model.index(nodes.iter().map(|node| prompt + node.depth as i64));
    let sight = Tensor::from_slice(&part.sight()).view([fed, fed]).to_device(model.device());
    let mask = Tensor::cat(&[Tensor::ones([fed, prompt], (Kind::Bool, model.device())), sight], 1);
    let all = model.index(0..fed);
    Some(model.hidden(&ids, &positions, &mut Behind { prompt: cache, mask }, reader.active, &all))
}

/// Returns the log-probability of each edge's token at the state that it leaves, a row of `hidden` `[states, hidden]`.
fn log_probabilities(model: &Model, hidden: &Tensor, edges: &[(usize, u32)]) -> Vec<f64> {
    let states = hidden.size()[0] as usize;
    let at_once = (LOGITS / model.config().vocab).max(1);
    let mut found = vec![0.0; edges.len()];
    for first in (0..states).step_by(at_once) {
        let count = at_once.min(states - first);
        let logits = model.project(&hidden.narrow(0, first as i64, count as i64));
        let places: Vec<usize> = (0..edges.len()).filter(|e| (first..first + count).contains(&edges[*e].0)).collect();
        let rows = model.index(places.iter().map(|place| (edges[*place].0 - first) as i64));
        let tokens = model.index(places.iter().map(|place| i64::from(edges[*place].1)));
        let log_sums = logits.logsumexp([-1], false).index_select(0, &rows);
        let picked = logits.index(&[Some(rows), Some(tokens)]) - log_sums;
        for (place, logprob) in places.into_iter().zip(to_f32(&picked)) {
            found[place] = f64::from(logprob);
        }
    }
    found
}

impl Attention for Behind<'_> {
    fn attend(&mut self, layer: usize, q: &Tensor, k: &Tensor, v: &Tensor) -> Tensor {
        let (keys, values) = self.prompt.row(layer);
        let joined = |held: &Tensor, new: &Tensor| Tensor::cat(&[held, &new.transpose(0, 1).unsqueeze(0)], 2);
        attend_grouped(&q.unsqueeze(0), &joined(&keys, k), &joined(&values, v), Some(&self.mask)).squeeze_dim(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Row;
    use crate::fixture::Fixture;

    fn scores(model: &Model, contexts: &[Context<'_>]) -> Vec<Vec<f64>> {
        let mut all = Vec::new();
        let mut done = |place: usize, sums: Vec<f64>| {
            assert_eq!(place, all.len());
            all.push(sums);
            ControlFlow::Continue(())
        };
        score_titles(model, None, contexts, 0, &mut done).unwrap();
        all
    }

    /// The log-likelihood of `title` after `prompt` by one forward pass over both.
    fn plain(model: &Model, prompt: &[u32], title: &[u32]) -> f64 {
        let ids = [prompt, title].concat();
        -crate::evaluate(model, None, &[Row::answered(ids, prompt.len())], 1000).unwrap().sum_nll
    }

    /// Titles out of the fixture's text: some share a beginning, one is another's beginning, one comes twice.
    fn titles(ids: &[u32]) -> Vec<Vec<u32>> {
        let mut titles: Vec<Vec<u32>> = (1..8).map(|at| ids[at..at + 2 + at % 4].to_vec()).collect();
        titles.extend([ids[1..2].to_vec(), [&ids[1..4], &ids[9..12]].concat(), titles[3].clone()]);
        titles
    }

    #[test]
    fn scores_are_those_of_whole_sequences() {
        let Some(fixture) = Fixture::open() else { return };
        let model = fixture.model("model");
        let ids = fixture.ids("plain.input_ids");
        let titles = titles(&ids);
        let trie = Trie::new(&titles).unwrap();
        assert!(trie.fed_tokens() < titles.iter().map(|title| title.len() - 1).sum());
        let prompts = [&ids[..], &[&ids[..12], &ids[3..5]].concat()];
        let contexts = prompts.map(|ids| Context { ids, titles: &trie });
        let found = scores(&model, &contexts);
        for (prompt, found) in prompts.iter().zip(&found) {
            for (title, found) in titles.iter().zip(found) {
                let wanted = plain(&model, prompt, title);
                assert!((found - wanted).abs() < 1e-4, "{title:?}: {found} and not {wanted}");
            }
        }
        assert_eq!(found, scores(&model, &contexts));
    }

    #[test]
    fn a_tree_in_parts_scores_the_same() {
        let Some(fixture) = Fixture::open() else { return };
        let model = fixture.model("model");
        let ids = fixture.ids("plain.input_ids");
        let vocab = model.config().vocab as u32;
        let titles: Vec<Vec<u32>> = (0..300).map(|t| (0..6).map(|at| (t * 31 + at * 7) % vocab).collect()).collect();
        let trie = Trie::new(&titles).unwrap();
        assert!(trie.parts.len() > 1);
        let found = &scores(&model, &[Context { ids: &ids, titles: &trie }])[0];
        for title in [0, 150, 299] {
            assert!((found[title] - plain(&model, &ids, &titles[title])).abs() < 1e-4);
        }
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let Some(fixture) = Fixture::open() else { return };
        let model = fixture.model("model");
        let error = |ids: &[u32], title: Vec<u32>| {
            let trie = Trie::new(&[title]).unwrap();
            let refused =
                score_titles(&model, None, &[Context { ids, titles: &trie }], 0, &mut |_, _| panic!("scored"));
            refused.unwrap_err().to_string()
        };
        assert!(error(&[1], vec![1_000_000]).contains("a title holds token 1000000"));
        assert!(error(&[1], vec![1; model.config().max_positions]).contains("are more than"));
        assert!(error(&[], vec![1]).contains("no tokens"));
    }

    #[test]
    fn scores_that_are_no_numbers_are_an_error() {
        let Some(fixture) = Fixture::open() else { return };
        let model = fixture.model("model");
        let lora = Lora::load(&fixture.path("adapter_a_qv_token_mean"), &model).unwrap();
        let _ = lora.flat().0.shallow_clone().fill_(1e30);
        let ids = fixture.ids("plain.input_ids");
        let trie = Trie::new(&titles(&ids)).unwrap();
        let contexts = [Context { ids: &ids, titles: &trie }];
        let refused = score_titles(&model, Some(&lora), &contexts, 0, &mut |_, _| panic!("scored"));
        let message = refused.unwrap_err().to_string();
        assert!(message.starts_with("after prompt `1` the model's logits are not finite"), "{message}");
    }

    #[test]
    fn running_out_of_memory_is_an_error() {
        let Some(fixture) = Fixture::open() else { return };
        let (model, ids) = (fixture.model("model"), fixture.ids("plain.input_ids"));
        let trie = Trie::new(&titles(&ids)).unwrap();
        let mut done = |_: usize, _: Vec<f64>| panic!("not enough memory: you tried to allocate 9 bytes");
        let refused = score_titles(&model, None, &[Context { ids: &ids, titles: &trie }], 0, &mut done);
        let wanted = "out of memory: not enough memory: you tried to allocate 9 bytes, with one prompt and a part of the titles at once; shorter prompts and `dtype: bf16` need less";
        assert_eq!(refused.unwrap_err().to_string(), wanted);
    }
}
