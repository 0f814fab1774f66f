//! Compiles the CUDA kernels: with nvcc for GPUs, and with the C++ compiler for the tests that run them on the CPU.

use super::toolkit::Toolkit;
use std::error::Error;
use std::path::PathBuf;
use std::process::Command;

const SOURCES: &str = "src/ops/cuda/kernels";
#[cfg(feature = "cuda-emulation")]
const EMULATION: &str = "src/ops/cuda/emulation";
/// The oldest architecture with bf16 arithmetic: its code runs on every later one.
const COMPUTE_CAPABILITY: &str = "80";

/// Compiles the kernels to PTX, which the driver turns into the machine code of whatever device there is.
pub fn compile(toolkit: &Toolkit) -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed={SOURCES}");
    println!("cargo::rerun-if-env-changed=CUDA_COMPUTE_CAP");
    let capability = std::env::var("CUDA_COMPUTE_CAP").unwrap_or_else(|_| COMPUTE_CAPABILITY.to_owned());
    let out = PathBuf::from(std::env::var_os("OUT_DIR").ok_or("OUT_DIR is not set")?).join("kernels.ptx");
    let mut nvcc = Command::new(toolkit.nvcc());
    nvcc.args(["--ptx", "-O3", "-std=c++17"]).arg(format!("-arch=compute_{capability}"));
    nvcc.arg(format!("{SOURCES}/kernels.cu")).arg("-o").arg(out);
    let status = nvcc.status().map_err(|e| format!("cannot run {:?}: {e}", nvcc.get_program()))?;
    if status.success() { Ok(()) } else { Err(format!("{nvcc:?} failed").into()) }
}

/// Compiles the kernels for the CPU.
#[cfg(feature = "cuda-emulation")]
pub fn emulate() {
    println!("cargo::rerun-if-changed={SOURCES}");
    println!("cargo::rerun-if-changed={EMULATION}");
    let mut compiler = cc::Build::new();
    compiler.cpp(true).std("c++17").opt_level(1).warnings(false).file(format!("{EMULATION}/emulation.cpp"));
    compiler.compile("twostep_emulation");
}
