//! Loss of a set of rows, and how far an adapter moved the model.

use tch::{Kind, Tensor};

use crate::lora::Active;
use crate::memory::caught;
use crate::packed::Packed;
use crate::{Error, Halt, Lora, Model, Result, Row, loss};

/// Sums over the labels of a set of rows; token-weighted, never a mean of means.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Evaluation {
    /// Sum of negative log-likelihood over labels, in nats.
    pub sum_nll: f64,
    /// Labels counted.
    pub tokens: u64,
    /// The same over labels of the response.
    pub response_sum_nll: f64,
    /// Labels of the response.
    pub response_tokens: u64,
}

impl Evaluation {
    /// Returns the mean loss of a label in nats, none without labels.
    pub fn loss(&self) -> Option<f64> {
        (self.tokens > 0).then(|| self.sum_nll / self.tokens as f64)
    }

    /// Returns the mean loss of a response label in nats, none without such labels.
    pub fn response_loss(&self) -> Option<f64> {
        (self.response_tokens > 0).then(|| self.response_sum_nll / self.response_tokens as f64)
    }
}

/// Returns the loss sums of `rows`, computed in batches of about `batch_tokens` tokens, in the order given.
///
/// # Errors
/// [`Error::Input`] for rows that the model cannot take, [`Error::OutOfMemory`] where a batch does not fit.
pub fn evaluate(model: &Model, lora: Option<&Lora>, rows: &[Row], batch_tokens: usize) -> Result<Evaluation> {
    evaluate_unless(model, lora, rows, batch_tokens, &|| false)
}

/// Returns what [`evaluate`] does, unless `halt` says otherwise before one of the batches.
///
/// # Errors
/// Those of [`evaluate`], and [`Error::Cancelled`].
pub fn evaluate_unless(
    model: &Model,
    lora: Option<&Lora>,
    rows: &[Row],
    batch_tokens: usize,
    halt: Halt,
) -> Result<Evaluation> {
    caught(|| sum_up(model, lora, &batches(rows, batch_tokens), halt))
}

fn sum_up(model: &Model, lora: Option<&Lora>, batches: &[&[Row]], halt: Halt) -> Result<Evaluation> {
    let _guard = tch::no_grad_guard();
    let mut sums = Evaluation::default();
    for batch in batches {
        if halt() {
            return Err(Error::Cancelled);
        }
        let Some(mut packed) = Packed::new(model, batch)? else { continue };
        let hidden = forward(model, lora.map(Active::still), &mut packed);
        let nll = loss::nll(model, &hidden, &packed.targets);
        sums.sum_nll += nll.sum(Kind::Double).double_value(&[]);
        sums.response_sum_nll += nll.dot(&packed.in_response).double_value(&[]);
        sums.tokens += packed.label_tokens;
        sums.response_tokens += packed.response_tokens;
    }
    Ok(sums)
}

/// Returns the mean KL divergence KL(base || tuned) over the label positions of `rows`, in nats a token; 0 without labels.
///
/// # Errors
/// Those of [`evaluate`]; it needs room for a row and a slice of its logits.
pub fn divergence(model: &Model, lora: &Lora, rows: &[Row]) -> Result<f64> {
    caught(|| diverge(model, lora, rows, loss::at_once(model)))
}

fn diverge(model: &Model, lora: &Lora, rows: &[Row], at_once: i64) -> Result<f64> {
    let _guard = tch::no_grad_guard();
    let (mut sum, mut tokens) = (0.0, 0);
    for row in rows {
        let Some(mut packed) = Packed::new(model, std::slice::from_ref(row))? else { continue };
        let base = forward(model, None, &mut packed);
        let tuned = forward(model, Some(Active::still(lora)), &mut packed);
        sum += loss::slices(at_once, &base, &tuned).map(|(base, tuned)| part(model, &base, &tuned)).sum::<f64>();
        tokens += packed.label_tokens;
    }
    Ok(if tokens == 0 { 0.0 } else { sum / tokens as f64 })
}

/// Returns the sum of the divergences between the next tokens at two lists of hidden states.
fn part(model: &Model, base: &Tensor, tuned: &Tensor) -> f64 {
    let log_probabilities = |hidden: &Tensor| model.project(hidden).log_softmax(-1, Kind::Float);
    let (mut base, tuned) = (log_probabilities(base), log_probabilities(tuned));
    let gap = &base - tuned;
    (base.exp_() * gap).sum(Kind::Double).double_value(&[])
}

/// Returns the hidden states `[labels, hidden]` that predict the labels.
pub(crate) fn forward(model: &Model, active: Option<Active<'_>>, packed: &mut Packed) -> Tensor {
    model.hidden(&packed.ids, &packed.positions, &mut packed.attention, active, &packed.sources)
}

/// Cuts rows into runs of at most `batch_tokens` tokens, at least one row each.
fn batches(rows: &[Row], batch_tokens: usize) -> Vec<&[Row]> {
    let mut batches = Vec::new();
    let (mut start, mut tokens) = (0, 0);
    for (at, row) in rows.iter().enumerate() {
        if at > start && tokens + row.ids.len() > batch_tokens {
            batches.push(&rows[start..at]);
            (start, tokens) = (at, 0);
        }
        tokens += row.ids.len();
    }
    if start < rows.len() {
        batches.push(&rows[start..]);
    }
    batches
}

