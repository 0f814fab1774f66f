//! The weightless vocoder: a spectrogram back into sound.
//!
//! Below 4 kHz the magnitudes get phases by integration ([`super::phase`]), which a few iterations then make agree with
//! those of the frames beside them ([`super::consistency`]): one phase for both channels so that a panned partial stays
//! where it is; where the coherence says that the channels differ, their phases are turned apart. Where the spectrogram is
//! a plain ([`super::texture`]) it is made into Gaussian noise instead. Above 4 kHz everything is white noise in the shape
//! of the bands ([`super::noise`]).

mod memory;

pub use memory::VocoderMemory;

use std::collections::VecDeque;
use std::sync::Arc;

use super::bands::LONG;
use super::consistency::{ITERATIONS, Integrated, Phasors, Refiner};
use super::noise::BandPowers;
use super::overlap::Overlap;
use super::phase::{Course, PhaseIntegrator};
use super::spectrogram::{FRAME_VALUES, Spectrogram, silence};
use super::synthesis::{Frame, Plan, Synthesis};
use super::texture::{Tensor, Texture, slopes};
use super::{HOP, Stereo};
use crate::ops::{map_each, threads};

/// Frames that are worked on at once by each thread: so many that handing them out does not matter, and no more than stay in a
/// core's cache.
const BLOCK: usize = 24;

/// Turns spectrograms into sound, all at once or as they come, with bit-identical results: every random number is
/// addressed by (seed, frame). A clone is a snapshot.
///
/// Frame `n` is centred on sample `n * HOP`. The sound fades in over the first 1024 samples and out over the last, as if
/// silence lay around it. Output is finite whatever the input: levels above +12 dBFS are held there, pans and coherences
/// kept in range, and what is not a number counts as silence.
#[derive(Clone)]
pub struct Vocoder {
    synthesis: Synthesis,
    integrator: PhaseIntegrator,
    texture: Texture,
    /// The last frame that has its phases; silence before the first.
    before: Arc<Frame>,
    /// The bands of the last frames received, oldest first.
    powers: [Arc<BandPowers>; 3],
    /// The last frame received: it waits for the one behind it.
    waiting: Option<Arc<Frame>>,
    /// Frames that have their phases from the integrator.
    made: u64,
    refiner: Refiner,
    /// The frames that are with the refiner, oldest first.
    planned: VecDeque<Arc<Plan>>,
    overlap: Overlap,
}

/// What a frame's plan takes from it and the frames beside it, before it is summed up over time.
struct Prospect {
    course: Course,
    slopes: Tensor,
}

impl Vocoder {
    /// A vocoder at frame 0.
    pub fn new(seed: u64) -> Self {
        Self::at_start(Synthesis::new(seed))
    }

    fn at_start(synthesis: Synthesis) -> Self {
        let silent = Arc::new(synthesis.silence());
        Self {
            integrator: PhaseIntegrator::new(),
            texture: Texture::new(),
            before: Arc::new(Frame::new(&silence())),
            powers: [0; 3].map(|_| Arc::clone(&silent)),
            waiting: None,
            made: 0,
            refiner: Refiner::new(),
            planned: VecDeque::new(),
            overlap: Overlap::new(),
            synthesis,
        }
    }

    /// How many samples the output of [`Vocoder::step`] stays behind its input, 75 ms: half a window, a hop to fill the
    /// other half of the last one, and hops for the frames of look-ahead, one of the integrator and one of each iteration.
    /// The first calls give that much less in all, and [`Vocoder::flush`] gives it back.
    pub const fn delay_samples() -> usize {
        LONG / 2 + HOP + ITERATIONS * HOP
    }

    /// The sound of a whole spectrogram, `frames * HOP` samples. Goes on from, and ends, whatever was stepped before.
    pub fn forward(&mut self, spectrogram: &Spectrogram) -> Stereo {
        let mut sound = self.step(&spectrogram.values);
        sound.extend(&self.flush());
        sound
    }

    /// Takes `frames`, (frames, [`FRAME_VALUES`]) row-major, and gives every sample they complete. Values after the last
    /// whole frame are ignored.
    ///
    /// Only sums over time go from one frame to the next; what goes before and after is done for many frames at once, on all
    /// threads unless this one works on a part of something.
    pub fn step(&mut self, frames: &[f32]) -> Stereo {
        self.step_remembering(frames, &[]).0
    }

