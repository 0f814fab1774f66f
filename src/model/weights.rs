//! Weights in safetensors files.

use super::ModelError;
use crate::ops::Params;
use candle_core::{DType, Device, Tensor};
use std::collections::HashMap;
use std::path::Path;

/// Reads every tensor of a file.
///
/// # Errors
/// When the file is missing, truncated or not safetensors; the error names it.
pub fn read(path: &Path, device: &Device) -> Result<HashMap<String, Tensor>, ModelError> {
    let bytes = std::fs::read(path).map_err(|source| ModelError::Io { path: path.to_owned(), source })?;
    candle_core::safetensors::load_buffer(&bytes, device)
        .map_err(|e| ModelError::Weights { path: path.to_owned(), reason: first_line(&e) })
}

/// Reads a file's tensors as the f32 parameters of a network.
pub fn read_params(path: &Path, device: &Device) -> Result<Params, ModelError> {
    read_params_as(path, DType::F32, device)
}

/// Reads a file's tensors as the parameters of a network.
pub fn read_params_as(path: &Path, dtype: DType, device: &Device) -> Result<Params, ModelError> {
    // Checked before they go to the device.
    let tensors = read(path, &Device::Cpu)?;
    if let Some(name) = tensors.iter().find_map(|(name, t)| (!all_finite(t)).then_some(name)) {
        return Err(ModelError::Weights {
            path: path.to_owned(),
            reason: format!("{name} has values that are not finite"),
        });
    }
    Params::load(tensors, dtype, device)
        .map_err(|e| ModelError::Weights { path: path.to_owned(), reason: first_line(&e) })
}

fn all_finite(t: &Tensor) -> bool {
    // A sum of absolute values is finite exactly when all of them are (and it does not overflow in f64).
    let sum = t.to_dtype(DType::F64).and_then(|t| t.abs()?.sum_all()?.to_scalar::<f64>());
    sum.is_ok_and(f64::is_finite)
}

/// candle's errors carry a backtrace below their first line.
pub fn first_line(error: &candle_core::Error) -> String {
    error.to_string().lines().next().unwrap_or_default().to_owned()
}

/// Writes tensors, as `dtype`, whole or not at all.
pub fn write(path: &Path, tensors: &HashMap<String, Tensor>, dtype: DType) -> Result<(), ModelError> {
    let failed = |e: candle_core::Error| ModelError::Weights { path: path.to_owned(), reason: first_line(&e) };
    let tensors = tensors
        .iter()
        .map(|(name, t)| Ok((name.clone(), t.to_device(&Device::Cpu)?.to_dtype(dtype)?.contiguous()?)))
        .collect::<candle_core::Result<HashMap<_, _>>>()
        .map_err(failed)?;
    let bytes = safetensors::serialize(&tensors, None)
        .map_err(|e| ModelError::Weights { path: path.to_owned(), reason: e.to_string() })?;
    let partial = path.with_extension("partial");
    let written = std::fs::write(&partial, bytes).and_then(|()| std::fs::rename(&partial, path));
    written.map_err(|source| ModelError::Io { path: path.to_owned(), source })
}
