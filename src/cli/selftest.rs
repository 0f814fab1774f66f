//! `twostep selftest`: whether this program computes on this device what it should.

use super::model::ModelArg;
use clap::Args;
use std::path::PathBuf;
use twostep::model::Precision;
use twostep::selftest;

/// Options of `twostep selftest`.
#[derive(Args, Debug)]
pub struct SelfTest {
    #[command(flatten)]
    model: ModelArg,
    /// Also write the table here, as JSON
    #[arg(long, env = "TWOSTEP_JSON")]
    json: Option<PathBuf>,
}

impl SelfTest {
    /// Runs the subcommand; a comparison that fails is an error.
    pub fn run(self) -> anyhow::Result<()> {
        let device = self.model.device.open()?;
        let all = [Precision::F32, Precision::Tf32, Precision::Bf16].into_iter();
        let precisions: Vec<Precision> = match self.model.precision {
            Some(precision) => vec![precision],
            None => all.filter(|precision| precision.is_on(&device)).collect(),
        };
        let report = selftest::run(&self.model.model, &device, &precisions)?;
        print!("{}", report.markdown());
        if let Some(path) = &self.json {
            std::fs::write(path, serde_json::to_string_pretty(&report)?)?;
        }
        match report.failures().count() {
            0 => Ok(()),
            count => anyhow::bail!("{count} comparisons failed on {}", report.device),
        }
    }
}
