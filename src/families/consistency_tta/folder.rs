//! A ConsistencyTTA folder's configuration files, and what of them is supported.

use super::schedule::NoiseConfig;
use crate::audio::HOP;
use crate::model::ModelError;
use candle_transformers::models::t5;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use std::path::{Path, PathBuf};

/// The file that says what a folder in diffusers layout is.
pub const INDEX: &str = "model_index.json";

/// Every file that the sound depends on.
pub const FILES: [&str; 11] = [
    INDEX,
    "scheduler/scheduler_config.json",
    "tokenizer/tokenizer.json",
    "text_encoder/config.json",
    TEXT_WEIGHTS,
    "unet/config.json",
    UNET_WEIGHTS,
    "vae/config.json",
    VAE_WEIGHTS,
    "vocoder/config.json",
    VOCODER_WEIGHTS,
];

/// Weights of the text encoder.
pub const TEXT_WEIGHTS: &str = "text_encoder/model.safetensors";
/// Weights of the U-Net.
pub const UNET_WEIGHTS: &str = "unet/diffusion_pytorch_model.safetensors";
/// Weights of the autoencoder.
pub const VAE_WEIGHTS: &str = "vae/diffusion_pytorch_model.safetensors";
/// Weights of the vocoder.
pub const VOCODER_WEIGHTS: &str = "vocoder/model.safetensors";

/// `model_index.json`.
#[derive(Clone, Debug, Deserialize)]
pub struct Index {
    /// The pipeline that the folder is made for.
    #[serde(rename = "_class_name")]
    pub class: String,
}

impl Index {
    /// Reads and checks it.
    ///
    /// # Errors
    /// When it is missing or damaged, or of another pipeline.
    pub fn read(folder: &Path) -> Result<Self, ModelError> {
        let index: Self = json(&folder.join(INDEX))?;
        if index.class != "ConsistencyTTAPipeline" {
            let reason = format!("_class_name is {:?}: only ConsistencyTTAPipeline is known here", index.class);
            return Err(ModelError::Spec { path: folder.join(INDEX), reason });
        }
        Ok(index)
    }
}

/// `unet/config.json`, as far as it is read; what is left out has the value that it must have.
#[derive(Clone, Debug, Deserialize)]
pub struct UNetConfig {
    /// Channels of the latents.
    pub in_channels: usize,
    /// The same.
    pub out_channels: usize,
    /// Channels of each level, finest first.
    pub block_out_channels: Vec<usize>,
    /// Residual blocks of a level on the way down; one more on the way up.
    pub layers_per_block: usize,
    /// Groups of the group normalisations.
    pub norm_num_groups: usize,
    /// Added to their variances.
    pub norm_eps: f64,
    /// Width of the text states.
    pub cross_attention_dim: usize,
    /// Attention heads of each level. Not their width: diffusers' name for it is an old mistake.
    pub attention_head_dim: Vec<usize>,
    /// Which levels have attention on the way down.
    pub down_block_types: Vec<String>,
    /// The same on the way up.
    pub up_block_types: Vec<String>,
    /// Whether the projections around attention are written as matrices, not as 1 x 1 convolutions.
    #[serde(default)]
    pub use_linear_projection: bool,
    mid_block_type: Option<String>,
    #[serde(default = "yes")]
    flip_sin_to_cos: bool,
    #[serde(default)]
    freq_shift: f64,
    #[serde(default)]
    center_input_sample: bool,
    #[serde(default)]
    dual_cross_attention: bool,
    act_fn: Option<String>,
    num_attention_heads: Option<serde_json::Value>,
    class_embed_type: Option<String>,
    addition_embed_type: Option<String>,
    encoder_hid_dim: Option<usize>,
    time_embedding_type: Option<String>,
    resnet_time_scale_shift: Option<String>,
    guidance_embedding_type: Option<String>,
}

fn yes() -> bool {
    true
}

