//! The layers that U-Net and vocoder share, channels-last: (B, H, W, C), or (B, T, 1, C) in one dimension.

use super::weights::Scope;
use crate::ops::{self, Groups, Taps};
use candle_core::{Result, Tensor};

/// Numbers of the patches that are multiplied at once: they and their results stay a small part of the memory.
const PATCHES: usize = 8 << 20;

/// `x W + b` over the last dimension.
#[derive(Clone, Debug)]
pub struct Linear {
    /// (I, O).
    weight: Tensor,
    bias: Option<Tensor>,
}

impl Linear {
    /// Reads `weight` (O, I) and `bias` (O).
    pub fn new(scope: &Scope<'_>, inputs: usize, outputs: usize) -> Result<Self> {
        let bias = Some(scope.get("bias", &[outputs])?);
        Ok(Self { bias, ..Self::without_bias(scope, inputs, outputs)? })
    }

    /// Reads `weight` (O, I).
    pub fn without_bias(scope: &Scope<'_>, inputs: usize, outputs: usize) -> Result<Self> {
        let weight = scope.to_device(&scope.on_cpu("weight", &[outputs, inputs])?.t()?)?;
        Ok(Self { weight, bias: None })
    }

    /// (..., I) to (..., O).
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        ops::linear(x, &self.weight, self.bias.as_ref())
    }
}

/// A convolution with zero padding.
#[derive(Clone, Debug)]
pub struct Conv {
    linear: Linear,
    taps: Taps,
}

impl Conv {
    /// Reads `weight` (O, I, kernel) and `bias` (O); a kernel of width 1 is one-dimensional in the file.
    pub fn new(scope: &Scope<'_>, inputs: usize, outputs: usize, taps: Taps) -> Result<Self> {
        let (high, wide) = taps.kernel;
        let weight = match wide {
            1 => scope.weight(&[outputs, inputs, high])?.unsqueeze(3)?,
            _ => scope.weight(&[outputs, inputs, high, wide])?,
        };
        let weight = weight.permute((2, 3, 1, 0))?.reshape((high * wide * inputs, outputs))?;
        let linear = Linear { weight: scope.to_device(&weight)?, bias: Some(scope.get("bias", &[outputs])?) };
        Ok(Self { linear, taps })
    }

    /// A 1 x 1 one in two dimensions.
    pub fn pointwise(scope: &Scope<'_>, inputs: usize, outputs: usize) -> Result<Linear> {
        let weight = scope.on_cpu("weight", &[outputs, inputs, 1, 1])?.reshape((outputs, inputs))?.t()?;
        Ok(Linear { weight: scope.to_device(&weight)?, bias: Some(scope.get("bias", &[outputs])?) })
    }

    /// (B, H, W, I) to (B, H', W', O).
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let (batch, height, width, channels) = x.dims4()?;
        let (rows, columns) = self.taps.result((height, width));
        let row = batch * columns * self.taps.kernel.0 * self.taps.kernel.1 * channels;
        let step = (PATCHES / row.max(1)).max(1);
        let parts = (0..rows).step_by(step).map(|first| {
            let patches = ops::patches(x, self.taps, first..(first + step).min(rows))?;
            self.linear.forward(&patches)
        });
        let mut parts = parts.collect::<Result<Vec<_>>>()?;
        match parts.pop() {
            Some(only) if parts.is_empty() => Ok(only),
            last => Tensor::cat(&parts.into_iter().chain(last).collect::<Vec<_>>(), 1),
        }
    }
}

/// Group normalisation.
#[derive(Clone, Debug)]
pub struct GroupNorm {
    weight: Tensor,
    bias: Tensor,
    groups: Groups,
}

impl GroupNorm {
    /// Reads `weight` and `bias` (C).
    pub fn new(scope: &Scope<'_>, channels: usize, groups: Groups) -> Result<Self> {
        Ok(Self { weight: scope.get("weight", &[channels])?, bias: scope.get("bias", &[channels])?, groups })
    }

    /// (B, H, W, C), normalised.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let (batch, height, width, channels) = x.dims4()?;
        let flat = x.reshape((batch, height * width, channels))?;
        ops::group_norm(&flat, &self.weight, &self.bias, self.groups)?.reshape(x.shape())
    }
}

/// Layer normalisation over the last dimension, with diffusers' usual epsilon.
pub fn layer_norm(scope: &Scope<'_>, channels: usize) -> Result<candle_nn::LayerNorm> {
    let (weight, bias) = (scope.get("weight", &[channels])?, scope.get("bias", &[channels])?);
    Ok(candle_nn::LayerNorm::new(weight, bias, 1e-5))
}
