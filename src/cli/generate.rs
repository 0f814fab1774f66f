//! `twostep generate`: a prompt to a WAV file of any length.

use super::asked::Asked;
use super::model::ModelArg;
use super::picture::Picture;
use anyhow::{Context, anyhow, bail};
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;
use twostep::audio::{HOP, WavWriter};
use twostep::engine::offline::{self, Performance};
use twostep::engine::{ModelInfo, ModelRenderer, Renderer, Vocabulary};
use twostep::families::Family;
use twostep::families::consistency_tta::render::TtaRenderer;
use twostep::model::Model;
use twostep::protocol::performance::Recorded;
use twostep::server::replay;

/// Options of `twostep generate`.
#[derive(Args, Debug)]
pub struct Generate {
    #[command(flatten)]
    asked: Asked,
    /// A recorded performance, as the page and the client library save it, rendered to the sample; it says itself what to
    /// hear and how long
    #[arg(long, env = "TWOSTEP_REPLAY", conflicts_with_all = ["prompt_text", "prompts", "seconds", "seed"])]
    replay: Option<PathBuf>,
    /// Length of the sound
    #[arg(long, env = "TWOSTEP_SECONDS", default_value_t = 10.0)]
    seconds: f64,
    /// Same seed, same sound
    #[arg(long, env = "TWOSTEP_SEED", default_value_t = 0)]
    seed: u64,
    /// The WAV file, stereo, 16 bit, at the model's sample rate
    #[arg(long, env = "TWOSTEP_OUT")]
    out: PathBuf,
    /// Also draw the spectrogram, as PNG
    #[arg(long, env = "TWOSTEP_SPECTROGRAM")]
    spectrogram: Option<PathBuf>,
    #[command(flatten)]
    model: ModelArg,
}

impl Generate {
    /// Runs the subcommand.
    pub fn run(self) -> anyhow::Result<()> {
        match self.model.family()? {
            Family::Native => {
                let model = self.model.load()?;
                let info = ModelInfo::of(&model);
                let vocabulary: Arc<dyn Vocabulary> = Arc::new(model.vocabulary().clone());
                let asked = self.performance(&info, &vocabulary, |control| disobedience(&model, control))?;
                self.write(ModelRenderer::new(model), &info, asked)
            }
            Family::ConsistencyTta => {
                let renderer = self.model.load_consistency_tta()?;
                let info = renderer.info().clone();
                let vocabulary: Arc<dyn Vocabulary> = Arc::new(TtaRenderer::judge);
                let asked = self.performance(&info, &vocabulary, |_| None)?;
                self.write(renderer, &info, asked)
            }
        }
    }

    /// What is to be heard, and how many samples of it.
    fn performance(
        &self,
        info: &ModelInfo,
        vocabulary: &Arc<dyn Vocabulary>,
        refused: impl Fn(&str) -> Option<String>,
    ) -> anyhow::Result<(Performance, u64)> {
        match &self.replay {
            Some(path) => replayed(path, info, vocabulary),
            None => {
                let condition = self.asked.condition(info, &**vocabulary, refused)?;
                let samples = (self.seconds * f64::from(info.sample_rate)).round() as u64;
                Ok((Performance { seed: self.seed, condition, events: Vec::new(), degraded: Vec::new() }, samples))
            }
        }
    }

    fn write<R: Renderer>(
        &self,
        mut renderer: R,
        info: &ModelInfo,
        (performance, samples): (Performance, u64),
    ) -> anyhow::Result<()> {
        let seconds = samples as f64 / f64::from(info.sample_rate);
        // 4 GB, where the WAV format ends, is six hours.
        if !(seconds > 0.0 && seconds <= 21_600.0) {
            bail!("--seconds {seconds}: must be above 0 and at most 21600");
        }
        let bar = ProgressBar::new(samples);
        let style = ProgressStyle::with_template("{wide_bar} {percent} %, {eta} left");
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        let mut writer = WavWriter::create(&self.out, info.sample_rate)?;
        let mut picture = Picture::new(samples as usize / HOP);
        let begin = Instant::now();
        offline::perform(&mut renderer, &performance, samples, |pcm, columns| -> anyhow::Result<()> {
            writer.write(pcm)?;
            picture.add(columns);
            bar.inc(pcm.len() as u64);
            Ok(())
        })?;
        writer.finish()?;
        bar.finish_and_clear();
        let took = begin.elapsed().as_secs_f64();
        if let Some(path) = &self.spectrogram {
            picture.draw("spectrogram", seconds)?.save(path)?;
        }
        println!("{}: {:.2} s of sound in {took:.2} s, {:.1} x real time", self.out.display(), seconds, seconds / took);
        Ok(())
    }
}

/// Why a model does not obey a control that it was trained with.
fn disobedience(model: &Model, control: &str) -> Option<String> {
    let obedience = model.spec().obedience.get(control)?;
    let (measure, measured, needed) = (&obedience.measure, obedience.measured, obedience.needed);
    Some(format!("{measure}: {measured:.2}, {needed:.2} would be needed"))
}

/// Reads a recorded performance, and how long it is.
fn replayed(path: &Path, info: &ModelInfo, vocabulary: &Arc<dyn Vocabulary>) -> anyhow::Result<(Performance, u64)> {
    let text = std::fs::read_to_string(path).with_context(|| format!("--replay {}", path.display()))?;
    let performance =
        Recorded::parse(&text).and_then(|recorded| replay::performance(recorded, &Arc::new(info.clone()), vocabulary));
    performance.map_err(|refusal| anyhow!("--replay {}: {}", path.display(), refusal.message))
}
