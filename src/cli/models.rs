//! `twostep models`: which models there are, and what they know.

use clap::Args;
use std::path::PathBuf;
use twostep::model::{ModelSpec, spec};

/// Options of `twostep models`.
#[derive(Args, Debug)]
pub struct Models {
    /// Folder of model folders
    #[arg(long, env = "TWOSTEP_MODELS", default_value = "models")]
    models: PathBuf,
}

impl Models {
    /// Runs the subcommand.
    pub fn run(self) -> anyhow::Result<()> {
        let entries =
            std::fs::read_dir(&self.models).map_err(|e| anyhow::anyhow!("--models {}: {e}", self.models.display()))?;
        let mut folders: Vec<PathBuf> = entries
            .filter_map(|entry| Some(entry.ok()?.path()))
            .filter(|path| path.join(spec::FILE).exists())
            .collect();
        folders.sort();
        if folders.is_empty() {
            println!("no model in {}", self.models.display());
        }
        for folder in folders {
            match ModelSpec::read(&folder) {
                Ok(spec) => {
                    let prompts: Vec<&str> = spec.kinds.iter().map(|kind| kind.prompt.as_str()).collect();
                    println!("{}\t{}\t{}", folder.display(), spec.licence, prompts.join(", "));
                }
                Err(error) => println!("{}\tnot usable: {error}", folder.display()),
            }
        }
        Ok(())
    }
}
