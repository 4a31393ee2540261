//! AdamW over one flat buffer (Loshchilov and Hutter 2019, algorithm 2; torch's `AdamW` with its defaults' order of
//! operations: decay first, epsilon outside the bias-corrected root).

use tch::Tensor;

use crate::OptimizerConfig;

/// The optimiser's memory.
pub(crate) struct AdamW {
    pub(crate) config: OptimizerConfig,
    /// First moment, `[parameters]` in f32.
    pub(crate) m: Tensor,
    /// Second moment.
    pub(crate) v: Tensor,
}

impl AdamW {
    pub(crate) fn new(config: OptimizerConfig, flat: &Tensor) -> AdamW {
        AdamW { config, m: flat.zeros_like(), v: flat.zeros_like() }
    }

    /// Changes `flat` by `gradient`; `step` counts from 1, parameters from `b_start` on are `B`s.
    pub(crate) fn update(&mut self, flat: &Tensor, b_start: i64, gradient: &Tensor, lr: f64, step: u64) {
        let OptimizerConfig { betas: (beta1, beta2), eps, .. } = self.config;
        let _ = self.m.g_mul_scalar_(beta1).g_add_(&(gradient * (1.0 - beta1)));
        let _ = self.v.g_mul_scalar_(beta2).g_add_(&(gradient * gradient * (1.0 - beta2)));
        let (left1, left2) = (1.0 - beta1.powf(step as f64), 1.0 - beta2.powf(step as f64));
        let direction = (&self.m / left1) / ((&self.v / left2).sqrt() + eps);
        let end = flat.size()[0];
        self.descend(&flat.narrow(0, 0, b_start), &direction.narrow(0, 0, b_start), lr);
        let (b, b_direction) = (flat.narrow(0, b_start, end - b_start), direction.narrow(0, b_start, end - b_start));
        self.descend(&b, &b_direction, lr * self.config.b_lr_ratio);
    }

    fn descend(&self, parameters: &Tensor, direction: &Tensor, lr: f64) {
        let mut parameters = parameters.shallow_clone();
        let _ = parameters.g_mul_scalar_(1.0 - lr * self.config.weight_decay).g_sub_(&(direction * lr));
    }
}
