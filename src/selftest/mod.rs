//! The self-test: whether this program computes on this device what it should.
//!
//! * [`ops`]: every operation against its definition in f64 ([`composed`])
//! * [`model`]: a model against itself in f64 on the CPU, streamed against at once, and batches against singles
//!
//! `twostep selftest` runs all of it; a server on a CUDA device runs the model's part before it is ready.

mod composed;
mod model;
mod ops;
mod report;

pub use report::{Report, Row};

use crate::device::describe;
use crate::model::{Model, ModelError, Precision};
use candle_core::{DType, Device, Result, Tensor};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, StandardNormal};
use std::path::Path;

/// Everything on a device, with the model in a folder at each of these precisions.
///
/// # Errors
/// When the model cannot be loaded. What fails on the device is a row of the report.
pub fn run(folder: &Path, device: &Device, precisions: &[Precision]) -> std::result::Result<Report, ModelError> {
    let dtypes: &[DType] = match device {
        Device::Cpu => &[DType::F64, DType::F32],
        _ => &[DType::F64, DType::F32, DType::BF16],
    };
    let reference = Model::load_with(folder, &Device::Cpu, Precision::F64)?;
    let mut rows = ops::compare(device, dtypes);
    for &precision in precisions {
        rows.extend(model::compare(&Model::load_with(folder, device, precision)?, &reference));
    }
    Ok(Report { device: describe(device), rows })
}

/// Why a model is not to be used on a device.
#[derive(Debug, thiserror::Error)]
pub enum CheckError {
    /// It could not be loaded for the CPU, to compare with.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// It computes something else than on the CPU.
    #[error(
        "self-check on {device}: {quantity} differs from the CPU's by {error:.1e} (at most {bound:.1e} is allowed)"
    )]
    Differs {
        /// The device.
        device: String,
        /// What differs.
        quantity: String,
        /// Relative error.
        error: f64,
        /// The greatest allowed.
        bound: f64,
    },
    /// It does not compute.
    #[error("self-check on {device}: {quantity}: {reason}")]
    Fails {
        /// The device.
        device: String,
        /// What could not be computed.
        quantity: String,
        /// What happened.
        reason: String,
    },
}

/// Compares a model, loaded from `folder`, with itself on the CPU: a few chunks in single precision, a second's work.
pub fn check(model: &Model, folder: &Path) -> std::result::Result<(), CheckError> {
    let reference = Model::load_with(folder, &Device::Cpu, Precision::F32)?;
    let device = describe(model.device());
    match model::compare(model, &reference).into_iter().find(|row| !row.passed()) {
        None => Ok(()),
        Some(Row { quantity, error: Some(error), bound, .. }) => {
            Err(CheckError::Differs { device, quantity, error, bound })
        }
        Some(Row { quantity, failure, .. }) => {
            Err(CheckError::Fails { device, quantity, reason: failure.unwrap_or_default() })
        }
    }
}

/// Normal numbers (f64, CPU).
fn normal(seed: u64, std: f64, shape: &[usize]) -> Result<Tensor> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let numbers = (0..shape.iter().product())
        .map(|_| <StandardNormal as Distribution<f64>>::sample(&StandardNormal, &mut rng) * std);
    Tensor::from_vec(numbers.collect::<Vec<f64>>(), shape, &Device::Cpu)
}

/// `|got - expected| / |expected|` in the Euclidean norm, NaN where either is not finite.
fn relative_error(got: &Tensor, expected: &Tensor) -> Result<f64> {
    let flat = |x: &Tensor| x.to_device(&Device::Cpu)?.to_dtype(DType::F64)?.flatten_all()?.to_vec1::<f64>();
    if got.dims() != expected.dims() {
        candle_core::bail!("the result has shape {:?} in place of {:?}", got.shape(), expected.shape());
    }
    let (got, expected) = (flat(got)?, flat(expected)?);
    let norm = |sum: f64| sum.sqrt();
    let difference = norm(got.iter().zip(&expected).map(|(a, b)| (a - b).powi(2)).sum());
    let size = norm(expected.iter().map(|b| b * b).sum());
    Ok(if difference == 0.0 { 0.0 } else { difference / size })
}
