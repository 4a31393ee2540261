//! Beam search as transformers does it (`_beam_search`, 5.23, `length_penalty` 1 and `early_stopping` false).
//!
//! Each step continues every beam by every token and keeps the best; a continuation that ends an answer is put aside when
//! it is among the best as many as there are beams. A prompt is done when no beam's mean log-probability beats the worst
//! answer put aside. A prompt's beams are neighbouring rows of the cache.

use std::ops::ControlFlow;

use rayon::prelude::*;
use tch::Kind;

use crate::pick::restrain;
use crate::reader::Reader;
use crate::writing::{finish, to_f32};
use crate::{Answer, Error, Finish, GenerateConfig, Prompt, Result, Watch};

/// The search for one prompt's answer.
struct Search<'a> {
    index: usize,
    prompt: &'a Prompt,
    /// Best first; rows of the cache in this order.
    beams: Vec<Beam>,
    /// Best first, at most as many as beams.
    ended: Vec<(Beam, Finish)>,
}

/// A sequence in the making.
#[derive(Clone)]
struct Beam {
    /// Prompt, then answer.
    written: Vec<u32>,
    /// Sum of log-probabilities, after penalties and bans.
    score: f64,
    /// The same before them.
    logprob: f64,
    /// The cache's row that holds all but the newest token.
    row: usize,
}

/// A token that continues a beam.
struct Next {
    /// Place of the beam in [`Search::beams`].
    beam: usize,
    token: u32,
    score: f64,
    logprob: f64,
}

/// Answers the prompts at the places `batch`, longest first.
pub(crate) fn write_batch(
    reader: &Reader<'_>,
    prompts: &[Prompt],
    batch: &[usize],
    beams: usize,
    config: &GenerateConfig,
    watch: &mut dyn Watch,
) -> Result<ControlFlow<()>> {
    let mut searches: Vec<Search<'_>> =
        batch.iter().enumerate().map(|(row, index)| Search::new(*index, &prompts[*index], row)).collect();
    let ids: Vec<&[u32]> = batch.iter().map(|index| &prompts[*index].ids[..]).collect();
    let (mut cache, mut hidden) = reader.read(&ids, config.max_new_tokens);
    loop {
        let scores = to_f32(&reader.model.project(&hidden).log_softmax(-1, Kind::Float));
        let vocab = reader.model.config().vocab;
        if let Some(search) = searches.iter().find(|search| !search.is_sound(&scores, vocab)) {
            return Err(Error::not_finite(&search.prompt.id));
        }
        let nexts: Vec<Vec<Next>> =
            searches.par_iter().map(|search| search.continuations(&scores, vocab, beams, config)).collect();
        let mut going = Vec::new();
        for (mut search, nexts) in searches.into_iter().zip(nexts) {
            if search.advance(nexts, beams, config, watch) {
                let flow = watch.done(search.answer());
                if flow.is_break() {
                    return Ok(flow);
                }
            } else {
                going.push(search);
            }
        }
        if going.is_empty() {
            return Ok(ControlFlow::Continue(()));
        }
        cache.select(&going.iter().flat_map(|search| &search.beams).map(|beam| beam.row).collect::<Vec<_>>());
        going.iter_mut().flat_map(|search| &mut search.beams).enumerate().for_each(|(row, beam)| beam.row = row);
        searches = going;
        let newest = searches.iter().flat_map(|search| &search.beams).map(|beam| beam.written[beam.written.len() - 1]);
        hidden = reader.step(newest, &mut cache);
    }
}

impl<'a> Search<'a> {
    fn new(index: usize, prompt: &'a Prompt, row: usize) -> Search<'a> {
        let beam = Beam { written: prompt.ids.clone(), score: 0.0, logprob: 0.0, row };
        Search { index, prompt, beams: vec![beam], ended: Vec::new() }
    }

    /// Says whether the log-probabilities of all beams are numbers: none is where the log-sum-exp is not finite.
    fn is_sound(&self, scores: &[f32], vocab: usize) -> bool {
        self.beams.iter().all(|beam| !scores[beam.row * vocab..][..vocab].iter().any(|score| score.is_nan()))
    }

    /// Returns the best continuations of all beams, best first: enough that, were every stop id among them for each beam,
    /// as many would go on as there are beams. `scores` holds the log-probabilities of every row of the cache.
    fn continuations(&self, scores: &[f32], vocab: usize, beams: usize, config: &GenerateConfig) -> Vec<Next> {
        let keep = beams * (1 + config.stop_ids.len()).max(2);
        let mut nexts = Vec::new();
        for (place, beam) in self.beams.iter().enumerate() {
            let before = &scores[beam.row * vocab..][..vocab];
            let mut after = before.to_vec();
            restrain(&mut after, &beam.written, self.prompt, config);
            nexts.extend(best(&after, keep).into_iter().map(|token| Next {
                beam: place,
                token,
                score: beam.score + f64::from(after[token as usize]),
                logprob: beam.logprob + f64::from(before[token as usize]),
            }));
        }
        nexts.sort_by(|a, b| b.score.total_cmp(&a.score));
        nexts.truncate(keep);
        nexts
    }

    /// Takes a step; returns true when no better answer can come.
    fn advance(&mut self, nexts: Vec<Next>, beams: usize, config: &GenerateConfig, watch: &mut dyn Watch) -> bool {
        let mut going: Vec<Beam> = Vec::with_capacity(beams);
        for (rank, next) in nexts.into_iter().enumerate() {
            let beam = self.beams[next.beam].grown(&next);
            match finish(self.prompt, &beam.written[self.prompt.ids.len()..], config, watch) {
                Some(finish) if rank < beams => self.ended.push((beam, finish)),
                None if going.len() < beams => going.push(beam),
                _ => {}
            }
        }
        let mean = |beam: &Beam| beam.score / (beam.written.len() - self.prompt.ids.len()) as f64;
        self.ended.sort_by(|(a, _), (b, _)| mean(b).total_cmp(&mean(a)));
        self.ended.truncate(beams);
        let Some(best) = going.first() else { return true };
        let is_done = self.ended.get(beams - 1).is_some_and(|(worst, _)| mean(best) <= mean(worst));
        self.beams = going;
        is_done
    }

    /// Returns the best answer; the best beam where bans left no token to go on with.
    fn answer(self) -> Answer {
        let start = self.prompt.ids.len();
        let unended = self.beams.into_iter().map(|beam| (beam, Finish::Length));
        let (beam, finish) = self.ended.into_iter().chain(unended).next().expect("a search begins with a beam");
        Answer { index: self.index, ids: beam.written[start..].to_vec(), finish, logprob: beam.logprob }
    }
}

impl Beam {
    fn grown(&self, next: &Next) -> Beam {
        let mut written = Vec::with_capacity(self.written.len() + 1);
        written.extend(&self.written);
        written.push(next.token);
        Beam { written, score: next.score, logprob: next.logprob, row: self.row }
    }
}

/// Returns the tokens with the `count` best scores, lower ids first among equals; banned ones are never among them.
fn best(scores: &[f32], count: usize) -> Vec<u32> {
    let mut tokens: Vec<u32> = (0..scores.len() as u32).filter(|t| scores[*t as usize] > f32::NEG_INFINITY).collect();
    let order = |a: &u32, b: &u32| scores[*b as usize].total_cmp(&scores[*a as usize]).then(a.cmp(b));
    if count < tokens.len() {
        tokens.select_nth_unstable_by(count - 1, order);
        tokens.truncate(count);
    }
    tokens.sort_unstable_by(order);
    tokens
}
