//! `twostep generate`: a prompt to a WAV file of any length.

use super::asked::Asked;
use super::model::ModelArg;
use super::picture::Picture;
use anyhow::bail;
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use std::path::PathBuf;
use std::time::Instant;
use twostep::audio::{HOP, SAMPLE_RATE, WavWriter};
use twostep::engine::{ModelRenderer, offline};

/// Options of `twostep generate`.
#[derive(Args, Debug)]
pub struct Generate {
    #[command(flatten)]
    asked: Asked,
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
        // 4 GB, where the WAV format ends, is six hours.
        if !(self.seconds > 0.0 && self.seconds <= 21_600.0) {
            bail!("--seconds {}: must be above 0 and at most 21600", self.seconds);
        }
        let model = self.model.load()?;
        let condition = self.asked.condition(&model)?;
        let mut renderer = ModelRenderer::new(model);
        let samples = (self.seconds * f64::from(SAMPLE_RATE)).round() as u64;
        let bar = ProgressBar::new(samples);
        let style = ProgressStyle::with_template("{wide_bar} {percent} %, {eta} left");
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        let mut writer = WavWriter::create(&self.out, SAMPLE_RATE)?;
        let mut picture = Picture::new(samples as usize / HOP);
        let begin = Instant::now();
        offline::render(&mut renderer, &condition, self.seed, samples, |pcm, columns| -> anyhow::Result<()> {
            writer.write(pcm)?;
            picture.add(columns);
            bar.inc(pcm.len() as u64);
            Ok(())
        })?;
        writer.finish()?;
        bar.finish_and_clear();
        let took = begin.elapsed().as_secs_f64();
        if let Some(path) = &self.spectrogram {
            picture.draw("spectrogram", self.seconds)?.save(path)?;
        }
        println!(
            "{}: {:.2} s of sound in {took:.2} s, {:.1} x real time",
            self.out.display(),
            self.seconds,
            self.seconds / took
        );
        Ok(())
    }
}
