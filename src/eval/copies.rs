//! Codec and vocoder alone: held-out corpus sound, encoded, decoded and vocoded, against itself, before anybody blames
//! the generator; and the vocoder alone, from the sound's own spectrogram.

use super::EvalError;
use super::cache::Cache;
use super::fidelity::Fidelity;
use super::held_out::{self, Purpose, cut};
use super::origin::LatentEncoder;
use super::progress::Progress;
use super::spread::Spread;
use super::subject::Subject;
use crate::audio::{Analyser, HOP, Spectrogram, Stereo, Vocoder};
use crate::condition::Controls;
use crate::corpus::KINDS;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

/// Version of what the cached copies are measured by.
const VERSION: u32 = 3;
/// Attacks and partials a kind must have, over all its sounds, for a figure about them.
const FEWEST_ATTACKS: usize = 10;
const FEWEST_PARTIALS: usize = 100;

/// How many sounds a kind, and how long.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct CopySizes {
    /// Sounds a kind.
    pub sounds: u64,
    /// Seconds a sound.
    pub seconds: f64,
}

/// Copies of one kind of sound, means over its sounds; see [`Fidelity`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Copied {
    /// Log-spectral distance in dB.
    pub log_spectral_db: f64,
    /// Spectral convergence in dB.
    pub convergence_db: f64,
    /// Change of level in dB.
    pub level_db: f64,
    /// Change of the inter-channel correlation.
    pub correlation: f64,
    /// Sharpness of attacks, 1 the original's; `None` for a kind without enough of them.
    pub sharpness: Option<f64>,
    /// Median error of partials in cents, and that from moment to moment; `None` for a kind without enough of them.
    pub cents: Option<f64>,
    /// See [`Partials::wander`](super::fidelity::partials::Partials::wander).
    pub wander: Option<f64>,
    /// Share of the partials below 4 kHz that are there.
    pub kept: Option<f64>,
    /// Share of those above.
    pub kept_above_4k: Option<f64>,
}

/// Copies of one kind by the vocoder alone, and by codec and vocoder if there is an encoder.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct KindCopies {
    /// The kind.
    pub kind: String,
    /// From the sound's own spectrogram.
    pub vocoder: Copied,
    /// From the decoded one.
    pub codec: Option<Copied>,
}

/// Copies of all kinds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CopiesReport {
    /// Sounds a kind.
    pub sounds: u64,
    /// Seconds a sound.
    pub seconds: f64,
    /// Kind by kind.
    pub kinds: Vec<KindCopies>,
}

#[derive(Serialize)]
struct Key<'a> {
    version: u32,
    kind: usize,
    corpus: &'a str,
    sizes: CopySizes,
    vocoder: &'a str,
    codec: Option<(&'a str, &'a str)>,
}

/// Copies held-out sound of every kind.
pub fn measure(
    subject: &Subject,
    encoder: Option<&LatentEncoder>,
    corpus: &str,
    cache: &Cache,
    sizes: CopySizes,
    progress: &Progress,
) -> Result<CopiesReport, EvalError> {
    let analyser = Analyser::new();
    progress.begin("codec and vocoder", subject.kinds().len() as u64);
    let mut kinds = Vec::new();
    for (row, &kind) in subject.kinds().iter().enumerate() {
        let name = KINDS.get(kind).map_or("", |kind| kind.name);
        progress.show(&name, row as u64);
        let parts = subject.parts();
        let codec = encoder.map(|encoder| (encoder.hash(), parts.decoder.as_str()));
        let key = Key { version: VERSION, kind, corpus, sizes, vocoder: &parts.vocoder, codec };
        kinds.push(cache.get("copies", &key, || {
            let number = |i: u64| row as u64 * 1_000 + i;
            // Whole latent frames, or the encoder would leave the end out.
            let latent = subject.model().spec().codec.frames_per_latent * HOP;
            let samples = held_out::samples(sizes.seconds) / latent * latent;
            let sound = |i| {
                let clip = held_out::clip(Purpose::Codec, kind, number(i), &Controls::default(), sizes.seconds);
                cut(&clip.pcm, 0, samples)
            };
            let sounds: Vec<Stereo> = (0..sizes.sounds).into_par_iter().map(sound).collect();
            let plain: Vec<Spectrogram> = sounds.par_iter().map(|sound| analyser.forward(sound)).collect();
            let decoded = encoder.map(|encoder| decoded(subject, encoder, &sounds)).transpose()?;
            Ok(KindCopies {
                kind: name.to_owned(),
                vocoder: Copied::of(&sounds, &plain)?,
                codec: decoded.map(|decoded| Copied::of(&sounds, &decoded)).transpose()?,
            })
        })?);
        progress.advance(1);
    }
    progress.end();
    Ok(CopiesReport { sounds: sizes.sounds, seconds: sizes.seconds, kinds })
}

