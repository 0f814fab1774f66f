//! One tick: sound for the streams that are due. Each stage runs for all of them together, and one by one where that fails,
//! so that what one stream suffers the others do not hear.

use std::collections::BTreeMap;
use std::time::Instant;

use super::costs::Costs;
use super::metrics::EngineMetrics;
use super::stream::{Rendered, Stream, StreamError, StreamEvent, caught};
use super::timeline::Pace;
use super::{Checkpoint, Chunk, Due, RenderError, Renderer};

/// The streams of a worker by their number.
pub(super) type Streams<R> = BTreeMap<u64, Stream<R>>;

pub(super) struct Tick<'a, R: Renderer> {
    pub(super) renderer: &'a mut R,
    pub(super) streams: &'a mut Streams<R>,
    pub(super) costs: &'a mut Costs,
    pub(super) metrics: &'a EngineMetrics,
    /// Whether live streams are to make do with one step.
    pub(super) hurried: bool,
}

impl<R: Renderer> Tick<'_, R> {
    /// The next slice of each of these streams, sampled first where it begins a chunk. The shortest slices are given first:
    /// somebody waits for them.
    pub(super) fn run(mut self, due: &[u64]) {
        let start = Instant::now();
        let begin = |stream: &Stream<R>| stream.timeline.begins_chunk();
        let new: Vec<u64> = due.iter().copied().filter(|id| self.streams.get(id).is_some_and(begin)).collect();
        let mut checkpoints: BTreeMap<u64, Box<Checkpoint>> = BTreeMap::new();
        for &id in &new {
            match self.prepare(id) {
                Ok(Some(checkpoint)) => drop(checkpoints.insert(id, checkpoint)),
                Ok(None) => {}
                Err(error) => self.fail(id, error),
            }
        }
        if !new.is_empty() {
            let groups = self.groups(&new);
            let begin = Instant::now();
            self.isolated(&new, Self::sample);
            self.costs.sampled(&groups, begin.elapsed());
        }
        let mut slices: BTreeMap<u64, Vec<u64>> = BTreeMap::new();
        for &id in due {
            if let Some(stream) = self.streams.get_mut(&id) {
                stream.remember();
                slices.entry(stream.timeline.next_slice()).or_default().push(id);
            }
        }
        for (frames, ids) in slices {
            let begin = Instant::now();
            self.isolated(&ids, |tick, ids| tick.decode(ids, frames, &mut checkpoints));
            self.costs.decoded(ids.len(), frames, begin.elapsed());
        }
        self.metrics.tick_seconds.observe(start.elapsed().as_secs_f64());
        self.metrics.batch_size.observe(due.len() as f64);
    }

    /// Runs the text encoder where the condition is new, and writes down where the stream stands.
    fn prepare(&mut self, id: u64) -> Result<Option<Box<Checkpoint>>, StreamError> {
        let Some(stream) = self.streams.get_mut(&id) else { return Ok(None) };
        caught(|| {
            if let (None, Some(condition)) = (&stream.prepared, &stream.condition) {
                stream.prepared = Some(self.renderer.prepare(condition)?);
            }
            let live = stream.timeline.pace() == Pace::Live;
            Ok(live.then(|| Box::new(stream.checkpoint(self.renderer))))
        })
    }

    /// How many of these are sampled in how many steps.
    fn groups(&self, ids: &[u64]) -> Vec<(usize, usize)> {
        let mut groups: BTreeMap<usize, usize> = BTreeMap::new();
        for stream in ids.iter().filter_map(|id| self.streams.get(id)) {
            let steps = if stream.hurries(self.hurried) { 1 } else { stream.steps() };
            *groups.entry(steps).or_default() += 1;
        }
        groups.into_iter().collect()
    }

    /// Runs a stage that fails as a whole only by a panic: then everything goes back, and each stream is tried alone to
    /// find whose panic it is.
    fn isolated(&mut self, ids: &[u64], mut stage: impl FnMut(&mut Self, &[u64]) -> Result<(), StreamError>) {
        let state = |id: &u64| Some((*id, self.streams.get(id)?.state.clone()));
        let before: Vec<(u64, R::Stream)> = ids.iter().filter_map(state).collect();
        let Err(panic) = stage(self, ids) else { return };
        tracing::error!(error = %panic, streams = before.len(), "a tick failed; its streams go one by one");
        for (id, state) in before {
            if let Some(stream) = self.streams.get_mut(&id) {
                stream.state = state;
            }
            if let Err(error) = stage(self, &[id]) {
                self.fail(id, error);
            }
        }
    }

    fn sample(&mut self, ids: &[u64]) -> Result<(), StreamError> {
        let all = self.hurried;
        let wanted = self.streams.iter_mut().filter(|(id, _)| ids.contains(id));
        let (ids, mut due): (Vec<u64>, Vec<_>) = wanted
            .filter_map(|(&id, stream)| {
                let hurried = stream.hurries(all);
                stream.timeline.sampled(hurried);
                Some((id, Due { stream: &mut stream.state, condition: stream.prepared.as_ref()?, hurried }))
            })
            .unzip();
        let renderer = &mut *self.renderer;
        let sampled = caught(|| {
            let sampled = renderer.sample(&mut due);
            assert_eq!(sampled.len(), due.len(), "a renderer answers for each stream");
            Ok(sampled)
        })?;
        for (id, sampled) in ids.into_iter().zip(sampled) {
            if let Err(error) = sampled {
                self.fail(id, error.into());
            }
        }
        Ok(())
    }

    fn decode(
        &mut self,
        ids: &[u64],
        frames: u64,
        checkpoints: &mut BTreeMap<u64, Box<Checkpoint>>,
    ) -> Result<(), StreamError> {
        let wanted = self.streams.iter_mut().filter(|(id, _)| ids.contains(id));
        let (ids, mut states): (Vec<u64>, Vec<_>) = wanted.map(|(&id, stream)| (id, &mut stream.state)).unzip();
        let renderer = &mut *self.renderer;
        let chunks = caught(|| {
            let chunks = renderer.decode(&mut states, frames);
            assert_eq!(chunks.len(), states.len(), "a renderer gives one chunk for each stream");
            Ok(chunks)
        })?;
        for (id, chunk) in ids.into_iter().zip(chunks) {
            self.deliver(id, frames, chunk, checkpoints.remove(&id));
        }
        Ok(())
    }

    fn deliver(
        &mut self,
        id: u64,
        frames: u64,
        chunk: Result<Chunk, RenderError>,
        checkpoint: Option<Box<Checkpoint>>,
    ) {
        let finite = |chunk: &Chunk| chunk.pcm.left.iter().chain(&chunk.pcm.right).all(|x| x.is_finite());
        match chunk {
            Ok(chunk) if finite(&chunk) => {
                let Some(stream) = self.streams.get_mut(&id) else { return };
                let begins = stream.timeline.begins_chunk();
                let span = stream.timeline.advance(frames);
                let promised = stream.timeline.end() - span.first_sample;
                if chunk.pcm.len() as u64 != promised {
                    let message = format!("{} samples where the grid promises {promised}", chunk.pcm.len());
                    return self.fail(id, RenderError::Networks(message).into());
                }
                stream.give(StreamEvent::Sound(Box::new(Rendered { span, chunk, checkpoint })));
                self.metrics.chunks.inc();
                if span.replace {
                    self.metrics.replacements.inc();
                }
                if span.degraded && begins {
                    self.metrics.degraded_chunks.inc();
                }
            }
            Ok(_) => self.fail(id, RenderError::NotFinite.into()),
            Err(error) => self.fail(id, error.into()),
        }
    }

    /// Ends a stream with an error.
    pub(super) fn fail(&mut self, id: u64, error: StreamError) {
        tracing::error!(stream = id, %error, "a stream failed");
        self.metrics.failures.inc();
        if let Some(stream) = self.streams.remove(&id) {
            stream.give(StreamEvent::Failed(error));
            self.metrics.streams.dec();
        }
    }
}
