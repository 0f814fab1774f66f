//! Sound as samples: the spectrogram, the vocoder that inverts it, resampling and WAV files.

mod bands;
mod columns;
mod consistency;
mod error;
mod intonation;
mod limit;
mod noise;
mod notes;
mod overlap;
mod pair;
mod phase;
mod resample;
mod spectrogram;
mod stereo;
mod synthesis;
#[cfg(test)]
pub(crate) mod synthetic;
mod texture;
mod vocoder;
mod wav;

pub use bands::{BANDS, LINEAR_BINS, PARTS, STEREO_BANDS, is_peak};
pub use columns::{COLUMN_ROWS, column_row, columns};
pub use error::AudioError;
pub use intonation::intone;
pub use limit::round_off;
pub use resample::Resampler;
pub use spectrogram::{Analyser, FRAME_VALUES, Spectrogram, silence};
pub use stereo::{stereo_band_levels, stereo_band_powers};
pub use vocoder::{Vocoder, VocoderMemory};
pub use wav::{WavLayout, WavReader, WavWriter, pcm16, read_wav};

/// Samples per second of everything the models hear and make.
pub const SAMPLE_RATE: u32 = 48_000;
/// Samples from one spectrogram frame to the next (93.75 frames a second).
pub const HOP: usize = 512;
/// Sample rates that sound can be delivered in, in Hz.
pub const RATES: std::ops::RangeInclusive<u32> = 8_000..=96_000;

/// Stereo PCM, two channels of equal length; full scale is ±1.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Stereo {
    /// Left channel.
    pub left: Vec<f32>,
    /// Right channel.
    pub right: Vec<f32>,
}

impl Stereo {
    /// Silence of `samples` samples a channel.
    pub fn silence(samples: usize) -> Self {
        Self { left: vec![0.0; samples], right: vec![0.0; samples] }
    }

    /// No samples yet, and room for so many a channel.
    pub fn with_capacity(samples: usize) -> Self {
        Self { left: Vec::with_capacity(samples), right: Vec::with_capacity(samples) }
    }

    /// Samples per channel.
    pub fn len(&self) -> usize {
        self.left.len()
    }

    /// Whether there is no sample at all.
    pub fn is_empty(&self) -> bool {
        self.left.is_empty()
    }

    /// Appends `other` behind `self`.
    pub fn extend(&mut self, other: &Stereo) {
        self.left.extend_from_slice(&other.left);
        self.right.extend_from_slice(&other.right);
    }

    /// The samples as L, R, L, R, ...
    pub fn interleaved(&self) -> impl Iterator<Item = f32> + '_ {
        self.left.iter().zip(&self.right).flat_map(|(&l, &r)| [l, r])
    }
}
