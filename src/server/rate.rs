//! Sample indices and sound of one timeline at two rates.

use crate::audio::{AudioError, Resampler, Stereo};

/// Blocks after which a converter has forgotten how it began.
const MEMORY_BLOCKS: u64 = 2;

/// The two rates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rates {
    /// The model's rate in Hz.
    pub model: u32,
    /// The listener's rate in Hz.
    pub output: u32,
}

impl Rates {
    /// The first output sample at or after this sample of the model.
    pub fn to_output(self, sample: u64) -> u64 {
        let product = u128::from(sample) * u128::from(self.output);
        u64::try_from(product.div_ceil(u128::from(self.model))).unwrap_or(u64::MAX)
    }

    /// The last sample of the model at or before this output sample.
    pub fn to_model(self, sample: u64) -> u64 {
        let product = u128::from(sample) * u128::from(self.model);
        u64::try_from(product / u128::from(self.output)).unwrap_or(u64::MAX)
    }
}

/// Converts a stream that may be taken back in part, or be taken up in the middle.
pub struct Resampling {
    rates: Rates,
    resampler: Resampler,
    /// Samples the converter takes at once.
    block: u64,
    /// The last samples received, as far as they may be needed again; none where nothing is converted.
    past: Stereo,
    kept: usize,
    /// The index behind them.
    received: u64,
    /// The next output sample that comes from the converter, and the next that is wanted of it.
    next: u64,
    wanted: u64,
}

impl Resampling {
    /// A converter for a stream from sample `first` of the model on, of which at most `revocable` samples are taken back
    /// at once.
    ///
    /// In the middle of a stream, where the rates differ, it leaves out the first samples, about 0.1 s, because they
    /// depend on what came before: a listener that resumes holds them already.
    ///
    /// # Errors
    /// When a rate is not on offer.
    pub fn new(rates: Rates, first: u64, revocable: u64) -> Result<Self, AudioError> {
        let resampler = Resampler::new(rates.model, rates.output)?;
        let block = resampler.block() as u64;
        let kept = (revocable + (MEMORY_BLOCKS + 1) * block) as usize;
        let wanted = rates.to_output(first);
        let past = Stereo::default();
        let mut resampling = Self { rates, resampler, block, past, kept, received: first, next: wanted, wanted };
        if resampling.converts() && first > 0 {
            resampling.begin_at(first)?;
            resampling.wanted = rates.to_output(first + MEMORY_BLOCKS * block);
        }
        Ok(resampling)
    }

    /// The two rates.
    pub fn rates(&self) -> Rates {
        self.rates
    }

    /// The next output sample that comes.
    pub fn wanted(&self) -> u64 {
        self.wanted
    }

    fn converts(&self) -> bool {
        self.rates.model != self.rates.output
    }

    /// Takes more sound and gives what is complete, with the index of its first output sample.
    pub fn step(&mut self, sound: &Stereo) -> (u64, Stereo) {
        self.received += sound.len() as u64;
        if self.converts() {
            self.past.extend(sound);
            let excess = self.past.len().saturating_sub(self.kept);
            self.past.left.drain(..excess);
            self.past.right.drain(..excess);
        }
        let mut converted = self.resampler.step(sound);
        let skip = self.wanted.saturating_sub(self.next).min(converted.len() as u64) as usize;
        converted.left.drain(..skip);
        converted.right.drain(..skip);
        self.next += (skip + converted.len()) as u64;
        let first = self.wanted;
        self.wanted += converted.len() as u64;
        (first, converted)
    }

    /// Goes back to this sample of the model: what comes next takes the place of what was received from there on.
    ///
    /// # Errors
    /// When the converter cannot be built anew.
    pub fn go_back(&mut self, sample: u64) -> Result<(), AudioError> {
        if sample >= self.received {
            return Ok(());
        }
        // The filter may still hold back what lies before the seam.
        self.wanted = self.wanted.min(self.rates.to_output(sample));
        if !self.converts() {
            (self.next, self.received) = (self.wanted, sample);
            return Ok(());
        }
        let begin = self.received - self.past.len() as u64;
        self.past.left.truncate(sample.saturating_sub(begin) as usize);
        self.past.right.truncate(sample.saturating_sub(begin) as usize);
        self.received = sample;
        self.begin_at(sample)
    }

