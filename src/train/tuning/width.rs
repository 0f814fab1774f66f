//! How wide a sound is, as its frames promise it, differentiable, by two numbers:
//!
//! ```text
//! correlation = cross / sqrt(left right)           how alike the channels are, wherever the sound is
//! balance     = cross / ((left + right) / 2)       the same where both channels are equally loud, less where the sound is on a side
//! ```
//!
//! of the channels' powers and their cross-power. A cricket on the left has a correlation of 1, and so has the next one on the
//! right; only both together have less. So the correlation alone would leave everything in the middle, while the balance
//! alone would spread what should be on a side. Balances of short windows are, in the mean by their power, that of the whole;
//! correlations are not, and are heard in windows as long as the student remembers.

use crate::audio::{FRAME_VALUES, STEREO_BANDS, stereo_band_powers};
use crate::model::frames::{LEVELS, denormalise};
use crate::train::data::SpectrogramClip;
use candle_core::{Device, Result, Tensor};
use std::collections::BTreeMap;

/// Power added to each channel, -100 dBFS: silence is mono.
const SILENCE: f64 = 1e-10;

/// The correlation and the balance of left and right.
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
        let there = Tensor::ones((batch, count), frames.dtype(), frames.device())?;
        self.powers(frames, &there)?.heard(count)
    }

    /// The powers of such sounds, over those frames that are there (B, frames): 1, or 0.
    pub fn powers(&self, frames: &Tensor, there: &Tensor) -> Result<Powers> {
        let (batch, count, _) = frames.dims3()?;
        let part =
            |first: usize, width: usize| frames.narrow(2, first, width)?.contiguous()?.reshape((batch * count, width));
        let power = (part(0, LEVELS)?.detach() * 2.0)?.clamp(-30f32, 3f32)?.exp()?.matmul(&self.powers)?;
        let power = power.broadcast_mul(&there.reshape((batch * count, 1))?)?;
        let pan = part(LEVELS, STEREO_BANDS)?.clamp(-1f32, 1f32)?;
        let coherence = part(LEVELS + STEREO_BANDS, STEREO_BANDS)?.clamp(0f32, 1f32)?;
        let (left, right) = ((&power * pan.affine(-1.0, 1.0)?)?, (&power * pan.affine(1.0, 1.0)?)?);
        // The root of nothing has no derivative.
        let both = (pan.sqr()?.affine(-1.0, 1.0)? + 1e-6)?.sqrt()?;
        let cross = ((power * both)? * coherence)?;
        let total = |x: Tensor| x.reshape((batch, count * STEREO_BANDS))?.sum(1);
        Ok(Powers { left: total(left)?, right: total(right)?, cross: total(cross)?, frames: there.sum(1)? })
    }
}

/// Powers of the channels of some sounds and their cross-power, summed over frames, and how many frames these were; (B) each.
pub struct Powers {
    left: Tensor,
    right: Tensor,
    cross: Tensor,
    frames: Tensor,
}

impl Powers {
    /// Those of the sounds with what was before them.
    pub fn behind(&self, before: &Self) -> Result<Self> {
        Ok(Self {
            left: (&self.left + &before.left)?,
            right: (&self.right + &before.right)?,
            cross: (&self.cross + &before.cross)?,
            frames: (&self.frames + &before.frames)?,
        })
    }

    /// How wide sounds with these powers are. Those that are shorter than `window` frames do not count.
    pub fn heard(&self, window: usize) -> Result<Heard> {
        let [left, right, cross] = [&self.left, &self.right, &self.cross].map(|x| x + SILENCE);
        let (left, right, cross) = (left?, right?, cross?);
        let (power, root) = (((&left + &right)? * 0.5)?, (left * right)?.sqrt()?);
        let widths = Tensor::stack(&[(&cross / root)?, (cross / &power)?], 1)?;
        let whole = self.frames.ge(window as f64)?.to_dtype(power.dtype())?;
        Ok(Heard { widths, power: ((power * whole)? / window as f64)?.detach() })
    }
}

/// How wide some sounds are.
pub struct Heard {
    /// Correlation and balance of each, (B, 2); differentiable in pans and coherences, levels are taken as they are.
    widths: Tensor,
    /// The mean power of a channel, (B).
    power: Tensor,
}

