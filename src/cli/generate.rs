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
use twostep::audio::{HOP, SAMPLE_RATE, WavWriter};
use twostep::engine::offline::{self, Performance};
use twostep::engine::{ModelInfo, ModelRenderer, Vocabulary};
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
    /// The WAV file, 48 kHz stereo, 16 bit
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
        let model = self.model.load()?;
        let (performance, samples) = match &self.replay {
            Some(path) => replayed(path, &model)?,
            None => {
                let condition = self.asked.condition(&model)?;
                let samples = (self.seconds * f64::from(SAMPLE_RATE)).round() as u64;
                (Performance { seed: self.seed, condition, events: Vec::new(), degraded: Vec::new() }, samples)
            }
        };
        let seconds = samples as f64 / f64::from(SAMPLE_RATE);
        // 4 GB, where the WAV format ends, is six hours.
        if !(seconds > 0.0 && seconds <= 21_600.0) {
            bail!("--seconds {seconds}: must be above 0 and at most 21600");
        }
        let mut renderer = ModelRenderer::new(model);
        let bar = ProgressBar::new(samples);
        let style = ProgressStyle::with_template("{wide_bar} {percent} %, {eta} left");
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        let mut writer = WavWriter::create(&self.out, SAMPLE_RATE)?;
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

/// Reads a recorded performance, and how long it is.
fn replayed(path: &Path, model: &Model) -> anyhow::Result<(Performance, u64)> {
    let text = std::fs::read_to_string(path).with_context(|| format!("--replay {}", path.display()))?;
    let vocabulary: Arc<dyn Vocabulary> = Arc::new(model.vocabulary().clone());
    let performance = Recorded::parse(&text)
        .and_then(|recorded| replay::performance(recorded, &Arc::new(ModelInfo::of(model)), &vocabulary));
    performance.map_err(|refusal| anyhow!("--replay {}: {}", path.display(), refusal.message))
}
