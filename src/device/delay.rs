//! Loads the CUDA libraries when a CUDA device is first asked for; see `build/delay.rs` for how.

use super::NoCuda;
use libloading::os::unix::{Library as Handle, RTLD_GLOBAL, RTLD_LAZY};
use std::error::Error;
use std::ffi::{c_int, c_void};
use std::path::PathBuf;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicPtr, Ordering};

/// A library and where its functions begin in the table of jumps.
struct Library {
    file: &'static str,
    first: usize,
    functions: &'static [&'static str],
}

static LIBRARIES: &[Library] = include!(concat!(env!("OUT_DIR"), "/delay.rs"));

std::arch::global_asm!(include_str!(concat!(env!("OUT_DIR"), "/delay.s")));

/// Functions in the table.
const COUNT: usize = match usize::from_str_radix(env!("TWOSTEP_CUDA_FUNCTIONS"), 10) {
    Ok(count) => count,
    Err(_) => 0,
};

unsafe extern "C" {
    /// Where the jumps go.
    safe static twostep_cuda_table: [AtomicPtr<c_void>; COUNT];
}

/// Stands in for the driver while it is not loaded: CUDA_ERROR_UNKNOWN.
#[unsafe(no_mangle)]
extern "C" fn twostep_cuda_unavailable() -> c_int {
    999
}

/// Stands in for a function that an installed library lacks. Its return type is unknown here, so there is no error to
/// answer with.
#[unsafe(no_mangle)]
extern "C" fn twostep_cuda_missing() -> ! {
    eprintln!("a function is missing from the installed CUDA libraries: they are older than this program needs");
    std::process::abort()
}

/// Loads the driver and the libraries; what it found the first time is what it says ever after.
pub(super) fn load() -> Result<(), NoCuda> {
    static LOADED: OnceLock<Result<(), NoCuda>> = OnceLock::new();
    LOADED.get_or_init(|| LIBRARIES.iter().try_for_each(Library::load)).clone()
}

impl Library {
    fn load(&self) -> Result<(), NoCuda> {
        let handle = self.open()?;
        let entries = &twostep_cuda_table[self.first..self.first + self.functions.len()];
        for (entry, name) in entries.iter().zip(self.functions) {
            // SAFETY: only the address is taken; the callers of the jump know the function's type.
            if let Ok(function) = unsafe { handle.get::<*mut c_void>(name.as_bytes()) } {
                entry.store(function.into_raw(), Ordering::Release);
            }
        }
        // Never unloaded: the table keeps its addresses.
        let _ = handle.into_raw();
        Ok(())
    }

    /// By its name, which the dynamic linker looks up, or from where the toolkit usually is.
    fn open(&self) -> Result<Handle, NoCuda> {
        let roots = ["CUDA_HOME", "CUDA_PATH"].iter().filter_map(std::env::var_os).map(PathBuf::from);
        let folders = roots.chain([PathBuf::from("/usr/local/cuda")]).flat_map(|r| [r.join("lib64"), r.join("lib")]);
        let paths = [PathBuf::from(self.file)].into_iter().chain(folders.map(|folder| folder.join(self.file)));
        // The stub that programs are linked against has the driver's name, but is none.
        let paths = paths.filter(|path| self.first > 0 || path.as_os_str() == self.file);
        let mut reason = String::new();
        for path in paths {
            // SAFETY: the libraries' initialisers are NVIDIA's and have no conditions of their own.
            match unsafe { Handle::open(Some(&path), RTLD_LAZY | RTLD_GLOBAL) } {
                Ok(handle) => return Ok(handle),
                // What the dynamic linker says is the source of libloading's error.
                Err(error) if reason.is_empty() => {
                    reason = error.source().map_or_else(|| error.to_string(), ToString::to_string);
                }
                Err(_) => {}
            }
        }
        Err(if self.first == 0 { NoCuda::Driver(reason) } else { NoCuda::Library { file: self.file, reason } })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_the_lists_in_order() {
        let mut first = 0;
        for library in LIBRARIES {
            assert_eq!(library.first, first, "{}", library.file);
            assert!(library.functions.len() > 10, "{}", library.file);
            first += library.functions.len();
        }
        assert!(first < twostep_cuda_table.len());
        for needed in
            ["cuInit", "cuLaunchKernel", "cuGraphLaunch", "cublasGemmStridedBatchedEx", "curandCreateGenerator"]
        {
            assert!(LIBRARIES.iter().any(|library| library.functions.contains(&needed)), "{needed}");
        }
    }

    /// This test program, like the real one, is linked against none of the libraries.
    #[test]
    fn programs_do_not_need_the_libraries_to_start() {
        let exe = std::env::current_exe().unwrap();
        let needed = std::process::Command::new("readelf").arg("-d").arg(exe).output().unwrap();
        let needed = String::from_utf8(needed.stdout).unwrap();
        assert!(needed.contains("libc.so"), "{needed}");
        for library in ["libcuda.so", "libcublas", "libcurand", "libcudart", "libnvrtc"] {
            assert!(!needed.contains(library), "{library} is needed: {needed}");
        }
    }
}
