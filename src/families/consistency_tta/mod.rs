//! ConsistencyTTA (arXiv 2309.10740): any caption to 10 s of sound in one or two steps, from a folder in diffusers layout.
//!
//! ```text
//! caption --FLAN-T5--> states --+
//! noise ------------------------+--> U-Net, 1 or 2 steps --> latents --autoencoder--> log-mel --HiFi-GAN--> 16 kHz
//! guidance ---------------------+
//! ```
//!
//! * [`folder`]: configuration files; [`weights`]: safetensors, mapped; [`layers`]: what the networks share
//! * [`text`]: tokenizer and T5; [`unet`]: the consistency model; [`schedule`]: its times; [`vocoder`]: HiFi-GAN
//! * [`render`]: windows of 10 s to an endless stream
//!
//! T5 and the autoencoder are candle-transformers'. Everything runs a stream at a time: an image of 256 by 16 latents
//! occupies a device by itself.

pub mod folder;
pub mod layers;
pub mod render;
pub mod schedule;
pub mod text;
pub mod unet;
pub mod vocoder;
pub mod weights;

use crate::condition::Prompt;
use crate::model::{ModelError, Precision};
use candle_core::{DType, Device, Result, Tensor, bail};
use candle_transformers::models::stable_diffusion::vae::{AutoEncoderKL, AutoEncoderKLConfig};
use folder::{Folder, UNET_WEIGHTS, VAE_WEIGHTS, VOCODER_WEIGHTS};
use schedule::Schedule;
use std::path::Path;
use text::TextEncoder;
use unet::{Context, UNet};
use vocoder::HifiGan;
use weights::Weights;

/// The largest guidance scale that it was distilled for; the smallest is none, 1.
pub const GUIDANCE_MAX: f64 = 6.0;
/// The guidance scale that its authors sample with.
pub const GUIDANCE: f64 = 3.0;

/// A loaded model.
pub struct ConsistencyTta {
    folder: Folder,
    text: TextEncoder,
    unet: UNet,
    vae: AutoEncoderKL,
    vocoder: HifiGan,
    schedule: Schedule,
    dtype: DType,
    device: Device,
}

/// The networks are large and say nothing to people.
impl std::fmt::Debug for ConsistencyTta {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ConsistencyTta").field("folder", &self.folder.path).finish_non_exhaustive()
    }
}

impl ConsistencyTta {
    /// Loads the model in a folder.
    ///
    /// # Errors
    /// When a file is missing, damaged or not complete, does not fit the others, or asks for what is not supported; the
    /// error names the file and the field or tensor. And when the device does not have the precision.
    pub fn load(folder: &Path, device: &Device, precision: Precision) -> std::result::Result<Self, ModelError> {
        if !precision.is_on(device) {
            return Err(ModelError::Precision { precision });
        }
        precision.set_up(device);
        let (folder, dtype) = (Folder::read(folder)?, precision.dtype());
        let open = |name: &str, dtype: DType| Weights::open(&folder.path.join(name), dtype, device);
        let weights = open(UNET_WEIGHTS, dtype)?;
        let unet = UNet::new(&weights, &folder.unet, dtype, device).map_err(|e| weights.misfit(&e))?;
        // In f32, as its configuration asks for where it says anything: it leaves the range of halves.
        let weights = open(VAE_WEIGHTS, DType::F32)?;
        let config = AutoEncoderKLConfig {
            block_out_channels: folder.vae.block_out_channels.clone(),
            layers_per_block: folder.vae.layers_per_block,
            latent_channels: folder.vae.latent_channels,
            norm_num_groups: folder.vae.norm_num_groups,
            use_quant_conv: folder.vae.use_quant_conv,
            use_post_quant_conv: folder.vae.use_post_quant_conv,
        };
        let vae = AutoEncoderKL::new(weights.builder(), 1, 1, config).map_err(|e| weights.misfit(&e))?;
        let weights = open(VOCODER_WEIGHTS, dtype)?;
        let vocoder = HifiGan::new(&weights, &folder.vocoder, dtype, device).map_err(|e| weights.misfit(&e))?;
        Ok(Self {
            text: TextEncoder::load(&folder, device)?,
            unet,
            vae,
            vocoder,
            schedule: Schedule::new(&folder.noise),
            dtype,
            device: device.clone(),
            folder,
        })
    }

