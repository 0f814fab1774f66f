//! Launches on a CUDA device. Without the feature `cuda` there is none, and candle has no tensors for it either.

use super::launch::{Arguments, Kernel, Memory};
use candle_core::{CudaStorage, DType, Result, Storage};

#[cfg(feature = "cuda")]
mod real {
    use super::*;
    use candle_core::backend::BackendStorage;
    use candle_core::cuda_backend::cudarc::driver::sys::CUfunction_attribute::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES;
    use candle_core::cuda_backend::cudarc::driver::{CudaSlice, DevicePtr, DeviceRepr, LaunchConfig, PushKernelArg};
    use candle_core::cuda_backend::{CudaStorageSlice, WrapErr};
    use candle_core::{CudaDevice, bail};
    use half::bf16;

    /// The kernels as the build script compiled them; the driver turns them into the device's own code at first use.
    const PTX: &str = include_str!(concat!(env!("OUT_DIR"), "/kernels.ptx"));
    const MODULE: &str = "twostep";
    /// Shared memory that a block has without asking, in bytes.
    const COMMON_SHARED: u32 = 48 * 1024;

    fn first<T: DeviceRepr>(slice: &CudaSlice<T>, device: &CudaDevice) -> u64 {
        // The guard would record an event for other streams; the device has one stream (see `crate::device`).
        slice.device_ptr(&device.cuda_stream()).0
    }

    impl Memory for CudaStorage {
        fn of(storage: &Storage) -> Option<&Self> {
            if let Storage::Cuda(memory) = storage { Some(memory) } else { None }
        }

        fn address(&self, element: usize) -> Result<u64> {
            let (start, size) = match &self.slice {
                CudaStorageSlice::F32(slice) => (first(slice, &self.device), 4),
                CudaStorageSlice::F64(slice) => (first(slice, &self.device), 8),
                CudaStorageSlice::BF16(slice) => (first(slice, &self.device), 2),
                CudaStorageSlice::U32(slice) => (first(slice, &self.device), 4),
                _ => bail!("kernels take no arrays of {:?}", self.dtype()),
            };
            Ok(start + size * element as u64)
        }

        fn uninitialised(&self, dtype: DType, count: usize) -> Result<Self> {
            let device = self.device.clone();
            // SAFETY: a kernel writes all of its results before anybody reads them.
            Ok(match dtype {
                DType::F32 => Self::wrap_cuda_slice(unsafe { device.alloc::<f32>(count) }?, device),
                DType::F64 => Self::wrap_cuda_slice(unsafe { device.alloc::<f64>(count) }?, device),
                DType::BF16 => Self::wrap_cuda_slice(unsafe { device.alloc::<bf16>(count) }?, device),
                other => bail!("kernels give no arrays of {other:?}"),
            })
        }

        fn launch(&self, kernel: &Kernel, name: &str, arguments: &Arguments) -> Result<()> {
            let function = self.device.get_or_load_custom_func(name, MODULE, PTX)?;
            let shared_mem_bytes = kernel.shared_bytes(self.dtype());
            if shared_mem_bytes > COMMON_SHARED {
                let wanted = CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES;
                function.set_attribute(wanted, shared_mem_bytes as i32).w()?;
            }
            let mut launch = function.builder();
            for address in &arguments.arrays {
                launch.arg(address);
            }
            for count in &arguments.counts {
                launch.arg(count);
            }
            for real in &arguments.reals {
                launch.arg(real);
            }
            let ([gx, gy, gz], [bx, by, bz]) = (kernel.grid, kernel.block);
            let geometry = LaunchConfig { grid_dim: (gx, gy, gz), block_dim: (bx, by, bz), shared_mem_bytes };
            // SAFETY: the arguments are those of the kernel's signature (`Kernel`'s convention), the arrays have the
            // sizes that the operations give with them, and stay allocated until the stream has passed this launch.
            unsafe { launch.launch(geometry) }.w()?;
            Ok(())
        }
    }

    #[cfg(test)]
    mod tests {
        use super::PTX;
        use std::path::Path;
        use std::process::Command;

        #[test]
        fn every_kernel_is_there_for_every_element_type() {
            let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/ops/cuda/kernels");
            let mut names = 0;
            for file in std::fs::read_dir(sources).unwrap() {
                let text = std::fs::read_to_string(file.unwrap().path()).unwrap();
                for exported in text.lines().filter_map(|line| line.strip_prefix("EXPORT(")) {
                    let name = exported.split(',').next().unwrap();
                    for suffix in ["f32", "f64", "bf16"] {
                        assert!(PTX.contains(&format!(".visible .entry {name}_{suffix}(")), "{name}_{suffix}");
                    }
                    names += 1;
                }
            }
            assert!(names > 15, "{names}");
        }

        /// What the driver does at first use, as far as it can be done without a device.
        #[test]
        fn the_assembler_takes_them() {
            let target = PTX.lines().find_map(|line| line.strip_prefix(".target ")).unwrap();
            let architecture = target.split(',').next().unwrap().trim();
            let folder = tempfile::tempdir().unwrap();
            let file = folder.path().join("kernels.ptx");
            std::fs::write(&file, PTX).unwrap();
            let root = ["CUDA_HOME", "CUDA_PATH"].iter().find_map(std::env::var_os);
            let own = root.map(|root| Path::new(&root).join("bin/ptxas")).filter(|path| path.exists());
            let assembler = own.unwrap_or_else(|| "ptxas".into());
            let mut command = Command::new(&assembler);
            command.arg(format!("-arch={architecture}")).arg("-v").arg(&file).arg("-o").arg(folder.path().join("out"));
            let done = command.output().unwrap_or_else(|e| panic!("{assembler:?}, of the CUDA toolkit: {e}"));
            let said = String::from_utf8_lossy(&done.stderr);
            assert!(done.status.success(), "{said}");
            // Spilled registers are slow, and mean that a kernel has outgrown its threads.
            assert!(
                !said.lines().any(|line| line.contains("spill") && !line.contains(" 0 bytes spill stores")),
                "{said}"
            );
        }
    }
}
#[cfg(not(feature = "cuda"))]
impl Memory for CudaStorage {
    fn of(_: &Storage) -> Option<&Self> {
        None
    }
    fn address(&self, _: usize) -> Result<u64> {
        Err(candle_core::Error::NotCompiledWithCudaSupport)
    }
    fn uninitialised(&self, _: DType, _: usize) -> Result<Self> {
        Err(candle_core::Error::NotCompiledWithCudaSupport)
    }
    fn launch(&self, _: &Kernel, _: &str, _: &Arguments) -> Result<()> {
        Err(candle_core::Error::NotCompiledWithCudaSupport)
    }
}
