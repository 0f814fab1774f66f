//! The consistency U-Net: diffusers' `UNet2DConditionModel` with the guidance scale as a further input, channels-last.
//!
//! Guidance is embedded as Fourier features and added to the embedding of time for all blocks, as in the authors' code,
//! which the weights were trained with. (The community's diffusers pipeline leaves it out of the middle block.)

mod resnet;
mod transformer;

use super::folder::UNetConfig;
use super::layers::{Conv, GroupNorm, Linear};
use super::weights::{Scope, Weights};
use crate::ops::{Groups, Taps};
use candle_core::{DType, Device, Result, Tensor, bail};
use resnet::{Resnet, Upsampler, downsampler};
use transformer::Transformer;

/// A caption, or several: what attention looks at.
#[derive(Clone, Debug)]
pub struct Context {
    /// States of the tokens, (tokens, width).
    pub states: Tensor,
    /// Logarithm of the weight of each token, (tokens).
    pub bias: Tensor,
}

/// The network.
#[derive(Debug)]
pub struct UNet {
    time: Embedding,
    guidance: Embedding,
    /// Width of the time's sinusoids.
    sinusoids: usize,
    /// Frequencies of the guidance's.
    frequencies: Vec<f32>,
    conv_in: Conv,
    down: Vec<Down>,
    middle: (Resnet, Transformer, Resnet),
    up: Vec<Up>,
    norm_out: GroupNorm,
    conv_out: Conv,
    dtype: DType,
    device: Device,
}

impl UNet {
    /// Reads the network from its file.
    ///
    /// # Errors
    /// When a tensor is missing or of another shape or type; the error names it.
    pub fn new(weights: &Weights, config: &UNetConfig, dtype: DType, device: &Device) -> Result<Self> {
        let (scope, channels) = (weights.scope(""), &config.block_out_channels);
        let (finest, coarsest) = (channels[0], channels[config.levels() - 1]);
        let width = 4 * finest;
        let heads = config.attention_head_dim[config.levels() - 1];
        let resnet = |name: &str| Resnet::new(&scope.at(name), config, (coarsest, coarsest), width);
        let frequencies = weights.on_cpu("guidance_proj.weight", &[width / 2])?.to_dtype(DType::F32)?.to_vec1()?;
        let groups = Groups { count: config.norm_num_groups, eps: config.norm_eps, silu: true };
        Ok(Self {
            time: Embedding::new(&scope.at("time_embedding"), finest, width)?,
            guidance: Embedding::new(&scope.at("guidance_embedding"), width, width)?,
            sinusoids: finest,
            frequencies,
            conv_in: Conv::new(&scope.at("conv_in"), config.in_channels, finest, Taps::same((3, 3), 1))?,
            down: (0..config.levels()).map(|i| Down::new(&scope, config, i, width)).collect::<Result<_>>()?,
            middle: (
                resnet("mid_block.resnets.0")?,
                Transformer::new(&scope.at("mid_block.attentions.0"), config, coarsest, heads)?,
                resnet("mid_block.resnets.1")?,
            ),
            up: (0..config.levels()).map(|i| Up::new(&scope, config, i, width)).collect::<Result<_>>()?,
            norm_out: GroupNorm::new(&scope.at("conv_norm_out"), finest, groups)?,
            conv_out: Conv::new(&scope.at("conv_out"), finest, config.out_channels, Taps::same((3, 3), 1))?,
            dtype,
            device: device.clone(),
        })
    }

    /// The clean latents that `x` (1, rows, columns, C) at time `step` comes from, in f32; rows and columns are multiples of
    /// what the levels halve.
    pub fn forward(&self, x: &Tensor, step: f64, guidance: f64, context: &Context) -> Result<Tensor> {
        let halvings = 1 << (self.down.len() - 1);
        let (_, rows, columns, _) = x.dims4()?;
        if rows % halvings != 0 || columns % halvings != 0 {
            bail!("latents {:?} cannot be halved {} times", x.shape(), self.down.len() - 1);
        }
        let embedding = self.embedding(step, guidance)?;
        let context = Context { states: context.states.to_dtype(self.dtype)?, bias: context.bias.clone() };
        let mut x = self.conv_in.forward(&x.to_device(&self.device)?.to_dtype(self.dtype)?)?;
        let mut skips = vec![x.clone()];
        for level in &self.down {
            x = level.forward(x, &embedding, &context, &mut skips)?;
        }
        let (first, attention, second) = &self.middle;
        x = second.forward(&attention.forward(&first.forward(&x, &embedding)?, &context)?, &embedding)?;
        for level in &self.up {
            x = level.forward(x, &embedding, &context, &mut skips)?;
        }
        self.conv_out.forward(&self.norm_out.forward(&x)?)?.to_dtype(DType::F32)
    }

