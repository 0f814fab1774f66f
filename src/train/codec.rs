//! The codec's objective: to give back the spectrogram, loud parts above all.
//!
//! With `e = y - decode(encode(y) + 0.05 std n)` it is `mean(importance (|e| + (2 q - 1) e)) + 1e-4 mean(z^2)`: where the
//! decoder is unsure, the quantile `q` of what it may have been (Koenker and Bassett 1978). The power of a bin of noise is
//! distributed exponentially and below its mean with a probability of `1 - 1/e`, so that quantile of the levels keeps the
//! power of what cannot be foreseen, where the median would be 1.6 dB too quiet. The noise on latents makes the decoder
//! tolerant of what the generator will get slightly wrong, the last term keeps latents from drifting.
//!
//! The decoder can go on alone, with the encoder as it is: what was learned from its latents stays true. Then it is told what
//! its levels hardly show, and what most sounds drown:
//!
//! - The vocoder takes phases from the *slopes* of the levels in the linear bins. Across frames they tell the place of an attack:
//!   errors there count half as well, `0.5 mean(importance |e(n, m) - e(n-1, m)|)`. Across the bins beside a peak they tell
//!   the pitch of a partial, and ten cents of a low one are half a decibel: `mean(semitones |e(n, m+1) - e(n, m-1)|)` over
//!   all partials, in semitones, is added.
//! - The error of rain is what cannot be foreseen, and large; that of a clock is small, and half of it could be foreseen. So
//!   what is minimised is the mean over windows of the logarithm of all this: every window may lose the same share of its error.
//!
//! Its branch to the lowest values, which a codec can be given afterwards, is told another thing instead of slopes. In a low chord,
//! with several partials a bin, levels beat and the pitches are in what they are on average. So errors of the mean level in a
//! third of a second count beside those of every frame, `12 mean(held |mean(e) - mean around it|)`, where something is [`held`] and
//! against the bins around it: how loud all of them are is for the quantile to say.

use super::TrainError;
use super::data::{SpectrogramClip, normal, spectrogram_batch};
use super::trainer::{Objective, Report};
use crate::audio::LINEAR_BINS;
use crate::model::frames::{HELD, HELD_STEP, above_surroundings, held, is_level, partials, spread_of};
use crate::nets::codec::{CodecConfig, Decoder, Encoder};
use candle_core::{DType, Device, Result, Tensor};
use rand_chacha::ChaCha8Rng;

/// Standard deviation of the noise on latents, relative to their own.
const LATENT_NOISE: f64 = 0.05;
/// Weight of the latents' mean square.
const LATENT_PENALTY: f64 = 1e-4;
/// The quantile of levels: `1 - 1/e`.
const LEVEL_QUANTILE: f32 = 0.632;
/// Weight of errors of slopes across frames.
const SLOPES: f64 = 0.5;
/// Weight of errors of mean levels.
const MEANS: f64 = 12.0;
/// Bins by which a partial in the middle of a bin is higher for a neper that the bin above it is louder than the one below: the
/// derivative of its place on the window's lobe.
const BINS_A_NEPER: f32 = 1.0 / 3.0;
/// Semitones of a pitch that is higher by a small share of itself.
const SEMITONES: f32 = 12.0 / std::f32::consts::LN_2;
/// Partials a frame, at least, over which errors of pitch are averaged: where there are fewer, as in noise, they count less.
const FEWEST_PARTIALS: f32 = 1.0;
/// An error of a window that nobody hears: below it, it makes no difference to be a share better.
const NOTHING: f64 = 0.01;
/// Nepers a normalised level is worth, and decibels a neper: for a loss that people can read.
const DECIBELS: f64 = 2.0 * 8.686;

/// What of the codec learns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Learning {
    /// Encoder and decoder.
    Both,
    /// The decoder alone.
    Decoder,
    /// Nothing but the decoder's branch to the lowest values.
    LowBranch,
}

