//! The generator: the latent network F(x / sd, t; condition, context) of TrigFlow, a transformer over one chunk.
//!
//! It is the teacher while it is a diffusion model and the student once distilled; the student also reads the guidance
//! scale. What makes it fit for a continuous-time consistency model (arXiv 2410.11081, section 4.1): c_noise(t) = t,
//! time frequencies <= 1, normalised queries and keys, and the double norm, `rms(x) pnorm(scale) + pnorm(shift)`.
//!
//! The *context*, the clean latents before the chunk, has a path of its own: it attends only to itself and sees
//! neither t nor the condition. Its keys and values are computed once a chunk, serve every step and the null branch of
//! guidance, and carry no tangent.

use super::layers::{EPS, Linear, Mlp, head_norm};
use crate::ops::{Array, Init, Scope, map_each};
use candle_core::{DType, Result, Tensor, bail};
use serde::{Deserialize, Serialize};

/// Hyper-parameters of the generator.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GeneratorConfig {
    /// Channels of a latent frame.
    pub latent_channels: usize,
    /// Latent frames a chunk.
    pub chunk_frames: usize,
    /// Latent frames of context.
    pub context_frames: usize,
    /// Numbers of a condition that hold for the whole chunk, see [`crate::model::conditioning`].
    pub condition_width: usize,
    /// Width of the layer in which the parts of a condition meet, such as the words and the density that these words give
    /// another meaning; 0 for a generator in which they only add up.
    #[serde(default)]
    pub condition_hidden: usize,
    /// Numbers that every latent frame is told of the metre, see [`crate::model::metre`]; 0 for a generator that hears none.
    #[serde(default)]
    pub metre_width: usize,
    /// Width of the transformer.
    pub width: usize,
    /// Attention heads.
    pub heads: usize,
    /// Blocks over the chunk.
    pub blocks: usize,
    /// Blocks over the context.
    pub context_blocks: usize,
    /// Whether it reads the time to jump to, as a student distilled in segments does.
    #[serde(default)]
    pub segments: bool,
}

impl GeneratorConfig {
    /// All numbers of a chunk's condition: what holds for the whole of it, then the metre frame by frame.
    pub fn condition_numbers(&self) -> usize {
        self.condition_width + self.chunk_frames * self.metre_width
    }
}

/// A level of noise, pnorm's epsilon in the paper.
const PNORM_EPS: f64 = 1e-8;
/// Frequencies of the time and guidance embeddings.
const FREQUENCIES: usize = 64;

/// The generator.
pub struct Generator {
    config: GeneratorConfig,
    input: Linear,
    position: Tensor,
    condition: Linear,
    interplay: Option<(Linear, Linear)>,
    metre: Option<Linear>,
    time: ScalarEmbedding,
    guidance: ScalarEmbedding,
    end: Option<ScalarEmbedding>,
    context: ContextEncoder,
    blocks: Vec<Block>,
    modulation: Modulation,
    output: Linear,
    dtype: DType,
}

/// The context's keys and values in every block of the generator, (B, context_frames, width) each.
#[derive(Clone)]
pub struct ContextCache {
    layers: Vec<(Tensor, Tensor)>,
}

impl ContextCache {
    /// The same numbers without the graph that made them.
    pub fn detach(&self) -> Self {
        Self { layers: self.layers.iter().map(|(keys, values)| (keys.detach(), values.detach())).collect() }
    }
}