impl Heard {
    /// The means, (2), over so many of the sounds from the first on. What is quieter than the kind is in the mean counts less, in
    /// proportion: between two chirps of a cricket there is air, which nobody listens to.
    pub fn mean(&self, (first, count): (usize, usize), power_of_kind: f64) -> Result<Tensor> {
        let weights = (self.power.narrow(0, first, count)? / power_of_kind)?.clamp(1e-6, 1.0)?.unsqueeze(1)?;
        let sum = self.widths.narrow(0, first, count)?.broadcast_mul(&weights)?.sum(0)?;
        sum.broadcast_div(&weights.sum_all()?)
    }
}

/// How wide a kind is.
#[derive(Clone, Debug)]
pub struct KindWidth {
    /// The mean correlation and the mean balance, as [`Heard::mean`] has them.
    pub widths: [f32; 2],
    /// The mean power of a channel.
    pub power: f64,
}

/// How wide the data's sounds are, kind by kind: those of one kind alone.
#[derive(Default)]
pub struct Widths(BTreeMap<usize, Vec<Heard>>);

impl Widths {
    /// Listens to more clips, in windows of so many frames that begin so many frames apart.
    pub fn add(&mut self, clips: &[SpectrogramClip], window: usize, apart: usize) -> Result<()> {
        let width = Width::new(&Device::Cpu)?;
        for clip in clips {
            let [(kind, _)] = clip.label.kinds[..] else { continue };
            for first in (0..(clip.frames() + 1).saturating_sub(window)).step_by(apart) {
                let values = clip.window(first, window).enumerate().map(|(i, x)| denormalise(i, x));
                let frames = Tensor::from_iter(values, &Device::Cpu)?.reshape((1, window, FRAME_VALUES))?;
                self.0.entry(kind).or_default().push(width.heard(&frames)?);
            }
        }
        Ok(())
    }

    /// Those of every kind that was heard.
    pub fn means(&self) -> Result<BTreeMap<usize, KindWidth>> {
        let mean = |heard: &Vec<Heard>| {
            let all = |of: fn(&Heard) -> &Tensor| Tensor::cat(&heard.iter().map(of).collect::<Vec<_>>(), 0);
            let all = Heard { widths: all(|heard| &heard.widths)?, power: all(|heard| &heard.power)? };
            let power = f64::from(all.power.mean_all()?.to_scalar::<f32>()?);
            let means = all.mean((0, all.power.dim(0)?), power)?;
            Ok::<_, candle_core::Error>(KindWidth {
                widths: [means.get(0)?.to_scalar()?, means.get(1)?.to_scalar()?],
                power,
            })
        };
        self.0.iter().map(|(&kind, heard)| Ok((kind, mean(heard)?))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audio::synthetic::{correlation, noise};
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
            let found = width.heard(&frames).unwrap().widths.to_vec2::<f32>().unwrap();
            for (sound, found) in sounds.iter().zip(found) {
                let [left, right] = [&sound.left, &sound.right].map(|x| x.iter().map(|x| x * x).sum::<f32>());
                let correlation = correlation(sound);
                let true_ones = [correlation, correlation * (left * right).sqrt() / (0.5 * (left + right))];
                let near = found.iter().zip(true_ones).all(|(a, b)| (a - b).abs() < 0.05);
                assert!(near, "{name}: {found:?} instead of {true_ones:?}");
            }
        }
    }

    #[test]
    fn a_sound_is_heard_with_what_was_before_it() {
        let (one, quiet) = (noise(1, 0.1, 48_000), vec![0.0; 48_000]);
        let mut turns = Stereo { left: one.clone(), right: quiet.clone() };
        turns.extend(&Stereo { left: quiet, right: one });
        let spectrogram = Analyser::new().forward(&turns);
        let count = spectrogram.frames();
        let all = Tensor::from_vec(spectrogram.values, (1, count, FRAME_VALUES), &Device::Cpu).unwrap();
        let width = Width::new(&Device::Cpu).unwrap();
        let there = |there: f32, count: usize| Tensor::full(there, (1, count), &Device::Cpu).unwrap();
        let half = count / 2;
        let powers = |first: usize, there: &Tensor| {
            width.powers(&all.narrow(1, first, there.dim(1).unwrap()).unwrap(), there).unwrap()
        };
        let (before, behind) = (powers(0, &there(1.0, half)), powers(half, &there(1.0, count - half)));
        let heard = behind.behind(&before).unwrap().heard(count).unwrap();
        let whole = width.heard(&all).unwrap();
        let values = |heard: &Heard| Tensor::cat(&[&heard.widths.flatten_all()?, &heard.power], 0)?.to_vec1::<f32>();
        let (heard, whole) = (values(&heard).unwrap(), values(&whole).unwrap());
        assert!(heard.iter().zip(&whole).all(|(a, b)| (a - b).abs() < 1e-5), "{heard:?} instead of {whole:?}");
        let forgotten = behind.behind(&powers(0, &there(0.0, half))).unwrap();
        assert_eq!(values(&forgotten.heard(count).unwrap()).unwrap()[2], 0.0, "it is too short to count");
        let alone = values(&forgotten.heard(count - half).unwrap()).unwrap();
        assert!(alone[2] > 0.0 && alone[0] != heard[0], "{alone:?}");
    }

