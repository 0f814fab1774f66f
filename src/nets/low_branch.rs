//! The decoder's branch to the lowest values of a frame.
//!
//! Below 1.5 kHz the partials of a chord lie closer than the window tells apart. Levels beat there, and what they say of
//! pitch is a matter of seconds. So the decoder may have a branch of its own from the latents to the lowest values, at the
//! latents' rate, which is added to what the others give.

use super::codec::CodecConfig;
use super::conv_block::{Block, KERNEL, blocks};
use super::layers::{EPS, Linear};
use crate::ops::{Array, Scope};
use candle_core::{Result, Tensor};
use serde::{Deserialize, Serialize};

/// Hyper-parameters of the decoder's branch to the lowest values of a frame.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LowBranchConfig {
    /// How many values.
    pub values: usize,
    /// Width of its layers.
    pub width: usize,
    /// Width of the hidden layers in its blocks.
    pub hidden: usize,
    /// Its blocks.
    pub blocks: usize,
}

impl LowBranchConfig {
    /// How many latent frames before a latent frame it looks at.
    pub fn reach(&self) -> usize {
        (KERNEL - 1) * self.blocks
    }
}

impl Default for LowBranchConfig {
    /// Up to 1.5 kHz, with a view of 1.4 s.
    fn default() -> Self {
        Self { values: 64, width: 320, hidden: 640, blocks: 4 }
    }
}

/// Latents to the lowest values of the frames; causal, as the decoder is.
pub(super) struct LowBranch {
    /// Of a latent frame: spectrogram frames, and all their values.
    frames: usize,
    frame_values: usize,
    config: LowBranchConfig,
    input: Linear,
    blocks: Vec<Block>,
    output: Linear,
}

impl LowBranch {
    /// Builds it from the parameters at `scope`. New ones do next to nothing.
    pub(super) fn new(codec: &CodecConfig, config: &LowBranchConfig, scope: &mut Scope<'_>) -> Result<Self> {
        let (c, frames) = (config.clone(), codec.frames_per_latent);
        Ok(Self {
            frames,
            frame_values: codec.frame_values,
            input: Linear::new(&mut scope.at("input"), codec.latent_channels, c.width, 1.0)?,
            blocks: blocks(scope, "block", c.blocks, c.width, c.hidden)?,
            output: Linear::new(&mut scope.at("output"), c.width, frames * c.values, 0.01)?,
            config: c,
        })
    }

    /// Widths of the inputs of its blocks.
    pub(super) fn widths(&self) -> impl Iterator<Item = usize> {
        std::iter::repeat_n(self.config.width, self.config.blocks)
    }

    /// Latents (B, T, C) to what is to be added to the frames, (B, F, frame_values), F being so many for each latent frame;
    /// `past(i, x)` gives the inputs of block i before x.
    pub(super) fn forward<A: Array>(&self, latents: &A, mut past: impl FnMut(usize, &A) -> Result<A>) -> Result<A> {
        let (batch, count, _) = latents.value().dims3()?;
        let mut x = self.input.forward(latents)?;
        for (i, block) in self.blocks.iter().enumerate() {
            x = block.forward(&x, &A::cat(&[&past(i, &x)?, &x], 1)?)?;
        }
        let x = self.output.forward(&x.rms_norm(EPS)?)?;
        let (frames, values) = (count * self.frames, self.config.values);
        let (dtype, device) = (x.value().dtype(), x.value().device());
        let others = Tensor::zeros((batch, frames, self.frame_values - values), dtype, device)?;
        A::cat(&[&x.reshape(&[batch, frames, values])?, &A::constant(&others)], 2)
    }
}
