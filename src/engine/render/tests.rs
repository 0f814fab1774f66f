//! What must be true of rendering: the same sound in any company, in any slices, and after any rest.

use super::*;
use crate::condition::{Controls, Prompt};
use crate::model::ModelSpec;
use crate::model::spec::TINY;
use candle_core::Device;
use proptest::prelude::*;

fn renderer() -> ModelRenderer {
    let spec = ModelSpec::new("tiny", TINY, vec![], vec!["rain".into()], vec![]);
    ModelRenderer::new(Model::untrained(spec, 1, &Device::Cpu).unwrap())
}

fn condition(text: &str, steps: usize) -> Condition {
    let prompts = vec![Prompt { text: text.into(), weight: 1.0 }];
    Condition { prompts, controls: Controls::default(), guidance: 1.5, steps, temperature: 1.0 }
}

fn append(sound: &mut Chunk, chunk: Chunk) {
    sound.pcm.extend(&chunk.pcm);
    sound.columns.extend(chunk.columns);
}

fn silence() -> Chunk {
    Chunk { pcm: crate::audio::Stereo::default(), columns: Vec::new() }
}

/// Renders chunks of streams with the given seeds and steps together.
fn together(seeds: &[(u64, usize)], chunks: usize) -> Vec<Chunk> {
    let mut renderer = renderer();
    let mut streams: Vec<_> = seeds.iter().map(|&(seed, _)| renderer.open(seed)).collect();
    let prepared: Vec<_> =
        seeds.iter().map(|&(_, steps)| renderer.prepare(&condition("rain", steps)).unwrap()).collect();
    let mut sound = vec![silence(); seeds.len()];
    for _ in 0..chunks {
        let mut due: Vec<_> = streams
            .iter_mut()
            .zip(&prepared)
            .map(|(stream, condition)| Due { stream, condition, hurried: false })
            .collect();
        for (sound, chunk) in sound.iter_mut().zip(renderer.render(&mut due)) {
            append(sound, chunk.unwrap());
        }
    }
    sound
}

#[test]
fn a_stream_sounds_the_same_alone_and_in_any_company() {
    let company = [(1, 2), (2, 2), (3, 1), (4, 2), (5, 4), (6, 2), (7, 2)];
    let mixed = together(&company, 3);
    for (alone, &with) in mixed.iter().zip(&company) {
        assert!(&together(&[with], 3)[0] == alone, "stream {with:?} changed in company");
    }
    assert!(mixed[0] != mixed[1]);
}

#[test]
fn streams_sound_the_same_however_many_are_decoded_at_once() {
    let mut renderer = renderer();
    let prepared = renderer.prepare(&condition("rain", 2)).unwrap();
    let mut streams: Vec<_> = (0..7).map(|seed| renderer.open(seed)).collect();
    let due = |stream| Due { stream, condition: &prepared, hurried: false };
    let sampled = renderer.sample(&mut streams.iter_mut().map(due).collect::<Vec<_>>());
    sampled.into_iter().for_each(|sampled| sampled.unwrap());
    let decode = |at_once: usize| -> Vec<Chunk> {
        let mut streams = streams.clone();
        let mut streams: Vec<_> = streams.iter_mut().collect();
        let chunks = in_pool(|| renderer.decode_in_turn(&mut streams, 12, at_once));
        chunks.into_iter().map(Result::unwrap).collect()
    };
    let whole = decode(7);
    assert!(whole[0] != whole[6]);
    for at_once in [1, 3, 64] {
        assert!(decode(at_once) == whole, "{at_once} at once");
    }
}

#[test]
fn what_is_not_finite_in_one_stream_never_reaches_fifteen_others() {
    let mut renderer = renderer();
    let prepared = renderer.prepare(&condition("rain", 2)).unwrap();
    let mut streams: Vec<_> = (1..=16).map(|seed| renderer.open(seed)).collect();
    fn due<'a>(
        streams: &'a mut [StreamState],
        condition: &'a PreparedCondition,
    ) -> Vec<Due<'a, StreamState, PreparedCondition>> {
        streams.iter_mut().map(|stream| Due { stream, condition, hurried: false }).collect()
    }
    renderer.render(&mut due(&mut streams, &prepared)).into_iter().for_each(|chunk| drop(chunk.unwrap()));
    let mut alone = streams.clone();
    let alone = alone.chunks_mut(1).map(|one| renderer.render(&mut due(one, &prepared)).remove(0).unwrap());
    let alone: Vec<Chunk> = alone.collect();
    let others = |chunks: Vec<Result<Chunk, RenderError>>, poisoned: usize| {
        for (i, (chunk, alone)) in chunks.into_iter().zip(&alone).enumerate() {
            match chunk {
                Ok(chunk) => assert!(i != poisoned && &chunk == alone, "stream {i} was changed"),
                Err(error) => assert!(i == poisoned && matches!(error, RenderError::NotFinite), "{i}: {error}"),
            }
        }
    };
    // In the context, before the generator.
    let mut context = streams.clone();
    context[5].past[3] = f32::NAN;
    others(renderer.render(&mut due(&mut context, &prepared)), 5);
    // In the latents, before the decoder.
    renderer.sample(&mut due(&mut streams, &prepared)).into_iter().for_each(|sampled| sampled.unwrap());
    streams[7].ahead[0] = f32::INFINITY;
    others(renderer.decode(&mut streams.iter_mut().collect::<Vec<_>>(), 12), 7);
}

