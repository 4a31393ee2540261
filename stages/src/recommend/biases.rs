//! Baseline estimates `mu + b_u + b_i` (Koren 2010, section 2.1), by alternating least squares or by SGD.
//!
//! Items before users in ALS and ratings in training order in SGD, as in Surprise's `optimize_baselines.pyx`.

use super::model::{Rating, Tensor};
use super::ratings::Ratings;

/// How the biases are found.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Method {
    /// Alternating least squares.
    Als {
        /// Rounds.
        n_epochs: usize,
        /// Shrinks users.
        reg_u: f64,
        /// Shrinks items.
        reg_i: f64,
    },
    /// Stochastic gradient descent.
    Sgd {
        /// Passes over the ratings.
        n_epochs: usize,
        /// Shrinks both.
        reg: f64,
        /// Step size.
        learning_rate: f64,
    },
}

/// The biases of users and items around the mean.
#[derive(Debug, Clone)]
pub struct Biases {
    /// Mean of all ratings.
    pub mean: f64,
    /// By user.
    pub user: Vec<f64>,
    /// By item.
    pub item: Vec<f64>,
}

/// Finds the biases.
pub fn fit(train: &Ratings, method: Method) -> Biases {
    let mut biases =
        Biases { mean: train.mean, user: vec![0.0; train.users.len()], item: vec![0.0; train.items.len()] };
    match method {
        Method::Als { n_epochs, reg_u, reg_i } => (0..n_epochs).for_each(|_| biases.alternate(train, reg_u, reg_i)),
        Method::Sgd { n_epochs, reg, learning_rate } => {
            (0..n_epochs).for_each(|_| biases.descend(train, reg, learning_rate))
        }
    }
    biases
}

impl Biases {
    fn alternate(&mut self, train: &Ratings, reg_u: f64, reg_i: f64) {
        for (bias, ratings) in self.item.iter_mut().zip(train.by_item.iter()) {
            let off: f64 = ratings.iter().map(|&(user, r)| f64::from(r) - self.mean - self.user[user as usize]).sum();
            *bias = off / (reg_i + ratings.len() as f64);
        }
        for (bias, ratings) in self.user.iter_mut().zip(train.by_user.iter()) {
            let off: f64 = ratings.iter().map(|&(item, r)| f64::from(r) - self.mean - self.item[item as usize]).sum();
            *bias = off / (reg_u + ratings.len() as f64);
        }
    }

    fn descend(&mut self, train: &Ratings, reg: f64, lr: f64) {
        for (user, ratings) in self.user.iter_mut().zip(train.by_user.iter()) {
            for &(item, r) in ratings {
                let item = &mut self.item[item as usize];
                let error = f64::from(r) - (self.mean + *user + *item);
                *user += lr * (error - reg * *user);
                *item += lr * (error - reg * *item);
            }
        }
    }
}

impl Rating for Biases {
    fn estimate(&self, user: Option<usize>, item: Option<usize>) -> Option<f64> {
        Some(self.mean + user.map_or(0.0, |u| self.user[u]) + item.map_or(0.0, |i| self.item[i]))
    }

    fn tensors(&self) -> Vec<Tensor> {
        vec![Tensor::f64("bu", vec![self.user.len()], &self.user), Tensor::f64("bi", vec![self.item.len()], &self.item)]
    }
}