    /// What the residual blocks know of time and guidance, (1, width), behind its SiLU.
    fn embedding(&self, step: f64, guidance: f64) -> Result<Tensor> {
        let half = self.sinusoids / 2;
        let period = |i: usize| step * (-(10_000f64.ln()) * i as f64 / half as f64).exp();
        let time = waves((0..half).map(period));
        let turn = |&frequency: &f32| guidance * f64::from(frequency) * std::f64::consts::TAU;
        let guidance = waves(self.frequencies.iter().map(turn));
        let tensor = |values: Vec<f32>| {
            let width = values.len();
            Tensor::from_vec(values, (1, width), &self.device)?.to_dtype(self.dtype)
        };
        (self.time.forward(&tensor(time)?)? + self.guidance.forward(&tensor(guidance)?)?)?.silu()
    }
}

/// Cosines of angles, then their sines.
fn waves(angles: impl Iterator<Item = f64> + Clone) -> Vec<f32> {
    angles.clone().map(|a| a.cos() as f32).chain(angles.map(|a| a.sin() as f32)).collect()
}

/// Two linear layers on a number's waves.
#[derive(Debug)]
struct Embedding(Linear, Linear);

impl Embedding {
    fn new(scope: &Scope<'_>, waves: usize, width: usize) -> Result<Self> {
        Ok(Self(Linear::new(&scope.at("linear_1"), waves, width)?, Linear::new(&scope.at("linear_2"), width, width)?))
    }

    fn forward(&self, waves: &Tensor) -> Result<Tensor> {
        self.1.forward(&self.0.forward(waves)?.silu()?)
    }
}

/// A level on the way down. Everything it makes is kept for the way up.
#[derive(Debug)]
struct Down {
    blocks: Vec<(Resnet, Option<Transformer>)>,
    downsampler: Option<Conv>,
}

impl Down {
    fn new(scope: &Scope<'_>, config: &UNetConfig, i: usize, width: usize) -> Result<Self> {
        let scope = scope.at("down_blocks").at(i);
        let (before, channels) = (config.block_out_channels[i.saturating_sub(1)], config.block_out_channels[i]);
        let attends = UNetConfig::has_attention(&config.down_block_types, i);
        let block = |j: usize| {
            let inputs = if j == 0 { before } else { channels };
            let resnet = Resnet::new(&scope.at("resnets").at(j), config, (inputs, channels), width)?;
            let heads = config.attention_head_dim[i];
            let attention = attends.then(|| Transformer::new(&scope.at("attentions").at(j), config, channels, heads));
            Ok((resnet, attention.transpose()?))
        };
        Ok(Self {
            blocks: (0..config.layers_per_block).map(block).collect::<Result<_>>()?,
            downsampler: (i + 1 < config.levels()).then(|| downsampler(&scope, channels)).transpose()?,
        })
    }

    fn forward(&self, mut x: Tensor, embedding: &Tensor, context: &Context, skips: &mut Vec<Tensor>) -> Result<Tensor> {
        for block in &self.blocks {
            x = through(block, &x, embedding, context)?;
            skips.push(x.clone());
        }
        if let Some(downsampler) = &self.downsampler {
            x = downsampler.forward(&x)?;
            skips.push(x.clone());
        }
        Ok(x)
    }
}

/// A level on the way up. Each block takes one of the kept images, the latest first.
#[derive(Debug)]
struct Up {
    blocks: Vec<(Resnet, Option<Transformer>)>,
    upsampler: Option<Upsampler>,
}

impl Up {
    /// Level `i` from the coarsest.
    fn new(scope: &Scope<'_>, config: &UNetConfig, i: usize, width: usize) -> Result<Self> {
        let scope = scope.at("up_blocks").at(i);
        let level = config.levels() - 1 - i;
        let at = |level: usize| config.block_out_channels[level];
        let (before, channels) = (at((level + 1).min(config.levels() - 1)), at(level));
        let attends = UNetConfig::has_attention(&config.up_block_types, i);
        let block = |j: usize| {
            let skip = if j == config.layers_per_block { at(level.saturating_sub(1)) } else { channels };
            let inputs = if j == 0 { before } else { channels } + skip;
            let resnet = Resnet::new(&scope.at("resnets").at(j), config, (inputs, channels), width)?;
            let heads = config.attention_head_dim[level];
            let attention = attends.then(|| Transformer::new(&scope.at("attentions").at(j), config, channels, heads));
            Ok((resnet, attention.transpose()?))
        };
        Ok(Self {
            blocks: (0..=config.layers_per_block).map(block).collect::<Result<_>>()?,
            upsampler: (level > 0).then(|| Upsampler::new(&scope, channels)).transpose()?,
        })
    }

    fn forward(&self, mut x: Tensor, embedding: &Tensor, context: &Context, skips: &mut Vec<Tensor>) -> Result<Tensor> {
        for block in &self.blocks {
            let Some(skip) = skips.pop() else { bail!("more blocks on the way up than images from the way down") };
            x = through(block, &Tensor::cat(&[&x, &skip], 3)?, embedding, context)?;
        }
        self.upsampler.as_ref().map_or(Ok(x.clone()), |upsampler| upsampler.forward(&x))
    }
}

fn through(
    (resnet, attention): &(Resnet, Option<Transformer>),
    x: &Tensor,
    embedding: &Tensor,
    context: &Context,
) -> Result<Tensor> {
    let x = resnet.forward(x, embedding)?;
    attention.as_ref().map_or(Ok(x.clone()), |attention| attention.forward(&x, context))
}
