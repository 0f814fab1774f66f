//! Plain statistics of a sound, free of any model: how noisy, how bright, how busy, how loud, how wide.

use serde::{Deserialize, Serialize};

use super::stft;
use crate::audio::{SAMPLE_RATE, Stereo};

/// Window of the spectral statistics, in samples.
const N_FFT: usize = 2048;
/// Window of the onset detection, in samples; short, because attacks are.
const ONSET_N_FFT: usize = 1024;
/// Frames overlap so that the onset curve has 93.75 values a second.
const HOP: usize = 512;
const FRAMES_PER_S: f32 = SAMPLE_RATE as f32 / HOP as f32;
/// Flatness counts bins in this range, in Hz: below is rumble, above many sounds simply end.
const FLATNESS_BAND: (f32, f32) = (50.0, 16_000.0);
/// Frames whose mean power is this far below the loudest one's have no spectrum to speak of (-60 dB).
const SILENT_FRAME: f32 = 1e-6;
/// Tempi that are looked for, in beats per minute: the range of the `bpm` control.
const TEMPI: (f32, f32) = (60.0, 200.0);

/// Attacks a second below which no tempo is looked for.
const SLOWEST_BEAT: f32 = 0.5;
/// Weights of the neighbours in the flux of which the tempo is sought.
const SMOOTHING: [f32; 5] = [1.0 / 9.0, 2.0 / 9.0, 3.0 / 9.0, 2.0 / 9.0, 1.0 / 9.0];

/// Level that stands for silence: nothing is reported below it.
pub const FLOOR_DBFS: f32 = -120.0;

/// Statistics of one sound of at least one sample.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Statistics {
    /// Length in seconds.
    pub seconds: f32,
    /// Root mean square over both channels in dB relative to full scale, at least [`FLOOR_DBFS`].
    pub rms_dbfs: f32,
    /// Largest absolute sample; full scale is 1.
    pub peak: f32,
    /// Peak over root mean square in dB: 3 for a sine, about 12 for noise, more for clicks.
    pub crest_db: f32,
    /// Geometric over arithmetic mean of the power spectrum, 50 Hz to 16 kHz, averaged over frames that sound: near 0
    /// for a tone, exp(-Euler's constant) = 0.56 for white noise.
    pub flatness: f32,
    /// Mean frequency in Hz, weighted by magnitude.
    pub centroid_hz: f32,
    /// Attacks a second: peaks of the spectral flux.
    pub onsets_per_s: f32,
    /// Period of the attacks as a tempo, 60..=200 beats per minute, if they have one.
    pub tempo_bpm: Option<f32>,
    /// Energy of the side over that of mid and side: 0 mono, 0.5 unrelated channels, 1 opposite ones.
    pub width: f32,
    /// Correlation of the channels, see [`correlation`].
    pub correlation: f32,
    /// Share of samples at or beyond full scale (0.999).
    pub clipped: f32,
    /// Samples that are not finite; the other statistics count them as 0.
    pub not_finite: usize,
}

