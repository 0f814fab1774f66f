//! Windows, slices, changes and seams, with the tiny model.

use super::super::tests::tiny;
use super::*;
use crate::condition::{Controls, Prompt};
use crate::eval::seam::Flux;

fn renderer() -> TtaRenderer {
    TtaRenderer::new(tiny()).unwrap()
}

fn condition(text: &str, steps: usize) -> Condition {
    let prompts = vec![Prompt { text: text.into(), weight: 1.0 }];
    Condition { prompts, controls: Controls::default(), guidance: 3.0, steps, temperature: 1.0 }
}

fn sample(renderer: &mut TtaRenderer, stream: &mut TtaStream, condition: &TtaCondition) {
    renderer.sample(&mut [Due { stream, condition, hurried: false }]).remove(0).unwrap();
}

fn decode(renderer: &mut TtaRenderer, stream: &mut TtaStream, frames: u64) -> Chunk {
    renderer.decode(&mut [stream], frames).remove(0).unwrap()
}

fn append(sound: &mut Chunk, chunk: Chunk) {
    sound.pcm.extend(&chunk.pcm);
    sound.columns.extend(chunk.columns);
}

fn silence() -> Chunk {
    Chunk { pcm: Stereo::default(), columns: Vec::new() }
}

/// Sound of some windows with one caption.
fn windows(seed: u64, steps: usize, count: usize) -> Chunk {
    let (mut renderer, mut sound) = (renderer(), silence());
    let (mut stream, prepared) = (renderer.open(seed), renderer.prepare(&condition("rain", steps)).unwrap());
    for _ in 0..count {
        sample(&mut renderer, &mut stream, &prepared);
        append(&mut sound, decode(&mut renderer, &mut stream, CHUNK_FRAMES as u64));
    }
    sound
}

#[test]
fn decoded_in_any_slices_and_saved_at_any_window_the_sound_is_the_same() {
    let whole = windows(9, 1, 3);
    let (mut renderer, mut sound) = (renderer(), silence());
    let (mut stream, prepared) = (renderer.open(9), renderer.prepare(&condition("rain", 1)).unwrap());
    for slices in [[3, 21, 0], [1, 1, 22], [24, 0, 0]] {
        stream = renderer.restore(&renderer.save(&stream)).unwrap();
        sample(&mut renderer, &mut stream, &prepared);
        for frames in slices.into_iter().filter(|&frames| frames > 0) {
            append(&mut sound, decode(&mut renderer, &mut stream, frames));
        }
    }
    assert!(sound == whole);
    assert_eq!(whole.pcm.len() as u64, renderer.grid().sample(3 * CHUNK_FRAMES as u64));
    assert_eq!(whole.columns.len(), whole.pcm.len() / HOP * COLUMN_ROWS);
    assert!(whole.columns.iter().any(|&byte| byte > 0), "the sound can be seen");
    assert_eq!(whole.pcm.left, whole.pcm.right);
}

#[test]
fn a_change_within_a_window_goes_on_from_what_was_heard() {
    let whole = windows(4, 1, 1);
    let mut renderer = renderer();
    let (mut stream, rain) = (renderer.open(4), renderer.prepare(&condition("rain", 1)).unwrap());
    sample(&mut renderer, &mut stream, &rain);
    let mut sound = decode(&mut renderer, &mut stream, 10);
    let after = |renderer: &mut TtaRenderer, text: &str, reset: bool| {
        let (mut stream, prepared) = (stream.clone(), renderer.prepare(&condition(text, 1)).unwrap());
        if reset {
            renderer.reset_context(&mut stream);
            stream = renderer.restore(&renderer.save(&stream)).unwrap();
        }
        sample(renderer, &mut stream, &prepared);
        decode(renderer, &mut stream, 10)
    };
    let (same, other) = (after(&mut renderer, "rain", false), after(&mut renderer, "tin roof", false));
    assert!(same != other && same != after(&mut renderer, "rain", true));
    append(&mut sound, other);
    let (begin, frame) = (10 * renderer.frame_samples() - DELAY, renderer.frame_samples());
    assert!(sound.pcm.left[..begin] == whole.pcm.left[..begin]);
    assert_eq!(sound.pcm.len(), begin + 10 * frame);
    // The fade begins with the sound that was heard.
    let (joined, went_on) = (&sound.pcm.left[begin..begin + 16], &whole.pcm.left[begin..begin + 16]);
    assert!(joined.iter().zip(went_on).all(|(a, b)| (a - b).abs() < 0.05), "{joined:?} {went_on:?}");
}

#[test]
fn windows_join_without_a_seam() {
    for steps in [1, 2] {
        let sound = windows(3, steps, 12).pcm;
        let chunk = CHUNK_FRAMES * renderer().frame_samples();
        // From the middle of the first fade on.
        let first = chunk - DELAY + FADE / 2;
        let part = |x: &[f32]| x[first..].to_vec();
        let flux = Flux::of(&Stereo { left: part(&sound.left), right: part(&sound.right) }, chunk);
        let ratio = flux.ratio().unwrap();
        println!("{steps} steps: {ratio}");
        assert!((0.9..1.1).contains(&ratio), "{steps} steps: {ratio}");
    }
}

#[test]
fn a_fade_keeps_the_power_of_what_is_alike_and_of_what_is_not() {
    let power = |x: &[f32]| x.iter().map(|x| x * x).sum::<f32>() / x.len() as f32;
    let sine = |phase: f32| -> Vec<f32> { (0..FADE).map(|i| 0.5 * (0.3 * i as f32 + phase).sin()).collect() };
    let old: Vec<i16> = sine(0.0).iter().map(|x| (x * FULL) as i16).collect();
    for phase in [0.0, std::f32::consts::FRAC_PI_2] {
        let mut new = sine(phase);
        let before = power(&new);
        join(&mut new, &old);
        assert!((power(&new) / before - 1.0).abs() < 0.02, "{phase}: {} of {before}", power(&new));
    }
    let mut untouched = sine(1.0);
    join(&mut untouched, &[]);
    assert_eq!(untouched, sine(1.0));
}

#[test]
fn states_that_do_not_fit_are_refused() {
    let mut renderer = renderer();
    let (mut stream, prepared) = (renderer.open(1), renderer.prepare(&condition("rain", 1)).unwrap());
    assert!(renderer.decode(&mut [&mut stream], 1)[0].is_err(), "nothing is sampled");
    sample(&mut renderer, &mut stream, &prepared);
    decode(&mut renderer, &mut stream, 5);
    let saved = renderer.save(&stream);
    assert!(renderer.restore(&saved).is_ok());
    assert!(renderer.restore(&saved[..saved.len() / 2]).is_err());
    let mut parts: Saved = postcard::from_bytes(&saved).unwrap();
    parts.latents.truncate(100);
    let error = renderer.restore(&postcard::to_stdvec(&parts).unwrap()).err().unwrap().to_string();
    assert!(error.contains("another shape"), "{error}");
}

#[test]
fn prompts_without_a_word_are_refused() {
    assert_eq!(TtaRenderer::judge("any caption at all"), PromptCheck::Known);
    assert!(matches!(TtaRenderer::judge(" ?! "), PromptCheck::Unknown { .. }));
}
