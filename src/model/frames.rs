//! Spectrogram frames as the codec sees them: every kind of value shifted and scaled to order 1.

use crate::audio::{BANDS, FRAME_VALUES, LINEAR_BINS, PARTS, STEREO_BANDS, is_peak, stereo_band_levels};
use std::sync::LazyLock;

/// Shift and scale of the linear bins, the bands, and the stereo values: about the mean and twice the spread of each.
const LINEAR: (f32, f32) = (-6.5, 2.0);
const BAND: (f32, f32) = (-8.0, 2.0);
const STEREO: (f32, f32) = (0.0, 0.5);

/// How many values of a frame are levels; the others are pans and coherences.
pub const LEVELS: usize = LINEAR_BINS + PARTS * BANDS;

/// Whether a value of a frame is a level.
pub fn is_level(value: usize) -> bool {
    value % FRAME_VALUES < LEVELS
}

fn constants(value: usize) -> (f32, f32) {
    match value {
        v if v < LINEAR_BINS => LINEAR,
        v if v < LEVELS => BAND,
        _ => STEREO,
    }
}

/// A value of a frame, normalised; `value` is its place in the frame.
pub fn normalise(value: usize, x: f32) -> f32 {
    let (shift, scale) = constants(value % FRAME_VALUES);
    (x - shift) / scale
}

/// The inverse of [`normalise`].
pub fn denormalise(value: usize, x: f32) -> f32 {
    let (shift, scale) = constants(value % FRAME_VALUES);
    x * scale + shift
}

/// The same for frames, (frames, [`FRAME_VALUES`]) row-major.
pub fn denormalised(frames: &[f32]) -> Vec<f32> {
    let mut values = frames.to_vec();
    for frame in values.chunks_exact_mut(FRAME_VALUES) {
        for alike in [0..LINEAR_BINS, LINEAR_BINS..LEVELS, LEVELS..FRAME_VALUES] {
            let (shift, scale) = constants(alike.start);
            frame[alike].iter_mut().for_each(|x| *x = *x * scale + shift);
        }
    }
    values
}

/// How much a value of a frame changes for one of its normalised value.
pub fn spread_of(value: usize) -> f32 {
    constants(value % FRAME_VALUES).1
}

/// Frames to either side over which a line must last.
const LINE_FRAMES: usize = 2;
/// Bins to either side that a line must stand out of, and by how many nepers: half of one at [`LINE`]`.0`, most of one
/// [`LINE`]`.1` above. The mean of five frames of noise is above the first in one bin of a hundred.
const LINE_BINS: usize = 6;
const LINE: (f32, f32) = (1.0, 0.2);
/// Frames in a row, a third of a second, over which levels are averaged to tell the pitch of what is held.
pub const HELD: usize = 32;
/// Frames from one such row to the next.
pub const HELD_STEP: usize = 8;
/// [`LINE`] in such a row, whose means are steadier.
const HELD_LINE: (f32, f32) = (0.5, 0.05);
/// How much more than noise a line matters.
const LINE_GAIN: f32 = 2.0;
/// Nepers by which levels of a neighbourhood rise at an attack from one moment to the next: half of one at `.0`, most of one
/// `.1` above. Bins to either side that are a neighbourhood, and bands.
const ATTACK: (f32, f32) = (1.0, 0.15);
const ATTACK_BINS: usize = 6;
const ATTACK_BANDS: usize = 2;
/// How much more than what lasts an attack matters, and the moment before it.
const ATTACK_GAIN: f32 = 3.0;
/// How much the stereo image of a silent band matters, and how much more that of a loud one.
const STEREO_GAIN: (f32, f32) = (0.1, 1.4);

/// The levels whose stereo image each stereo band describes.
static DESCRIBED: LazyLock<Vec<Vec<usize>>> =
    LazyLock::new(|| (0..STEREO_BANDS).map(|band| stereo_band_levels(band).collect()).collect());

