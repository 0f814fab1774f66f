//! What must be true of every kind, and of each kind by its name.

use super::*;
use crate::audio::SAMPLE_RATE;
use proptest::prelude::*;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::collections::HashSet;

const RATE: f32 = SAMPLE_RATE as f32;

fn made(name: &str, seed: u64, seconds: f64, controls: Controls) -> Stereo {
    clip_with(&[(kind_named(name).unwrap(), 1.0)], &controls, seed, seconds).pcm
}

fn mono(pcm: &Stereo) -> Vec<f32> {
    pcm.left.iter().zip(&pcm.right).map(|(l, r)| 0.5 * (l + r)).collect()
}

/// Mean power spectrum of Hann-windowed frames of 4096 samples: (Hz per bin, powers).
fn spectrum(x: &[f32]) -> (f32, Vec<f32>) {
    const N: usize = 4096;
    let fft = realfft::RealFftPlanner::<f32>::new().plan_fft_forward(N);
    let mut power = vec![0.0; N / 2 + 1];
    for frame in x.windows(N).step_by(N / 2) {
        let mut input: Vec<f32> = frame
            .iter()
            .enumerate()
            .map(|(i, x)| x * (0.5 - 0.5 * (std::f32::consts::TAU * i as f32 / N as f32).cos()))
            .collect();
        let mut output = fft.make_output_vec();
        fft.process(&mut input, &mut output).unwrap();
        power.iter_mut().zip(&output).for_each(|(p, c)| *p += c.norm_sqr());
    }
    (RATE / N as f32, power)
}

/// Share of the energy between two frequencies.
fn share(x: &[f32], low: f32, high: f32) -> f32 {
    let (bin, power) = spectrum(x);
    let band: f32 =
        power.iter().enumerate().filter(|(i, _)| (low..high).contains(&(*i as f32 * bin))).map(|(_, p)| p).sum();
    band / power.iter().sum::<f32>()
}

fn centroid(x: &[f32]) -> f32 {
    let (bin, power) = spectrum(x);
    power.iter().enumerate().map(|(i, p)| i as f32 * bin * p).sum::<f32>() / power.iter().sum::<f32>()
}

/// Geometric over arithmetic mean of the power spectrum in `low..high` Hz: near 0 tonal, above 0.3 noisy.
fn flatness(x: &[f32], low: f32, high: f32) -> f32 {
    let (bin, power) = spectrum(x);
    let band: Vec<f32> = power
        .iter()
        .enumerate()
        .filter(|(i, _)| (low..high).contains(&(*i as f32 * bin)))
        .map(|(_, p)| p.max(1e-20))
        .collect();
    let mean_log = band.iter().map(|p| p.ln()).sum::<f32>() / band.len() as f32;
    mean_log.exp() / (band.iter().sum::<f32>() / band.len() as f32)
}

/// Rises of the log energy, treble emphasised, from one frame of 240 samples (5 ms) to the next.
fn onsets(x: &[f32]) -> Vec<f32> {
    let treble: Vec<f32> = x.windows(2).map(|pair| pair[1] - pair[0]).collect();
    let energy: Vec<f32> =
        treble.chunks_exact(240).map(|frame| (frame.iter().map(|x| x * x).sum::<f32>() + 1e-6).ln()).collect();
    energy.windows(2).map(|pair| (pair[1] - pair[0]).max(0.0)).collect()
}

/// Autocorrelation of the onset curve, smoothed over 25 ms and without its mean, at a lag in seconds (best of the
/// frames around it), over that at 0.
fn periodicity(onsets: &[f32], seconds: f32) -> f32 {
    let smooth: Vec<f32> = onsets.windows(5).map(|window| window.iter().sum()).collect();
    let mean = smooth.iter().sum::<f32>() / smooth.len() as f32;
    let centred: Vec<f32> = smooth.iter().map(|x| x - mean).collect();
    let at = |lag: usize| centred.iter().zip(&centred[lag..]).map(|(a, b)| a * b).sum::<f32>();
    let lag = (seconds * 200.0).round() as usize;
    (lag - 1..=lag + 1).map(at).fold(f32::MIN, f32::max) / at(0)
}

#[test]
fn names_are_unique_and_all_families_are_there() {
    assert_eq!(KINDS.iter().map(|kind| kind.name).collect::<HashSet<_>>().len(), KINDS.len());
    assert_eq!(KINDS.iter().map(|kind| kind.family).collect::<HashSet<_>>().len(), 5);
}

