//! `twostep models`: which models there are, what they know, and whether one is fit for use.

use super::device::DeviceArg;
use anyhow::bail;
use clap::{Args, Subcommand};
use std::path::{Path, PathBuf};
use twostep::engine::Renderer;
use twostep::engine::{ModelInfo, ModelRenderer};
use twostep::families::Family;
use twostep::families::check::{Report, Speed};
use twostep::families::consistency_tta::folder::{Folder, licence};
use twostep::families::consistency_tta::{ConsistencyTta, render::TtaRenderer};
use twostep::model::{Model, ModelSpec, Precision};

/// Options of `twostep models`.
#[derive(Args, Debug)]
#[command(args_conflicts_with_subcommands = true)]
pub struct Models {
    #[command(subcommand)]
    command: Option<Command>,
    /// Folder of model folders
    #[arg(long, env = "TWOSTEP_MODELS", default_value = "models")]
    models: PathBuf,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Say what a model is, what is missing, its licence, the memory it takes, and whether this machine is fast enough
    Check(Check),
}

/// Options of `twostep models check`.
#[derive(Args, Debug)]
struct Check {
    /// Folder of the model
    folder: PathBuf,
    /// Look at the files only, and make no sound
    #[arg(long)]
    files_only: bool,
    #[command(flatten)]
    device: DeviceArg,
}

impl Models {
    /// Runs the subcommand.
    pub fn run(self) -> anyhow::Result<()> {
        match self.command {
            Some(Command::Check(check)) => check.run(),
            None => list(&self.models),
        }
    }
}

fn list(models: &Path) -> anyhow::Result<()> {
    let entries = std::fs::read_dir(models).map_err(|e| anyhow::anyhow!("--models {}: {e}", models.display()))?;
    let mut folders: Vec<PathBuf> =
        entries.filter_map(|entry| Some(entry.ok()?.path())).filter(|path| Family::is_model(path)).collect();
    folders.sort();
    if folders.is_empty() {
        println!("no model in {}", models.display());
    }
    for folder in folders {
        match described(&folder) {
            Ok((licence, knows)) => println!("{}\t{licence}\t{knows}", folder.display()),
            Err(error) => println!("{}\tnot usable: {error}", folder.display()),
        }
    }
    Ok(())
}

/// Licence of a model, and what it knows.
fn described(folder: &Path) -> anyhow::Result<(String, String)> {
    match Family::of(folder)? {
        Family::Native => {
            let spec = ModelSpec::read(folder)?;
            let prompts: Vec<&str> = spec.kinds.iter().map(|kind| kind.prompt.as_str()).collect();
            Ok((spec.licence.clone(), prompts.join(", ")))
        }
        Family::ConsistencyTta => {
            Folder::read(folder)?;
            Ok((licence(folder).unwrap_or_else(|| "licence not stated".into()), "any caption".into()))
        }
    }
}

impl Check {
    fn run(self) -> anyhow::Result<()> {
        let report = Report::of(&self.folder)?;
        print!("{report}");
        if !report.is_whole() {
            bail!("{} is not fit for use", self.folder.display());
        }
        if self.files_only {
            return Ok(());
        }
        let device = self.device.open()?;
        let precision = Precision::usual(&device);
        match report.family {
            Family::Native => {
                let model = Model::load_with(&self.folder, &device, precision)?;
                let info = ModelInfo::of(&model);
                measure(&mut ModelRenderer::new(model), &info)
            }
            Family::ConsistencyTta => {
                let mut renderer = TtaRenderer::new(ConsistencyTta::load(&self.folder, &device, precision)?)?;
                let info = renderer.info().clone();
                measure(&mut renderer, &info)
            }
        }
    }
}

fn measure<R: Renderer>(renderer: &mut R, info: &ModelInfo) -> anyhow::Result<()> {
    for steps in [1, 2] {
        println!("{}", Speed::measure(renderer, info, steps)?);
    }
    Ok(())
}
