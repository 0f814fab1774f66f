//! What a model is to learn: kinds of the corpus or the sounds of a folder; its name and size.

use super::common::Common;
use anyhow::Context;
use clap::Args;
use std::path::PathBuf;
use twostep::corpus::{KINDS, kind_named};
use twostep::model::spec::{SMALL, Sizes, TINY};
use twostep::train::data::DataOptions;
use twostep::train::folder::Sounds;

/// Clips of the corpus that the codec learns from.
const CLIPS: usize = 2400;

/// Options of what to learn.
#[derive(Args, Debug)]
pub struct Subject {
    /// Folder of WAV files to learn from, with their captions in captions.csv or in their names; the procedural corpus if
    /// not given
    #[arg(long, env = "TWOSTEP_DATA", conflicts_with = "kinds")]
    data: Option<PathBuf>,
    /// Kinds of sound of the corpus to learn, by name, separated by commas; all of them if not given
    #[arg(long, env = "TWOSTEP_KINDS", value_delimiter = ',')]
    kinds: Vec<String>,
    /// Name of the model
    #[arg(long, env = "TWOSTEP_NAME")]
    name: Option<String>,
    /// Size of the networks: small (the default model's, and the default) or tiny (to try out the commands)
    #[arg(long, env = "TWOSTEP_SIZE")]
    size: Option<String>,
    /// Seconds a clip; recordings are cut into clips of this length or a little more
    #[arg(long, env = "TWOSTEP_CLIP_SECONDS", default_value_t = 6.0)]
    clip_seconds: f64,
}

impl Subject {
    /// The model's name, `default` if none was given.
    pub fn name(&self, default: &str) -> String {
        self.name.clone().unwrap_or_else(|| default.to_owned())
    }

    /// Sizes of a model that starts from nothing.
    pub fn sizes(&self) -> anyhow::Result<Sizes> {
        match self.size.as_deref() {
            None | Some("small") => Ok(SMALL),
            Some("tiny") => Ok(TINY),
            Some(other) => anyhow::bail!("--size {other}: must be small or tiny"),
        }
    }

    /// The clips to learn from. Of a folder it says what is in it, and what is left out.
    pub fn data(&self, common: &Common) -> anyhow::Result<DataOptions> {
        self.sizes()?;
        let seconds = self.clip_seconds;
        if !(3.5..=60.0).contains(&seconds) {
            anyhow::bail!("--clip-seconds {seconds}: must be 3.5 to 60 (a context and a chunk are 3.1 s)");
        }
        if let Some(folder) = &self.data {
            let sounds =
                Sounds::open(folder, seconds, &common.work).with_context(|| format!("--data {}", folder.display()))?;
            for complaint in sounds.complaints() {
                tracing::warn!("left out: {complaint}");
            }
            println!("{}: {sounds}", folder.display());
            return Ok(DataOptions::of_sounds(&sounds, common.clips, seconds, common.seed));
        }
        let named = |name: &String| kind_named(name).with_context(|| format!("--kinds: there is no kind {name:?}"));
        let kinds = match self.kinds.is_empty() {
            true => (0..KINDS.len()).collect(),
            false => self.kinds.iter().map(named).collect::<anyhow::Result<Vec<_>>>()?,
        };
        let clips = common.clips.unwrap_or(CLIPS);
        Ok(DataOptions { kinds, clips, seconds, seed: common.seed, attend: vec![], folder: None })
    }
}
