//! The codec: spectrogram frames to latents and back, a 1-D convolutional autoencoder.
//!
//! Eight frames make one latent frame. The encoder sees both sides of a moment; it runs in training only. The decoder
//! is causal and runs as a stream as well: its whole state is the last inputs of its convolutions.

use super::conv_block::{Block, KERNEL, blocks, zeros};
use super::layers::{EPS, Linear};
use super::low_branch::{LowBranch, LowBranchConfig};
use crate::ops::{Array, Scope};
use candle_core::{DType, Device, Result, Tensor, bail};
use serde::{Deserialize, Serialize};

/// Hyper-parameters of the codec.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CodecConfig {
    /// Values of a spectrogram frame.
    pub frame_values: usize,
    /// Spectrogram frames a latent frame.
    pub frames_per_latent: usize,
    /// Channels of a latent frame.
    pub latent_channels: usize,
    /// Width of the layers at the spectrogram's frame rate.
    pub frame_width: usize,
    /// Width of the layers at the latents' rate.
    pub latent_width: usize,
    /// Blocks of the encoder at each rate.
    pub encoder_blocks: usize,
    /// Blocks of the decoder at each rate.
    pub decoder_blocks: usize,
    /// The decoder's branch to the lowest values, if it has one; see [`super::low_branch`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub low_branch: Option<LowBranchConfig>,
}

impl CodecConfig {
    /// How many latent frames around a latent frame the encoder looks at, to either side.
    pub fn encoder_reach(&self) -> usize {
        let frames = KERNEL / 2 * self.encoder_blocks;
        KERNEL / 2 * self.encoder_blocks + frames.div_ceil(self.frames_per_latent.max(1))
    }
}

/// Spectrogram to latents.
pub struct Encoder {
    config: CodecConfig,
    input: Linear,
    frame_blocks: Vec<Block>,
    gather: Linear,
    latent_blocks: Vec<Block>,
    output: Linear,
}

impl Encoder {
    /// Builds it from the parameters at `scope`.
    pub fn new(config: &CodecConfig, scope: &mut Scope<'_>) -> Result<Self> {
        let c = config.clone();
        Ok(Self {
            input: Linear::new(&mut scope.at("input"), c.frame_values, c.frame_width, 1.0)?,
            frame_blocks: blocks(scope, "frame", c.encoder_blocks, c.frame_width, 3 * c.frame_width)?,
            gather: Linear::new(&mut scope.at("gather"), c.frames_per_latent * c.frame_width, c.latent_width, 1.0)?,
            latent_blocks: blocks(scope, "latent", c.encoder_blocks, c.latent_width, 2 * c.latent_width)?,
            output: Linear::new(&mut scope.at("output"), c.latent_width, c.latent_channels, 1.0)?,
            config: c,
        })
    }

    /// Normalised spectrogram (B, F, frame_values), F a multiple of frames_per_latent, to latents (B, F / 8, C).
    pub fn forward<A: Array>(&self, frames: &A) -> Result<A> {
        let (batch, count, _) = frames.value().dims3()?;
        let group = self.config.frames_per_latent;
        if count % group != 0 {
            bail!("the codec encodes whole latent frames: {count} frames are no multiple of {group}");
        }
        let x = centred(&self.frame_blocks, self.input.forward(frames)?)?;
        let x = self.gather.forward(&x.reshape(&[batch, count / group, group * self.config.frame_width])?)?;
        self.output.forward(&centred(&self.latent_blocks, x)?.rms_norm(EPS)?)
    }
}

fn centred<A: Array>(blocks: &[Block], mut x: A) -> Result<A> {
    for block in blocks {
        let side = zeros(&x, KERNEL / 2)?;
        x = block.forward(&x, &A::cat(&[&side, &x, &side], 1)?)?;
    }
    Ok(x)
}

/// Latents to spectrogram.
pub struct Decoder {
    config: CodecConfig,
    input: Linear,
    latent_blocks: Vec<Block>,
    scatter: Linear,
    frame_blocks: Vec<Block>,
    output: Linear,
    low_branch: Option<LowBranch>,
}

/// What the decoder remembers of a batch of streams: the last `KERNEL - 1` inputs of every block, (B, 4, width).
#[derive(Clone, Debug)]
pub struct DecoderState {
    pasts: Vec<Tensor>,
}

impl DecoderState {
    /// Many streams' states as the state of one batch.
    pub fn stack(states: &[&DecoderState]) -> Result<Self> {
        let depth = states.first().map_or(0, |s| s.pasts.len());
        let pasts = (0..depth).map(|i| Tensor::cat(&states.iter().map(|s| &s.pasts[i]).collect::<Vec<_>>(), 0));
        Ok(Self { pasts: pasts.collect::<Result<_>>()? })
    }

    /// Its arrays, (B, 4, width) each.
    pub fn arrays(&self) -> &[Tensor] {
        &self.pasts
    }

