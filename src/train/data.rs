//! Training data: clips of the corpus as normalised spectrograms, and as standardised latents.

use crate::audio::{Analyser, FRAME_VALUES};
use crate::condition::Controls;
use crate::corpus;
use crate::model::frames::{importance, normalise};
use crate::nets::codec::Encoder;
use crate::scm::trigflow::SD;
use candle_core::{DType, Device, Result, Tensor};
use half::f16;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, StandardNormal};
use rayon::prelude::*;

/// What is known of a clip: enough to draw captions and conditions for it.
#[derive(Clone, Debug)]
pub struct Label {
    /// Kinds (indices into [`corpus::KINDS`]) and their weights.
    pub kinds: Vec<(usize, f32)>,
    /// The synthesisers' parameters.
    pub controls: Controls,
}

/// A clip's spectrogram, (frames, [`FRAME_VALUES`]), normalised, in half precision for hours must fit into memory.
pub struct SpectrogramClip {
    values: Vec<f16>,
    /// What it is.
    pub label: Label,
}

impl SpectrogramClip {
    /// How many frames there are.
    pub fn frames(&self) -> usize {
        self.values.len() / FRAME_VALUES
    }

    /// `count` frames from `start` as f32.
    pub fn window(&self, start: usize, count: usize) -> impl Iterator<Item = f32> + '_ {
        self.values[start * FRAME_VALUES..(start + count) * FRAME_VALUES].iter().map(|x| x.to_f32())
    }
}

/// Which clips to synthesise.
#[derive(Clone, Debug)]
pub struct DataOptions {
    /// Kinds to draw from, indices into [`corpus::KINDS`].
    pub kinds: Vec<usize>,
    /// How many clips.
    pub clips: usize,
    /// Length of each, in seconds.
    pub seconds: f64,
    /// Seed of the set: sets of different seeds share no clip.
    pub seed: u64,
}

/// Synthesises and analyses clips on all cores; `done` is called after each.
pub fn synthesise(options: &DataOptions, done: impl Fn() + Sync) -> Vec<SpectrogramClip> {
    (0..options.clips as u64)
        .into_par_iter()
        .map_init(Analyser::new, |analyser, n| {
            let mut rng = ChaCha8Rng::seed_from_u64(options.seed);
            rng.set_stream(n);
            let kinds = draw_kinds(&options.kinds, &mut rng);
            let clip = corpus::clip_with(&kinds, &Controls::default(), rng.random(), options.seconds);
            let spectrogram = analyser.forward(&clip.pcm);
            let values = spectrogram.values.iter().enumerate().map(|(i, &x)| f16::from_f32(normalise(i, x))).collect();
            done();
            SpectrogramClip { values, label: Label { kinds: clip.kinds, controls: clip.controls } }
        })
        .collect()
}

/// One kind (70 %), two (25 %) or three (5 %), with weights that sum to 1.
fn draw_kinds(from: &[usize], rng: &mut impl Rng) -> Vec<(usize, f32)> {
    let count = match rng.random::<f32>() {
        x if x < 0.7 => 1,
        x if x < 0.95 => 2,
        _ => 3,
    };
    let mut rest = from.to_vec();
    let mut kinds = Vec::new();
    while kinds.len() < count && !rest.is_empty() {
        kinds.push((rest.swap_remove(rng.random_range(0..rest.len())), rng.random_range(0.25..1.0f32)));
    }
    let total: f32 = kinds.iter().map(|(_, weight)| weight).sum();
    kinds.iter_mut().for_each(|(_, weight)| *weight /= total);
    kinds
}

/// A batch of spectrogram windows: normalised values and their importance, both (B, frames, [`FRAME_VALUES`]).
pub fn spectrogram_batch(
    clips: &[SpectrogramClip],
    batch: usize,
    frames: usize,
    rng: &mut impl Rng,
    device: &Device,
) -> Result<(Tensor, Tensor)> {
    let mut values = Vec::with_capacity(batch * frames * FRAME_VALUES);
    for _ in 0..batch {
        let clip = &clips[rng.random_range(0..clips.len())];
        let start = rng.random_range(0..=clip.frames().saturating_sub(frames));
        values.extend(clip.window(start, frames));
    }
    let weights = values.iter().enumerate().map(|(i, &x)| importance(i, x)).collect::<Vec<f32>>();
    let shape = (batch, frames, FRAME_VALUES);
    Ok((Tensor::from_vec(values, shape, device)?, Tensor::from_vec(weights, shape, device)?))
}

