//! What a tick costs: measured when the engine starts, tracked while it works, and what follows for how many streams may be
//! promised their deadlines.

use std::time::Duration;

/// Streams in one tick: nothing but these numbers, so that a device sees few shapes.
pub const BUCKETS: [usize; 16] = [1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256];
/// Share of the device that promises may fill. The rest is for what no plan knows: changes, which make sound twice, new
/// streams, and whatever else runs on the machine.
const UTILISATION: f64 = 0.7;
/// Share of what was tracked before that counts at the next measurement.
const MEMORY: f64 = 0.98;

/// Seconds that sampling and decoding take, by bucket, and how the device now compares with what it was measured to do.
#[derive(Clone, Debug)]
pub struct Costs {
    sample: Vec<f64>,
    /// Of one latent frame.
    decode: Vec<f64>,
    chunk_frames: f64,
    chunk_seconds: f64,
    /// What the last stages took, and what they should have taken by the measurement; both forget.
    took: f64,
    expected: f64,
}

impl Costs {
    /// Nothing measured yet, for chunks of so many latent frames and seconds.
    pub fn new(chunk_frames: u64, chunk_seconds: f64) -> Self {
        let (sample, decode) = (Vec::new(), Vec::new());
        let chunk_frames = chunk_frames as f64;
        // As if a second's work had gone as expected, so that one slow stage is no trend.
        Self { sample, decode, chunk_frames, chunk_seconds, took: 1.0, expected: 1.0 }
    }

    /// Takes the measurement of the next larger bucket: sampling a chunk, and decoding all of it.
    pub fn measured(&mut self, sample: Duration, decode: Duration) {
        self.sample.push(sample.as_secs_f64());
        self.decode.push(decode.as_secs_f64() / self.chunk_frames);
    }

    /// The buckets measured.
    pub fn buckets(&self) -> impl Iterator<Item = usize> + use<> {
        BUCKETS.into_iter().take(self.sample.len())
    }

    /// The largest bucket measured that holds no more than `streams`; 0 if none does.
    pub fn bucket(&self, streams: usize) -> usize {
        BUCKETS.iter().take(self.sample.len()).copied().rfind(|&bucket| bucket <= streams).unwrap_or(0)
    }

    fn place(&self, streams: usize) -> Option<usize> {
        let last = self.sample.len().checked_sub(1)?;
        Some(BUCKETS.iter().position(|&bucket| bucket >= streams).unwrap_or(last).min(last))
    }

    /// Tracks what sampling a chunk of so many streams took.
    pub fn sampled(&mut self, streams: usize, took: Duration) {
        if let Some(place) = self.place(streams) {
            self.track(self.sample[place], took);
        }
    }

    /// Tracks what decoding `frames` latent frames of so many streams took.
    pub fn decoded(&mut self, streams: usize, frames: u64, took: Duration) {
        if let Some(place) = self.place(streams) {
            self.track(self.decode[place] * frames as f64, took);
        }
    }

    fn track(&mut self, expected: f64, took: Duration) {
        self.took = MEMORY * self.took + took.as_secs_f64();
        self.expected = MEMORY * self.expected + expected;
    }

    /// How much longer than measured everything takes.
    pub fn slowdown(&self) -> f64 {
        self.took / self.expected.max(1e-9)
    }

    /// What a tick of so many streams is expected to take when each is sampled and `frames` latent frames are decoded.
    pub fn tick(&self, streams: usize, frames: u64) -> Duration {
        let seconds = self.place(streams).map_or(0.0, |place| self.sample[place] + self.decode[place] * frames as f64);
        Duration::from_secs_f64(self.slowdown() * seconds)
    }

    /// How many streams can be promised their chunks in time; one where that is less but the device keeps up with it.
    pub fn capacity(&self) -> usize {
        let rate = |place: usize| {
            let seconds = self.sample[place] + self.decode[place] * self.chunk_frames;
            UTILISATION * self.chunk_seconds * BUCKETS[place] as f64 / (self.slowdown() * seconds).max(1e-9)
        };
        let streams = (0..self.sample.len()).map(rate).fold(0.0, f64::max);
        if streams > UTILISATION { streams.max(1.0) as usize } else { 0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn costs() -> Costs {
        let mut costs = Costs::new(10, 1.0);
        for (sample, decode) in [(20, 30), (30, 50), (60, 100)] {
            costs.measured(Duration::from_millis(sample), Duration::from_millis(decode));
        }
        costs
    }

    #[test]
    fn capacity_is_that_of_the_best_bucket() {
        // 1 in 50 ms, 2 in 80 ms, 3 in 160 ms: 25 a second are possible.
        assert_eq!(costs().capacity(), (25.0 * UTILISATION) as usize);
        assert_eq!(Costs::new(10, 1.0).capacity(), 0, "nothing is promised before it is measured");
    }

    #[test]
    fn buckets_are_those_measured() {
        assert_eq!([0, 1, 2, 3, 9].map(|streams| costs().bucket(streams)), [0, 1, 2, 3, 3]);
        assert_eq!(costs().tick(2, 5), Duration::from_millis(55));
    }

    #[test]
    fn a_machine_that_slows_down_promises_less_whatever_it_is_seen_to_do() {
        let mut costs = costs();
        let before = costs.capacity();
        for _ in 0..200 {
            costs.sampled(1, Duration::from_millis(60));
            costs.decoded(1, 5, Duration::from_millis(45));
        }
        assert!((costs.slowdown() - 3.0).abs() < 0.2, "{}", costs.slowdown());
        assert!(costs.capacity() <= before / 2, "{} after {before}", costs.capacity());
        for _ in 0..200 {
            costs.sampled(2, Duration::from_millis(30));
        }
        assert_eq!(costs.capacity(), before);
    }
}