    /// Its configuration.
    pub fn folder(&self) -> &Folder {
        &self.folder
    }

    /// The device its networks run on.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// The element type of U-Net and vocoder.
    pub fn dtype(&self) -> DType {
        self.dtype
    }

    /// The text encoder.
    pub fn text(&self) -> &TextEncoder {
        &self.text
    }

    /// The times of its steps.
    pub fn schedule(&self) -> &Schedule {
        &self.schedule
    }

    /// The U-Net.
    pub fn unet(&self) -> &UNet {
        &self.unet
    }

    /// The vocoder.
    pub fn vocoder(&self) -> &HifiGan {
        &self.vocoder
    }

    /// What attention looks at for some prompts: the tokens of all, each with the logarithm of its prompt's share of the
    /// weights. One that fades out leaves without a jump, and a single one is heard as it is.
    ///
    /// # Errors
    /// When no prompt has a weight, the tokenizer fails, or a tensor operation does.
    pub fn context(&self, prompts: &[Prompt]) -> Result<Context> {
        let heard: Vec<&Prompt> = prompts.iter().filter(|prompt| prompt.weight > 0.0).collect();
        let total: f32 = heard.iter().map(|prompt| prompt.weight).sum();
        let (mut states, mut bias) = (Vec::new(), Vec::new());
        for prompt in heard {
            let encoded = self.text.encode(&prompt.text)?;
            bias.extend(std::iter::repeat_n((prompt.weight / total).ln(), encoded.dim(0)?));
            states.push(encoded);
        }
        if states.is_empty() {
            bail!("there is no prompt with a weight above 0");
        }
        let count = bias.len();
        Ok(Context { states: Tensor::cat(&states, 0)?, bias: Tensor::from_vec(bias, count, &self.device)? })
    }

    /// Samples latents (1, rows, columns, C), one noise a step, of unit variance. Rows that are `known`, (1, fewer rows,
    /// columns, C), are the first ones: they are noised to each step's level with that step's noise, so that the rest goes
    /// on from them, and come back as they were.
    ///
    /// # Errors
    /// When shapes do not fit.
    pub fn sample(
        &self,
        noises: &[Tensor],
        context: &Context,
        guidance: f64,
        known: Option<&Tensor>,
    ) -> Result<Tensor> {
        let mut latents: Option<Tensor> = None;
        for (time, noise) in self.schedule.times(noises.len()).iter().zip(noises) {
            // All that is known at first is what is known.
            let clean = match latents {
                Some(latents) => latents,
                None => painted(noise.zeros_like()?, known)?,
            };
            let x = self.unet.forward(&time.noised(&clean, noise)?, time.step, guidance, context)?;
            latents = Some(painted(x.to_device(noise.device())?, known)?);
        }
        match latents {
            Some(latents) => Ok(latents),
            None => bail!("sampling takes at least one step"),
        }
    }

    /// The log-mel spectrogram of latents (1, rows, columns, C): (frames, bands), in f32.
    ///
    /// # Errors
    /// When a tensor operation fails.
    pub fn spectrogram(&self, latents: &Tensor) -> Result<Tensor> {
        let scaled = (latents.to_device(&self.device)? / self.folder.vae.scaling_factor)?;
        self.vae.decode(&scaled.permute((0, 3, 1, 2))?.contiguous()?)?.squeeze(0)?.squeeze(0)
    }
}

/// Latents with their first rows replaced.
fn painted(latents: Tensor, known: Option<&Tensor>) -> Result<Tensor> {
    match known {
        None => Ok(latents),
        Some(known) => {
            let rows = known.dim(1)?;
            Tensor::cat(&[known, &latents.narrow(1, rows, latents.dim(1)? - rows)?], 1)
        }
    }
}

#[cfg(test)]
pub(crate) mod tests;
