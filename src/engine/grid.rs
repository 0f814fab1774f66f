//! The time grid of a model: latent frames, and the samples that they decide.

/// How latent frames and samples go together. Latent frame `n` decides the samples from [`Grid::sample`]`(n)` on; what
/// lies before is made once the frames before it are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grid {
    /// Samples of a latent frame.
    pub frame_samples: u64,
    /// Samples by which sound stays behind the latents it is made from: the vocoder's delay.
    pub delay_samples: u64,
    /// Latent frames that are sampled together.
    pub chunk_frames: u64,
}

impl Grid {
    /// The first sample that latent frame `frame` has a say in.
    pub fn sample(&self, frame: u64) -> u64 {
        (frame * self.frame_samples).saturating_sub(self.delay_samples)
    }

    /// The first latent frame that decides nothing before `sample`.
    pub fn frame_from(&self, sample: u64) -> u64 {
        if sample == 0 { 0 } else { (sample + self.delay_samples).div_ceil(self.frame_samples) }
    }

    /// The last latent frame that has a say in `sample`, or in one before it.
    pub fn frame_before(&self, sample: u64) -> u64 {
        (sample + self.delay_samples) / self.frame_samples
    }

    /// Samples of a whole chunk.
    pub fn chunk_samples(&self) -> u64 {
        self.chunk_frames * self.frame_samples
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_first_frame_begins_the_sound_and_the_others_stay_behind() {
        let grid = Grid { frame_samples: 4096, delay_samples: 3584, chunk_frames: 12 };
        assert_eq!([0, 1, 12].map(|frame| grid.sample(frame)), [0, 512, 45_568]);
        assert_eq!([0, 1, 512, 513].map(|sample| grid.frame_from(sample)), [0, 1, 1, 2]);
        assert_eq!([0, 511, 512].map(|sample| grid.frame_before(sample)), [0, 0, 1]);
    }

    proptest! {
        #[test]
        fn frames_and_samples_agree(frame_samples in 1u64..5000, delay in 0u64..5000, sample in 0u64..1 << 40) {
            let grid = Grid { frame_samples, delay_samples: delay.min(frame_samples - 1), chunk_frames: 12 };
            let from = grid.frame_from(sample);
            prop_assert!(grid.sample(from) >= sample && (from == 0 || grid.sample(from - 1) < sample));
            let before = grid.frame_before(sample);
            prop_assert!(grid.sample(before) <= sample && grid.sample(before + 1) > sample);
        }
    }
}