/// How much errors in a window of normalised frames matter to the ear, value by value.
///
/// Loud levels matter up to three times as much as silence. Linear bins of a *line*, which stands out of the bins around it
/// for longer than noise does, matter up to three times as much again: a partial is right or wrong, noise may be any noise
/// of its level. An *attack*, where the levels of a neighbourhood rise at once, and the moment before it matter up to four
/// times as much: an error there is smeared sound. A pan or a coherence matters as much as its band is loud.
pub fn importance(window: &[f32]) -> Vec<f32> {
    let frames: Vec<&[f32]> = window.chunks_exact(FRAME_VALUES).collect();
    let attacks = attacks(&frames);
    let mut all = Vec::with_capacity(window.len());
    for n in 0..frames.len() {
        let loudness: Vec<f32> = (0..LEVELS).map(|value| loudness(value, frames[n][value])).collect();
        let lines = lines(&means(around(&frames, n, LINE_FRAMES)), LINE);
        let line = |value: usize| lines.get(value).map_or(1.0, |line| 1.0 + LINE_GAIN * line);
        let attack = |value: usize| 1.0 + ATTACK_GAIN * attacks[n * LEVELS + value];
        let levels = loudness.iter().enumerate();
        all.extend(levels.map(|(value, loudness)| (1.0 + 2.0 * loudness) * line(value) * attack(value)));
        let stereo: Vec<f32> = (DESCRIBED.iter())
            .map(|levels| levels.iter().map(|&value| loudness[value]).fold(0.0, f32::max))
            .map(|loudest| STEREO_GAIN.0 + STEREO_GAIN.1 * loudest)
            .collect();
        all.extend(stereo.iter().chain(&stereo));
    }
    all
}

/// How much the frequency of the partial that peaks at each linear bin matters to the ear, 0..1, (frames, [`LINEAR_BINS`]), in a
/// window of normalised frames: as much as it is loud, and a line. 0 where nothing peaks.
pub fn partials(window: &[f32]) -> Vec<f32> {
    let frames: Vec<&[f32]> = window.chunks_exact(FRAME_VALUES).collect();
    let of_frame = |n: usize| {
        let (frame, lines) = (&frames[n][..LINEAR_BINS], lines(&means(around(&frames, n, LINE_FRAMES)), LINE));
        (0..LINEAR_BINS).map(move |bin| {
            let peaks = (1..LINEAR_BINS - 1).contains(&bin) && is_peak(frame, bin);
            if peaks { loudness(bin, frame[bin]) * lines[bin] } else { 0.0 }
        })
    };
    (0..frames.len()).flat_map(of_frame).collect()
}

/// How much the mean level of each linear bin in [`HELD`] frames matters to the pitches that are heard, 0..1, of a window of
/// normalised frames: (rows, [`LINEAR_BINS`]), a row beginning every [`HELD_STEP`] frames. It matters as much as it is loud and a line,
/// or beside one: on its flanks its pitch is told.
pub fn held(window: &[f32]) -> Vec<f32> {
    let frames: Vec<&[f32]> = window.chunks_exact(FRAME_VALUES).collect();
    let of_row = |row: &[&[f32]]| {
        let means = means(row);
        let lines = lines(&means, HELD_LINE);
        let loud: Vec<f32> = (0..LINEAR_BINS).map(|bin| loudness(bin, means[bin]) * lines[bin]).collect();
        (0..LINEAR_BINS).map(|bin| around(&loud, bin, 1).iter().copied().fold(0.0, f32::max)).collect::<Vec<f32>>()
    };
    frames.windows(HELD).step_by(HELD_STEP).flat_map(of_row).collect()
}

/// The matrix (LINEAR_BINS, LINEAR_BINS) that takes rows of levels of the linear bins to how far each is above the mean of those
/// around it, which a line stands out of.
pub fn above_surroundings() -> Vec<f32> {
    let of_one = |bin: usize| above(&std::array::from_fn::<f32, LINEAR_BINS, _>(|i| f32::from(i == bin)));
    (0..LINEAR_BINS).flat_map(of_one).collect()
}

/// How far the level of each linear bin is above the mean of those around it.
fn above(levels: &[f32]) -> Vec<f32> {
    (0..LINEAR_BINS).map(|bin| levels[bin] - mean(around(levels, bin, LINE_BINS))).collect()
}

/// How loud a level is, 0..1.
fn loudness(value: usize, normalised: f32) -> f32 {
    let (_, scale) = constants(value);
    logistic(normalised * scale / 1.5)
}

/// The mean of each linear bin in some normalised frames in a row.
fn means(frames: &[&[f32]]) -> Vec<f32> {
    (0..LINEAR_BINS).map(|bin| frames.iter().map(|frame| frame[bin]).sum::<f32>() / frames.len() as f32).collect()
}

