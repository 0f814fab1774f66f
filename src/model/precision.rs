//! How exactly the networks compute.

use candle_core::{DType, Device};
use std::str::FromStr;

/// Element type of the networks' weights and arithmetic. What is between the networks is single precision in any case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Precision {
    /// Double precision: the reference of self-tests.
    F64,
    /// Single precision.
    F32,
    /// Single precision, with products of numbers rounded to 11 bits, on tensor cores. CUDA only.
    Tf32,
    /// 8 bits, with sums in single precision. CUDA only.
    Bf16,
}

impl Precision {
    /// What is used if nobody asks: exact on the CPU; on CUDA devices TF32, which is several times as fast as f32 and far
    /// more exact than can be heard.
    pub fn usual(device: &Device) -> Self {
        if device.is_cuda() { Self::Tf32 } else { Self::F32 }
    }

    /// Element type of the weights.
    pub fn dtype(self) -> DType {
        match self {
            Self::F64 => DType::F64,
            Self::F32 | Self::Tf32 => DType::F32,
            Self::Bf16 => DType::BF16,
        }
    }

    /// Element type of what is between the networks.
    pub(super) fn arithmetic(self) -> DType {
        if self == Self::F64 { DType::F64 } else { DType::F32 }
    }

    /// Whether a device has it.
    pub fn is_on(self, device: &Device) -> bool {
        match self {
            Self::F64 | Self::F32 => true,
            Self::Tf32 | Self::Bf16 => device.is_cuda(),
        }
    }

    /// Sets what the process sets: whether f32 products are rounded to TF32.
    pub(crate) fn set_up(self, device: &Device) {
        #[cfg(feature = "cuda")]
        if device.is_cuda() && self.dtype() == DType::F32 {
            candle_core::cuda::set_gemm_reduced_precision_f32(self == Self::Tf32);
        }
        #[cfg(not(feature = "cuda"))]
        let _ = device;
    }

    /// Relative error of latents and spectrograms against double precision that a self-test accepts. Rounding every
    /// product as the device does gives the default model 3e-4 in TF32 and 7e-3 in bf16, without a device.
    pub fn bound(self) -> f64 {
        match self {
            Self::F64 => 1e-10,
            Self::F32 => 1e-4,
            Self::Tf32 => 2e-3,
            Self::Bf16 => 3e-2,
        }
    }

    /// Relative difference between a batch and its samples alone, or a stream and all at once, that a self-test
    /// accepts: a device may choose its algorithm by the batch.
    pub fn repeatability(self) -> f64 {
        match self {
            Self::F64 => 1e-12,
            Self::F32 => 1e-5,
            Self::Tf32 => 2e-3,
            Self::Bf16 => 3e-2,
        }
    }
}

impl std::fmt::Display for Precision {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::F64 => "f64",
            Self::F32 => "f32",
            Self::Tf32 => "tf32",
            Self::Bf16 => "bf16",
        })
    }
}

impl FromStr for Precision {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        match name {
            "f32" => Ok(Self::F32),
            "tf32" => Ok(Self::Tf32),
            "bf16" => Ok(Self::Bf16),
            _ => Err(format!("{name}: must be f32, tf32 or bf16")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Conditioned, DECODER_FILE, GENERATOR_FILE, ModelSpec, weights};
    use crate::nets::codec::Decoder;
    use crate::nets::generator::Generator;
    use crate::ops::testing::{normal, relative_error};
    use crate::ops::{Array, Params, Weight};
    use crate::scm::Network;
    use crate::scm::sampler::few_step_sample;
    use crate::scm::trigflow::SD;
    use candle_core::{Result, Tensor};
    use std::path::Path;

    #[test]
    fn names() {
        for precision in [Precision::F32, Precision::Tf32, Precision::Bf16] {
            assert_eq!(precision.to_string().parse(), Ok(precision));
        }
        assert_eq!("f8".parse::<Precision>(), Err("f8: must be f32, tf32 or bf16".to_owned()));
        assert!(Precision::F32.is_on(&Device::Cpu) && !Precision::Bf16.is_on(&Device::Cpu));
    }

    /// Rounds to `bits` significant bits (Dekker's splitting).
    fn rounded(x: &Tensor, bits: i32) -> Result<Tensor> {
        let scaled = (x * (2f64.powi(53 - bits) + 1.0))?;
        &scaled - (&scaled - x)?
    }

    /// An f64 array whose operations round as a device would: TF32 the factors of products, bf16 every result too.
    #[derive(Clone)]
    struct Rounding<const BF16: bool>(Tensor);

    impl<const BF16: bool> Rounding<BF16> {
        fn of(value: Tensor) -> Result<Self> {
            Ok(Self(if BF16 { rounded(&value, 8)? } else { value }))
        }
        fn factor(x: &Tensor) -> Result<Tensor> {
            rounded(x, if BF16 { 8 } else { 11 })
        }
    }

