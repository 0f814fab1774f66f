//! A performance as fast as it goes, for files and measurements: the same samples a listener would hear who asked for the
//! same at the same moments.

use std::ops::Range;

use super::exchange::Change;
use super::timeline::Transport;
use super::{Chunk, Due, Grid, RenderError, Renderer};
use crate::audio::{COLUMN_ROWS, HOP, Stereo};
use crate::condition::Condition;

/// What happens at a sample.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    /// First sample that obeys, as the engine said when it was applied; others count as the latent frame before.
    pub at_sample: u64,
    /// What is to change. Playing and pausing change nothing here.
    pub change: Change,
}

/// What was asked of a stream from its beginning.
#[derive(Clone, Debug, PartialEq)]
pub struct Performance {
    /// The seed at first.
    pub seed: u64,
    /// The condition at first.
    pub condition: Condition,
    /// What came then, in order.
    pub events: Vec<Event>,
    /// Samples whose chunks were made with one step because there was no time for more.
    pub degraded: Vec<Range<u64>>,
}

/// Renders the first `samples` samples of a performance, chunk by chunk: memory does not grow with length. `sink` gets
/// each part's samples and display columns.
///
/// # Errors
/// The renderer's first failure, or the sink's.
pub fn perform<R: Renderer, E: From<RenderError>>(
    renderer: &mut R,
    performance: &Performance,
    samples: u64,
    mut sink: impl FnMut(&Stereo, &[u8]) -> Result<(), E>,
) -> Result<(), E> {
    let grid = renderer.grid();
    let mut prepared = renderer.prepare(&performance.condition)?;
    let mut stream = renderer.open(performance.seed);
    let mut turns = turns(performance, grid).into_iter().peekable();
    let (mut frame, mut left) = (0, samples);
    while left > 0 {
        while let Some(turn) = turns.next_if(|turn| turn.frame <= frame) {
            if let Some(condition) = turn.condition {
                prepared = renderer.prepare(condition)?;
            }
            if let Some(seed) = turn.seed {
                renderer.reseed(&mut stream, seed);
            }
            if turn.reset && frame > 0 {
                renderer.reset_context(&mut stream);
            }
        }
        let begin = grid.sample(frame);
        let hurried = performance.degraded.iter().any(|samples| samples.contains(&begin));
        first(renderer.sample(&mut [Due { stream: &mut stream, condition: &prepared, hurried }]))?;
        let frames = grid.chunk_frames.min(turns.peek().map_or(u64::MAX, |turn| turn.frame - frame));
        let mut chunk: Chunk = first(renderer.decode(&mut [&mut stream], frames))?;
        frame += frames;
        let keep = usize::try_from(left).unwrap_or(usize::MAX).min(chunk.pcm.len());
        chunk.pcm.left.truncate(keep);
        chunk.pcm.right.truncate(keep);
        chunk.columns.truncate(keep.div_ceil(HOP) * COLUMN_ROWS);
        sink(&chunk.pcm, &chunk.columns)?;
        left -= keep as u64;
    }
    Ok(())
}

/// A moment at which a chunk begins because something changes.
struct Turn<'a> {
    frame: u64,
    condition: Option<&'a Condition>,
    seed: Option<u64>,
    reset: bool,
}

/// The events that change anything, in order: the others leave no trace in the sound, and must not begin a chunk.
fn turns(performance: &Performance, grid: Grid) -> Vec<Turn<'_>> {
    let (mut now, mut seed) = (&performance.condition, performance.seed);
    let mut turns = Vec::new();
    for Event { at_sample, change } in &performance.events {
        let turn = Turn {
            frame: grid.frame_before(*at_sample),
            condition: change.condition.as_ref().filter(|&condition| condition != now),
            seed: change.seed.filter(|&asked| asked != seed),
            reset: matches!(change.transport, Some(Transport::ResetContext | Transport::Stop)),
        };
        (now, seed) = (turn.condition.unwrap_or(now), turn.seed.unwrap_or(seed));
        if turn.condition.is_some() || turn.seed.is_some() || turn.reset {
            turns.push(turn);
        }
    }
    turns
}

/// The only answer of a renderer.
fn first<T>(answers: Vec<Result<T, RenderError>>) -> Result<T, RenderError> {
    answers.into_iter().next().unwrap_or_else(|| Err(RenderError::Networks("the renderer gave no answer".into())))
}

/// Renders the first `samples` samples of a stream to which nothing happens, as [`perform`] does.
///
/// # Errors
/// The renderer's first failure, or the sink's.
pub fn render<R: Renderer, E: From<RenderError>>(
    renderer: &mut R,
    condition: &Condition,
    seed: u64,
    samples: u64,
    sink: impl FnMut(&Stereo, &[u8]) -> Result<(), E>,
) -> Result<(), E> {
    let performance = Performance { seed, condition: condition.clone(), events: Vec::new(), degraded: Vec::new() };
    perform(renderer, &performance, samples, sink)
}
