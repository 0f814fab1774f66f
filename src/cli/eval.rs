//! `twostep eval`: generated sound beside the corpus, kind by kind.

use super::model::ModelArg;
use super::picture::Picture;
use clap::Args;
use indicatif::ProgressBar;
use std::path::PathBuf;
use twostep::audio::{HOP, SAMPLE_RATE, Stereo};
use twostep::condition::{Condition, Controls, Prompt};
use twostep::corpus;
use twostep::engine::{ModelRenderer, offline};
use twostep::eval::plot::Image;
use twostep::eval::{Case, compare};

/// Options of `twostep eval`.
#[derive(Args, Debug)]
pub struct Eval {
    #[command(flatten)]
    model: ModelArg,
    /// Seconds of each sound
    #[arg(long, env = "TWOSTEP_SECONDS", default_value_t = 10.0)]
    seconds: f32,
    /// Sounds a kind
    #[arg(long, env = "TWOSTEP_SEEDS", default_value_t = 3)]
    seeds: u64,
    /// Network evaluations a chunk: 1, 2 or 4
    #[arg(long, env = "TWOSTEP_STEPS", default_value_t = 2)]
    steps: usize,
    /// Guidance scale; the model's own choice if not given
    #[arg(long, env = "TWOSTEP_GUIDANCE")]
    guidance: Option<f32>,
    /// Time of the second step in radians, to search for the best; the model's own if not given
    #[arg(long, env = "TWOSTEP_T_MID")]
    t_mid: Option<f64>,
    /// Also write everything here, as JSON
    #[arg(long, env = "TWOSTEP_JSON")]
    json: Option<PathBuf>,
    /// Put the table into this model card
    #[arg(long, env = "TWOSTEP_CARD")]
    card: Option<PathBuf>,
    /// Draw the spectrogram of a generated and a corpus sound of every kind here, as PNG
    #[arg(long, env = "TWOSTEP_PICTURE")]
    picture: Option<PathBuf>,
}

/// Seeds of corpus sound lie here, beyond those that training draws.
const HELD_OUT: u64 = 1 << 40;
/// Seconds of each sound in the picture.
const PICTURE_SECONDS: f32 = 5.0;

impl Eval {
    /// Runs the subcommand.
    pub fn run(self) -> anyhow::Result<()> {
        anyhow::ensure!(matches!(self.steps, 1 | 2 | 4), "--steps {}: must be 1, 2 or 4", self.steps);
        anyhow::ensure!((2.0..=600.0).contains(&self.seconds), "--seconds {}: must be 2 to 600", self.seconds);
        let mut model = self.model.load()?;
        if let Some(t_mid) = self.t_mid {
            model.set_t_mid(t_mid)?;
        }
        let cases: Vec<Case> = (model.spec().kinds.iter())
            .map(|kind| Case { kind: kind.name.clone(), prompt: kind.prompt.clone() })
            .collect();
        if let Some(stranger) = cases.iter().find(|case| corpus::kind_named(&case.kind).is_none()) {
            anyhow::bail!("the corpus has no kind {:?} to compare the model with", stranger.kind);
        }
        let guidance = self.guidance.unwrap_or(model.spec().sampler.guidance as f32);
        let mut renderer = ModelRenderer::new(model);
        let seeds: Vec<u64> = (0..self.seeds.max(1)).collect();
        let bar = ProgressBar::new(cases.len() as u64 * seeds.len() as u64);
        let samples = (self.seconds * SAMPLE_RATE as f32) as u64;
        let report = compare(
            &cases,
            self.seconds,
            &seeds,
            |prompt, seed| {
                bar.inc(1);
                let mut sound = Stereo::default();
                let condition = self.condition(prompt, guidance);
                offline::render(&mut renderer, &condition, seed, samples, |pcm, _| -> anyhow::Result<()> {
                    sound.extend(pcm);
                    Ok(())
                })?;
                Ok::<_, anyhow::Error>(sound)
            },
            |kind, seed| corpus_sound(kind, seed, f64::from(self.seconds)),
        )?;
        bar.finish_and_clear();
        println!("{}", report.markdown());
        if let Some(path) = &self.json {
            std::fs::write(path, serde_json::to_string_pretty(&report)?)?;
        }
        if let Some(path) = &self.card {
            let card = std::fs::read_to_string(path)?;
            std::fs::write(path, report.into_card(&card)?)?;
        }
        if let Some(path) = &self.picture {
            self.draw(&mut renderer, &cases, guidance)?.save(path)?;
        }
        Ok(())
    }

    fn condition(&self, prompt: &str, guidance: f32) -> Condition {
        Condition {
            prompts: vec![Prompt { text: prompt.to_owned(), weight: 1.0 }],
            controls: Controls::default(),
            guidance,
            steps: self.steps,
            temperature: 1.0,
        }
    }

    /// For every kind a row: generated sound, and corpus sound below it.
    fn draw(&self, renderer: &mut ModelRenderer, cases: &[Case], guidance: f32) -> anyhow::Result<Image> {
        let samples = (PICTURE_SECONDS * SAMPLE_RATE as f32) as u64;
        let mut images = vec![];
        for case in cases {
            let mut generated = Picture::new(samples as usize / HOP);
            let condition = self.condition(&case.prompt, guidance);
            offline::render(renderer, &condition, 0, samples, |_, columns| -> anyhow::Result<()> {
                generated.add(columns);
                Ok(())
            })?;
            let mut real = Picture::new(samples as usize / HOP);
            let sound = corpus_sound(&case.kind, 0, f64::from(PICTURE_SECONDS));
            real.add(&twostep::audio::columns(&twostep::audio::Analyser::new().forward(&sound).values));
            let seconds = f64::from(PICTURE_SECONDS);
            images.push(generated.draw(&format!("{}: generated", case.prompt), seconds)?);
            images.push(real.draw(&format!("{}: corpus", case.prompt), seconds)?);
        }
        Ok(Image::stack(&images))
    }
}

fn corpus_sound(kind: &str, seed: u64, seconds: f64) -> Stereo {
    corpus::kind_named(kind).map_or_else(Stereo::default, |kind| corpus::clip_of(kind, HELD_OUT + seed, seconds).pcm)
}