/// A clip's latents, standardised to standard deviation [`SD`] a channel.
pub struct LatentClip {
    /// (frames, channels).
    pub latents: Vec<f32>,
    /// What it is.
    pub label: Label,
}

/// Mean and standard deviation of every latent channel over a data set.
#[derive(Clone, Debug, PartialEq)]
pub struct LatentStatistics {
    /// Means.
    pub mean: Vec<f32>,
    /// Standard deviations, not below a thousandth of the largest.
    pub std: Vec<f32>,
}

impl LatentStatistics {
    /// Of values (N, channels), row by row.
    pub fn of<'a>(rows: impl Iterator<Item = &'a [f32]> + Clone, channels: usize) -> Self {
        let count = rows.clone().count().max(1) as f64;
        let mut mean = vec![0.0f64; channels];
        for row in rows.clone() {
            mean.iter_mut().zip(row).for_each(|(m, &x)| *m += f64::from(x) / count);
        }
        let mut variance = vec![0.0f64; channels];
        for row in rows {
            variance.iter_mut().zip(row).zip(&mean).for_each(|((v, &x), m)| *v += (f64::from(x) - m).powi(2) / count);
        }
        let largest = variance.iter().copied().fold(0.0, f64::max).sqrt();
        let std = variance.iter().map(|v| v.sqrt().max(1e-3 * largest).max(1e-12) as f32).collect();
        Self { mean: mean.iter().map(|&m| m as f32).collect(), std }
    }
}

/// Encodes clips and standardises the latents by their own statistics, or by given ones.
pub fn encode(
    clips: &[SpectrogramClip],
    encoder: &Encoder,
    frames_per_latent: usize,
    statistics: Option<LatentStatistics>,
    device: &Device,
) -> Result<(Vec<LatentClip>, LatentStatistics)> {
    let raw = clips
        .iter()
        .map(|clip| {
            let frames = clip.frames() / frames_per_latent * frames_per_latent;
            let values = Tensor::from_iter(clip.window(0, frames), device)?.reshape((1, frames, FRAME_VALUES))?;
            encoder.forward(&values)?.to_dtype(DType::F32)?.squeeze(0)
        })
        .collect::<Result<Vec<_>>>()?;
    let channels = raw.first().map_or(Ok(0), |x| x.dim(1))?;
    let raw = raw.iter().map(|x| x.flatten_all()?.to_vec1::<f32>()).collect::<Result<Vec<_>>>()?;
    let statistics = statistics
        .unwrap_or_else(|| LatentStatistics::of(raw.iter().flat_map(|x| x.chunks_exact(channels.max(1))), channels));
    let standard = |x: Vec<f32>| {
        let scaled = x.iter().enumerate().map(|(i, &x)| {
            let c = i % channels;
            (x - statistics.mean[c]) / statistics.std[c] * SD as f32
        });
        scaled.collect()
    };
    let latents = raw
        .into_iter()
        .zip(clips)
        .map(|(x, clip)| LatentClip { latents: standard(x), label: clip.label.clone() })
        .collect();
    Ok((latents, statistics))
}

/// Standard normal numbers times `std`.
pub fn normal(rng: &mut impl Rng, std: f64, shape: &[usize], device: &Device) -> Result<Tensor> {
    let count = shape.iter().product();
    let values: Vec<f32> =
        (0..count).map(|_| <StandardNormal as Distribution<f32>>::sample(&StandardNormal, rng) * std as f32).collect();
    Tensor::from_vec(values, shape, device)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn synthesis_is_deterministic_and_whole() {
        let options = DataOptions { kinds: vec![0, 3, 9], clips: 3, seconds: 0.5, seed: 7 };
        let (a, b) = (synthesise(&options, || ()), synthesise(&options, || ()));
        assert_eq!(a.len(), 3);
        for (a, b) in a.iter().zip(&b) {
            assert_eq!(a.values, b.values);
            assert_eq!(a.frames(), 47);
            assert!(a.values.iter().all(|x| x.is_finite()));
            assert!(a.label.kinds.iter().all(|(k, _)| options.kinds.contains(k)));
        }
        assert_ne!(a[0].values, a[1].values);
    }

    #[test]
    fn statistics_of_known_numbers() {
        let rows = [[1.0f32, 5.0], [3.0, 5.0]];
        let s = LatentStatistics::of(rows.iter().map(|r| &r[..]), 2);
        assert_eq!(s.mean, [2.0, 5.0]);
        assert_eq!(s.std[0], 1.0);
        assert!(s.std[1] > 0.0);
    }
}
