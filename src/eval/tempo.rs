//! Tempo, to be compared with one that was asked for.
//!
//! Which multiple of a pulse is the beat is a matter of music, so both functions know what they listen to:
//! [`drum_tempo`] hears a backbeat, the snare on two and four, and [`beat_tempo`] one event a beat.

use super::stft;
use crate::audio::{SAMPLE_RATE, Stereo};

const N_FFT: usize = 1024;
const HOP: usize = 512;
const FRAMES_PER_S: f64 = SAMPLE_RATE as f64 / HOP as f64;
/// Where snares are loud, and kicks and hats are not, in Hz.
const SNARE_HZ: (f32, f32) = (1_000.0, 3_500.0);
/// Where most events are, in Hz.
const EVENTS_HZ: (f32, f32) = (100.0, 8_000.0);
/// Tempi that are looked for, in beats a minute.
const TEMPI: (f64, f64) = (60.0, 200.0);
/// Weights of neighbouring frames, so that a period between two whole lags is as like itself as a whole one.
const SMOOTHING: [f64; 5] = [1.0 / 9.0, 2.0 / 9.0, 3.0 / 9.0, 2.0 / 9.0, 1.0 / 9.0];
/// A sound that is not this much like itself a period later has none; eight seconds of noise reach 0.2.
const PERIODIC: f64 = 0.3;
/// The first lag that is this much as good as the best is the period: the best is often a multiple of it.
const NEARLY: f64 = 0.7;

/// Beats a minute of a drum loop: its snare, heard between 1 and 3.5 kHz, sounds every two beats. `None` if nothing
/// repeats, or the sound is shorter than two half bars at 60 beats a minute.
pub fn drum_tempo(sound: &Stereo) -> Option<f64> {
    Some(2.0 * 60.0 * FRAMES_PER_S / period(&rises(sound, SNARE_HZ), 2.0)?)
}

/// Beats a minute of a sound with an event a beat, such as a clock. `None` as above.
pub fn beat_tempo(sound: &Stereo) -> Option<f64> {
    Some(60.0 * FRAMES_PER_S / period(&rises(sound, EVENTS_HZ), 1.0)?)
}

/// Whether a tempo is the one that was asked for, within this share of it.
pub fn is_tempo(asked: f64, found: f64, tolerance: f64) -> bool {
    (found / asked - 1.0).abs() <= tolerance
}

/// Whether a tempo is the one that was asked for, or half or double of it, as listeners differ.
pub fn is_tempo_or_octave(asked: f64, found: f64, tolerance: f64) -> bool {
    [0.5, 1.0, 2.0].iter().any(|octave| is_tempo(asked * octave, found, tolerance))
}

/// By how much the amplitude within a band rises from frame to frame. Amplitudes and not levels: a quiet event counts
/// for little.
fn rises(sound: &Stereo, (low, high): (f32, f32)) -> Vec<f64> {
    let bin = |hz: f32| (hz * N_FFT as f32 / SAMPLE_RATE as f32) as usize;
    let mut rises: Vec<f64> = Vec::new();
    for channel in [&sound.left, &sound.right] {
        let (mut before, mut frame) = (None, 0);
        stft::each_frame(channel, N_FFT, HOP, |power| {
            let amplitude = f64::from(power[bin(low)..bin(high)].iter().sum::<f32>()).sqrt();
            if rises.len() <= frame {
                rises.push(0.0);
            }
            rises[frame] += (amplitude - before.unwrap_or(amplitude)).max(0.0);
            (before, frame) = (Some(amplitude), frame + 1);
        });
    }
    rises
}

