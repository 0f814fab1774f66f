//! Checkpoints: one safetensors file that holds everything the next step depends on, so that a resumed training
//! continues bit for bit.
//!
//! The tensors are `parameters/NAME`, `first_moment/NAME`, `second_moment/NAME` and `average/NAME`; the header's
//! metadata hold [`Progress`] as JSON and the SHA-256 of the tensors. There is no random state in it: the random
//! numbers of a step are addressed by (seed, step), see [`rng`].
//!
//! A file appears under its name only when it is whole and on the disk.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use candle_core::safetensors::Load;
use candle_core::{DType, Device, Tensor};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use safetensors::tensor::{Dtype, View};
use safetensors::{SafeTensorError, SafeTensors};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::schedule::Schedule;
use super::{TrainError, at};
use crate::fault::{Fault, strikes};

/// The layout of the file; another one is refused.
const VERSION: u32 = 1;
const PROGRESS: &str = "progress";
const CHECKSUM: &str = "sha256";

/// The generator of a step's random numbers, a function of (seed, step) alone.
pub fn rng(seed: u64, step: u64) -> ChaCha8Rng {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    rng.set_stream(step);
    rng
}

/// How far a training has come, and whose it is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Progress {
    /// Layout of the file.
    pub version: u32,
    /// What the training was asked to do; it must be asked the same to resume.
    pub config: serde_json::Value,
    /// Its learning rates, which may be changed on the way, for instance to train longer.
    pub schedule: Schedule,
    /// Steps done: the next one has this number.
    pub step: u64,
    /// Training samples seen.
    pub samples: u64,
    /// Seconds spent.
    pub seconds: f64,
    /// Steps skipped because the loss or its gradient was not finite.
    pub skipped: u64,
    /// How many of the latest steps were skipped in a row.
    pub skipped_in_a_row: u64,
    /// Updates the optimiser has made.
    pub updates: u64,
    /// Updates the moving average has made.
    pub average_updates: u64,
    /// The log's row in the making.
    pub window: super::log::Window,
}

impl Progress {
    /// The beginning of a training.
    pub fn new(config: serde_json::Value, schedule: Schedule) -> Self {
        Self {
            version: VERSION,
            config,
            schedule,
            step: 0,
            samples: 0,
            seconds: 0.0,
            skipped: 0,
            skipped_in_a_row: 0,
            updates: 0,
            average_updates: 0,
            window: Default::default(),
        }
    }

    /// An error that names the first entry in which the checkpoint's configuration differs from this one.
    pub fn check_config(&self, config: &serde_json::Value) -> Result<(), TrainError> {
        match difference("config", &self.config, config) {
            None => Ok(()),
            Some((field, found, expected)) => Err(TrainError::Mismatch { field, found, expected }),
        }
    }
}

/// Path and both values of the first difference.
fn difference(path: &str, found: &serde_json::Value, expected: &serde_json::Value) -> Option<(String, String, String)> {
    use serde_json::Value::{Null, Object};
    match (found, expected) {
        (Object(a), Object(b)) => {
            let keys: std::collections::BTreeSet<_> = a.keys().chain(b.keys()).collect();
            keys.into_iter().find_map(|key| {
                difference(&format!("{path}.{key}"), a.get(key).unwrap_or(&Null), b.get(key).unwrap_or(&Null))
            })
        }
        _ if found == expected => None,
        _ => Some((path.to_owned(), found.to_string(), expected.to_string())),
    }
}

/// What a tensor in a checkpoint is to its parameter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// The parameter itself.
    Parameter,
    /// AdamW's moving average of its gradient.
    FirstMoment,
    /// AdamW's moving average of its squared gradient.
    SecondMoment,
    /// Its moving average.
    Average,
}

impl Role {
    fn prefix(self) -> &'static str {
        match self {
            Self::Parameter => "parameters/",
            Self::FirstMoment => "first_moment/",
            Self::SecondMoment => "second_moment/",
            Self::Average => "average/",
        }
    }
}

/// A checkpoint in memory.
pub struct Checkpoint {
    /// Counters and configuration.
    pub progress: Progress,
    tensors: BTreeMap<String, Tensor>,
}

impl Checkpoint {
    /// A checkpoint without tensors.
    pub fn new(progress: Progress) -> Self {
        Self { progress, tensors: BTreeMap::new() }
    }

    /// Adds a tensor (f32 or f64, any shape and device), which must not change until the checkpoint is saved.
    pub fn insert(&mut self, role: Role, name: &str, tensor: &Tensor) {
        self.tensors.insert(format!("{}{name}", role.prefix()), tensor.detach());
    }

    /// The names and tensors of one role, for instance the averaged weights to start another training from.
    pub fn tensors(&self, role: Role) -> impl Iterator<Item = (&str, &Tensor)> {
        self.tensors.iter().filter_map(move |(key, tensor)| Some((key.strip_prefix(role.prefix())?, tensor)))
    }

