//! The codec's objective: to give back the spectrogram, loud parts above all.
//!
//! With `e = y - decode(encode(y) + 0.05 std n)` it is `mean(importance (|e| + (2 q - 1) e)) + 1e-4 mean(z^2)`: where the
//! decoder is unsure, the quantile `q` of what it may have been (Koenker and Bassett 1978). The power of a bin of noise is
//! distributed exponentially and below its mean with a probability of `1 - 1/e`, so that quantile of the levels keeps the
//! power of what cannot be foreseen, where the median would be 1.6 dB too quiet. The noise on latents makes the decoder
//! tolerant of what the generator will get slightly wrong, the last term keeps latents from drifting.
//!
//! The decoder can go on alone, with the encoder as it is: what was learned from its latents stays true.

use super::TrainError;
use super::data::{SpectrogramClip, normal, spectrogram_batch};
use super::trainer::{Objective, Report};
use crate::model::frames::is_level;
use crate::nets::codec::{CodecConfig, Decoder, Encoder};
use crate::ops::Params;
use candle_core::{Device, Result, Tensor};
use rand_chacha::ChaCha8Rng;

/// Standard deviation of the noise on latents, relative to their own.
const LATENT_NOISE: f64 = 0.05;
/// Weight of the latents' mean square.
const LATENT_PENALTY: f64 = 1e-4;
/// The quantile of levels: `1 - 1/e`.
const LEVEL_QUANTILE: f32 = 0.632;
/// Nepers a normalised level is worth, and decibels a neper: for a loss that people can read.
const DECIBELS: f64 = 2.0 * 8.686;

/// What of the codec learns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Learning {
    /// Encoder and decoder.
    Both,
    /// The decoder alone.
    Decoder,
}

impl Learning {
    /// Name of the stage.
    pub fn name(self) -> &'static str {
        match self {
            Learning::Both => "codec",
            Learning::Decoder => "decoder",
        }
    }
}

/// The codec being trained and its data.
pub struct CodecObjective {
    learning: Learning,
    encoder: Encoder,
    decoder: Decoder,
    clips: Vec<SpectrogramClip>,
    batch: usize,
    frames: usize,
    per_latent: usize,
    channels: usize,
    /// `2 q - 1` of every value of a frame.
    lean: Tensor,
    device: Device,
}

impl CodecObjective {
    /// Trains the codec of `params` on batches of `batch` windows of `frames` spectrogram frames. If the decoder learns
    /// alone, the encoder is that of `encoder`.
    pub fn new(
        config: &CodecConfig,
        params: &mut Params,
        encoder: Option<&mut Params>,
        clips: Vec<SpectrogramClip>,
        (batch, frames): (usize, usize),
    ) -> Result<Self> {
        let quantile = |value| if is_level(value) { LEVEL_QUANTILE } else { 0.5 };
        let lean: Vec<f32> = (0..config.frame_values).map(|value| 2.0 * quantile(value) - 1.0).collect();
        let learning = if encoder.is_some() { Learning::Decoder } else { Learning::Both };
        let encoder = match encoder {
            Some(kept) => Encoder::new(config, &mut kept.frozen().at("encoder"))?,
            None => Encoder::new(config, &mut params.tracked().at("encoder"))?,
        };
        Ok(Self {
            learning,
            encoder,
            decoder: Decoder::new(config, &mut params.tracked().at("decoder"))?,
            clips,
            batch,
            frames,
            per_latent: config.frames_per_latent,
            channels: config.latent_channels,
            lean: Tensor::from_vec(lean, (1, 1, config.frame_values), params.device())?,
            device: params.device().clone(),
        })
    }

    /// Gives the data back.
    pub fn into_clips(self) -> Vec<SpectrogramClip> {
        self.clips
    }

    fn evaluate(&self, batch: &CodecBatch) -> Result<(Tensor, f64)> {
        let CodecBatch { values, importance, noise } = batch;
        let (y, importance) = (values.to_device(&self.device)?, importance.to_device(&self.device)?);
        let z = self.encoder.forward(&y)?;
        let (batch, frames, channels) = z.dims3()?;
        let flat = z.detach().reshape((batch * frames, channels))?;
        let std = flat.broadcast_sub(&flat.mean_keepdim(0)?)?.sqr()?.mean_keepdim(0)?.sqrt()?;
        let noisy = (&z + noise.to_device(&self.device)?.broadcast_mul(&std)?)?;
        let error = (y - self.decoder.forward(&noisy)?)?;
        let plain = error.detach().abs()?.mean_all()?.to_scalar::<f32>()?;
        let error = (error.abs()? + error.broadcast_mul(&self.lean)?)?;
        let loss = (error * importance)?.mean_all()?;
        let loss = match self.learning {
            Learning::Both => (loss + (z.sqr()?.mean_all()? * LATENT_PENALTY)?)?,
            Learning::Decoder => loss,
        };
        Ok((loss, f64::from(plain) * DECIBELS))
    }
}

/// Windows of spectrograms.
pub struct CodecBatch {
    values: Tensor,
    importance: Tensor,
    /// What is added to the latents, relative to their deviation.
    noise: Tensor,
}

impl Objective for CodecObjective {
    type Batch = CodecBatch;

    fn name(&self) -> &str {
        self.learning.name()
    }

    fn draw(&self, rng: &mut ChaCha8Rng) -> std::result::Result<CodecBatch, TrainError> {
        let (values, importance) = spectrogram_batch(&self.clips, self.batch, self.frames, rng)?;
        let noise = normal(rng, LATENT_NOISE, &[self.batch, self.frames / self.per_latent, self.channels])?;
        Ok(CodecBatch { values, importance, noise })
    }

    fn loss(&self, _: u64, batch: CodecBatch) -> std::result::Result<Report, TrainError> {
        let (loss, decibels) = self.evaluate(&batch)?;
        Ok(Report { loss, samples: self.batch, metrics: vec![("error_db", decibels)] })
    }
}