    /// The same, and the [`Vocoder::memory`] before each frame of `frames` whose number is in `places`, in their order.
    pub fn step_remembering(&mut self, frames: &[f32], places: &[usize]) -> (Stereo, Vec<VocoderMemory>) {
        let frames: Vec<(usize, &[f32])> = frames.chunks_exact(FRAME_VALUES).enumerate().collect();
        let (mut sound, mut memories) = (Stereo::with_capacity(frames.len() * HOP), Vec::with_capacity(places.len()));
        for block in frames.chunks(BLOCK * threads()) {
            let plans = self.plans(block, |place, vocoder| {
                if places.contains(&place) {
                    memories.push(vocoder.memory());
                }
            });
            self.make(plans, false, &mut sound);
        }
        (sound, memories)
    }

    /// Takes numbered frames in and gives the plans of those that now have the one behind them; `before` is called before each
    /// of them is taken in.
    fn plans(&mut self, frames: &[(usize, &[f32])], mut before: impl FnMut(usize, &Self)) -> Vec<Arc<Plan>> {
        let heard = map_each(frames, |(_, values)| {
            let frame = Arc::new(Frame::new(values));
            let powers = self.synthesis.powers(&frame);
            (frame, Arc::new(powers))
        });
        let known = self.waiting.iter().chain(heard.iter().map(|(frame, _)| frame));
        let line: Vec<&Frame> = std::iter::once(&self.before).chain(known).map(Arc::as_ref).collect();
        let middle: Vec<(u64, &[&Frame])> = (self.made..).zip(line.windows(3)).collect();
        let mut prospects = map_each(&middle, |&(number, around)| self.prospect(number, around)).into_iter();
        let mut plans = Vec::with_capacity(heard.len());
        for ((next, powers), (place, _)) in heard.into_iter().zip(frames) {
            before(*place, self);
            self.hear(powers);
            // In this order: the very first frame has nothing before it that waits, and takes no prospect.
            if let Some(frame) = self.waiting.replace(next)
                && let Some(prospect) = prospects.next()
            {
                plans.push(self.plan(frame, &prospect));
            }
        }
        plans
    }

    /// Ends the sound: gives the samples still held and returns to frame 0.
    pub fn flush(&mut self) -> Stereo {
        let mut sound = Stereo::default();
        if let Some(last) = self.waiting.take() {
            self.hear(Arc::clone(&self.powers[2]));
            let prospect = self.prospect(self.made, &[&self.before, &last, &last]);
            let plan = self.plan(last, &prospect);
            self.make(vec![plan], true, &mut sound);
            self.overlap.flush(&mut sound);
        }
        *self = Self::at_start(self.synthesis.clone());
        sound
    }

    /// Refines the next frames, the last if `ended`, and moves what is finished to `sound`.
    fn make(&mut self, plans: Vec<Arc<Plan>>, ended: bool, sound: &mut Stereo) {
        self.planned.extend(plans.iter().cloned());
        let integrated =
            plans.iter().map(|plan| Integrated { magnitudes: &plan.frame.magnitudes, phases: &plan.phases });
        let (planned, synthesis) = (&self.planned, &self.synthesis);
        let finish = |place: usize, phasors: &Phasors| synthesis.sound(&planned[place], phasors);
        let sounds = self.refiner.step(&integrated.collect::<Vec<_>>(), ended, finish);
        self.planned.drain(..sounds.len());
        self.overlap.step(&sounds, sound);
    }

    /// Takes the bands of the next frame.
    fn hear(&mut self, powers: Arc<BandPowers>) {
        self.powers.rotate_left(1);
        self.powers[2] = powers;
    }

    /// What is known of a frame from itself and those before and behind it.
    fn prospect(&self, number: u64, around: &[&Frame]) -> Prospect {
        let [before, own, behind] = [around[0], around[1], around[2]];
        Prospect {
            course: Course::new(&before.levels, &own.levels, &behind.levels, &self.synthesis.random_phases(number)),
            slopes: slopes(&before.given, &own.given, &behind.given),
        }
    }

    /// What the next frame to be made takes from those around it.
    fn plan(&mut self, frame: Arc<Frame>, Prospect { course, slopes }: &Prospect) -> Arc<Plan> {
        let number = self.made;
        self.made += 1;
        self.before = Arc::clone(&frame);
        let (texture, phases) = (*self.texture.step(slopes), *self.integrator.step(course));
        Arc::new(Plan { number, frame, phases, texture, powers: self.powers.clone() })
    }
}

#[cfg(test)]
mod tests {
    use super::super::bands::LINEAR_BINS;
    use super::super::spectrogram::{Analyser, LINEAR_FLOOR, layout};
    use super::super::synthetic::{bell, correlation, crackle, noise, pan, together, tone};
    use super::*;
    use proptest::prelude::*;

    const SECOND: usize = crate::audio::SAMPLE_RATE as usize;