    /// The tensor of this role and name, moved to the device of `like`, whose shape and type it must have.
    pub fn get(&self, role: Role, name: &str, like: &Tensor) -> Result<Tensor, TrainError> {
        let key = format!("{}{name}", role.prefix());
        let describe = |tensor: &Tensor| format!("{:?} {:?}", tensor.dtype(), tensor.dims());
        let mismatch = |found: String| TrainError::Mismatch { field: key.clone(), found, expected: describe(like) };
        let tensor = self.tensors.get(&key).ok_or_else(|| mismatch("missing".to_owned()))?;
        if tensor.dtype() != like.dtype() || tensor.shape() != like.shape() {
            return Err(mismatch(describe(tensor)));
        }
        Ok(tensor.to_device(like.device())?)
    }

    /// Writes the checkpoint, replacing an older one in one step.
    pub fn save(&self, path: &Path) -> Result<(), TrainError> {
        let blobs = self.tensors.iter().map(|(name, tensor)| Ok((name.as_str(), Blob::new(tensor)?)));
        let blobs = blobs.collect::<Result<Vec<_>, TrainError>>()?;
        let mut checksum = Checksum::default();
        for (name, blob) in &blobs {
            checksum.add(name, blob.dtype, &blob.shape, &blob.bytes);
        }
        let failed = |reason: String| TrainError::Checkpoint { path: path.to_owned(), reason };
        let progress = serde_json::to_string(&self.progress).map_err(|e| failed(e.to_string()))?;
        let metadata = HashMap::from([(PROGRESS.to_owned(), progress), (CHECKSUM.to_owned(), checksum.hex())]);
        let partial = beside(path, ".partial");
        let written = match strikes(Fault::FullDisk) {
            true => Err(SafeTensorError::IoError(ErrorKind::StorageFull.into())),
            false => safetensors::serialize_to_file(blobs, Some(metadata), &partial),
        };
        written.map_err(|error| {
            // What there is of it takes room that others may need.
            let _ = std::fs::remove_file(&partial);
            match error {
                SafeTensorError::IoError(error) => at(&partial)(error),
                other => failed(other.to_string()),
            }
        })?;
        File::open(&partial).and_then(|file| file.sync_all()).map_err(at(&partial))?;
        std::fs::rename(&partial, path).map_err(at(path))?;
        // The new name is safe only when the folder is on the disk as well; not every system can do that.
        if let Some(folder) = path.parent().and_then(|folder| File::open(folder).ok()) {
            folder.sync_all().ok();
        }
        Ok(())
    }

    /// Reads a checkpoint to the CPU and verifies that it is whole.
    pub fn load(path: &Path) -> Result<Self, TrainError> {
        let bytes = std::fs::read(path).map_err(at(path))?;
        let broken = |reason: String| TrainError::Checkpoint { path: path.to_owned(), reason };
        let (_, header) = SafeTensors::read_metadata(&bytes).map_err(|e| broken(e.to_string()))?;
        let entry = |key: &str| {
            let value = header.metadata().as_ref().and_then(|metadata| metadata.get(key));
            value.ok_or_else(|| broken(format!("its header has no {key}")))
        };
        let json: serde_json::Value =
            serde_json::from_str(entry(PROGRESS)?).map_err(|e| broken(format!("{PROGRESS}: {e}")))?;
        match json.get("version").and_then(|version| version.as_u64()) {
            Some(version) if version == u64::from(VERSION) => {}
            _ => return Err(broken(format!("its layout is not version {VERSION}"))),
        }
        let progress = serde_json::from_value(json).map_err(|e| broken(format!("{PROGRESS}: {e}")))?;

        let file = SafeTensors::deserialize(&bytes).map_err(|e| broken(e.to_string()))?;
        let views: BTreeMap<_, _> = file.iter().collect();
        let mut checksum = Checksum::default();
        let mut tensors = BTreeMap::new();
        for (&name, view) in &views {
            checksum.add(name, view.dtype(), view.shape(), view.data());
            tensors.insert(name.to_owned(), view.load(&Device::Cpu)?);
        }
        if checksum.hex() != *entry(CHECKSUM)? {
            return Err(broken("its tensors do not have the checksum in its header: it is damaged".to_owned()));
        }
        Ok(Self { progress, tensors })
    }
}

/// The path with something appended to the file's name.
pub(super) fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// A tensor's bytes on their way into a file.
struct Blob {
    dtype: Dtype,
    shape: Vec<usize>,
    bytes: Vec<u8>,
}

impl Blob {
    fn new(tensor: &Tensor) -> Result<Self, TrainError> {
        let flat = tensor.to_device(&Device::Cpu)?.flatten_all()?;
        let (dtype, bytes) = match flat.dtype() {
            DType::F32 => (Dtype::F32, flat.to_vec1::<f32>()?.into_iter().flat_map(f32::to_le_bytes).collect()),
            DType::F64 => (Dtype::F64, flat.to_vec1::<f64>()?.into_iter().flat_map(f64::to_le_bytes).collect()),
            other => return Err(candle_core::Error::msg(format!("checkpoints hold f32 and f64, not {other:?}")).into()),
        };
        Ok(Self { dtype, shape: tensor.dims().to_vec(), bytes })
    }
}

