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
    pub const PTX: &str = include_str!(concat!(env!("OUT_DIR"), "/kernels.ptx"));
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
            arguments.arrays.iter().for_each(|address| drop(launch.arg(address)));
            arguments.counts.iter().for_each(|count| drop(launch.arg(count)));
            arguments.reals.iter().for_each(|real| drop(launch.arg(real)));
            let ([gx, gy, gz], [bx, by, bz]) = (kernel.grid, kernel.block);
            let geometry = LaunchConfig { grid_dim: (gx, gy, gz), block_dim: (bx, by, bz), shared_mem_bytes };
            // SAFETY: the arguments are those of the kernel's signature (`Kernel`'s convention), the arrays have the
            // sizes that the operations give with them, and stay allocated until the stream has passed this launch.
            unsafe { launch.launch(geometry) }.w()?;
            Ok(())
        }
    }
}
#[cfg(feature = "cuda")]
pub use real::PTX;

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