#[cfg(test)]
mod tests {
    use tch::Device;

    use super::*;
    use crate::fixture::Fixture;
    use crate::model::Placement;
    use crate::naive::{Naive, shapes};
    use crate::{Init, LoraConfig, Scaling, Target};

    /// The reference's padded batch, a row each, padding and the prompt without labels.
    fn rows(fixture: &Fixture) -> Vec<Row> {
        let [ids, mask, labels] = ["input_ids", "mask", "labels"].map(|of| fixture.ids(&format!("batch.{of}_right")));
        let count = fixture.reference["loss"]["per_sample"].as_array().unwrap().len();
        let row = |at: usize| {
            let range = at * ids.len() / count..(at + 1) * ids.len() / count;
            let real = range.filter(|at| mask[*at] == 1);
            // -100, which is no label, is no id either
            let (ids, labels): (Vec<u32>, Vec<bool>) = real.map(|at| (ids[at], labels[at] == ids[at])).unzip();
            Row { ids, answers: labels.clone(), labels }
        };
        (0..count).map(row).collect()
    }

    #[test]
    fn losses_are_those_of_transformers() {
        let Some(fixture) = Fixture::open() else { return };
        let (model, rows, wanted) = (fixture.model("model"), rows(&fixture), &fixture.reference["loss"]);
        let close = |ours: f64, wanted: &serde_json::Value, scale: f64| {
            let wanted = wanted.as_f64().unwrap();
            assert!((ours - wanted).abs() < 1e-4 * scale, "{ours} for {wanted}");
        };
        let all = evaluate(&model, None, &rows, 1000).unwrap();
        assert_eq!(Some(all.tokens), wanted["tokens"].as_u64());
        close(all.sum_nll, &wanted["sum_nll"], all.tokens as f64);
        close(all.loss().unwrap(), &wanted["hf_loss_token_mean"], 1.0);
        let mut means = Vec::new();
        for (row, wanted) in rows.chunks(1).zip(wanted["per_sample"].as_array().unwrap()) {
            let one = evaluate(&model, None, row, 1000).unwrap();
            assert_eq!(Some(one.tokens), wanted["tokens"].as_u64());
            close(one.sum_nll, &wanted["sum_nll"], one.tokens as f64);
            means.push(one.loss().unwrap());
        }
        close(means.iter().sum::<f64>() / means.len() as f64, &wanted["mean_of_sample_means"], 1.0);
    }

    #[test]
    fn loss_of_answers_is_that_of_their_labels_alone() {
        let place = Placement { device: Device::Cpu, kind: Kind::Float };
        let model = Model::of(&Naive::new(&shapes()[0].1, Kind::Float), place).unwrap();
        // an answer, a turn of the user, an answer
        let answers = vec![false, false, true, true, false, false, true];
        let row = |labels: Vec<bool>| Row { ids: vec![7, 23, 5, 40, 9, 11, 3], labels, answers: answers.clone() };
        let [all, alone] =
            [vec![true; 7], answers.clone()].map(|labels| evaluate(&model, None, &[row(labels)], 100).unwrap());
        assert_eq!((all.tokens, all.response_tokens, alone.tokens), (6, 3, 3));
        assert!((all.response_loss().unwrap() - alone.loss().unwrap()).abs() < 1e-5, "{all:?} {alone:?}");
    }

    #[test]
    fn divergence_is_that_of_whole_logits_in_any_slices() {
        let place = Placement { device: Device::Cpu, kind: Kind::Float };
        let model = Model::of(&Naive::new(&shapes()[0].1, Kind::Float), place).unwrap();
        let config = LoraConfig {
            r: 2,
            alpha: 4.0,
            dropout: 0.0,
            targets: vec![Target::Q, Target::Down],
            scaling: Scaling::Lora,
            init: Init::Kaiming,
        };
        let lora = Lora::new(&model, &config, 3).unwrap();
        let (flat, b_start) = lora.flat();
        let _ = flat.narrow(0, b_start, flat.size()[0] - b_start).fill_(3.0);
        let row = Row::answered(vec![7, 23, 5, 40, 9, 11], 0);
        let logs = |lora: Option<&Lora>| model.logits(lora, &row.ids[..5]).unwrap().log_softmax(-1, Kind::Float);
        let (base, tuned) = (logs(None), logs(Some(&lora)));
        let wanted = (base.exp() * (base - tuned)).sum(Kind::Double).double_value(&[]) / 5.0;
        assert!(wanted > 1e-3, "{wanted}");
        for at_once in [1, 2, 5, 100] {
            let found = diverge(&model, &lora, std::slice::from_ref(&row), at_once).unwrap();
            assert!((found / wanted - 1.0).abs() < 1e-3, "{found} for {wanted}, {at_once} at once");
        }
    }
}
