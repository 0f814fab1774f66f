//! Launches on CPU tensors: the same kernels, compiled as C++ and run thread by thread (`emulation/emulation.h`), to
//! test them without a GPU. Without the feature `cuda-emulation` such a launch is an error.

use super::launch::{Arguments, Kernel, Memory};
use candle_core::{CpuStorage, DType, Result, Storage, bail};

impl Memory for CpuStorage {
    fn of(storage: &Storage) -> Option<&Self> {
        if let Storage::Cpu(memory) = storage { Some(memory) } else { None }
    }

    fn address(&self, element: usize) -> Result<u64> {
        let (start, size) = match self {
            Self::F32(all) => (all.as_ptr().addr(), 4),
            Self::F64(all) => (all.as_ptr().addr(), 8),
            Self::BF16(all) => (all.as_ptr().addr(), 2),
            Self::U32(all) => (all.as_ptr().addr(), 4),
            _ => bail!("kernels take no arrays of this type"),
        };
        Ok((start + size * element) as u64)
    }

    /// Filled with NaN, so that an element the kernel forgets is seen.
    fn uninitialised(&self, dtype: DType, count: usize) -> Result<Self> {
        Ok(match dtype {
            DType::F32 => Self::F32(vec![f32::NAN; count]),
            DType::F64 => Self::F64(vec![f64::NAN; count]),
            DType::BF16 => Self::BF16(vec![half::bf16::NAN; count]),
            other => bail!("kernels give no arrays of {other:?}"),
        })
    }

    #[cfg(feature = "cuda-emulation")]
    fn launch(&self, kernel: &Kernel, name: &str, arguments: &Arguments) -> Result<()> {
        use std::ffi::{CString, c_char, c_int, c_uint, c_void};
        use std::sync::Mutex;
        use std::sync::atomic::{AtomicU32, Ordering};

        unsafe extern "C" {
            fn twostep_emulate(
                name: *const c_char,
                grid: *const c_uint,
                block: *const c_uint,
                shared_bytes: c_uint,
                arguments: *const *const c_void,
                seed: c_uint,
            ) -> c_int;
        }
        /// The emulation has one set of threads and shared memory.
        static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
        static LAUNCHES: AtomicU32 = AtomicU32::new(0);

        let dtype = candle_core::backend::BackendStorage::dtype(self);
        let arrays = arguments.arrays.iter().map(|x| std::ptr::from_ref(x).cast::<c_void>());
        let counts = arguments.counts.iter().map(|x| std::ptr::from_ref(x).cast::<c_void>());
        let reals = arguments.reals.iter().map(|x| std::ptr::from_ref(x).cast::<c_void>());
        let addresses: Vec<_> = arrays.chain(counts).chain(reals).collect();
        let symbol = CString::new(name).map_err(candle_core::Error::wrap)?;
        let seed = LAUNCHES.fetch_add(1, Ordering::Relaxed);
        let _one = ONE_AT_A_TIME.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        // SAFETY: as for a launch on a device. Results are written through addresses of storage that nobody else has.
        let status = unsafe {
            let (grid, block) = (kernel.grid.as_ptr(), kernel.block.as_ptr());
            twostep_emulate(symbol.as_ptr(), grid, block, kernel.shared_bytes(dtype), addresses.as_ptr(), seed)
        };
        match status {
            0 => Ok(()),
            1 => bail!("there is no kernel {name}"),
            2 => bail!("{name}: a launch of {:?} blocks of {:?} threads cannot be", kernel.grid, kernel.block),
            _ => bail!("{name}: some threads wait at a barrier for others that never come"),
        }
    }

    #[cfg(not(feature = "cuda-emulation"))]
    fn launch(&self, _: &Kernel, name: &str, _: &Arguments) -> Result<()> {
        bail!("{name} is a CUDA kernel and was given CPU tensors")
    }
}
