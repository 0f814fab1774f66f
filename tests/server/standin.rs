//! A cheap renderer: a sine whose pitch is the prompts', over noise that is the seed's; continuous in phase.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::sleep;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use twostep::audio::{COLUMN_ROWS, HOP, SAMPLE_RATE, Stereo};
use twostep::condition::{Condition, Scale};
use twostep::engine::{
    Chunk, ControlInfo, ControlRange, ControlValue, Due, Grid, ModelInfo, PromptCheck, RenderError, Renderer,
};
use twostep::server::Loaded;

pub const CHUNK: usize = 24 * HOP;
/// What the first chunk of a stream lacks.
pub const DELAY: usize = 2 * HOP;
/// Samples of what passes for a latent frame.
pub const FRAME: usize = CHUNK / FRAMES;
const FRAMES: usize = 6;

/// `delay_ms` is what a chunk of a stream takes longer with two steps, and half of that with one; it may be changed while the
/// renderer works.
#[derive(Default)]
pub struct Standin {
    pub delay_ms: Arc<AtomicU64>,
    /// What the next chunk alone takes longer.
    pub stuck_ms: Arc<AtomicU64>,
}

#[derive(Clone, Serialize, Deserialize)]
pub struct State {
    seed: u64,
    sample: u64,
    phase: f64,
    /// Tones of the frames that are sampled but not decoded, and how they go wrong.
    ahead: Vec<(f64, Mishap)>,
}

#[derive(Clone, Copy, PartialEq, Serialize, Deserialize)]
enum Mishap {
    None,
    Fail,
    Explode,
    NotANumber,
}

#[derive(Clone)]
pub struct Tone {
    hz: f64,
    mishap: Mishap,
}

impl Renderer for Standin {
    type Stream = State;
    type Prepared = Tone;

    fn twin(&self) -> Self {
        Self { delay_ms: Arc::clone(&self.delay_ms), stuck_ms: Arc::clone(&self.stuck_ms) }
    }

    fn grid(&self) -> Grid {
        Grid { frame_samples: FRAME as u64, delay_samples: DELAY as u64, chunk_frames: FRAMES as u64 }
    }

    fn open(&self, seed: u64) -> State {
        State { seed, sample: 0, phase: 0.0, ahead: Vec::new() }
    }

    fn reseed(&self, stream: &mut State, seed: u64) {
        stream.seed = seed;
    }

    fn reset_context(&self, stream: &mut State) {
        stream.phase = 0.0;
    }

    fn prepare(&self, condition: &Condition) -> Result<Tone, RenderError> {
        let words: Vec<&str> = condition.prompts.iter().map(|prompt| prompt.text.as_str()).collect();
        let words = words.join(" ");
        let bytes: u32 = words.bytes().map(u32::from).sum();
        let hz = 100.0
            + f64::from(bytes % 400)
            + f64::from(condition.guidance)
            + f64::from(condition.controls.bpm.unwrap_or(0.0));
        let mishaps = [("fail", Mishap::Fail), ("explode", Mishap::Explode), ("nan", Mishap::NotANumber)];
        let mishap =
            mishaps.into_iter().find(|(word, _)| words.contains(word)).map_or(Mishap::None, |(_, mishap)| mishap);
        Ok(Tone { hz, mishap })
    }