impl Statistics {
    /// Measures `sound`. One without samples is silence of 0 seconds.
    pub fn of(sound: &Stereo) -> Self {
        let samples = (2 * sound.len()).max(1) as f64;
        let clean = |x: f32| if x.is_finite() { f64::from(x) } else { 0.0 };
        let both = || sound.left.iter().chain(&sound.right).map(|&x| clean(x));
        let energy: f64 = both().map(|x| x * x).sum();
        let side: f64 = sound.left.iter().zip(&sound.right).map(|(&l, &r)| (clean(l) - clean(r)).powi(2) / 2.0).sum();
        let rms = (energy / samples).sqrt();
        let peak = both().map(f64::abs).fold(0.0, f64::max);
        let (flatness, centroid_hz) = spectrum(sound);
        let flux = flux(sound);
        let seconds = sound.len() as f32 / SAMPLE_RATE as f32;
        let onsets_per_s = if seconds > 0.0 { onsets(&flux).len() as f32 / seconds } else { 0.0 };
        Self {
            seconds,
            rms_dbfs: level_dbfs(sound),
            peak: peak as f32,
            crest_db: if rms > 0.0 { (20.0 * (peak / rms).log10()) as f32 } else { 0.0 },
            flatness,
            centroid_hz,
            onsets_per_s,
            // What has hardly an attack has no beat, whatever its swelling looks like.
            tempo_bpm: if onsets_per_s >= SLOWEST_BEAT { tempo(&flux) } else { None },
            width: if energy > 0.0 { (side / energy) as f32 } else { 0.0 },
            correlation: correlation(sound) as f32,
            clipped: (both().filter(|x| x.abs() >= 0.999).count() as f64 / samples) as f32,
            not_finite: sound.left.iter().chain(&sound.right).filter(|x| !x.is_finite()).count(),
        }
    }

    /// Below -60 dBFS.
    pub fn is_silent(&self) -> bool {
        self.rms_dbfs < -60.0
    }

    /// More than one sample in ten thousand at full scale.
    pub fn is_clipped(&self) -> bool {
        self.clipped > 1e-4
    }
}

/// Flatness and centroid, over the frames of both channels.
fn spectrum(sound: &Stereo) -> (f32, f32) {
    let bin_hz = SAMPLE_RATE as f32 / N_FFT as f32;
    let band = (FLATNESS_BAND.0 / bin_hz).ceil() as usize..(FLATNESS_BAND.1 / bin_hz) as usize;
    let mut frames: Vec<(f32, f32)> = Vec::new();
    let (mut weighted, mut total) = (0.0_f64, 0.0_f64);
    for channel in [&sound.left, &sound.right] {
        stft::each_frame(channel, N_FFT, HOP, |power| {
            let power_in = &power[band.clone()];
            let mean = power_in.iter().sum::<f32>() / power_in.len() as f32;
            let log_mean = power_in.iter().map(|p| p.max(f32::MIN_POSITIVE).ln()).sum::<f32>() / power_in.len() as f32;
            frames.push((mean, log_mean.exp() / mean));
            for (bin, p) in power.iter().enumerate() {
                let magnitude = f64::from(p.sqrt());
                weighted += magnitude * bin as f64;
                total += magnitude;
            }
        });
    }
    let loudest = frames.iter().map(|f| f.0).fold(0.0, f32::max);
    let sounding: Vec<f32> =
        frames.iter().filter(|f| f.0 > SILENT_FRAME * loudest && f.1.is_finite()).map(|f| f.1).collect();
    let flatness = sounding.iter().sum::<f32>() / sounding.len().max(1) as f32;
    let centroid = if total > 0.0 { (weighted / total) as f32 * bin_hz } else { 0.0 };
    (flatness, centroid)
}

/// Spectral flux: by how much each frame's compressed magnitudes rise over the frame before, in mean nepers a bin,
/// averaged over the channels. The compression ln(1 + 1000 |X|) ignores what is 60 dB below full scale.
fn flux(sound: &Stereo) -> Vec<f32> {
    let mut flux: Vec<f32> = Vec::new();
    for channel in [&sound.left, &sound.right] {
        let mut before: Vec<f32> = Vec::new();
        let mut frame = 0;
        stft::each_frame(channel, ONSET_N_FFT, HOP, |power| {
            let now: Vec<f32> = power.iter().map(|p| (1000.0 * (p / stft::gain(ONSET_N_FFT)).sqrt()).ln_1p()).collect();
            let rise: f32 = now.iter().zip(&before).map(|(n, b)| (n - b).max(0.0)).sum();
            if flux.len() <= frame {
                flux.resize(frame + 1, 0.0);
            }
            flux[frame] += 0.5 * rise / now.len() as f32;
            before = now;
            frame += 1;
        });
    }
    flux
}