impl Learning {
    /// Name of the stage.
    pub fn name(self) -> &'static str {
        match self {
            Learning::Both => "codec",
            Learning::Decoder => "decoder",
            Learning::LowBranch => "low-branch",
        }
    }

    /// Name of what it learns, up to which all its parameters' names are the same.
    pub fn parameters(self) -> &'static str {
        match self {
            Learning::Both => "",
            Learning::Decoder => "decoder.",
            Learning::LowBranch => "decoder.low.",
        }
    }

    /// Spectrogram frames of a window. What the branch learns takes longer to be heard.
    pub fn window(self) -> usize {
        match self {
            Learning::Both | Learning::Decoder => 128,
            Learning::LowBranch => 256,
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
    per_latent: usize,
    channels: usize,
    /// `2 q - 1` of every value of a frame.
    lean: Tensor,
    /// See [`above_surroundings`].
    above: Tensor,
    device: Device,
}

impl CodecObjective {
    /// Trains what is `learning` of a codec on batches of windows of clips.
    pub fn new(
        config: &CodecConfig,
        learning: Learning,
        (encoder, decoder): (Encoder, Decoder),
        clips: Vec<SpectrogramClip>,
        batch: usize,
        device: &Device,
    ) -> Result<Self> {
        let quantile = |value| if is_level(value) { LEVEL_QUANTILE } else { 0.5 };
        let lean: Vec<f32> = (0..config.frame_values).map(|value| 2.0 * quantile(value) - 1.0).collect();
        Ok(Self {
            learning,
            encoder,
            decoder,
            clips,
            batch,
            per_latent: config.frames_per_latent,
            channels: config.latent_channels,
            lean: Tensor::from_vec(lean, (1, 1, config.frame_values), device)?,
            above: Tensor::from_vec(above_surroundings(), (LINEAR_BINS, LINEAR_BINS), device)?,
            device: device.clone(),
        })
    }

    /// Gives the data back.
    pub fn into_clips(self) -> Vec<SpectrogramClip> {
        self.clips
    }

    fn evaluate(&self, batch: &CodecBatch) -> Result<(Tensor, f64)> {
        let CodecBatch { values, importance, noise, lines } = batch;
        let (y, importance) = (values.to_device(&self.device)?, importance.to_device(&self.device)?);
        let z = self.encoder.forward(&y)?;
        let (batch, frames, channels) = z.dims3()?;
        let flat = z.detach().reshape((batch * frames, channels))?;
        let std = flat.broadcast_sub(&flat.mean_keepdim(0)?)?.sqr()?.mean_keepdim(0)?.sqrt()?;
        let noisy = (&z + noise.to_device(&self.device)?.broadcast_mul(&std)?)?;
        let error = (y - self.decoder.forward(&noisy)?)?;
        let plain = error.detach().abs()?.mean_all()?.to_scalar::<f32>()?;
        let leaning = (error.abs()? + error.broadcast_mul(&self.lean)?)?;
        let loss = each_window((leaning * &importance)?)?;
        let loss = match self.learning {
            Learning::Both => (loss.mean_all()? + (z.sqr()?.mean_all()? * LATENT_PENALTY)?)?,
            Learning::Decoder => {
                let smeared = smeared(&error, &importance)?;
                let mistuned = mistuned(&error, &lines.to_device(&self.device)?)?;
                logarithm(((loss + smeared)? + mistuned)?)?
            }
            Learning::LowBranch => {
                let shifted = shifted(&error, &self.above, &lines.to_device(&self.device)?)?;
                logarithm((loss + shifted)?)?
            }
        };
        Ok((loss, f64::from(plain) * DECIBELS))
    }
}

/// The mean over each window of a batch, (B).
fn each_window(x: Tensor) -> Result<Tensor> {
    x.flatten_from(1)?.mean(1)
}

/// The mean of what windows of a batch lose, (B), in logarithms.
fn logarithm(losses: Tensor) -> Result<Tensor> {
    (losses + NOTHING)?.log()?.mean_all()
}

/// The linear bins, (B, F, FRAME_VALUES) to (B, F, [`LINEAR_BINS`]).
fn linear(x: &Tensor) -> Result<Tensor> {
    x.narrow(2, 0, LINEAR_BINS)?.contiguous()
}

/// Weighted mean error of the slopes of the linear bins across frames, of each window: errors of normalised values and how much
/// they matter, (B, F, FRAME_VALUES), to (B).
fn smeared(error: &Tensor, importance: &Tensor) -> Result<Tensor> {
    let (error, importance) = (linear(error)?, linear(importance)?);
    let count = error.dim(1)? - 1;
    let slope = (error.narrow(1, 1, count)? - error.narrow(1, 0, count)?)?.abs()?;
    each_window((slope * importance.narrow(1, 1, count)?)?)? * SLOPES
}

/// Mean semitones by which the partials of each window are off: errors of normalised values, (B, F, FRAME_VALUES), and what
/// [`semitones`] gives, to (B).
fn mistuned(error: &Tensor, semitones: &Tensor) -> Result<Tensor> {
    let (error, inner) = (linear(error)?, LINEAR_BINS - 2);
    let slope = (error.narrow(2, 2, inner)? - error.narrow(2, 0, inner)?)?.abs()?;
    (slope * semitones.narrow(2, 1, inner)?)?.flatten_from(1)?.sum(1)
}

/// Weighted error of the mean levels of what is held, of each window: errors of normalised values, (B, F, FRAME_VALUES), F a
/// multiple of [`HELD_STEP`], [`above_surroundings`], and what [`held`] gives, (B, rows, LINEAR_BINS), to (B).
fn shifted(error: &Tensor, above: &Tensor, held: &Tensor) -> Result<Tensor> {
    let error = linear(error)?;
    let (batch, frames, bins) = error.dims3()?;
    let steps = error.reshape((batch, frames / HELD_STEP, HELD_STEP, bins))?.mean(2)?;
    let in_a_row = HELD / HELD_STEP;
    let rows = frames / HELD_STEP + 1 - in_a_row;
    let mut sum = steps.narrow(1, 0, rows)?;
    for step in 1..in_a_row {
        sum = (sum + steps.narrow(1, step, rows)?)?;
    }
    let above = sum.contiguous()?.reshape((batch * rows, bins))?.matmul(above)?.reshape((batch, rows, bins))?;
    each_window((above.abs()? * held)?)? * (MEANS / in_a_row as f64)
}

/// Semitones by which the partial at each linear bin is off for a difference of 1 between the errors beside it, over the number of
/// partials in the window: (frames, [`LINEAR_BINS`]), of a window of normalised frames.
fn semitones(window: &[f32]) -> Vec<f32> {
    let partials = partials(window);
    let count = partials.iter().sum::<f32>().max(FEWEST_PARTIALS * (partials.len() / LINEAR_BINS) as f32);
    let bins = BINS_A_NEPER * spread_of(0);
    let semitones = |(i, partial): (usize, f32)| partial / count * SEMITONES * bins / (i % LINEAR_BINS).max(1) as f32;
    partials.into_iter().enumerate().map(semitones).collect()
}

/// Windows of spectrograms.
pub struct CodecBatch {
    values: Tensor,
    importance: Tensor,
    /// What the decoder learns of, [`semitones`], or its branch, [`held`]; nothing if both learn.
    lines: Tensor,
    /// What is added to the latents, relative to their deviation.
    noise: Tensor,
}

/// Of windows (B, F, FRAME_VALUES), what `of` gives of each: (B, rows, LINEAR_BINS).
fn of_lines(windows: &Tensor, of: impl Fn(&[f32]) -> Vec<f32>) -> Result<Tensor> {
    let (batch, frames, values) = windows.dims3()?;
    let flat = windows.flatten_all()?.to_vec1::<f32>()?;
    let of_all: Vec<f32> = flat.chunks(frames * values).flat_map(of).collect();
    let rows = of_all.len() / (batch * LINEAR_BINS);
    Tensor::from_vec(of_all, (batch, rows, LINEAR_BINS), &Device::Cpu)
}

impl Objective for CodecObjective {
    type Batch = CodecBatch;

    fn name(&self) -> &str {
        self.learning.name()
    }

    fn draw(&self, rng: &mut ChaCha8Rng) -> std::result::Result<CodecBatch, TrainError> {
        let frames = self.learning.window();
        let (values, importance) = spectrogram_batch(&self.clips, (self.batch, frames), rng)?;
        let noise = normal(rng, LATENT_NOISE, &[self.batch, frames / self.per_latent, self.channels])?;
        let lines = match self.learning {
            Learning::Both => Tensor::zeros(0, DType::F32, &Device::Cpu)?,
            Learning::Decoder => of_lines(&values, semitones)?,
            Learning::LowBranch => of_lines(&values, held)?,
        };
        Ok(CodecBatch { values, importance, lines, noise })
    }

    fn loss(&self, _: u64, batch: CodecBatch) -> std::result::Result<Report, TrainError> {
        let (loss, decibels) = self.evaluate(&batch)?;
        Ok(Report { loss, samples: self.batch, metrics: vec![("error_db", decibels)] })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audio::synthetic::{pan, sine};
    use crate::audio::{Analyser, FRAME_VALUES, SAMPLE_RATE, silence};
    use crate::model::frames::normalise;
    use candle_core::Var;
    use rand::SeedableRng;

    /// Two windows of so many frames of reproducible numbers.
    fn errors(seed: u64, frames: usize) -> Tensor {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        normal(&mut rng, 1.0, &[2, frames, FRAME_VALUES]).unwrap()
    }

    fn above(dtype: DType) -> Tensor {
        let matrix = Tensor::from_vec(above_surroundings(), (LINEAR_BINS, LINEAR_BINS), &Device::Cpu);
        matrix.unwrap().to_dtype(dtype).unwrap()
    }

    #[test]
    fn smearing_is_between_frames_and_of_each_window() {
        // One bin off in the middle of the first window; in the second all are off alike.
        let mut values = vec![0.0f32; 2 * 5 * FRAME_VALUES];
        values[2 * FRAME_VALUES + 60] = -0.5;
        values[5 * FRAME_VALUES..].fill(3.0);
        let error = Tensor::from_vec(values, (2, 5, FRAME_VALUES), &Device::Cpu).unwrap();
        let found = smeared(&error, &error.ones_like().unwrap()).unwrap().to_vec1::<f32>().unwrap();
        let expected = SLOPES as f32 * 2.0 * 0.5 / (4 * LINEAR_BINS) as f32;
        assert!((found[0] - expected).abs() < 1e-7 && found[1] == 0.0, "{found:?}");
    }

    #[test]
    fn a_shift_is_of_the_mean_level_of_what_is_held() {
        // Bin 60: off by 0.1 on average, whatever it is in each frame; bin 70 is right on average.
        let frames = HELD + HELD_STEP;
        let values: Vec<f32> = (0..frames * FRAME_VALUES)
            .map(|i| {
                let beat = if (i / FRAME_VALUES).is_multiple_of(2) { 0.5 } else { -0.5 };
                match i % FRAME_VALUES {
                    60 => 0.1 + beat,
                    70 => beat,
                    _ => 0.0,
                }
            })
            .collect();
        let error = Tensor::from_vec(values, (1, frames, FRAME_VALUES), &Device::Cpu).unwrap();
        let held = Tensor::full(0.5f32, (1, 2, LINEAR_BINS), &Device::Cpu).unwrap();
        let found = shifted(&error, &above(DType::F32), &held).unwrap().to_vec1::<f32>().unwrap()[0];
        // It is a thirteenth of its surroundings, and part of those of twelve others.
        let expected = MEANS as f32 * 0.5 * 0.1 * (24.0 / 13.0) / LINEAR_BINS as f32;
        assert!((found - expected).abs() < 1e-6, "{found}, not {expected}");
    }

    #[test]
    fn mistuning_is_told_in_semitones() {
        // Near the middle of a bin, where the constant is exact.
        let hz = |cents: f32| 21.1 * (SAMPLE_RATE as f32 / 2048.0) * (cents / 1200.0).exp2();
        let frames = |cents: f32| -> Vec<f32> {
            let tone = pan(&sine(hz(cents), 0.1, SAMPLE_RATE as usize / 2), 0.3);
            let values = Analyser::new().forward(&tone).values;
            values[8 * FRAME_VALUES..24 * FRAME_VALUES].iter().enumerate().map(|(i, &x)| normalise(i, x)).collect()
        };
        let (tone, shape) = (frames(0.0), (1, 16, FRAME_VALUES));
        let weights = Tensor::from_vec(semitones(&tone), (1, 16, LINEAR_BINS), &Device::Cpu).unwrap();
        for cents in [4.0f32, -10.0] {
            let error: Vec<f32> = tone.iter().zip(frames(cents)).map(|(a, b)| a - b).collect();
            let off = mistuned(&Tensor::from_vec(error, shape, &Device::Cpu).unwrap(), &weights).unwrap();
            let off = 100.0 * off.to_vec1::<f32>().unwrap()[0];
            assert!((off / cents.abs() - 1.0).abs() < 0.2, "{off}, not {cents} cents");
        }
        // Where there is none, none is off; and a partial that is there half of the time counts half as much.
        let silence: Vec<f32> = silence().iter().enumerate().map(|(i, &x)| normalise(i, x)).collect();
        let weight = |window: &[f32]| semitones(window).iter().sum::<f32>();
        assert_eq!(weight(&silence.repeat(16)), 0.0);
        let half = [&tone[..], &silence.repeat(16)].concat();
        assert!((weight(&half) / weight(&tone) - 0.5).abs() < 0.1, "{}", weight(&half) / weight(&tone));
    }

    #[test]
    fn gradients_are_those_of_differences() {
        let f64s = |x: Tensor| x.to_dtype(DType::F64).unwrap();
        let frames = HELD + HELD_STEP;
        let importance = f64s(errors(2, frames).abs().unwrap());
        let semitones = linear(&f64s(errors(3, frames).abs().unwrap())).unwrap();
        let held = semitones.narrow(1, 0, 2).unwrap().contiguous().unwrap();
        let weights = Tensor::new(&[0.3f64, 0.7], &Device::Cpu).unwrap();
        let loss = |error: &Tensor| {
            let slopes = (smeared(error, &importance).unwrap() + mistuned(error, &semitones).unwrap()).unwrap();
            let all = (slopes + shifted(error, &above(DType::F64), &held).unwrap()).unwrap();
            (all * &weights).unwrap().sum_all().unwrap()
        };
        let var = Var::from_tensor(&f64s(errors(1, frames))).unwrap();
        let gradient = loss(var.as_tensor()).backward().unwrap().get(var.as_tensor()).unwrap().clone();
        let gradient = gradient.flatten_all().unwrap().to_vec1::<f64>().unwrap();
        let values = var.flatten_all().unwrap().to_vec1::<f64>().unwrap();
        let at = |frame: usize, value: usize| frame * FRAME_VALUES + value;
        for place in [0, 60, at(3, LINEAR_BINS - 1), at(20, 7), at(frames, 0), at(2 * frames - 1, 100)] {
            let moved = |by: f64| {
                let mut values = values.clone();
                values[place] += by;
                let error = Tensor::from_vec(values, (2, frames, FRAME_VALUES), &Device::Cpu).unwrap();
                loss(&error).to_scalar::<f64>().unwrap()
            };
            let difference = (moved(1e-6) - moved(-1e-6)) / 2e-6;
            assert!((gradient[place] - difference).abs() < 1e-6 * (1.0 + difference.abs()), "{place}");
        }
        assert_eq!(gradient[LINEAR_BINS], 0.0);
    }

    #[test]
    fn each_window_has_its_own_mean() {
        let x = Tensor::arange(0.0f32, 12.0, &Device::Cpu).unwrap().reshape((2, 3, 2)).unwrap();
        assert_eq!(each_window(x).unwrap().to_vec1::<f32>().unwrap(), [2.5, 8.5]);
    }
}
