//! Sample-rate conversion, band-limited, offline or as the sound comes.

use audioadapter_buffers::direct::SequentialSliceOfVecs;
use rubato::{Async, Fft, FixedAsync, FixedSync, Indexing, SincInterpolationParameters};

use super::{AudioError, RATES, Stereo};

/// Samples the converter takes at once, about.
const BLOCK: usize = 1024;
/// The longest period (`from / gcd(from, to)` samples) for the Fourier converter, whose blocks are two of them at least:
/// it is short for the rates in use, but a second for odd ones, and a stream cannot wait for that.
const LONGEST_PERIOD: usize = 2048;

/// Converts stereo sound between two rates within 8 to 96 kHz. The filter's delay is trimmed: `n` samples become
/// `round(n to / from)`, and sample 0 stays sample 0 (to within half a sample where the rates have so little in common
/// that their period is above 2048 samples). Equal rates pass the sound through untouched.
pub struct Resampler {
    /// `None` when the rates are equal.
    converter: Option<Box<dyn rubato::Resampler<f32>>>,
    from_hz: u32,
    to_hz: u32,
    /// Input not yet converted.
    pending: [Vec<f32>; 2],
    /// Samples taken in and given out since the start.
    taken: u64,
    given: u64,
    /// Samples of delay still to be dropped, and all of them.
    late: usize,
    delay: usize,
}

impl Resampler {
    /// A converter at the start of a sound. Rates are in Hz.
    pub fn new(from_hz: u32, to_hz: u32) -> Result<Self, AudioError> {
        for hz in [from_hz, to_hz] {
            if !RATES.contains(&hz) {
                return Err(AudioError::Rate { hz });
            }
        }
        Self::of_recording(from_hz, to_hz)
    }

    /// As [`Resampler::new`], for a recording, whose rate nobody chose: any that the converter can be built for.
    pub fn of_recording(from_hz: u32, to_hz: u32) -> Result<Self, AudioError> {
        if from_hz == 0 || to_hz == 0 {
            return Err(AudioError::Rate { hz: 0 });
        }
        let built = (from_hz != to_hz).then(|| converter(from_hz, to_hz)).transpose()?;
        let (converter, delay) = built.map_or((None, 0), |(converter, delay)| (Some(converter), delay));
        Ok(Self { converter, from_hz, to_hz, pending: Default::default(), taken: 0, given: 0, late: delay, delay })
    }

    /// Samples it takes at once. A converter that begins at a multiple of them goes on as one from the start of the sound
    /// does, once two more such blocks lie behind it.
    pub fn block(&self) -> usize {
        self.converter.as_ref().map_or(1, |converter| converter.input_frames_next())
    }

    /// Converts a whole sound. Goes on from, and ends, whatever was stepped before.
    pub fn forward(&mut self, sound: &Stereo) -> Stereo {
        let mut converted = self.step(sound);
        converted.extend(&self.flush());
        converted
    }

    /// Takes more of the sound and gives every sample that is complete. Any chunking gives the same samples.
    pub fn step(&mut self, sound: &Stereo) -> Stereo {
        let Some(converter) = &mut self.converter else { return sound.clone() };
        self.pending[0].extend_from_slice(&sound.left);
        self.pending[1].extend_from_slice(&sound.right);
        self.taken += sound.len() as u64;
        let mut converted = Stereo::default();
        let mut used = 0;
        while self.pending.iter().all(|channel| channel.len() - used >= converter.input_frames_next()) {
            used += block(&mut **converter, &self.pending, used, None, &mut self.late, &mut converted);
        }
        for channel in &mut self.pending {
            channel.drain(..used);
        }
        self.given += converted.len() as u64;
        converted
    }

    /// Ends the sound: gives what is left of it and returns to the start.
    pub fn flush(&mut self) -> Stereo {
        let Some(converter) = &mut self.converter else { return Stereo::default() };
        let (from, to) = (u64::from(self.from_hz), u64::from(self.to_hz));
        let want = ((2 * self.taken * to + from) / (2 * from)).saturating_sub(self.given) as usize;
        let mut converted = Stereo::default();
        while converted.len() < want {
            let rest = self.pending[0].len();
            block(&mut **converter, &self.pending, 0, Some(rest), &mut self.late, &mut converted);
            self.pending.iter_mut().for_each(Vec::clear);
        }
        converted.left.truncate(want);
        converted.right.truncate(want);
        self.pending.iter_mut().for_each(Vec::clear);
        converter.reset();
        self.late = self.delay;
        (self.taken, self.given) = (0, 0);
        converted
    }
}

/// The converter for two different rates, and its delay in output samples: by Fourier transform where its blocks are
/// short, by interpolated sinc otherwise.
fn converter(from_hz: u32, to_hz: u32) -> Result<(Box<dyn rubato::Resampler<f32>>, usize), AudioError> {
    let failed = |error: rubato::ResamplerConstructionError| {
        let reason = error.to_string();
        AudioError::Resampler { from_hz, to_hz, reason }
    };
    let period = (from_hz / gcd(from_hz, to_hz)) as usize;
    if period <= LONGEST_PERIOD {
        // An even number of periods: the delay, half a block, is then a whole number of samples.
        let input = BLOCK.div_ceil(2 * period) * 2 * period;
        let converter = Fft::new(from_hz as usize, to_hz as usize, input, 2, FixedSync::Both).map_err(failed)?;
        let delay = rubato::Resampler::<f32>::output_delay(&converter);
        Ok((Box::new(converter), delay))
    } else {
        let (ratio, filter) = (f64::from(to_hz) / f64::from(from_hz), SincInterpolationParameters::default());
        let converter = Async::new_sinc(ratio, 1.0, &filter, BLOCK, 2, FixedAsync::Input).map_err(failed)?;
        // It starts half a filter before the first sample and takes a step before it makes one.
        let delay = (filter.sinc_len as f64 / 2.0 * ratio - 1.0).round() as usize;
        Ok((Box::new(converter), delay))
    }
}