/// Frames at which the flux peaks: the largest within 50 ms, and above the median of the second around it by six robust
/// standard deviations, a tenth of the sound's largest rise and an absolute floor. Steady noise then has no onsets.
fn onsets(flux: &[f32]) -> Vec<usize> {
    const NEIGHBOURS: usize = 2;
    let second = FRAMES_PER_S as usize;
    let largest = flux.iter().copied().fold(0.0, f32::max);
    let is_onset = |&i: &usize| {
        let around = &flux[i.saturating_sub(second / 2)..(i + second / 2).min(flux.len())];
        let typical = median_of(around.to_vec());
        let deviation = 1.4826 * median_of(around.iter().map(|f| (f - typical).abs()).collect());
        let margin = (6.0 * deviation).max(0.1 * (largest - typical)).max(0.01);
        let before = &flux[i.saturating_sub(NEIGHBOURS)..i];
        let behind = &flux[i + 1..(i + 1 + NEIGHBOURS).min(flux.len())];
        flux[i] > typical + margin && before.iter().all(|f| *f < flux[i]) && behind.iter().all(|f| *f <= flux[i])
    };
    (0..flux.len()).filter(is_onset).collect()
}

fn median_of(mut values: Vec<f32>) -> f32 {
    let middle = values.len() / 2;
    if values.is_empty() {
        return 0.0;
    }
    *values.select_nth_unstable_by(middle, f32::total_cmp).1
}

/// The value below which a share `q`, 0 to 1, of the values lies, interpolated between neighbours; `None` of none.
pub fn quantile(values: &[f64], q: f64) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let at = q.clamp(0.0, 1.0) * sorted.len().saturating_sub(1) as f64;
    let (low, high) = (sorted.get(at.floor() as usize)?, sorted.get(at.ceil() as usize)?);
    Some(low + at.fract() * (high - low))
}

/// The middle value; `None` of none.
pub fn median(values: &[f64]) -> Option<f64> {
    quantile(values, 0.5)
}

/// Root mean square over both channels in dB relative to full scale, at least [`FLOOR_DBFS`]; samples that are not finite
/// count as 0.
pub fn level_dbfs(sound: &Stereo) -> f32 {
    (10.0 * mean_square(&sound.left, &sound.right).log10()).max(f64::from(FLOOR_DBFS)) as f32
}

/// Mean square over both channels, of equal length; samples that are not finite count as 0.
pub fn mean_square(left: &[f32], right: &[f32]) -> f64 {
    let clean = |&x: &f32| if x.is_finite() { f64::from(x) } else { 0.0 };
    let energy: f64 = left.iter().chain(right).map(|x| clean(x).powi(2)).sum();
    energy / (left.len() + right.len()).max(1) as f64
}

/// Correlation of the channels, -1 opposite, 0 unrelated, 1 mono: `sum L R / sqrt(sum L^2 sum R^2)`; 1 in silence. Samples
/// that are not finite count as 0.
pub fn correlation(sound: &Stereo) -> f64 {
    let clean = |x: f32| if x.is_finite() { f64::from(x) } else { 0.0 };
    let sum = |a: &[f32], b: &[f32]| -> f64 { a.iter().zip(b).map(|(&x, &y)| clean(x) * clean(y)).sum() };
    let norm = (sum(&sound.left, &sound.left) * sum(&sound.right, &sound.right)).sqrt();
    if norm > 0.0 { sum(&sound.left, &sound.right) / norm } else { 1.0 }
}

