//! Weights of one network: a safetensors file, mapped into memory and read tensor by tensor.

use crate::model::ModelError;
use candle_core::{DType, Device, Result, Shape, Tensor, bail};
use candle_nn::var_builder::SimpleBackend;
use candle_nn::{Init, VarBuilder};
use memmap2::Mmap;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::fs::File;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Bytes before the header: its length.
const PREFIX: usize = 8;

/// A mapped file; clones are the same one.
#[derive(Clone, Debug)]
pub struct Weights(Arc<Mapped>);

#[derive(Debug)]
struct Mapped {
    path: PathBuf,
    bytes: Mmap,
    tensors: BTreeMap<String, Entry>,
    dtype: DType,
    device: Device,
}

/// A tensor in the file.
#[derive(Debug)]
struct Entry {
    dtype: String,
    shape: Vec<usize>,
    range: Range<usize>,
}

/// The same in the file's header.
#[derive(Deserialize)]
struct Described {
    dtype: String,
    shape: Vec<usize>,
    data_offsets: (usize, usize),
}

impl Weights {
    /// Maps a file whose tensors become `dtype` on `device`.
    ///
    /// # Errors
    /// When it is missing, no safetensors, or ends before its last tensor does; the error names file and tensor.
    pub fn open(path: &Path, dtype: DType, device: &Device) -> std::result::Result<Self, ModelError> {
        let io = |source| ModelError::Io { path: path.to_owned(), source };
        let file = File::open(path).map_err(io)?;
        // SAFETY: whoever changes a model's files while it is loaded changes the weights; there is no reference into the
        // map that outlives the copying of a tensor.
        let bytes = unsafe { Mmap::map(&file) }.map_err(io)?;
        let tensors = header(&bytes).map_err(|reason| ModelError::Weights { path: path.to_owned(), reason })?;
        Ok(Self(Arc::new(Mapped { path: path.to_owned(), bytes, tensors, dtype, device: device.clone() })))
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.0.path
    }

    /// How many tensors it has, and how many numbers.
    pub fn count(&self) -> (usize, usize) {
        let numbers = self.0.tensors.values().map(|tensor| tensor.shape.iter().product::<usize>()).sum();
        (self.0.tensors.len(), numbers)
    }

    /// Whether there is a tensor of this name.
    pub fn has(&self, name: &str) -> bool {
        self.0.tensors.contains_key(name)
    }

    /// The tensor of this name, on the CPU.
    ///
    /// # Errors
    /// When it is missing, of another shape, or not of floating-point numbers; the error names it.
    pub fn on_cpu(&self, name: &str, shape: &[usize]) -> Result<Tensor> {
        let Some(tensor) = self.0.tensors.get(name) else { bail!("the tensor {name} is missing") };
        if tensor.shape != shape {
            bail!("the tensor {name} has the shape {:?}, not {shape:?}", tensor.shape);
        }
        let dtype = match tensor.dtype.as_str() {
            "F32" => DType::F32,
            "F16" => DType::F16,
            "BF16" => DType::BF16,
            other => bail!("the tensor {name} is of {other}: only F32, F16 and BF16 are supported"),
        };
        Tensor::from_raw_buffer(&self.0.bytes[tensor.range.clone()], dtype, shape, &Device::Cpu)?.to_dtype(self.0.dtype)
    }

    /// The tensor of this name, on its device.
    ///
    /// # Errors
    /// As [`Weights::on_cpu`].
    pub fn get(&self, name: &str, shape: &[usize]) -> Result<Tensor> {
        self.to_device(&self.on_cpu(name, shape)?)
    }

    /// A tensor on the device of the weights, laid out in its own order.
    pub fn to_device(&self, tensor: &Tensor) -> Result<Tensor> {
        tensor.contiguous()?.to_device(&self.0.device)
    }

    /// The same weights for candle's own networks.
    pub fn builder(&self) -> VarBuilder<'static> {
        VarBuilder::from_backend(Box::new(self.clone()), self.0.dtype, self.0.device.clone())
    }

    /// The tensors whose names begin with `name`.
    pub fn scope(&self, name: &str) -> Scope<'_> {
        Scope { weights: self, prefix: name.to_owned() }
    }

    /// What is wrong with this file, where loading a network from it failed.
    pub fn misfit(&self, error: &candle_core::Error) -> ModelError {
        ModelError::Weights { path: self.0.path.clone(), reason: crate::model::weights::first_line(error) }
    }
}