fn gcd(a: u32, b: u32) -> u32 {
    if b == 0 { a } else { gcd(b, a % b) }
}

/// Converts one block of `input` from sample `offset` on, of which `partial` samples are there (or all), and appends what
/// lies behind the delay. Returns how many samples were used.
fn block(
    converter: &mut dyn rubato::Resampler<f32>,
    input: &[Vec<f32>; 2],
    offset: usize,
    partial: Option<usize>,
    delay: &mut usize,
    converted: &mut Stereo,
) -> usize {
    let (used, made) = (converter.input_frames_next(), converter.output_frames_next());
    let mut output = [vec![0.0; made], vec![0.0; made]];
    let indexing = Indexing { input_offset: offset, partial_len: partial, ..Indexing::default() };
    // The sizes are the ones it asked for, which is all that these calls can complain about.
    let done = SequentialSliceOfVecs::new(&input[..], 2, input[0].len().min(input[1].len())).is_ok_and(|from| {
        SequentialSliceOfVecs::new_mut(&mut output[..], 2, made)
            .is_ok_and(|mut to| converter.process_into_buffer(&from, &mut to, Some(&indexing)).is_ok())
    });
    debug_assert!(done);
    let skip = (*delay).min(made);
    *delay -= skip;
    converted.left.extend_from_slice(&output[0][skip..]);
    converted.right.extend_from_slice(&output[1][skip..]);
    used
}

#[cfg(test)]
mod tests {
    use super::super::synthetic::{noise, sine};
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_sine_stays_the_sine() {
        let exact = [(48_000, 44_100), (44_100, 48_000), (48_000, 16_000), (8_000, 48_000), (22_050, 96_000)];
        let odd = [(48_000, 47_999), (48_000, 30_011), (22_051, 48_000)];
        for ((from, to), offset) in exact.into_iter().map(|r| (r, 0.0)).chain(odd.into_iter().map(|r| (r, 0.5))) {
            // The synthesiser counts in samples of 48 kHz.
            let mono = sine(1000.0 * 48_000.0 / from as f32, 0.5, from as usize);
            let sound = Stereo { left: mono.clone(), right: mono.iter().map(|x| -x).collect() };
            let out = Resampler::new(from, to).unwrap().forward(&sound);
            assert_eq!(out.len(), to as usize);
            let step = std::f32::consts::TAU * 1000.0 / to as f32;
            let tolerance = 1e-3 + 0.5 * step * offset;
            for i in to as usize / 10..to as usize * 9 / 10 {
                let want = 0.5 * (std::f64::consts::TAU * 1000.0 * i as f64 / f64::from(to)).sin() as f32;
                assert!((out.left[i] - want).abs() < tolerance, "{from} -> {to}, {i}: {} {want}", out.left[i]);
                assert!((out.right[i] + want).abs() < tolerance);
            }
        }
    }

    #[test]
    fn what_the_lower_rate_cannot_hold_is_gone() {
        let mono = sine(11_000.0, 0.5, 48_000);
        let out = Resampler::new(48_000, 16_000).unwrap().forward(&Stereo { left: mono.clone(), right: mono });
        assert!(out.left[1600..14_400].iter().all(|x| x.abs() < 1e-3));
    }

    #[test]
    fn equal_rates_change_nothing_and_odd_ones_are_refused() {
        let sound = Stereo { left: noise(1, 0.5, 999), right: noise(2, 0.5, 999) };
        assert_eq!(Resampler::new(48_000, 48_000).unwrap().forward(&sound), sound);
        assert!(matches!(Resampler::new(7_999, 48_000), Err(AudioError::Rate { hz: 7_999 })));
        let high = Resampler::of_recording(192_000, 48_000).unwrap().forward(&Stereo::silence(4000));
        assert_eq!(high.len(), 1000);
        assert!(Resampler::of_recording(0, 48_000).is_err());
        let error = Resampler::new(48_000, 96_001).err().unwrap();
        assert_eq!(error.to_string(), "sample rate 96001 Hz is outside 8000..=96000 Hz");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]
        #[test]
        fn any_chunking_gives_the_same_bits(
            cuts in prop::collection::vec(0usize..3000, 0..8),
            rates in prop_oneof![
                prop::sample::select(vec![
                    (48_000, 44_100), (44_100, 48_000), (48_000, 16_000), (22_050, 48_000), (48_000, 48_000),
                ]),
                (8_000u32..=96_000).prop_map(|to| (48_000, to)),
            ],
        ) {
            let total: usize = cuts.iter().sum();
            let sound = Stereo { left: noise(1, 0.3, total), right: noise(2, 0.3, total) };
            let mut resampler = Resampler::new(rates.0, rates.1).unwrap();
            let mut streamed = Stereo::default();
            let mut at = 0;
            for cut in cuts {
                let part = |channel: &[f32]| channel[at..at + cut].to_vec();
                streamed.extend(&resampler.step(&Stereo { left: part(&sound.left), right: part(&sound.right) }));
                at += cut;
            }
            streamed.extend(&resampler.flush());
            let want = (total as f64 * f64::from(rates.1) / f64::from(rates.0)).round() as usize;
            prop_assert_eq!(streamed.len(), want);
            prop_assert_eq!(&streamed, &resampler.forward(&sound), "and a second sound starts afresh");
        }
    }
}