    impl<const BF16: bool> Array for Rounding<BF16> {
        fn constant(value: &Tensor) -> Self {
            Self(value.clone())
        }
        fn value(&self) -> &Tensor {
            &self.0
        }
        fn add(&self, other: &Self) -> Result<Self> {
            Self::of((&self.0 + &other.0)?)
        }
        fn mul(&self, other: &Self) -> Result<Self> {
            Self::of((&self.0 * &other.0)?)
        }
        fn scale(&self, factor: f64) -> Result<Self> {
            Self::of(self.0.affine(factor, 0.0)?)
        }
        fn sin(&self) -> Result<Self> {
            Self::of(self.0.sin()?)
        }
        fn cos(&self) -> Result<Self> {
            Self::of(self.0.cos()?)
        }
        fn silu(&self) -> Result<Self> {
            Self::of(Array::silu(&self.0)?)
        }
        fn rms_norm(&self, eps: f64) -> Result<Self> {
            Self::of(self.0.rms_norm(eps)?)
        }
        fn linear(&self, weight: &Tensor, bias: Option<&Tensor>) -> Result<Self> {
            // The angles of embeddings, which have one factor, are not rounded.
            if weight.dim(0)? == 1 {
                return Ok(Self(self.0.linear(weight, bias)?));
            }
            Self::of(Self::factor(&self.0)?.linear(&Self::factor(weight)?, bias)?)
        }
        fn project(&self, weight: &Weight, bias: Option<&Tensor>) -> Result<Self> {
            let Weight::Tensor(weight) = weight else { candle_core::bail!("a packed weight in f64") };
            self.linear(weight, bias)
        }
        fn project_silu(&self, weight: &Weight, bias: Option<&Tensor>) -> Result<Self> {
            self.project(weight, bias)?.silu()
        }
        fn project_add(&self, weight: &Weight, bias: Option<&Tensor>, other: &Self) -> Result<Self> {
            self.project(weight, bias)?.add(other)
        }
        fn depthwise(&self, kernel: &Tensor) -> Result<Self> {
            Self::of(self.0.depthwise(&Self::of(kernel.clone())?.0)?)
        }
        fn attention(&self, keys: &Self, values: &Self, heads: usize) -> Result<Self> {
            Self::of(self.0.attention(&keys.0, &values.0, heads)?)
        }
        fn norm_modulate(&self, scale: &Self, shift: &Self, eps: f64) -> Result<Self> {
            Self::of(self.0.norm_modulate(&scale.0, &shift.0, eps)?)
        }
        fn to_dtype(&self, _: DType) -> Result<Self> {
            Ok(self.clone())
        }
        fn reshape(&self, shape: &[usize]) -> Result<Self> {
            self.0.reshape(shape).map(Self)
        }
        fn narrow(&self, dim: usize, start: usize, length: usize) -> Result<Self> {
            self.0.narrow(dim, start, length).map(Self)
        }
        fn cat(parts: &[&Self], dim: usize) -> Result<Self> {
            Tensor::cat(&parts.iter().map(|part| &part.0).collect::<Vec<_>>(), dim).map(Self)
        }
    }

    /// A network that rounds inside.
    struct Rounded<'a, const BF16: bool>(Conditioned<'a>);

    impl<const BF16: bool> Network for Rounded<'_, BF16> {
        fn forward<A: Array>(&self, x: &A, t: &A) -> Result<A> {
            let inside = |x: &A| Rounding::<BF16>(x.value().clone());
            Ok(A::constant(&self.0.forward(&inside(x), &inside(t))?.0))
        }
    }

    /// Errors of latents and frames of the default model when it rounds; those of its context encoder are not in it.
    fn errors<const BF16: bool>() -> Result<(f64, f64)> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/default");
        let spec = ModelSpec::read(&folder).unwrap();
        let open =
            |name: &str| -> Params { weights::read_params_as(&folder.join(name), DType::F64, &Device::Cpu).unwrap() };
        let generator = Generator::new(&spec.generator, &mut open(GENERATOR_FILE).detached().at("generator"))?;
        let decoder = Decoder::new(&spec.codec, &mut open(DECODER_FILE).detached().at("decoder"))?;
        let config = &spec.generator;
        let noise = |seed| normal(seed, &[2, config.chunk_frames, config.latent_channels]) * SD;
        let noises = [noise(1)?, noise(2)?];
        let flags = Tensor::ones((2, config.context_frames, 1), DType::F64, &Device::Cpu)?;
        let before = normal(3, &[2, config.context_frames, config.latent_channels]);
        let context = generator.encode_context(&before, &flags, &flags.zeros_like()?)?;
        let (condition, guidance) =
            (normal(4, &[2, config.condition_numbers()]), Tensor::ones((2, 1), DType::F64, &Device::Cpu)?);
        let toward = |end| Conditioned {
            generator: &generator,
            condition: &condition,
            guidance: Some(&guidance),
            end,
            context: &context,
        };
        let sampler = spec.sampler;
        let exact = few_step_sample(sampler.kind, sampler.t_mid, toward, &noises)?;
        let latents = few_step_sample(sampler.kind, sampler.t_mid, |end| Rounded::<BF16>(toward(end)), &noises)?;
        let frames = decoder.forward(&exact)?;
        let rounded_frames = decoder.forward(&Rounding::<BF16>(exact.clone()))?.0;
        Ok((relative_error(&latents, &exact), relative_error(&rounded_frames, &frames)))
    }

    #[test]
    fn bounds_leave_room_for_rounding() {
        for (precision, (latents, frames)) in
            [(Precision::Tf32, errors::<false>().unwrap()), (Precision::Bf16, errors::<true>().unwrap())]
        {
            let most = latents.max(frames);
            assert!(most > precision.bound() / 20.0 && most < precision.bound() / 2.0, "{precision}: {most:e}");
        }
    }
}