/// The lag at which the flux is most like itself, preferring lags near 120 beats per minute by a log-normal weight of
/// one octave (Ellis 2007, "Beat Tracking by Dynamic Programming"): above 170 the half of the tempo is as good an
/// answer. `None` if there is no peak, its likeness is under 0.2, or two periods of the slowest tempo do not fit.
fn tempo(flux: &[f32]) -> Option<f32> {
    let mean = flux.iter().sum::<f32>() / flux.len().max(1) as f32;
    // Smoothed over five frames, so that a period between two whole lags is as like itself as a whole one.
    let centred: Vec<f32> = flux
        .windows(SMOOTHING.len())
        .map(|around| around.iter().zip(SMOOTHING).map(|(f, w)| w * (f - mean)).sum())
        .collect();
    let likeness = |lag: usize| -> f32 { centred.iter().zip(&centred[lag..]).map(|(a, b)| a * b).sum() };
    let lag_of = |bpm: f32| 60.0 * FRAMES_PER_S / bpm;
    let (shortest, longest) = (lag_of(TEMPI.1).floor() as usize, lag_of(TEMPI.0).ceil() as usize);
    if centred.len() < 2 * longest {
        return None;
    }
    let energy = likeness(0);
    let weight = |lag: usize| (-0.5 * (lag_of(120.0) / lag as f32).log2().powi(2)).exp();
    let likenesses: Vec<f32> = (shortest - 1..=longest + 1).map(likeness).collect();
    let peaks = likenesses.windows(3).zip(shortest..).filter(|(l, _)| l[0] <= l[1] && l[1] >= l[2]);
    let (around, best) = peaks.max_by(|(a, i), (b, j)| (a[1] * weight(*i)).total_cmp(&(b[1] * weight(*j))))?;
    let &[before, peak, behind] = around else { return None };
    if energy < 1e-6 || peak < 0.2 * energy {
        return None;
    }
    // The vertex of the parabola through the three values: a lag is rarely a whole number of frames.
    let curvature = before - 2.0 * peak + behind;
    let shift = if curvature < 0.0 { (0.5 * (before - behind) / curvature).clamp(-0.5, 0.5) } else { 0.0 };
    Some(lag_of(1.0) / (best as f32 + shift)).map(|bpm| bpm.clamp(TEMPI.0, TEMPI.1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::condition::Controls;
    use crate::corpus;
    use proptest::prelude::*;
    use rand::{Rng, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    const SECOND: usize = SAMPLE_RATE as usize;

    fn mono(samples: Vec<f32>) -> Stereo {
        Stereo { left: samples.clone(), right: samples }
    }

    fn noise(seed: u64, samples: usize) -> Vec<f32> {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        (0..samples).map(|_| rng.random_range(-0.3..0.3)).collect()
    }

    fn sine(hz: f64, samples: usize) -> Vec<f32> {
        (0..samples).map(|n| (0.5 * (std::f64::consts::TAU * hz * n as f64 / SECOND as f64).sin()) as f32).collect()
    }

    fn clicks(bpm: f32, seconds: usize) -> Vec<f32> {
        let mut samples = vec![0.0; seconds * SECOND];
        let period = 60.0 * SECOND as f32 / bpm;
        let mut at = 0.5 * period;
        while (at as usize) < samples.len() {
            samples[at as usize] = 0.8;
            at += period;
        }
        samples
    }

    #[test]
    fn white_noise() {
        let noise = Stereo { left: noise(1, 4 * SECOND), right: noise(2, 4 * SECOND) };
        let s = Statistics::of(&noise);
        assert!((s.flatness - 0.5615).abs() < 0.01, "{s:?}");
        assert!((s.centroid_hz - 12_000.0).abs() < 100.0, "{s:?}");
        assert!((s.width - 0.5).abs() < 0.01, "{s:?}");
        assert_eq!((s.onsets_per_s, s.tempo_bpm), (0.0, None), "{s:?}");
        // Uniform noise in ±0.3 has the root mean square 0.3 / sqrt 3.
        assert!((s.rms_dbfs - 20.0 * (0.3_f32 / 3.0_f32.sqrt()).log10()).abs() < 0.05, "{s:?}");
    }

    #[test]
    fn sine_wave() {
        let s = Statistics::of(&mono(sine(1000.0, 2 * SECOND)));
        assert!((s.centroid_hz - 1000.0).abs() < 10.0, "{s:?}");
        assert!(s.flatness < 1e-3 && s.width == 0.0 && s.onsets_per_s == 0.0, "{s:?}");
        assert!((s.crest_db - 3.01).abs() < 0.01 && (s.peak - 0.5).abs() < 1e-3, "{s:?}");
        assert!(!s.is_silent() && !s.is_clipped());
    }

    #[test]
    fn click_trains() {
        for bpm in [75.0, 90.0, 120.0, 133.0, 150.0, 160.0] {
            let s = Statistics::of(&mono(clicks(bpm, 8)));
            assert!((s.onsets_per_s - bpm / 60.0).abs() < 0.15, "{bpm}: {s:?}");
            assert!((s.tempo_bpm.unwrap() / bpm - 1.0).abs() < 0.02, "{bpm}: {s:?}");
        }
    }

    #[test]
    fn clicks_in_noise_are_still_found() {
        let mut samples = clicks(120.0, 8);
        for (x, n) in samples.iter_mut().zip(noise(3, 8 * SECOND)) {
            *x += 0.02 * n;
        }
        let s = Statistics::of(&mono(samples));
        assert!((s.onsets_per_s - 2.0).abs() < 0.15, "{s:?}");
    }

    #[test]
    fn drums_keep_their_tempo() {
        let drums = corpus::kind_named("drums").unwrap();
        for bpm in [92.0, 118.0, 151.0] {
            let controls = Controls { bpm: Some(bpm), ..Controls::default() };
            let s = Statistics::of(&corpus::clip_with(&[(drums, 1.0)], &controls, 7, 8.0).pcm);
            assert!((s.tempo_bpm.unwrap() / bpm - 1.0).abs() < 0.02, "{bpm}: {s:?}");
        }
    }

    #[test]
    fn silence_clipping_and_opposite_channels() {
        let silence = Statistics::of(&Stereo::silence(SECOND));
        assert!(silence.is_silent() && silence.rms_dbfs == FLOOR_DBFS && silence.onsets_per_s == 0.0);
        let left: Vec<f32> = sine(500.0, SECOND).iter().map(|x| (4.0 * x).clamp(-1.0, 1.0)).collect();
        let right = left.iter().map(|x| -x).collect();
        let s = Statistics::of(&Stereo { left, right });
        assert!(s.is_clipped() && (s.width - 1.0).abs() < 1e-6, "{s:?}");
    }

    #[test]
    fn quantiles() {
        assert_eq!([median(&[]), median(&[3.0]), median(&[9.0, 1.0])], [None, Some(3.0), Some(5.0)]);
        assert_eq!(quantile(&[4.0, 0.0, 2.0], 0.75), Some(3.0));
    }

    #[test]
    fn correlation_of_channels() {
        let (a, b) = (noise(1, SECOND), noise(2, SECOND));
        let opposite: Vec<f32> = a.iter().map(|x| -0.5 * x).collect();
        assert!((correlation(&mono(a.clone())) - 1.0).abs() < 1e-9);
        assert!((correlation(&Stereo { left: a.clone(), right: opposite }) + 1.0).abs() < 1e-9);
        assert!(correlation(&Stereo { left: a, right: b }).abs() < 0.02);
        assert_eq!(correlation(&Stereo::silence(9)), 1.0);
    }

    proptest! {
        #[test]
        fn any_samples_give_finite_statistics(left in prop::collection::vec(any::<f32>(), 0..3000)) {
            let s = Statistics::of(&mono(left.clone()));
            prop_assert_eq!(s.not_finite, 2 * left.iter().filter(|x| !x.is_finite()).count());
            prop_assert!(s.flatness.is_finite() && s.width.is_finite() && s.rms_dbfs.is_finite());
        }
    }
}