/// How much each linear bin belongs to a line, 0..1, by its mean and those around it; a line stands out as [`LINE`] says.
fn lines(means: &[f32], (half, most): (f32, f32)) -> Vec<f32> {
    above(means).into_iter().map(|out| logistic((LINEAR.1 * out - half) / most)).collect()
}

/// How much every level of these normalised frames is of an attack, 0..1, (frames, [`LEVELS`]).
fn attacks(frames: &[&[f32]]) -> Vec<f32> {
    let mut all = vec![0.0f32; frames.len() * LEVELS];
    for (first, width, parts, reach) in [(0, LINEAR_BINS, 1, ATTACK_BINS), (LINEAR_BINS, BANDS, PARTS, ATTACK_BANDS)] {
        let (_, scale) = constants(first);
        // Where the levels of a moment are: the linear bins of a frame, or the bands of a part of it.
        let place = |moment: usize| (moment / parts, first + moment % parts * width);
        for moment in 1..frames.len() * parts {
            let (before, now) = (place(moment - 1), place(moment));
            let rise = |i: usize| scale * (frames[now.0][now.1 + i] - frames[before.0][before.1 + i]);
            let rises: Vec<f32> = (0..width).map(rise).collect();
            for i in 0..width {
                let attack = logistic((mean(around(&rises, i, reach)) - ATTACK.0) / ATTACK.1);
                for (frame, start) in [before, now] {
                    let level = &mut all[frame * LEVELS + start + i];
                    *level = level.max(attack);
                }
            }
        }
    }
    all
}

/// A value with those of up to `reach` places to either side.
fn around<T>(values: &[T], at: usize, reach: usize) -> &[T] {
    &values[at.saturating_sub(reach)..(at + reach + 1).min(values.len())]
}

fn mean(values: &[f32]) -> f32 {
    values.iter().sum::<f32>() / values.len() as f32
}