    /// Builds the converter anew as it stands at this sample, with what is known of the samples before it.
    fn begin_at(&mut self, sample: u64) -> Result<(), AudioError> {
        let begin = sample - (self.past.len() as u64).min(sample);
        // A converter that begins at the edge of a block, and has forgotten that it began there, goes on as the old one did.
        let from = sample.saturating_sub(MEMORY_BLOCKS * self.block) / self.block * self.block;
        let mut past = Stereo::silence(begin.min(sample).saturating_sub(from) as usize);
        let known = from.saturating_sub(begin) as usize;
        past.left.extend_from_slice(&self.past.left[known.min(self.past.len())..]);
        past.right.extend_from_slice(&self.past.right[known.min(self.past.len())..]);
        self.resampler = Resampler::new(self.rates.model, self.rates.output)?;
        self.next = self.rates.to_output(from) + self.resampler.step(&past).len() as u64;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn sound(first: u64, samples: usize, pitch: f32) -> Stereo {
        let wave = |i: u64| (i as f32 * pitch).sin() * 0.5 + ((i * i) % 101) as f32 / 1000.0;
        let left: Vec<f32> = (first..first + samples as u64).map(wave).collect();
        Stereo { right: left.iter().map(|x| 0.5 - x).collect(), left }
    }

    /// Puts samples where they belong, in place of what stands there.
    fn place(heard: &mut Stereo, (first, sound): (u64, Stereo)) {
        assert!(first as usize <= heard.len(), "a gap before {first}");
        heard.left.truncate(first as usize);
        heard.right.truncate(first as usize);
        heard.extend(&sound);
    }

    #[test]
    fn another_rate_keeps_the_timeline() {
        let rates = Rates { model: 48_000, output: 44_100 };
        let mut resampling = Resampling::new(rates, 0, 0).unwrap();
        let mut next = 0;
        for i in 0..5 {
            let (first, sound) = resampling.step(&sound(48_000 * i, 48_000, 0.1));
            assert_eq!(first, next);
            next += sound.len() as u64;
        }
        let expected = rates.to_output(5 * 48_000);
        assert!(next <= expected && expected - next < 4800, "{next} of {expected}");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]

        #[test]
        fn what_was_taken_back_leaves_no_trace(
            output in prop::sample::select(vec![48_000u32, 44_100, 16_000, 96_000]),
            taken_back in prop::collection::vec((1usize..20_000, 0.0f64..1.0), 1..6),
        ) {
            let rates = Rates { model: 48_000, output };
            let mut resampling = Resampling::new(rates, 0, 48_000).unwrap();
            let (mut heard, mut final_cut) = (Stereo::default(), Stereo::default());
            for (i, (samples, share)) in taken_back.into_iter().enumerate() {
                let first = final_cut.len() as u64;
                place(&mut heard, resampling.step(&sound(first, samples, 0.05 + 0.01 * i as f32)));
                final_cut.extend(&sound(first, samples, 0.05 + 0.01 * i as f32));
                // Back into this part, or some way into the one before.
                let back = ((final_cut.len() as f64) * (1.0 - 0.3 * share)) as usize;
                resampling.go_back(back as u64).unwrap();
                final_cut.left.truncate(back);
                final_cut.right.truncate(back);
            }
            let tail = sound(final_cut.len() as u64, 30_000, 0.2);
            place(&mut heard, resampling.step(&tail));
            let seam = rates.to_output(final_cut.len() as u64) as usize;
            final_cut.extend(&tail);
            let (_, whole) = Resampling::new(rates, 0, 0).unwrap().step(&final_cut);
            prop_assert_eq!(heard.len(), whole.len());
            prop_assert!(heard.left[seam..] == whole.left[seam..] && heard.right[seam..] == whole.right[seam..]);
        }

        #[test]
        fn taken_up_in_the_middle_it_goes_on_to_the_bit(
            output in prop::sample::select(vec![48_000u32, 44_100, 16_000, 96_000]),
            first in 0usize..60_000,
        ) {
            let rates = Rates { model: 48_000, output };
            let all = sound(0, 120_000, 0.07);
            let (_, whole) = Resampling::new(rates, 0, 0).unwrap().step(&all);
            let rest = Stereo { left: all.left[first..].to_vec(), right: all.right[first..].to_vec() };
            let (at, part) = Resampling::new(rates, first as u64, 0).unwrap().step(&rest);
            let late = at as i64 - rates.to_output(first as u64) as i64;
            prop_assert!((0..9000).contains(&late), "{late}");
            prop_assert!(part.left[..] == whole.left[at as usize..] && part.right[..] == whole.right[at as usize..]);
        }

        #[test]
        fn any_rate_keeps_the_timeline_without_a_gap(
            output in 8_000u32..=96_000,
            parts in prop::collection::vec((1usize..12_000, 0.0f64..1.0), 1..5),
        ) {
            let rates = Rates { model: 48_000, output };
            let mut resampling = Resampling::new(rates, 0, 48_000).unwrap();
            let (mut heard, mut taken) = (Stereo::default(), 0);
            for (samples, share) in parts {
                place(&mut heard, resampling.step(&sound(taken, samples, 0.05)));
                // Some of it is made again, as it was.
                let back = taken + (samples as f64 * share) as u64;
                resampling.go_back(back).unwrap();
                taken = back;
            }
            place(&mut heard, resampling.step(&sound(taken, 30_000, 0.05)));
            let end = rates.to_output(taken + 30_000);
            // A block waits, and half of one is the filter's delay: 0.13 s where the rates have little in common.
            let (heard, waiting) = (heard.len() as u64, u64::from(output) / 7);
            prop_assert!(heard <= end + 1 && heard + waiting > end, "{} of {}", heard, end);
        }

        #[test]
        fn indices_survive_the_round_trip(sample in 0u64..1 << 40, output in 8_000u32..=96_000) {
            let rates = Rates { model: 48_000, output };
            let there = rates.to_output(sample);
            prop_assert!(rates.to_model(there) >= sample);
            prop_assert!(there == 0 || rates.to_model(there - 1) < sample);
        }
    }
}