impl UNetConfig {
    /// Levels.
    pub fn levels(&self) -> usize {
        self.block_out_channels.len()
    }

    /// Whether a level has attention, on the way down or up, both counted from where they begin.
    pub fn has_attention(types: &[String], i: usize) -> bool {
        types[i].starts_with("CrossAttn")
    }

    fn check(&self) -> Result<(), String> {
        let levels = self.levels();
        let is = |name: &str, value: &Option<String>, wanted: &str| match value {
            Some(value) if value != wanted => Err(format!("{name} is {value:?}: only {wanted:?} is supported")),
            _ => Ok(()),
        };
        is("mid_block_type", &self.mid_block_type, "UNetMidBlock2DCrossAttn")?;
        is("act_fn", &self.act_fn, "silu")?;
        is("time_embedding_type", &self.time_embedding_type, "positional")?;
        is("guidance_embedding_type", &self.guidance_embedding_type, "fourier")?;
        is("resnet_time_scale_shift", &self.resnet_time_scale_shift, "default")?;
        let extras = [
            ("class_embed_type", self.class_embed_type.is_some()),
            ("addition_embed_type", self.addition_embed_type.is_some()),
            ("encoder_hid_dim", self.encoder_hid_dim.is_some()),
            ("num_attention_heads", self.num_attention_heads.is_some()),
            ("center_input_sample", self.center_input_sample),
            ("dual_cross_attention", self.dual_cross_attention),
            ("freq_shift", self.freq_shift != 0.0),
        ];
        if let Some((name, _)) = extras.iter().find(|(_, there)| *there) {
            return Err(format!("{name} is not supported"));
        }
        if !self.flip_sin_to_cos {
            return Err("flip_sin_to_cos must be true".into());
        }
        let lengths = [
            ("attention_head_dim", self.attention_head_dim.len()),
            ("down_block_types", self.down_block_types.len()),
            ("up_block_types", self.up_block_types.len()),
        ];
        if levels == 0 || self.layers_per_block == 0 {
            return Err("block_out_channels and layers_per_block must not be empty".into());
        }
        if let Some((name, length)) = lengths.iter().find(|(_, length)| *length != levels) {
            return Err(format!("{name} has {length} entries, block_out_channels {levels}"));
        }
        for (types, known) in [
            (&self.down_block_types, ["CrossAttnDownBlock2D", "DownBlock2D"]),
            (&self.up_block_types, ["CrossAttnUpBlock2D", "UpBlock2D"]),
        ] {
            if let Some(other) = types.iter().find(|name| !known.contains(&name.as_str())) {
                return Err(format!("a block is {other:?}: only {known:?} are supported"));
            }
        }
        let fit = |&channels: &usize| channels > 0 && channels.is_multiple_of(self.norm_num_groups.max(1));
        if self.norm_num_groups == 0 || !self.block_out_channels.iter().all(fit) {
            return Err(format!("block_out_channels must be multiples of norm_num_groups, {}", self.norm_num_groups));
        }
        if let Some(heads) =
            self.attention_head_dim.iter().zip(&self.block_out_channels).find(|(h, c)| **h == 0 || h > c)
        {
            return Err(format!("attention_head_dim: {} heads do not fit {} channels", heads.0, heads.1));
        }
        if self.in_channels != self.out_channels {
            return Err(format!("out_channels is {}, in_channels {}", self.out_channels, self.in_channels));
        }
        Ok(())
    }
}

