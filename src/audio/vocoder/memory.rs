//! A vocoder in few bytes: what it cannot find out again from the last frames it was given.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::Vocoder;
use crate::audio::HOP;
use crate::audio::bands::{LINEAR_BINS, LONG};
use crate::audio::consistency::ITERATIONS;
use crate::audio::overlap::Overlap;
use crate::audio::phase::PhaseIntegrator;
use crate::audio::spectrogram::FRAME_VALUES;
use crate::audio::synthesis::Frame;
use crate::audio::texture::Texture;

/// What a vocoder cannot find out again from the frames it was given last, because it reaches back for ever: the phases,
/// and the recursive means of the texture. See [`Vocoder::recall`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct VocoderMemory {
    /// Frames received.
    frames: u64,
    phases: Vec<f32>,
    texture: Vec<f32>,
}

impl Vocoder {
    /// After how many frames nothing is left of what a vocoder holds but a [`VocoderMemory`]: those whose sound overlaps,
    /// and those that their phases depend on, one for each iteration to either side.
    pub const fn renewal_frames() -> usize {
        LONG / HOP - 1 + 2 * ITERATIONS
    }

    /// What is to be kept so that [`Vocoder::recall`] can go on from here.
    pub fn memory(&self) -> VocoderMemory {
        VocoderMemory {
            frames: self.made + u64::from(self.waiting.is_some()),
            phases: self.integrator.phases().to_vec(),
            texture: self.texture.means().concat(),
        }
    }

    /// A vocoder where the one of `memory` stood, behind `frames`: the last three that it had received or more, or all.
    /// What it gives for the next [`Vocoder::renewal_frames`] is for nobody to hear, for it lacks the sound of the frames
    /// before; thereafter it is the same to the bit. `None` where there are fewer frames, or where the memory is not one of
    /// a vocoder.
    pub fn recall(seed: u64, memory: &VocoderMemory, frames: &[f32]) -> Option<Self> {
        let mut vocoder = Self::new(seed);
        let known = usize::try_from(memory.frames).unwrap_or(usize::MAX).min(3);
        let tail = frames.len().checked_sub(known * FRAME_VALUES)?;
        let frames = frames[tail..].chunks_exact(FRAME_VALUES);
        let mut known: Vec<Arc<Frame>> = frames.map(|values| Arc::new(Frame::new(values))).collect();
        known.iter().for_each(|frame| vocoder.hear(Arc::new(vocoder.synthesis.powers(frame))));
        if let [.., made, _] = known.as_slice() {
            let (phases, []) = memory.phases.as_chunks::<LINEAR_BINS>() else { return None };
            let (texture, []) = memory.texture.as_chunks::<LINEAR_BINS>() else { return None };
            vocoder.before = Arc::clone(made);
            vocoder.integrator = PhaseIntegrator::recall(phases.first()?);
            vocoder.texture = Texture::recall(texture.try_into().ok()?);
        }
        // All but the last frame have their phases; what leaves the refiner first will be that one.
        vocoder.waiting = known.pop();
        vocoder.made = memory.frames.saturating_sub(1);
        vocoder.overlap = Overlap::behind(vocoder.made);
        Some(vocoder)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audio::spectrogram::Analyser;
    use crate::audio::synthetic::{crackle, pan, together, tone};
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]
        #[test]
        fn recalled_vocoders_go_on_to_the_bit(seed in 0u64..1000, known in 0usize..24, more in 0usize..9, last in 1usize..9) {
            let now = known + Vocoder::renewal_frames() + more;
            let total = now + last;
            let mono = together(&pan(&crackle(seed, 60.0, total * HOP), 0.3), &pan(&tone(440.0, 0.1, total * HOP), -0.8));
            let spectrogram = Analyser::new().forward(&mono);
            let frames = |from: usize, to: usize| &spectrogram.values[from * FRAME_VALUES..to * FRAME_VALUES];
            let mut vocoder = Vocoder::new(seed);
            vocoder.step(frames(0, known));
            let memory = vocoder.memory();
            let mut recalled = Vocoder::recall(seed, &memory, frames(known.saturating_sub(3), known)).unwrap();
            prop_assert_eq!(recalled.memory(), memory.clone());
            let places = [0, more + 1, now - known - 1];
            let (_, memories) = vocoder.clone().step_remembering(frames(known, now), &places);
            for (place, memory) in places.into_iter().zip(&memories) {
                let mut vocoder = vocoder.clone();
                vocoder.step(frames(known, known + place));
                prop_assert_eq!(&vocoder.memory(), memory);
            }
            prop_assert_eq!(memories.len(), places.len());
            vocoder.step(frames(known, now));
            recalled.step(frames(known, now));
            prop_assert_eq!(recalled.memory(), vocoder.memory());
            prop_assert_eq!(recalled.step(frames(now, total)), vocoder.step(frames(now, total)));
            prop_assert_eq!(recalled.flush(), vocoder.flush());
            if known > 0 {
                let few = frames(known - (known - 1).min(2), known);
                prop_assert!(Vocoder::recall(seed, &memory, few).is_none());
            }
        }
    }

    #[test]
    fn a_frame_less_than_the_renewal_is_too_few() {
        let renewal = Vocoder::renewal_frames();
        let spectrogram = Analyser::new().forward(&pan(&crackle(5, 60.0, 3 * renewal * HOP), 0.3));
        let (before, behind) = spectrogram.values.split_at(renewal * FRAME_VALUES);
        let mut vocoder = Vocoder::new(1);
        vocoder.step(before);
        for (frames, same) in [(renewal - 1, false), (renewal, true)] {
            let (missed, heard) = behind.split_at(frames * FRAME_VALUES);
            let mut recalled = Vocoder::recall(1, &vocoder.memory(), before).unwrap();
            let mut vocoder = vocoder.clone();
            vocoder.step(missed);
            recalled.step(missed);
            assert_eq!(recalled.step(heard) == vocoder.step(heard), same, "after {frames} frames");
        }
    }
}