impl Generator {
    /// Builds it from the parameters at `scope`.
    pub fn new(config: &GeneratorConfig, scope: &mut Scope<'_>) -> Result<Self> {
        let c = config.clone();
        if c.heads == 0 || !c.width.is_multiple_of(c.heads) {
            bail!("generator: a width of {} does not split into {} heads", c.width, c.heads);
        }
        Ok(Self {
            input: Linear::new(&mut scope.at("input"), c.latent_channels, c.width, 1.0)?,
            position: scope.get("position", (c.chunk_frames, c.width), Init::Normal(0.3))?,
            condition: Linear::without_bias(&mut scope.at("condition"), c.condition_width, c.width, 1.0)?,
            // Zero at first, as the metre: a network that has learnt without can begin to use it.
            interplay: (c.condition_hidden > 0)
                .then(|| {
                    let mut scope = scope.at("interplay");
                    let hidden = Linear::new(&mut scope.at("hidden"), c.condition_width, c.condition_hidden, 1.0)?;
                    let out = Linear::without_bias(&mut scope.at("out"), c.condition_hidden, c.width, 0.0)?;
                    Ok::<_, candle_core::Error>((hidden, out))
                })
                .transpose()?,
            metre: (c.metre_width > 0)
                .then(|| Linear::without_bias(&mut scope.at("metre"), c.metre_width, c.width, 0.0))
                .transpose()?,
            time: ScalarEmbedding::new(&mut scope.at("time"), c.width, 1.0)?,
            // Zero at first: the teacher never hears of guidance, and the student begins as the teacher.
            guidance: ScalarEmbedding::new(&mut scope.at("guidance"), c.width, 0.0)?,
            end: c.segments.then(|| ScalarEmbedding::new(&mut scope.at("end"), c.width, 0.0)).transpose()?,
            context: ContextEncoder::new(&c, &mut scope.at("context"))?,
            blocks: (0..c.blocks).map(|i| Block::new(&c, &mut scope.at("blocks").at(i))).collect::<Result<_>>()?,
            modulation: Modulation::new(&mut scope.at("modulation"), c.width)?,
            output: Linear::new(&mut scope.at("output"), c.width, c.latent_channels, 0.0)?,
            dtype: scope.dtype(),
            config: c,
        })
    }

    /// Its hyper-parameters.
    pub fn config(&self) -> &GeneratorConfig {
        &self.config
    }

    /// Encodes contexts: latents (B, context_frames, C) in units of sd, `present` (B, context_frames, 1) with 0 where
    /// there is no frame (before the beginning of a stream) and 1 elsewhere, and `noise` (B, context_frames, 1), the
    /// share of noise mixed into each frame.
    pub fn encode_context(&self, latents: &Tensor, present: &Tensor, noise: &Tensor) -> Result<ContextCache> {
        let memory = self.context.forward(latents, present, noise)?;
        let layer = |block: &Block| {
            let keys = head_norm(&block.context_key.forward(&memory)?, self.config.heads)?;
            Ok((keys, block.context_value.forward(&memory)?))
        };
        // A device belongs to one thread.
        let layers: Vec<Result<_>> = if memory.device().is_cpu() {
            map_each(&self.blocks, layer)
        } else {
            self.blocks.iter().map(layer).collect()
        };
        Ok(ContextCache { layers: layers.into_iter().collect::<Result<_>>()? })
    }

    /// F(x / sd, t), shape of x.
    ///
    /// x is (B, chunk_frames, C), already divided by sd; t (B, 1) in radians; condition (B, condition_numbers), a row of
    /// zeros being the null condition; guidance (B, 1), for a student; `end` (B, 1), the time to jump to, for one
    /// distilled in segments. With weights in bf16 the rest is f32: the network rounds what it reads, but for the angles
    /// of its embeddings, and gives x's type back.
    pub fn forward<A: Array>(
        &self,
        x: &A,
        t: &A,
        condition: &Tensor,
        guidance: Option<&Tensor>,
        end: Option<&Tensor>,
        context: &ContextCache,
    ) -> Result<A> {
        let (batch, frames, _) = x.value().dims3()?;
        let width = self.config.width;
        let condition = condition.to_dtype(self.dtype)?;
        let lasting = condition.narrow(1, 0, self.config.condition_width)?.contiguous()?;
        let mut asked = self.condition.forward(&lasting)?;
        if let Some((hidden, out)) = &self.interplay {
            asked = out.forward_add(&hidden.forward_silu(&lasting)?, &asked)?;
        }
        let mut embedding = self.time.forward(t)?.add(&A::constant(&asked))?;
        if let Some(guidance) = guidance {
            embedding = embedding.add(&A::constant(&self.guidance.forward(guidance)?))?;
        }
        match (&self.end, end) {
            (Some(layer), Some(end)) => embedding = embedding.add(&A::constant(&layer.forward(end)?))?,
            (None, None) => {}
            (reads, _) => {
                bail!("this generator {} the time to jump to", if reads.is_some() { "needs" } else { "does not read" })
            }
        }
        let embedding = embedding.rms_norm(EPS)?.silu()?;

        let mut place = self.position.narrow(0, 0, frames)?.broadcast_as((batch, frames, width))?.contiguous()?;
        if let Some(layer) = &self.metre {
            let metre = condition.narrow(1, self.config.condition_width, frames * self.config.metre_width)?;
            let metre = metre.contiguous()?.reshape((batch, frames, self.config.metre_width))?;
            place = (place + layer.forward(&metre)?)?;
        }
        let mut h = self.input.forward(&x.to_dtype(self.dtype)?)?.add(&A::constant(&place))?;
        for (block, (keys, values)) in self.blocks.iter().zip(&context.layers) {
            h = block.forward(&h, &embedding, keys, values, self.config.heads)?;
        }
        self.output.forward(&self.modulation.forward(&h, &embedding)?)?.to_dtype(x.value().dtype())
    }
}

