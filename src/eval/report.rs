//! The evaluation report: generated sound beside corpus sound, kind by kind, as data and as a Markdown table.

use serde::{Deserialize, Serialize};

use super::distance::{DistanceError, frechet, kernel, sound_features};
use super::statistics::Statistics;
use crate::audio::{SAMPLE_RATE, Stereo};

/// Sounds are cut into clips of this length for the distances between sets.
const CLIP: usize = 2 * SAMPLE_RATE as usize;
const BEGIN: &str = "<!-- eval:begin -->";
const END: &str = "<!-- eval:end -->";

/// A kind of sound and the prompt that asks for it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Case {
    /// The corpus' name of the kind.
    pub kind: String,
    /// What a listener would type.
    pub prompt: String,
}

/// A mean over seeds and the standard deviation around it.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Spread {
    /// Mean.
    pub mean: f32,
    /// Population standard deviation.
    pub deviation: f32,
}

impl Spread {
    fn of(values: impl Iterator<Item = f32> + Clone) -> Self {
        let count = values.clone().count().max(1) as f32;
        let mean = values.clone().sum::<f32>() / count;
        Self { mean, deviation: (values.map(|v| (v - mean).powi(2)).sum::<f32>() / count).sqrt() }
    }
}

/// The statistics of several sounds of one kind; see [`Statistics`] for units.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// Spectral flatness.
    pub flatness: Spread,
    /// Spectral centroid in Hz.
    pub centroid_hz: Spread,
    /// Onsets a second.
    pub onsets_per_s: Spread,
    /// Level in dBFS.
    pub rms_dbfs: Spread,
    /// Crest factor in dB.
    pub crest_db: Spread,
    /// Stereo width.
    pub width: Spread,
    /// Sounds that are silent, clipped or have samples that are not finite.
    pub faulty: usize,
    /// Each sound's own statistics, in the order of the seeds.
    pub sounds: Vec<Statistics>,
}

impl Summary {
    fn of(sounds: Vec<Statistics>) -> Self {
        let spread = |value: fn(&Statistics) -> f32| Spread::of(sounds.iter().map(value));
        let faulty = |s: &&Statistics| s.is_silent() || s.is_clipped() || s.not_finite > 0;
        Self {
            flatness: spread(|s| s.flatness),
            centroid_hz: spread(|s| s.centroid_hz),
            onsets_per_s: spread(|s| s.onsets_per_s),
            rms_dbfs: spread(|s| s.rms_dbfs),
            crest_db: spread(|s| s.crest_db),
            width: spread(|s| s.width),
            faulty: sounds.iter().filter(faulty).count(),
            sounds,
        }
    }
}

/// One kind of sound, generated and from the corpus.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CaseReport {
    /// What was asked for.
    pub case: Case,
    /// What the model made of the prompt.
    pub generated: Summary,
    /// What the corpus has of the kind.
    pub corpus: Summary,
}

/// Distances between the set of all generated clips and that of all corpus clips, on
/// [`sound_features`](super::distance::sound_features).
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct SetDistances {
    /// Clips of two seconds in each set.
    pub clips: usize,
    /// Fréchet distance, generated to corpus.
    pub frechet: f64,
    /// Fréchet distance between two draws of the corpus: what a perfect model would reach.
    pub frechet_floor: f64,
    /// Kernel distance, generated to corpus.
    pub kernel: f64,
    /// Kernel distance between two draws of the corpus.
    pub kernel_floor: f64,
}

/// Everything one run of `twostep eval` measured.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// Length of every sound in seconds.
    pub seconds: f32,
    /// Seeds, the same for generated and corpus sound.
    pub seeds: Vec<u64>,
    /// Kind by kind.
    pub cases: Vec<CaseReport>,
    /// Over all kinds; absent when there are fewer than two clips.
    pub distances: Option<SetDistances>,
}