#[test]
fn columns_accompany_the_samples() {
    let sound = &together(&[(1, 2)], 2)[0];
    assert_eq!(sound.columns.len(), sound.pcm.len() / HOP * crate::audio::COLUMN_ROWS);
    assert_eq!(sound.pcm.len() as u64, renderer().grid().sample(24));
}

#[test]
fn states_of_other_models_are_refused() {
    let renderer = renderer();
    let mut stream = renderer.open(3);
    stream.past = VecDeque::from(vec![0.0; 5]);
    stream.frame = 1;
    let refused = |state: &[u8]| renderer.restore(state).err().unwrap().to_string();
    assert!(refused(&renderer.save(&stream)).contains("another shape"));
    assert!(refused(&[1, 2, 3]).contains("does not fit"));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    #[test]
    fn decoded_in_any_slices_and_saved_at_any_chunk_the_sound_is_the_same(
        cuts in prop::collection::vec(prop::collection::vec(1u64..12, 0..4), 1..5),
    ) {
        let whole = &together(&[(9, 2)], cuts.len())[0];
        let mut renderer = renderer();
        let prepared = renderer.prepare(&condition("rain", 2)).unwrap();
        let (mut stream, mut sound) = (renderer.open(9), silence());
        for slices in cuts {
            stream = renderer.restore(&renderer.save(&stream)).unwrap();
            renderer.sample(&mut [Due { stream: &mut stream, condition: &prepared, hurried: false }]).remove(0).unwrap();
            let mut left = 12;
            for slice in slices.into_iter().chain([12]) {
                let frames = slice.min(left);
                if frames > 0 {
                    append(&mut sound, renderer.decode(&mut [&mut stream], frames).remove(0).unwrap());
                }
                left -= frames;
            }
        }
        prop_assert!(&sound == whole);
    }
}

#[test]
fn a_stream_of_any_age_is_restored_to_the_bit() {
    let mut renderer = renderer();
    let prepared = renderer.prepare(&condition("rain", 1)).unwrap();
    let (mut kept, mut restored) = (renderer.open(9), renderer.open(9));
    for slice in [1, 1, 1, 2, 1, 3, 12, 1, 1, 7, 1, 12, 2, 1] {
        restored = renderer.restore(&renderer.save(&restored)).unwrap();
        let [kept, restored] = [&mut kept, &mut restored].map(|stream| {
            renderer.sample(&mut [Due { stream, condition: &prepared, hurried: false }]).remove(0).unwrap();
            renderer.decode(&mut [stream], slice).remove(0).unwrap()
        });
        assert!(kept == restored, "a slice of {slice}");
    }
}

#[test]
fn notes_are_intoned_by_the_scale_they_were_asked_for_with_and_a_restored_stream_knows_it() {
    let mut renderer = renderer();
    let in_scale = |renderer: &ModelRenderer, scale: Option<Scale>| {
        let controls = Controls { scale, ..Controls::default() };
        renderer.prepare(&Condition { controls, ..condition("rain", 1) }).unwrap()
    };
    let (mut kept, mut restored, mut free) = (renderer.open(9), renderer.open(9), renderer.open(9));
    let mut differed = false;
    for (i, slice) in [1, 2, 1, 3, 12, 1, 7, 1, 12, 2].into_iter().enumerate() {
        let prepared = in_scale(&renderer, (i % 3 > 0).then(|| Scale::from_tonic(i as u8)));
        let plain = in_scale(&renderer, None);
        restored = renderer.restore(&renderer.save(&restored)).unwrap();
        let asked = [(&mut kept, &prepared), (&mut restored, &prepared), (&mut free, &plain)];
        let [kept, restored, free] = asked.map(|(stream, condition)| {
            // Features without the scale, or the generator would hear it as well.
            let condition = &PreparedCondition { features: plain.features.clone(), ..condition.clone() };
            renderer.sample(&mut [Due { stream, condition, hurried: false }]).remove(0).unwrap();
            renderer.decode(&mut [stream], slice).remove(0).unwrap()
        });
        assert!(kept == restored, "a slice of {slice}");
        differed |= kept != free;
    }
    assert!(differed, "the scale was heard");
}

#[test]
fn a_beat_goes_on_while_a_tempo_is_asked_for_however_chunks_are_sliced_and_saved() {
    let mut renderer = renderer();
    let mut play = |bpm: Option<f32>, stream: &mut StreamState, slices: &[u64]| {
        let controls = Controls { bpm, ..Controls::default() };
        let condition = renderer.prepare(&Condition { controls, ..condition("rain", 1) }).unwrap();
        renderer.sample(&mut [Due { stream, condition: &condition, hurried: false }]).remove(0).unwrap();
        for &slice in slices {
            renderer.decode(&mut [stream], slice).remove(0).unwrap();
            *stream = renderer.restore(&renderer.save(stream)).unwrap();
            if slice != slices[slices.len() - 1] {
                renderer.sample(&mut [Due { stream, condition: &condition, hurried: false }]).remove(0).unwrap();
            }
        }
    };
    let mut stream = StreamState::at_start(3);
    play(None, &mut stream, &[12]);
    assert_eq!(stream.beat, Beats::default(), "nobody counts");
    play(Some(97.0), &mut stream, &[12]);
    play(Some(97.0), &mut stream, &[2, 3]);
    let counted = Beats::default().after(17, Beats::of_frame(97.0, 8));
    assert_eq!(stream.beat, counted);
    play(Some(150.0), &mut stream, &[7]);
    assert_eq!(stream.beat, counted.after(7, Beats::of_frame(150.0, 8)), "another tempo goes on from there");
}