/// Spectrograms of sounds after encoder and decoder.
fn decoded(subject: &Subject, encoder: &LatentEncoder, sounds: &[Stereo]) -> candle_core::Result<Vec<Spectrogram>> {
    let each = |sound: &Stereo| {
        let latents = encoder.encode(&[sound])?;
        let mut state = subject.model().start_decoder()?;
        let mut frames = subject.model().decode(&latents, &mut state)?;
        Ok(Spectrogram { values: frames.pop().unwrap_or_default() })
    };
    sounds.iter().map(each).collect()
}

impl Copied {
    fn of(originals: &[Stereo], spectrograms: &[Spectrogram]) -> Result<Self, EvalError> {
        let copies = originals.par_iter().zip(spectrograms).enumerate().map(|(seed, (original, spectrogram))| {
            Fidelity::of(original, &Vocoder::new(seed as u64).forward(spectrogram))
        });
        Ok(Self::mean(&copies.collect::<Result<Vec<_>, _>>()?))
    }

    /// Means over sounds; those about attacks and partials weighted by how many there are.
    fn mean(copies: &[Fidelity]) -> Self {
        let mean = |value: fn(&Fidelity) -> f64| Spread::of(copies.iter().map(value)).mean;
        let weighted = |fewest: usize, pairs: Vec<(usize, f64)>| {
            let total: usize = pairs.iter().map(|pair| pair.0).sum();
            let sum: f64 = pairs.iter().map(|&(count, value)| count as f64 * value).sum();
            (total >= fewest).then(|| sum / total as f64)
        };
        let attacks = copies.iter().filter_map(|copy| copy.attacks).map(|a| (a.count, a.sharpness)).collect();
        let partials = || copies.iter().filter_map(|copy| copy.partials);
        Self {
            log_spectral_db: mean(|copy| copy.log_spectral_db),
            convergence_db: mean(|copy| copy.convergence_db),
            level_db: mean(|copy| copy.level_db),
            correlation: mean(|copy| copy.correlation),
            sharpness: weighted(FEWEST_ATTACKS, attacks),
            cents: weighted(FEWEST_PARTIALS, partials().map(|p| (p.count + p.count_above_4k, p.cents)).collect()),
            wander: weighted(FEWEST_PARTIALS, partials().map(|p| (p.count + p.count_above_4k, p.wander)).collect()),
            kept: weighted(FEWEST_PARTIALS, partials().filter_map(|p| Some((p.count, p.kept?))).collect()),
            kept_above_4k: weighted(
                FEWEST_PARTIALS,
                partials().filter_map(|p| Some((p.count_above_4k, p.kept_above_4k?))).collect(),
            ),
        }
    }
}

impl CopiesReport {
    /// The copies by codec and vocoder, or by the vocoder alone if there was no encoder.
    pub fn whole(&self) -> impl Iterator<Item = (&str, &Copied)> {
        self.kinds.iter().map(|kind| (kind.kind.as_str(), kind.codec.as_ref().unwrap_or(&kind.vocoder)))
    }

