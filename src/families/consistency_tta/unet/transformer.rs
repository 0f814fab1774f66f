//! Attention over an image's places, and from them to the caption's tokens.

use super::super::folder::UNetConfig;
use super::super::layers::{Conv, GroupNorm, Linear, layer_norm};
use super::super::weights::Scope;
use super::Context;
use crate::ops::{self, Groups};
use candle_core::{D, DType, Module, Result, Tensor};
use candle_nn::LayerNorm;

/// Scores that are held at once: all of a long image's would be hundreds of megabytes.
const SCORES: usize = 8 << 20;

/// A transformer block between two projections, added to its input.
#[derive(Debug)]
pub struct Transformer {
    norm: GroupNorm,
    proj_in: Linear,
    norm1: LayerNorm,
    places: Attention,
    norm2: LayerNorm,
    tokens: Attention,
    norm3: LayerNorm,
    gated: Linear,
    shrink: Linear,
    proj_out: Linear,
}

impl Transformer {
    /// Of this many channels and heads.
    pub fn new(scope: &Scope<'_>, config: &UNetConfig, channels: usize, heads: usize) -> Result<Self> {
        // Not always `channels`: 256 make five heads of 51.
        let width = channels / heads * heads;
        let project = |name: &str, inputs: usize, outputs: usize| match config.use_linear_projection {
            true => Linear::new(&scope.at(name), inputs, outputs),
            false => Conv::pointwise(&scope.at(name), inputs, outputs),
        };
        let block = scope.at("transformer_blocks.0");
        Ok(Self {
            norm: GroupNorm::new(
                &scope.at("norm"),
                channels,
                Groups { count: config.norm_num_groups, eps: 1e-6, silu: false },
            )?,
            proj_in: project("proj_in", channels, width)?,
            norm1: layer_norm(&block.at("norm1"), width)?,
            places: Attention::new(&block.at("attn1"), width, width, heads)?,
            norm2: layer_norm(&block.at("norm2"), width)?,
            tokens: Attention::new(&block.at("attn2"), width, config.cross_attention_dim, heads)?,
            norm3: layer_norm(&block.at("norm3"), width)?,
            gated: Linear::new(&block.at("ff.net.0.proj"), width, 8 * width)?,
            shrink: Linear::new(&block.at("ff.net.2"), 4 * width, width)?,
            proj_out: project("proj_out", width, channels)?,
        })
    }

    /// x (1, H, W, C), with a caption.
    pub fn forward(&self, x: &Tensor, context: &Context) -> Result<Tensor> {
        let (_, height, width, channels) = x.dims4()?;
        let y = self.norm.forward(x)?.reshape((height * width, channels))?;
        let y = self.proj_in.forward(&y)?;
        let normed = self.norm1.forward(&y)?;
        let y = (self.places.forward(&normed, &normed, None)? + y)?;
        let y = (self.tokens.forward(&self.norm2.forward(&y)?, &context.states, Some(&context.bias))? + y)?;
        let halves = self.gated.forward(&self.norm3.forward(&y)?)?.chunk(2, D::Minus1)?;
        let gated = (&halves[0] * halves[1].gelu_erf()?)?;
        let y = (self.shrink.forward(&gated)? + y)?;
        self.proj_out.forward(&y)?.reshape(x.shape())? + x
    }
}

/// Multi-head attention.
#[derive(Debug)]
struct Attention {
    query: Linear,
    key: Linear,
    value: Linear,
    out: Linear,
    heads: usize,
}

impl Attention {
    fn new(scope: &Scope<'_>, width: usize, context: usize, heads: usize) -> Result<Self> {
        Ok(Self {
            query: Linear::without_bias(&scope.at("to_q"), width, width)?,
            key: Linear::without_bias(&scope.at("to_k"), context, width)?,
            value: Linear::without_bias(&scope.at("to_v"), context, width)?,
            out: Linear::new(&scope.at("to_out.0"), width, width)?,
            heads,
        })
    }

    /// x (N, C) over context (M, K), with a bias (M) on the scores: (N, C).
    fn forward(&self, x: &Tensor, context: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
        let (queries, width) = x.dims2()?;
        let (keys, depth) = (context.dim(0)?, width / self.heads);
        let headed = |x: Tensor| x.reshape(((), self.heads, depth))?.transpose(0, 1)?.contiguous();
        let query = headed(self.query.forward(x)?)?;
        let key = headed(self.key.forward(context)?)?.t()?.contiguous()?;
        let value = headed(self.value.forward(context)?)?;
        let step = (SCORES / (self.heads * keys)).max(1);
        let parts = (0..queries).step_by(step).map(|first| {
            let part = query.narrow(1, first, step.min(queries - first))?.contiguous()?;
            let scores = part.matmul(&key)?.to_dtype(DType::F32)?;
            let shares = ops::softmax(&scores, (depth as f64).sqrt().recip(), bias)?;
            shares.to_dtype(value.dtype())?.matmul(&value)
        });
        let parts = parts.collect::<Result<Vec<_>>>()?;
        let joined = Tensor::cat(&parts, 1)?.transpose(0, 1)?.reshape((queries, width))?;
        self.out.forward(&joined)
    }
}