    fn vocoded(pcm: &Stereo) -> Stereo {
        Vocoder::new(7).forward(&Analyser::new().forward(pcm))
    }

    /// Magnitudes of the linear bins of one channel, both ends left out, where the vocoder fades.
    fn magnitudes(channel: &[f32]) -> Vec<f32> {
        let mono = Stereo { left: channel.to_vec(), right: channel.to_vec() };
        let spectrogram = Analyser::new().forward(&mono);
        let frames = 4..spectrogram.frames() - 4;
        let linear = frames.flat_map(|n| spectrogram.frame(n)[layout::LINEAR].to_vec());
        linear.map(|v| (v.exp() - LINEAR_FLOOR).max(0.0)).collect()
    }

    /// Spectral convergence below 4 kHz in dB: `20 log10(|| |Y| - |X| || / || |X| ||)`.
    fn convergence(want: &[f32], got: &[f32]) -> f32 {
        let (want, got) = (magnitudes(want), magnitudes(got));
        let error: f32 = want.iter().zip(&got).map(|(x, y)| (x - y).powi(2)).sum();
        10.0 * (error / want.iter().map(|x| x * x).sum::<f32>()).log10()
    }

    fn rms(channel: &[f32]) -> f32 {
        (channel.iter().map(|x| x * x).sum::<f32>() / channel.len() as f32).sqrt()
    }

    fn sum(parts: &[Vec<f32>]) -> Vec<f32> {
        (0..parts[0].len()).map(|i| parts.iter().map(|part| part[i]).sum()).collect()
    }

    #[test]
    fn sounds_below_the_split_come_back_where_they_were() {
        let n = 2 * SECOND;
        for (name, mono, limit) in [
            ("tone", tone(196.0, 0.2, n), -30.0),
            ("chord", sum(&[tone(220.0, 0.1, n), tone(277.18, 0.1, n), tone(329.63, 0.1, n)]), -14.0),
            ("bells", sum(&[bell(523.25, 0.2, 9_000, n), bell(392.0, 0.2, 45_000, n)]), -27.0),
            ("crackle", crackle(1, 12.0, n), -12.0),
        ] {
            for position in [0.0, 0.7] {
                let pcm = pan(&mono, position);
                let out = vocoded(&pcm);
                for (want, got) in [(&pcm.left, &out.left), (&pcm.right, &out.right)] {
                    let (sc, db) = (convergence(want, got), 20.0 * (rms(got) / rms(want)).log10());
                    assert!(sc < limit, "{name} at {position}: spectral convergence {sc} dB");
                    assert!(db.abs() < 1.5, "{name} at {position}: level {db} dB");
                }
            }
        }
    }

    #[test]
    fn attacks_stay_within_five_milliseconds() {
        // Struck partials that die away in 2 ms, at every place relative to the frames; more than one to a window.
        let (mut mono, attacks) = (vec![0.0; 2 * SECOND], || (3_000..2 * SECOND - 3_000).step_by(1_901));
        for at in attacks() {
            for (i, x) in mono[at..].iter_mut().take(SECOND / 50).enumerate() {
                let t = i as f32 / SECOND as f32;
                let partials = [700.0f32, 1_310.0, 2_290.0].map(|hz| (std::f32::consts::TAU * hz * t).sin());
                *x += 0.1 * (-t / 0.002).exp() * partials.iter().sum::<f32>();
            }
        }
        let out = vocoded(&pan(&mono, 0.0));
        let near = |channel: &[f32]| -> f32 {
            attacks().flat_map(|at| &channel[at - SECOND / 200..at + SECOND / 200]).map(|x| x * x).sum()
        };
        let kept = near(&out.left) / near(&pan(&mono, 0.0).left);
        assert!((0.9..1.1).contains(&kept), "{kept} of the energy");
    }

    #[test]
    fn noise_keeps_its_level_and_coherence() {
        let (one, two) = (noise(1, 0.1, 2 * SECOND), noise(2, 0.1, 2 * SECOND));
        for (pcm, tolerance) in [
            (pan(&one, 0.0), 1e-3),
            (together(&pan(&one, 0.4), &pan(&two, -0.4)), 0.03),
            (Stereo { left: one, right: two }, 0.06),
        ] {
            let out = vocoded(&pcm);
            let (want, got) = (correlation(&pcm), correlation(&out));
            assert!((want - got).abs() < tolerance, "correlation {got} instead of {want}");
            // The vocoder ends at 22 of 24 kHz: 0.4 dB.
            let db = 20.0 * (rms(&out.left) / rms(&pcm.left)).log10();
            assert!(db.abs() < 1.0, "level {db} dB");
        }
    }