/// A scalar (B, 1) as sines and cosines of frequencies from 1 down to 1/10 000, then two layers.
struct ScalarEmbedding {
    /// In at least single precision: they are angles when multiplied.
    frequencies: Tensor,
    dtype: DType,
    hidden: Linear,
    out: Linear,
}

impl ScalarEmbedding {
    fn new(scope: &mut Scope<'_>, width: usize, gain: f64) -> Result<Self> {
        let frequencies: Vec<f64> = (0..FREQUENCIES).map(|k| 1e4f64.powf(-(k as f64) / FREQUENCIES as f64)).collect();
        let frequencies = Tensor::from_vec(frequencies, (1, FREQUENCIES), &candle_core::Device::Cpu)?;
        let angles = if scope.dtype() == DType::F64 { DType::F64 } else { DType::F32 };
        Ok(Self {
            frequencies: frequencies.to_dtype(angles)?.to_device(scope.device())?,
            dtype: scope.dtype(),
            hidden: Linear::new(&mut scope.at("hidden"), 2 * FREQUENCIES, width, 1.0)?,
            out: Linear::without_bias(&mut scope.at("out"), width, width, gain)?,
        })
    }

    fn forward<A: Array>(&self, scalar: &A) -> Result<A> {
        let angles = scalar.linear(&self.frequencies, None)?;
        let waves = A::cat(&[&angles.sin()?, &angles.cos()?], 1)?.to_dtype(self.dtype)?;
        self.out.forward(&self.hidden.forward_silu(&waves)?)
    }
}

/// The double norm: `rms(x) pnorm(scale) + pnorm(shift)` with scale and shift linear in the embedding.
struct Modulation {
    scale: Linear,
    shift: Linear,
}

impl Modulation {
    fn new(scope: &mut Scope<'_>, width: usize) -> Result<Self> {
        Ok(Self {
            scale: Linear::new(&mut scope.at("scale"), width, width, 1.0)?,
            shift: Linear::new(&mut scope.at("shift"), width, width, 1.0)?,
        })
    }

    fn forward<A: Array>(&self, x: &A, embedding: &A) -> Result<A> {
        let scale = self.scale.forward(embedding)?.rms_norm(PNORM_EPS)?;
        let shift = self.shift.forward(embedding)?.rms_norm(PNORM_EPS)?;
        x.norm_modulate(&scale, &shift, EPS)
    }
}

struct Block {
    attention: Modulation,
    query: Linear,
    key: Linear,
    value: Linear,
    context_key: Linear,
    context_value: Linear,
    out: Linear,
    feed_forward: Modulation,
    mlp: Mlp,
}