    /// Whether an encoder took part.
    pub fn with_codec(&self) -> bool {
        self.kinds.iter().any(|kind| kind.codec.is_some())
    }

    /// A table with a row a kind.
    pub fn markdown(&self) -> String {
        let parts = if self.with_codec() { "codec and vocoder / vocoder alone" } else { "vocoder alone" };
        let mut text = format!(
            "Held-out corpus sound through {parts}, {} sounds of {:.0} s a kind. Two noises of one spectrum are 7.9 dB apart \
             (log-spectral). Attacks: energy within ±5 ms over the original's. Partials: median error of \
             their mean frequency, that from moment to moment (beats are no error), and the share that is there below / above \
             4 kHz.\n\n\
             | kind | log-spectral (dB) | convergence (dB) | level (dB) | correlation | attacks | partials (cents) | moment to moment | kept | kept above 4 kHz |\n\
             |---|---|---|---|---|---|---|---|---|---|\n",
            self.sounds, self.seconds
        );
        for kind in &self.kinds {
            let cell = |value: &dyn Fn(&Copied) -> Option<f64>, digits: usize| {
                let one = |copied: &Copied| value(copied).map_or("-".to_owned(), |x| format!("{x:.digits$}"));
                match &kind.codec {
                    Some(codec) => format!("{} / {}", one(codec), one(&kind.vocoder)),
                    None => one(&kind.vocoder),
                }
            };
            text += &format!(
                "| {} | {} | {} | {} | {} | {} | {} | {} | {} | {} |\n",
                kind.kind,
                cell(&|c| Some(c.log_spectral_db), 1),
                cell(&|c| Some(c.convergence_db), 1),
                cell(&|c| Some(c.level_db), 1),
                cell(&|c| Some(c.correlation), 2),
                cell(&|c| c.sharpness, 2),
                cell(&|c| c.cents, 1),
                cell(&|c| c.wander, 1),
                cell(&|c| c.kept, 2),
                cell(&|c| c.kept_above_4k, 2),
            );
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::eval::fidelity::attacks::Attacks;
    use crate::eval::fidelity::partials::Partials;

    #[test]
    fn sounds_with_more_attacks_weigh_more() {
        let copy = |count, sharpness| Fidelity {
            log_spectral_db: 4.0,
            convergence_db: -10.0,
            level_db: 0.0,
            correlation: 0.1,
            attacks: Some(Attacks { count, sharpness }),
            partials: Some(Partials {
                count: 40,
                count_above_4k: 0,
                cents: 2.0,
                cents_p90: 5.0,
                wander: 2.5,
                kept: Some(1.0),
                kept_above_4k: None,
            }),
        };
        let mean = Copied::mean(&[copy(30, 1.0), copy(10, 0.2)]);
        assert!((mean.sharpness.unwrap() - 0.8).abs() < 1e-9 && (mean.correlation - 0.1).abs() < 1e-9);
        // Eighty partials are too few to speak of.
        assert_eq!((mean.cents, Copied::mean(&[copy(4, 1.0)]).sharpness), (None, None));
        assert_eq!(Copied::mean(&[copy(4, 1.0), copy(4, 1.0), copy(4, 1.0)]).cents, Some(2.0));
    }

    #[test]
    fn the_vocoder_copies_a_steady_tone() {
        let tone = crate::audio::synthetic::tone(220.0, 0.1, 2 * 48_000 / HOP * HOP);
        let sound = crate::audio::synthetic::pan(&tone, 0.0);
        let plain = Analyser::new().forward(&sound);
        let copied = Copied::of(&vec![sound; 8], &vec![plain; 8]).unwrap();
        assert!(copied.convergence_db < -8.0 && copied.cents.unwrap() < 5.0, "{copied:?}");
        assert!(copied.kept.unwrap() > 0.9 && copied.sharpness.is_none(), "{copied:?}");
    }
}
