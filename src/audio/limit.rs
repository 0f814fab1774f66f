//! Peaks rounded off, so that nothing is clipped: without memory, so that a stream is the same in any slices.

use super::Stereo;

/// Amplitude up to which a sample is left alone, and the one that none reaches.
const KNEE: f32 = 0.8;
const CEILING: f32 = 0.97;
/// Samples that are looked through at once.
const PART: usize = 1024;

/// The sample itself up to 0.8; beyond, a curve that continues its slope and stays below 0.97.
pub fn round_off(sample: f32) -> f32 {
    let over = sample.abs() - KNEE;
    if over > 0.0 {
        let room = CEILING - KNEE;
        sample.signum() * (KNEE + room * (over / room).tanh())
    } else {
        sample
    }
}

impl Stereo {
    /// Rounds off all peaks, see [`round_off`].
    pub fn round_off(&mut self) {
        for channel in [&mut self.left, &mut self.right] {
            // Most sound has none: it is looked through faster than it is worked through.
            let over = |part: &[f32]| part.iter().fold(false, |over, sample| over | (sample.abs() > KNEE));
            for part in channel.chunks_mut(PART).filter(|part| over(part)) {
                part.iter_mut().for_each(|sample| *sample = round_off(*sample));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quiet_samples_stay_loud_ones_bend_and_none_is_clipped() {
        assert!([-0.8, -0.1, 0.0, 0.5, 0.8].into_iter().all(|x| round_off(x) == x));
        let mut before = 0.8;
        for step in 1..400 {
            let x = 0.8 + 0.002 * step as f32;
            let y = round_off(x);
            assert!(y > before && y < x && y == -round_off(-x), "{x} gives {y}");
            before = y;
        }
        assert!(before < CEILING && round_off(1e9) <= CEILING);
    }

    #[test]
    fn every_peak_of_a_sound_is_found() {
        let mut sound = Stereo::silence(5 * PART / 2);
        let peaks = [0, PART - 1, PART, 2 * PART + 7, 5 * PART / 2 - 1];
        peaks.into_iter().for_each(|at| (sound.left[at], sound.right[at / 2]) = (1.5, -1.5));
        let each = |channel: &[f32]| channel.iter().map(|&x| round_off(x)).collect::<Vec<_>>();
        let want = Stereo { left: each(&sound.left), right: each(&sound.right) };
        sound.round_off();
        assert_eq!(sound, want);
    }
}
