//! One tick: sound for the streams that are due. Each stage runs for all of them together, and one by one where that fails,
//! so that what one stream suffers the others do not hear.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::costs::Costs;
use super::exchange::{Rendered, StreamError, StreamEvent};
use super::ledger::Streams;
use super::metrics::EngineMetrics;
use super::stream::{Stream, caught};
use super::timeline::Pace;
use super::{Checkpoint, Chunk, Due, RenderError, Renderer};
use crate::fault::{Fault, strikes};

/// What a slow tick takes longer.
const SLOW: Duration = Duration::from_secs(10);

pub(super) struct Tick<'a, R: Renderer> {
    pub(super) renderer: &'a mut R,
    pub(super) streams: &'a mut Streams<R>,
    pub(super) costs: &'a mut Costs,
    pub(super) metrics: &'a EngineMetrics,
    /// Whether live streams are to make do with one step.
    pub(super) hurried: bool,
    pub(super) sample_rate: u32,
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
            if let Some(stream) = self.streams.get_mut(&id).filter(|stream| !stream.is_over()) {
                stream.remember();
                slices.entry(stream.timeline.next_slice()).or_default().push(id);
            }
        }
        for (frames, ids) in slices {
            let begin = Instant::now();
            self.isolated(&ids, |tick, ids, last| tick.decode(ids, frames, &mut checkpoints, last));
            self.costs.decoded(ids.len(), frames, begin.elapsed());
        }
        if strikes(Fault::SlowTick) {
            std::thread::sleep(SLOW);
        }
        assert!(!strikes(Fault::WorkerPanic), "a fault was ordered");
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

    /// Runs a stage, which gives the streams that are to be tried once more, and fails as a whole only by a panic: then all
    /// are. Those go back to where they were and are tried alone, to find whose panic it was, or with the memory of all.
    fn isolated(
        &mut self,
        ids: &[u64],
        mut stage: impl FnMut(&mut Self, &[u64], bool) -> Result<Vec<u64>, StreamError>,
    ) {
        let state = |id: &u64| Some((*id, self.streams.get(id)?.state.clone()));
        let before: Vec<(u64, R::Stream)> = ids.iter().filter_map(state).collect();
        let again = stage(self, ids, false).unwrap_or_else(|panic| {
            tracing::error!(error = %panic, streams = before.len(), "a tick failed; its streams go one by one");
            ids.to_vec()
        });
        for (id, state) in before.into_iter().filter(|(id, _)| again.contains(id)) {
            self.metrics.retries.inc();
            if let Some(stream) = self.streams.get_mut(&id) {
                stream.state = state;
            }
            if let Err(error) = stage(self, &[id], true) {
                self.fail(id, error);
            }
        }
    }

    /// Ends a stream, or has it tried again if that is of any use and not what was just done; whether it is.
    fn again(&mut self, id: u64, error: RenderError, last: bool) -> bool {
        let again = !last && error.may_pass();
        if again {
            tracing::error!(stream = id, %error, "a stream failed; it is tried once more");
        } else {
            self.fail(id, error.into());
        }
        again
    }

    fn sample(&mut self, ids: &[u64], last: bool) -> Result<Vec<u64>, StreamError> {
        let all = self.hurried;
        let wanted = self.streams.iter_mut().filter(|(id, stream)| ids.contains(id) && !stream.is_over());
        let (ids, mut due): (Vec<u64>, Vec<_>) = wanted
            .filter_map(|(&id, stream)| {
                let hurried = stream.hurries(all);
                stream.timeline.sampled(hurried);
                Some((id, Due { stream: &mut stream.state, condition: stream.prepared.as_ref()?, hurried }))
            })
            .unzip();
        let renderer = &mut *self.renderer;
        let sampled = caught(|| {
            if strikes(Fault::OutOfMemory) {
                return Ok(due.iter().map(|_| Err(RenderError::Memory("a fault was ordered".into()))).collect());
            }
            let sampled = renderer.sample(&mut due);
            assert_eq!(sampled.len(), due.len(), "a renderer answers for each stream");
            Ok(sampled)
        })?;
        let failed = ids.into_iter().zip(sampled).filter_map(|(id, sampled)| Some((id, sampled.err()?)));
        Ok(failed.filter_map(|(id, error)| self.again(id, error, last).then_some(id)).collect())
    }

    fn decode(
        &mut self,
        ids: &[u64],
        frames: u64,
        checkpoints: &mut BTreeMap<u64, Box<Checkpoint>>,
        last: bool,
    ) -> Result<Vec<u64>, StreamError> {
        let wanted = self.streams.iter_mut().filter(|(id, stream)| ids.contains(id) && !stream.is_over());
        let (ids, mut states): (Vec<u64>, Vec<_>) = wanted.map(|(&id, stream)| (id, &mut stream.state)).unzip();
        let renderer = &mut *self.renderer;
        let chunks = caught(|| {
            let chunks = renderer.decode(&mut states, frames);
            assert_eq!(chunks.len(), states.len(), "a renderer gives one chunk for each stream");
            Ok(chunks)
        })?;
        let mut again = Vec::new();
        for (id, chunk) in ids.into_iter().zip(chunks) {
            match chunk {
                Ok(chunk) => self.deliver(id, frames, chunk, checkpoints.remove(&id)),
                Err(error) => again.extend(self.again(id, error, last).then_some(id)),
            }
        }
        Ok(again)
    }

    fn deliver(&mut self, id: u64, frames: u64, chunk: Chunk, checkpoint: Option<Box<Checkpoint>>) {
        if !chunk.pcm.left.iter().chain(&chunk.pcm.right).all(|x| x.is_finite()) {
            return self.fail(id, RenderError::NotFinite.into());
        }
        let Some(stream) = self.streams.get_mut(&id) else { return };
        let (begins, promise) = (stream.timeline.begins_chunk(), stream.timeline.promise());
        let span = stream.timeline.advance(frames);
        let promised = stream.timeline.end() - span.first_sample;
        if chunk.pcm.len() as u64 != promised {
            let message = format!("{} samples where the grid promises {promised}", chunk.pcm.len());
            return self.fail(id, RenderError::Networks(message).into());
        }
        stream.give(StreamEvent::Sound(Box::new(Rendered { span, chunk, checkpoint })));
        if stream.timeline.pace() == Pace::Live {
            let (asked, lead) = (stream.take_asked(), stream.timeline.lead());
            self.metrics.observe(asked, promise, lead as f64 / f64::from(self.sample_rate));
        }
        self.metrics.chunks.inc();
        if span.replace {
            self.metrics.replacements.inc();
        }
        if span.degraded && begins {
            self.metrics.degraded_chunks.inc();
        }
    }

    /// Ends a stream with an error.
    pub(super) fn fail(&mut self, id: u64, error: StreamError) {
        tracing::error!(stream = id, %error, "a stream failed");
        self.metrics.failures.inc();
        if let Some(stream) = self.streams.get_mut(&id) {
            stream.fail(error);
        }
    }
}
