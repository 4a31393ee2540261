//! SVD and PMF: matrix factorisation by stochastic gradient descent, in Surprise's order of visits and updates.
//!
//! `r = mu + b_u + b_i + q_i . p_u` (Koren, Bell and Volinsky 2009); without biases it is PMF (Salakhutdinov and Mnih 2007),
//! which says nothing about an unknown user or item. Users in order, each user's ratings in training order, no shuffling;
//! biases before factors, as in Surprise's `matrix_factorization.pyx`. SGD is sequential, so a fit uses one thread; the
//! inner loops run over rows padded with zeros to whole [`LANES`], and sums keep one partial per lane: the same bits with
//! narrow and wide registers, hence the same result on machines with and without AVX2.

use std::ops::{Add, AddAssign, Mul, Sub};

use watershed_engine::StageError;

use super::model::{Rating, Tensor, Tick};
use super::ratings::Ratings;
use crate::seeded::SplitMix;

/// Partial sums of a dot product; rows of factors are padded to a multiple.
const LANES: usize = 16;

/// A step size or a penalty for each group of parameters.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PerGroup {
    /// User biases.
    pub bu: f64,
    /// Item biases.
    pub bi: f64,
    /// User factors.
    pub pu: f64,
    /// Item factors.
    pub qi: f64,
}

/// Knobs of the factorisation, in Surprise's names.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Options {
    /// Factors of a user and of an item.
    pub n_factors: usize,
    /// Passes over the ratings.
    pub n_epochs: usize,
    /// Whether there are a mean and biases.
    pub biased: bool,
    /// Mean of the first factors.
    pub init_mean: f64,
    /// Standard deviation of the first factors.
    pub init_std_dev: f64,
    /// Step sizes.
    pub lr: PerGroup,
    /// Penalties.
    pub reg: PerGroup,
    /// Seed of the first factors.
    pub seed: u64,
}

/// A number that the kernel can compute with.
pub trait Real:
    Copy + Send + Sync + Default + Add<Output = Self> + Sub<Output = Self> + Mul<Output = Self> + AddAssign
{
    /// Rounds from double precision.
    fn from_f64(value: f64) -> Self;
    /// Widens to double precision.
    fn to_f64(self) -> f64;
}

impl Real for f32 {
    fn from_f64(value: f64) -> f32 {
        value as f32
    }
    fn to_f64(self) -> f64 {
        f64::from(self)
    }
}

impl Real for f64 {
    fn from_f64(value: f64) -> f64 {
        value
    }
    fn to_f64(self) -> f64 {
        self
    }
}

struct Svd<T> {
    biased: bool,
    mean: T,
    n_factors: usize,
    width: usize,
    bu: Vec<T>,
    bi: Vec<T>,
    pu: Vec<T>,
    qi: Vec<T>,
}

/// Learns biases and factors in the precision `T`.
///
/// # Errors
/// When `tick` ends the fit, or the numbers overflow because a step is too long.
pub fn fit<T: Real>(train: &Ratings, options: &Options, tick: Tick) -> Result<impl Rating + use<T>, StageError> {
    let mut model = Svd::<T>::start(train, options);
    for epoch in 0..options.n_epochs {
        model.epoch(train, options);
        tick(epoch + 1, options.n_epochs)?;
    }
    if !model.pu.iter().chain(&model.qi).chain(&model.bu).chain(&model.bi).all(|v| v.to_f64().is_finite()) {
        return Err(StageError::failed(
            "the factors grew beyond all bounds: choose a smaller `lr_all` or a larger `reg_all`",
        ));
    }
    Ok(model)
}

impl<T: Real> Svd<T> {
    fn start(train: &Ratings, options: &Options) -> Svd<T> {
        let width = options.n_factors.next_multiple_of(LANES);
        Svd {
            biased: options.biased,
            mean: T::from_f64(if options.biased { train.mean } else { 0.0 }),
            n_factors: options.n_factors,
            width,
            bu: vec![T::default(); train.users.len()],
            bi: vec![T::default(); train.items.len()],
            pu: factors(train.users.len(), width, options, "svd.pu"),
            qi: factors(train.items.len(), width, options, "svd.qi"),
        }
    }

    /// Visits every rating once, on the widest registers the machine has.
    fn epoch(&mut self, train: &Ratings, options: &Options) {
        #[cfg(target_arch = "x86_64")]
        if is_x86_feature_detected!("avx2") {
            // SAFETY: the line above saw that the processor has AVX2.
            return unsafe { self.epoch_avx2(train, options) };
        }
        self.visit(train, options);
    }

    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx2")]
    fn epoch_avx2(&mut self, train: &Ratings, options: &Options) {
        self.visit(train, options);
    }

