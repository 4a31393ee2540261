//! Rows laid end to end as the tensors of one forward pass.

use tch::{Kind, Tensor};

use crate::attention::Causal;
use crate::{Model, Result, Row};

/// Some rows, and where their labels are predicted.
pub(crate) struct Packed {
    /// `[tokens]`
    pub(crate) ids: Tensor,
    /// `[tokens]`, each row from 0.
    pub(crate) positions: Tensor,
    /// Lengths of the rows.
    pub(crate) attention: Causal,
    /// `[labels]`: the token that predicts each label.
    pub(crate) sources: Tensor,
    /// `[labels]`: the label.
    pub(crate) targets: Tensor,
    /// `[labels]` in f64: 1 where the label belongs to the response.
    pub(crate) in_response: Tensor,
    /// Labels, and those of the response.
    pub(crate) label_tokens: u64,
    pub(crate) response_tokens: u64,
}

/// The same as plain lists.
#[derive(Default)]
struct Lists {
    ids: Vec<i64>,
    positions: Vec<i64>,
    lengths: Vec<i64>,
    sources: Vec<i64>,
    targets: Vec<i64>,
    in_response: Vec<f64>,
}

impl Packed {
    /// Returns `rows` packed, none when none of them has a label. Tokens that no label depends on are left out.
    pub(crate) fn new(model: &Model, rows: &[Row]) -> Result<Option<Packed>> {
        let mut lists = Lists::default();
        for row in rows {
            row.check()?;
            model.check(&row.ids, "a row")?;
            lists.push(row);
        }
        if lists.targets.is_empty() {
            return Ok(None);
        }
        let response: f64 = lists.in_response.iter().sum();
        Ok(Some(Packed {
            label_tokens: lists.targets.len() as u64,
            response_tokens: response as u64,
            ids: model.index(lists.ids.into_iter()),
            positions: model.index(lists.positions.into_iter()),
            attention: Causal { lengths: lists.lengths },
            sources: model.index(lists.sources.into_iter()),
            targets: model.index(lists.targets.into_iter()),
            in_response: Tensor::from_slice(&lists.in_response).to_kind(Kind::Double).to_device(model.device()),
        }))
    }
}

impl Lists {
    fn push(&mut self, row: &Row) {
        // The last label is predicted by the token before it; later tokens change no label.
        let used = (1..row.ids.len()).rev().find(|at| row.labels[*at]).unwrap_or(0);
        if used == 0 {
            return;
        }
        let start = self.ids.len();
        self.ids.extend(row.ids[..used].iter().map(|id| i64::from(*id)));
        self.positions.extend(0..used as i64);
        self.lengths.push(used as i64);
        for at in (1..=used).filter(|at| row.labels[*at]) {
            self.sources.push((start + at - 1) as i64);
            self.targets.push(i64::from(row.ids[at]));
            self.in_response.push(f64::from(u8::from(row.answers[at])));
        }
    }
}
