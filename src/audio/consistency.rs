//! Phases that agree: a few iterations of Griffin and Lim's algorithm behind the integrator.
//!
//! Not every spectrogram is one of a sound. Where integrated phases contradict each other, the frames that overlap cancel
//! in part, and above all attacks are smeared. Griffin and Lim 1984 make the sound of such a spectrogram, take the phases
//! of *its* spectrogram and the magnitudes that were given, and begin again; Perraudin, Balazs and Søndergaard 2013 add
//! momentum; Průša and Rajmic 2017 found that a few iterations are enough behind phase gradient heap integration. Here
//! only the neighbours of a frame take part, so that an iteration waits for one frame and no more. With `w` the window,
//! `x(i, n)` the sound of frame `n` as iteration `i` leaves it (zero outside its window), `M` the magnitudes and
//! `alpha` = [`MOMENTUM`]:
//!
//! ```text
//! x(i, n) = w IFFT(M(n) c(i, n))                     the sound, c(0, n) being the integrated phases
//! t(i, n) = FFT(w (x(i-1, n-1) + x(i-1, n) + x(i-1, n+1)))       all in the place of frame n
//! z(i, n) = t(i, n) + alpha (t(i, n) - t(i-1, n))                t(1, n) where i = 1
//! c(i, n) = z(i, n) / |z(i, n)|
//! ```
//!
//! Iteration `i` of a frame needs iteration `i - 1` of three frames, so the iterations are stages in a row, each a frame
//! later than the one before it: streams and whole spectrograms take the same steps on the same numbers. Where the sound
//! begins and ends there is no neighbour to add.
//!
//! All of this lies below 4 kHz, so it is computed at a quarter of the sample rate: 512 samples to a window, 128 to a hop,
//! the same bins. A Hann window has three lines: windowed twice, the last bin reaches to 4055 Hz, far below the 6 kHz where
//! the quarter rate ends. What two frames share is windowed by a product that is zero outside of both: it has more lines,
//! which decay with the third power of their distance, and what 6 kHz mirrors into the bins is five decimal places down.

use std::sync::{Arc, LazyLock};

use realfft::num_complex::Complex32;
use realfft::{ComplexToReal, RealFftPlanner, RealToComplex};

use super::HOP;
use super::bands::{LINEAR_BINS, LONG, hann};
use super::phase::Bins;
use crate::ops::{map_each, sin_cos, vectorised};

/// Iterations, and with them frames of look-ahead.
pub(super) const ITERATIONS: usize = 4;
/// The `alpha` of the momentum.
const MOMENTUM: f32 = 0.9;
/// How many times lower the sample rate is than that of the sound.
const DECIMATION: usize = 4;

/// A complex number for each linear bin: real and imaginary parts.
type Lines = [Bins; 2];

/// Lines of magnitude 1: the phase of each, counted from the window's first sample.
pub(super) type Phasors = Lines;

/// A frame as the integrator leaves it.
pub(super) struct Integrated<'a> {
    /// Magnitudes of the linear bins, finite.
    pub magnitudes: &'a Bins,
    /// Their phases in radians, counted from the window's centre.
    pub phases: &'a Bins,
}

/// A frame between two iterations.
struct Guess {
    magnitudes: Bins,
    phasors: Phasors,
    /// The `t` of the iteration before, if there was one.
    seen: Option<Lines>,
    /// The windowed sound of these magnitudes and phasors.
    sound: Vec<f32>,
}

/// A frame with its neighbours, of which there is none before the first frame and behind the last.
struct Around<'a> {
    before: Option<&'a Guess>,
    own: &'a Guess,
    behind: Option<&'a Guess>,
}

impl<'a> Around<'a> {
    fn of(frames: &'a [Option<Arc<Guess>>]) -> Option<Self> {
        let [before, Some(own), behind] = frames else { return None };
        Some(Self { before: before.as_deref(), own, behind: behind.as_deref() })
    }
}

/// To and fro between the bins and windowed sound.
struct Transform {
    forward: Arc<dyn RealToComplex<f32>>,
    inverse: Arc<dyn ComplexToReal<f32>>,
    window: Vec<f32>,
    /// Samples from one frame to the next.
    hop: usize,
}

/// The one of all streams.
static TRANSFORM: LazyLock<Transform> = LazyLock::new(|| Transform::new(DECIMATION));

