//! `twostep corpus`: listen to the training sounds.

use clap::Args;
use indicatif::ProgressBar;
use std::path::PathBuf;

/// Options of `twostep corpus`.
#[derive(Args, Debug)]
pub struct Corpus {
    /// Folder for the WAV files and captions.csv
    #[arg(long, env = "TWOSTEP_OUT")]
    out: PathBuf,
    /// How many clips
    #[arg(long, env = "TWOSTEP_COUNT", default_value_t = 40)]
    count: usize,
    /// Seconds a clip
    #[arg(long, env = "TWOSTEP_SECONDS", default_value_t = 5.0)]
    seconds: f64,
    /// Seed: the same seed gives the same clips
    #[arg(long, env = "TWOSTEP_SEED", default_value_t = 0)]
    seed: u64,
}

impl Corpus {
    /// Runs the subcommand.
    pub fn run(self) -> anyhow::Result<()> {
        if !(self.seconds > 0.0 && self.seconds <= 600.0) {
            anyhow::bail!("--seconds {}: must be above 0 and at most 600", self.seconds);
        }
        let bar = ProgressBar::new(self.count as u64);
        twostep::corpus::export(&self.out, self.count, self.seconds, self.seed, |done| bar.set_position(done as u64))?;
        bar.finish_and_clear();
        println!("{} clips and captions.csv in {}", self.count, self.out.display());
        Ok(())
    }
}