/// Renders every case and takes the corpus' own sound of its kind, for every seed, and measures both. `render` gets
/// (prompt, seed), `corpus` (kind, seed); both are asked for `seconds` of sound, and longer sound is cut to it. The
/// floor of the distances takes corpus sound at seeds beyond the given ones. Fails with `render`'s first error.
pub fn compare<E: From<DistanceError>>(
    cases: &[Case],
    seconds: f32,
    seeds: &[u64],
    mut render: impl FnMut(&str, u64) -> Result<Stereo, E>,
    mut corpus: impl FnMut(&str, u64) -> Stereo,
) -> Result<Report, E> {
    let samples = (seconds.max(0.0) * SAMPLE_RATE as f32) as usize;
    let beyond = seeds.iter().max().map_or(0, |seed| seed.wrapping_add(1));
    let (mut made, mut real, mut other) = (Vec::new(), Vec::new(), Vec::new());
    let mut reports = Vec::with_capacity(cases.len());
    for case in cases {
        let (mut generated, mut taken) = (Vec::new(), Vec::new());
        for (i, &seed) in seeds.iter().enumerate() {
            let sound = cut(render(&case.prompt, seed)?, samples);
            generated.push(Statistics::of(&sound));
            made.extend(clip_features(&sound)?);
            let sound = cut(corpus(&case.kind, seed), samples);
            taken.push(Statistics::of(&sound));
            real.extend(clip_features(&sound)?);
            other.extend(clip_features(&cut(corpus(&case.kind, beyond.wrapping_add(i as u64)), samples))?);
        }
        let (generated, corpus) = (Summary::of(generated), Summary::of(taken));
        reports.push(CaseReport { case: case.clone(), generated, corpus });
    }
    let measurable = made.len().min(real.len()).min(other.len()) >= 2;
    let distances = if measurable { Some(set_distances(&made, &real, &other)?) } else { None };
    Ok(Report { seconds, seeds: seeds.to_vec(), cases: reports, distances })
}

fn set_distances(made: &[Vec<f64>], real: &[Vec<f64>], other: &[Vec<f64>]) -> Result<SetDistances, DistanceError> {
    Ok(SetDistances {
        clips: made.len(),
        frechet: frechet(real, made)?,
        frechet_floor: frechet(real, other)?,
        kernel: kernel(real, made)?,
        kernel_floor: kernel(real, other)?,
    })
}

fn cut(mut sound: Stereo, samples: usize) -> Stereo {
    sound.left.truncate(samples);
    sound.right.truncate(samples);
    sound
}

fn clip_features(sound: &Stereo) -> Result<Vec<Vec<f64>>, DistanceError> {
    let clips = sound.left.chunks_exact(CLIP).zip(sound.right.chunks_exact(CLIP));
    clips.map(|(l, r)| sound_features(&Stereo { left: l.to_vec(), right: r.to_vec() })).collect()
}

impl Report {
    /// The report as Markdown: a table with a row a kind, "generated / corpus" in every cell, and the set distances.
    pub fn markdown(&self) -> String {
        let mut text = format!(
            "Generated / corpus sound, mean ± standard deviation over {} of {:.0} s each. Flatness: 0 a tone, 0.56 white \
             noise. Width: 0 mono, 0.5 unrelated channels.\n\n\
             | kind | prompt | flatness | centroid (Hz) | onsets (/s) | level (dBFS) | width | faulty |\n\
             |---|---|---|---|---|---|---|---|\n",
            counted(self.seeds.len(), "sound"),
            self.seconds
        );
        for CaseReport { case, generated, corpus } in &self.cases {
            let cell = |value: fn(&Summary) -> Spread, digits: usize| {
                let (g, c) = (value(generated), value(corpus));
                format!(
                    "{:.digits$} ± {:.digits$} / {:.digits$} ± {:.digits$}",
                    g.mean, g.deviation, c.mean, c.deviation
                )
            };
            text += &format!(
                "| {} | {} | {} | {} | {} | {} | {} | {} / {} |\n",
                escaped(&case.kind),
                escaped(&case.prompt),
                cell(|s| s.flatness, 3),
                cell(|s| s.centroid_hz, 0),
                cell(|s| s.onsets_per_s, 1),
                cell(|s| s.rms_dbfs, 1),
                cell(|s| s.width, 2),
                generated.faulty,
                corpus.faulty
            );
        }
        if let Some(d) = &self.distances {
            text += &format!(
                "\nOver all kinds, {} of 2 s a set, third-octave statistics: Fréchet distance {:.2} (two draws of the \
                 corpus: {:.2}), kernel distance {:.2} ({:.2}).\n",
                counted(d.clips, "clip"),
                d.frechet,
                d.frechet_floor,
                d.kernel,
                d.kernel_floor
            );
        }
        text
    }

    /// `card` with what stands between `<!-- eval:begin -->` and `<!-- eval:end -->` replaced by [`Self::markdown`]; a
    /// card without the markers gets them at its end.
    pub fn into_card(&self, card: &str) -> Result<String, CardError> {
        let block = format!("{BEGIN}\n{}{END}", self.markdown());
        match (card.find(BEGIN), card.find(END)) {
            (Some(begin), Some(end)) if begin < end => {
                Ok(format!("{}{block}{}", &card[..begin], &card[end + END.len()..]))
            }
            (None, None) => Ok(format!("{}\n\n{block}\n", card.trim_end()).trim_start().to_owned()),
            _ => Err(CardError::Markers),
        }
    }
}

