//! A model's specification and weights: read, or refused by name. The first byte says which of the two follows.
#![no_main]

use std::path::PathBuf;
use std::sync::LazyLock;

use candle_core::Device;
use libfuzzer_sys::fuzz_target;
use tempfile::TempDir;
use twostep::model::{ModelSpec, weights};

static FOLDER: LazyLock<TempDir> = LazyLock::new(|| tempfile::tempdir().expect("a folder to write to"));

fn written(name: &str, bytes: &[u8]) -> PathBuf {
    let path = FOLDER.path().join(name);
    std::fs::write(&path, bytes).expect("room to write");
    path
}

fuzz_target!(|bytes: &[u8]| {
    let Some((kind, bytes)) = bytes.split_first() else { return };
    if kind % 2 == 0 {
        written("model.json", bytes);
        if let Ok(spec) = ModelSpec::read(FOLDER.path()) {
            assert!(spec.chunk_samples() > 0);
        }
    } else {
        let path = written("weights.safetensors", bytes);
        if let Err(error) = weights::read_params(&path, &Device::Cpu) {
            assert!(error.to_string().contains("weights.safetensors"));
        }
    }
});
