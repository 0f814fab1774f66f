//! What a tick costs: measured when the engine starts, tracked while it works, and what follows for how many streams may be
//! promised their deadlines.

use std::time::Duration;

/// Streams in one tick: nothing but these numbers, so that a device sees few shapes.
pub const BUCKETS: [usize; 16] = [1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256];
/// Share of the device that promises may fill. The rest is for what no plan knows: changes, which make sound twice, new
/// streams, and whatever else runs on the machine.
const UTILISATION: f64 = 0.7;
/// Share of what was tracked before that counts at the next measurement: for promises, and for the next few chunks.
const MEMORY: f64 = 0.98;
const SHORT_MEMORY: f64 = 0.8;

/// Evaluations of the generator that nearly everybody asks for.
pub const USUAL_STEPS: usize = 2;

/// What a bucket takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Measured {
    /// Sampling a chunk with one evaluation of the generator.
    pub one_step: Duration,
    /// With two.
    pub two_steps: Duration,
    /// Decoding all of a chunk.
    pub decode: Duration,
}

/// Seconds that sampling and decoding take, by bucket, and how the device now compares with what it was measured to do.
#[derive(Clone, Debug)]
pub struct Costs {
    /// With one evaluation, and of each further one.
    sample: Vec<(f64, f64)>,
    /// Of one latent frame.
    decode: Vec<f64>,
    chunk_frames: f64,
    chunk_seconds: f64,
    /// What the last stages took, and what they should have taken by the measurement: both forget, one of them sooner.
    tracked: Tracked,
    recent: Tracked,
}

#[derive(Clone, Copy, Debug)]
struct Tracked {
    took: f64,
    expected: f64,
}

impl Tracked {
    /// As if so many seconds' work had gone as expected, so that one slow stage is no trend.
    fn after(seconds: f64) -> Self {
        Self { took: seconds, expected: seconds }
    }

    fn add(&mut self, memory: f64, expected: f64, took: f64) {
        self.took = memory * self.took + took;
        self.expected = memory * self.expected + expected;
    }

    fn slowdown(self) -> f64 {
        self.took / self.expected.max(1e-9)
    }
}

impl Costs {
    /// Nothing measured yet, for chunks of so many latent frames and seconds.
    pub fn new(chunk_frames: u64, chunk_seconds: f64) -> Self {
        let (sample, decode) = (Vec::new(), Vec::new());
        let chunk_frames = chunk_frames as f64;
        let (tracked, recent) = (Tracked::after(1.0), Tracked::after(0.05));
        Self { sample, decode, chunk_frames, chunk_seconds, tracked, recent }
    }

    /// Takes the measurement of the next larger bucket.
    pub fn measured(&mut self, Measured { one_step, two_steps, decode }: Measured) {
        self.sample.push((one_step.as_secs_f64(), two_steps.saturating_sub(one_step).as_secs_f64()));
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

    fn sampling(&self, place: usize, steps: usize) -> f64 {
        let (one, further) = self.sample[place];
        one + steps.saturating_sub(1) as f64 * further
    }

    /// Tracks what sampling a chunk of so many streams took, by the number of steps they asked for.
    pub fn sampled(&mut self, groups: &[(usize, usize)], took: Duration) {
        let expected = |&(steps, streams): &(usize, usize)| Some(self.sampling(self.place(streams)?, steps));
        if let Some(expected) = groups.iter().map(expected).sum() {
            self.track(expected, took);
        }
    }

    /// Tracks what decoding `frames` latent frames of so many streams took.
    pub fn decoded(&mut self, streams: usize, frames: u64, took: Duration) {
        if let Some(place) = self.place(streams) {
            self.track(self.decode[place] * frames as f64, took);
        }
    }

    fn track(&mut self, expected: f64, took: Duration) {
        self.tracked.add(MEMORY, expected, took.as_secs_f64());
        self.recent.add(SHORT_MEMORY, expected, took.as_secs_f64());
    }

    /// How much longer than measured everything takes.
    pub fn slowdown(&self) -> f64 {
        self.tracked.slowdown()
    }

    /// What a tick of so many streams is expected to take when each is sampled, in the usual number of steps, and `frames`
    /// latent frames are decoded.
    pub fn tick(&self, streams: usize, frames: u64) -> Duration {
        let seconds = self.place(streams).map_or(0.0, |place| self.seconds(place, frames as f64));
        Duration::from_secs_f64(self.slowdown() * seconds)
    }

    fn seconds(&self, place: usize, frames: f64) -> f64 {
        self.sampling(place, USUAL_STEPS) + self.decode[place] * frames
    }

    /// Streams whose chunks the device makes in the time that one of them lasts, working all the time.
    fn rate(&self) -> f64 {
        let rate = |place: usize| {
            let seconds = self.slowdown() * self.seconds(place, self.chunk_frames);
            self.chunk_seconds * BUCKETS[place] as f64 / seconds.max(1e-9)
        };
        (0..self.sample.len()).map(rate).fold(0.0, f64::max)
    }

    /// The share of its time that the device needs for so many streams.
    pub fn share(&self, streams: usize) -> f64 {
        if streams == 0 { 0.0 } else { streams as f64 / self.rate().max(1e-9) }
    }

    /// What a chunk of each of so many streams takes, in ticks of the best size; if the last few took longer, as they do.
    pub fn chunks(&self, streams: usize) -> Duration {
        let now = (self.recent.slowdown() / self.slowdown().max(1e-9)).max(1.0);
        Duration::from_secs_f64((now * self.share(streams) * self.chunk_seconds).min(3600.0))
    }

    /// Whether it promises less than at first.
    pub fn promises_less(&self) -> bool {
        self.capacity() < (UTILISATION * self.rate() * self.slowdown()) as usize
    }

    /// How many streams can be promised their chunks in time; one where that is less but the device keeps up with it.
    pub fn capacity(&self) -> usize {
        let streams = UTILISATION * self.rate();
        if streams > UTILISATION { streams.max(1.0) as usize } else { 0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn costs() -> Costs {
        let mut costs = Costs::new(10, 1.0);
        for (sample, decode) in [(20, 30), (30, 50), (60, 100)] {
            let [one_step, two_steps, decode] = [sample / 2, sample, decode].map(Duration::from_millis);
            costs.measured(Measured { one_step, two_steps, decode });
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
    fn more_steps_than_usual_are_no_slowdown_and_fewer_no_recovery() {
        let mut costs = costs();
        for _ in 0..200 {
            costs.sampled(&[(4, 1), (1, 2)], Duration::from_millis(40 + 15));
        }
        assert!((costs.slowdown() - 1.0).abs() < 1e-6, "{}", costs.slowdown());
    }

    #[test]
    fn a_share_above_one_is_more_than_the_device_can_do() {
        let costs = costs();
        assert!((costs.share(25) - 1.0).abs() < 1e-9, "{}", costs.share(25));
        assert_eq!(costs.share(0), 0.0);
        assert_eq!(costs.chunks(50), Duration::from_secs(2));
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
            costs.sampled(&[(2, 1)], Duration::from_millis(60));
            costs.decoded(1, 5, Duration::from_millis(45));
        }
        assert!((costs.slowdown() - 3.0).abs() < 0.2, "{}", costs.slowdown());
        assert!(costs.capacity() <= before / 2, "{} after {before}", costs.capacity());
        for _ in 0..200 {
            costs.sampled(&[(2, 2)], Duration::from_millis(30));
        }
        assert_eq!(costs.capacity(), before);
    }
}