    /// The state with these arrays.
    pub fn of_arrays(pasts: &[Tensor]) -> Self {
        Self { pasts: pasts.to_vec() }
    }

    /// The state of one stream of a batch.
    pub fn of_stream(&self, index: usize) -> Result<Self> {
        // Not `copy`: of a part of an array it copies, and keeps, the whole.
        let pasts = self.pasts.iter().map(|p| p.narrow(0, index, 1)?.force_contiguous());
        Ok(Self { pasts: pasts.collect::<Result<_>>()? })
    }
}

impl Decoder {
    /// Builds it from the parameters at `scope`.
    pub fn new(config: &CodecConfig, scope: &mut Scope<'_>) -> Result<Self> {
        Self::without_branch(config, scope)?.with_branch(&mut scope.at("low"))
    }

    /// The same with the parameters of the branch to the lowest values at another scope than the others'.
    pub fn with_branch_of(config: &CodecConfig, others: &mut Scope<'_>, branch: &mut Scope<'_>) -> Result<Self> {
        Self::without_branch(config, others)?.with_branch(&mut branch.at("low"))
    }

    fn without_branch(config: &CodecConfig, scope: &mut Scope<'_>) -> Result<Self> {
        let c = config.clone();
        Ok(Self {
            input: Linear::new(&mut scope.at("input"), c.latent_channels, c.latent_width, 1.0)?,
            latent_blocks: blocks(scope, "latent", c.decoder_blocks, c.latent_width, 2 * c.latent_width)?,
            scatter: Linear::new(&mut scope.at("scatter"), c.latent_width, c.frames_per_latent * c.frame_width, 1.0)?,
            frame_blocks: blocks(scope, "frame", c.decoder_blocks, c.frame_width, 3 * c.frame_width)?,
            output: Linear::new(&mut scope.at("output"), c.frame_width, c.frame_values, 1.0)?,
            low_branch: None,
            config: c,
        })
    }

    /// The same with the branch to the lowest values, if the configuration has one, from the parameters at `branch`.
    fn with_branch(mut self, branch: &mut Scope<'_>) -> Result<Self> {
        self.low_branch =
            self.config.low_branch.as_ref().map(|c| LowBranch::new(&self.config, c, branch)).transpose()?;
        Ok(self)
    }

    /// Latents (B, T, C) from the very beginning to the normalised spectrogram (B, 8 T, frame_values).
    pub fn forward<A: Array>(&self, latents: &A) -> Result<A> {
        self.run(latents, |_, x| zeros(x, KERNEL - 1))
    }

    /// The state before the first latent frame of `batch` streams.
    pub fn start(&self, batch: usize, dtype: DType, device: &Device) -> Result<DecoderState> {
        let widths = self.latent_blocks.iter().map(|_| self.config.latent_width);
        let widths = widths.chain(self.frame_blocks.iter().map(|_| self.config.frame_width));
        let widths = widths.chain(self.low_branch.iter().flat_map(LowBranch::widths));
        let pasts = widths.map(|width| Tensor::zeros((batch, KERNEL - 1, width), dtype, device));
        Ok(DecoderState { pasts: pasts.collect::<Result<_>>()? })
    }

    /// The next latents (B, T, C) of a batch of streams: the same frames as [`Decoder::forward`] on all of them.
    pub fn step(&self, latents: &Tensor, state: &mut DecoderState) -> Result<Tensor> {
        self.run(latents, |i, x: &Tensor| {
            let past = state.pasts[i].clone();
            let with_x = Tensor::cat(&[&past, x], 1)?;
            state.pasts[i] = with_x.narrow(1, x.dim(1)?, KERNEL - 1)?.contiguous()?;
            Ok(past)
        })
    }