    fn sample(&mut self, due: &mut [Due<'_, State, Tone>]) -> Vec<Result<(), RenderError>> {
        let steps: u64 = due.iter().map(|due| if due.hurried { 1 } else { 2 }).sum();
        sleep(Duration::from_millis(self.delay_ms.load(Ordering::Relaxed) * steps / 2));
        sleep(Duration::from_millis(self.stuck_ms.swap(0, Ordering::Relaxed)));
        let each = due.iter_mut().map(|due| {
            // The first chunk always goes well.
            let mishap = if due.stream.sample == 0 { Mishap::None } else { due.condition.mishap };
            if mishap == Mishap::Fail {
                return Err(RenderError::NotFinite);
            }
            // One step is heard.
            let hz = due.condition.hz + if due.hurried { 0.5 } else { 0.0 };
            due.stream.ahead = vec![(hz, mishap); FRAMES];
            Ok(())
        });
        each.collect()
    }

    fn decode(&mut self, streams: &mut [&mut State], frames: u64) -> Vec<Result<Chunk, RenderError>> {
        streams.iter_mut().map(|stream| Ok(one(stream, frames as usize))).collect()
    }

    fn save(&self, stream: &State) -> Vec<u8> {
        serde_json::to_vec(stream).unwrap()
    }

    fn restore(&self, state: &[u8]) -> Result<State, RenderError> {
        let mut state: State = serde_json::from_slice(state).map_err(|error| RenderError::State(error.to_string()))?;
        state.ahead.clear();
        Ok(state)
    }
}

fn one(state: &mut State, frames: usize) -> Chunk {
    let mut chunk = Chunk { pcm: Stereo::default(), columns: Vec::new() };
    for (hz, mishap) in state.ahead.drain(..frames).collect::<Vec<_>>() {
        let samples = if state.sample == 0 { FRAME - DELAY } else { FRAME };
        for i in 0..samples {
            let seed = state.seed.wrapping_mul(0x9E37_79B9_7F4A_7C15);
            let noise = (state.sample ^ seed).wrapping_mul(0xD6E8_FEB8_6659_FD93);
            let noise = (noise >> 40) as f64 / f64::from(1 << 24) - 0.5;
            let sine = state.phase.sin();
            chunk.pcm.left.push((0.5 * sine + 0.1 * noise) as f32);
            chunk.pcm.right.push((0.5 * sine - 0.1 * noise) as f32);
            state.phase += std::f64::consts::TAU * hz / f64::from(SAMPLE_RATE);
            state.sample += 1;
            // Half way, as a real renderer may.
            assert!(mishap != Mishap::Explode || i < samples / 2, "the stand-in was asked to explode");
        }
        if mishap == Mishap::NotANumber {
            chunk.pcm.left[7] = f32::NAN;
        }
        chunk.columns.extend(vec![(hz as u32 % 256) as u8; samples / HOP * COLUMN_ROWS]);
    }
    chunk
}

fn number(name: &str, min: f32, max: f32, default: Option<f32>) -> ControlInfo {
    let range = ControlRange::Between(ControlValue::Number(min), ControlValue::Number(max));
    ControlInfo { name: name.into(), range, default: default.map(ControlValue::Number) }
}

/// The stand-in as a model. It has no `density`.
pub fn model() -> Loaded<Standin> {
    let names = Scale::NAMES.iter().map(|name| ControlValue::Name((*name).into())).collect();
    let steps = [1, 2, 4].map(ControlValue::Integer).to_vec();
    let controls = vec![
        number("guidance", 0.0, 6.0, Some(1.5)),
        number("temperature", 0.0, 3.0, Some(1.0)),
        number("bpm", 60.0, 200.0, None),
        number("brightness", 0.0, 1.0, None),
        ControlInfo {
            name: "seed".into(),
            range: ControlRange::Between(ControlValue::Integer(0), ControlValue::Integer(u64::MAX)),
            default: None,
        },
        ControlInfo {
            name: "steps".into(),
            range: ControlRange::OneOf(steps),
            default: Some(ControlValue::Integer(2)),
        },
        ControlInfo { name: "scale".into(), range: ControlRange::OneOf(names), default: None },
    ];
    let info = ModelInfo {
        name: "standin".into(),
        fingerprint: "a sine over noise".into(),
        description: "A sine over noise".into(),
        prompts: vec!["rain".into(), "bells".into()],
        licence: "MIT OR Apache-2.0".into(),
        sample_rate: SAMPLE_RATE,
        chunk_samples: CHUNK,
        controls,
    };
    Loaded { renderers: vec![Standin::default()], info, vocabulary: Arc::new(check) }
}

fn check(text: &str) -> PromptCheck {
    const WORDS: [&str; 8] = ["rain", "thunder", "bells", "wind", "bass", "explode", "nan", "fail"];
    let (known, unknown): (Vec<&str>, Vec<&str>) = text.split_whitespace().partition(|word| WORDS.contains(word));
    match (known.is_empty(), unknown.is_empty()) {
        (true, _) => PromptCheck::Unknown { reason: "no word of it is known".into() },
        (false, true) => PromptCheck::Known,
        (false, false) => PromptCheck::Partly { unknown: unknown.into_iter().map(str::to_owned).collect() },
    }
}