impl SimpleBackend for Weights {
    fn get(&self, shape: Shape, name: &str, _: Init, _: DType, _: &Device) -> Result<Tensor> {
        Self::get(self, name, shape.dims())
    }

    fn get_unchecked(&self, name: &str, _: DType, _: &Device) -> Result<Tensor> {
        let Some(tensor) = self.0.tensors.get(name) else { bail!("the tensor {name} is missing") };
        Self::get(self, name, &tensor.shape)
    }

    fn contains_tensor(&self, name: &str) -> bool {
        self.has(name)
    }
}

/// Reads a file's header; in case of need it says what is wrong.
fn header(bytes: &[u8]) -> std::result::Result<BTreeMap<String, Entry>, String> {
    let short = || format!("the file ends after {} bytes, within its header: it is not complete", bytes.len());
    let length: [u8; PREFIX] = bytes.first_chunk().copied().ok_or_else(short)?;
    let length = usize::try_from(u64::from_le_bytes(length)).unwrap_or(usize::MAX);
    let begin = PREFIX.saturating_add(length);
    // The first byte tells a file that was cut short from one of another kind.
    if bytes.get(PREFIX).is_some_and(|&first| first != b'{') {
        return Err("this is not a safetensors file".into());
    }
    let text = bytes.get(PREFIX..begin).ok_or_else(short)?;
    let described: BTreeMap<String, serde_json::Value> =
        serde_json::from_slice(text).map_err(|e| format!("its header is damaged: {e}"))?;
    let mut tensors = BTreeMap::new();
    for (name, description) in described {
        if name == "__metadata__" {
            continue;
        }
        let Described { dtype, shape, data_offsets: (from, to) } =
            serde_json::from_value(description).map_err(|e| format!("the tensor {name} is damaged: {e}"))?;
        let size = match dtype.as_str() {
            "F32" => Some(4),
            "F16" | "BF16" => Some(2),
            _ => None,
        };
        let wanted = shape.iter().try_fold(size.unwrap_or(1), |bytes: usize, &n| bytes.checked_mul(n));
        if from > to || (size.is_some() && wanted != Some(to - from)) {
            return Err(format!("the tensor {name} is damaged: {shape:?} of {dtype} in {from}..{to}"));
        }
        let range = begin.saturating_add(from)..begin.saturating_add(to);
        if range.end > bytes.len() {
            return Err(format!(
                "the tensor {name} ends at byte {}, the file at {}: it is not complete",
                range.end,
                bytes.len()
            ));
        }
        tensors.insert(name, Entry { dtype, shape, range });
    }
    Ok(tensors)
}

/// Tensors with a common beginning of their names.
#[derive(Clone, Debug)]
pub struct Scope<'a> {
    weights: &'a Weights,
    prefix: String,
}

