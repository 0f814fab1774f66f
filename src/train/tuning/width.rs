//! How wide a sound is: the correlation of its channels as its frames promise it, differentiable.

use crate::audio::{FRAME_VALUES, STEREO_BANDS, stereo_band_powers};
use crate::model::frames::{LEVELS, denormalise};
use crate::train::data::SpectrogramClip;
use candle_core::{Device, Result, Tensor};
use std::collections::BTreeMap;

/// Power added to each channel, -100 dBFS: silence is mono.
const SILENCE: f64 = 1e-10;

/// The correlation of left and right.
pub struct Width {
    /// (LEVELS, STEREO_BANDS): what power each level adds to each band.
    powers: Tensor,
}

impl Width {
    /// Fills its table.
    pub fn new(device: &Device) -> Result<Self> {
        let mut table = vec![0f32; LEVELS * STEREO_BANDS];
        for (level, band, weight) in stereo_band_powers() {
            table[level * STEREO_BANDS + band] += weight;
        }
        Ok(Self { powers: Tensor::from_vec(table, (LEVELS, STEREO_BANDS), device)? })
    }

    /// Of sounds (B, frames, [`FRAME_VALUES`]), not normalised: the correlation of the channels of each, (B).
    pub fn correlation(&self, frames: &Tensor) -> Result<Tensor> {
        let (batch, count, _) = frames.dims3()?;
        let part =
            |first: usize, width: usize| frames.narrow(2, first, width)?.contiguous()?.reshape((batch * count, width));
        let power = (part(0, LEVELS)? * 2.0)?.clamp(-30f32, 3f32)?.exp()?.matmul(&self.powers)?;
        let pan = part(LEVELS, STEREO_BANDS)?.clamp(-1f32, 1f32)?;
        let coherence = part(LEVELS + STEREO_BANDS, STEREO_BANDS)?.clamp(0f32, 1f32)?;
        let (left, right) = ((&power * pan.affine(-1.0, 1.0)?)?, (&power * pan.affine(1.0, 1.0)?)?);
        // The root of nothing has no derivative.
        let both = (pan.sqr()?.affine(-1.0, 1.0)? + 1e-6)?.sqrt()?;
        let cross = ((power * both)? * coherence)?;
        let total = |x: Tensor| x.reshape((batch, count * STEREO_BANDS))?.sum(1)? + SILENCE;
        let (left, right, cross) = (total(left)?, total(right)?, total(cross)?);
        cross / (left * right)?.sqrt()?
    }
}

/// How wide the data's sounds are, kind by kind: those of one kind alone.
#[derive(Clone, Debug, Default)]
pub struct Widths(BTreeMap<usize, Vec<f32>>);

impl Widths {
    /// Listens to more clips, in windows of so many frames.
    pub fn add(&mut self, clips: &[SpectrogramClip], window: usize) -> Result<()> {
        let width = Width::new(&Device::Cpu)?;
        for clip in clips {
            let ([(kind, _)], windows @ 1..) = (&clip.label.kinds[..], clip.frames() / window) else { continue };
            let values = clip.window(0, windows * window).enumerate().map(|(i, x)| denormalise(i, x));
            let frames = Tensor::from_iter(values, &Device::Cpu)?.reshape((windows, window, FRAME_VALUES))?;
            self.0.entry(*kind).or_default().extend(width.correlation(&frames)?.to_vec1::<f32>()?);
        }
        Ok(())
    }

    /// The mean correlation of every kind that was heard.
    pub fn means(&self) -> BTreeMap<usize, f64> {
        let mean = |heard: &Vec<f32>| heard.iter().map(|&x| f64::from(x)).sum::<f64>() / heard.len() as f64;
        self.0.iter().map(|(&kind, heard)| (kind, mean(heard))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audio::synthetic::correlation;
    use crate::audio::{Analyser, Stereo, silence};
    use crate::condition::Controls;
    use crate::corpus;

    #[test]
    fn frames_are_as_wide_as_their_sound() {
        let width = Width::new(&Device::Cpu).unwrap();
        for name in ["rain", "stream", "footsteps", "birds", "helicopter", "harp", "bass", "drums"] {
            let kind = corpus::kind_named(name).unwrap();
            let sounds: Vec<Stereo> =
                (0..2).map(|seed| corpus::clip_with(&[(kind, 1.0)], &Controls::default(), seed, 4.0).pcm).collect();
            let spectrograms: Vec<_> = sounds.iter().map(|sound| Analyser::new().forward(sound)).collect();
            let values: Vec<f32> = spectrograms.iter().flat_map(|s| s.values.clone()).collect();
            let frames = Tensor::from_vec(values, (2, spectrograms[0].frames(), FRAME_VALUES), &Device::Cpu).unwrap();
            let found = width.correlation(&frames).unwrap().to_vec1::<f32>().unwrap();
            for (sound, found) in sounds.iter().zip(found) {
                let true_one = correlation(sound);
                assert!((found - true_one).abs() < 0.05, "{name}: {found} instead of {true_one}");
            }
        }
    }

    #[test]
    fn silence_is_mono_and_has_a_derivative() {
        let frames: Vec<f32> = (0..3).flat_map(|_| silence()).collect();
        let var = candle_core::Var::from_vec(frames, (1, 3, FRAME_VALUES), &Device::Cpu).unwrap();
        let correlation = Width::new(&Device::Cpu).unwrap().correlation(var.as_tensor()).unwrap();
        assert!(correlation.to_vec1::<f32>().unwrap()[0] > 0.9);
        let slope = correlation.sum_all().unwrap().backward().unwrap().get(var.as_tensor()).unwrap().clone();
        assert!(slope.flatten_all().unwrap().to_vec1::<f32>().unwrap().iter().all(|x| x.is_finite()));
    }
}
