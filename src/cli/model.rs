//! `--model`: which model to use.

use super::device::DeviceArg;
use clap::Args;
use std::path::PathBuf;
use twostep::model::Model;

/// The model and device options, shared by the subcommands.
#[derive(Args, Clone, Debug)]
pub struct ModelArg {
    /// Folder of the model
    #[arg(long, env = "TWOSTEP_MODEL", default_value = "models/default")]
    pub model: PathBuf,
    #[command(flatten)]
    pub device: DeviceArg,
}

impl ModelArg {
    /// Loads the model onto its device.
    pub fn load(&self) -> anyhow::Result<Model> {
        Ok(Model::load(&self.model, &self.device.open()?)?)
    }
}