    /// `past(i, x)` gives the inputs of block i before x.
    fn run<A: Array>(&self, latents: &A, mut past: impl FnMut(usize, &A) -> Result<A>) -> Result<A> {
        let (batch, count, _) = latents.value().dims3()?;
        let mut x = self.input.forward(latents)?;
        for (i, block) in self.latent_blocks.iter().enumerate() {
            x = block.forward(&x, &A::cat(&[&past(i, &x)?, &x], 1)?)?;
        }
        let width = self.config.frame_width;
        x = self.scatter.forward(&x)?.reshape(&[batch, count * self.config.frames_per_latent, width])?;
        for (i, block) in self.frame_blocks.iter().enumerate() {
            x = block.forward(&x, &A::cat(&[&past(self.latent_blocks.len() + i, &x)?, &x], 1)?)?;
        }
        let frames = self.output.forward(&x.rms_norm(EPS)?)?;
        let Some(branch) = &self.low_branch else { return Ok(frames) };
        let first = self.latent_blocks.len() + self.frame_blocks.len();
        frames.add(&branch.forward(latents, |i, x| past(first + i, x))?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::Params;
    use crate::ops::testing::{check_op, close, normal};
    use candle_core::Storage;
    use proptest::prelude::*;

    fn tiny(dtype: DType) -> (Encoder, Decoder, Params) {
        built(&config(None), dtype)
    }

    /// The same with a branch to the lowest values.
    fn branched(dtype: DType) -> (Encoder, Decoder, Params) {
        built(&config(Some(LowBranchConfig { values: 3, width: 4, hidden: 6, blocks: 2 })), dtype)
    }

    fn config(low_branch: Option<LowBranchConfig>) -> CodecConfig {
        CodecConfig {
            frame_values: 7,
            frames_per_latent: 4,
            latent_channels: 5,
            frame_width: 6,
            latent_width: 8,
            encoder_blocks: 2,
            decoder_blocks: 2,
            low_branch,
        }
    }

    fn built(config: &CodecConfig, dtype: DType) -> (Encoder, Decoder, Params) {
        let mut params = Params::init(5, dtype, &Device::Cpu);
        let encoder = Encoder::new(config, &mut params.tracked().at("encoder")).unwrap();
        let decoder = Decoder::new(config, &mut params.tracked().at("decoder")).unwrap();
        (encoder, decoder, params)
    }

    #[test]
    fn derivatives() {
        let (encoder, decoder, _) = tiny(DType::F64);
        check_op(&[&[2, 8, 7]], |x| encoder.forward(&x[0]), |x| encoder.forward(&x[0]));
        check_op(&[&[2, 3, 5]], |x| decoder.forward(&x[0]), |x| decoder.forward(&x[0]));
        let decoder = branched(DType::F64).1;
        check_op(&[&[2, 3, 5]], |x| decoder.forward(&x[0]), |x| decoder.forward(&x[0]));
    }

    #[test]
    fn a_new_branch_hardly_changes_the_lowest_values_and_nothing_else() {
        let latents = normal(3, &[2, 4, 5]);
        let [without, with] =
            [tiny(DType::F64), branched(DType::F64)].map(|(_, decoder, _)| decoder.forward(&latents).unwrap());
        let change = (with - without).unwrap();
        let largest = |from, count| {
            change.narrow(2, from, count).unwrap().abs().unwrap().max_all().unwrap().to_scalar::<f64>().unwrap()
        };
        assert!((1e-6..0.1).contains(&largest(0, 3)) && largest(3, 4) == 0.0, "{}, {}", largest(0, 3), largest(3, 4));
    }

    #[test]
    fn every_parameter_learns() {
        let (encoder, decoder, params) = branched(DType::F64);
        let y = decoder.forward(&encoder.forward(&normal(1, &[2, 12, 7])).unwrap()).unwrap();
        crate::nets::tests::every_parameter_learns(&params, &y);
    }

    #[test]
    fn broken_latent_frames_are_refused() {
        let error = tiny(DType::F64).0.forward(&normal(1, &[1, 9, 7])).unwrap_err().to_string();
        assert!(error.contains("9 frames are no multiple of 4"), "{error}");
    }

    #[test]
    fn the_state_of_a_stream_keeps_nothing_of_the_others() {
        let (_, decoder, _) = branched(DType::F64);
        let mut state = decoder.start(3, DType::F64, &Device::Cpu).unwrap();
        decoder.step(&normal(2, &[3, 2, 5]), &mut state).unwrap();
        for index in 0..3 {
            let alone = state.of_stream(index).unwrap();
            for (own, all) in alone.arrays().iter().zip(state.arrays()) {
                close(own, &all.narrow(0, index, 1).unwrap(), 1e-15);
                let (storage, _) = own.storage_and_layout();
                let Storage::Cpu(storage) = &*storage else { panic!("not on the CPU") };
                assert_eq!(storage.as_slice::<f64>().unwrap().len(), own.elem_count());
            }
        }
        let states: Vec<DecoderState> = (0..3).map(|index| state.of_stream(index).unwrap()).collect();
        let stacked = DecoderState::stack(&states.iter().collect::<Vec<_>>()).unwrap();
        stacked.arrays().iter().zip(state.arrays()).for_each(|(stacked, all)| close(stacked, all, 1e-15));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]
        #[test]
        fn any_chunking_gives_the_same_frames(cuts in prop::collection::vec(1usize..5, 1..6)) {
            let (_, decoder, _) = branched(DType::F64);
            let latents = normal(9, &[2, cuts.iter().sum(), 5]);
            let whole = decoder.forward(&latents).unwrap();
            let mut state = decoder.start(2, DType::F64, &Device::Cpu).unwrap();
            let mut at = 0;
            let parts: Vec<Tensor> = cuts
                .iter()
                .map(|&n| {
                    at += n;
                    decoder.step(&latents.narrow(1, at - n, n).unwrap(), &mut state).unwrap()
                })
                .collect();
            close(&Tensor::cat(&parts, 1).unwrap(), &whole, 1e-13);
        }
    }
}