fn logistic(x: f32) -> f32 {
    1.0 / (1.0 + (-x).exp())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inverse_and_order_one() {
        for (place, x) in crate::audio::silence().into_iter().enumerate() {
            let y = normalise(place, x);
            assert!((denormalise(place, y) - x).abs() < 1e-5 && y.abs() < 3.0, "value {place}: {x} -> {y}");
        }
        let normal: Vec<f32> = (0..2 * FRAME_VALUES).map(|place| (place as f32).sin()).collect();
        let each: Vec<f32> = normal.iter().enumerate().map(|(place, &x)| denormalise(place, x)).collect();
        assert_eq!(denormalised(&normal), each);
    }

    /// A window of five frames of silence with some values changed in each.
    fn window(changed: impl Fn(usize, &mut [f32])) -> Vec<f32> {
        let silence: Vec<f32> = crate::audio::silence().iter().enumerate().map(|(i, &x)| normalise(i, x)).collect();
        let frame = |n| {
            let mut frame = silence.clone();
            changed(n, &mut frame);
            frame
        };
        (0..5).flat_map(frame).collect()
    }

    #[test]
    fn loud_levels_and_their_stereo_image_matter_more() {
        let quiet = importance(&window(|_, _| ()));
        let loud = importance(&window(|_, frame| frame[..LEVELS].fill(3.0)));
        let ratio = |value: usize| loud[2 * FRAME_VALUES + value] / quiet[2 * FRAME_VALUES + value];
        assert!(ratio(50) > 1.8 && ratio(LEVELS - 1) > 2.0 && ratio(FRAME_VALUES - 1) > 4.0);
        // Of one loud bin, only the stereo band that describes it.
        let one = importance(&window(|_, frame| frame[100] = 3.0));
        let band = (0..STEREO_BANDS).find(|&band| DESCRIBED[band].contains(&100)).unwrap();
        let image = &one[2 * FRAME_VALUES + LEVELS..][..STEREO_BANDS];
        assert!(image[band] > 2.5 * image[0] && image[0] == quiet[LEVELS], "{image:?}");
    }

    #[test]
    fn attacks_and_the_moment_before_matter_more() {
        let loud = 0.0;
        // All bands from the second part of the third frame on.
        let band = LINEAR_BINS + 10;
        let attack = importance(&window(|n, frame| {
            let from = if n == 2 { LINEAR_BINS + BANDS } else { LINEAR_BINS };
            if n >= 2 {
                frame[from..LEVELS].fill(loud);
            }
        }));
        let lasting = importance(&window(|_, frame| frame[LINEAR_BINS..LEVELS].fill(loud)));
        let silence = importance(&window(|_, _| ()));
        let at = |weights: &[f32], frame: usize, value: usize| weights[frame * FRAME_VALUES + value];
        assert!(at(&attack, 2, band + BANDS) > 3.5 * at(&lasting, 2, band + BANDS));
        assert!(at(&attack, 2, band) > 3.5 * at(&silence, 2, band));
        assert_eq!(at(&attack, 3, band), at(&lasting, 3, band));
        assert_eq!(at(&attack, 1, band), at(&silence, 1, band));
    }

    #[test]
    fn partials_are_where_lines_peak() {
        let peak = |frame: &mut [f32]| {
            frame[59..62].copy_from_slice(&[0.5, 1.0, 0.6]);
            frame[0] = 1.0;
        };
        let lasting = partials(&window(|_, frame| peak(frame)));
        let at = |n: usize, bin: usize| lasting[n * LINEAR_BINS + bin];
        assert!((0..5).all(|n| at(n, 60) > 0.7 && at(n, 59) == 0.0 && at(n, 61) == 0.0 && at(n, 0) == 0.0));
        let moment = partials(&window(|n, frame| {
            if n == 2 {
                peak(frame)
            }
        }));
        assert!(moment[2 * LINEAR_BINS + 60] < 0.3, "{}", moment[2 * LINEAR_BINS + 60]);
    }

    #[test]
    fn a_bin_is_above_the_mean_of_those_around_it() {
        let matrix = above_surroundings();
        let of = |levels: &dyn Fn(usize) -> f32, bin: usize| -> f32 {
            (0..LINEAR_BINS).map(|i| levels(i) * matrix[i * LINEAR_BINS + bin]).sum()
        };
        assert!((0..LINEAR_BINS).all(|bin| of(&|_| 3.0, bin).abs() < 1e-5));
        let one = |i: usize| if i == 50 { 13.0 } else { 0.0 };
        for (bin, expected) in [(43, 0.0), (44, -1.0), (49, -1.0), (50, 12.0), (56, -1.0), (57, 0.0)] {
            assert!((of(&one, bin) - expected).abs() < 1e-5, "{bin}");
        }
    }

    #[test]
    fn what_is_held_matters_with_its_flanks() {
        // Two rows of frames; a line is there in all of the first, and is gone before the second ends.
        let frames = (0..HELD + HELD_STEP).map(|n| {
            let peak = window(|_, frame| frame[59..62].copy_from_slice(&[0.4, if n < HELD { 1.0 } else { 0.3 }, 0.6]));
            peak[..FRAME_VALUES].to_vec()
        });
        let held = held(&frames.flatten().collect::<Vec<f32>>());
        assert_eq!(held.len(), 2 * LINEAR_BINS);
        let at = |row: usize, bin: usize| held[row * LINEAR_BINS + bin];
        assert!(at(0, 60) > 0.7 && at(0, 61) == at(0, 60) && at(0, 57) < 0.01, "{held:?}");
        assert!(at(1, 60) < at(0, 60) && at(1, 60) > 0.6);
        // Noise within two nepers, and none of it a line.
        let noise = |n: usize, bin: usize| ((n * 7919 + bin * 104_729) % 1009) as f32 / 1009.0 - 0.5;
        let noise = (0..HELD).flat_map(|n| (0..FRAME_VALUES).map(move |bin| noise(n, bin)));
        let of_noise = super::held(&noise.collect::<Vec<f32>>());
        assert!(of_noise.iter().all(|&weight| weight < 0.01), "{of_noise:?}");
    }

    #[test]
    fn lines_matter_more_than_moments() {
        let at = |window: &[f32]| importance(window)[2 * FRAME_VALUES + 60];
        let line = at(&window(|_, frame| frame[60] = 0.0));
        let moment = at(&window(|n, frame| frame[60] = if n == 2 { 0.0 } else { frame[60] }));
        let noise = at(&window(|_, frame| frame[..LINEAR_BINS].fill(0.0)));
        assert!(line > 2.5 * noise && moment < 1.2 * noise, "{line} {moment} {noise}");
    }
}