/// The period of a curve in frames, `beats` of a tempo that is looked for: the first peak of its autocorrelation, taken
/// per overlapping frame, that is nearly as high as the highest.
fn period(curve: &[f64], beats: f64) -> Option<f64> {
    let mean = curve.iter().sum::<f64>() / curve.len().max(1) as f64;
    let smooth: Vec<f64> = curve
        .windows(SMOOTHING.len())
        .map(|around| around.iter().zip(SMOOTHING).map(|(x, w)| w * (x - mean)).sum())
        .collect();
    let lag = |bpm: f64| beats * 60.0 * FRAMES_PER_S / bpm;
    let (shortest, longest) = (lag(TEMPI.1).floor() as usize, lag(TEMPI.0).ceil() as usize);
    if smooth.len() < 2 * longest {
        return None;
    }
    let likeness = |lag: usize| -> f64 {
        let overlap = smooth.len() - lag;
        smooth.iter().zip(&smooth[lag..]).map(|(a, b)| a * b).sum::<f64>() / overlap as f64
    };
    let energy = likeness(0);
    if energy <= 0.0 {
        return None;
    }
    let likenesses: Vec<f64> = (shortest - 1..=longest + 1).map(|lag| likeness(lag) / energy).collect();
    let peaks: Vec<(usize, &[f64])> =
        (shortest..).zip(likenesses.windows(3)).filter(|(_, l)| l[0] <= l[1] && l[1] >= l[2]).collect();
    let best = peaks.iter().map(|(_, l)| l[1]).fold(f64::MIN, f64::max);
    let (lag, around) = peaks.into_iter().find(|(_, l)| l[1] >= NEARLY * best && l[1] >= PERIODIC)?;
    let &[before, peak, behind] = around else { return None };
    // The vertex of the parabola through the three values: a lag is rarely a whole number of frames.
    let curvature = before - 2.0 * peak + behind;
    let shift = if curvature < 0.0 { (0.5 * (before - behind) / curvature).clamp(-0.5, 0.5) } else { 0.0 };
    Some(lag as f64 + shift)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audio::synthetic::{noise, pan};
    use crate::condition::Controls;
    use crate::corpus;

    const SECOND: usize = SAMPLE_RATE as usize;

    fn clicks(bpm: f64, seconds: usize) -> Stereo {
        let mut samples = vec![0.0; seconds * SECOND];
        for beat in 0.. {
            let at = ((f64::from(beat) + 0.5) * 60.0 * SECOND as f64 / bpm) as usize;
            match samples.get_mut(at..at + 200) {
                Some(click) => click.copy_from_slice(&noise(7, 0.3, 200)),
                None => break,
            }
        }
        pan(&samples, 0.3)
    }

    #[test]
    fn click_trains_have_their_tempo() {
        for bpm in [63.0, 75.0, 90.0, 121.0, 133.0, 160.0, 197.0] {
            let found = beat_tempo(&clicks(bpm, 8)).unwrap();
            assert!(is_tempo(bpm, found, 0.01), "{found}, not {bpm}");
        }
    }

    #[test]
    fn drums_have_theirs_at_any_tempo_and_density() {
        let drums = corpus::kind_named("drums").unwrap();
        let mut right = 0;
        for i in 0..12u64 {
            let (bpm, density) = (64.0 + 12.0 * i as f32, (i % 4) as f32 / 3.0);
            let controls = Controls { bpm: Some(bpm), density: Some(density), ..Controls::default() };
            let found = drum_tempo(&corpus::clip_with(&[(drums, 1.0)], &controls, 40 + i, 8.0).pcm);
            right += usize::from(found.is_some_and(|found| is_tempo(f64::from(bpm), found, 0.03)));
        }
        assert!(right >= 11, "{right} of 12 drum loops");
    }

    #[test]
    fn noise_and_short_sounds_have_none() {
        let hiss = pan(&noise(1, 0.1, 8 * SECOND), 0.0);
        assert_eq!((beat_tempo(&hiss), drum_tempo(&hiss)), (None, None));
        assert_eq!(drum_tempo(&clicks(120.0, 3)), None);
        assert_eq!(beat_tempo(&Stereo::silence(8 * SECOND)), None);
    }

    #[test]
    fn octaves_are_forgiven_only_where_asked() {
        assert!(is_tempo(100.0, 102.9, 0.03) && !is_tempo(100.0, 104.0, 0.03) && !is_tempo(100.0, 50.0, 0.03));
        assert!(is_tempo_or_octave(100.0, 50.5, 0.03) && is_tempo_or_octave(100.0, 198.0, 0.03));
        assert!(!is_tempo_or_octave(100.0, 67.0, 0.03));
    }
}