impl View for Blob {
    fn dtype(&self) -> Dtype {
        self.dtype
    }
    fn shape(&self) -> &[usize] {
        &self.shape
    }
    fn data(&self) -> Cow<'_, [u8]> {
        Cow::Borrowed(&self.bytes)
    }
    fn data_len(&self) -> usize {
        self.bytes.len()
    }
}

/// SHA-256 over tensors in the order of their names.
#[derive(Default)]
struct Checksum(Sha256);

impl Checksum {
    fn add(&mut self, name: &str, dtype: Dtype, shape: &[usize], bytes: &[u8]) {
        self.0.update(format!("{name} {dtype:?} {shape:?}\n"));
        self.0.update(bytes);
    }

    fn hex(self) -> String {
        self.0.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::RngCore;
    use serde_json::json;

    fn sample() -> Checkpoint {
        let mut progress = Progress::new(json!({"seed": 7, "adamw": {"beta1": 0.9}}), Schedule::default());
        progress.step = 12;
        progress.seconds = 0.1 + 0.2;
        let mut checkpoint = Checkpoint::new(progress);
        let tensor = Tensor::new(&[[1.5f32, -0.0], [f32::MIN_POSITIVE, 3e38]], &Device::Cpu).unwrap();
        checkpoint.insert(Role::Parameter, "w", &tensor);
        checkpoint.insert(Role::Average, "w", &tensor.to_dtype(DType::F64).unwrap().t().unwrap());
        checkpoint
    }

    #[test]
    fn comes_back_as_it_was() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("checkpoint.safetensors");
        sample().save(&path).unwrap();
        sample().save(&path).unwrap();
        let back = Checkpoint::load(&path).unwrap();
        assert_eq!(back.progress, sample().progress);
        for role in [Role::Parameter, Role::Average] {
            for ((name, a), (other, b)) in back.tensors(role).zip(sample().tensors(role)) {
                let (a, b) = (Blob::new(a).unwrap(), Blob::new(b).unwrap());
                assert_eq!((name, a.dtype, a.shape, a.bytes), (other, b.dtype, b.shape, b.bytes));
            }
            assert_eq!(back.tensors(role).count(), 1);
        }
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "no partial file is left");
    }

    #[test]
    fn damage_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("checkpoint.safetensors");
        sample().save(&path).unwrap();
        let whole = std::fs::read(&path).unwrap();
        let reason = |bytes: &[u8]| {
            std::fs::write(&path, bytes).unwrap();
            match Checkpoint::load(&path) {
                Err(TrainError::Checkpoint { reason, .. }) => reason,
                Err(other) => panic!("{other}"),
                Ok(_) => panic!("damage went unnoticed"),
            }
        };
        for length in [0, 5, 40, whole.len() / 2, whole.len() - 1] {
            reason(&whole[..length]);
        }
        let mut flipped = whole.clone();
        *flipped.last_mut().unwrap() ^= 1;
        assert!(reason(&flipped).contains("checksum"));
        let text = String::from_utf8_lossy(&whole).into_owned();
        let at = text.find("version").unwrap();
        let mut newer = whole.clone();
        // The metadata is JSON within JSON: version\":1
        newer[at + "version\\\":".len()] = b'9';
        assert!(reason(&newer).contains("version"));
        assert!(matches!(Checkpoint::load(&folder.path().join("none")), Err(TrainError::Io { .. })));
    }

    #[test]
    fn other_networks_and_configurations_are_refused_by_name() {
        let checkpoint = sample();
        let like = Tensor::zeros((2, 3), DType::F32, &Device::Cpu).unwrap();
        let error = checkpoint.get(Role::Parameter, "w", &like).unwrap_err().to_string();
        assert!(error.contains("parameters/w is F32 [2, 2] there and F32 [2, 3] here"), "{error}");
        let error = checkpoint.get(Role::FirstMoment, "w", &like).unwrap_err().to_string();
        assert!(error.contains("first_moment/w is missing"), "{error}");
        let other = json!({"seed": 7, "adamw": {"beta1": 0.8}});
        let error = checkpoint.progress.check_config(&other).unwrap_err().to_string();
        assert!(error.contains("config.adamw.beta1 is 0.9 there and 0.8 here"), "{error}");
        checkpoint.progress.check_config(&checkpoint.progress.config).unwrap();
    }

    #[test]
    fn random_numbers_are_addressed_by_step() {
        let draw = |seed, step| rng(seed, step).next_u64();
        assert_eq!(draw(1, 5), draw(1, 5));
        assert_ne!(draw(1, 5), draw(1, 6));
        assert_ne!(draw(1, 5), draw(2, 5));
    }
}
