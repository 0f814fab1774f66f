//! Clips as latents, which the teacher and the student learn from.

use super::data::SpectrogramClip;
use super::label::Label;
use crate::audio::FRAME_VALUES;
use crate::nets::codec::{CodecConfig, Encoder};
use crate::scm::trigflow::SD;
use candle_core::{DType, Device, Result, Tensor};
use half::f16;

/// Latent frames that are encoded at once, so that a long recording does not need memory in proportion.
const PIECE: usize = 128;
/// Pieces of equal length that are encoded together.
const TOGETHER: usize = 8;

/// A clip's latents, standardised to standard deviation [`SD`] a channel, in half precision.
pub struct LatentClip {
    /// (frames, channels).
    pub latents: Vec<f16>,
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

    /// Raw latents (frames, channels) to standard deviation [`SD`].
    pub fn standardise(&self, raw: &[f32]) -> Vec<f16> {
        let scaled = raw.chunks_exact(self.mean.len().max(1)).flat_map(|row| {
            let channels = row.iter().zip(&self.mean).zip(&self.std);
            channels.map(|((x, mean), std)| f16::from_f32((x - mean) / std * SD as f32))
        });
        scaled.collect()
    }
}

/// An encoder with what is needed to run it over clips.
pub struct ClipEncoder<'a> {
    /// Its hyper-parameters.
    pub config: &'a CodecConfig,
    /// The network.
    pub encoder: &'a Encoder,
    /// Latent frames that training needs in a row.
    pub window: usize,
    /// Where it runs.
    pub device: &'a Device,
}

impl ClipEncoder<'_> {
    /// Latent frames that are left out at each end of a clip of so many, see [`ClipEncoder::encode`].
    fn margin(&self, frames: usize) -> usize {
        self.config.encoder_reach().min(frames.saturating_sub(self.window) / 2)
    }

    /// What is known of the latents of a clip: their beginning is not the clip's.
    pub fn label(&self, clip: &SpectrogramClip) -> Label {
        let per_latent = self.config.frames_per_latent;
        let margin = self.margin(clip.frames() / per_latent) as u64;
        let beat = clip.label.metre(margin, per_latent).map(|metre| metre.beat.in_bar() as f32);
        Label { beat, ..clip.label.clone() }
    }

    /// The clips' raw latents, (frames, channels) each: those that one pass over the whole clip would give.
    ///
    /// Near a clip's ends the encoder sees silence beyond them, which no place in a stream does: those latents are left
    /// out, as far as the window allows.
    pub fn encode(&self, clips: &[SpectrogramClip]) -> Result<Vec<Vec<f32>>> {
        let per_latent = self.config.frames_per_latent;
        let reach = self.config.encoder_reach();
        let mut pieces = Vec::new();
        for (clip, frames) in clips.iter().map(|clip| clip.frames() / per_latent).enumerate() {
            let margin = self.margin(frames);
            let mut start = margin;
            while start < frames - margin {
                let end = (start + PIECE).min(frames - margin);
                let from = start.saturating_sub(reach);
                pieces.push(Piece { clip, from, to: (end + reach).min(frames), keep: start - from..end - from });
                start = end;
            }
        }
        let mut raw: Vec<Vec<f32>> = clips.iter().map(|_| Vec::new()).collect();
        for group in pieces.chunk_by(|a, b| a.to - a.from == b.to - b.from).flat_map(|group| group.chunks(TOGETHER)) {
            let frames = (group[0].to - group[0].from) * per_latent;
            let values = group.iter().flat_map(|p| clips[p.clip].window(p.from * per_latent, frames));
            let input = Tensor::from_iter(values, self.device)?.reshape((group.len(), frames, FRAME_VALUES))?;
            let latents = self.encoder.forward(&input)?.to_dtype(DType::F32)?.to_vec3::<f32>()?;
            for (piece, latents) in group.iter().zip(latents) {
                latents[piece.keep.clone()].iter().for_each(|frame| raw[piece.clip].extend(frame));
            }
        }
        Ok(raw)
    }
}

/// Latent frames `from..to` of a clip, of which `keep` (counted from `from`) do not depend on what is outside.
struct Piece {
    clip: usize,
    from: usize,
    to: usize,
    keep: std::ops::Range<usize>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::ModelSpec;
    use crate::model::spec::TINY;
    use crate::ops::Params;
    use crate::train::data::{DataOptions, synthesise};

    #[test]
    fn statistics_of_known_numbers() {
        let rows = [[1.0f32, 5.0], [3.0, 5.0]];
        let s = LatentStatistics::of(rows.iter().map(|r| &r[..]), 2);
        assert_eq!(s.mean, [2.0, 5.0]);
        assert_eq!(s.std[0], 1.0);
        assert!(s.std[1] > 0.0);
        assert_eq!(s.standardise(&[1.0, 5.0]), [f16::from_f32(-0.5), f16::ZERO]);
    }

    #[test]
    fn a_long_clip_in_pieces_is_the_clip_at_once_without_its_ends() {
        let options = DataOptions { kinds: vec![0, 3], clips: 2, seconds: 28.0, seed: 7, attend: vec![], folder: None };
        let clips = synthesise(&options, 0..2, || ());
        let spec = ModelSpec::new("test", TINY, vec![], vec![], vec![]);
        let mut params = Params::init(1, DType::F32, &Device::Cpu);
        let encoder = Encoder::new(&spec.codec, &mut params.detached()).unwrap();
        let pieces = ClipEncoder { config: &spec.codec, encoder: &encoder, window: 36, device: &Device::Cpu };
        let frames = clips[1].frames() / 8;
        assert!(frames > 2 * PIECE);
        let got = pieces.encode(&clips).unwrap().remove(1);
        let input = Tensor::from_iter(clips[1].window(0, frames * 8), &Device::Cpu).unwrap();
        let whole = encoder.forward(&input.reshape((1, frames * 8, FRAME_VALUES)).unwrap()).unwrap();
        let whole = whole.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        let margin = spec.codec.encoder_reach() * spec.codec.latent_channels;
        assert_eq!(got.len(), whole.len() - 2 * margin);
        for (a, b) in got.iter().zip(&whole[margin..]) {
            assert!((a - b).abs() < 1e-4, "{a} {b}");
        }
        // A window must fit, whatever is left of the ends.
        let narrow = ClipEncoder { window: frames - 2, ..pieces };
        assert_eq!(narrow.encode(&clips).unwrap()[1].len(), (frames - 2) * spec.codec.latent_channels);
    }
}