impl Transform {
    /// At the sample rate of the sound divided by `decimation`.
    fn new(decimation: usize) -> Self {
        let (samples, mut planner) = (LONG / decimation, RealFftPlanner::new());
        let (forward, inverse) = (planner.plan_fft_forward(samples), planner.plan_fft_inverse(samples));
        Self { forward, inverse, window: hann(samples), hop: HOP / decimation }
    }

    /// A frame before the first iteration.
    fn begin(&self, frame: &Integrated<'_>) -> Guess {
        let mut phasors = [[0.0; LINEAR_BINS]; 2];
        vectorised(
            #[inline(always)]
            || {
                let [re, im] = &mut phasors;
                for (bin, ((re, im), &phase)) in re.iter_mut().zip(im).zip(frame.phases).enumerate() {
                    let (sine, cosine) = sin_cos(phase);
                    // From the centre of the window to its first sample it is half a turn for each bin.
                    let sign = 1.0 - (2 * (bin & 1)) as f32;
                    (*re, *im) = (sign * cosine, sign * sine);
                }
            },
        );
        self.guess(*frame.magnitudes, phasors, None)
    }

    /// A frame with its sound.
    fn guess(&self, magnitudes: Bins, phasors: Phasors, seen: Option<Lines>) -> Guess {
        let mut spectrum = vec![Complex32::default(); self.window.len() / 2 + 1];
        vectorised(
            #[inline(always)]
            || {
                let [re, im] = &phasors;
                for ((line, (re, im)), magnitude) in spectrum.iter_mut().zip(re.iter().zip(im)).zip(&magnitudes) {
                    *line = Complex32::new(magnitude * re, magnitude * im);
                }
            },
        );
        spectrum[0].im = 0.0;
        let mut sound = vec![0.0; self.window.len()];
        let done = self.inverse.process(&mut spectrum, &mut sound);
        // Fails only on wrong lengths, or with a note that an end line was not real.
        debug_assert!(done.is_ok());
        self.window(&mut sound);
        Guess { magnitudes, phasors, seen, sound }
    }

    /// An iteration: the phases that the frames around leave to this one, and the `t` they come from.
    fn agree(&self, Around { before, own, behind }: &Around<'_>) -> (Phasors, Lines) {
        let overlap = self.window.len() - self.hop;
        let mut sound = own.sound.clone();
        vectorised(
            #[inline(always)]
            || {
                if let Some(before) = before {
                    sound[..overlap].iter_mut().zip(&before.sound[self.hop..]).for_each(|(sum, sample)| *sum += sample);
                }
                if let Some(behind) = behind {
                    sound[self.hop..].iter_mut().zip(&behind.sound[..overlap]).for_each(|(sum, sample)| *sum += sample);
                }
            },
        );
        self.window(&mut sound);
        let mut spectrum = vec![Complex32::default(); self.window.len() / 2 + 1];
        let done = self.forward.process(&mut sound, &mut spectrum);
        // Fails only on wrong lengths.
        debug_assert!(done.is_ok());
        let mut seen = [[0.0; LINEAR_BINS]; 2];
        let mut phasors = own.phasors;
        vectorised(
            #[inline(always)]
            || {
                let [re, im] = &mut seen;
                for ((re, im), line) in re.iter_mut().zip(im).zip(&spectrum) {
                    (*re, *im) = (line.re, line.im);
                }
                direct(&seen, own.seen.as_ref().unwrap_or(&seen), &mut phasors);
            },
        );
        (phasors, seen)
    }

    fn window(&self, sound: &mut [f32]) {
        vectorised(
            #[inline(always)]
            || sound.iter_mut().zip(&self.window).for_each(|(sample, w)| *sample *= w),
        );
    }
}

/// Turns phasors to where lines go that are now `seen` and were `past` before.
#[inline(always)]
fn direct(seen: &Lines, past: &Lines, [re, im]: &mut Phasors) {
    for k in 0..LINEAR_BINS {
        let [x, y] = [0, 1].map(|i: usize| seen[i][k] + MOMENTUM * (seen[i][k] - past[i][k]));
        let power = x * x + y * y;
        // What is next to nothing has no direction.
        let heard = power > f32::MIN_POSITIVE;
        let scale = power.max(f32::MIN_POSITIVE).sqrt().recip();
        re[k] = if heard { scale * x } else { re[k] };
        im[k] = if heard { scale * y } else { im[k] };
    }
}

