//! HiFi-GAN as in transformers' `SpeechT5HifiGan`: log-mel spectrograms to samples.

use super::folder::VocoderConfig;
use super::layers::Conv;
use super::weights::{Scope, Weights};
use crate::ops::{self, Taps};
use candle_core::{DType, Device, Result, Tensor, bail};

/// The slope of the last rectifier, which is not the configured one.
const LAST_SLOPE: f64 = 0.01;

/// The network.
#[derive(Debug)]
pub struct HifiGan {
    /// Mean and scale of the bands, if spectrograms are normalised first.
    normal: Option<(Tensor, Tensor)>,
    pre: Conv,
    stages: Vec<Stage>,
    post: Conv,
    slope: f64,
    hop: usize,
    dtype: DType,
    device: Device,
}

/// An upsampling, and the mean of residual blocks behind it.
#[derive(Debug)]
struct Stage {
    upsampling: Transposed,
    blocks: Vec<Residual>,
}

impl HifiGan {
    /// Reads the network from its file.
    ///
    /// # Errors
    /// When a tensor is missing or of another shape or type; the error names it.
    pub fn new(weights: &Weights, config: &VocoderConfig, dtype: DType, device: &Device) -> Result<Self> {
        let (scope, bands, first) = (weights.scope(""), config.model_in_dim, config.upsample_initial_channel);
        let kinds = config.resblock_kernel_sizes.iter().zip(&config.resblock_dilation_sizes);
        let stage = |(i, (&rate, &kernel)): (usize, (&usize, &usize))| {
            let (inputs, channels) = (first >> i, first >> (i + 1));
            let blocks = kinds.clone().enumerate().map(|(j, (&kernel, dilations))| {
                let scope = scope.at("resblocks").at(i * config.resblock_kernel_sizes.len() + j);
                Residual::new(&scope, channels, kernel, dilations)
            });
            Ok(Stage {
                upsampling: Transposed::new(&scope.at("upsampler").at(i), (inputs, channels), rate, kernel)?,
                blocks: blocks.collect::<Result<_>>()?,
            })
        };
        let rates = config.upsample_rates.iter().zip(&config.upsample_kernel_sizes);
        let normal = || Ok::<_, candle_core::Error>((scope.get("mean", &[bands])?, scope.get("scale", &[bands])?));
        Ok(Self {
            normal: config.normalize_before.then(normal).transpose()?,
            pre: Conv::new(&scope.at("conv_pre"), bands, first, Taps::same((7, 1), 1))?,
            stages: rates.enumerate().map(stage).collect::<Result<_>>()?,
            post: Conv::new(&scope.at("conv_post"), first >> config.upsample_rates.len(), 1, Taps::same((7, 1), 1))?,
            slope: config.leaky_relu_slope,
            hop: config.hop(),
            dtype,
            device: device.clone(),
        })
    }

    /// Samples of a spectrogram frame.
    pub fn hop(&self) -> usize {
        self.hop
    }

    /// The sound of a spectrogram (frames, bands): `frames` [`hop`](HifiGan::hop)s and, with some kernels, a few samples
    /// more.
    pub fn forward(&self, spectrogram: &Tensor) -> Result<Vec<f32>> {
        let mut x = spectrogram.to_device(&self.device)?.to_dtype(self.dtype)?;
        if let Some((mean, scale)) = &self.normal {
            x = x.broadcast_sub(mean)?.broadcast_div(scale)?;
        }
        let mut x = self.pre.forward(&x.unsqueeze(0)?.unsqueeze(2)?)?;
        for stage in &self.stages {
            x = stage.upsampling.forward(&leaky_relu(&x, self.slope)?)?;
            let mut sum: Option<Tensor> = None;
            for block in &stage.blocks {
                let y = block.forward(&x, self.slope)?;
                sum = Some(match sum {
                    Some(sum) => (sum + y)?,
                    None => y,
                });
            }
            let Some(sum) = sum else { bail!("a stage without blocks") };
            x = (sum / stage.blocks.len() as f64)?;
        }
        let samples = self.post.forward(&leaky_relu(&x, LAST_SLOPE)?)?;
        samples.to_dtype(DType::F32)?.tanh()?.flatten_all()?.to_vec1()
    }
}

/// Dilated convolutions, each pair added to its input.
#[derive(Debug)]
struct Residual(Vec<(Conv, Conv)>);

impl Residual {
    fn new(scope: &Scope<'_>, channels: usize, kernel: usize, dilations: &[usize]) -> Result<Self> {
        let conv = |name: &str, i: usize, dilation: usize| {
            Conv::new(&scope.at(name).at(i), channels, channels, Taps::same((kernel, 1), dilation))
        };
        let pair = |(i, &dilation): (usize, &usize)| Ok((conv("convs1", i, dilation)?, conv("convs2", i, 1)?));
        dilations.iter().enumerate().map(pair).collect::<Result<_>>().map(Self)
    }

    fn forward(&self, x: &Tensor, slope: f64) -> Result<Tensor> {
        let mut x = x.clone();
        for (first, second) in &self.0 {
            let y = first.forward(&leaky_relu(&x, slope)?)?;
            x = (second.forward(&leaky_relu(&y, slope)?)? + x)?;
        }
        Ok(x)
    }
}

/// A transposed convolution: each input adds its kernel at its place. One product gives all kernels; those of inputs a
/// stride apart do not overlap, so that a kernel of m strides takes m sums.
#[derive(Debug)]
struct Transposed {
    /// (I, m stride O), zeros behind the kernel's end.
    weight: Tensor,
    bias: Tensor,
    stride: usize,
    kernel: usize,
}

impl Transposed {
    fn new(scope: &Scope<'_>, (inputs, outputs): (usize, usize), stride: usize, kernel: usize) -> Result<Self> {
        let strides = kernel.div_ceil(stride);
        let weight = scope.weight(&[inputs, outputs, kernel])?.transpose(1, 2)?.contiguous()?;
        let weight = weight.pad_with_zeros(1, 0, strides * stride - kernel)?;
        let weight = weight.reshape((inputs, strides * stride * outputs))?;
        let bias = scope.get("bias", &[outputs])?;
        Ok(Self { weight: scope.to_device(&weight)?, bias, stride, kernel })
    }

    /// (1, T, 1, I) to (1, (T - 1) stride + kernel - 2 ((kernel - stride) / 2), 1, O).
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let (_, time, _, inputs) = x.dims4()?;
        let (outputs, strides) = (self.bias.dim(0)?, self.kernel.div_ceil(self.stride));
        let kernels = ops::linear(&x.reshape((time, inputs))?, &self.weight, None)?;
        let mut sum: Option<Tensor> = None;
        for i in 0..strides {
            let width = self.stride * outputs;
            let part = kernels.narrow(1, i * width, width)?.contiguous()?.reshape((time * self.stride, outputs))?;
            let part = part.pad_with_zeros(0, i * self.stride, (strides - 1 - i) * self.stride)?;
            sum = Some(match sum {
                Some(sum) => (sum + part)?,
                None => part,
            });
        }
        let Some(sum) = sum else { bail!("a kernel without taps") };
        let padding = (self.kernel - self.stride) / 2;
        let length = (time - 1) * self.stride + self.kernel - 2 * padding;
        sum.narrow(0, padding, length)?.broadcast_add(&self.bias)?.reshape((1, length, 1, outputs))
    }
}

fn leaky_relu(x: &Tensor, slope: f64) -> Result<Tensor> {
    x.maximum(&(x * slope)?)
}