#[test]
fn every_kind_is_deterministic_finite_audible_stereo_and_within_bounds() {
    for (index, kind) in KINDS.iter().enumerate() {
        let clip = clip_of(index, 7, 2.0);
        let again = clip_of(index, 7, 2.0);
        assert_eq!((&clip.pcm, &clip.caption), (&again.pcm, &again.caption), "{}", kind.name);
        assert_ne!(clip.pcm, clip_of(index, 8, 2.0).pcm, "{}", kind.name);
        assert_eq!((clip.pcm.left.len(), clip.pcm.right.len()), (96_000, 96_000));
        assert!(clip.pcm.interleaved().all(|x| x.is_finite() && x.abs() < 0.98), "{}", kind.name);
        let level = synth::rms(&clip.pcm);
        assert!((0.02..0.16).contains(&level), "{} has level {level}", kind.name);
        let side = |channel: &[f32]| (channel.iter().map(|x| x * x).sum::<f32>() / channel.len() as f32).sqrt();
        assert!(side(&clip.pcm.left) > 0.1 * level && side(&clip.pcm.right) > 0.1 * level, "{}", kind.name);
        assert_ne!(clip.pcm.left, clip.pcm.right, "{} is mono", kind.name);
    }
}

#[test]
fn no_kind_falls_silent() {
    for (index, kind) in KINDS.iter().enumerate() {
        for density in [0.0, 1.0] {
            let controls = Controls { density: Some(density), bpm: Some(60.0), ..Controls::default() };
            let pcm = clip_with(&[(index, 1.0)], &controls, 3, 9.0).pcm;
            let whole = synth::rms(&pcm);
            for (left, right) in pcm.left.chunks(144_000).zip(pcm.right.chunks(144_000)) {
                let part = synth::rms(&Stereo { left: left.to_vec(), right: right.to_vec() });
                assert!(part > 0.25 * whole, "{}: 3 s at {:.0} % of the level", kind.name, 100.0 * part / whole);
            }
        }
    }
}

#[test]
fn kinds_obey_the_controls_they_claim_and_no_other() {
    for (index, kind) in KINDS.iter().enumerate() {
        let with = |controls: Controls| clip_with(&[(index, 1.0)], &controls, 11, 1.0).pcm;
        let base =
            Controls { bpm: Some(100.0), density: Some(0.2), brightness: Some(0.3), scale: Some(Scale::from_tonic(0)) };
        let plain = with(base);
        let moved = [
            (kind.obeys.bpm, Controls { bpm: Some(150.0), ..base }),
            (kind.obeys.density, Controls { density: Some(0.9), ..base }),
            (kind.obeys.brightness, Controls { brightness: Some(0.8), ..base }),
            (kind.obeys.scale, Controls { scale: Some(Scale::from_tonic(5)), ..base }),
        ];
        for (i, (obeyed, controls)) in moved.into_iter().enumerate() {
            assert_eq!(obeyed, with(controls) != plain, "{} and control {i}", kind.name);
        }
    }
}

#[test]
fn brightness_raises_the_centroid() {
    for kind in KINDS.iter().filter(|kind| kind.obeys.brightness) {
        let at = |brightness| {
            centroid(&mono(&made(kind.name, 5, 4.0, Controls { brightness: Some(brightness), ..Controls::default() })))
        };
        let (dark, bright) = (at(0.1), at(0.9));
        assert!(bright > 1.15 * dark, "{}: {dark} Hz dark, {bright} Hz bright", kind.name);
    }
}

#[test]
fn energy_lies_where_each_kind_has_it() {
    for (name, low, high, least) in [
        ("rain", 500.0, 16_000.0, 0.8),
        ("wind", 40.0, 2_000.0, 0.9),
        ("ocean", 40.0, 6_000.0, 0.9),
        ("stream", 200.0, 6_000.0, 0.9),
        ("thunder", 20.0, 500.0, 0.8),
        ("earthquake", 20.0, 250.0, 0.7),
        ("lava", 40.0, 800.0, 0.8),
        ("crickets", 3_000.0, 6_500.0, 0.9),
        ("birds", 1_000.0, 9_000.0, 0.9),
        ("owl", 200.0, 900.0, 0.8),
        ("drone", 20.0, 1_500.0, 0.8),
        ("bass", 30.0, 1_000.0, 0.8),
    ] {
        for seed in 0..3 {
            let found = share(&mono(&made(name, seed, 4.0, Controls::default())), low, high);
            assert!(found > least, "{name}, seed {seed}: {found} of the energy in {low}..{high} Hz");
        }
    }
}

