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
    pub(super) fn set_up(self, device: &Device) {
        #[cfg(feature = "cuda")]
        if device.is_cuda() && self.dtype() == DType::F32 {
            candle_core::cuda::set_gemm_reduced_precision_f32(self == Self::Tf32);
        }
        #[cfg(not(feature = "cuda"))]
        let _ = device;
    }

    /// Relative error of latents and spectrograms against double precision that a self-test accepts.
    pub fn bound(self) -> f64 {
        match self {
            Self::F64 => 1e-10,
            Self::F32 => 1e-4,
            Self::Tf32 => 1e-2,
            Self::Bf16 => 5e-2,
        }
    }

    /// Relative difference between a batch and its samples alone, or a stream and all at once, that a self-test
    /// accepts: a device may choose its algorithm by the batch.
    pub fn repeatability(self) -> f64 {
        match self {
            Self::F64 => 1e-12,
            Self::F32 => 1e-5,
            Self::Tf32 => 1e-2,
            Self::Bf16 => 5e-2,
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
