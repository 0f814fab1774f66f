//! Notes as the vocoder will play them: a differentiable distance to where they should be.
//!
//! The vocoder takes the frequency of a partial from the slope of the levels across its bins ([`linear_partial_bin`]), so
//! the slope has a derivative of the pitch, and a semitone of a low partial is decibels of it. Which notes there are, and
//! which pitch of the scale each should be, is read off the student as it began: left to choose, it would play the one note
//! that it never gets wrong.

use crate::audio::{LINEAR_BINS, Note, linear_partial_bin, notes};
use crate::condition::Scale;
use crate::ops::map_each;
use candle_core::{Device, Result, Tensor};

/// Semitones within which notes of neighbouring moments are one note that wavers.
const WAVER: f32 = 2.5;

/// How far the notes of some sounds are from where they should be.
pub struct Intonation {
    /// Mean distance in semitones, weighted by amplitude, of each sound's notes; differentiable, (B).
    pub distance: Tensor,
    /// Share of each sound's notes, weighted by amplitude, whose pitch class is in the scale; NaN without notes.
    pub in_scale: Vec<f64>,
}

impl Intonation {
    /// Of levels (B, moments, LINEAR_BINS) in nepers, which should have the notes of `plan`, in the scales; a sound without
    /// one has no distance.
    pub fn of(levels: &Tensor, plan: &Tensor, scales: &[Option<Scale>]) -> Result<Self> {
        let (batch, moments, bins) = levels.dims3()?;
        let values = |x: &Tensor| x.detach().to_device(&Device::Cpu)?.flatten_all()?.to_vec1::<f32>();
        let (heard, plan) = (values(levels)?, values(plan)?);
        let sounds: Vec<_> = heard.chunks(moments * bins).zip(plan.chunks(moments * bins)).zip(scales).collect();
        let placed = map_each(&sounds, |((heard, plan), scale)| {
            scale.map(|scale| (share_in_scale(heard, scale), planned(plan, scale)))
        });
        // Where each note should be, in bins, and what a bin off counts there.
        let (mut targets, mut gains) = (vec![0f32; heard.len()], vec![0f32; heard.len()]);
        let mut in_scale = vec![f64::NAN; batch];
        for (sound, (share, notes)) in placed.iter().enumerate().filter_map(|(i, placed)| Some((i, placed.as_ref()?))) {
            in_scale[sound] = *share;
            let total: f32 = notes.iter().flatten().map(|(_, amplitude)| amplitude).sum();
            for (moment, notes) in notes.iter().enumerate() {
                for &(target, amplitude) in notes {
                    let i = (sound * moments + moment) * bins + (target.round() as usize).min(bins - 1);
                    (targets[i], gains[i]) = (target, amplitude / total * 12.0 / std::f32::consts::LN_2 / target);
                }
            }
        }
        let like = |x: Vec<f32>| Tensor::from_vec(x, levels.dims(), &Device::Cpu)?.to_device(levels.device());
        let off = ((linear_partial_bin(levels)? - like(targets)?)?.abs()? * like(gains)?)?;
        Ok(Self { distance: off.reshape((batch, moments * bins))?.sum(1)?, in_scale })
    }
}

fn moments_of(levels: &[f32]) -> Vec<Vec<Note>> {
    levels.chunks(LINEAR_BINS).map(notes).collect()
}

fn share_in_scale(levels: &[f32], scale: Scale) -> f64 {
    let notes: Vec<Note> = moments_of(levels).into_iter().flatten().collect();
    let inside = notes.iter().filter(|note| note.in_scale(scale).1).map(Note::amplitude).sum::<f32>();
    f64::from(inside / notes.iter().map(Note::amplitude).sum::<f32>())
}

/// The pitches, in bins, and amplitudes of every moment's notes as they should be: one that wavers is steady.
fn planned(levels: &[f32], scale: Scale) -> Vec<Vec<(f32, f32)>> {
    let moments = moments_of(levels);
    let planned = |(moment, notes): (usize, &Vec<Note>)| {
        let around = &moments[moment.saturating_sub(1)..(moment + 2).min(moments.len())];
        let place = |note: &Note| {
            let near = around.iter().flatten().filter(|n| (12.0 * (n.at / note.at).log2()).abs() < WAVER);
            let (weight, sum) =
                near.fold((0.0, 0.0), |(weight, sum), n| (weight + n.amplitude(), sum + n.amplitude() * n.at.ln()));
            let steady = Note { at: (sum / weight).exp(), ..*note };
            (steady.in_scale(scale).0, note.amplitude())
        };
        notes.iter().map(place).collect()
    };
    moments.iter().enumerate().map(planned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audio::synthetic::{key, noise, pan};
    use crate::audio::{Analyser, FRAME_VALUES, SAMPLE_RATE, Stereo};
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
        levels(&pan(&key(midi, 0.2, SAMPLE_RATE as usize), 0.3))
    }

    /// Semitones off C major, and the share in it.
    fn heard(levels: &Tensor) -> (f32, f64) {
        let intonation = Intonation::of(levels, levels, &[Some(Scale::from_tonic(0))]).unwrap();
        (intonation.distance.to_vec1().unwrap()[0], intonation.in_scale[0])
    }

    #[test]
    fn notes_are_as_far_off_as_they_were_played() {
        // A G, a G a little sharp, and between G and A; overtones (a B, a D) do not count.
        for (midi, off) in [(55.0, 0.0), (55.1, 0.1), (55.5, 0.5), (67.7, 0.7), (68.2, 0.8)] {
            let (distance, share) = heard(&played(midi));
            assert!((distance - off).abs() < 0.3, "{midi}: {distance} instead of {off}");
            assert_eq!(share > 0.99, !(55.4..68.5).contains(&midi), "{midi}: {share}");
        }
    }

    #[test]
    fn down_the_gradient_a_note_comes_into_tune() {
        let plan = played(56.3);
        let var = candle_core::Var::from_tensor(&plan.copy().unwrap()).unwrap();
        let off = |levels: &Tensor| Intonation::of(levels, &plan, &[Some(Scale::from_tonic(0))]).unwrap();
        let before = off(var.as_tensor()).distance.to_vec1::<f32>().unwrap()[0];
        for _ in 0..120 {
            let loss = off(var.as_tensor()).distance.sum_all().unwrap();
            let slope = loss.backward().unwrap().get(var.as_tensor()).unwrap().clone();
            var.set(&(var.as_tensor() - (slope * 0.2).unwrap()).unwrap().detach()).unwrap();
        }
        let distance = off(var.as_tensor()).distance.to_vec1::<f32>().unwrap()[0];
        assert!(before > 0.5 && distance < 0.1, "{before} {distance}");
    }

    #[test]
    fn another_note_than_planned_is_off_though_it_is_in_the_scale() {
        let (plan, other) = (played(55.0), played(57.0));
        let heard = Intonation::of(&other, &plan, &[Some(Scale::from_tonic(0))]).unwrap();
        assert!(heard.in_scale[0] == 1.0 && heard.distance.to_vec1::<f32>().unwrap()[0] > 0.5);
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
        let intonation = Intonation::of(&both, &both, &[Some(Scale::from_tonic(0)), None]).unwrap();
        assert_eq!(intonation.distance.to_vec1::<f32>().unwrap(), [0.0, 0.0]);
        assert!(intonation.in_scale.iter().all(|share| share.is_nan()));
    }
}