impl Block {
    fn new(config: &GeneratorConfig, scope: &mut Scope<'_>) -> Result<Self> {
        let width = config.width;
        let gain = 1.0 / (2.0 * config.blocks as f64).sqrt();
        let mut square = |name: &str, gain: f64| Linear::without_bias(&mut scope.at(name), width, width, gain);
        Ok(Self {
            query: square("query", 1.0)?,
            key: square("key", 1.0)?,
            value: square("value", 1.0)?,
            context_key: square("context_key", 1.0)?,
            context_value: square("context_value", 1.0)?,
            out: square("out", gain)?,
            attention: Modulation::new(&mut scope.at("attention"), width)?,
            feed_forward: Modulation::new(&mut scope.at("feed_forward"), width)?,
            mlp: Mlp::new(&mut scope.at("mlp"), width, 4 * width, gain)?,
        })
    }

    fn forward<A: Array>(&self, x: &A, embedding: &A, keys: &Tensor, values: &Tensor, heads: usize) -> Result<A> {
        let h = self.attention.forward(x, embedding)?;
        let query = head_norm(&self.query.forward(&h)?, heads)?;
        let key = head_norm(&self.key.forward(&h)?, heads)?;
        let keys = A::cat(&[&A::constant(keys), &key], 1)?;
        let values = A::cat(&[&A::constant(values), &self.value.forward(&h)?], 1)?;
        let x = self.out.forward_add(&query.attention(&keys, &values, heads)?, x)?;
        self.mlp.forward_add(&self.feed_forward.forward(&x, embedding)?, &x)
    }
}

/// A small transformer over the context, the same for every time and condition.
struct ContextEncoder {
    dtype: DType,
    input: Linear,
    position: Tensor,
    blocks: Vec<ContextBlock>,
    heads: usize,
}

struct ContextBlock {
    query: Linear,
    key: Linear,
    value: Linear,
    out: Linear,
    mlp: Mlp,
}

impl ContextEncoder {
    fn new(config: &GeneratorConfig, scope: &mut Scope<'_>) -> Result<Self> {
        let width = config.width;
        let gain = 1.0 / (2.0 * config.context_blocks.max(1) as f64).sqrt();
        let block = |i| {
            let mut scope = scope.at("blocks");
            let mut scope = scope.at(i);
            let mut square = |name: &str, gain: f64| Linear::without_bias(&mut scope.at(name), width, width, gain);
            Ok(ContextBlock {
                query: square("query", 1.0)?,
                key: square("key", 1.0)?,
                value: square("value", 1.0)?,
                out: square("out", gain)?,
                mlp: Mlp::new(&mut scope.at("mlp"), width, 4 * width, gain)?,
            })
        };
        let blocks = (0..config.context_blocks).map(block).collect::<Result<_>>()?;
        Ok(Self {
            dtype: scope.dtype(),
            blocks,
            // Two more inputs than channels: whether the frame is there, and how noisy it is.
            input: Linear::new(&mut scope.at("input"), config.latent_channels + 2, width, 1.0)?,
            position: scope.get("position", (config.context_frames, width), Init::Normal(0.3))?,
            heads: config.heads,
        })
    }

    fn forward(&self, latents: &Tensor, present: &Tensor, noise: &Tensor) -> Result<Tensor> {
        let (batch, frames, _) = latents.dims3()?;
        let seen = latents.broadcast_mul(present)?;
        let input = Tensor::cat(&[&seen, present, &(noise * present)?], 2)?.to_dtype(self.dtype)?;
        let position = self.position.broadcast_as((batch, frames, self.position.dim(1)?))?.contiguous()?;
        let mut x = (self.input.forward(&input)? + position)?;
        for block in &self.blocks {
            let h = x.rms_norm(EPS)?;
            let query = head_norm(&block.query.forward(&h)?, self.heads)?;
            let key = head_norm(&block.key.forward(&h)?, self.heads)?;
            let mixed = query.attention(&key, &block.value.forward(&h)?, self.heads)?;
            x = block.out.forward_add(&mixed, &x)?;
            x = block.mlp.forward_add(&x.rms_norm(EPS)?, &x)?;
        }
        x.rms_norm(EPS)
    }
}

#[cfg(test)]
pub(crate) mod tests;
