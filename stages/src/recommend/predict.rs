//! From a fitted model to what the kind writes: predicted ratings of given rows, and the best items of a customer.

use super::model::Model;
use super::order::best;
use super::params::Cold;
use super::ratings::{Ratings, Row, mean};

/// One predicted rating.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Prediction {
    /// The rating, within the scale.
    pub rating: f64,
    /// Whether the algorithm could not tell, so that the rating is a mean.
    pub impossible: bool,
}

/// A fitted model with all that its answers depend on.
pub struct Predictor<'a> {
    /// The model.
    pub model: Model<'a>,
    /// What it was fitted to.
    pub train: &'a Ratings,
    /// What is predicted where the model cannot tell.
    pub cold: Cold,
    /// Lowest and highest rating.
    pub scale: [f64; 2],
}

impl Predictor<'_> {
    /// Predicts the rating of a row. A model that only ranks cannot tell any.
    pub fn rate(&self, row: &Row) -> Prediction {
        let (user, item) = (self.train.users.find(&row.user), self.train.items.find(&row.item));
        let estimate = match &self.model {
            Model::Rating(model) => model.estimate(user, item),
            Model::Ranking(_) => None,
        };
        let rating = estimate.unwrap_or_else(|| self.cold_rating(user, item)).clamp(self.scale[0], self.scale[1]);
        Prediction { rating, impossible: estimate.is_none() }
    }

    fn cold_rating(&self, user: Option<usize>, item: Option<usize>) -> f64 {
        match (self.cold, user, item) {
            (Cold::ItemOrUserMean, _, Some(item)) => mean(self.train.by_item.of(item)),
            (Cold::ItemOrUserMean, Some(user), None) => mean(self.train.by_user.of(user)),
            _ => self.train.mean,
        }
    }

    /// Returns the `top` items for a customer with their scores, bought ones left out; none where nothing is known.
    ///
    /// Ratings rank unclipped: clipped to five stars, the best items of a generous customer would all tie.
    pub fn rank(&self, customer: &str, tie: &[u32], top: usize) -> (Vec<u32>, Vec<f64>) {
        let user = self.train.users.find(customer);
        let Some(scores) = self.scores(user) else { return (Vec::new(), Vec::new()) };
        let bought = user.map(|u| self.train.bought(u)).unwrap_or_default();
        let items = best(&scores, &bought, tie, top);
        let scores = items.iter().map(|&item| scores[item as usize]).collect();
        (items, scores)
    }

    fn scores(&self, user: Option<usize>) -> Option<Vec<f64>> {
        match &self.model {
            Model::Ranking(model) => model.scores(user),
            Model::Rating(model) => Some(
                (0..self.train.items.len())
                    .map(|item| model.estimate(user, Some(item)).unwrap_or_else(|| self.cold_rating(user, Some(item))))
                    .collect(),
            ),
        }
    }
}