    #[inline(always)]
    fn visit(&mut self, train: &Ratings, options: &Options) {
        let step = |lr: f64, reg: f64| Step { lr: T::from_f64(lr), reg: T::from_f64(reg) };
        let (lr, reg) = (&options.lr, &options.reg);
        let (on_bu, on_bi) = (step(lr.bu, reg.bu), step(lr.bi, reg.bi));
        let (on_pu, on_qi) = (step(lr.pu, reg.pu), step(lr.qi, reg.qi));
        for (user, ratings) in train.by_user.iter().enumerate() {
            let p = &mut self.pu[user * self.width..][..self.width];
            let bu = &mut self.bu[user];
            for &(item, rating) in ratings {
                let q = &mut self.qi[item as usize * self.width..][..self.width];
                let bi = &mut self.bi[item as usize];
                let error = T::from_f64(f64::from(rating)) - (self.mean + *bu + *bi + dot(p, q));
                if self.biased {
                    *bu += on_bu.move_by(error, *bu);
                    *bi += on_bi.move_by(error, *bi);
                }
                for (p, q) in p.iter_mut().zip(q) {
                    let (was_p, was_q) = (*p, *q);
                    *p += on_pu.move_by(error * was_q, was_p);
                    *q += on_qi.move_by(error * was_p, was_q);
                }
            }
        }
    }
}

/// Draws normal factors row by row; the padding stays zero, which every update keeps.
fn factors<T: Real>(rows: usize, width: usize, options: &Options, name: &str) -> Vec<T> {
    let mut random = SplitMix::new(options.seed, name);
    let mut values = vec![T::default(); rows * width];
    for row in values.chunks_exact_mut(width.max(1)) {
        for value in &mut row[..options.n_factors] {
            let noise = if options.init_std_dev == 0.0 { 0.0 } else { options.init_std_dev * random.normal() };
            *value = T::from_f64(options.init_mean + noise);
        }
    }
    values
}

/// One gradient step with its penalty.
#[derive(Clone, Copy)]
struct Step<T> {
    lr: T,
    reg: T,
}

impl<T: Real> Step<T> {
    #[inline(always)]
    fn move_by(self, gradient: T, value: T) -> T {
        self.lr * (gradient - self.reg * value)
    }
}

/// Returns the inner product of two rows whose length is a multiple of [`LANES`].
///
/// The lanes are added pairwise: a shorter chain of dependent additions, 13 % of a fit on MovieLens 100k.
#[inline(always)]
fn dot<T: Real>(a: &[T], b: &[T]) -> T {
    let mut lanes = [T::default(); LANES];
    for (a, b) in a.as_chunks::<LANES>().0.iter().zip(b.as_chunks::<LANES>().0) {
        for lane in 0..LANES {
            lanes[lane] += a[lane] * b[lane];
        }
    }
    let mut half = LANES / 2;
    while half > 0 {
        for lane in 0..half {
            let other = lanes[lane + half];
            lanes[lane] += other;
        }
        half /= 2;
    }
    lanes[0]
}

impl<T: Real> Rating for Svd<T> {
    fn estimate(&self, user: Option<usize>, item: Option<usize>) -> Option<f64> {
        let product = match (user, item) {
            (Some(u), Some(i)) => {
                dot(&self.pu[u * self.width..][..self.width], &self.qi[i * self.width..][..self.width])
            }
            _ if !self.biased => return None,
            _ => T::default(),
        };
        let (bu, bi) = (user.map_or(T::default(), |u| self.bu[u]), item.map_or(T::default(), |i| self.bi[i]));
        Some((self.mean + bu + bi + product).to_f64())
    }

    fn tensors(&self) -> Vec<Tensor> {
        let narrow = |values: &[T]| -> Vec<f32> { values.iter().map(|v| v.to_f64() as f32).collect() };
        let rows = |values: &[T]| -> Vec<f32> {
            values.chunks_exact(self.width.max(1)).flat_map(|row| narrow(&row[..self.n_factors])).collect()
        };
        vec![
            Tensor::f32("bu", vec![self.bu.len()], narrow(&self.bu)),
            Tensor::f32("bi", vec![self.bi.len()], narrow(&self.bi)),
            Tensor::f32("pu", vec![self.bu.len(), self.n_factors], rows(&self.pu)),
            Tensor::f32("qi", vec![self.bi.len(), self.n_factors], rows(&self.qi)),
        ]
    }
}
