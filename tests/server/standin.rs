//! A cheap renderer: a sine whose pitch is the prompts', over noise that is the seed's; continuous in phase.

use std::sync::Arc;

use twostep::audio::{COLUMN_ROWS, HOP, SAMPLE_RATE, Stereo};
use twostep::condition::{Condition, Scale};
use twostep::engine::{
    Chunk, ControlInfo, ControlRange, ControlValue, Due, ModelInfo, PromptCheck, RenderError, Renderer,
};
use twostep::server::Loaded;

pub const CHUNK: usize = 24 * HOP;
/// What the first chunk of a stream lacks.
pub const DELAY: usize = 2 * HOP;

pub struct Standin;

#[derive(Clone)]
pub struct State {
    seed: u64,
    sample: u64,
    phase: f64,
}

#[derive(Clone)]
pub struct Tone {
    hz: f64,
    words: String,
}

impl Renderer for Standin {
    type Stream = State;
    type Prepared = Tone;

    fn chunk_samples(&self) -> usize {
        CHUNK
    }

    fn open(&self, seed: u64) -> State {
        State { seed, sample: 0, phase: 0.0 }
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
        Ok(Tone { hz, words })
    }

    fn render(&mut self, due: &mut [Due<'_, State, Tone>]) -> Vec<Result<Chunk, RenderError>> {
        due.iter_mut().map(|due| one(due.stream, due.condition)).collect()
    }
}

fn one(state: &mut State, tone: &Tone) -> Result<Chunk, RenderError> {
    let first = state.sample == 0;
    // Advances half way before it fails, as a real renderer may.
    state.sample += CHUNK as u64 / 2;
    assert!(!tone.words.contains("explode") || first, "the stand-in was asked to explode");
    if tone.words.contains("fail") && !first {
        return Err(RenderError::NotFinite);
    }
    state.sample -= CHUNK as u64 / 2;
    let samples = if first { CHUNK - DELAY } else { CHUNK };
    let mut pcm = Stereo::default();
    for _ in 0..samples {
        let noise = (state.sample ^ state.seed.wrapping_mul(0x9E37_79B9_7F4A_7C15)).wrapping_mul(0xD6E8_FEB8_6659_FD93);
        let noise = (noise >> 40) as f64 / f64::from(1 << 24) - 0.5;
        let sine = state.phase.sin();
        pcm.left.push((0.5 * sine + 0.1 * noise) as f32);
        pcm.right.push((0.5 * sine - 0.1 * noise) as f32);
        state.phase += std::f64::consts::TAU * tone.hz / f64::from(SAMPLE_RATE);
        state.sample += 1;
    }
    if tone.words.contains("nan") && !first {
        pcm.left[7] = f32::NAN;
    }
    Ok(Chunk { columns: vec![(tone.hz as u32 % 256) as u8; samples / HOP * COLUMN_ROWS], pcm })
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
        description: "A sine over noise".into(),
        prompts: vec!["rain".into(), "bells".into()],
        licence: "MIT OR Apache-2.0".into(),
        sample_rate: SAMPLE_RATE,
        chunk_samples: CHUNK,
        controls,
    };
    Loaded { renderer: Standin, info, vocabulary: Arc::new(check) }
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