/// Why a report does not fit into a model card.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum CardError {
    /// One marker without the other, or in the wrong order.
    #[error("the model card needs both {BEGIN} and {END}, in this order, or neither")]
    Markers,
}

fn counted(count: usize, noun: &str) -> String {
    format!("{count} {noun}{}", if count == 1 { "" } else { "s" })
}

fn escaped(cell: &str) -> String {
    cell.replace('|', "\\|").replace('\n', " ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::{Rng, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    fn noise(amplitude: f32, seed: u64) -> Stereo {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let mut channel = || (0..4 * CLIP).map(|_| rng.random_range(-amplitude..amplitude)).collect();
        Stereo { left: channel(), right: channel() }
    }

    fn amplitude(name: &str) -> f32 {
        if name.contains("wind") { 0.1 } else { 0.3 }
    }

    fn cases() -> Vec<Case> {
        let case = |kind: &str, prompt: &str| Case { kind: kind.into(), prompt: prompt.into() };
        vec![case("rain", "gentle | rain"), case("wind", "cold wind")]
    }

    fn report(gain: f32, seeds: &[u64]) -> Report {
        let render = |prompt: &str, seed| Ok::<_, DistanceError>(noise(gain * amplitude(prompt), seed + 100));
        compare(&cases(), 8.0, seeds, render, |kind, seed| noise(amplitude(kind), seed)).unwrap()
    }

    #[test]
    fn a_perfect_model_reaches_the_floor_and_a_loud_one_does_not() {
        let [perfect, loud] = [1.0, 2.0].map(|gain| report(gain, &[1, 2, 3]).distances.unwrap());
        assert_eq!(perfect.clips, 2 * 3 * 4);
        assert!(perfect.frechet < 2.0 * perfect.frechet_floor + 0.1, "{perfect:?}");
        assert!((perfect.kernel - perfect.kernel_floor).abs() < 2.0, "{perfect:?}");
        // Twice the amplitude moves each of 25 mean log powers by ln 4.
        assert!((loud.frechet / (25.0 * 4.0_f64.ln().powi(2)) - 1.0).abs() < 0.2, "{loud:?}");
        assert!(loud.kernel > 10.0, "{loud:?}");
    }

    #[test]
    fn the_table_has_a_row_a_kind() {
        let report = report(1.0, &[4]);
        assert_eq!(report.cases[0].generated.sounds.len(), 1);
        let text = report.markdown();
        let rows: Vec<&str> = text.lines().filter(|l| l.starts_with("| rain") || l.starts_with("| wind")).collect();
        assert_eq!(rows.len(), 2);
        assert!(rows[0].contains("gentle \\| rain") && rows[0].contains("0.56"), "{}", rows[0]);
        assert!(text.contains("8 clips of 2 s"));
    }

    #[test]
    fn survives_json() {
        let report = report(1.0, &[4]);
        let back: Report = serde_json::from_str(&serde_json::to_string(&report).unwrap()).unwrap();
        assert_eq!(back, report);
    }

    #[test]
    fn the_card_keeps_the_rest() {
        let report = Report { seconds: 1.0, seeds: vec![1], cases: vec![], distances: None };
        let first = report.into_card("# Model\n\nTrained.\n").unwrap();
        assert!(
            first.starts_with("# Model\n\nTrained.\n\n<!-- eval:begin -->\n") && first.ends_with("<!-- eval:end -->\n")
        );
        let card = format!("{first}\n## Licence\n");
        let again = Report { seconds: 5.0, ..report.clone() }.into_card(&card).unwrap();
        assert!(again.ends_with("\n## Licence\n") && again.contains("of 5 s") && !again.contains("of 1 s"));
        for bad in [BEGIN.to_owned(), END.to_owned(), format!("{END} {BEGIN}")] {
            assert_eq!(report.into_card(&bad), Err(CardError::Markers));
        }
    }

    #[test]
    fn the_first_error_ends_it() {
        let failed = compare(&cases(), 1.0, &[1], |_, _| Err(DistanceError::NotFinite), |_, _| Stereo::silence(10));
        assert_eq!(failed, Err(DistanceError::NotFinite));
    }
}
