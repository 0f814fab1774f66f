//! `--model`, `--device` and `--precision`: which model to use, where, and how exactly.

use super::device::DeviceArg;
use anyhow::bail;
use candle_core::Device;
use clap::Args;
use std::path::PathBuf;
use twostep::families::Family;
use twostep::families::consistency_tta::ConsistencyTta;
use twostep::families::consistency_tta::render::TtaRenderer;
use twostep::model::{Model, Precision};
use twostep::selftest;

/// The model and device options, shared by the subcommands.
#[derive(Args, Clone, Debug)]
pub struct ModelArg {
    /// Folder of the model
    #[arg(long, env = "TWOSTEP_MODEL", default_value = "models/default")]
    pub model: PathBuf,
    #[command(flatten)]
    pub device: DeviceArg,
    /// How exactly the networks compute: f32, or on CUDA devices tf32 (the default there) or bf16
    #[arg(long, env = "TWOSTEP_PRECISION")]
    pub precision: Option<Precision>,
}

impl ModelArg {
    /// Loads the model onto its device. On a CUDA device it is checked against the CPU first; one that fails is refused,
    /// or, where the device was not asked for by name, left for the CPU.
    pub fn load(&self) -> anyhow::Result<Model> {
        if let family @ Family::ConsistencyTta = self.family()? {
            let folder = self.model.display();
            bail!("--model {folder}: models of {} can be served and generated with, and nothing else", family.name());
        }
        let device = self.device.open()?;
        let precision = self.precision.unwrap_or_else(|| Precision::usual(&device));
        let model = Model::load_with(&self.model, &device, precision)?;
        if !device.is_cuda() {
            return Ok(model);
        }
        match selftest::check(&model, &self.model) {
            Ok(()) => Ok(model),
            Err(error) if self.device.is_auto() => {
                tracing::error!(%error, "the CUDA device is not used: the networks run on the CPU");
                Ok(Model::load(&self.model, &Device::Cpu)?)
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Which family the model is of.
    pub fn family(&self) -> anyhow::Result<Family> {
        Ok(Family::of(&self.model)?)
    }

    /// Loads a model of ConsistencyTTA onto its device, to render with.
    pub fn load_consistency_tta(&self) -> anyhow::Result<TtaRenderer> {
        let device = self.device.open()?;
        let precision = self.precision.unwrap_or_else(|| Precision::usual(&device));
        Ok(TtaRenderer::new(ConsistencyTta::load(&self.model, &device, precision)?)?)
    }
}