impl<'a> Scope<'a> {
    /// The part of them whose names go on like this.
    pub fn at(&self, name: impl std::fmt::Display) -> Scope<'a> {
        let prefix = if self.prefix.is_empty() { name.to_string() } else { format!("{}.{name}", self.prefix) };
        Scope { weights: self.weights, prefix }
    }

    fn full(&self, name: &str) -> String {
        self.at(name).prefix
    }

    /// Whether there is a tensor of this name.
    pub fn has(&self, name: &str) -> bool {
        self.weights.has(&self.full(name))
    }

    /// The tensor of this name, on its device.
    ///
    /// # Errors
    /// As [`Weights::on_cpu`].
    pub fn get(&self, name: &str, shape: &[usize]) -> Result<Tensor> {
        self.weights.get(&self.full(name), shape)
    }

    /// The tensor of this name, on the CPU, to be laid out and taken [to its device](Weights::to_device).
    ///
    /// # Errors
    /// As [`Weights::on_cpu`].
    pub fn on_cpu(&self, name: &str, shape: &[usize]) -> Result<Tensor> {
        self.weights.on_cpu(&self.full(name), shape)
    }

    /// The weight of a layer, on the CPU, whether or not it is written as direction and length: `weight`, or `weight_g` and
    /// `weight_v` under their old and new names. One length for each entry of the first dimension.
    ///
    /// # Errors
    /// As [`Weights::on_cpu`].
    pub fn weight(&self, shape: &[usize]) -> Result<Tensor> {
        let parts = self.at("parametrizations.weight");
        let (length, direction) = if self.has("weight_v") {
            (self.lengths("weight_g", shape)?, self.on_cpu("weight_v", shape)?)
        } else if parts.has("original1") {
            (parts.lengths("original0", shape)?, parts.on_cpu("original1", shape)?)
        } else {
            return self.on_cpu("weight", shape);
        };
        let norm = direction.sqr()?.flatten_from(1)?.sum(1)?.sqrt()?.reshape(length.shape())?;
        direction.broadcast_mul(&(length / norm)?)
    }

    fn lengths(&self, name: &str, shape: &[usize]) -> Result<Tensor> {
        let mut each = vec![1; shape.len()];
        each[0] = shape[0];
        self.on_cpu(name, &each)
    }

    /// A tensor on the device of the weights.
    pub fn to_device(&self, tensor: &Tensor) -> Result<Tensor> {
        self.weights.to_device(tensor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashMap;

    fn file(tensors: &[(&str, Tensor)]) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        let tensors: HashMap<&str, Tensor> = tensors.iter().cloned().collect();
        candle_core::safetensors::save(&tensors, file.path()).unwrap();
        file
    }

    fn open(path: &Path) -> std::result::Result<Weights, ModelError> {
        Weights::open(path, DType::F32, &Device::Cpu)
    }

    fn numbers(shape: &[usize]) -> Tensor {
        Tensor::randn(0f32, 1.0, shape, &Device::Cpu).unwrap()
    }

    #[test]
    fn tensors_are_read_by_name_shape_and_type() {
        let half = numbers(&[3]).to_dtype(DType::F16).unwrap();
        let whole = Tensor::new(&[1i64, 2], &Device::Cpu).unwrap();
        let file = file(&[("a.b", numbers(&[2, 3])), ("half", half), ("whole", whole)]);
        let weights = open(file.path()).unwrap();
        assert_eq!(weights.count(), (3, 11));
        assert_eq!(weights.scope("a").get("b", &[2, 3]).unwrap().dims(), [2, 3]);
        assert_eq!(weights.get("half", &[3]).unwrap().dtype(), DType::F32);
        let error = |name: &str, shape: &[usize]| weights.get(name, shape).unwrap_err().to_string();
        assert!(error("a.c", &[1]).contains("a.c is missing"));
        assert!(error("a.b", &[3, 2]).contains("a.b has the shape [2, 3], not [3, 2]"));
        assert!(error("whole", &[2]).contains("whole is of I64"));
    }

    #[test]
    fn a_file_that_is_not_complete_is_told_from_others() {
        let file = file(&[("first", numbers(&[10])), ("last", numbers(&[10]))]);
        let bytes = std::fs::read(file.path()).unwrap();
        let refused = |bytes: &[u8]| {
            std::fs::write(file.path(), bytes).unwrap();
            let error = open(file.path()).unwrap_err().to_string();
            assert!(error.starts_with(&file.path().display().to_string()), "{error}");
            error
        };
        assert!(refused(&bytes[..bytes.len() - 1]).contains("the tensor last ends at byte"));
        for length in [0, 5, 8, 20] {
            assert!(refused(&bytes[..length]).contains("not complete"), "{length} bytes");
        }
        assert!(refused(b"<html><body>Not found</body></html>").contains("not a safetensors file"));
        assert!(open(Path::new("/nowhere/model.safetensors")).unwrap_err().to_string().contains("/nowhere"));
    }

    #[test]
    fn a_length_and_a_direction_are_a_weight() {
        let (length, direction) = (numbers(&[2, 1, 1]), numbers(&[2, 3, 4]));
        let names = [
            ["c.weight_g", "c.weight_v"],
            ["c.parametrizations.weight.original0", "c.parametrizations.weight.original1"],
        ];
        for [g, v] in names {
            let file = file(&[(g, length.clone()), (v, direction.clone())]);
            let weights = open(file.path()).unwrap();
            let weight = weights.scope("c").weight(&[2, 3, 4]).unwrap();
            let norm = weight.sqr().unwrap().flatten_from(1).unwrap().sum(1).unwrap().sqrt().unwrap();
            let (norm, length) =
                (norm.to_vec1::<f32>().unwrap(), length.flatten_all().unwrap().to_vec1::<f32>().unwrap());
            assert!(norm.iter().zip(&length).all(|(n, l)| (n - l.abs()).abs() < 1e-5), "{norm:?} {length:?}");
        }
    }
}
