//! Notes as the vocoder will play them: a differentiable distance to the scale that was asked for.
//!
//! The vocoder takes the frequency of a partial from the slope of the levels across its bins ([`linear_partial_bin`]), so
//! the slope has a derivative of the pitch, and a semitone of a low partial is decibels of it. What counts as a note, and
//! which note of the scale it should be, is decided from the values alone; only the slopes learn.

use crate::audio::{Note, linear_partial_bin, notes};
use crate::condition::Scale;
use crate::ops::map_each;
use candle_core::{Device, Result, Tensor};

/// Semitones off that are in tune: vibrato, beats and stretched bells.
const IN_TUNE: f32 = 0.15;

/// How far the notes of some sounds are from where they should be.
pub struct Intonation {
    /// Mean distance in semitones, weighted by amplitude, of each sound's notes beyond [`IN_TUNE`]; differentiable, (B).
    pub distance: Tensor,
    /// Share of each sound's notes, weighted by amplitude, whose pitch class is in the scale; NaN without notes.
    pub in_scale: Vec<f64>,
}

impl Intonation {
    /// Of levels (B, moments, LINEAR_BINS) in nepers; a sound without a scale has no distance.
    pub fn of(levels: &Tensor, scales: &[Option<Scale>]) -> Result<Self> {
        let (batch, moments, bins) = levels.dims3()?;
        let values = levels.detach().to_device(&Device::Cpu)?.flatten_all()?.to_vec1::<f32>()?;
        let sounds: Vec<_> = values.chunks(moments * bins).zip(scales).collect();
        let heard = map_each(&sounds, |(sound, scale)| match scale {
            Some(scale) => {
                let placed = |note: Note| (note, note.in_scale(*scale));
                sound.chunks(bins).map(|moment| notes(moment).into_iter().map(placed).collect()).collect()
            }
            None => vec![Vec::new(); moments],
        });
        // Where each note should be, in bins, and what a bin off counts there.
        let (mut targets, mut gains, mut slack) =
            (vec![0f32; values.len()], vec![0f32; values.len()], vec![0f32; values.len()]);
        let mut in_scale = Vec::with_capacity(batch);
        for (sound, notes) in heard.iter().enumerate() {
            let total: f32 = notes.iter().flatten().map(|(note, _)| note.amplitude()).sum();
            let mut inside = 0.0;
            for (moment, notes) in notes.iter().enumerate() {
                for (note, (target, belongs)) in notes {
                    let i = (sound * moments + moment) * bins + note.bin;
                    let share = note.amplitude() / total;
                    let semitones_a_bin = 12.0 / std::f32::consts::LN_2 / note.at;
                    (targets[i], gains[i], slack[i]) = (*target, share * semitones_a_bin, IN_TUNE / semitones_a_bin);
                    inside += if *belongs { share } else { 0.0 };
                }
            }
            in_scale.push(if total > 0.0 { f64::from(inside) } else { f64::NAN });
        }
        let like = |x: Vec<f32>| Tensor::from_vec(x, levels.dims(), &Device::Cpu)?.to_device(levels.device());
        let off = (linear_partial_bin(levels)? - like(targets)?)?.abs()?;
        let out = ((off - like(slack)?)?.relu()? * like(gains)?)?;
        Ok(Self { distance: out.reshape((batch, moments * bins))?.sum(1)?, in_scale })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audio::synthetic::{noise, pan, tone};
    use crate::audio::{Analyser, FRAME_VALUES, LINEAR_BINS, SAMPLE_RATE, Stereo};
    use crate::condition::Controls;
    use crate::corpus;

    /// Levels of a sound's linear bins, the means of eight frames, with so many left out at either end.
    fn levels(sound: &Stereo) -> Tensor {
        let spectrogram = Analyser::new().forward(sound);
        let moments = spectrogram.frames() / 8 - 2;
        let frames = spectrogram.values.chunks_exact(FRAME_VALUES).skip(8).take(8 * moments);
        let values: Vec<f32> = frames.flat_map(|frame| frame[..LINEAR_BINS].to_vec()).collect();
        Tensor::from_vec(values, (1, moments, 8, LINEAR_BINS), &Device::Cpu).unwrap().mean(2).unwrap()
    }

    fn played(midi: f32) -> Tensor {
        levels(&pan(&tone(440.0 * ((midi - 69.0) / 12.0).exp2(), 0.2, SAMPLE_RATE as usize), 0.3))
    }

    /// Semitones off C major, and the share in it.
    fn heard(levels: &Tensor) -> (f32, f64) {
        let intonation = Intonation::of(levels, &[Some(Scale::from_tonic(0))]).unwrap();
        (intonation.distance.to_vec1().unwrap()[0], intonation.in_scale[0])
    }

    #[test]
    fn notes_are_as_far_off_as_they_were_played() {
        // A G, a G a little sharp, and between G and A; overtones (a B, a D) do not count.
        for (midi, off) in [(55.0, 0.0), (55.1, 0.0), (55.5, 0.35), (67.7, 0.55), (68.2, 0.65)] {
            let (distance, share) = heard(&played(midi));
            assert!((distance - off).abs() < 0.12, "{midi}: {distance} instead of {off}");
            assert_eq!(share > 0.99, midi < 55.4 || midi > 68.5, "{midi}: {share}");
        }
    }

    #[test]
    fn down_the_gradient_a_note_comes_into_tune() {
        let var = candle_core::Var::from_tensor(&played(56.3)).unwrap();
        let scale = [Some(Scale::from_tonic(0))];
        let before = heard(var.as_tensor()).0;
        for _ in 0..120 {
            let loss = Intonation::of(var.as_tensor(), &scale).unwrap().distance.sum_all().unwrap();
            let slope = loss.backward().unwrap().get(var.as_tensor()).unwrap().clone();
            var.set(&(var.as_tensor() - (slope * 0.2).unwrap()).unwrap().detach()).unwrap();
        }
        let after = heard(var.as_tensor());
        assert!(before > 0.4 && after.0 < 0.15 && after.1 > 0.7, "{before} {after:?}");
    }

    #[test]
    fn melodies_of_the_corpus_are_in_their_scale_alone() {
        for (name, least) in [("marimba", 0.95), ("music_box", 0.95), ("pad", 0.85), ("bass", 0.8)] {
            let kind = corpus::kind_named(name).unwrap();
            let share = |seed: u64, tonic: u8| {
                let controls = Controls { scale: Some(Scale::from_tonic(tonic)), ..Controls::default() };
                let levels = levels(&corpus::clip_with(&[(kind, 1.0)], &controls, seed, 5.0).pcm);
                heard(&levels).1
            };
            let mean = |tonic| (0..4).map(|seed| share(seed, tonic)).sum::<f64>() / 4.0;
            assert!(mean(0) > least && mean(6) < 0.75, "{name}: {} in, {} out", mean(0), mean(6));
        }
    }

    #[test]
    fn noise_and_what_has_no_scale_are_never_off() {
        let hiss = levels(&pan(&noise(1, 0.1, SAMPLE_RATE as usize), 0.0));
        assert_eq!(heard(&hiss).0, 0.0);
        let both = Tensor::cat(&[&hiss, &played(56.5).narrow(1, 0, hiss.dim(1).unwrap()).unwrap()], 0).unwrap();
        let intonation = Intonation::of(&both, &[Some(Scale::from_tonic(0)), None]).unwrap();
        assert_eq!(intonation.distance.to_vec1::<f32>().unwrap(), [0.0, 0.0]);
        assert!(intonation.in_scale.iter().all(|share| share.is_nan()));
    }
}