/// `vae/config.json`.
#[derive(Clone, Debug, Deserialize)]
pub struct VaeConfig {
    /// Channels of the spectrogram: 1.
    pub in_channels: usize,
    /// The same.
    pub out_channels: usize,
    /// Channels of the latents.
    pub latent_channels: usize,
    /// Channels of each level, finest first; each but the last halves the picture.
    pub block_out_channels: Vec<usize>,
    /// Residual blocks of a level.
    pub layers_per_block: usize,
    /// Groups of the group normalisations.
    pub norm_num_groups: usize,
    /// What latents are multiplied with before anybody else sees them.
    pub scaling_factor: f64,
    shift_factor: Option<f64>,
    latents_mean: Option<serde_json::Value>,
    latents_std: Option<serde_json::Value>,
    /// Whether a 1 x 1 convolution stands before the decoder.
    #[serde(default = "yes")]
    pub use_post_quant_conv: bool,
    /// Whether one stands behind the encoder.
    #[serde(default = "yes")]
    pub use_quant_conv: bool,
}

impl VaeConfig {
    /// Spectrogram rows and columns of a latent one.
    pub fn factor(&self) -> usize {
        1 << (self.block_out_channels.len() - 1)
    }

    fn check(&self) -> Result<(), String> {
        if (self.in_channels, self.out_channels) != (1, 1) {
            return Err(format!(
                "in_channels and out_channels are {} and {}, not 1",
                self.in_channels, self.out_channels
            ));
        }
        if self.block_out_channels.is_empty() || self.block_out_channels.len() > 8 {
            return Err("block_out_channels must have 1 to 8 entries".into());
        }
        if self.shift_factor.is_some() || self.latents_mean.is_some() || self.latents_std.is_some() {
            return Err("shift_factor, latents_mean and latents_std are not supported".into());
        }
        if !(self.scaling_factor.is_finite() && self.scaling_factor > 0.0) {
            return Err(format!("scaling_factor is {}", self.scaling_factor));
        }
        Ok(())
    }
}

/// `vocoder/config.json`.
#[derive(Clone, Debug, Deserialize)]
pub struct VocoderConfig {
    /// Bands of the spectrogram.
    pub model_in_dim: usize,
    /// Samples per second.
    pub sampling_rate: u32,
    /// Channels before the first upsampling, which halves them, as each does.
    pub upsample_initial_channel: usize,
    /// Factors of the upsamplings.
    pub upsample_rates: Vec<usize>,
    /// Their kernels.
    pub upsample_kernel_sizes: Vec<usize>,
    /// Kernels of the residual blocks behind each upsampling.
    pub resblock_kernel_sizes: Vec<usize>,
    /// Dilations of the layers of each of these blocks.
    pub resblock_dilation_sizes: Vec<Vec<usize>>,
    /// Slope of the leaky rectifiers.
    pub leaky_relu_slope: f64,
    /// Whether spectrograms are normalised first.
    pub normalize_before: bool,
}

impl VocoderConfig {
    /// Samples of a spectrogram frame.
    pub fn hop(&self) -> usize {
        self.upsample_rates.iter().product()
    }

    fn check(&self) -> Result<(), String> {
        let (rates, kernels) = (&self.upsample_rates, &self.upsample_kernel_sizes);
        if rates.is_empty() || rates.len() != kernels.len() || rates.iter().zip(kernels).any(|(r, k)| *r == 0 || k < r)
        {
            return Err(format!("upsample_rates {rates:?} and upsample_kernel_sizes {kernels:?} do not fit"));
        }
        if self.upsample_initial_channel >> rates.len() == 0 {
            return Err(format!("upsample_initial_channel {} is too small", self.upsample_initial_channel));
        }
        let (kernels, dilations) = (&self.resblock_kernel_sizes, &self.resblock_dilation_sizes);
        if kernels.is_empty() || kernels.len() != dilations.len() || kernels.iter().any(|k| k.is_multiple_of(2)) {
            return Err("resblock_kernel_sizes must be odd, as many as resblock_dilation_sizes".into());
        }
        Ok(())
    }
}

