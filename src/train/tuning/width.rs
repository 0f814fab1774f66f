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

    /// Of sounds (B, frames, [`FRAME_VALUES`]), not normalised.
    pub fn heard(&self, frames: &Tensor) -> Result<Heard> {
        let (batch, count, _) = frames.dims3()?;
        let part =
            |first: usize, width: usize| frames.narrow(2, first, width)?.contiguous()?.reshape((batch * count, width));
        let power = (part(0, LEVELS)?.detach() * 2.0)?.clamp(-30f32, 3f32)?.exp()?.matmul(&self.powers)?;
        let pan = part(LEVELS, STEREO_BANDS)?.clamp(-1f32, 1f32)?;
        let coherence = part(LEVELS + STEREO_BANDS, STEREO_BANDS)?.clamp(0f32, 1f32)?;
        let (left, right) = ((&power * pan.affine(-1.0, 1.0)?)?, (&power * pan.affine(1.0, 1.0)?)?);
        // The root of nothing has no derivative.
        let both = (pan.sqr()?.affine(-1.0, 1.0)? + 1e-6)?.sqrt()?;
        let cross = ((power * both)? * coherence)?;
        let total = |x: Tensor| x.reshape((batch, count * STEREO_BANDS))?.sum(1)? + SILENCE;
        let (left, right, cross) = (total(left)?, total(right)?, total(cross)?);
        let power = ((&left + &right)? / (2 * count) as f64)?.detach();
        Ok(Heard { correlation: (cross / (left * right)?.sqrt()?)?, power })
    }
}

/// How wide some sounds are.
pub struct Heard {
    /// The correlation of the channels of each, (B); differentiable in pans and coherences, levels are taken as they are.
    pub correlation: Tensor,
    /// The mean power of a channel, (B).
    power: Tensor,
}

impl Heard {
    /// The mean correlation of so many of the sounds from the first on. What is quieter than the kind is in the mean counts less,
    /// in proportion: between two chirps of a cricket there is air, which nobody listens to.
    pub fn mean(&self, (first, count): (usize, usize), of: KindWidth) -> Result<Tensor> {
        let weights = (self.power.narrow(0, first, count)? / of.power)?.clamp(1e-6, 1.0)?;
        let sum = (self.correlation.narrow(0, first, count)? * &weights)?.sum_all()?;
        sum / weights.sum_all()?
    }
}

/// How wide a kind is.
#[derive(Clone, Copy, Debug)]
pub struct KindWidth {
    /// The mean correlation of its channels, as [`Heard::mean`] has it.
    pub correlation: f64,
    /// The mean power of a channel.
    pub power: f64,
}

/// How wide the data's sounds are, kind by kind: those of one kind alone.
#[derive(Clone, Debug, Default)]
pub struct Widths(BTreeMap<usize, Vec<(f32, f32)>>);

impl Widths {
    /// Listens to more clips, in windows of so many frames.
    pub fn add(&mut self, clips: &[SpectrogramClip], window: usize) -> Result<()> {
        let width = Width::new(&Device::Cpu)?;
        for clip in clips {
            let ([(kind, _)], windows @ 1..) = (&clip.label.kinds[..], clip.frames() / window) else { continue };
            let values = clip.window(0, windows * window).enumerate().map(|(i, x)| denormalise(i, x));
            let frames = Tensor::from_iter(values, &Device::Cpu)?.reshape((windows, window, FRAME_VALUES))?;
            let heard = width.heard(&frames)?;
            let (correlations, powers) = (heard.correlation.to_vec1::<f32>()?, heard.power.to_vec1::<f32>()?);
            self.0.entry(*kind).or_default().extend(correlations.into_iter().zip(powers));
        }
        Ok(())
    }

    /// Those of every kind that was heard.
    pub fn means(&self) -> BTreeMap<usize, KindWidth> {
        let mean = |heard: &Vec<(f32, f32)>| {
            let power = heard.iter().map(|&(_, power)| f64::from(power)).sum::<f64>() / heard.len() as f64;
            let weigh = |&(correlation, other): &(f32, f32)| {
                let weight = (f64::from(other) / power).clamp(1e-6, 1.0);
                (weight * f64::from(correlation), weight)
            };
            let (sum, weights) = heard.iter().map(weigh).fold((0.0, 0.0), |(a, b), (c, d)| (a + c, b + d));
            KindWidth { correlation: sum / weights, power }
        };
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
            let found = width.heard(&frames).unwrap().correlation.to_vec1::<f32>().unwrap();
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
        let correlation = Width::new(&Device::Cpu).unwrap().heard(var.as_tensor()).unwrap().correlation;
        assert!(correlation.to_vec1::<f32>().unwrap()[0] > 0.9);
        let slope = correlation.sum_all().unwrap().backward().unwrap().get(var.as_tensor()).unwrap().clone();
        assert!(slope.flatten_all().unwrap().to_vec1::<f32>().unwrap().iter().all(|x| x.is_finite()));
    }

    #[test]
    fn levels_are_taken_as_they_are() {
        let frames: Vec<f32> = (0..3).flat_map(|_| silence()).map(|x| x + 0.3).collect();
        let var = candle_core::Var::from_vec(frames, (1, 3, FRAME_VALUES), &Device::Cpu).unwrap();
        let correlation = Width::new(&Device::Cpu).unwrap().heard(var.as_tensor()).unwrap().correlation;
        let slope = correlation.sum_all().unwrap().backward().unwrap().get(var.as_tensor()).unwrap().clone();
        let slope = slope.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        assert!(slope[..LEVELS].iter().all(|&x| x == 0.0) && slope[LEVELS..FRAME_VALUES].iter().any(|&x| x != 0.0));
    }

    #[test]
    fn what_is_quiet_counts_less_in_data_and_batches_alike() {
        let loud_mono_and_quiet_wide = [(1.0, 1.99), (0.0, 0.01)];
        let of = Widths(BTreeMap::from([(3, loud_mono_and_quiet_wide.to_vec())])).means()[&3];
        assert!((of.power - 1.0).abs() < 1e-6 && (of.correlation - 1.0 / 1.01).abs() < 1e-4, "{of:?}");
        let row = |x: [f32; 4]| Tensor::new(&x, &Device::Cpu).unwrap();
        let heard = Heard { correlation: row([0.5, 1.0, 0.0, 0.2]), power: row([9.0, 1.99, 0.01, 9.0]) };
        let mean = heard.mean((1, 2), of).unwrap().to_scalar::<f32>().unwrap();
        assert!((f64::from(mean) - of.correlation).abs() < 1e-5, "{mean}");
    }
}