#[test]
fn noises_are_flat_and_tones_are_peaky() {
    for (name, low, high) in [("rain", 1_000.0, 4_000.0), ("ocean", 300.0, 2_000.0), ("wind", 100.0, 400.0)] {
        let x = mono(&made(name, 1, 4.0, Controls::default()));
        assert!(flatness(&x, low, high) > 0.3, "{name} is not noisy: {}", flatness(&x, low, high));
    }
    for name in ["pad", "bells", "harp", "marimba", "music_box", "arpeggio", "drone"] {
        let x = mono(&made(name, 1, 4.0, Controls::default()));
        assert!(flatness(&x, 100.0, 6_000.0) < 0.25, "{name} is not tonal: {}", flatness(&x, 100.0, 6_000.0));
    }
}

#[test]
fn rhythms_keep_their_tempo() {
    for (name, bpm) in [("drums", 126.0), ("clock", 90.0), ("footsteps", 110.0), ("train", 80.0), ("arpeggio", 100.0)] {
        for seed in 0..3 {
            let controls = Controls { bpm: Some(bpm), density: Some(0.5), ..Controls::default() };
            let curve = onsets(&mono(&made(name, seed, 8.0, controls)));
            let beat = 60.0 / bpm;
            // Half a bar for drums: a pattern need not repeat each beat, but kick and snare do within two.
            let (on, off) = (periodicity(&curve, 2.0 * beat), periodicity(&curve, 1.86 * beat));
            assert!(on > 0.25 && on > 1.5 * off, "{name}, seed {seed}: {on} on the beat, {off} off it");
        }
    }
}

#[test]
fn density_raises_the_rate_of_onsets() {
    for name in ["campfire", "crickets", "frogs", "drips", "typewriter", "marimba"] {
        let count = |density| {
            let controls = Controls { density: Some(density), bpm: Some(100.0), ..Controls::default() };
            let curve = onsets(&mono(&made(name, 2, 6.0, controls)));
            curve.iter().filter(|&&rise| rise > 1.0).count()
        };
        assert!(count(0.9) as f32 > 1.2 * count(0.1) as f32, "{name}: {} onsets, {} dense", count(0.1), count(0.9));
    }
}

#[test]
fn melodies_stay_in_their_key() {
    const MAJOR: [i32; 7] = [0, 2, 4, 5, 7, 9, 11];
    for name in ["harp", "marimba", "music_box", "arpeggio", "pad"] {
        for tonic in [0, 3, 8] {
            let controls = Controls { scale: Some(Scale::from_tonic(tonic)), ..Controls::default() };
            // The lowest octaves only: higher partials belong to other notes.
            let x = mono(&made(name, 4, 6.0, controls));
            let (bin, power) = spectrum(&x);
            let chroma = |pitch: i32| -> f32 {
                (4..7)
                    .map(|octave| {
                        let hz = synth::midi_hz(12 * octave + pitch + 12);
                        power[(hz / bin).round() as usize]
                    })
                    .sum()
            };
            let (mut inside, mut outside) = (0.0, 0.0);
            for pitch in 0..12 {
                let degree = (pitch - i32::from(tonic)).rem_euclid(12);
                *if MAJOR.contains(&degree) { &mut inside } else { &mut outside } += chroma(pitch);
            }
            assert!(inside / 7.0 > 3.0 * outside / 5.0, "{name} in {tonic}: {inside} inside, {outside} outside");
        }
    }
}

#[test]
fn random_mixes_have_one_to_three_kinds_and_weights_that_sum_to_one() {
    let counts: Vec<usize> = (0..200).map(|seed| choose(seed, Layers::Any).len()).collect();
    let of = |n| counts.iter().filter(|&&count| count == n).count();
    assert!(of(1) > 110 && of(2) > 25 && of(3) > 1 && of(1) + of(2) + of(3) == 200);
    let three = clip(1, 1.0, Layers::Exactly(3));
    assert!((three.kinds.iter().map(|(_, weight)| weight).sum::<f32>() - 1.0).abs() < 1e-5);
    assert!(three.kinds.windows(2).all(|pair| pair[0].1 >= pair[1].1 && pair[0].0 != pair[1].0));
    assert!(three.pcm.interleaved().all(|x| x.abs() < 0.98));
}

