//! How wide a sound is: the correlation of its channels as its frames promise it, differentiable.

use crate::audio::{BANDS, FRAME_VALUES, LINEAR_BINS, PARTS, STEREO_BANDS, stereo_band_powers};
use candle_core::{Device, Result, Tensor};

/// Power added to each channel, -100 dBFS: silence is mono.
const SILENCE: f64 = 1e-10;
/// Levels of a frame.
const LEVELS: usize = LINEAR_BINS + PARTS * BANDS;

/// The correlation of left and right.
pub struct Width {
    /// (LEVELS, STEREO_BANDS): what power each level adds to each band.
    powers: Tensor,
}

impl Width {
    /// Fills its table.
    pub fn new(device: &Device) -> Result<Self> {
        let mut table = vec![0f32; LEVELS * STEREO_BANDS];
        for (level, band, weight) in stereo_band_powers() {
            table[level * STEREO_BANDS + band] += weight;
        }
        Ok(Self { powers: Tensor::from_vec(table, (LEVELS, STEREO_BANDS), device)? })
    }

    /// Of sounds (B, frames, [`FRAME_VALUES`]), not normalised: the correlation of the channels of each, (B).
    pub fn correlation(&self, frames: &Tensor) -> Result<Tensor> {
        let (batch, count, _) = frames.dims3()?;
        let part =
            |first: usize, width: usize| frames.narrow(2, first, width)?.contiguous()?.reshape((batch * count, width));
        let power = (part(0, LEVELS)? * 2.0)?.clamp(-30f32, 3f32)?.exp()?.matmul(&self.powers)?;
        let pan = part(LEVELS, STEREO_BANDS)?.clamp(-1f32, 1f32)?;
        let coherence = part(LEVELS + STEREO_BANDS, FRAME_VALUES - LEVELS - STEREO_BANDS)?.clamp(0f32, 1f32)?;
        let (left, right) = ((&power * pan.affine(-1.0, 1.0)?)?, (&power * pan.affine(1.0, 1.0)?)?);
        // The root of nothing has no derivative.
        let both = (pan.sqr()?.affine(-1.0, 1.0)? + 1e-6)?.sqrt()?;
        let cross = ((power * both)? * coherence)?;
        let total = |x: Tensor| x.reshape((batch, count * STEREO_BANDS))?.sum(1)? + SILENCE;
        let (left, right, cross) = (total(left)?, total(right)?, total(cross)?);
        cross / (left * right)?.sqrt()?
    }
}
