//! What can go wrong with sound.

/// An error of the audio layer.
#[derive(Debug, thiserror::Error)]
pub enum AudioError {
    /// A WAV file could not be read.
    #[error("cannot read {file}: {source}")]
    Read {
        /// The file.
        file: String,
        /// Why.
        source: hound::Error,
    },
    /// A WAV file could not be written.
    #[error("cannot write {file}: {source}")]
    Write {
        /// The file.
        file: String,
        /// Why.
        source: hound::Error,
    },
    /// A WAV file has samples that are not numbers.
    #[error("cannot use {file}: sample {sample} is not a finite number")]
    NotFinite {
        /// The file.
        file: String,
        /// The first such sample, counted over all channels.
        sample: usize,
    },
    /// A WAV file has no more room: its lengths are 32-bit.
    #[error("cannot write {file}: a WAV file ends at 4 GiB")]
    TooLong {
        /// The file.
        file: String,
    },
    /// A sample rate outside what can be resampled.
    #[error("sample rate {hz} Hz is outside {}..={} Hz", super::RATES.start(), super::RATES.end())]
    Rate {
        /// The rate.
        hz: u32,
    },
    /// The resampler could not be built.
    #[error("cannot resample from {from_hz} to {to_hz} Hz: {reason}")]
    Resampler {
        /// Rate of the input.
        from_hz: u32,
        /// Rate of the output.
        to_hz: u32,
        /// Why.
        reason: String,
    },
}