/// All configuration files of a folder, checked by themselves and against each other.
#[derive(Clone, Debug)]
pub struct Folder {
    /// Where it is.
    pub path: PathBuf,
    /// The U-Net.
    pub unet: UNetConfig,
    /// The autoencoder.
    pub vae: VaeConfig,
    /// The vocoder.
    pub vocoder: VocoderConfig,
    /// The text encoder.
    pub text: t5::Config,
    /// The noise schedule.
    pub noise: NoiseConfig,
}

impl Folder {
    /// Reads and checks the configuration files of a folder.
    ///
    /// # Errors
    /// When one is missing or damaged, asks for what is not supported, or does not fit another; the error names file and
    /// field.
    pub fn read(folder: &Path) -> Result<Self, ModelError> {
        Index::read(folder)?;
        let path = |part: &str| folder.join(part);
        let refused = |part: &str, checked: Result<(), String>| {
            checked.map_err(|reason| ModelError::Spec { path: path(part), reason })
        };
        let read = Self {
            path: folder.to_owned(),
            unet: json(&path("unet/config.json"))?,
            vae: json(&path("vae/config.json"))?,
            vocoder: json(&path("vocoder/config.json"))?,
            text: json(&path("text_encoder/config.json"))?,
            noise: json(&path("scheduler/scheduler_config.json"))?,
        };
        refused("unet/config.json", read.unet.check())?;
        refused("vae/config.json", read.vae.check())?;
        refused("vocoder/config.json", read.vocoder.check())?;
        refused("scheduler/scheduler_config.json", read.noise.check())?;
        refused("unet/config.json", read.fit())?;
        Ok(read)
    }

    fn fit(&self) -> Result<(), String> {
        let Self { unet, vae, vocoder, text, .. } = self;
        if unet.in_channels != vae.latent_channels {
            return Err(format!(
                "in_channels is {}, the autoencoder's latent_channels {}",
                unet.in_channels, vae.latent_channels
            ));
        }
        if unet.cross_attention_dim != text.d_model {
            return Err(format!(
                "cross_attention_dim is {}, the text encoder's d_model {}",
                unet.cross_attention_dim, text.d_model
            ));
        }
        let (columns, halvings) = (self.latent_columns(), 1 << (unet.levels() - 1));
        if vocoder.model_in_dim != columns * vae.factor() || columns == 0 || columns % halvings != 0 {
            return Err(format!(
                "the vocoder's model_in_dim, {}, does not go through autoencoder and U-Net",
                vocoder.model_in_dim
            ));
        }
        if !(self.row_samples() * super::render::FRAME_ROWS).is_multiple_of(HOP) {
            return Err(format!("the vocoder's upsample_rates make {} samples of a latent row", self.row_samples()));
        }
        Ok(())
    }

    /// Columns of the latents: bands of the spectrogram, as the autoencoder sees them.
    pub fn latent_columns(&self) -> usize {
        self.vocoder.model_in_dim / self.vae.factor()
    }

    /// Samples of a latent row.
    pub fn row_samples(&self) -> usize {
        self.vae.factor() * self.vocoder.hop()
    }

    /// Numbers of a latent row.
    pub fn row_values(&self) -> usize {
        self.latent_columns() * self.vae.latent_channels
    }
}

/// The licence that a model card states in its front matter; `None` if it says nothing of one.
pub fn licence(folder: &Path) -> Option<String> {
    let card = std::fs::read_to_string(folder.join("README.md")).ok()?;
    let (front, _) = card.strip_prefix("---")?.split_once("\n---")?;
    let line = front.lines().find_map(|line| line.trim().strip_prefix("license:"))?;
    let licence = line.trim().trim_matches(['"', '\'']);
    (!licence.is_empty()).then(|| licence.to_owned())
}

fn json<T: DeserializeOwned>(path: &Path) -> Result<T, ModelError> {
    let text = std::fs::read_to_string(path).map_err(|source| ModelError::Io { path: path.to_owned(), source })?;
    serde_json::from_str(&text).map_err(|e| ModelError::Spec { path: path.to_owned(), reason: e.to_string() })
}
