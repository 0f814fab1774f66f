//! One stream rendered as fast as it goes, for files and measurements: the same samples a listener would hear.

use super::{Due, ModelRenderer, RenderError, Renderer};
use crate::audio::{COLUMN_ROWS, HOP, Stereo};
use crate::condition::Condition;

/// Renders `samples` samples from the beginning of the stream of `seed`, chunk by chunk: memory does not grow with
/// length. `sink` gets each chunk's samples and display columns.
///
/// # Errors
/// The renderer's first failure, or the sink's.
pub fn render<E: From<RenderError>>(
    renderer: &mut ModelRenderer,
    condition: &Condition,
    seed: u64,
    samples: u64,
    mut sink: impl FnMut(&Stereo, &[u8]) -> Result<(), E>,
) -> Result<(), E> {
    let prepared = renderer.prepare(condition)?;
    let mut stream = renderer.open(seed);
    let mut left = samples;
    while left > 0 {
        let due = Due { stream: &mut stream, condition: &prepared };
        for chunk in renderer.render(&mut [due]) {
            let mut chunk = chunk?;
            let keep = usize::try_from(left).unwrap_or(usize::MAX).min(chunk.pcm.len());
            chunk.pcm.left.truncate(keep);
            chunk.pcm.right.truncate(keep);
            chunk.columns.truncate(keep.div_ceil(HOP) * COLUMN_ROWS);
            sink(&chunk.pcm, &chunk.columns)?;
            left -= keep as u64;
        }
    }
    Ok(())
}