/// What a stage holds: the last frames it was given, oldest first. The first of them has been worked on already, or is the
/// nothing before the first frame; the second waits for the one behind it.
#[derive(Clone)]
struct Held(Vec<Option<Arc<Guess>>>);

impl Held {
    fn new() -> Self {
        Self(vec![None])
    }

    /// Takes the next frames, `ended` if there will be no more, and maps those that now have their neighbours, and their places
    /// among them.
    fn step<R: Send>(
        &mut self,
        next: Vec<Arc<Guess>>,
        ended: bool,
        make: impl Fn(usize, &Around<'_>) -> R + Sync,
    ) -> Vec<R> {
        self.0.extend(next.into_iter().map(Some));
        if ended {
            self.0.push(None);
        }
        let ready: Vec<(usize, Around<'_>)> = self.0.windows(3).filter_map(Around::of).enumerate().collect();
        let made = map_each(&ready, |(place, around)| make(*place, around));
        if ended {
            *self = Self::new();
        } else {
            self.0.drain(..self.0.len().saturating_sub(2));
        }
        made
    }
}

/// Follows the integrator [`ITERATIONS`] frames behind. A clone is a snapshot.
#[derive(Clone)]
pub(super) struct Refiner {
    early: [Held; ITERATIONS - 1],
    last: Held,
}

impl Refiner {
    /// Before the first frame.
    pub(super) fn new() -> Self {
        Self { early: [(); ITERATIONS - 1].map(|()| Held::new()), last: Held::new() }
    }

    /// Takes the next frames and gives what `finish` makes of the phases of those that have had their iterations, in order, and of
    /// their places in it: all but the last [`ITERATIONS`] of those taken so far. If this is where they end, it gives those as well
    /// and returns to the beginning.
    pub(super) fn step<R: Send>(
        &mut self,
        frames: &[Integrated<'_>],
        ended: bool,
        finish: impl Fn(usize, &Phasors) -> R + Sync,
    ) -> Vec<R> {
        let (transform, Self { early, last }) = (&*TRANSFORM, self);
        let mut guesses = map_each(frames, |frame| Arc::new(transform.begin(frame)));
        for held in early {
            guesses = held.step(guesses, ended, |_, around| {
                let (phasors, seen) = transform.agree(around);
                Arc::new(transform.guess(around.own.magnitudes, phasors, Some(seen)))
            });
        }
        last.step(guesses, ended, |place, around| finish(place, &transform.agree(around).0))
    }
}

#[cfg(test)]
mod tests {
    use super::super::spectrogram::{Analyser, layout};
    use super::super::synthesis::Frame;
    use super::super::synthetic::{crackle, pan, tone};
    use super::*;
    use proptest::prelude::*;

    /// Magnitudes of clicks over a tone, and phases that have nothing to do with them.
    fn frames(count: usize) -> Vec<(Bins, Bins)> {
        let clicks = crackle(3, 40.0, count * HOP);
        let mono: Vec<f32> = clicks.iter().zip(tone(311.0, 0.1, count * HOP)).map(|(a, b)| a + b).collect();
        let spectrogram = Analyser::new().forward(&pan(&mono, 0.0));
        let phase = |n: usize, bin: usize| ((n * 37 + bin * bin * 11) % 97) as f32 * 0.0647 - 3.1;
        let frame = |n: usize| (Frame::new(spectrogram.frame(n)).magnitudes, std::array::from_fn(|bin| phase(n, bin)));
        assert_eq!(layout::LINEAR.len(), LINEAR_BINS);
        (0..count).map(frame).collect()
    }

    fn integrated(frames: &[(Bins, Bins)]) -> Vec<Integrated<'_>> {
        frames.iter().map(|(magnitudes, phases)| Integrated { magnitudes, phases }).collect()
    }

    /// What is finished as it is.
    fn phases(_: usize, phasors: &Phasors) -> Phasors {
        *phasors
    }

    fn complex([re, im]: &Lines) -> Vec<Complex32> {
        re.iter().zip(im).map(|(&re, &im)| Complex32::new(re, im)).collect()
    }

    /// One iteration over all frames.
    fn iterate(transform: &Transform, guesses: &[Guess]) -> Vec<Guess> {
        let around = |n: usize| Around {
            before: n.checked_sub(1).map(|n| &guesses[n]),
            own: &guesses[n],
            behind: guesses.get(n + 1),
        };
        let step = |n: usize| {
            let (phasors, seen) = transform.agree(&around(n));
            transform.guess(guesses[n].magnitudes, phasors, Some(seen))
        };
        (0..guesses.len()).map(step).collect()
    }

    #[test]
    fn a_quarter_of_the_sample_rate_is_enough() {
        let frames = frames(12);
        let [low, full] = [DECIMATION, 1].map(|decimation| {
            let transform = Transform::new(decimation);
            let begun: Vec<Guess> = integrated(&frames).iter().map(|frame| transform.begin(frame)).collect();
            iterate(&transform, &begun)
        });
        for (n, (low, full)) in low.iter().zip(&full).enumerate() {
            let [low, full] = [low, full].map(|guess| complex(&guess.seen.unwrap()));
            let loudest = full.iter().map(|z| z.norm()).fold(0.0, f32::max);
            for (bin, (low, full)) in low.iter().zip(&full).enumerate() {
                let error = (low * DECIMATION as f32 - full).norm() / loudest;
                assert!(error < 1e-5, "frame {n}, bin {bin}: {error}");
            }
        }
    }

    #[test]
    fn each_iteration_brings_the_frames_closer_to_those_of_a_sound() {
        let (frames, transform) = (frames(40), Transform::new(DECIMATION));
        let mut guesses: Vec<Guess> = integrated(&frames).iter().map(|frame| transform.begin(frame)).collect();
        // How much of the magnitudes the frames around a frame leave of it: the sum of `Re(t conj(M c))`.
        let mut kept = Vec::new();
        for _ in 0..=ITERATIONS {
            let next = iterate(&transform, &guesses);
            let of_frame = |(now, next): (&Guess, &Guess)| -> f32 {
                let (seen, phasors) = (complex(&next.seen.unwrap()), complex(&now.phasors));
                (0..LINEAR_BINS).map(|k| now.magnitudes[k] * (seen[k] * phasors[k].conj()).re).sum()
            };
            kept.push(guesses.iter().zip(&next).map(of_frame).sum::<f32>());
            guesses = next;
        }
        assert!(kept.windows(2).all(|pair| pair[1] > pair[0]), "{kept:?}");
        assert!(kept[ITERATIONS] > 1.3 * kept[0], "{kept:?}");
    }

    #[test]
    fn silence_keeps_its_phases() {
        let silence = ([0.0; LINEAR_BINS], std::array::from_fn(|bin| 0.03 * bin as f32 - 2.0));
        for phasors in Refiner::new().step(&integrated(&[silence; 3]), true, phases) {
            for (bin, phasor) in complex(&phasors).iter().enumerate() {
                let sign = if bin % 2 == 0 { 1.0 } else { -1.0 };
                assert!((phasor * sign - Complex32::from_polar(1.0, silence.1[bin])).norm() < 1e-6);
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]
        #[test]
        fn stages_in_a_row_do_what_iterations_over_all_frames_do(cuts in prop::collection::vec(0usize..7, 1..8)) {
            let total = cuts.iter().sum();
            let (frames, transform) = (frames(total), Transform::new(DECIMATION));
            let mut all: Vec<Guess> = integrated(&frames).iter().map(|frame| transform.begin(frame)).collect();
            for _ in 0..ITERATIONS {
                all = iterate(&transform, &all);
            }
            let all: Vec<Phasors> = all.iter().map(|guess| guess.phasors).collect();
            let (mut refiner, mut refined, mut rest) = (Refiner::new(), Vec::new(), &frames[..]);
            for cut in cuts {
                let (next, later) = rest.split_at(cut);
                refined.extend(refiner.step(&integrated(next), false, phases));
                refiner = refiner.clone();
                rest = later;
                prop_assert_eq!(refined.len(), (total - rest.len()).saturating_sub(ITERATIONS));
            }
            refined.extend(refiner.step(&[], true, phases));
            prop_assert_eq!(&refined, &all);
            prop_assert_eq!(refiner.step(&integrated(&frames), true, phases), all, "it is back at the beginning");
        }
    }
}
