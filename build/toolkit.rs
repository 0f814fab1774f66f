//! Where the CUDA toolkit is: its compiler and its libraries.

use std::error::Error;
use std::path::{Path, PathBuf};

/// Variables that name the toolkit's folder, in the order in which candle's own build asks them.
const VARIABLES: [&str; 4] = ["CUDA_HOME", "CUDA_PATH", "CUDA_ROOT", "CUDA_TOOLKIT_ROOT_DIR"];
/// Where it is if no variable says.
const USUAL: [&str; 2] = ["/usr/local/cuda", "/opt/cuda"];
/// Where libraries lie within it; the driver's, which exists only beside a driver, as a stub to link against.
const LIBRARY_FOLDERS: [&str; 6] =
    ["lib64", "lib", "lib64/stubs", "lib/stubs", "targets/x86_64-linux/lib", "targets/x86_64-linux/lib/stubs"];

/// A CUDA toolkit on this machine.
pub struct Toolkit {
    root: PathBuf,
}

impl Toolkit {
    /// The toolkit that the environment names, or that is where it usually is.
    pub fn find() -> Result<Self, Box<dyn Error>> {
        VARIABLES.iter().for_each(|name| println!("cargo::rerun-if-env-changed={name}"));
        let named = VARIABLES.iter().filter_map(std::env::var_os).map(PathBuf::from);
        let root = named.chain(USUAL.map(PathBuf::from)).find(|root| root.is_dir());
        match root {
            Some(root) => Ok(Self { root }),
            None => Err(format!("the feature \"cuda\" needs the CUDA toolkit: set one of {VARIABLES:?}").into()),
        }
    }

    /// The compiler.
    pub fn nvcc(&self) -> PathBuf {
        let own = self.root.join("bin/nvcc");
        if own.exists() { own } else { PathBuf::from("nvcc") }
    }

    /// The file to link `name` from, `lib{name}.so`.
    pub fn library(&self, name: &str) -> Result<PathBuf, Box<dyn Error>> {
        let file = format!("lib{name}.so");
        let places = LIBRARY_FOLDERS.iter().map(|folder| self.root.join(folder).join(&file));
        places
            .into_iter()
            .find(|path| path.exists())
            .ok_or_else(|| format!("no {file} in {}", self.root.display()).into())
    }
}

/// The name that programs load a library by, such as `libcublas.so.13`: the file beside `library` with one number.
pub fn soname(library: &Path) -> Result<String, Box<dyn Error>> {
    let stem = format!("{}.", library.file_name().unwrap_or_default().to_string_lossy());
    let folder = library.parent().unwrap_or(Path::new("."));
    let names = std::fs::read_dir(folder)?.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let mut numbered: Vec<String> =
        names.filter(|n| n.strip_prefix(&stem).is_some_and(|n| n.parse::<u32>().is_ok())).collect();
    numbered.sort();
    numbered.pop().ok_or_else(|| format!("no {stem}N beside {}", library.display()).into())
}