    /// The spectrogram of noise as the codec gives it: the local quantile at which the power has its mean.
    fn plain(spectrogram: &Spectrogram, reach: usize) -> Spectrogram {
        let mut out = spectrogram.clone();
        for (n, frame) in out.values.chunks_exact_mut(FRAME_VALUES).enumerate() {
            let times = n.saturating_sub(reach)..(n + reach + 1).min(spectrogram.frames());
            for (k, value) in frame[layout::LINEAR].iter_mut().enumerate() {
                let bins = k.saturating_sub(reach)..(k + reach + 1).min(LINEAR_BINS);
                let mut around: Vec<f32> =
                    times.clone().flat_map(|m| &spectrogram.frame(m)[bins.clone()]).copied().collect();
                let quantile = (0.632 * around.len() as f32) as usize;
                *value = *around.select_nth_unstable_by(quantile, f32::total_cmp).1;
            }
        }
        out
    }

    #[test]
    fn a_plain_becomes_natural_noise() {
        let original = noise(1, 0.1, 2 * SECOND);
        let spectrogram = plain(&Analyser::new().forward(&pan(&original, 0.0)), 4);
        let out = Vocoder::new(7).forward(&spectrogram);
        let (want, got) = (magnitudes(&pan(&original, 0.0).left), magnitudes(&out.left));
        let db = |m: &[f32]| 10.0 * (m.iter().map(|m| m * m).sum::<f32>() / m.len() as f32).log10();
        assert!((db(&want) - db(&got)).abs() < 0.5, "level {} instead of {} dB", db(&got), db(&want));
        // The level of a bin of Gaussian noise has a deviation of 5.57 dB, and knows nothing of the bin four away.
        let levels: Vec<f32> = got.iter().map(|m| 20.0 * m.max(1e-6).log10()).collect();
        let mean = levels.iter().sum::<f32>() / levels.len() as f32;
        let product = |lag: usize| {
            let rows = levels.chunks_exact(LINEAR_BINS).flat_map(|row| row.iter().zip(&row[lag..]));
            rows.map(|(a, b)| (a - mean) * (b - mean)).sum::<f32>() / levels.len() as f32
        };
        let (deviation, across) = (product(0).sqrt(), product(4) / product(0));
        assert!((deviation - 5.57).abs() < 0.4, "deviation {deviation} dB");
        assert!(across.abs() < 0.05, "correlation {across} across bins");
    }

    #[test]
    fn nonsense_stays_finite() {
        let mut values = Vec::new();
        for nonsense in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 1e30, -1e30, 0.0] {
            values.extend([nonsense; FRAME_VALUES]);
            values.extend(silence());
        }
        let out = Vocoder::new(1).forward(&Spectrogram { values });
        assert_eq!(out.len(), 12 * HOP);
        assert!(out.interleaved().all(|x| x.abs() < 1e4));
        let out = Vocoder::new(1).forward(&Spectrogram { values: silence().repeat(9) });
        assert!(out.interleaved().all(|x| x.abs() < 1e-4), "silence is silent");
    }

    #[test]
    fn the_delay_is_as_documented() {
        let spectrogram = Analyser::new().forward(&pan(&noise(1, 0.1, 10 * HOP), 0.0));
        let mut vocoder = Vocoder::new(1);
        assert_eq!(vocoder.step(&spectrogram.values).len(), 10 * HOP - Vocoder::delay_samples());
        assert_eq!(vocoder.flush().len(), Vocoder::delay_samples());
        assert_eq!(vocoder.flush().len(), 0);
        assert_eq!(vocoder.forward(&Spectrogram { values: silence().to_vec() }).len(), HOP);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]
        #[test]
        fn any_chunking_gives_the_same_bits(cuts in prop::collection::vec(0usize..9, 1..12), seed: u64) {
            let total: usize = cuts.iter().sum();
            let mono = together(&pan(&crackle(seed, 60.0, total * HOP), 0.3), &pan(&noise(seed, 0.1, total * HOP), -0.8));
            let spectrogram = Analyser::new().forward(&mono);
            let mut vocoder = Vocoder::new(seed);
            let mut streamed = Stereo::default();
            let mut at = 0;
            for cut in cuts {
                streamed.extend(&vocoder.step(&spectrogram.values[at * FRAME_VALUES..(at + cut) * FRAME_VALUES]));
                vocoder = vocoder.clone();
                at += cut;
            }
            streamed.extend(&vocoder.flush());
            prop_assert_eq!(streamed.len(), total * HOP);
            prop_assert_eq!(streamed, Vocoder::new(seed).forward(&spectrogram));
        }
    }
}
