//! Residual blocks, and what halves and doubles an image between levels.

use super::super::folder::UNetConfig;
use super::super::layers::{Conv, GroupNorm, Linear};
use super::super::weights::Scope;
use crate::ops::{Groups, Taps};
use candle_core::{Result, Tensor};

/// Two convolutions, with the embedding of time and guidance between them.
#[derive(Debug)]
pub struct Resnet {
    norm1: GroupNorm,
    conv1: Conv,
    embedding: Linear,
    norm2: GroupNorm,
    conv2: Conv,
    shortcut: Option<Linear>,
}

impl Resnet {
    /// From `inputs` to `outputs` channels, with an embedding of `width` numbers.
    pub fn new(
        scope: &Scope<'_>,
        config: &UNetConfig,
        (inputs, outputs): (usize, usize),
        width: usize,
    ) -> Result<Self> {
        let groups = Groups { count: config.norm_num_groups, eps: config.norm_eps, silu: true };
        let taps = Taps::same((3, 3), 1);
        let shortcut = (inputs != outputs).then(|| Conv::pointwise(&scope.at("conv_shortcut"), inputs, outputs));
        Ok(Self {
            norm1: GroupNorm::new(&scope.at("norm1"), inputs, groups)?,
            conv1: Conv::new(&scope.at("conv1"), inputs, outputs, taps)?,
            embedding: Linear::new(&scope.at("time_emb_proj"), width, outputs)?,
            norm2: GroupNorm::new(&scope.at("norm2"), outputs, groups)?,
            conv2: Conv::new(&scope.at("conv2"), outputs, outputs, taps)?,
            shortcut: shortcut.transpose()?,
        })
    }

    /// x (B, H, W, I), embedding (B, width) behind its SiLU: (B, H, W, O).
    pub fn forward(&self, x: &Tensor, embedding: &Tensor) -> Result<Tensor> {
        let embedding = self.embedding.forward(embedding)?.unsqueeze(1)?.unsqueeze(1)?;
        let y = self.conv1.forward(&self.norm1.forward(x)?)?.broadcast_add(&embedding)?;
        let y = self.conv2.forward(&self.norm2.forward(&y)?)?;
        match &self.shortcut {
            Some(shortcut) => shortcut.forward(x)? + y,
            None => x + y,
        }
    }
}

/// The convolution that halves rows and columns.
pub fn downsampler(scope: &Scope<'_>, channels: usize) -> Result<Conv> {
    let taps = Taps { stride: 2, ..Taps::same((3, 3), 1) };
    Conv::new(&scope.at("downsamplers.0.conv"), channels, channels, taps)
}

/// Doubles rows and columns, each value to its four places; a convolution follows.
#[derive(Debug)]
pub struct Upsampler(Conv);

impl Upsampler {
    /// Of this many channels.
    pub fn new(scope: &Scope<'_>, channels: usize) -> Result<Self> {
        Conv::new(&scope.at("upsamplers.0.conv"), channels, channels, Taps::same((3, 3), 1)).map(Self)
    }

    /// (B, H, W, C) to (B, 2 H, 2 W, C).
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let (batch, height, width, channels) = x.dims4()?;
        let wide = Tensor::stack(&[x, x], 3)?.reshape((batch, height, 2 * width * channels))?;
        let large = Tensor::stack(&[&wide, &wide], 2)?.reshape((batch, 2 * height, 2 * width, channels))?;
        self.0.forward(&large)
    }
}
