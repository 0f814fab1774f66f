//! Delayed loading of the CUDA libraries, so that one program starts with and without a driver.
//!
//! candle links libcuda, libcublas and the rest the ordinary way, and a program linked so does not even start where
//! they are missing. So the program brings its own definition of each of their functions: one jump through a table.
//! As the program defines them, the linker finds the libraries unneeded and leaves them out (`--as-needed`, rustc's
//! default); `src/device/delay.rs` fills the table when a CUDA device is first asked for.

use super::toolkit::{Toolkit, soname};
use std::error::Error;
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The libraries in the order in which they are loaded: cublas needs cublasLt.
const LIBRARIES: [&str; 5] = ["cuda", "cublasLt", "cublas", "curand", "nvrtc"];
/// Used by nothing but candle's quantised kernels, which are linked in though this program has no use for them.
const UNUSED: &str = "cudart";
/// Prefixes of the functions' names.
const PREFIXES: [&str; 4] = ["cu", "nvrtc", "__cuda", "curand"];

/// Writes `delay.s`, the jumps and their table, and `delay.rs`, the table's description, to the output folder.
pub fn write(toolkit: &Toolkit) -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-env-changed=NM");
    let target = |what: &str| std::env::var(format!("CARGO_CFG_TARGET_{what}")).unwrap_or_default();
    let jump: fn(usize) -> String = match (target("OS").as_str(), target("ARCH").as_str()) {
        ("linux", "x86_64") => |at| format!("jmp qword ptr [rip + twostep_cuda_table + {at}]"),
        ("linux", "aarch64") => |at| {
            format!("adrp x16, twostep_cuda_table + {at}\n ldr x16, [x16, :lo12:twostep_cuda_table + {at}]\n br x16")
        },
        // Elsewhere the libraries are linked as usual.
        _ => return Ok(()),
    };
    let (mut code, mut table, mut rust) = (String::new(), String::new(), String::from("&[\n"));
    let mut seen = std::collections::BTreeSet::new();
    let mut count = 0;
    for name in LIBRARIES.into_iter().chain([UNUSED]) {
        let path = toolkit.library(name)?;
        let file = if name == "cuda" { "libcuda.so.1".to_owned() } else { soname(&path)? };
        // An unloadable driver answers with an error; a library without an expected function is a broken installation.
        let before = if matches!(name, "cuda" | UNUSED) { "twostep_cuda_unavailable" } else { "twostep_cuda_missing" };
        if name != UNUSED {
            writeln!(rust, "Library {{ file: {file:?}, first: {count}, functions: &[")?;
        }
        for function in functions(&path)?.into_iter().filter(|f| seen.insert(f.clone())) {
            writeln!(code, ".globl {function}\n.hidden {function}\n.type {function}, %function\n{function}:")?;
            writeln!(code, " {}", jump(8 * count))?;
            writeln!(table, " .quad {before}")?;
            if name != UNUSED {
                writeln!(rust, "{function:?},")?;
            }
            count += 1;
        }
        if name != UNUSED {
            rust.push_str("] },\n");
        }
    }
    rust.push(']');
    let labels = ".globl twostep_cuda_table\n.hidden twostep_cuda_table\n.balign 8\ntwostep_cuda_table:";
    let out = PathBuf::from(std::env::var_os("OUT_DIR").ok_or("OUT_DIR is not set")?);
    std::fs::write(out.join("delay.s"), format!(".text\n{code}.data\n{labels}\n{table}.text\n"))?;
    std::fs::write(out.join("delay.rs"), rust)?;
    println!("cargo::rustc-env=TWOSTEP_CUDA_FUNCTIONS={count}");
    println!("cargo::rustc-cfg=cuda_delayed");
    Ok(())
}

/// The functions that a library offers, without their version suffixes.
fn functions(library: &Path) -> Result<Vec<String>, Box<dyn Error>> {
    let nm = std::env::var_os("NM").unwrap_or_else(|| "nm".into());
    let listed = Command::new(&nm).args(["-D", "--defined-only"]).arg(library).output();
    let listed = listed.map_err(|e| format!("cannot run {nm:?} (binutils): {e}"))?;
    if !listed.status.success() {
        return Err(format!("{nm:?} {}: {}", library.display(), String::from_utf8_lossy(&listed.stderr)).into());
    }
    let name = |line: &str| {
        let (_, symbol) = line.rsplit_once(" T ")?;
        let name = symbol.split('@').next()?;
        PREFIXES.iter().any(|prefix| name.starts_with(prefix)).then(|| name.to_owned())
    };
    Ok(String::from_utf8(listed.stdout)?.lines().filter_map(name).collect())
}