    #[test]
    fn silence_is_mono_and_has_a_derivative() {
        let frames: Vec<f32> = (0..3).flat_map(|_| silence()).collect();
        let var = candle_core::Var::from_vec(frames, (1, 3, FRAME_VALUES), &Device::Cpu).unwrap();
        let widths = Width::new(&Device::Cpu).unwrap().heard(var.as_tensor()).unwrap().widths;
        assert!(widths.to_vec2::<f32>().unwrap()[0].iter().all(|&x| x > 0.9));
        let slope = widths.sum_all().unwrap().backward().unwrap().get(var.as_tensor()).unwrap().clone();
        assert!(slope.flatten_all().unwrap().to_vec1::<f32>().unwrap().iter().all(|x| x.is_finite()));
    }

    #[test]
    fn levels_are_taken_as_they_are() {
        let frames: Vec<f32> = (0..3).flat_map(|_| silence()).map(|x| x + 0.3).collect();
        let var = candle_core::Var::from_vec(frames, (1, 3, FRAME_VALUES), &Device::Cpu).unwrap();
        let widths = Width::new(&Device::Cpu).unwrap().heard(var.as_tensor()).unwrap().widths;
        let slope = widths.sum_all().unwrap().backward().unwrap().get(var.as_tensor()).unwrap().clone();
        let slope = slope.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        assert!(slope[..LEVELS].iter().all(|&x| x == 0.0) && slope[LEVELS..FRAME_VALUES].iter().any(|&x| x != 0.0));
    }

    #[test]
    fn what_is_quiet_counts_less() {
        let heard = |widths: &[[f32; 2]], powers: &[f32]| Heard {
            widths: Tensor::from_slice(widths.as_flattened(), (widths.len(), 2), &Device::Cpu).unwrap(),
            power: Tensor::new(powers, &Device::Cpu).unwrap(),
        };
        let loud_mono_and_quiet_wide = heard(&[[1.0, 1.0], [0.0, 0.5]], &[1.99, 0.01]);
        let of = Widths(BTreeMap::from([(3, vec![loud_mono_and_quiet_wide])])).means().unwrap()[&3].clone();
        let near = |a: [f32; 2], b: [f32; 2]| (a[0] - b[0]).abs() < 1e-5 && (a[1] - b[1]).abs() < 1e-5;
        assert!((of.power - 1.0).abs() < 1e-6 && near(of.widths, [1.0 / 1.01, 1.005 / 1.01]), "{of:?}");
        let some = heard(&[[0.5, 0.2], [1.0, 1.0], [0.0, 0.5], [0.2, 0.1]], &[9.0, 1.99, 0.01, 9.0]);
        let mean = some.mean((1, 2), of.power).unwrap().to_vec1::<f32>().unwrap();
        assert!(near([mean[0], mean[1]], of.widths), "{mean:?}");
    }

    #[test]
    fn one_side_and_then_the_other_is_as_wide_as_both() {
        let (one, two) = (noise(1, 0.1, 48_000), noise(2, 0.1, 48_000));
        let (quiet, both) = (vec![0.0; one.len()], Stereo { left: one.clone(), right: two.clone() });
        let (on_left, on_right) = (Stereo { left: one, right: quiet.clone() }, Stereo { left: quiet, right: two });
        let mut turns = on_left.clone();
        turns.extend(&on_right);
        let balance = |sound: &Stereo| {
            let spectrogram = Analyser::new().forward(sound);
            let shape = (1, spectrogram.frames(), FRAME_VALUES);
            let frames = Tensor::from_vec(spectrogram.values, shape, &Device::Cpu).unwrap();
            Width::new(&Device::Cpu).unwrap().heard(&frames).unwrap().widths.to_vec2::<f32>().unwrap()[0][1]
        };
        assert!([both, on_left, on_right, turns].iter().all(|sound| balance(sound).abs() < 0.1));
    }
}