#[test]
fn captions_contain_every_prompt_and_only_known_words() {
    let vocabulary = vocabulary(KINDS);
    assert!(vocabulary.is_sorted() && vocabulary.windows(2).all(|pair| pair[0] != pair[1]));
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    for (index, kind) in KINDS.iter().enumerate() {
        let seen: HashSet<String> = (0..300)
            .map(|_| {
                let drawn = Controls {
                    bpm: Some(rng.random_range(BPM)),
                    density: Some(rng.random()),
                    brightness: Some(rng.random()),
                    scale: Some(Scale::from_tonic(rng.random_range(0..12))),
                };
                caption(&[(index, 1.0)], &kind.obeys.mask(&drawn), &mut rng)
            })
            .collect();
        assert!(seen.contains(kind.prompt), "{} is never said", kind.prompt);
        assert!(seen.len() > 40, "{} has {} captions", kind.name, seen.len());
        for word in seen.iter().flat_map(|text| text.split(|c: char| !c.is_alphanumeric())).filter(|w| w.len() > 1) {
            let known = vocabulary.binary_search_by(|known| known.as_str().cmp(word)).is_ok();
            assert!(known || word.parse::<f32>().is_ok() || caption::is_function_word(word), "{word}");
        }
    }
}

#[test]
fn a_downpour_is_not_called_gentle() {
    let rain = kind_named("rain").unwrap();
    let mut rng = ChaCha8Rng::seed_from_u64(2);
    let said = |density, word: &str, rng: &mut ChaCha8Rng| {
        let controls = Controls { density: Some(density), ..Controls::default() };
        (0..500).filter(|_| caption(&[(rain, 1.0)], &controls, rng).contains(word)).count()
    };
    assert_eq!(said(0.9, "gentle", &mut rng), 0);
    assert!(said(0.1, "gentle", &mut rng) > 50);
    assert_eq!(said(0.1, "heavy", &mut rng), 0);
    assert!(said(0.9, "heavy", &mut rng) > 20);
}

#[test]
fn export_writes_what_was_made() {
    let dir = tempfile::tempdir().unwrap();
    let mut told = Vec::new();
    export(dir.path(), 4, 0.5, 40, |done| told.push(done)).unwrap();
    assert_eq!(told, [1, 2, 3, 4]);
    let table = std::fs::read_to_string(dir.path().join("captions.csv")).unwrap();
    assert_eq!(table.lines().count(), 5);
    for i in 0..4 {
        let path = dir.path().join(format!("{i:05}.wav"));
        let samples: Vec<i16> = hound::WavReader::open(path).unwrap().samples().map(Result::unwrap).collect();
        let expected: Vec<i16> =
            clip(40 + i, 0.5, Layers::Any).pcm.interleaved().map(|x| (x * 32767.0).round() as i16).collect();
        assert_eq!(samples, expected);
    }
    let file = dir.path().join("00000.wav");
    let error = export(&file, 1, 0.1, 1, |_| {}).unwrap_err().to_string();
    assert!(error.contains("00000.wav"), "{error}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]
    #[test]
    fn any_mix_is_finite_and_bounded(seed: u64, seconds in 0.0f64..0.3, count in 0usize..5) {
        let clip = clip(seed, seconds, Layers::Exactly(count));
        prop_assert!(clip.pcm.interleaved().all(|x| x.is_finite() && x.abs() < 0.98));
        prop_assert_eq!(clip.kinds.len(), count.max(1));
        prop_assert!(!clip.caption.is_empty());
    }
}

/// Prints how many seconds of each kind one core makes in a second: `cargo test --release -- --ignored --nocapture`.
#[test]
#[ignore = "a measurement"]
fn speed_of_each_kind() {
    for (index, kind) in KINDS.iter().enumerate() {
        let start = std::time::Instant::now();
        let clips = (0..4).map(|seed| clip_of(index, seed, 6.0).pcm.len()).sum::<usize>();
        println!("{:12} {:6.0} x real time", kind.name, clips as f32 / RATE / start.elapsed().as_secs_f32());
    }
}
