//! Feeding tokens: what all prompts begin with goes through the model once, and so does a prompt that comes several times.
//!
//! Rows of a template share its preamble and often the instruction; the samples and beams of one row share all of it. Their
//! keys and values are computed once and copied into the cache's rows, which costs next to nothing. A row's numbers then
//! differ in the last digits from those of a row fed alone, as they do between batches of another size anyway.

use tch::Tensor;

use crate::Model;
use crate::kv_cache::{Decode, KvCache, Prefill};
use crate::lora::Active;

/// Prompt tokens that go through the model at once.
const AT_ONCE: usize = 4096;

/// A shorter common beginning is not worth a pass of its own.
const SHORTEST_PREFIX: usize = 8;

/// A model, and what all prompts begin with.
pub(crate) struct Reader<'a> {
    pub(crate) model: &'a Model,
    pub(crate) active: Option<Active<'a>>,
    /// A cache of one row that holds the first `shared` tokens of every prompt.
    prefix: Option<KvCache>,
    shared: usize,
}

impl<'a> Reader<'a> {
    /// Feeds what all of `prompts` begin with.
    pub(crate) fn new(model: &'a Model, active: Option<Active<'a>>, prompts: &[&[u32]]) -> Reader<'a> {
        let mut reader = Reader { model, active, prefix: None, shared: 0 };
        let shared = common_prefix(prompts);
        if prompts.len() > 1 && shared >= SHORTEST_PREFIX {
            reader.prefix = Some(reader.read(&[&prompts[0][..shared]], 0).0);
            reader.shared = shared;
        }
        reader
    }

    /// Feeds prompts, longest first; returns a cache with room for `new` tokens more, a row for each prompt, and the hidden
    /// state `[prompts, hidden]` at the last token of each. Neighbours that are equal are fed once.
    pub(crate) fn read(&self, prompts: &[&[u32]], new: usize) -> (KvCache, Tensor) {
        let different: Vec<&[u32]> = prompts.chunk_by(|a, b| a == b).map(|same| same[0]).collect();
        let lengths: Vec<usize> = different.iter().map(|prompt| prompt.len()).collect();
        let mut cache = KvCache::new(self.model, &lengths, new);
        if let Some(prefix) = &self.prefix {
            cache.begin_with(prefix);
        }
        let rests: Vec<&[u32]> = different.iter().map(|prompt| &prompt[self.shared..]).collect();
        let hidden = self.feed(&rests, &mut cache);
        if different.len() == prompts.len() {
            return (cache, hidden);
        }
        let places =
            prompts.chunk_by(|a, b| a == b).enumerate().flat_map(|(place, same)| same.iter().map(move |_| place));
        let places: Vec<usize> = places.collect();
        cache.select(&places);
        (cache, hidden.index_select(0, &self.model.index(places.iter().map(|place| *place as i64))))
    }

    /// Feeds one token more to each row; returns the hidden state `[rows, hidden]`.
    pub(crate) fn step(&self, tokens: impl Iterator<Item = u32>, cache: &mut KvCache) -> Tensor {
        let ids = self.model.index(tokens.map(i64::from));
        let positions = self.model.index(cache.positions());
        let all = self.model.index(0..cache.rows() as i64);
        let hidden = self.model.hidden(&ids, &positions, &mut Decode { cache }, self.active, &all);
        cache.advance();
        hidden
    }

    fn feed(&self, rests: &[&[u32]], cache: &mut KvCache) -> Tensor {
        let mut hidden = Vec::new();
        let mut first = 0;
        while first < rests.len() {
            let mut tokens = 0;
            let fits = rests[first..].iter().take_while(|rest| {
                tokens += rest.len();
                tokens <= AT_ONCE
            });
            let count = fits.count().max(1);
            hidden.push(self.feed_some(&rests[first..first + count], first, cache));
            first += count;
        }
        Tensor::cat(&hidden, 0)
    }

    fn feed_some(&self, rests: &[&[u32]], first: usize, cache: &mut KvCache) -> Tensor {
        let shared = self.shared as i64;
        let lengths: Vec<i64> = rests.iter().map(|rest| rest.len() as i64).collect();
        let ids = self.model.index(rests.iter().flat_map(|rest| *rest).map(|id| i64::from(*id)));
        let positions = self.model.index(lengths.iter().flat_map(|length| shared..shared + length));
        let ends = lengths.iter().scan(-1, |end, length| {
            *end += length;
            Some(*end)
        });
        let last = self.model.index(ends);
        let mut attention = Prefill::new(cache, first, self.shared, lengths);
        self.model.hidden(&ids, &positions, &mut attention, self.active, &last)
    }
}

/// Returns how many tokens all prompts begin with, leaving each at least one of its own: the model is asked at the last.
fn common_prefix(prompts: &[&[u32]]) -> usize {
    let Some(first) = prompts.first() else { return 0 };
    let equal = |prompt: &&[u32]| prompt.iter().zip(*first).take_while(|(a, b)| a == b).count();
    let common = prompts.iter().map(|prompt| equal(prompt).min(prompt.len().saturating_sub(1)));
    common.min().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::{Fixture, largest_difference};

    #[test]
    fn every_prompt_keeps_a_token_of_its_own() {
        assert_eq!(common_prefix(&[&[1, 2, 3], &[1, 2, 4, 5]]), 2);
        assert_eq!(common_prefix(&[&[1, 2], &[1, 2, 3]]), 1);
        assert_eq!(common_prefix(&[&[1, 2], &[3]]), 0);
        assert_eq!(common_prefix(&[]), 0);
    }

    #[test]
    fn a_shared_beginning_and_equal_prompts_change_no_logits() {
        let Some(fixture) = Fixture::open() else { return };
        let model = fixture.model("model");
        let ids = fixture.ids("plain.input_ids");
        let (long, short) = ([&ids[..], &ids[3..9]].concat(), [&ids[..14], &ids[2..4]].concat());
        let prompts = [&long[..], &long[..], &ids[..], &short[..], &short[..]];
        let _guard = tch::no_grad_guard();
        let reader = Reader::new(&model, None, &prompts);
        assert_eq!(reader.shared, 14);
        let (mut cache, hidden) = reader.read(&prompts, 1);
        let after = reader.step([5, 6, 7, 5, 6].into_iter(), &mut cache);
        for (row, (prompt, next)) in prompts.iter().zip([5, 6, 7, 5, 6]).enumerate() {
            let all = model.logits(None, &[*prompt, &[next]].concat()).unwrap();
            for (hidden, at) in [(&hidden, prompt.len() - 1), (&after, prompt.len())] {
                let wanted = Vec::<f32>::try_from(all.get(at as i64)).unwrap();
                let off = largest_difference(&model.project(&hidden.narrow(0, row as i64, 1)), &wanted);
                assert!(off < 1e-4, "row {row} is off by {off}");
            }
        }
    }
}
